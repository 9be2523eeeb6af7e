"""Frames in memory, in the parts and the form that compiled loops take."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

CACHED_PIXELS = 2**18
"""Pixels that stay in a cache: so many are copied, or taken by several loops, at a time."""

_IN_PLACE = frozenset("bBhHiIlLqQf")


def readable(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the native dtype that loops read: float32 in place of float16 and float64."""
    native = dtype.newbyteorder("=")
    return native if native.char in _IN_PLACE else np.dtype(np.float32)


def plain(frames: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return frames of `dtype`, C-contiguous and aligned; a copy only if they are not."""
    with np.errstate(over="ignore"):  # values beyond float32 become infinite
        return np.require(frames.astype(dtype, copy=False), requirements=["C", "A"])


def in_parts(frames: npt.NDArray[Any]) -> Iterator[slice]:
    """Yield runs of whole frames that fit a cache, or else single frames."""
    step = max(1, CACHED_PIXELS // max(1, frames[0].size))
    for first in range(0, len(frames), step):
        yield slice(first, first + step)


def between(stacks: Sequence[Any], start: int, stop: int) -> list[Any]:
    """Return frames `start` to `stop` of stacks that follow one another, as views of each."""
    cut, at = [], 0
    for stack in stacks:
        piece = stack[max(0, start - at) : max(0, stop - at)]
        at += len(stack)
        if len(piece):
            cut.append(piece)
    return cut


def share_out(fill: Callable[[int, int], None], count: int, threads: int, *, unit: int = 1) -> None:
    """Call `fill` with the bounds of each thread's share of `count`, which are whole units."""
    units = -(-count // unit)
    shares = min(threads, units)
    bounds = [min(units * share // shares * unit, count) for share in range(shares + 1)]
    if shares == 1:
        fill(*bounds)
        return
    with ThreadPoolExecutor(shares) as pool:
        list(pool.map(fill, bounds[:-1], bounds[1:]))
