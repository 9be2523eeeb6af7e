"""What a store says of its channels to other programs."""

import pytest
import zarr
from ome_zarr_models import open_ome_zarr
from ome_zarr_models.v05 import Image
from yaozarrs import validate_zarr_store

from smlmlp_dask import Acquisition
from smlmlp_dask.blocks import plan_blocks
from smlmlp_dask.store.codecs import Storage
from smlmlp_dask.store.metadata import write_metadata
from smlmlp_dask.store.ome import channel_labels

PLANS = [plan_blocks((5, 6, 7), 2, (2, 6, 7), (1, 1))] * 3
WINDOW = {"min": 90.0, "max": 500.0, "start": 100.0, "end": 200.5}
KNOWN = Acquisition(
    channel="Cy5", pixel_size_um=(0.1, 0.11), frame_interval_s=0.05, colour="ff0000"
)
RECORDED = [KNOWN, Acquisition(frame_interval_s=2.0), Acquisition(pixel_size_um=(1.0, 1.0))]


def written(path, recorded=RECORDED, ranges=(WINDOW, None, WINDOW)):
    attributes = {
        "acquisitions": [one.to_attributes() for one in recorded],
        "display_ranges": list(ranges),
    }
    write_metadata(path, PLANS, attributes, Storage("fast", None))
    return path


def described(path):
    return zarr.open_group(path, mode="r").attrs["ome"]


@pytest.mark.parametrize("image", ["", "channel_0", "channel_1", "channel_2"])
def test_validators_agree(tmp_path, image):
    path = written(tmp_path / "out.zarr") / image
    assert isinstance(open_ome_zarr(zarr.open_group(path, mode="r")), Image)
    validate_zarr_store(path)


SCALES = [
    (["second", "micrometer", "micrometer"], [0.05, 0.1, 0.11]),
    (["second", None, None], [2.0, 1.0, 1.0]),
    ([None, "micrometer", "micrometer"], [1.0, 1.0, 1.0]),
]


@pytest.mark.parametrize("channel", range(3))
def test_units_and_scales_are_said_where_they_are_known(tmp_path, channel):
    path = written(tmp_path / "out.zarr")
    (own,) = described(path / f"channel_{channel}")["multiscales"]
    of_root = described(path)["multiscales"][channel]
    units, scale = SCALES[channel]
    for found in (own, of_root):
        assert [axis["name"] for axis in found["axes"]] == ["t", "y", "x"]
        assert [axis.get("unit") for axis in found["axes"]] == units
        (dataset,) = found["datasets"]
        assert dataset["coordinateTransformations"] == [{"type": "scale", "scale": scale}]
        assert found["name"] == f"channel_{channel}"
    assert own["datasets"][0]["path"] == "0"
    assert of_root["datasets"][0]["path"] == f"channel_{channel}/0"


def test_viewers_are_told_name_colour_and_range(tmp_path):
    path = written(tmp_path / "out.zarr")
    (channel,) = described(path / "channel_0")["omero"]["channels"]
    assert channel == {"label": "Cy5", "color": "FF0000", "active": True, "window": WINDOW}
    assert "omero" not in described(path / "channel_1")  # OME-Zarr has none without a range
    (channel,) = described(path / "channel_2")["omero"]["channels"]
    assert (channel["label"], channel["color"]) == ("channel_2", "FFFFFF")
    assert "omero" not in described(path)  # it is for one image


@pytest.mark.parametrize(
    ("said", "background", "signal"),
    [
        ({}, "Cy5", "Cy5 signal"),
        ({"pedestal": 100}, "Cy5", "Cy5 signal + 100"),  # its pixels are so many counts higher
        ({"photons": True}, "Cy5 (photons)", "Cy5 signal (photons)"),
    ],
)
def test_other_programs_name_pedestal_and_unit(tmp_path, said, background, signal):
    attributes = {
        "acquisitions": [KNOWN.to_attributes()],
        "outputs": ["background", "signal"],
        "display_ranges": [WINDOW],
        "display_ranges_of": {"signal": [WINDOW]},
    }
    path = tmp_path / "out.zarr"
    write_metadata(path, PLANS[:1], attributes | said, Storage("fast", None))
    labels = [
        described(path / image)["omero"]["channels"][0]["label"]
        for image in ("channel_0", "signal/channel_0")
    ]
    assert labels == [background, signal]


def test_a_colour_that_is_none_is_grey(tmp_path):
    recorded = [Acquisition(colour="green"), *RECORDED[1:]]
    path = written(tmp_path / "out.zarr", recorded)
    assert described(path / "channel_0")["omero"]["channels"][0]["color"] == "FFFFFF"


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["Cy5", "GFP"], ["Cy5", "GFP"]),
        ([None, "GFP"], ["channel_0", "GFP"]),
        (["GFP", "GFP", "Cy5"], ["channel_0", "channel_1", "Cy5"]),  # two boxes of one channel
        (["channel_1", None], ["channel_0", "channel_1"]),  # a name that stands for another
        (["a\nb\ud800"], ["a\\nb\\ud800"]),  # which JSON and terminals could not hold
    ],
)
def test_labels(names, labels):
    assert channel_labels([Acquisition(channel=name) for name in names]) == labels


def test_the_records_have_a_dimension_for_xarray(tmp_path):
    path = written(tmp_path / "out.zarr")
    names = zarr.open_array(path / "records", mode="r").metadata.dimension_names
    assert names == ("chunk",)


def test_of_a_store_that_said_less_the_metadata_are_made_as_they_were(tmp_path):
    """Earlier versions noted neither acquisitions nor ranges; a copy is compared byte by byte."""
    write_metadata(tmp_path / "out.zarr", PLANS[:1], {}, Storage("fast", None))
    image = described(tmp_path / "out.zarr/channel_0")
    assert set(image) == {"version", "multiscales"}
    assert all("unit" not in axis for axis in image["multiscales"][0]["axes"])
    records = zarr.open_array(tmp_path / "out.zarr/records", mode="r")
    assert records.metadata.dimension_names is None
