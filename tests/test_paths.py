"""Paths as users spell them: URLs are no folders, ~ is home, .. goes where the system goes; and a
result stays where it is when the folder changes."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from smlmlp_dask import (
    open_backgrounds,
    open_channels,
    plan_spatial_mean,
    run_spatial_mean,
    verify_backgrounds,
)
from smlmlp_dask.cli.demo import run_demo
from smlmlp_dask.movies.identity import source_identity
from smlmlp_dask.paths import absolute_path, local_path, mistyped

from .commands import call_line

MOVIE = np.random.default_rng(5).poisson(200, (5, 20, 24)).astype(np.uint16)
URLS = [
    "s3://bucket/x",
    Path("s3://bucket/x"),
    "gs:",
    "https://host/x",
    "file:///tmp/x",
    "memory://x",
    "zip://x::s3://bucket/x.zip",
    "simplecache::s3://bucket/x",
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    Path("home").mkdir()
    tifffile.imwrite("home/movie.tif", MOVIE, photometric="minisblack")
    zarr.create_array("movie.zarr", data=MOVIE, chunks=(2, 20, 24))
    return tmp_path


def everything(folder):
    return sorted(folder.rglob("*"))


# ---- URLs and names of files ---------------------------------------------------------------------


@pytest.mark.parametrize("url", URLS, ids=str)
def test_these_are_urls(url):
    with pytest.raises(ValueError, match=r"looks like a URL.*: mount the storage, or copy"):
        local_path(url)


@pytest.mark.parametrize(
    "use",
    [
        open_channels,
        open_backgrounds,
        verify_backgrounds,
        plan_spatial_mean,
        lambda url: run_spatial_mean(url, "out.zarr"),
        lambda url: run_spatial_mean("movie.zarr", url),
        lambda url: plan_spatial_mean("movie.zarr", destination=url),
        lambda url: run_demo(url, 1, progress=False),
    ],
)
def test_urls_are_refused(folder, use):
    before = everything(folder)
    with pytest.raises(ValueError, match="looks like a URL"):
        use("s3://bucket/x")
    assert everything(folder) == before


@pytest.mark.parametrize(
    "line",
    [
        "run s3://b/m.zarr -o out.zarr",
        "run movie.zarr -o s3://b/out.zarr",
        "run movie.zarr -o s3:/b/out.zarr --resume",
        "run movie.zarr -o s3://b/out.zarr --dry-run",
        "info s3://b/out.zarr",
        "verify gs://b/out.zarr",
        "report s3://b/out.zarr",
        "report store.zarr -o s3://b/out.html",
        "plot s3://b/out.zarr",
        "plot store.zarr -o s3://b/out.png",
        "demo -o s3://b/demo",
    ],
)
def test_urls_are_refused_on_the_command_line(folder, line):
    run_spatial_mean("movie.zarr", "store.zarr")
    before = everything(folder)
    done = call_line(line)
    assert done.exit_code == 2
    assert "looks like a URL" in done.stderr
    assert done.stderr.count("\n") == 1
    assert everything(folder) == before


@pytest.mark.parametrize("path", ["C:/movies/a.zarr", "a:b.tif", "time 12:30/x.zarr", "./s3:/x"])
def test_these_are_no_urls(path):
    assert local_path(path) == Path(path)


@pytest.mark.parametrize(
    "name", ["x.TIFF", "x.ome.tif", "a/x.raw", "x.h5", "x.nd2", "x.png", "x.npy", "x.zarr.zip"]
)
def test_a_store_is_a_folder(folder, name):
    before = everything(folder)
    for use in (
        lambda: run_spatial_mean("movie.zarr", name),
        lambda: run_spatial_mean("movie.zarr", name, resume=True),
        lambda: plan_spatial_mean("movie.zarr", destination=name),
    ):
        with pytest.raises(ValueError, match=r"a store is a folder, usually named NAME\.zarr"):
            use()
    assert everything(folder) == before


# ---- ~ -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, Path])
def test_home_is_written_out(folder, kind):
    result = run_spatial_mean(kind("~/movie.tif"), kind("~/out.zarr"))
    assert result.path == folder / "home/out.zarr"
    assert len(run_spatial_mean(kind("~/m*.tif"), kind("~/glob.zarr")).bkgds[0]) == len(MOVIE)
    assert open_backgrounds(kind("~/out.zarr")).path == result.path
    assert verify_backgrounds(kind("~/out.zarr"), sample=1).problems == []


@pytest.mark.parametrize(
    ("line", "made"),
    [
        ("run '~/movie.tif' -o '~/b.zarr'", "b.zarr/zarr.json"),
        ("report '~/out.zarr'", "out.html"),
        ("report '~/out.zarr' -o '~/page.html'", "page.html"),
        ("plot '~/out.zarr'", "out.png"),
        ("plot '~/out.zarr' -o '~/picture.svg'", "picture.svg"),
        ("info '~/out.zarr'", "out.zarr"),
        ("verify '~/out.zarr'", "out.zarr"),
        pytest.param("demo -o '~/demo' --frames 2", "demo/demo.png", marks=pytest.mark.slow),
    ],
)
def test_home_on_the_command_line(folder, line, made):
    run_spatial_mean("~/movie.tif", "~/out.zarr")
    done = call_line(line)
    assert done.exit_code == 0, done.output
    assert (folder / "home" / made).exists()
    assert not (folder / "~").exists()


def test_nobodys_home(folder):
    Path("~movie.tif").write_bytes(Path("home/movie.tif").read_bytes())
    assert open_channels("~movie.tif")[0].shape == MOVIE.shape
    with pytest.raises(ValueError, match="there is no such home folder: write the path in full"):
        run_spatial_mean("movie.zarr", "~nobody-of-that-name/out.zarr")


# ---- places --------------------------------------------------------------------------------------


def test_a_result_stays_where_it_is(folder, monkeypatch):
    written = run_spatial_mean("movie.zarr", "b.zarr")
    expected = written.bkgds[0].compute()
    opened = open_backgrounds("b.zarr")  # its lazy arrays are made later
    Path("other").mkdir()
    zarr.create_array("other/movie.zarr", data=MOVIE + 1, chunks=(2, 20, 24))
    monkeypatch.chdir("other")
    run_spatial_mean("movie.zarr", "b.zarr")  # another one, of the same name
    for result in (written, opened, open_backgrounds(written.path)):
        np.testing.assert_array_equal(result.bkgds[0].compute(), expected)
        assert result.path == folder / "b.zarr"


@pytest.fixture
def linked(folder):
    """A link whose .. is elsewhere, and a movie of one name on both sides."""
    Path("far/away").mkdir(parents=True)
    zarr.create_array("far/m.zarr", data=MOVIE + 100, chunks=(2, 20, 24))
    zarr.create_array("m.zarr", data=MOVIE, chunks=(2, 20, 24))
    Path("link").symlink_to("far/away")
    return folder


@pytest.mark.parametrize("source", ["link/../m.zarr", "link/./../m.zarr"])
def test_the_recorded_source_is_the_one_that_was_read(linked, source):
    path = run_spatial_mean(source, "b.zarr").path
    attributes = zarr.open_group(path, mode="r").attrs["smlmlp_dask"]
    assert attributes["sources"] == [str(linked / "far/m.zarr")]
    report = verify_backgrounds(path, sample=1)
    assert (report.recomputed, report.problems) == (1, [])


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("m.zarr", "m.zarr"),
        ("far/../m.zarr", "m.zarr"),
        ("link", "link"),  # a link stays one
        ("link/m.zarr", "link/m.zarr"),
        ("link/../m*.tif", "far/m*.tif"),
        ("link/../../m.zarr", "m.zarr"),
        ("f*/../m.zarr", "f*/../m.zarr"),  # which one that is, nobody knows yet
        ("gone/../m.zarr", "gone/../m.zarr"),  # not there, for the system
    ],
)
def test_absolute_paths(linked, path, expected):
    assert str(absolute_path(path)) == f"{linked}/{expected}"


# ---- what counts as the source -------------------------------------------------------------------


def pages():
    Path("pages").mkdir()
    for index, frame in enumerate(MOVIE):
        tifffile.imwrite(f"pages/{index}.tif", frame, photometric="minisblack")
    return "pages"


def stray(folder):
    Path(folder, "notes.txt").write_text("after lunch")
    Path(folder, ".DS_Store").write_text("x")
    Path(folder, "dangling").symlink_to("gone")
    Path(folder, "sub").mkdir()
    Path(folder, "sub/notes.txt").write_text("more")
    Path(folder, "loop").symlink_to(Path(folder).absolute())


def strange(*_):
    for name in ("notes.txt", ".DS_Store", "c/notes.txt", "c/0/0/.nfs01"):
        Path("movie.zarr", name).write_text("x")
    Path("movie.zarr/dangling").symlink_to("gone")
    Path("movie.zarr/c/4").mkdir()
    Path("movie.zarr/c/4/loop").symlink_to(Path("movie.zarr").absolute())


@pytest.mark.parametrize("source", ["pages", "movie.zarr"])
def test_what_is_not_read_may_come_and_go(folder, source):
    if source == "pages":
        pages()
    before = source_identity(Path(source))
    result = run_spatial_mean(source, "b.zarr")
    (stray if source == "pages" else strange)(source)
    assert source_identity(Path(source)) == before
    assert run_spatial_mean(source, "b.zarr", resume=True).path == result.path
    assert verify_backgrounds("b.zarr", sample=1).problems == []


@pytest.mark.parametrize(
    "change",
    [
        lambda: tifffile.imwrite("pages/9.tif", MOVIE[0], photometric="minisblack"),
        lambda: Path("pages/0.tif").unlink(),
        lambda: os.utime("pages/0.tif", ns=(1, 1)),
        lambda: shutil.copy("pages/0.tif", "pages/1.tif"),
        lambda: Path("movie.zarr/c/0/0/0").unlink(),
        lambda: os.utime("movie.zarr/c/1/0/0", ns=(1, 1)),
        lambda: os.utime("movie.zarr/zarr.json", ns=(1, 1)),
        lambda: shutil.copytree("movie.zarr/c/0", "movie.zarr/c/7"),
    ],
)
def test_what_is_read_counts(folder, change):
    pages()
    before = [source_identity(Path(source)) for source in ("pages", "movie.zarr")]
    change()
    assert [source_identity(Path(source)) for source in ("pages", "movie.zarr")] != before


def test_every_file_of_a_tidy_store_counts(folder):
    for zarr_format, options in ((2, {}), (3, {}), (3, {"shards": (4, 20, 24)})):
        root = zarr.create_group(f"tidy{len(everything(folder))}.zarr", zarr_format=zarr_format)
        root.create_array("a/b", data=MOVIE, chunks=(2, 20, 24), **options)
        root.create_array("scalar", data=np.array(3.0))
        path = Path(root.store.root)
        files = [file for file in path.rglob("*") if file.is_file()]
        assert source_identity(path)["files"] == len(files)


def test_a_tiff_that_links_to_nothing_is_a_frame_that_is_missing(folder):
    pages()
    Path("pages/5.tif").symlink_to("gone.tif")
    with pytest.raises(FileNotFoundError, match=r"5\.tif is a link to a file that does not exist"):
        open_channels("pages")


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("moive.tif", "did you mean movie.tif?"),
        ("movie.tiff", "did you mean movie.tif?"),
        ("movie", "did you mean movie.tif?"),  # people leave endings out
        ("Cells.zarr", "did you mean cells.zarr?"),
        ("film.tif", ""),
        ("gone/movie.tif", ""),
    ],
)
def test_a_missing_path_is_compared_with_names_beside_it(tmp_path, typed, asked):
    for name in ("movie.tif", "other.tif", "cells.zarr"):
        (tmp_path / name).touch()
    assert mistyped(tmp_path / typed) == asked


@pytest.mark.parametrize("open_path", [open_channels, open_backgrounds])
def test_an_error_of_a_mistyped_path_asks_for_the_one_meant(tmp_path, open_path):
    (tmp_path / "cells.zarr").mkdir()
    with pytest.raises(FileNotFoundError, match=r"does not exist: did you mean cells\.zarr\?$"):
        open_path(tmp_path / "cels.zarr")
