"""The movies of a store, opened once more: which channels there are, and why others are not."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from smlmlp_dask import run_spatial_mean
from smlmlp_dask.movies import opening
from smlmlp_dask.movies.stack import Stack
from smlmlp_dask.store.read import read_attributes
from smlmlp_dask.store.reopening import reopened_channels

MOVIE = np.random.default_rng(4).poisson(200, (6, 10, 12)).astype(np.uint16)
RAW = {"raw_shape": MOVIE.shape, "raw_dtype": "<u2"}


def write_frames(folder, names):
    folder.mkdir()
    for name, frame in zip(names, MOVIE, strict=False):
        tifffile.imwrite(folder / f"{name}.tif", frame, photometric="minisblack")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """One source of each kind; `c` is reached over a link, `d` holds links."""
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("a.tif", MOVIE, photometric="minisblack")
    zarr.create_array("b.zarr", shape=MOVIE.shape, chunks=(1, 10, 12), dtype="u2")[:] = MOVIE
    write_frames(tmp_path / "disk", range(6))
    Path("c").symlink_to("disk")
    write_frames(tmp_path / "pool", "abcdef")
    Path("d").mkdir()
    for at, name in enumerate("abcdef"):
        Path(f"d/{at}.tif").symlink_to(f"../pool/{name}.tif")
    MOVIE.tofile("e.raw")
    return tmp_path


SOURCES = ["a.tif", "b.zarr", "c/*.tif", "d/*.tif", "e.raw"]
#: Of which source each channel is: two boxes are cut from the first.
CHANNELS = [0, 0, 1, 2, 3, 4]
BOXES = [[(0, 0, 6, 10), (6, 0, 12, 10)], None, None, None, None]


def run(sources=SOURCES, **options):
    options = {"bboxes": BOXES, "flips": [(True, False), None, None, None, None, None],
               **RAW, **options}  # fmt: skip
    run_spatial_mean(sources, "out.zarr", 2.0, **options)


def reopened():
    return reopened_channels(read_attributes(Path("out.zarr")))


def test_as_they_were(folder):
    run()
    first, second, *others = [stack.read() for stack in reopened()]
    np.testing.assert_array_equal(first, MOVIE[:, ::-1, :6])
    np.testing.assert_array_equal(second, MOVIE[:, :, 6:])
    for other in others:
        np.testing.assert_array_equal(other, MOVIE)


def test_each_movie_is_opened_once_and_warned_of_once(folder, monkeypatch):
    run()
    write_frames(folder / "frames", ["a_1", "a_2", "a_4"])
    with pytest.warns(UserWarning, match="1 file is missing") as told:
        run_spatial_mean("frames", "gap.zarr", 3.0)
    assert len(told) == 1
    opened, open_one = [], opening._opened

    def counted(path, raw):
        opened.append(path.name)
        return open_one(path, raw)

    monkeypatch.setattr(opening, "_opened", counted)
    reopened()
    assert sorted(opened) == sorted(Path(source).name for source in SOURCES)
    with pytest.warns(UserWarning, match="1 file is missing") as told:
        reopened_channels(read_attributes(Path("gap.zarr")))
    assert len(told) == 1


def touch(name):
    os.utime(name, ns=(0, 10**18))


@pytest.mark.parametrize(
    ("harm", "source", "reason"),
    [
        (lambda: Path("a.tif").unlink(), 0, "a.tif does not exist"),
        (lambda: touch("a.tif"), 0, "a.tif has changed since"),
        (lambda: shutil.rmtree("b.zarr"), 1, "b.zarr does not exist"),
        (lambda: touch("b.zarr/c/3/0/0"), 1, "b.zarr has changed since"),
        (lambda: Path("b.zarr/c/3/0/0").unlink(), 1, "b.zarr has changed since"),
        (lambda: touch("disk/3.tif"), 2, "c/*.tif has changed since"),
        (lambda: Path("disk/5.tif").unlink(), 2, "c/*.tif has changed since"),
        (lambda: shutil.copy("disk/5.tif", "disk/6.tif"), 2, "c/*.tif has changed since"),
        (lambda: Path("c").unlink(), 2, "c/*.tif matches 0 files"),
        (lambda: shutil.rmtree("d"), 3, "d/*.tif matches 0 files"),
        (lambda: touch("e.raw"), 4, "e.raw has changed since"),
    ],
)
@pytest.mark.parametrize("frames", [None, slice(0, 2)], ids=["all", "two"])
def test_only_the_movie_that_is_not_as_it_was_is_left_out(folder, harm, source, reason, frames):
    run(frames=frames)
    harm()
    for channel, its_source in zip(reopened(), CHANNELS, strict=True):
        if its_source == source:
            assert isinstance(channel, str)
            assert str(folder) in channel
            assert reason in channel
        else:
            assert isinstance(channel, Stack)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        # Frames 0 and 1 are other ones now, or may be: the two patterns cannot be told apart.
        ("d/0.tif", (2, 3)),
        ("pool/c.tif", (3,)),  # the link that leads to nothing tells of which it was
    ],
)
def test_a_file_that_went_from_a_folder_of_links_is_noticed(folder, name, changed):
    run(frames=slice(0, 2))
    Path(name).unlink()
    assert [isinstance(channel, str) for channel in reopened()] == [
        index in changed for index in CHANNELS
    ]


def test_a_folder_below_a_pattern_is_not_of_it(folder):
    write_frames(folder / "disk/more", range(6))
    run(["c/*.tif", "c/more/*.tif", "**/more/*.tif"], bboxes=None, flips=None, raw_shape=None,
        raw_dtype=None)  # fmt: skip
    Path("disk/more/4.tif").unlink()
    assert [isinstance(channel, str) for channel in reopened()] == [False, True, True]


def test_one_movie_may_come_twice(folder):
    boxes = [None, [(0, 0, 3, 3)], None, None]
    run(["a.tif", "a.tif", "c/*.tif", "c/?.tif"], bboxes=boxes, flips=None, raw_shape=None,
        raw_dtype=None)  # fmt: skip
    shapes = [MOVIE.shape, (6, 3, 3), MOVIE.shape, MOVIE.shape]
    assert [stack.shape for stack in reopened()] == shapes
