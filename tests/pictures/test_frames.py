"""The picture of raw frames and backgrounds: what it shows, on which scale, and that it draws."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from smlmlp_dask.pictures.frames import plot_channels


def make_frame(height=30, width=40, seed=0):
    rng = np.random.default_rng(seed)
    background = np.linspace(100, 200, width, dtype=np.float32) + np.zeros((height, 1), np.float32)
    return rng.poisson(background).astype(np.uint16), background


def panels(figure):
    """Images of each row: raw, background, difference."""
    return [[axes.images[0] for axes in row.axes[:3]] for row in figure.subfigs]


def headings(figure):
    return [row.get_suptitle() for row in figure.subfigs]


def draw(figure):
    """Rendering is where Matplotlib would warn."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())


def test_panels_hold_raw_background_and_difference():
    frames = [make_frame(30, 40), make_frame(25, 60, seed=1)]
    figure = plot_channels([raw for raw, _ in frames], [background for _, background in frames])
    for (raw, background), images in zip(frames, panels(figure), strict=True):
        shown = [image.get_array() for image in images]
        np.testing.assert_array_equal(shown[0], raw)
        np.testing.assert_array_equal(shown[1], background)
        np.testing.assert_array_equal(shown[2], raw.astype(float) - background)
        assert [image.axes.get_title() for image in images] == [
            "raw",
            "background",
            "signal = raw \N{MINUS SIGN} background",
        ]
        for image in images:
            assert image.axes.get_aspect() == 1
            assert image.axes.get_xlim() == (-0.5, raw.shape[1] - 0.5)
            assert image.axes.get_ylim() == (raw.shape[0] - 0.5, -0.5)
            assert image.axes.get_xlabel() == "x (px)"
        assert images[0].axes.get_ylabel() == "y (px)"
    assert headings(figure) == ["Channel 0", "Channel 1"]
    draw(figure)


def test_colour_scales():
    raw, background = make_frame()
    ((shown_raw, shown_background, shown_difference),) = panels(plot_channels([raw], [background]))
    limits = tuple(np.percentile(raw, (0.5, 99.8)))
    assert shown_raw.get_clim() == shown_background.get_clim() == limits
    assert shown_raw.get_cmap().name == shown_background.get_cmap().name == "viridis"
    largest = np.percentile(np.abs(raw - background.astype(float)), 99.8)
    assert shown_difference.get_clim() == (-largest, largest)
    assert shown_difference.get_cmap().name == "PuOr_r"
    assert shown_raw.colorbar is None
    for image in (shown_background, shown_difference):
        assert image.colorbar.ax.get_ylabel() == "counts"


def test_headings_name_frame_titles_and_radii():
    raw, background = make_frame()
    figure = plot_channels(
        [raw, raw], [background, background],
        titles=["a$b_c", "far red"], radii_pix=[(7, 7), np.array([6, 10.5])], frame=12,
    )  # fmt: skip
    assert headings(figure) == ["a$b_c, frame 12", "far red, frame 12"]
    assert [images[1].axes.get_title() for images in panels(figure)] == [
        "background, radius 7 px",
        "background, radius y 6 px, x 10.5 px",
    ]
    draw(figure)


@pytest.mark.parametrize("dtype", ["u1", "u2", ">u2", "i2"])
@pytest.mark.parametrize(
    ("pixels", "heading"),
    [
        (0, "Channel 0"),
        (1, "Channel 0 (1 saturated pixel)"),
        (3, "Channel 0 (3 saturated pixels)"),
    ],
)
def test_saturated_pixels_are_announced(dtype, pixels, heading):
    raw = np.full((5, 6), 20, dtype)
    raw[0, :pixels] = np.iinfo(dtype).max
    figure = plot_channels([raw], [np.full(raw.shape, 20, np.float32)])
    assert headings(figure) == [heading]


@pytest.mark.parametrize("dtype", ["u2", "f4"])
@pytest.mark.parametrize(("pixels", "note"), [(7, ""), (12, " (12 saturated pixels)")])
def test_counts_that_pile_up_are_saturated_too(dtype, pixels, note):
    # A camera of 12 bits, or a movie in floating point: below it, each count occurs once.
    raw = np.arange(100, 700).reshape(20, 30).astype(dtype)
    raw.ravel()[:pixels] = 4095
    figure = plot_channels([raw], [np.full(raw.shape, 20, np.float32)])
    assert headings(figure) == [f"Channel 0{note}"]


def test_floating_counts_without_a_pile_are_not_saturated():
    raw = np.full((5, 6), 65535, np.float32)
    assert headings(plot_channels([raw], [raw])) == ["Channel 0"]


@pytest.mark.parametrize(
    "raw",
    [
        np.full((1, 1), 7, np.uint16),
        np.full((5, 6), 7, np.uint16),
        np.zeros((5, 6), np.uint16),
        np.full((5, 6), 1e12),
        np.full((5, 6), np.nan),
        np.full((5, 6), np.inf),
        np.where(np.eye(6) > 0, np.nan, 3.0),
        np.where(np.eye(6) > 0, -np.inf, np.arange(6.0)),
        np.eye(6) > 0,
        np.ones((2, 900)) * np.arange(900),
        np.ones((900, 2)) * np.arange(2),
    ],
    ids=["pixel", "constant", "dark", "huge", "nan", "inf", "some-nan", "some-inf", "bool",
         "wide", "tall"],
)  # fmt: skip
def test_degenerate_frames_draw_without_a_warning(raw):
    figure = plot_channels([raw], [raw])
    ((shown, _, difference),) = panels(figure)
    low, high = shown.get_clim()
    assert np.isfinite([low, high]).all()
    assert low < high
    assert difference.get_clim() == (-1, 1)
    draw(figure)
    # Ticks stand on pixels, which have whole numbers.
    for ticks in (shown.axes.get_xticks(), shown.axes.get_yticks()):
        np.testing.assert_array_equal(ticks, np.rint(ticks))


def sides(image):
    """Drawn height and width of a pixel."""
    box = image.axes.get_window_extent()
    (left, right), (bottom, top) = image.axes.get_xlim(), image.axes.get_ylim()
    return box.height / abs(bottom - top), box.width / abs(right - left)


@pytest.mark.parametrize(
    ("shape", "shown", "why"),
    [
        ((30, 40), (30, 40), "usual"),
        ((64, 2048), (64, 2048), "a wide strip camera"),
        ((2048, 64), (2048, 64), "a tall one"),
        ((2, 900), (2, 80), "a strip so narrow that all of it would be a line: its middle"),
        ((900, 2), (80, 2), "the same, tall"),
        ((1, 1), (1, 1), "one pixel"),
    ],
)
def test_pixels_are_square_and_seen(shape, shown, why):
    frame = np.arange(float(shape[0] * shape[1])).reshape(shape)
    figure = plot_channels([frame], [frame])
    draw(figure)
    (images,) = panels(figure)
    rows, columns = (
        slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(shape, shown, strict=True)
    )
    for image, expected in zip(images, (frame, frame, frame - frame), strict=True):
        np.testing.assert_array_equal(image.get_array(), expected[rows, columns])
        height, width = sides(image)
        assert height == pytest.approx(width, rel=0.02), why
        box = image.axes.get_window_extent()
        assert min(box.width, box.height) > 10, why  # of 100 dots an inch
        assert image.axes.get_xlim() == (columns.start - 0.5, columns.stop - 0.5)
        assert image.axes.get_ylim() == (rows.stop - 0.5, rows.start - 0.5)


def test_writes_a_png_from_any_thread(tmp_path):
    frame = make_frame()

    def write(name):
        figure = plot_channels([frame[0]], [frame[1]])
        figure.savefig(tmp_path / name, dpi=50)
        return (tmp_path / name).read_bytes()

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(write, ["a.png", "b.png"])
    assert first.startswith(b"\x89PNG")
    assert len(first) > 5000
    assert first == second


def test_pyplot_is_never_loaded():
    code = (
        "import sys, smlmlp_dask.pictures.frames as plots\n"
        "plots.plot_channels([[[1, 2]]], [[[1, 2]]]).canvas.draw()\n"
        "assert 'matplotlib.figure' in sys.modules\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_notebook_shows_it():
    # IPython asks an object for this; a bare Matplotlib figure has none without pyplot.
    assert plot_channels([FRAME], [FRAME])._repr_png_().startswith(b"\x89PNG")


FRAME = np.ones((3, 4))


@pytest.mark.parametrize(
    ("raws", "backgrounds", "options", "error", "message"),
    [
        ([], [], {}, ValueError, "no frame to draw: pass one raw frame"),
        ([FRAME], [], {}, ValueError, "0 backgrounds for 1 raw frames: pass 1"),
        ([FRAME], [FRAME], {"titles": ["a", "b"]}, ValueError, "2 titles for 1 raw frames"),
        ([FRAME], [FRAME], {"radii_pix": []}, ValueError, "0 radii_pix for 1 raw frames"),
        ([FRAME], [FRAME], {"radii_pix": [7]}, ValueError, r"radii_pix\[0\] is 7: pass a pair"),
        ([FRAME[0]], [FRAME[0]], {}, ValueError, r"raws\[0\] has the shape \(4,\): pass one frame"),
        ([FRAME[:0]], [FRAME[:0]], {}, ValueError, r"raws\[0\] has the shape \(0, 4\)"),
        (
            [FRAME],
            [FRAME.T],
            {},
            ValueError,
            r"backgrounds\[0\] is \(4, 3\) and raws\[0\] \(3, 4\)",
        ),
        ([FRAME], [FRAME * 1j], {}, TypeError, r"backgrounds\[0\] is of complex128: pass a frame"),
    ],
)
def test_refuses(raws, backgrounds, options, error, message):
    with pytest.raises(error, match=message):
        plot_channels(raws, backgrounds, **options)
