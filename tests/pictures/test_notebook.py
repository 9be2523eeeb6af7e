"""How a notebook shows a result: the table, the slider, and what they read."""

import re
import shutil
import sys
from base64 import b64decode
from io import BytesIO

import matplotlib.image
import numpy as np
import pytest
import tifffile
import zarr

from smlmlp_dask import open_backgrounds, run_spatial_mean
from smlmlp_dask.movies.formats.zarr_movie import open_stored
from smlmlp_dask.movies.stack import SourceReadError, Stack
from smlmlp_dask.pictures import frames as plots
from smlmlp_dask.pictures import notebook
from smlmlp_dask.result import SpatialMeanResult
from tests.pictures.conftest import MOVIE


@pytest.fixture
def result(folder):
    """Two channels, from movies that may be harmed."""
    return run_spatial_mean(["a.tif", "b.tif"], "out.zarr", [(7, 7), (3, 4.5)])


def pictures(html):
    sources = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    return [matplotlib.image.imread(BytesIO(b64decode(source))) for source in sources]


def cells(html):
    rows = re.findall(r"<tr>(.*?)</tr>", html)
    return [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in rows]


# ---- the table ---------------------------------------------------------------------------------


def test_the_table(result):
    html = result._repr_html_()
    head, first, second = cells(html)
    assert len(head) == len(first) == len(second) == 7
    assert first[0] == "0"
    assert first[2:4] == ["12 × 30 × 40", "1 of 12 × 30 × 40, 57.6 kB"]
    assert first[4:] == ["57.6 kB (float32)", "7, 7 px", "0.852681"]
    assert second[2] == "7 × 30 × 20"
    assert second[5] == "3, 4.5 px"
    assert str(result.path) in html
    assert "finished and on disk" in html


def test_the_small_picture_is_the_frame_in_the_middle(result):
    shown = pictures(result._repr_html_())
    for picture, bkgd in zip(shown, result.bkgds, strict=True):
        frame = bkgd[len(bkgd) // 2].compute()
        assert picture.shape[:2] == frame.shape
        # viridis: green rises with the value
        ranks = [np.argsort(np.argsort(values.ravel())) for values in (picture[..., 1], frame)]
        assert np.corrcoef(*ranks)[0, 1] > 0.99
    assert "frame 6" in result._repr_html_()


def test_it_reads_one_frame_a_channel_and_computes_nothing(result, reads, no_compute):
    reads.clear()
    assert len(pictures(result._repr_html_())) == 2
    assert reads == [(1, 30, 40), (1, 30, 20)]


def test_of_tiled_frames_it_reads_one_tile(tmp_path, reads):
    frame = np.arange(600, dtype="f4").reshape(1, 20, 30)
    stored = zarr.create_array(tmp_path / "t.zarr", shape=(1, 20, 30), chunks=(1, 10, 10),
                               dtype="f4")  # fmt: skip
    stored[:] = frame
    stack = Stack.of(open_stored(tmp_path / "t.zarr", tmp_path, None), range(1))
    np.testing.assert_array_equal(notebook._middle_chunk(stack, 0), frame[0, 10:20, 10:20])
    assert reads == [(1, 10, 10)]


def test_names_are_no_markup(result, tmp_path):
    evil = tmp_path / "<img src=x onerror=alert(1)>&\x1b[31m.zarr"
    shutil.move(result.path, evil)
    html = open_backgrounds(evil)._repr_html_()
    assert "<img src=x" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;&amp;\\x1b[31m.zarr" in html
    assert len(pictures(html)) == 2


@pytest.mark.parametrize("harm", ["nan", "empty"])
def test_where_there_is_nothing_to_draw_it_has_a_dash(result, tmp_path, harm, monkeypatch):
    if harm == "nan":
        monkeypatch.setattr(Stack, "read", lambda self: np.full(self.shape, np.nan, "f4"))
    else:
        zarr.create_array(tmp_path / "m.zarr", shape=(0, 5, 5), chunks=(1, 5, 5), dtype="u2")
        result = run_spatial_mean(tmp_path / "m.zarr", tmp_path / "empty.zarr")
    html = result._repr_html_()
    rows = cells(html)[1:]
    assert len(rows) == len(result.bkgds)
    assert rows[0][1] == "\N{EN DASH}"
    assert "finished and on disk" in html


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda file: shutil.rmtree(file.parents[5]), "channel_0/0 is gone: check that the disk"),
        (lambda file: file.unlink(), r"is missing: repair it by smlmlp-dask verify --repair /"),
        (lambda file: file.write_bytes(b"nonsense"), "(frames 0-11) of "),
        (lambda file: file.write_bytes(b"nonsense"), "is damaged: repair it by smlmlp-dask ver"),
    ],
)
def test_the_table_shows_damage(result, harm, reason):
    harm(result.path / "channel_0/0/c/0/0/0")
    html = result._repr_html_()
    first, second = cells(html)[1:]
    assert reason in first[1]
    assert "finished" not in html
    assert "not all of it can be read" in html
    assert ("<img" in second[1]) is result.path.exists()


def test_many_channels_have_few_pictures(result):
    count = notebook.THUMBNAILS + 3
    many = SpatialMeanResult(
        result.stacks[:1] * count,
        result.noise_corrections[:1] * count,
        {key: values[:1] * count for key, values in result.info.items()},
        result.path,
        result.steps * count,
    )
    rows = cells(many._repr_html_())[1:]
    assert len(rows) == count
    assert [row[1] for row in rows[notebook.THUMBNAILS :]] == ["\N{EN DASH}"] * 3


def test_large_frames_make_small_pictures():
    large = np.linspace(0, 1, 1000 * 700).reshape(1000, 700)
    picture = matplotlib.image.imread(BytesIO(notebook._small_png(large)))
    assert 64 <= max(picture.shape[:2]) <= 128
    assert picture.shape[0] / picture.shape[1] == pytest.approx(10 / 7, rel=0.03)


# ---- the slider --------------------------------------------------------------------------------


@pytest.fixture
def browse(result):
    pytest.importorskip("ipywidgets", reason="the slider needs the extra 'notebooks'")

    def browse():
        controls, _, message, picture = result.browse().children
        return *controls.children, message, picture

    return browse


def test_the_slider_reads_one_frame_at_a_time(browse, reads, no_compute):
    _, frame, message, picture = browse()
    assert (frame.min, frame.max, frame.value) == (0, 11, 6)
    assert frame.continuous_update is False
    assert sorted(reads) == [(1, 30, 40)] * 2
    assert message.value == ""
    first = picture.value
    assert bytes(first[:4]) == b"\x89PNG"
    frame.value = 9
    assert sorted(reads) == [(1, 30, 40)] * 4
    assert picture.value != first
    frame.value = 6
    assert picture.value == first


def test_the_slider_changes_channels(browse, reads):
    channel, frame, _, picture = browse()
    frame.value = 9
    reads.clear()
    channel.value = 1
    assert (frame.max, frame.value) == (6, 6)
    assert reads == [(1, 30, 20)] * 2
    shown = picture.value
    channel.value = 0
    assert frame.max == 11
    assert picture.value != shown


def test_one_channel_needs_no_choice(tmp_path):
    pytest.importorskip("ipywidgets", reason="the slider needs the extra 'notebooks'")
    tifffile.imwrite(tmp_path / "m.tif", MOVIE, photometric="minisblack")
    box = run_spatial_mean(tmp_path / "m.tif", tmp_path / "one.zarr").browse()
    assert [type(widget).__name__ for widget in box.children[0].children] == ["IntSlider"]


def test_the_slider_shows_backgrounds_of_a_movie_that_has_gone(result, browse, tmp_path):
    _, _, _, with_movie = browse()
    (tmp_path / "a.tif").unlink()
    _, _, message, without = browse()
    assert bytes(without.value[:4]) == b"\x89PNG"
    assert without.value != with_movie.value
    assert message.value.startswith("no raw frame: ")
    assert "a.tif does not exist" in message.value


@pytest.mark.parametrize(("top", "pixels"), [(65535, 15), (4095, 15), (4095, 0)])
def test_the_slider_counts_saturated_pixels(tmp_path, monkeypatch, top, pixels):
    pytest.importorskip("ipywidgets", reason="the slider needs the extra 'notebooks'")
    frames = np.tile(np.arange(100, 1300, dtype="u2").reshape(30, 40), (3, 1, 1))
    frames[2, 3, :pixels] = top
    tifffile.imwrite(tmp_path / "m.tif", frames, photometric="minisblack")
    drawn = []
    monkeypatch.setattr(plots, "draw_frames", lambda place, row: drawn.append(row))
    box = run_spatial_mean(tmp_path / "m.tif", tmp_path / "one.zarr").browse()
    box.children[0].children[0].value = 2
    assert [row.saturated for row in drawn] == [0, pixels]


def test_errors_stand_under_the_slider(browse, monkeypatch):
    _, frame, message, picture = browse()
    shown = picture.value

    def fail(self):
        raise SourceReadError("the disk is on fire")

    with monkeypatch.context() as patch:
        patch.setattr(Stack, "read", fail)
        frame.value = 2
    assert message.value == "the disk is on fire"
    assert picture.value == shown
    frame.value = 3
    assert message.value == ""
    assert picture.value != shown


def test_a_movie_that_cannot_be_read_is_named(result, browse, monkeypatch):
    original = Stack.read

    def fail(self):
        if self.movie.path.endswith(".tif"):
            raise SourceReadError("the disk is on fire")
        return original(self)

    shown = browse()[3].value
    monkeypatch.setattr(Stack, "read", fail)
    _, _, message, picture = browse()
    assert message.value == "no raw frame: the disk is on fire"
    assert picture.value != shown


def test_an_empty_result_has_no_slider(tmp_path):
    pytest.importorskip("ipywidgets", reason="the slider needs the extra 'notebooks'")
    zarr.create_array(tmp_path / "m.zarr", shape=(0, 5, 5), chunks=(1, 5, 5), dtype="u2")
    result = run_spatial_mean(tmp_path / "m.zarr", tmp_path / "empty.zarr")
    with pytest.raises(ValueError, match="has no frames: there is nothing to show"):
        result.browse()


def test_without_ipywidgets_the_error_names_the_extra(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(RuntimeError, match=r"pip install .*\[notebooks\]'"):
        result.browse()
