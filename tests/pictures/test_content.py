"""What there is to see of a store, whatever it holds: in pictures, tables, viewers and reports."""

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from click.testing import CliRunner
from matplotlib.text import Text

from smlmlp_dask import SpatialMean, TemporalMedian, open_backgrounds, run_background
from smlmlp_dask.cli import smlmlp
from smlmlp_dask.napari_reader import get_reader
from smlmlp_dask.pictures import frames as plots
from smlmlp_dask.pictures.layers import viewed_layers
from smlmlp_dask.pictures.overview import plot_result
from tests.pictures.conftest import MOVIE

MEAN = SpatialMean(7.0)


pytestmark = pytest.mark.usefixtures("folder")


def run(outputs, path="out.zarr", **options):
    return run_background("a.tif", path, MEAN, outputs, **options)


def titles(figure):
    """Titles of the images, and the images, of a picture of one channel."""
    axes = [one for one in figure.subfigs[0].subfigs[1].axes if one.get_title()]
    return {one.get_title(): one.images[0].get_array() if one.images else None for one in axes}


SIGNAL = "signal = raw \N{MINUS SIGN} background"
BACKGROUND = "background = raw \N{MINUS SIGN} signal"
COUNTS = "signal, stored in whole counts"


@pytest.mark.parametrize(
    ("outputs", "options", "shown", "why"),
    [
        ("background", {}, ["raw", "background, radius 7 px", SIGNAL], "the signal follows"),
        ("signal", {}, ["raw", BACKGROUND, "signal, as stored"], "so does the background"),
        ("signal", {"pedestal": 100}, ["raw", COUNTS], "a rounded signal gives no background"),
        ("signal", {"keep_bits": 8}, ["raw", SIGNAL], "neither do rounded bits"),
        (
            ["background", "signal"],
            {"pedestal": 100},
            ["raw", "background, radius 7 px", COUNTS],
            "the signal shown is the stored one",
        ),
    ],
)
def test_each_store_shows_what_it_holds_and_what_follows_from_it(outputs, options, shown, why):
    exact = run("background", "exact.zarr").bkgds[0][6].compute()
    result = run(outputs, **options)
    found = titles(plot_result(result))
    assert list(found) == shown, why
    raw = MOVIE[6].astype(float)
    np.testing.assert_array_equal(found["raw"], raw)
    for title, image in found.items():
        expected = {"b": exact, "s": raw - exact, "r": raw}[title[0]]
        tolerance = 0.5 + 1e-4 if title == COUNTS else 0.3 if options else 1e-4
        np.testing.assert_allclose(image, expected, atol=tolerance)


@pytest.mark.parametrize("pedestal", [None, 100])
def test_a_signal_without_its_movie_is_shown_alone(pedestal):
    run("signal", pedestal=pedestal)
    Path("a.tif").unlink()
    figure = plot_result(open_backgrounds("out.zarr"))
    found = titles(figure)
    assert [image is None for image in found.values()] == [True, False]
    words = " ".join(text.get_text() for text in figure.findobj(Text))
    assert "No raw frame" in words
    assert "signal over time" in words


def test_the_level_of_a_signal_is_without_its_pedestal():
    run("signal", pedestal=1000)
    level = plot_result(open_backgrounds("out.zarr")).subfigs[0].subfigs[2].axes[2]
    assert abs(level.lines[0].get_ydata()).max() < 5


@pytest.mark.parametrize(
    ("outputs", "pedestal", "names"),
    [
        ("signal", None, ["raw", "background", "signal"]),
        ("signal", 100, ["raw", "signal + 100"]),
        (["background", "signal"], 100, ["raw", "background", "signal + 100"]),
    ],
)
def test_viewers_get_the_same(outputs, pedestal, names):
    result = run(outputs, pedestal=pedestal)
    layers, missing = viewed_layers(result)
    assert [layer.name for layer in layers] == [f"channel_0 {name}" for name in names]
    assert missing == []
    stored = result.signals[0].compute()
    np.testing.assert_array_equal(layers[-1].stack.read(), stored)
    if pedestal is None:
        np.testing.assert_array_equal(layers[1].stack.read(), MOVIE.astype("f4") - stored)
    lowest, highest = layers[-1].limits
    assert stored.min() <= lowest < highest <= stored.max()
    visible = [given["name"] for _, given, _ in get_reader("out.zarr")("out.zarr")
               if given["visible"]]  # fmt: skip
    assert visible == [layers[-1].name]


@pytest.mark.parametrize(
    ("outputs", "lost"),
    [("signal", " and no background"), (["background", "signal"], "")],
)
def test_viewers_say_what_went_with_the_movie(outputs, lost):
    run(outputs)
    Path("a.tif").unlink()
    layers, [line] = viewed_layers(open_backgrounds("out.zarr"))
    assert [layer.kind for layer in layers] == ([outputs] if isinstance(outputs, str) else outputs)
    assert line.startswith(f"channel_0: no raw frames{lost}: ")


def test_a_notebook_shows_each_output():
    html = run(["background", "signal"], pedestal=100)._repr_html_()
    assert "<b>Backgrounds and signals (stored 100 counts higher)</b>" in html
    assert re.findall(r'alt="([^"]+)"', html) == [
        "background: frame 6 of 0\N{EN DASH}11",
        "signal: frame 6 of 0\N{EN DASH}11",
    ]


def test_a_notebook_says_which_output_is_stored_higher():
    html = run(["signal", "snr"], pedestal=100, gain=1)._repr_html_()
    assert "<b>Signals (stored 100 counts higher) and signal-to-noise ratios</b>" in html


def test_the_slider_shows_signals(monkeypatch):
    pytest.importorskip("ipywidgets", reason="the slider needs the extra 'notebooks'")
    drawn = []
    monkeypatch.setattr(plots, "draw_frames", lambda place, row: drawn.append(row))
    run("signal", pedestal=100).browse()
    assert list(drawn[0].images) == ["raw", "signal"]
    assert abs(drawn[0].images["signal"].mean()) < 1


def test_the_report_shows_signals():
    run("signal", pedestal=100)
    made = CliRunner().invoke(smlmlp, ["report", "out.zarr"])
    assert made.exit_code == 0, made.output
    page = Path("out.html").read_text()
    assert "<h1>Signal of out.zarr</h1>" in page
    assert "signal (uint16), pedestal 100; no pixel of the signal was clipped" in page
    words = re.findall(r'<figure[^>]*><img alt="[^:]*: ([^"]+)" src="data:image/png;base64,', page)
    assert words == ["raw", COUNTS, "signal over time", "kernels"]


def test_the_report_warns_of_clipped_pixels():
    run("signal", pedestal=0)
    CliRunner().invoke(smlmlp, ["report", "out.zarr"])
    page = Path("out.html").read_text()
    assert re.search(r'<p class="bad">Channel 0\. [\d,]+ pixels of the signal were clipped', page)


# ---- the range in which other programs show a signal -------------------------------------------


def window(path="out.zarr", output="signal/"):
    ome = zarr.open_group(f"{path}/{output}channel_0", mode="r").attrs["ome"]
    [channel] = ome["omero"]["channels"]
    return channel["label"], channel["window"]


SPOTS = MOVIE.copy()
SPOTS[::2, 10:12, 20:22] = 900


@pytest.mark.parametrize("movie", [MOVIE, SPOTS, np.full_like(MOVIE, 5)], ids=["n", "spot", "flat"])
@pytest.mark.parametrize("steps", [MEAN, [TemporalMedian(3), MEAN], TemporalMedian(3)])
@pytest.mark.parametrize("pedestal", [None, 0, 100, 65535])
def test_the_range_of_a_signal_is_its_own(movie, steps, pedestal):
    tifffile.imwrite("m.tif", movie, photometric="minisblack")
    result = run_background("m.tif", "s.zarr", steps, "signal", pedestal=pedestal)
    signal = result.signals[0].compute().astype(float)
    label, found = window("s.zarr")
    assert label == f"channel_0 signal{f' + {pedestal}' if pedestal else ''}"
    assert found["min"] <= found["start"] < found["end"] <= found["max"]
    assert found["min"] <= signal.min()
    assert signal.max() <= found["max"]
    if pedestal is not None:
        assert 0 <= found["min"] < found["max"] <= 65535
    # Most pixels are neither black nor white, and the grey levels are not wasted.
    inside = (signal >= found["start"] - 1) & (signal <= found["end"] + 1)
    assert inside.mean() > 0.9
    assert found["end"] - found["start"] <= max(2.0, 1.5 * float(np.ptp(signal)))


def test_the_range_of_a_background_is_as_before():
    run("background", "b.zarr")
    run(["background", "signal"])
    assert window(output="") == window("b.zarr", "")
