"""What every reader of a format owes: the same pixels for every part, from small tasks."""

import pickle
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from smlmlp_dask.movies.opening import open_recording, open_stacks
from smlmlp_dask.movies.selection import Selection

ALL = slice(None)
PARTS = [  # frames, rows and columns
    (ALL, ALL, ALL),
    (slice(2, 7), slice(2, 7), slice(1, 4)),
    (slice(None, None, -1), slice(1, None, 2), slice(None, -1)),
    (slice(9, 0, -4), slice(1, 2), ALL),
    (slice(1, None, 3), slice(3, 4), slice(3, 5)),
]


def stacks(path, **given):
    return open_stacks(path, selection=Selection.checked(**given))


def assert_reads(path, *channels, **given):
    """Every part of these channels is NumPy's, small to pickle, and right on 8 threads."""
    for stack, pixels in zip(stacks(path, **given), channels, strict=True):
        assert stack.shape == pixels.shape
        assert stack.dtype == pixels.dtype.newbyteorder("=")
        for part in PARTS:
            if pixels[part].size:
                read = stack.movie.read(range(len(pixels))[part[0]], *part[1:])
                assert read.dtype == stack.dtype
                np.testing.assert_array_equal(read, pixels[part])
        frames = [*range(len(pixels))] * 4
        tasks = [pickle.dumps(stack.part((slice(t, t + 1), ALL, ALL))) for t in frames]
        assert max(map(len, tasks)) < 2000
        with ThreadPoolExecutor(8) as pool:
            read = pool.map(lambda task: pickle.loads(task).read(), tasks)
            np.testing.assert_array_equal(np.concatenate([*read]), pixels[frames])


def assert_reads_all(path, format, pixels, axes):
    """Every position, slice and channel is there, and read right; `axes` are those of pixels."""
    absent = [axis for axis in "PZCTYX" if axis not in axes]
    order = [*absent, *axes]
    pixels = pixels.reshape(*[1] * len(absent), *pixels.shape)
    pixels = pixels.transpose([order.index(axis) for axis in "PZCTYX"])
    recording = open_recording(path)
    assert recording.format == format
    assert len(recording.positions) == len(pixels)
    assert {position.depth for position in recording.positions} == {pixels.shape[1]}
    for p, z in np.ndindex(pixels.shape[:2]):
        assert_reads(path, *pixels[p, z], position=p, z=z)


def assert_holds_what_it_says(path):
    """Compare the memory for a frame, besides its pixels, with what the movie asks for."""
    movie = open_recording(path).positions[0].movie(0, 0)
    frame_bytes = movie.shape[1] * movie.shape[2] * movie.dtype.itemsize
    for rows in (ALL, slice(1, None)):
        movie.read(range(1), rows, ALL)  # imports, and what is kept from read to read
        # other threads of this process may allocate meanwhile
        held = min(_held_while_read(movie, rows) for _ in range(3))
        said = movie.pieces[0].held_bytes(frame_bytes, whole=rows is ALL)
        assert held <= said + 0.25 * frame_bytes, (held, said, frame_bytes)
        assert said <= held + 1.2 * frame_bytes


def _held_while_read(movie, rows):
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        pixels = movie.read(range(2), rows, ALL)
        return tracemalloc.get_traced_memory()[1] - before - pixels.nbytes
    finally:
        tracemalloc.stop()
