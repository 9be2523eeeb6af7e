"""What viewers are given: the pixels of each layer, their names, ranges and scales."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import zarr

from smlmlp_dask import open_backgrounds, open_channels, run_spatial_mean
from smlmlp_dask.movies.acquisition import Acquisition
from smlmlp_dask.pictures.layers import viewed_layers
from tests.pictures.conftest import MOVIE


def run(**known):
    return run_spatial_mean(["a.tif", "b.tif"], "out.zarr", [(7, 7), (3, 4.5)], **known)


def test_pixels_are_those_of_movie_and_store(folder):
    result = run(flips=[(True, False), None], frames=slice(1, None, 2), channel_names=["A", "B"])
    layers, missing = viewed_layers(result)
    assert missing == []
    raws = open_channels("a.tif", "b.tif", flips=[(True, False), None], frames=slice(1, None, 2))
    box = (slice(1, 3), slice(4, 20), slice(0, 11))
    for i, (raw, bkgd) in enumerate(zip(raws, result.bkgds, strict=True)):
        raw, bkgd = raw.compute(), bkgd.compute()
        expected = {"raw": raw, "background": bkgd, "signal": raw.astype("f4") - bkgd}
        for kind, pixels in expected.items():
            [layer] = [one for one in layers if (one.channel, one.kind) == (i, kind)]
            assert layer.name == f"{'AB'[i]} {kind}"
            assert layer.stack.shape == pixels.shape
            assert layer.stack.dtype == pixels.dtype
            np.testing.assert_array_equal(layer.stack.read(), pixels, strict=True)
            np.testing.assert_array_equal(layer.stack.part(box).read(), pixels[box], strict=True)
    assert [layer.kind for layer in layers] == ["raw", "background", "signal"] * 2


def test_the_range_is_the_store_s_or_of_the_middle_frame(folder):
    result = run()
    ome = json.loads((folder / "out.zarr/channel_0/zarr.json").read_text())["attributes"]["ome"]
    window = ome["omero"]["channels"][0]["window"]
    raw, background, signal = viewed_layers(result)[0][:3]
    assert background.limits == (window["start"], window["end"])
    assert raw.limits == pytest.approx(np.percentile(MOVIE[6], (0.5, 99.8)))
    expected = MOVIE[6].astype("f4") - result.bkgds[0][6].compute()
    assert signal.limits == pytest.approx(np.percentile(expected, (0.5, 99.8)))


@pytest.mark.parametrize("value", [5, 0])
def test_a_constant_has_a_range_about_it(folder, value):
    tifffile.imwrite("a.tif", np.full_like(MOVIE, value), photometric="minisblack")
    for layer in viewed_layers(run())[0][:3]:
        assert layer.limits[0] < layer.limits[1], layer.name
        assert layer.limits[0] <= (0 if layer.kind == "signal" else value) <= layer.limits[1]


def test_a_movie_of_any_length_is_opened_by_a_frame_of_each_stack(folder, reads):
    result = run()
    reads.clear()
    viewed_layers(result)
    assert {shape[0] for shape in reads} == {1}
    assert len(reads) <= 2 * 4  # raw, signal, and what signal reads


MICRONS = "micrometer"


@pytest.mark.parametrize(
    ("first", "second", "scale", "units", "why"),
    [
        ({}, {}, (1, 1, 1), (None, None, None), "nothing is known"),
        (
            {"pixel_size_um": (0.1, 0.2), "frame_interval_s": 0.05},
            {"pixel_size_um": (0.3, 0.3), "frame_interval_s": 0.1},
            (0.05, 0.1, 0.2),
            ("second", MICRONS, MICRONS),
            "each channel has its own",
        ),
        (
            {"pixel_size_um": (0.1, 0.2), "frame_interval_s": 0.05},
            {"pixel_size_um": (0.3, 0.3)},
            (1, 0.1, 0.2),
            (None, MICRONS, MICRONS),
            "seconds and frames cannot share an axis",
        ),
        (
            {"pixel_size_um": (0.1, 0.2), "frame_interval_s": 0.05},
            {"frame_interval_s": 0.05},
            (0.05, 1, 1),
            ("second", None, None),
            "micrometres and pixels cannot share an axis",
        ),
    ],
)
def test_layers_share_axes(folder, first, second, scale, units, why):
    result = run()
    known = [Acquisition(**first), Acquisition(**second)]
    result._stacks = tuple(
        replace(stack, acquisition=one) for stack, one in zip(result.stacks, known, strict=True)
    )
    layers, _ = viewed_layers(result)
    assert layers[0].scale == layers[2].scale == scale, why
    assert {layer.units for layer in layers} == {units}, why


def test_a_moved_movie_leaves_the_background_and_says_why(folder):
    run(channel_names=["A", "B"])
    (folder / "b.tif").rename(folder / "elsewhere.tif")
    layers, missing = viewed_layers(open_backgrounds("out.zarr"))
    assert [layer.name for layer in layers] == ["A raw", "A background", "A signal", "B background"]
    assert missing == [
        f"B: no raw frames and no signal: {folder / 'b.tif'} does not exist: check the path"
    ]


def test_channels_without_frames_are_left_out(folder):
    zarr.create_array("none.zarr", shape=(0, 30, 40), chunks=(1, 30, 40), dtype="u2")
    layers, missing = viewed_layers(run_spatial_mean(["none.zarr", "a.tif"], "one.zarr", 7.0))
    assert {layer.channel for layer in layers} == {1}
    assert missing == []
    with pytest.raises(ValueError, match=r"none_bg\.zarr has no frames: there is nothing to show"):
        viewed_layers(run_spatial_mean("none.zarr", "none_bg.zarr", 7.0))
