"""What is on the disk when a store says that it is finished, and what is made of a crash."""

import errno
import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from smlmlp_dask import open_backgrounds, run_spatial_mean
from smlmlp_dask.movies.stack import SourceReadError
from smlmlp_dask.pipeline import running as pipeline
from smlmlp_dask.pipeline.verify import verify_backgrounds
from smlmlp_dask.store import durable
from smlmlp_dask.store import journal as records
from smlmlp_dask.store import write as store_writing
from smlmlp_dask.store.chunk_files import chunk_path
from smlmlp_dask.store.journal import Journal
from smlmlp_dask.store.read import progress
from tests.stored import contents

UNIT, N_BLOCKS = 17, 4  # a prime, and more frames of 512 x 512 than a block has


@pytest.fixture(scope="module")
def pixels():
    """Four blocks."""
    frame = np.random.default_rng(1).poisson(100, (512, 512)).astype("u2")
    return np.stack([np.roll(frame, shift) for shift in range(N_BLOCKS * UNIT)])


@pytest.fixture
def movie(pixels, tmp_path):
    path = tmp_path / "movie.zarr"
    zarr.create_array(path, data=pixels, chunks=(UNIT, 512, 512), compressors=None)
    return path


def after(monkeypatch, n_blocks, act):
    """Act once so many blocks of a job are done, and no other runs."""
    run_tasks = pipeline.run_tasks

    def run(function, arguments, on_done, **options):
        done = []

        def tell(argument, result):
            on_done(argument, result)
            done.append(argument)
            if len(done) == n_blocks:
                act()

        run_tasks(function, arguments, tell, **{**options, "side_by_side": 1})

    monkeypatch.setattr(pipeline, "run_tasks", run)


# ---- the order in which a store reaches the disk ------------------------------------------------


@pytest.fixture
def synced(monkeypatch):
    """List what is brought to the disk, in order: files and folders; and what gets a name."""
    events = []

    def watch(name):
        sync = getattr(os, name)

        def call(descriptor):
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            sync(descriptor)
            events.append(path)

        monkeypatch.setattr(os, name, call)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("what a descriptor is open on can be told on Linux only")
    watch("fsync")
    watch("fdatasync")
    return events


def test_all_is_on_the_disk_before_finished_is_set(movie, tmp_path, synced, monkeypatch):
    out = tmp_path / "new/out.zarr"
    said = []
    set_finished = store_writing.set_finished

    def note(path, *, finished):
        said.append((list(synced), {p for p in path.rglob("*") if p.name != "lock"}))
        set_finished(path, finished=finished)

    monkeypatch.setattr(store_writing, "set_finished", note)
    run_spatial_mean(movie, out)
    [(before, there)] = said
    (draft,) = {
        parent.name for path in before for parent in path.parents if parent.name.endswith(".new")
    }
    on_disk = {Path(str(path).replace(draft, out.name)) for path in before}
    on_disk = {path.with_name(path.name.split("json.")[0] + "json") if ".partial" in path.name
               else path for path in on_disk}  # fmt: skip
    unnamed = {out / "records/owner", out / "records/journal"}  # theirs is no loss
    assert there - unnamed <= on_disk
    assert {out, out.parent, out.parent.parent} <= on_disk
    chunks = [i for i, path in enumerate(before) if "channel_0/0/c" in str(path)]
    journal = [i for i, path in enumerate(before) if path.name == "journal"]
    assert len(chunks) >= N_BLOCKS
    assert max(chunks) < max(journal)
    # The last word, too, is there before the call returns: bytes first, then the name.
    last = [path.name.split(".")[0] for path in synced[len(before) :]]
    assert last[:2] == ["zarr", "out"]


def test_a_disk_that_cannot_keep_what_it_was_given(movie, tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        run_spatial_mean(movie, tmp_path / "out.zarr")
    assert list(tmp_path.iterdir()) == [movie]


def test_a_disk_that_fails_later(movie, tmp_path, monkeypatch):
    def fail(files, top):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(store_writing, "sync_files", fail)
    monkeypatch.setattr(store_writing, "_create", _created_without_sync(monkeypatch))
    with pytest.raises(OSError, match="Input/output error"):
        run_spatial_mean(movie, tmp_path / "out.zarr")
    with pytest.raises(ValueError, match="is not finished"):
        open_backgrounds(tmp_path / "out.zarr")


def _created_without_sync(monkeypatch):
    create = store_writing._create

    def call(*arguments):
        with monkeypatch.context() as patch:
            patch.setattr(store_writing, "sync_files", durable.sync_files)
            return create(*arguments)

    return call


def test_a_file_system_that_cannot_sync_is_reported_once(movie, tmp_path, monkeypatch, caplog):
    def refuse(descriptor):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    monkeypatch.setattr(os, "fdatasync", refuse)
    with caplog.at_level(logging.INFO, "smlmlp_dask"):
        run_spatial_mean(movie, tmp_path / "out.zarr")
    told = [record.message for record in caplog.records if "loss of power" in record.message]
    assert told == [
        f"the file system of {tmp_path} cannot bring names to the disk: after a loss of power, "
        "check the store by smlmlp-dask verify"
    ]
    assert verify_backgrounds(tmp_path / "out.zarr").problems == []


# ---- a crash, or none, between two runs ----------------------------------------------------------


@pytest.mark.parametrize(
    ("rewrite", "trusted"),
    [
        (lambda lines: ["# boot this one", *lines], True),
        (lambda lines: ["# boot another one", *lines], False),
        (lambda lines: lines, False),
        (lambda lines: [], False),
    ],
    ids=["the same start", "another start", "a journal that does not tell", "an empty journal"],
)
def test_after_a_crash_every_byte_is_looked_at(movie, tmp_path, monkeypatch, rewrite, trusted):
    out = tmp_path / "out.zarr"
    whole = contents(run_spatial_mean(movie, tmp_path / "whole.zarr").path)
    monkeypatch.setattr(records, "this_boot", lambda: "this one")
    with monkeypatch.context() as patch:
        after(patch, 2, _stop)
        with pytest.raises(KeyboardInterrupt):
            run_spatial_mean(movie, out)
    journal = out / "records/journal"
    done = Journal.read(journal).done
    lines = [line for line in journal.read_text().splitlines() if not line.startswith("#")]
    journal.write_text("".join(f"{line}\n" for line in rewrite(lines)))
    chunk = chunk_path(out / "channel_0/0", (next(iter(done))[1], 0, 0))
    data = chunk.read_bytes()
    lost = b"\0" * (len(data) - 4) + data[-4:]  # a page that never reached the disk
    chunk.write_bytes(lost)
    run_spatial_mean(movie, out, resume=True)
    assert (chunk.read_bytes() == lost) is trusted
    assert (contents(out) == whole) is not trusted
    assert bool(verify_backgrounds(out).problems) is trusted


def _stop():
    raise KeyboardInterrupt


# ---- a movie that changes while it is read -------------------------------------------------------


def overwrite(path):
    tifffile.imwrite(path, np.full((9, 512, 512), 7, "u2"), photometric="minisblack")


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("zarr", lambda path: shutil.rmtree(path / "c/3")),
        ("zarr", lambda path: os.utime(path / "c/0/0/0", ns=(1, 1))),
        ("tif", overwrite),
    ],
    ids=["chunks deleted", "a chunk touched", "a TIFF overwritten"],
)
def test_a_movie_that_changes_under_the_run(movie, tmp_path, monkeypatch, kind, change):
    source, out = movie, tmp_path / "out.zarr"
    if kind == "tif":
        source = tmp_path / "movie.tif"
        pixels = zarr.open_array(movie)[:]
        tifffile.imwrite(source, pixels, photometric="minisblack")
    with monkeypatch.context() as patch:
        after(patch, 1, lambda: change(source))
        with pytest.raises(SourceReadError, match=r"movie\.(zarr|tif)"):
            run_spatial_mean(source, out)
    with pytest.raises(ValueError, match="is not finished"):
        open_backgrounds(out)


def test_what_was_read_before_a_change_is_not_kept(movie, tmp_path, monkeypatch):
    """The movie may come back as it was, time and all, and half of the store be of the other."""
    out, chunk = tmp_path / "out.zarr", movie / "c/2/0/0"
    whole = contents(run_spatial_mean(movie, tmp_path / "whole.zarr").path)
    pixels, times = chunk.read_bytes(), chunk.stat()
    with monkeypatch.context() as patch:
        after(patch, 1, chunk.unlink)  # Zarr reads what is missing as 0
        with pytest.raises(
            SourceReadError, match=r"movie\.zarr has changed while .* the store stays unfinished"
        ):
            run_spatial_mean(movie, out)
    assert progress(out).done == 0
    chunk.write_bytes(pixels)
    os.utime(chunk, ns=(times.st_atime_ns, times.st_mtime_ns))
    run_spatial_mean(movie, out, resume=True)
    assert contents(out) == whole


# ---- resumed and finished stores -----------------------------------------------------------------


def test_metadata_of_an_unfinished_store_are_restored(movie, tmp_path, monkeypatch):
    out = tmp_path / "out.zarr"
    whole = contents(run_spatial_mean(movie, tmp_path / "whole.zarr").path)
    with monkeypatch.context() as patch:
        after(patch, 2, _stop)
        with pytest.raises(KeyboardInterrupt):
            run_spatial_mean(movie, out)
    (out / "channel_0/0/zarr.json").unlink()
    (out / "channel_0/zarr.json").write_text("{}")
    run_spatial_mean(movie, out, resume=True)
    assert contents(out) == whole


def test_the_root_holds_no_word_of_ours_twice(movie, tmp_path):
    """`finished` is written into the text of the root group: a path must not be taken for it."""
    strange = tmp_path / '"finished": false'
    strange.mkdir()
    moved = shutil.move(movie, strange / "movie.zarr")
    out = run_spatial_mean(moved, tmp_path / "out.zarr").path
    attributes = json.loads((out / "zarr.json").read_text())["attributes"]["smlmlp_dask"]
    assert attributes["finished"] is True
    assert attributes["sources"] == [str(strange / "movie.zarr")]
    assert verify_backgrounds(out).problems == []
