"""The signal of frames as counts: raw - background + pedestal, rounded and clipped."""

import functools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .compiling import COMPILING, compiled
from .loops import Floats
from .parts import in_parts, plain, readable

MOST = 65535
"""The largest count of uint16."""

ROUNDING = np.float32(1.5 * 2**23)
"""Added to a float32 below 2**22 and taken off again, it rounds to nearest, ties to even."""


def on_pedestal(
    raw: npt.NDArray[Any], background: npt.NDArray[np.float32], pedestal: int
) -> tuple[npt.NDArray[np.uint16], int]:
    """Return raw - background + pedestal as uint16, and how many pixels were clipped.

    Parameters
    ----------
    raw : numpy.ndarray
        Frames (frame, y, x) of a real integer or floating dtype; cast to float32.
    background : numpy.ndarray
        Of the same shape.
    pedestal : int
        From 0 to 65535.

    Returns
    -------
    signal : numpy.ndarray
        Computed in float32 and rounded to nearest, ties to even. What is beyond 0 to 65535 then is
        clipped, and what is no number becomes 0.
    clipped : int
        Pixels that are clipped or no number.
    """
    signal = np.empty(raw.shape, np.uint16)
    if signal.size == 0:
        return signal, 0
    dtype = readable(raw.dtype)
    with COMPILING:
        loop = _compiled(dtype.name)
    counts = np.zeros(1, np.int64)
    for part in in_parts(raw):
        frames = plain(raw[part], dtype)
        under = np.require(background[part], requirements=["C", "A"])
        loop(frames.ravel(), under.ravel(), np.float32(pedestal), signal[part].ravel(), counts)
    return signal, int(counts[0])


def lift(
    frames: npt.NDArray[Any],
    background: Floats,
    pedestal: np.float32,
    signal: npt.NDArray[np.uint16],
    counts: npt.NDArray[np.int64],
) -> None:
    """Fill `signal` and add the clipped pixels to ``counts[0]``; all arrays have one axis."""
    lowest, highest = np.float32(-1), np.float32(MOST + 1)
    clipped = np.int32(0)  # of fewer pixels than 2**31
    for i in range(len(signal)):
        exact = np.float32(frames[i]) - background[i] + pedestal
        near = exact if exact > lowest else lowest  # also what is no number
        near = near if near < highest else highest
        count = np.int32((near + ROUNDING) - ROUNDING)
        clipped += np.int32(count < 0) + np.int32(count > MOST)
        signal[i] = max(np.int32(0), min(count, np.int32(MOST)))
    counts[0] += clipped


@functools.cache
def _compiled(dtype: str) -> Callable[..., None]:
    """Return the compiled loop for frames of `dtype`."""
    import numba
    from numba import types

    frames = types.Array(numba.from_dtype(np.dtype(dtype)), 1, "C", readonly=True)
    background = types.Array(types.float32, 1, "C", readonly=True)
    signal, counts = types.Array(types.uint16, 1, "C"), types.Array(types.int64, 1, "C")
    signature = types.void(frames, background, types.float32, signal, counts)
    return compiled(lift, signature, dtype, sys.modules[__name__])
