"""What every reader of a format owes: the same pixels for every part, from small recipes."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from smlmlp_dask.movies.opening import open_stacks
from smlmlp_dask.movies.selection import Selection

PARTS = [
    {},
    {"frames": slice(2, 7)},
    {"frames": slice(None, None, -1)},
    {"frames": slice(9, 0, -4)},
    {"frames": slice(1, None, 3), "bboxes": [[(1, 2, 4, 7), (0, 0, 1, 1), (3, 3, 5, 4)]]},
    {"bboxes": [[(0, 1, 5, 2)]], "flips": [(True, False)]},
    {"bboxes": [[(2, 0, 5, 9)]], "flips": [(False, True)]},
    {"frames": slice(5, 6), "flips": [(True, True)]},
]
"""Selections of one channel of at least (11, 9, 6)."""


def stacks(path, **given):
    return open_stacks(path, selection=Selection.checked(**given))


def assert_reads(path, *channels, **given):
    """Every part of these channels is NumPy's, small to pickle, and right on 8 threads."""
    for part in PARTS:
        boxes = (part.get("bboxes") or [None])[0] or [None]
        flips = (part.get("flips") or [(False, False)])[0]
        opened = stacks(
            path,
            **part | given | {"flips": [flips] * len(channels) * len(boxes)},
        )
        assert len(opened) == len(channels) * len(boxes)
        expected = []
        for channel in channels:
            for box in boxes:
                x0, y0, x1, y1 = box or (0, 0, *channel.shape[:0:-1])
                pixels = channel[part.get("frames", slice(None)), y0:y1, x0:x1]
                expected.append(pixels[:, :: 1 - 2 * flips[0], :: 1 - 2 * flips[1]])
        for stack, pixels in zip(opened, expected, strict=True):
            assert stack.dtype == channels[0].dtype.newbyteorder("=")
            read = stack.read()
            assert read.flags.c_contiguous
            assert read.dtype.isnative
            np.testing.assert_array_equal(read, pixels)
            frame = stack.part((slice(0, 1), slice(None), slice(None)))
            assert len(pickle.dumps(frame)) < 2000
            np.testing.assert_array_equal(pickle.loads(pickle.dumps(frame)).read(), pixels[:1])
    assert_threads_read_right(path, *channels, **given)


def assert_threads_read_right(path, *channels, **given):
    tasks = [
        (stack.part((slice(t, t + 2), slice(None), slice(None))), channel[t : t + 2])
        for _ in range(4)
        for stack, channel in zip(stacks(path, **given), channels, strict=True)
        for t in range(len(channel) - 1)
    ]
    with ThreadPoolExecutor(8) as pool:
        for read, (_, pixels) in zip(
            pool.map(lambda task: task[0].read(), tasks), tasks, strict=True
        ):
            np.testing.assert_array_equal(read, pixels)
