"""What a browser gets from the viewer, fetched over HTTP."""

import json
import re
import zlib
from io import BytesIO
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest
import tifffile

from smlmlp_dask import run_spatial_mean
from smlmlp_dask.pictures.view import view_result
from tests.pictures.conftest import MOVIE

neuroglancer = pytest.importorskip(
    "neuroglancer", reason="the extra `view` is not installed", exc_type=ImportError
)


@pytest.fixture(autouse=True)
def folder(folder):
    yield folder
    neuroglancer.stop()


def run(**known):
    return run_spatial_mean("a.tif", "out.zarr", 7.0, **known)


def sources(viewer):
    """Keys of the served arrays by the names of their layers."""
    layers = viewer.state.to_json()["layers"]
    found = [
        re.search(r"python://volume/([\w.]+)", json.dumps(layer["source"])) for layer in layers
    ]
    return {layer["name"]: source[1] for layer, source in zip(layers, found, strict=True)}


def said(viewer):
    """Lines at the foot of the viewer."""
    return [*viewer.config_state.state.to_json()["statusMessages"].values()]


def fetched(viewer, place):
    url = viewer.get_viewer_url().split("/v/")[0]
    assert url.startswith("http://127.0.0.1:")
    with urlopen(f"{url}/neuroglancer/{place}", timeout=20) as answer:
        return answer.read()


def pixels(viewer, key, start, stop):
    places = ["1,1,1", *(",".join(map(str, corner)) for corner in (start, stop))]
    return np.load(BytesIO(zlib.decompress(fetched(viewer, f"npz/{key}/{'/'.join(places)}"))))


def test_served_pixels_are_those_of_movie_and_store():
    result = run(channel_names=["Cy5"])
    viewer = result.view()
    bkgd = result.bkgds[0].compute()
    expected = {
        "Cy5 raw": MOVIE,
        "Cy5 background": bkgd,
        "Cy5 signal": MOVIE.astype("f4") - bkgd,
    }
    keys = sources(viewer)
    assert list(keys) == list(expected)
    for name, whole in expected.items():
        np.testing.assert_array_equal(
            pixels(viewer, keys[name], (5, 3, 0), (6, 30, 33)), whole[5:6, 3:30, :33], strict=True
        )


def test_axes_names_and_range_are_the_store_s(folder):
    viewer = run(pixel_size_um=(0.1, 0.2), frame_interval_s=0.05).view()
    state = viewer.state.to_json()
    assert state["dimensions"] == {
        "x": [pytest.approx(2e-7), "m"],
        "y": [pytest.approx(1e-7), "m"],
        "t": [0.05, "s"],
    }
    assert state["position"] == [20, 15, 6.5]
    ome = json.loads((folder / "out.zarr/channel_0/zarr.json").read_text())["attributes"]["ome"]
    window = ome["omero"]["channels"][0]["window"]
    [_, background, _] = state["layers"]
    assert background["shaderControls"]["counts"]["range"] == [window["start"], window["end"]]
    info = json.loads(fetched(viewer, f"info/{sources(viewer)['channel_0 background']}"))
    assert info["shape"] == [12, 30, 40]
    assert info["dataType"] == "float32"
    assert info["volumeType"] == "image"
    assert info["maxDownsampling"] == 1  # never means over frames
    space = info["coordinateSpace"]
    assert [*space] == ["t", "y", "x"]
    assert space["y"] == [pytest.approx(1e-7), "m"]
    [row] = state["layout"]["children"]
    panels = [panel["layers"] for panel in row["children"]]
    assert panels == [["channel_0 raw"], ["channel_0 background"], ["channel_0 signal"]]


def test_a_moved_movie_is_said_in_the_viewer(folder):
    result = run()
    (folder / "a.tif").unlink()
    viewer, [line] = view_result(result)
    assert [*sources(viewer)] == ["channel_0 background"]
    assert "a.tif does not exist" in line
    assert said(viewer) == [line]


def test_frames_that_cannot_be_read_are_said_in_the_viewer(folder):
    viewer = run().view()
    chunk = folder / "out.zarr/channel_0/0/c/0/0/0"
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"?")
    key = sources(viewer)["channel_0 background"]
    with pytest.raises(HTTPError, match="500"):
        pixels(viewer, key, (5, 3, 0), (6, 30, 33))
    [line] = said(viewer)
    assert "is damaged: repair it by smlmlp-dask verify --repair" in line


@pytest.mark.parametrize(
    ("dtype", "served"),
    [("u1", "u1"), ("i2", "i2"), ("u4", "u4"), ("i8", "f4"), ("u8", "f4"), ("f8", "f4")],
)
def test_browsers_get_types_they_can_draw(dtype, served):
    tifffile.imwrite("a.tif", MOVIE.astype(dtype), photometric="minisblack")
    raw = view_result(run())[0]
    info = json.loads(fetched(raw, f"info/{sources(raw)['channel_0 raw']}"))
    assert info["dataType"] == np.dtype(served).name
    got = pixels(raw, sources(raw)["channel_0 raw"], (1, 0, 0), (2, 30, 40))
    np.testing.assert_array_equal(got, MOVIE[1:2].astype(dtype).astype(served), strict=True)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4"])
def test_integers_have_ranges_of_their_dtype(dtype):
    """Whole and held by the dtype: of others neuroglancer makes all of it, and frames are black."""
    movie = MOVIE.copy()
    movie[6] = 100
    movie[6, 0, :6], movie[6, 0, 6:9] = 20, 120  # percentiles lie between two counts
    tifffile.imwrite("a.tif", movie.astype(dtype), photometric="minisblack")
    layers = run().view().state.to_json()["layers"]
    low, high = np.percentile(movie[6], (0.5, 99.8))
    control = layers[0]["shaderControls"]["counts"]
    found = [*control["range"], *control["window"]]
    assert (low % 1, high % 1) != (0, 0)
    assert control["range"] == ([low, high] if dtype == "f4" else [np.floor(low), np.ceil(high)])
    if dtype != "f4":
        assert all(isinstance(number, int) for number in found)
        held = np.iinfo(dtype)
        assert all(held.min <= number <= held.max for number in found)
