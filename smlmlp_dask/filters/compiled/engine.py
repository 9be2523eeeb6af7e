"""The compiled filter: both passes of the separable correlation, block by block.

It uses two compiled loops (`loops.py`) that give the same bits. One serves kernels of up to 15
taps, for which reading and writing take longer than the sums: it goes along whole rows, all taps
of a pixel at once. The other works on tiles of 4 x 16 or 1 x 64 pixels, whose sums stay in
registers while the taps go by: from 17 taps to 10 000, a tap costs about the same.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .compiling import COMPILING, compiled
from .loops import RUN, SHORT, Floats, filter_in_rows, filter_in_tiles
from .parts import CACHED_PIXELS, plain, readable, share_out

FILTER_VERSION = 1
"""Increase it with every change that changes any bit of any background."""

# The sum of two such values is still finite.
_HALF_RANGE = float(np.finfo(np.float32).max) / 2


def correlate_frames(
    frames: npt.NDArray[Any],
    kernel_y: Floats,
    kernel_x: Floats,
    *,
    out: Floats | None = None,
    threads: int = 1,
) -> Floats:
    """Correlate each frame with `kernel_y` along y, then with `kernel_x` along x.

    Frames are cast to float32, edges repeat the nearest pixel, and the first pass gives float32.

    Parameters
    ----------
    frames : numpy.ndarray
        Stack (frame, y, x) of a real integer or floating dtype. Byte-swapped, unaligned or not
        C-contiguous ones are copied, 2**18 pixels or one frame at a time.
    kernel_y, kernel_x : numpy.ndarray
        Symmetric float32 kernels of odd length, without zero ends, shortened by `kernels.fold`.
    out : numpy.ndarray, optional
        C-contiguous float32 array of the shape of `frames` to fill; must not overlap them.
    threads : int
        Threads that share the frames; the result's bits do not depend on it.

    Returns
    -------
    numpy.ndarray
        `out`, or else a new C-contiguous float32 array of the shape of `frames`. It is within
        1e-6 (4e-6 for radii over 20 px) of the exact sums, relative to the largest input under
        the kernel. This holds for all inputs in float32's range: the loops add opposite pixels
        before they weight them, and compute a pixel that overflows from a quarter of its inputs.
        The cast makes inputs beyond the range infinite.

    Notes
    -----
    The first call for a dtype imports Numba and compiles for 1 to 2 s, or loads an earlier
    process's code from Numba's cache. Without a writeable cache folder each process compiles.
    """
    if out is None:
        out = np.empty(frames.shape, np.float32)
    if out.size == 0:
        return out

    count, height, width = frames.shape
    # Weights at distance 0, 1, ...
    taps_y, taps_x = kernel_y[kernel_y.size // 2 :], kernel_x[kernel_x.size // 2 :]
    native = frames.dtype.newbyteorder("=")
    dtype = readable(native)
    in_place = frames.dtype == dtype and frames.flags.c_contiguous and frames.flags.aligned
    short = max(taps_y.size, taps_x.size) - 1 <= SHORT
    may_overflow = native.kind == "f" and native.itemsize > 2  # other dtypes' values are too small
    whole = in_place and not may_overflow
    run = count if whole else max(1, CACHED_PIXELS // (height * width))
    with COMPILING:
        kernel = _compiled(dtype.name, in_rows=short and width >= RUN)

    def fill(start: int, stop: int) -> None:
        for first in range(start, stop, run):
            last = min(first + run, stop)
            part = plain(frames[first:last], dtype)
            kernel(part, taps_y, taps_x, out[first:last].reshape(-1))
            if may_overflow and _any_large(part):
                _mend_overflows(kernel, part, taps_y, taps_x, out[first:last])

    share_out(fill, count, threads)
    return out


def _any_large(frames: Floats) -> bool:
    """Say whether a float32 pixel may be beyond `_HALF_RANGE`, infinite or NaN."""
    # Seen as integers, floats of one sign keep their order. So two integer reductions are enough,
    # or one if no number is negative. NaN slows float reductions down, but not these.
    sign, large = 2**31, 0x7F000000
    most = int(frames.view(np.uint32).max())
    if most < sign:
        return most >= large
    return most >= sign + large or int(frames.view(np.int32).max()) >= large


def _mend_overflows(
    kernel: Callable[..., None],
    frames: Floats,
    taps_y: Floats,
    taps_x: Floats,
    out: Floats,
) -> None:
    """Compute pixels that overflowed again, from a quarter of their inputs.

    Finite pixels stay as they are, so that no pixel depends on how a movie is cut.
    """
    for index, frame in enumerate(frames):
        with np.errstate(invalid="ignore"):  # fmin and fmax skip NaN
            low, high = np.fmin.reduce(frame, None), np.fmax.reduce(frame, None)
        if not (low < -_HALF_RANGE or high > _HALF_RANGE):
            continue
        with np.errstate(invalid="ignore"):  # a signalling NaN
            quarter = frame * np.float32(0.25)
        scaled = np.empty_like(out[index])
        kernel(quarter[np.newaxis], taps_y, taps_x, scaled.reshape(-1))
        with np.errstate(over="ignore"):
            scaled *= np.float32(4)
        np.copyto(out[index], scaled, where=~np.isfinite(out[index]) & np.isfinite(scaled))


@functools.cache
def _compiled(dtype: str, *, in_rows: bool) -> Callable[..., None]:
    """Return a compiled loop for C-contiguous frames of `dtype`, from Numba's cache if possible."""
    import numba
    from numba import types

    from . import vectors

    vectors.teach_numba()
    # A read-only signature accepts writeable arrays too.
    pixel = numba.from_dtype(np.dtype(dtype))
    frames = types.Array(pixel, 3, "C", readonly=True)
    taps = types.Array(types.float32, 1, "C", readonly=True)
    out = types.Array(types.float32, 1, "C")
    signature = types.void(frames, taps, taps, out)

    loop = filter_in_rows if in_rows else filter_in_tiles
    return compiled(loop, signature, dtype, vectors)
