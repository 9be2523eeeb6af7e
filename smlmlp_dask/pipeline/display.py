"""The range of counts in which viewers show a channel, estimated before a job writes anything."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.filters.wording import mean_of
from smlmlp_dask.movies.stack import SourceReadError, Stack

from .channels import Channel

PERCENTILES = (0.5, 99.8)
"""Percentiles of the local means that a viewer shows as darkest and brightest."""

DIGITS = 6
"""Significant digits kept: sums of floats may differ in later ones from processor to processor."""

LARGEST_SIDE = 2048
"""Most rows and columns that are looked at, in the middle of a frame."""

CHEAP_BYTES = 8 * 2**20
"""Most bytes that are decoded to read a frame if three are to be read: some 10 ms each."""


def display_ranges(channels: Sequence[Channel]) -> list[dict[str, float] | None]:
    """Estimate the display range of each channel from three raw frames, or one where that is dear.

    The metadata are written first, and protected by a checksum, so the range has to be known before
    any background is. Measured block by block and written at the end, it would be a second word in
    them that changes, after every kind of interruption. So we take the first, middle and last raw
    frame: they are the same in every run, whatever the order of blocks. Means over tiles as wide as
    the local mean stand for the background; filtering the frames would compile the filter first,
    and need a GPU where the workers have one.

    Returns
    -------
    list of dict or None
        ``min`` and ``max``, of the raw pixels, outside of which no local mean lies; ``start`` and
        ``end``, percentiles of the means. None for a channel without frames or finite pixels, or
        if a frame cannot be read: the job will say so.
    """
    return [_display_range(channel) for channel in channels]


def _display_range(channel: Channel) -> dict[str, float] | None:
    source = _middle(channel.source)
    if 0 in source.shape:
        return None
    means, least, most = [], [], []
    try:
        for number in _numbers(source):
            frame = _frame(source, number)
            # Frames that are kept as they are have no background: pixels themselves are shown.
            mean = mean_of(channel.steps)
            radii = (0.0, 0.0) if mean is None else mean.radii
            means.append(_tile_means(frame, radii))
            if (pixels := frame[np.isfinite(frame)]).size:
                least.append(float(pixels.min()))
                most.append(float(pixels.max()))
    except SourceReadError:
        return None
    finite = np.concatenate(means)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return None
    start, end = (float(f"{mean:.{DIGITS}g}") for mean in np.percentile(finite, PERCENTILES))
    if not start < end:  # a constant has no range of its own
        margin = max(0.5, abs(start) * 1e-3)
        start, end = start - margin, end + margin
    return {"min": min(*least, start), "max": max(*most, end), "start": start, "end": end}


def _middle(source: Stack) -> Stack:
    """Return the middle of the frames, as large as cameras' frames are: it bounds the memory."""
    sides = [
        slice(start, start + LARGEST_SIDE)
        for length in source.shape[1:]
        for start in (max(0, length - LARGEST_SIDE) // 2,)
    ]
    return source.part((slice(None), sides[0], sides[1]))


def _numbers(source: Stack) -> list[int]:
    """Return which frames are read: the one in the middle, and the others if they are cheap."""
    last = len(source.frames) - 1
    frames, height, width = source.movie.unit
    rows, columns = (
        -(-n // side) for n, side in zip(source.shape[1:], (height, width), strict=True)
    )
    if rows * columns * frames * height * width * source.dtype.itemsize > CHEAP_BYTES:
        return [last // 2]
    return sorted({0, last // 2, last})


def _frame(source: Stack, number: int) -> NDArray[Any]:
    """Read one frame as float32, as it is filtered."""
    part = source.part((slice(number, number + 1), slice(None), slice(None)))
    with np.errstate(over="ignore"):
        frame: NDArray[Any] = part.read()[0].astype(np.float32)
    return frame


def _tile_means(frame: NDArray[Any], radii: tuple[float, float]) -> NDArray[np.float64]:
    """Return means over tiles with the width of the Gaussian: a box of sigma r / 2 is r √3 wide.

    Small frames have at least 4 x 4 of them.
    """
    height, width = (
        max(1, min(length // 4, round(radius * 3**0.5)))
        for length, radius in zip(frame.shape, radii, strict=True)
    )
    rows, columns = frame.shape[0] // height, frame.shape[1] // width
    tiles = frame[: rows * height, : columns * width].reshape(rows, height, columns, width)
    with np.errstate(invalid="ignore"):
        means: NDArray[np.float64] = tiles.mean(axis=(1, 3), dtype=np.float64)
    return means.ravel()
