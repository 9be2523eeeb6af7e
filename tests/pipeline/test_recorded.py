"""How channels were recorded: from the user into the store, and back."""

import json

import numpy as np
import pytest

from smlmlp_dask import (
    Acquisition,
    open_backgrounds,
    plan_spatial_mean,
    run_spatial_mean,
    verify_backgrounds,
)
from smlmlp_dask.store.provenance import differences
from tests.stored import contents

MOVIE = np.random.default_rng(5).poisson(200, (12, 20, 24)).astype(np.uint16)
SAID = {
    "pixel_size_um": (0.1, 0.11),
    "frame_interval_s": 0.05,
    "channel_names": ["left", "right"],
}
BOXES = {"bboxes": [[(0, 0, 12, 20), (12, 0, 24, 20)]], "frames": slice(None, None, -2)}


def run(tif, **options):
    return run_spatial_mean(tif, tif.with_name("out.zarr"), 3.0, **BOXES, **options)


def test_a_result_says_how_it_was_recorded(tif):
    result = run(tif, **SAID)
    expected = [
        Acquisition(channel=name, pixel_size_um=(0.1, 0.11), frame_interval_s=0.1)
        for name in ("left", "right")
    ]
    assert result.acquisitions == open_backgrounds(result.path).acquisitions == expected
    result.acquisitions.clear()
    assert result.acquisitions == expected


def test_where_nothing_is_known_nothing_is_said(tif):
    result = run_spatial_mean(tif, tif.with_name("out.zarr"))
    assert result.acquisitions == [Acquisition()]
    root = json.loads((result.path / "channel_0/zarr.json").read_text())
    (image,) = root["attributes"]["ome"]["multiscales"]
    assert image["datasets"][0]["coordinateTransformations"][0]["scale"] == [1.0, 1.0, 1.0]
    assert not any("unit" in axis for axis in image["axes"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pixel_size_um": 0.0}, "pixel_size_um"),
        ({"frame_interval_s": -1.0}, "frame_interval_s"),
        ({"channel_names": ["left"]}, "1 name for 2 channels"),
    ],
)
def test_wrong_values_are_refused_before_anything_is_written(tif, options, message):
    before = contents(tif.parent)
    with pytest.raises(ValueError, match=message):
        run(tif, **options)
    with pytest.raises(ValueError, match=message):
        plan_spatial_mean(tif, 3.0, **BOXES, **options)
    assert contents(tif.parent) == before


def test_a_store_of_earlier_versions_did_not_note_it():
    wanted = {"acquisitions": [{"pixel_size_um": [0.1, 0.1]}]}
    assert differences({}, wanted) == []
    assert len(differences({"acquisitions": [{}]}, wanted)) == 1


@pytest.mark.parametrize(
    "damage",
    ["channel_0/0/c/0/0/0", "channel_1/zarr.json", "records/metadata.json", "records/c/0"],
)
def test_a_repair_keeps_what_the_user_said(tif, damage):
    path = run(tif, **SAID).path
    before = contents(path)
    (path / damage).unlink()
    if damage == "records/metadata.json":  # the copy is made anew from the root's attributes
        (path / "channel_0/zarr.json").unlink()
    report = verify_backgrounds(path, repair=True)
    assert report.problems == []
    assert report.repaired
    assert contents(path) == before
