"""Frames read one by one: the same pixels, and each chunk read once."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import tifffile

from smlmlp_dask import SpatialMean, blocks, run_background
from smlmlp_dask.movies.formats.zarr_movie import ZarrMovie
from smlmlp_dask.movies.stack import SourceReadError
from smlmlp_dask.store import frames

MOVIE = np.random.default_rng(6).poisson(90, (31, 16, 22)).astype(np.uint16)


@pytest.fixture
def result(tmp_path, monkeypatch):
    """A store in chunks of 4 frames, read 4 frames at a time."""
    few = 4 * 4 * 16 * 22
    monkeypatch.setattr(blocks, "plan_blocks", partial(blocks.plan_blocks, block_bytes=few))
    short = partial(blocks.frames_per_block, block_bytes=few)
    monkeypatch.setattr(frames, "frames_per_block", short)
    tifffile.imwrite(tmp_path / "movie.tif", MOVIE, photometric="minisblack")
    outputs = ["background", "signal"]
    made = run_background(
        tmp_path / "movie.tif", tmp_path / "out.zarr", SpatialMean(3.0), outputs, pedestal=20
    )
    assert made.bkgds[0].chunksize[0] >= made.stacks[0].unit[0] == 4
    return made


@pytest.fixture
def reads(monkeypatch):
    """The first frame of every read from disk."""
    seen = []
    read = ZarrMovie.read

    def counted(movie, numbers, rows, columns):
        seen.append(numbers[0])
        return read(movie, numbers, rows, columns)

    monkeypatch.setattr(ZarrMovie, "read", counted)
    return seen


@pytest.mark.parametrize("what", ["signal", "background"])
def test_frames_are_those_of_the_lazy_stack(result, what):
    whole = (result.signals if what == "signal" else result.bkgds)[0].compute()
    reader = result.frames(what)
    assert (len(reader), reader.shape, reader.dtype, reader.ndim) == (
        31,
        (31, 16, 22),
        whole.dtype,
        3,
    )
    for i in (0, 3, 4, 30, -1, -31, np.int64(7)):
        assert reader[i].tobytes() == whole[i].tobytes()
    for part in (slice(None), slice(2, 9), slice(30, 1, -7), slice(5, 5), slice(-3, None)):
        assert reader[part].dtype == whole.dtype
        np.testing.assert_array_equal(reader[part], whole[part])
    assert sum(1 for _ in reader) == 31
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader))[9], whole[9])


def test_raw_frames_are_those_of_the_movie(tmp_path):
    movie = tmp_path / "movie.npy"
    np.save(movie, MOVIE)
    halves = [[(0, 0, 11, 16), (11, 0, 22, 16)]]
    made = run_background(
        movie,
        tmp_path / "raw.zarr",
        SpatialMean(3.0),
        ["background", "signal"],
        bboxes=halves,
        flips=[None, (False, True)],
        frames=slice(1, 30, 2),
    )
    whole = MOVIE[1:30:2, :, 11:][:, :, ::-1]
    frames = made.frames("raw", 1)
    assert (frames.shape, frames.dtype) == ((15, 16, 11), np.uint16)
    assert np.stack(list(frames)).tobytes() == whole.tobytes()
    np.testing.assert_array_equal(
        frames[4] - made.bkgds[1][4].compute(), made.frames("signal", 1)[4]
    )
    assert pickle.loads(pickle.dumps(frames))[14].tobytes() == whole[14].tobytes()
    np.save(movie, MOVIE + 1)
    with pytest.raises(OSError, match=r"raw frames of .*raw\.zarr cannot be read: .*has changed"):
        made.frames("raw", 1)


def test_raw_frames_of_an_array_are_the_callers(tmp_path):
    made = run_background(MOVIE, tmp_path / "raw.zarr", SpatialMean(3.0))
    with pytest.raises(OSError, match=r"cannot be read: .*NumPy array"):
        made.frames("raw")
    with pytest.raises(ValueError, match="gives background, raw"):
        made.frames()


def test_each_chunk_is_read_once_in_the_frames_order(result, reads):
    reader = result.frames("signal")
    for i in range(31):
        reader[i]
    assert reads == list(range(0, 31, 4))


def test_a_frame_of_the_block_before_reads_nothing(result, reads):
    reader = result.frames("signal")
    for i in (3, 4, 3, 5, 2):
        reader[i]
    assert reads == [0, 4]
    reader[8]
    reader[0]  # used last, so it stayed
    assert reads == [0, 4, 8]


def test_threads_share_a_reader(result):
    reader, whole = result.frames("signal"), result.signals[0].compute()
    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(reader.__getitem__, range(31)))
    assert np.stack(seen).tobytes() == whole.tobytes()


def test_threads_wait_for_their_own_block_only(result, monkeypatch):
    whole = result.signals[0].compute()
    begun, go_on, seen = Event(), Event(), []
    read = ZarrMovie.read

    def slow(movie, numbers, rows, columns):
        seen.append(numbers[0])
        if numbers[0] == 0:
            begun.set()
            assert go_on.wait(60)
        return read(movie, numbers, rows, columns)

    monkeypatch.setattr(ZarrMovie, "read", slow)
    reader = result.frames("signal")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(reader.__getitem__, 1)
        assert begun.wait(60)
        for i in (4, 8):  # so that the first block is no longer kept once it comes
            np.testing.assert_array_equal(reader[i], whole[i])
        go_on.set()
        np.testing.assert_array_equal(first.result(60), whole[1])
    assert seen == [0, 4, 8]


def test_a_failed_read_is_tried_again(result, monkeypatch):
    reader = result.frames("signal")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "is_file", lambda _: False)
        with pytest.raises(SourceReadError, match="is missing"):
            reader[3]
    np.testing.assert_array_equal(reader[3], result.signals[0][3].compute())


def test_what_is_returned_is_the_callers(result):
    reader = result.frames("signal")
    before = reader[0].copy()
    reader[0][:] = 0
    reader[0:1][:] = 0
    np.testing.assert_array_equal(reader[0], before)


@pytest.mark.parametrize(
    ("ask", "error", "says"),
    [
        (lambda r: r.frames("snr"), ValueError, "'snr', and .* gives background, signal, raw"),
        (lambda r: r.frames("signal", 1), ValueError, "channel is 1: .* channels 0 to 0"),
        (lambda r: r.frames("signal", -1), ValueError, "channel is -1"),
        (lambda r: r.frames()[31], IndexError, r"frames\[31\]: there are 31 frames"),
        (lambda r: r.frames()[-32], IndexError, r"frames\[-32\]"),
        (lambda r: r.frames()[0, 1], TypeError, "pass a number of a frame or a slice"),
        (lambda r: r.frames()[1.0], TypeError, "pass a number of a frame or a slice"),
        (lambda r: np.asarray(r.frames()), TypeError, "not read as a whole"),
    ],
)
def test_refusals(result, ask, error, says):
    with pytest.raises(error, match=says):
        ask(result)
