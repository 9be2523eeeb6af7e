"""The picture of a whole result: what it shows, what it warns of, what it reads."""

import shutil
from functools import partial
from itertools import combinations

import dask
import numpy as np
import pytest
import tifffile
import zarr
from matplotlib.axis import Axis
from matplotlib.text import Text
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

from smlmlp_dask import open_backgrounds, run_spatial_mean, simulate_movie
from smlmlp_dask.movies.stack import Stack
from smlmlp_dask.pictures.overview import picture_beside, plot_result
from smlmlp_dask.pictures.panels import round_length
from smlmlp_dask.pictures.samples import LEVELS, PAIRS, raw_stacks
from tests import commands

N_FRAMES = 30


def simulated(seed=0, height=80, width=96, **options):
    options = {"photons": 3000, "events_per_frame": 4.0, **options}
    return simulate_movie(N_FRAMES, height, width, seed=seed, **options).movie.compute()


@pytest.fixture(scope="module")
def movies(tmp_path_factory):
    """A TIFF; a clipped movie in Zarr, wide; a headerless one, tall."""
    folder = tmp_path_factory.mktemp("movies")
    arrays = [simulated(), np.minimum(simulated(1, 30, 150), 400), simulated(2, 150, 40)]
    tifffile.imwrite(folder / "a$b_.tif", arrays[0], photometric="minisblack")
    stored = zarr.create_array(folder / "b.zarr", shape=arrays[1].shape, chunks=(7, 30, 150),
                               dtype="u2")  # fmt: skip
    stored[:] = arrays[1]
    arrays[2].astype(">u2").tofile(folder / "c.raw")
    return [folder / "a$b_.tif", folder / "b.zarr", folder / "c.raw"], arrays


RAW = {"raw_shape": (N_FRAMES, 150, 40), "raw_dtype": ">u2"}


@pytest.fixture(scope="module")
def result(movies, tmp_path_factory):
    path = tmp_path_factory.mktemp("result") / "out.zarr"
    return run_spatial_mean(movies[0], path, [(7, 7), (7, 12), (2, 2)], **RAW)


@pytest.fixture(scope="module")
def figure(result):
    """The frame in the middle, as it is drawn by default."""
    return plot_result(result)


@pytest.fixture
def single(movies, tmp_path):
    """One channel, on a movie that may be harmed."""
    shutil.copy(movies[0][0], tmp_path / "movie.tif")
    return run_spatial_mean(tmp_path / "movie.tif", tmp_path / "out.zarr", 7.0)


def texts(figure):
    found = figure.findobj(Text)
    return [text for text in dict.fromkeys(found) if text.get_text().strip()]


def words(place):
    return " ".join(" ".join(text.get_text().split()) for text in texts(place))


def parts(figure):
    """For each channel: what is written above it, its frames, its curves."""
    return [place.subfigs for place in figure.subfigs]


def test_it_shows_the_frame_in_the_middle(figure, result, movies):
    for i, (above, frames, _) in enumerate(parts(figure)):
        middle = N_FRAMES // 2
        assert words(above).startswith(f"Channel {i}, frame {middle} of 0\N{EN DASH}29 ")
        raw = movies[1][i][middle]
        background = result.bkgds[i][middle].compute()
        signal = raw - background.astype(float)
        shown = [axes.images[0].get_array() for axes in frames.axes[:3]]
        for image, expected in zip(shown, (raw, background, signal), strict=True):
            np.testing.assert_array_equal(image, expected)


def test_it_shows_the_frame_that_was_asked_for(result, movies):
    for i, (_, frames, _) in enumerate(parts(plot_result(result, 29))):
        np.testing.assert_array_equal(frames.axes[0].images[0].get_array(), movies[1][i][29])


def test_it_shows_kernels_and_levels(figure, result):
    for i, (_, _, curves) in enumerate(parts(figure)):
        kernel_axes, residual_axes, level_axes = curves.axes
        for axis, patch in zip("yx", residual_axes.patches, strict=False):
            full = result.info[f"spatial_mean_kernels_{axis}"][i]
            values = patch.get_data().values
            cut = (len(full) - len(values)) // 2
            np.testing.assert_array_equal(values, full[cut : len(full) - cut])
        assert len(residual_axes.patches) == (2 if i == 1 else 1)
        assert kernel_axes.patches[0].get_data().values.sum() == pytest.approx(1)
        median = level_axes.lines[0]
        np.testing.assert_array_equal(median.get_xdata(), np.arange(N_FRAMES))
        expected = np.median(result.bkgds[i].compute(), axis=(1, 2))
        np.testing.assert_allclose(median.get_ydata(), expected, rtol=1e-6)
        assert level_axes.lines[1].get_xdata()[0] == N_FRAMES // 2


def test_it_warns_where_it_should_and_only_there(figure):
    good, clipped, narrow = [words(above) for above, _, _ in parts(figure)]
    assert good == "Channel 0, frame 15 of 0\N{EN DASH}29 a$b_.tif"
    assert "Saturated" in clipped
    assert "the largest count, 400;" in clipped
    assert "Radius" not in clipped
    assert "Radius too small: spots have a sigma of about 1.3" in narrow
    assert "radius of 2 px subtracts 6" in narrow
    assert "Saturated" not in narrow


SAID = {
    "pixel_size_um": (0.1, 0.11),
    "frame_interval_s": 0.05,
    "channel_names": ["Cy$5$", "Alexa 647 " * 20, "GFP"],
}


def test_it_shows_seconds_names_and_a_bar_where_they_are_known(result, movies, tmp_path):
    known = run_spatial_mean(movies[0], tmp_path / "out.zarr", 7, **RAW, **SAID)
    shown = parts(plot_result(known))
    # A quarter of the frames is 2.6, 4.1 and 1.1 µm.
    for (above, frames, curves), name, bar_um in zip(
        shown, ("Cy$5$", "Alexa 647 ", "GFP"), (2, 2, 1), strict=True
    ):
        assert f"({name}" in words(above)
        (bar,) = frames.axes[1].findobj(AnchoredSizeBar)
        assert bar.txt_label.get_text() == f"{bar_um} µm"
        (line,) = bar.size_bar.get_children()
        assert line.get_width() == pytest.approx(bar_um / 0.11)
        (seconds,) = curves.axes[2].child_axes
        assert seconds.get_xlabel() == "time (s)"
        curves.figure.canvas.draw()
        low, high = curves.axes[2].get_xlim()
        assert seconds.get_xlim() == pytest.approx((low * 0.05, high * 0.05))
    for _, frames, curves in parts(plot_result(result)):
        assert not frames.findobj(AnchoredSizeBar)
        assert not curves.axes[2].child_axes


@pytest.mark.parametrize(
    ("most", "length"), [(2.6, 2), (9.99, 5), (10.0, 10), (0.3, 0.2), (0.0999, 0.05)]
)
def test_bars_have_round_lengths(most, length):
    assert round_length(most) == pytest.approx(length)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("said", [{}, SAID], ids=["unknown", "recorded"])
def test_nothing_overlaps_and_nothing_is_cut_off(
    result, movies, monkeypatch, missing, said, tmp_path
):
    if said:
        radii = result.info["channels_mean_radii_pix"]
        result = run_spatial_mean(movies[0], tmp_path / "out.zarr", radii, **RAW, **said)
    if missing:
        reason = f"/{'a-long-folder/' * 5}{movies[0][0]} does not exist: check the path"
        monkeypatch.setattr("smlmlp_dask.pictures.samples.raw_stacks", lambda path: [reason] * 3)
    figure = plot_result(result)
    figure.canvas.draw()
    # An axis keeps ticks that lie beyond its ends, and does not draw them.
    ticks, drawn = set(), []
    for axis in figure.findobj(Axis):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            ticks |= {tick.label1, tick.label2}
            drawn += [tick.label1, tick.label2] if low <= tick.get_loc() <= high else []
    drawn += [text for text in texts(figure) if text not in ticks]
    every = [(text, text.get_window_extent()) for text in drawn if text.get_visible()]
    every = [(text, box) for text, box in every if box.width]
    assert len(every) > 60
    for text, box in every:
        assert box.x0 >= -1, text
        assert box.x1 <= figure.bbox.x1 + 1, text
        assert box.y0 >= -1, text
        assert box.y1 <= figure.bbox.y1 + 1, text
    for (one, a), (other, b) in combinations(every, 2):
        assert not (a.padded(-1).overlaps(b.padded(-1))), (one.get_text(), other.get_text())


def test_the_cost_does_not_grow_with_the_movie(tmp_path, reads, no_compute):
    movie = np.random.default_rng(0).poisson(100, (3000, 9, 8)).astype("u2")
    movie.tofile(tmp_path / "movie.raw")
    with dask.config.set(scheduler="threads"):
        result = run_spatial_mean(
            tmp_path / "movie.raw", tmp_path / "out.zarr", 2.0,
            raw_shape=movie.shape, raw_dtype="u2",
        )  # fmt: skip
    reads.clear()
    plot_result(result)
    assert len(reads) == LEVELS + PAIRS + 2
    assert sum(frames for frames, _, _ in reads) == LEVELS + 2 * PAIRS + 2


@pytest.mark.parametrize("n_frames", [1, 2])
def test_short_movies(tmp_path, n_frames):
    tifffile.imwrite(tmp_path / "m.tif", simulated()[:n_frames], photometric="minisblack")
    figure = plot_result(run_spatial_mean(tmp_path / "m.tif", tmp_path / "out.zarr"))
    figure.canvas.draw()
    assert f"of 0\N{EN DASH}{n_frames - 1}" in words(figure)


def test_floating_movies_with_nan(tmp_path):
    movie = simulated().astype("f4")
    movie[3] = np.nan
    movie[:, :20, :20] = np.nan
    tifffile.imwrite(tmp_path / "m.tif", movie, photometric="minisblack")
    figure = plot_result(run_spatial_mean(tmp_path / "m.tif", tmp_path / "out.zarr"), 3)
    figure.canvas.draw()
    median = parts(figure)[0][2].axes[2].lines[0].get_ydata()
    assert np.flatnonzero(np.isnan(median)).tolist() == [3]


# ---- movies that are not as they were ----------------------------------------------------------


def test_a_missing_movie_is_named_and_the_others_are_drawn(movies, tmp_path):
    folder = tmp_path / "movies"
    shutil.copytree(movies[0][0].parent, folder)
    sources = [folder / path.name for path in movies[0]]
    result = run_spatial_mean(sources, tmp_path / "out.zarr", **RAW)
    shutil.rmtree(sources[1])
    figure = plot_result(result)
    first, second, third = [frames for _, frames, _ in parts(figure)]
    assert first.axes[0].images
    assert third.axes[0].images
    assert [len(axes.images) for axes in second.axes[:3]] == [0, 1, 0]
    gone = words(parts(figure)[1][0]).replace(" ", "")
    assert f"No raw frame: {sources[1]} does not exist".replace(" ", "") in gone


def test_a_movie_that_changed_is_not_shown(single, tmp_path):
    assert isinstance(raw_stacks(single.path)[0], Stack)
    tifffile.imwrite(tmp_path / "movie.tif", simulated()[:-1], photometric="minisblack")
    assert "has changed since" in raw_stacks(single.path)[0]
    assert "has changed since" in words(plot_result(single))


def test_a_movie_that_cannot_be_read_is_named(single, monkeypatch):
    def fail(self):
        if "movie.tif" in self.movie.path:
            raise OSError("the disk is on fire")
        return original(self)

    original = Stack.read
    monkeypatch.setattr(Stack, "read", fail)
    assert "the disk is on fire" in words(plot_result(single))


def test_boxes_flips_and_frames_are_those_of_the_run(movies, tmp_path):
    boxes = [[(0, 0, 40, 60), (50, 10, 96, 80)], None]
    flips = [(False, True), (True, False), None]
    result = run_spatial_mean(
        movies[0][:2], tmp_path / "out.zarr", 7.0, bboxes=boxes, flips=flips,
        frames=slice(20, 2, -3),
    )  # fmt: skip
    figure = plot_result(result, 1)
    shown = [frames.axes[0].images[0].get_array() for _, frames, _ in parts(figure)]
    first, second = movies[1][0][17], movies[1][1][17]
    np.testing.assert_array_equal(shown[0], first[:60, :40][:, ::-1])
    np.testing.assert_array_equal(shown[1], first[10:80, 50:96][::-1])
    np.testing.assert_array_equal(shown[2], second)


# ---- the command -------------------------------------------------------------------------------


call = partial(commands.call, "plot")


@pytest.mark.parametrize(
    ("name", "start"), [("p.png", b"\x89PNG"), ("p.SVG", b"<?xml"), ("p.pdf", b"%PDF")]
)
def test_the_suffix_says_what_is_written(single, tmp_path, name, start):
    written = call(single.path, "-o", tmp_path / name, "--frame", 3)
    assert written.exit_code == 0, written.output
    assert written.output == f"picture: {tmp_path / name}\n"
    assert (tmp_path / name).read_bytes().startswith(start)
    assert not list(tmp_path.glob("*.tmp"))


def test_the_picture_goes_next_to_the_store(single, tmp_path):
    assert call(single.path).exit_code == 0
    picture = tmp_path / "out.png"
    drawn = picture.read_bytes()
    assert drawn.startswith(b"\x89PNG")
    picture.write_bytes(b"mine")
    assert call(single.path, "--overwrite").exit_code == 0
    assert picture.read_bytes() == drawn  # the same bytes, whenever it is drawn


@pytest.mark.parametrize(
    ("store", "picture"),
    [("a/b.zarr", "a/b.png"), ("a/b.v2.zarr", "a/b.v2.png"), ("a/b.v2", "a/b.v2.png")],
)
def test_names_of_pictures(tmp_path, store, picture):
    assert picture_beside(tmp_path / store) == tmp_path / picture


def test_a_store_that_is_the_working_folder(single, tmp_path, monkeypatch):
    monkeypatch.chdir(single.path)
    assert call(".").exit_code == 0
    assert (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("out.zarr -o p.jpg", "ends in .jpg: choose a name that ends in .png, .svg, .pdf"),
        ("out.zarr -o p", "ends in nothing: choose a name"),
        ("out.zarr -o out.zarr/p.png", "lies inside the store out.zarr: write elsewhere"),
        ("out.zarr -o none/p.png", "the folder none does not exist: make it first"),
        ("out.zarr --frame 30", "frame 30: channel 0 has 30 frames; pass 0 to 29"),
        ("out.zarr --frame -1", "-1 is not in the range x>=0"),
    ],
)
def test_refuses_in_one_line_and_writes_nothing(single, monkeypatch, arguments, message):
    monkeypatch.chdir(single.path.parent)
    before = sorted(single.path.parent.rglob("*"))
    refused = call(*arguments.split())
    assert refused.exit_code == 2
    assert message in refused.output
    assert len(refused.output.splitlines()) == 1
    assert sorted(single.path.parent.rglob("*")) == before


def test_an_empty_result_is_refused(tmp_path):
    zarr.create_array(tmp_path / "m.zarr", shape=(0, 5, 5), chunks=(1, 5, 5), dtype="u2")
    result = run_spatial_mean(tmp_path / "m.zarr", tmp_path / "out.zarr")
    with pytest.raises(ValueError, match="channel 0 has no frames: there is nothing to draw"):
        plot_result(result)


@pytest.mark.parametrize(
    ("harm", "state"),
    [
        (lambda chunk: chunk.write_bytes(b"nonsense"), "damaged"),
        (lambda chunk: chunk.unlink(), "missing"),
    ],
)
def test_a_damaged_store_is_an_error_with_its_remedy_and_no_picture(single, harm, state):
    harm(single.path / "channel_0/0/c/0/0/0")
    refused = call(single.path)
    assert refused.exit_code == 2
    assert refused.output == (
        f"Error: chunk c/0/0/0 (frames 0-{N_FRAMES - 1}) of {single.path}/channel_0/0 is {state}: "
        f"repair it by smlmlp-dask verify --repair {single.path}\n"
    )
    assert not (single.path.parent / "out.png").exists()


def test_the_result_draws_itself(single):
    assert words(single.plot(4)) == words(plot_result(open_backgrounds(single.path), 4))
