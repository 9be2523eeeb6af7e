"""The compiled grey opening of blocks in memory."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .compiling import COMPILING, compiled
from .loops import Floats
from .opening_loops import open_frames
from .parts import plain, readable, share_out

OPENING_VERSION = 1
"""Increase it with every change that changes any bit of any opening."""


def grey_opening(
    frames: npt.NDArray[Any], reach: npt.NDArray[np.int64], *, threads: int = 1
) -> Floats:
    """Return the grey opening of each frame by a disk: its erosion, dilated.

    Parameters
    ----------
    frames : numpy.ndarray
        Stack (frame, y, x) of a real integer or floating dtype; cast to float32.
    reach : numpy.ndarray
        int64: how far the disk's row at distance 0, 1, ... from its centre goes to either side;
        -1 where there is no row. It does not grow.
    threads : int
        Threads that share the frames; the result's bits do not depend on it.

    Returns
    -------
    numpy.ndarray
        C-contiguous float32. Beyond a frame's edges there is nothing to be smaller or larger. A
        NaN gives NaN wherever it lies under the disk of an eroded pixel that the disk reaches.
    """
    out = np.empty(frames.shape, np.float32)
    if out.size == 0:
        return out
    dtype = readable(frames.dtype)
    count, height, width = frames.shape
    # Rows and columns that lie outside from everywhere.
    reach = np.minimum(reach[:height], width - 1)
    with COMPILING:
        loop = _compiled(dtype.name)

    def fill(start: int, stop: int) -> None:
        bits = np.empty(width, np.int32)
        values = bits.view(np.float32)
        for index in range(start, stop):
            part = plain(frames[index : index + 1], dtype)
            loop(part, reach, values, bits, out[index : index + 1].view(np.int32))

    share_out(fill, count, threads)
    return out


@functools.cache
def _compiled(dtype: str) -> Callable[..., None]:
    """Return the compiled loop for C-contiguous frames of `dtype`."""
    import numba
    from numba import types
    from numba.extending import register_jitable

    from . import opening_loops

    register_jitable(opening_loops.erode)
    frames = types.Array(numba.from_dtype(np.dtype(dtype)), 3, "C", readonly=True)
    reach, values = types.Array(types.int64, 1, "C"), types.Array(types.float32, 1, "C")
    bits, out = types.Array(types.int32, 1, "C"), types.Array(types.int32, 3, "C")
    signature = types.void(frames, reach, values, bits, out)
    return compiled(open_frames, signature, dtype, opening_loops)
