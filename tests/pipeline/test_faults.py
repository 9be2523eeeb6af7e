"""What is left of a job that is killed, starved or disturbed, and that it comes out the same."""

import errno
import logging
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from smlmlp_dask import run_spatial_mean
from smlmlp_dask.execution.workers import local_threads
from smlmlp_dask.movies.formats import zarr_movie
from smlmlp_dask.movies.formats.zarr_movie import ZarrMovie
from smlmlp_dask.movies.stack import SourceReadError
from smlmlp_dask.pipeline import block
from smlmlp_dask.pipeline.verify import verify_backgrounds
from smlmlp_dask.store import chunk_files, write
from smlmlp_dask.store import journal as records
from smlmlp_dask.store.chunk_files import chunk_path, stored_checksum
from smlmlp_dask.store.read import Progress, progress, read_attributes
from tests.conftest import SHARED
from tests.processes import SLOW_SECONDS, finish, go_on, journal, living, start, wait_for
from tests.stored import contents

pytestmark = pytest.mark.slow

FRAMES, CHUNK = 480, 16  # a chunk of 16 frames of 512 x 512 is a block: 30 of them
N_BLOCKS = FRAMES // CHUNK


def frames_of_a_camera(count, size):
    """Real frames, each shifted by a pixel so that no two are the same; else simulated ones."""
    real = SHARED / "data/stuck_particles.tif"
    if real.exists():
        few = tifffile.imread(real).astype(np.uint16)
    else:
        few = np.random.default_rng(1).poisson(200, (5, 512, 512)).astype(np.uint16)
    few = few[:, :size, :size]
    return np.stack([np.roll(few[i % len(few)], i, axis=1) for i in range(count)])


def write_movie(path, pixels, chunk_frames):
    shape = (chunk_frames, *pixels.shape[1:])
    zarr.create_array(path, data=pixels, chunks=shape, compressors=None)
    return path


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    path = tmp_path_factory.mktemp("movie") / "movie.zarr"
    return write_movie(path, frames_of_a_camera(FRAMES, 512), CHUNK)


@pytest.fixture(scope="module")
def whole(movie, tmp_path_factory):
    """The files of a store that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "out.zarr"
    assert finish(start("run", movie, "-o", out)) == (0, "")
    assert verify_backgrounds(out).problems == []
    return contents(out)


def state(folder):
    """Return what changes when a file is written again, be it with the same bytes."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def drafts(out):
    """Return the stores that are made under another name; one may be left by a kill."""
    return list(out.parent.glob(f".{out.name}.*.new"))


# ---- killed ------------------------------------------------------------------------------------


def moments(out, rng):
    """When to kill one run after the other."""
    ends = time.monotonic() + rng.random()
    yield lambda: time.monotonic() > ends  # while it starts
    yield lambda: drafts(out)  # while it writes metadata
    yield out.exists
    for least in (rng.randint(1, 9), rng.randint(10, 19), rng.randint(20, 27)):
        yield partial(lambda least: len(journal(out)) >= least, least)
    yield lambda: len(journal(out)) == N_BLOCKS  # while it finishes


def test_killed_at_any_moment(movie, whole, tmp_path):
    out = tmp_path / "out.zarr"
    there, kept, kills = {}, {}, 0
    for condition in moments(out, random.Random(4)):
        process = start("run", movie, "-o", out, "--resume")
        wait_for(condition, process, may_end=True)
        process.kill()
        kills += finish(process)[0] == -signal.SIGKILL
        if not out.exists():
            assert not kept
            continue
        before, there = there, state(out / "channel_0/0/c")
        assert kept.items() <= there.items()  # what was done was not computed again
        done = {chunk_path(out / "channel_0/0", (number, 0, 0)) for _, number in journal(out)}
        in_flight = {path for path in there.keys() - done if there[path] != before.get(path)}
        assert len(in_flight) <= local_threads() or read_attributes(out)["finished"]
        kept = {path: there[path] for path in done}
    assert kills >= 6
    assert finish(start("run", movie, "-o", out, "--resume")) == (0, "")
    assert kept.items() <= state(out).items()
    assert contents(out) == whole
    assert [path for path in tmp_path.iterdir() if path not in drafts(out)] == [out]


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["threads", "processes"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(movie, whole, tmp_path, number, options):
    out = tmp_path / "a folder" / "out.zarr"  # whose name must be quoted
    process = start("run", movie, "-o", out, *options)
    wait_for(lambda: len(journal(out)) >= 3, process)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # which a terminal sends to the workers, too
    else:
        process.send_signal(number)
    code, said = finish(process)
    assert code == 128 + number
    assert said.startswith(f"Error: interrupted by {number.name}; ")
    wait_for(lambda: living(process.pid) == [])
    assert progress(out) == Progress(len(journal(out)), N_BLOCKS)
    assert go_on(said, len(journal(out))) == (0, "")
    assert contents(out) == whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("begun", [".out.zarr.*.new", "out.zarr", "out.zarr/records/journal"])
def test_interrupted_before_the_first_block(movie, tmp_path, number, begun):
    process = start("run", movie, "-o", tmp_path / "out.zarr")
    wait_for(lambda: list(tmp_path.glob(begun)), process)
    process.send_signal(number)
    assert finish(process) == (
        128 + number,
        f"Error: interrupted by {number.name}; nothing was done yet and nothing is kept\n",
    )
    assert list(tmp_path.iterdir()) == []


# ---- two runs on one store ---------------------------------------------------------------------


def test_the_second_run_refuses_while_the_first_lives(movie, whole, tmp_path):
    out = tmp_path / "out.zarr"
    first = start("run", movie, "-o", out)
    wait_for(lambda: journal(out), first)
    first.send_signal(signal.SIGSTOP)  # alive, and no quicker than the second
    done = len(journal(out))
    assert done < N_BLOCKS
    code, said = finish(start("run", movie, "-o", out, "--resume"))
    assert code == 2
    assert re.fullmatch(rf"Error: another run is writing .* \(process {first.pid} on .*\n", said)
    assert len(journal(out)) == done
    first.kill()
    first.communicate()
    kept = {chunk_path(out / "channel_0/0", (number, 0, 0)) for _, number in journal(out)}
    before = {path: stat for path, stat in state(out).items() if path in kept}
    assert finish(start("run", movie, "-o", out, "--resume")) == (0, "")
    assert before.items() <= state(out).items()
    assert contents(out) == whole


# ---- a full disk -------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """Return a function that makes a disk of so many bytes, or changes its size."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def resize(size):
        options = f"size={size}" if not os.path.ismount(folder) else f"remount,size={size}"
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"a small disk cannot be mounted here: {error}")
        return folder

    yield resize
    if os.path.ismount(folder):
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up(movie, whole, tmp_path, small_disk):
    size = sum(map(len, whole.values()))
    out = small_disk(size // 3) / "out.zarr"
    code, said = finish(start("run", movie, "-o", out))
    assert code == 2
    assert re.match(r"Error: the disk is full or your quota .*No space left on device", said)
    done = len(journal(out))
    assert 1 <= done < N_BLOCKS / 2
    kept = state(out / "channel_0/0/c")
    code, again = finish(start("run", movie, "-o", out, "--resume"))  # it is full still
    assert code == 2
    assert "No space left on device" in again
    assert len(journal(out)) >= done
    small_disk(2 * size)
    assert go_on(said, done) == (0, "")
    assert len(kept.items() - state(out).items()) <= local_threads()
    assert contents(out) == whole


def test_a_disk_that_is_full_from_the_start(movie, small_disk):
    folder = small_disk(8192)
    code, said = finish(start("run", movie, "-o", folder / "a/out.zarr"))
    assert code == 2
    assert re.fullmatch(r"Error: .*out\.zarr cannot be written \(No space left .*\n", said)
    assert list(folder.iterdir()) == []


def failing(function, calls, error):
    """Return the function as it is for so many calls and failing from then on."""
    left = iter(range(calls))

    def call(*args, **kwargs):
        if next(left, None) is None:
            raise error
        return function(*args, **kwargs)

    return call


@pytest.mark.parametrize(
    ("module", "name", "calls"),
    [(chunk_files, "write_whole", 9), (records, "_line", 9), (write, "_finish", 0)],
)
def test_no_room_for_anything(movie, whole, tmp_path, monkeypatch, module, name, calls):
    out = tmp_path / "out.zarr"
    full = OSError(errno.ENOSPC, "No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr(module, name, failing(getattr(module, name), calls, full))
        with pytest.raises(OSError, match="No space left on device"):
            run_spatial_mean(movie, out)
    assert progress(out).done == N_BLOCKS if name == "_finish" else 1 <= progress(out).done < 20
    run_spatial_mean(movie, out, resume=True)
    assert contents(out) == whole


# ---- sources that cannot be read ---------------------------------------------------------------


def test_a_chunk_that_fails_three_times(movie, whole, tmp_path, monkeypatch, caplog):
    read, failures = zarr_movie.ZarrMovie.read, iter(range(3))

    def fail_at_first(self, frames, rows, columns):
        if frames[0] == 2 * CHUNK and next(failures, None) is not None:
            raise SourceReadError(f"{self.path}: no answer")
        return read(self, frames, rows, columns)

    monkeypatch.setattr(zarr_movie.ZarrMovie, "read", fail_at_first)
    with caplog.at_level(logging.WARNING, "smlmlp_dask"):
        run_spatial_mean(movie, tmp_path / "out.zarr")
    assert [record.message.split("; ")[1] for record in caplog.records] == [
        f"trying again in {seconds:g} s" for seconds in block.RETRY_AFTER_SECONDS[:3]
    ]
    assert all("movie.zarr: no answer" in record.message for record in caplog.records)
    assert contents(tmp_path / "out.zarr") == whole


def test_a_chunk_that_cannot_be_read(movie, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(block, "RETRY_AFTER_SECONDS", (0.01,))
    out, chunk = tmp_path / "out.zarr", movie / "c/20/0/0"
    pixels, before = chunk.read_bytes(), chunk.stat()

    def put(data):  # with the times that tell a source from a changed one
        chunk.write_bytes(data)
        os.utime(chunk, ns=(before.st_atime_ns, before.st_mtime_ns))

    put(b"\0" * 100)
    try:
        with pytest.raises(
            SourceReadError, match=r"movie\.zarr: chunk c/20/0/0 \(frames 320-335\)"
        ):
            run_spatial_mean(movie, out)
    finally:
        put(pixels)
    assert 1 <= progress(out).done < N_BLOCKS
    with pytest.raises(ValueError, match="has changed since"):  # it was begun on the cut one
        run_spatial_mean(movie, out, resume=True)


# ---- damage ------------------------------------------------------------------------------------


@pytest.fixture
def raw(tmp_path):
    path = tmp_path / "movie.raw"
    path.write_bytes(frames_of_a_camera(10, 40)[:, :20].astype("<u2").tobytes())
    return path


def touch(path):
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


LONG_UNIT = 17  # a prime, and more frames of 512 x 512 than a block has: each is a chunk of its own


@pytest.fixture(scope="module")
def many_chunks(tmp_path_factory):
    """A store of 34 chunk files."""
    folder = tmp_path_factory.mktemp("chunks")
    source = write_movie(folder / "movie.zarr", frames_of_a_camera(2 * LONG_UNIT, 512), LONG_UNIT)
    out = run_spatial_mean(source, folder / "out.zarr").path
    assert len(list(out.glob("channel_0/0/c/*/0/0"))) == 2 * LONG_UNIT
    return out


@pytest.fixture
def damaged(many_chunks, tmp_path):
    """The same, to be damaged: where it is, and its chunk files in random order."""
    out = Path(shutil.copytree(many_chunks, tmp_path / "out.zarr"))
    files = sorted(out.glob("channel_0/0/c/*/0/0"))
    random.Random(7).shuffle(files)
    return out, files


AGAIN = "verify --repair computes it again"


def forge(out, frame):
    """Change the values of a chunk, and all checksums of them."""
    array = zarr.open_array(out / "channel_0/0", mode="r+")
    array[frame] = array[frame] + 1
    checksums = zarr.open_array(out / "records", mode="r+")
    checksums[frame] = stored_checksum(chunk_path(out / "channel_0/0", (frame, 0, 0)))


def test_a_deep_look_finds_a_forgery(damaged):
    out, _ = damaged
    assert verify_backgrounds(out, sample=2).problems == []
    forge(out, 20)
    assert verify_backgrounds(out).problems == []
    report = verify_backgrounds(out, sample=2)
    assert report.problems == [
        "channel_0, frames 17-33: not what the source gives; run it again to another destination"
    ]
    ended = subprocess.run(
        [sys.executable, "-m", "smlmlp_dask", "verify", str(out), "--deep", "--sample", "2"],
        check=False,
        capture_output=True,
        text=True,
        timeout=SLOW_SECONDS,
    )
    assert ended.returncode == 1
    assert ended.stdout.splitlines() == [
        *report.problems,
        "34 chunks checked, 2 blocks computed again: 1 problem",
    ]


def test_a_deep_look_does_not_compare_with_a_changed_source(many_chunks, tmp_path):
    source = tmp_path / "movie.zarr"
    shutil.copytree(many_chunks.with_name("movie.zarr"), source)
    out = run_spatial_mean(source, tmp_path / "out.zarr").path
    touch(source / "c/1/0/0")
    assert verify_backgrounds(out).problems == []
    changed = f"channel_0: not compared: {source} has changed since its background was computed"
    report = verify_backgrounds(out, sample=1)
    assert (report.problems, report.not_compared) == ([], [changed])  # the store itself is whole
    shutil.rmtree(source)
    (gone,) = verify_backgrounds(out, sample=1).not_compared
    assert gone == f"channel_0: not compared: {source} does not exist: check the path"


def test_a_deep_look_compares_the_channels_whose_movies_are_there(raw, tmp_path):
    other = shutil.copy(raw, tmp_path / "other.raw")
    layout = {"raw_shape": (10, 20, 40), "raw_dtype": "<u2"}
    out = run_spatial_mean([raw, other], tmp_path / "out.zarr", **layout).path
    array = zarr.open_array(out / "channel_1/0", mode="r+")
    array[:] = array[:] + 1
    zarr.open_array(out / "records", mode="r+")[1] = stored_checksum(
        chunk_path(out / "channel_1/0", (0, 0, 0))
    )
    raw.unlink()
    report = verify_backgrounds(out, sample=2)
    assert report.recomputed == 1
    assert report.problems == [
        "channel_1, frames 0-9: not what the source gives; run it again to another destination",
    ]
    gone = f"channel_0: not compared: {raw} does not exist: check the path"
    assert report.not_compared == [gone]


def test_a_deep_look_says_where_the_movie_cannot_be_read(damaged, monkeypatch):
    out, files = damaged
    files[0].unlink()
    original = ZarrMovie.read

    def fail(self, frames, rows, columns):
        if not self.store:
            raise SourceReadError("the disk is on fire")
        return original(self, frames, rows, columns)

    monkeypatch.setattr(ZarrMovie, "read", fail)
    report = verify_backgrounds(out, sample=2)
    assert report.recomputed == 0
    assert f"{files[0].relative_to(out)}: missing; {AGAIN}" in report.problems
    assert any("not compared: the disk is on fire" in line for line in report.not_compared)
