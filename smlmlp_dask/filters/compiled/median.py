"""The compiled temporal median of blocks in memory."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .compiling import COMPILING, compiled
from .loops import Floats
from .median_loops import LANE_BYTES, slide_median
from .parts import between, share_out

MEDIAN_VERSION = 1
"""Increase it with every change that changes any bit of any median."""

# Integers whose order a key of 16 bits holds, and the bit that puts signed ones in order.
_COUNTS = {"u1": 0, "u2": 0, "i1": 0x80, "i2": 0x8000}
# Bytes of the sorted windows, and of the frames under them, that pixels filtered together take.
_CACHE_BYTES = 2**16
_MOST_GROUPS = 16


def median_frames(
    parts: Sequence[npt.NDArray[Any]],
    window_fr: int,
    start: int = 0,
    stop: int | None = None,
    *,
    threads: int = 1,
) -> Floats:
    """Return each pixel's median over the frames t - w ... t + w that `parts` hold.

    Parameters
    ----------
    parts : sequence of numpy.ndarray
        Stacks (frame, y, x) of one real integer or floating dtype, one after the other in time.
        Up to three C-contiguous ones are read in place if they are of integers of at most 16 bits;
        others are copied.
    window_fr : int
        w, the frames on each side; the window is shorter at both ends.
    start, stop : int
        The frames t to compute; all by default.
    threads : int
        Threads that share the pixels; the result's bits do not depend on it.

    Returns
    -------
    numpy.ndarray
        C-contiguous float32, shape (stop - start, y, x). Pixels are cast to float32 first. Of an
        even number of frames it is the mean of the middle two, in float32. A window with a NaN
        gives NaN; -0 is less than +0.

    Notes
    -----
    The first call for a dtype imports Numba and compiles for 1 to 2 s, or loads an earlier
    process's code from Numba's cache.
    """
    count = sum(map(len, parts))
    stop = count if stop is None else stop
    shape = parts[0].shape[1:]
    pixels = shape[0] * shape[1]
    out = np.empty((stop - start, *shape), np.float32)
    if out.size == 0:
        return out
    window_fr = min(window_fr, count - 1)
    # What lies outside the windows is not even looked at.
    low, high = max(0, start - window_fr), min(count, stop + window_fr)
    kind = parts[0].dtype.newbyteorder("=").str[1:]
    flip = _COUNTS.get(kind, 0)
    before, own, after = (
        _readable(part, kind).reshape(len(part), pixels) for part in _in_three(parts, low, high)
    )
    key: Any = np.uint16 if kind in _COUNTS else np.int32
    lanes = LANE_BYTES // np.dtype(key).itemsize
    groups = _CACHE_BYTES // (2 * LANE_BYTES * (2 * window_fr + 2))
    groups = max(1, min(groups, _MOST_GROUPS))
    nothing = np.full(groups * lanes, np.iinfo(key).max, key)
    with COMPILING:
        loop = _compiled(own.dtype.name)
    flat = out.reshape(len(out), pixels)

    def fill(left: int, right: int) -> None:
        bits = np.empty(2 * lanes, np.int32)
        loop(
            before, own, after, start - low, window_fr, flip, flat, left, right,
            groups, nothing, bits, bits.view(np.float32),
        )  # fmt: skip

    share_out(fill, pixels, threads, unit=groups * lanes)
    return out


def _in_three(
    parts: Sequence[npt.NDArray[Any]], low: int, high: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Return frames `low` to `high` as three stacks; those in the middle are joined."""
    cut = between(parts, low, high)
    nothing = parts[0][:0]
    if len(cut) > 3:
        cut = [cut[0], np.concatenate(cut[1:-1]), cut[-1]]
    first, middle, last = {1: (nothing, *cut, nothing), 2: (*cut, nothing)}.get(len(cut), cut)
    return first, middle, last


def _readable(part: npt.NDArray[Any], kind: str) -> npt.NDArray[Any]:
    """Return counts as unsigned integers, and all others as the bits of float32."""
    if kind in _COUNTS:
        native = part.astype(part.dtype.newbyteorder("="), copy=False)
        counts = np.require(native, requirements=["C", "A"])
        return counts.view(f"u{counts.itemsize}")
    with np.errstate(over="ignore", invalid="ignore"):  # beyond float32: infinite
        floats = part.astype(np.float32, copy=False)
    return np.require(floats, requirements=["C", "A"]).view(np.int32)


@functools.cache
def _compiled(dtype: str) -> Callable[..., None]:
    """Return the compiled loop for uint8 or uint16 counts, or for int32, the bits of float32."""
    import numba
    from numba import types

    from . import median_vectors

    median_vectors.teach_numba()
    frames = types.Array(numba.from_dtype(np.dtype(dtype)), 2, "C", readonly=True)
    key = types.int32 if dtype == "int32" else types.uint16
    keys, bits = types.Array(key, 1, "C"), types.Array(types.int32, 1, "C")
    values, out = types.Array(types.float32, 1, "C"), types.Array(types.float32, 2, "C")
    index = types.int64
    signature = types.void(
        frames, frames, frames, index, index, index, out, index, index, index, keys, bits, values
    )
    return compiled(slide_median, signature, dtype, median_vectors)
