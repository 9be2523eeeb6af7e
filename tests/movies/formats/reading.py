"""That a movie of any format is read right, however it is read."""

import pickle
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np

ALL = slice(None)


def assert_reads(movie, pixels, *, threads=8):
    """Compare a movie with its pixels (frame, y, x): all, boxes, pickled, on threads at once."""
    assert movie.shape == pixels.shape
    assert movie.dtype == pixels.dtype
    frames = range(len(pixels))
    read = movie.read(frames, ALL, ALL)
    assert read.dtype == pixels.dtype
    np.testing.assert_array_equal(read, pixels)
    rows, columns = slice(1, None, 2), slice(0, pixels.shape[2] - 1)
    np.testing.assert_array_equal(
        movie.read(frames[::-1], rows, columns), pixels[::-1, rows, columns]
    )

    def narrow(frame):
        small = pickle.dumps(movie.narrow(frame, frame + 1))
        assert len(small) < 2000
        return pickle.loads(small).read(range(frame, frame + 1), ALL, ALL)[0]

    order = [frame for _ in range(threads) for frame in frames]
    with ThreadPoolExecutor(threads) as pool:
        for frame, image in zip(order, pool.map(narrow, order), strict=True):
            np.testing.assert_array_equal(image, pixels[frame])


def assert_holds_what_it_says(movie):
    """Compare the memory for a frame, besides its pixels, with what the movie asks for."""
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
