"""One rule for what exists already: `--resume`, `--overwrite`, or a refusal that names both."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from smlmlp_dask import convert_movies, open_backgrounds, run_background, run_spatial_mean
from smlmlp_dask.cli.errors import to_resume
from smlmlp_dask.store.lock import sole_writer
from tests.commands import call_line as call
from tests.stored import contents


@pytest.fixture
def folder(folder):
    """A movie, and its finished store."""
    run_spatial_mean("movie.tif", "store.zarr", 2.0)
    return folder


def everything(folder):
    return {path: path.is_file() and path.read_bytes() for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize(
    ("line", "written", "resumes"),
    [
        ("run movie.tif -o store.zarr", "store.zarr", True),
        ("convert movie.tif -o store.zarr", "store.zarr", True),
        ("export store.zarr -o file.raw", "file.raw", True),
        ("export store.zarr -o file.tif", "file.tif", True),
        ("plot store.zarr -o file.png", "file.png", False),
        ("report store.zarr -o file.html", "file.html", False),
        ("report store.zarr --no-verify", "store.html", False),
        ("demo -o shown --frames 2", "shown", False),
        ("run movie.tif -o new.zarr --save-job job.toml", "job.toml", False),
    ],
)
@pytest.mark.filterwarnings("default:.*of float32 pixels")
def test_what_exists_is_refused_or_replaced(folder, line, written, resumes):
    if written != "store.zarr":
        made = call(line)
        assert made.exit_code == 0, made.output
        shutil.rmtree("new.zarr", ignore_errors=True)
    before = everything(folder)
    refused = call(line)
    assert refused.exit_code == 2
    (said,) = refused.stderr.splitlines()
    assert f"{written} exists" in said
    assert "--overwrite" in said
    assert ("--resume" in said) == resumes
    assert everything(folder) == before

    replaced = call(f"{line} --overwrite")
    assert replaced.exit_code == 0, replaced.output
    assert Path(written).exists()
    if resumes:
        both = call(f"{line} --overwrite --resume")
        assert both.exit_code == 2
        assert "contradict" in both.stderr


def test_a_store_is_replaced_by_a_new_one(folder, tmp_path):
    fresh = run_spatial_mean("movie.tif", "fresh.zarr", 3.0).path
    again = run_spatial_mean("movie.tif", "store.zarr", 3.0, overwrite=True).path
    assert contents(again) == contents(fresh)
    assert not list(tmp_path.glob(".*"))
    # other outputs, another kind of store, an unfinished one: all are ours
    both = run_background(
        "movie.tif", "store.zarr", outputs=["background", "signal"], pedestal=9, overwrite=True
    )
    assert both.signals is not None
    convert_movies("movie.tif", "store.zarr", overwrite=True)
    root = Path("store.zarr/zarr.json")
    root.write_text(root.read_text().replace('"finished": true', '"finished": false'))
    Path("store.zarr/records/journal").touch()
    Path("store.zarr/channel_0/0/c/0/0/0").unlink()
    assert run_spatial_mean("movie.tif", "store.zarr", 3.0, overwrite=True).bkgds
    assert contents(again) == contents(fresh)


def test_an_interrupted_call_is_resumed_not_begun_anew(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["smlmlp-dask", "run", "a b.tif", "--overwrite", "-o", "b"])
    assert to_resume("") == "; to resume: smlmlp-dask run 'a b.tif' -o b --resume"


def test_without_a_store_it_begins_one(folder):
    assert call("run movie.tif -o new.zarr --overwrite").exit_code == 0
    assert open_backgrounds("new.zarr").bkgds


def foreign_folder():
    Path("there").mkdir()
    Path("there/thesis.tex").touch()


def foreign_file(place):
    return lambda: Path("store.zarr", place).write_text("precious")


def link():
    Path("there").symlink_to("store.zarr")


def damaged():
    Path("store.zarr/records/metadata.json").write_text("{}")


@pytest.mark.parametrize(
    ("output", "make", "said"),
    [
        ("there", foreign_folder, "there is no whole store of this program"),
        ("movie.tif", None, "is the input"),
        ("link.zarr", lambda: Path("link.zarr").symlink_to("store.zarr"), "link.zarr is a link"),
        ("store.zarr", damaged, "store.zarr is no whole store of this program"),
        ("store.zarr", foreign_file("notes.txt"), "store.zarr/notes.txt is not of the store"),
        ("store.zarr", foreign_file("channel_0/0/c/0/a.txt"), "c/0/a.txt is not of the store"),
        ("store.zarr", foreign_file("records/notes"), "records/notes is not of the store"),
        ("store.zarr", lambda: Path("store.zarr/x").symlink_to("."), "store.zarr/x is not of the"),
    ],
)
def test_nothing_of_others_is_removed(folder, output, make, said):
    if make is not None:
        make()
    before = everything(folder)
    refused = call(f"run movie.tif -o {output} --overwrite")
    assert refused.exit_code == 2
    assert said in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert everything(folder) == before


@pytest.mark.parametrize("source", ["store.zarr", "store.zarr/channel_0", "store.zarr/x.tif"])
@pytest.mark.filterwarnings("default:.*it holds backgrounds")
def test_a_source_is_never_replaced(folder, source):
    if source.endswith(".tif"):
        shutil.copy("movie.tif", source)
    before = everything(folder)
    refused = call(f"run {source} -o store.zarr --overwrite")
    assert refused.exit_code == 2
    assert "input" in refused.stderr
    assert everything(folder) == before


@pytest.mark.parametrize(
    "options", ["--radius 0", "--frames 99:", "--keep-bits 99", "--memory-limit 1MB"]
)
def test_a_store_stays_if_the_job_cannot_begin(folder, options):
    before = everything(folder)
    assert call(f"run movie.tif -o store.zarr --overwrite {options}").exit_code == 2
    assert everything(folder) == before


def test_a_store_that_another_run_writes_stays(folder):
    with sole_writer(Path("store.zarr/records").absolute()):
        refused = call("run movie.tif -o store.zarr --overwrite")
        assert refused.exit_code == 2
        assert "another run is writing" in refused.stderr
        assert Path("store.zarr/zarr.json").exists()
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_a_half_removed_store_can_be_replaced(folder):
    """A kill while the old store is removed leaves its records for the next call to see."""
    Path("store.zarr/zarr.json").unlink()
    shutil.rmtree("store.zarr/channel_0")
    assert call("run movie.tif -o store.zarr --overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("line", "make"),
    [
        ("export store.zarr -o movie.tif --overwrite", None),
        ("export store.zarr -o there.raw --overwrite", lambda: Path("there.raw").mkdir()),
        ("export store.zarr -o there.raw --overwrite", lambda: Path("there.yaml").mkdir()),
        ("export store.zarr -o there.raw --overwrite", lambda: Path("there.raw.part").mkdir()),
        ("plot store.zarr -o there.png --overwrite", lambda: Path("there.png").mkdir()),
        ("report store.zarr -o movie.tif --overwrite", None),
        ("report store.zarr -o store.zarr/a.html --overwrite", None),
        ("report store.zarr -o there --overwrite", link),
        ("demo -o there --overwrite", foreign_folder),
        ("demo -o . --overwrite", None),
        ("demo -o movie.tif --overwrite", None),
        ("run movie.tif -o new.zarr --save-job movie.tif --overwrite", None),
        ("run gone.tif -o new.zarr --save-job job.toml --overwrite",
         lambda: Path("job.toml").write_text("mine")),
        ("run gone.tif -o store.zarr --save-job job.toml --overwrite",
         lambda: Path("job.toml").write_text("mine")),
    ],
)  # fmt: skip
def test_files_of_others_stay(folder, line, make):
    if make is not None:
        make()
    before = everything(folder)
    refused = call(line)
    assert refused.exit_code == 2, refused.output
    assert refused.stderr.count("\n") == 1
    assert everything(folder) == before


def test_an_export_replaces_a_file_only_once_it_is_whole(folder, monkeypatch):
    from smlmlp_dask.movies.stack import Stack

    assert call("export store.zarr -o file.raw").exit_code == 0
    old = Path("file.raw").read_bytes()
    run_spatial_mean("movie.tif", "store.zarr", 5.0, overwrite=True)
    read = Stack.read

    def fail(self):
        raise OSError("the disk is on fire")

    monkeypatch.setattr(Stack, "read", fail)
    assert call("export store.zarr -o file.raw --overwrite").exit_code == 2
    assert Path("file.raw").read_bytes() == old
    monkeypatch.setattr(Stack, "read", read)
    assert call("export store.zarr -o file.raw --overwrite").exit_code == 0
    assert Path("file.raw").read_bytes() != old
    assert not Path("file.raw.part").exists()


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("plot store.zarr -o file.png", "file.png"),
        ("report store.zarr -o file.html", "file.html"),
        ("run movie.tif -o new.zarr --save-job file.toml", "file.toml"),
    ],
)
def test_a_file_stays_if_the_disk_is_full(folder, line, file):
    resource = pytest.importorskip("resource", reason="only POSIX limits the size of files")
    assert call(line).exit_code == 0
    before = everything(folder)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
    try:
        done = call(f"{line} --overwrite")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert done.exit_code == 2
    assert re.fullmatch(rf"Error: .*{re.escape(file)} cannot be written.*\n", done.stderr)
    assert everything(folder) == before


def test_a_store_is_unfinished_on_the_disk_before_it_is_removed(folder, monkeypatch):
    synced, removed = [], []
    sync, remove = os.fsync, shutil.rmtree

    def fsync(descriptor):
        sync(descriptor)
        if not Path("store.zarr/zarr.json").exists():
            synced.append(os.path.samestat(os.fstat(descriptor), Path("store.zarr").stat()))

    def rmtree(path, *options, **more):
        removed.append((path, any(synced)))
        remove(path, *options, **more)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(shutil, "rmtree", rmtree)
    assert call("run movie.tif -o store.zarr -r 5 --overwrite").exit_code == 0
    of_store = [before for path, before in removed if path.is_relative_to(folder / "store.zarr")]
    assert of_store
    assert all(of_store)


def test_a_demo_is_replaced_whole(folder):
    assert call("demo -o shown --frames 2").exit_code == 0
    assert call("demo -o shown --frames 3 --overwrite").exit_code == 0
    assert len(open_backgrounds("shown/background.zarr").bkgds[0]) == 3
    Path("shown/movie.zarr/mine.txt").touch()
    refused = call("demo -o shown --overwrite")
    assert refused.exit_code == 2
    assert Path("shown/movie.zarr/mine.txt").exists()
