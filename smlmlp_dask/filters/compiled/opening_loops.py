"""The grey opening of frames by a disk, as loops that Numba compiles.

The disk is symmetric and its rows have no gaps. So the smallest pixel under it is the smallest of
its rows' smallest, and that of a wider row is that of a narrower one or one of two pixels more.

Pixels are keys, as those of `median_loops`: the bits of float32 in the order of their values. An
integer's order is total, so that the bits of the result depend on nothing but the pixels.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from .loops import Floats
from .median_loops import MANTISSA, NAN_KEY, Keys

LOWEST = -(2**31)
HIGHEST = 2**31 - 1


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
