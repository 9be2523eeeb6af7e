"""The napari plugin: its manifest, and the layers that its reader gives; without napari."""

import tomllib
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

from smlmlp_dask import open_backgrounds, run_spatial_mean
from smlmlp_dask.napari_reader import get_reader

MOVIE = np.random.default_rng(0).poisson(np.linspace(100, 200, 40), (12, 30, 40)).astype("u2")
PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("a.tif", MOVIE, photometric="minisblack")
    tifffile.imwrite("b.tif", MOVIE[:7, :, :20], photometric="minisblack")
    return tmp_path


def test_the_manifest_names_the_reader():
    place = PROJECT["entry-points"]["napari.manifest"][PROJECT["name"]]
    package, file = place.split(":")
    manifest = yaml.safe_load((Path(import_module(package).__file__).parent / file).read_text())
    assert manifest["name"] == PROJECT["name"]
    [command] = manifest["contributions"]["commands"]
    module, function = command["python_name"].split(":")
    assert getattr(import_module(module), function) is get_reader
    [reader] = manifest["contributions"]["readers"]
    assert reader["command"] == command["id"]
    assert command["id"].startswith(f"{PROJECT['name']}.")  # napari demands it
    assert reader["accepts_directories"] is True  # a store is a folder
    assert reader["filename_patterns"] == ["*.zarr"]


def test_layers_have_names_scales_ranges_colours_and_the_pixels():
    result = run_spatial_mean(
        ["a.tif", "b.tif"],
        "out.zarr",
        7.0,
        pixel_size_um=0.1,
        frame_interval_s=0.05,
        channel_names=["A", "B"],
    )
    layers = get_reader("out.zarr")("out.zarr")
    bkgds = [bkgd.compute() for bkgd in result.bkgds]
    raws = [MOVIE, MOVIE[:7, :, :20]]
    expected = {}
    for name, raw, bkgd in zip("AB", raws, bkgds, strict=True):
        expected[f"{name} raw"] = raw
        expected[f"{name} background"] = bkgd
        expected[f"{name} signal"] = raw.astype("f4") - bkgd
    assert [given["name"] for _, given, _ in layers] == list(expected)
    for pixels, given, kind in layers:
        name = given["name"]
        assert kind == "image"
        np.testing.assert_array_equal(pixels.compute(), expected[name], strict=True)
        np.testing.assert_array_equal(pixels[3].compute(), expected[name][3], strict=True)
        assert given["scale"] == (0.05, 0.1, 0.1)
        assert given["units"] == ["second", "micrometer", "micrometer"]
        assert given["axis_labels"] == ("t", "y", "x")
        low, high = given["contrast_limits"]
        assert expected[name].min() <= low < high <= expected[name].max()
        assert given["colormap"] == {"A": "green", "B": "magenta"}[name[0]]
        assert given["visible"] == name.endswith("signal")
    first, last = layers[0][0], layers[2][0]  # napari may add layers up
    np.testing.assert_array_equal((first - last).compute(), MOVIE - expected["A signal"])


def test_one_channel_is_gray_and_without_units_in_pixels():
    run_spatial_mean("a.tif", "out.zarr", 7.0)
    for _, given, _ in get_reader("out.zarr")("out.zarr"):
        assert (given["colormap"], given["scale"]) == ("gray", (1, 1, 1))
        assert given["units"] == ["pixel"] * 3


def test_a_moved_movie_leaves_the_background_with_a_warning(folder):
    run_spatial_mean("a.tif", "out.zarr", 7.0)
    (folder / "a.tif").unlink()
    with pytest.warns(UserWarning, match=r"no raw frames and no signal: .*a\.tif does not exist"):
        [(pixels, given, _)] = get_reader("out.zarr")("out.zarr")
    assert (given["name"], given["visible"]) == ("channel_0 background", True)
    bkgd = open_backgrounds("out.zarr").bkgds[0]
    np.testing.assert_array_equal(pixels.compute(), bkgd.compute())


def test_what_is_no_store_is_left_to_others(folder):
    run_spatial_mean("a.tif", "out.zarr", 7.0)
    others = ["a.tif", ".", "none.zarr", "out.zarr/channel_0", "s3://bucket/out.zarr"]
    assert [get_reader(path) for path in [*others, ["out.zarr"]]] == [None] * 6


def test_a_damaged_store_is_an_error_of_ours(folder):
    run_spatial_mean("a.tif", "out.zarr", 7.0)
    root = folder / "out.zarr" / "zarr.json"
    root.write_text(root.read_text().replace("0.05", "0.06").replace("7.0", "8.0"))
    with pytest.raises(ValueError, match="has damaged metadata"):
        get_reader("out.zarr")("out.zarr")
