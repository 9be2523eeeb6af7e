"""The compiled grey opening of blocks in memory.

The disk is symmetric and its rows have no gaps. So the smallest pixel under it is the smallest of
its rows' smallest, and that of a wider row is that of a narrower one or one of two pixels more.

Pixels are keys, as those of `median_loops`: the bits of float32 in the order of their values. An
integer's order is total, so that the bits of the result depend on nothing but the pixels.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .compiling import COMPILING, compiled
from .loops import Floats
from .median_loops import MANTISSA, NAN_KEY, Keys
from .parts import plain, readable, share_out

OPENING_VERSION = 1
"""Increase it with every change that changes any bit of any opening."""

LOWEST = -(2**31)
HIGHEST = 2**31 - 1


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


def open_frames(
    frames: npt.NDArray[Any], reach: npt.NDArray[np.int64], values: Floats, bits: Keys, out: Keys
) -> None:
    """Erode, then dilate each frame; `out` is the result's float32 seen as int32.

    ``reach[d]`` is how far the disk's row at distance d from its centre goes to either side, or -1
    where it has none. `values`, of one row, is the same memory as `bits`.
    """
    count, height, width = frames.shape
    keys = np.empty((height, width), np.int32)
    for index in range(count):
        for y in range(height):
            row, line = frames[index, y], keys[y]
            for x in range(width):
                values[x] = np.float32(row[x])
            for x in range(width):
                bit = bits[x]
                key = bit if bit >= 0 else np.int32(bit ^ MANTISSA)
                # below all numbers: so a NaN spreads over all that it lies under
                line[x] = key if (bit & MANTISSA) <= 0x7F800000 else LOWEST
        result = out[index]
        erode(keys, reach, result)
        # A dilation is an erosion in the opposite order, in which NaN must be lowest again.
        for y in range(height):
            line, row = keys[y], result[y]
            for x in range(width):
                line[x] = ~row[x] if row[x] != LOWEST else LOWEST
        erode(keys, reach, result)
        for y in range(height):
            row = result[y]
            for x in range(width):
                key = ~row[x] if row[x] != LOWEST else np.int32(NAN_KEY)
                row[x] = key if key >= 0 else np.int32(key ^ MANTISSA)


def erode(keys: Keys, reach: npt.NDArray[np.int64], out: Keys) -> None:
    """Write the smallest key under the disk; each row goes where the disk reaches from it."""
    height, width = keys.shape
    widest = reach[0]
    padded = np.full(width + 2 * widest, HIGHEST, np.int32)
    least = np.empty(width, np.int32)
    out[:] = HIGHEST
    for y in range(height):
        padded[widest : widest + width] = keys[y]
        least[:] = keys[y]
        for half in range(widest + 1):
            if half:
                # slices, since Numba would look at each index whether it is negative
                left = padded[widest - half : widest - half + width]
                right = padded[widest + half : widest + half + width]
                for x in range(width):
                    one, other = left[x], right[x]
                    smaller = one if one < other else other
                    least[x] = smaller if smaller < least[x] else least[x]
            for distance in range(len(reach)):
                if reach[distance] != half:
                    continue
                for target in (y - distance, y + distance):
                    if 0 <= target < height:
                        line = out[target]
                        for x in range(width):
                            line[x] = least[x] if least[x] < line[x] else line[x]


@functools.cache
def _compiled(dtype: str) -> Callable[..., None]:
    """Return the compiled loop for C-contiguous frames of `dtype`."""
    import numba
    from numba import types
    from numba.extending import register_jitable

    register_jitable(erode)
    frames = types.Array(numba.from_dtype(np.dtype(dtype)), 3, "C", readonly=True)
    reach, values = types.Array(types.int64, 1, "C"), types.Array(types.float32, 1, "C")
    bits, out = types.Array(types.int32, 1, "C"), types.Array(types.int32, 3, "C")
    signature = types.void(frames, reach, values, bits, out)
    return compiled(open_frames, signature, dtype, sys.modules[__name__])
