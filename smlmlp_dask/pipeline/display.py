"""The range of counts in which viewers show a channel, estimated before a job writes anything."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.filters.compiled.pedestal import MOST
from smlmlp_dask.filters.compiled.snr import Noise
from smlmlp_dask.filters.wording import mean_of
from smlmlp_dask.movies.stack import SourceReadError, Stack
from smlmlp_dask.pictures.samples import middle_box
from smlmlp_dask.store.metadata import RANGES, RANGES_OF
from smlmlp_dask.store.outputs import BACKGROUND, SIGNAL, SNR

from .job import Job

PERCENTILES = (0.5, 99.8)
"""Percentiles that a viewer shows as darkest and brightest."""

DIGITS = 6
"""Significant digits kept: sums of floats may differ in later ones from processor to processor."""

LARGEST_SIDE = 2048
"""Most rows and columns that are looked at, in the middle of a frame."""

_OTHER_RADII = (7.0, 7.0)
"""Width of the tiles whose means stand for a background without a local mean, in pixels."""

CHEAP_BYTES = 8 * 2**20
"""Most bytes that are decoded to read a frame if three are to be read: some 10 ms each."""


def display_ranges(job: Job) -> dict[str, Any]:
    """Estimate display ranges from three raw frames of each channel, or one where that is dear.

    The metadata are written first, and protected by a checksum, so the range has to be known before
    any background is. Measured block by block and written at the end, it would be a second word in
    them that changes, after every kind of interruption. So we take the first, middle and last raw
    frame: they are the same in every run, whatever the order of blocks. Means over tiles as wide as
    the local mean stand for the background; filtering the frames would compile the filter first,
    and need a GPU where the workers have one.

    Returns
    -------
    dict
        Attributes of the store: under `RANGES` a range for each channel, of its background or
        frames as they are, and under `RANGES_OF` the same of signals and SNRs. A range has ``min``
        and ``max``, outside of which nothing lies in these frames (no estimate, of an SNR), and
        percentiles ``start`` and ``end``. It is None for a channel without frames or finite pixels,
        or if a frame cannot be read: the job will say so.
    """
    each = [_ranges(job, i) for i in range(len(job.channels))]
    others = [name for name in (SIGNAL, SNR) if name in job.outputs.names]
    of_others = {name: [ranges.get(name) for ranges in each] for name in others}
    return {
        RANGES: [ranges.get(BACKGROUND) for ranges in each],
        **({RANGES_OF: of_others} if of_others else {}),
    }


Range: TypeAlias = dict[str, float] | None


def _ranges(job: Job, number: int) -> dict[str, Range]:
    """Return the ranges of a channel's background and other outputs, by their names."""
    channel, measured, outputs = job.channels[number], job.measured(number), job.outputs
    middle = middle_box(channel.source, LARGEST_SIDE)
    source = channel.source.part((slice(None), *middle))  # it bounds the memory
    if 0 in source.shape:
        return {}
    mean = mean_of(channel.steps)
    # Frames that are kept as they are have no background: pixels themselves are shown.
    radii = (0.0, 0.0) if mean is None else mean.radii
    # Other steps have no width; what they leave of the spots is much the same.
    residual_radii = _OTHER_RADII if mean is None else radii
    noise = None if measured is None else measured.noise(source, (slice(None),) * 3)
    means, signals, ratios, least, most = [], [], [], [], []
    try:
        for at in _numbers(source):
            frame = _frame(source, at)
            means.append(_tile_means(frame, radii).ravel())
            if SIGNAL in outputs.names:
                signals.append(_residual(frame, residual_radii))
            if noise is not None:
                ratios.append(_residual(frame, residual_radii, noise))
            if (pixels := frame[np.isfinite(frame)]).size:
                least.append(float(pixels.min()))
                most.append(float(pixels.max()))
    except SourceReadError:
        return {}
    level = _range(np.concatenate(means), least, most)
    if level is None:
        return {}
    ranges: dict[str, Range] = {BACKGROUND: level}
    if signals:
        widest = max(high - low for low, high in zip(least, most, strict=True))
        signal = _range(np.concatenate(signals), [-widest], [widest])
        ranges[SIGNAL] = signal and _lifted(signal, outputs.pedestal)
    if ratios:
        ranges[SNR] = _range(np.concatenate(ratios))
    return ranges


def _range(
    values: NDArray[np.float64], least: Sequence[float] = (), most: Sequence[float] = ()
) -> Range:
    """Return the range of some values, and at least from `least` to `most`."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    darkest, start, end, brightest = (
        float(f"{value:.{DIGITS}g}") for value in np.percentile(finite, (0, *PERCENTILES, 100))
    )
    if not start < end:  # a constant has no range of its own
        margin = max(0.5, abs(start) * 1e-3)
        start, end = start - margin, end + margin
    return {
        "min": min(*(least or [darkest]), start),
        "max": max(*(most or [brightest]), end),
        "start": start,
        "end": end,
    }


def _lifted(window: dict[str, float], pedestal: int | None) -> dict[str, float]:
    """Return the range of a signal as it is stored."""
    if pedestal is None:
        return window
    lifted = {name: float(min(max(round(n) + pedestal, 0), MOST)) for name, n in window.items()}
    if not lifted["start"] < lifted["end"]:  # rounded, or at one end of the scale
        start = min(lifted["start"], MOST - 1.0)
        lifted |= {"start": start, "end": start + 1, "max": max(lifted["max"], start + 1)}
        lifted["min"] = min(lifted["min"], start)
    return lifted


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
    with np.errstate(invalid="ignore"):
        means: NDArray[np.float64] = _tiles(frame, radii).mean(axis=(1, 3), dtype=np.float64)
    return means


def _residual(
    frame: NDArray[Any], radii: tuple[float, float], noise: Noise | None = None
) -> NDArray[np.float64]:
    """Return the pixels of all tiles minus the mean of their tile; over its noise, if given."""
    means = _tile_means(frame, radii)[:, np.newaxis, :, np.newaxis]
    with np.errstate(invalid="ignore", divide="ignore"):
        left = _tiles(frame, radii) - means
        if noise is not None:
            gain, baseline, variance = (
                float(np.mean(value)) for value in (noise.gain, noise.baseline, noise.variance)
            )
            left /= float(noise.factor) * np.sqrt((means - baseline) / gain + variance)
    flat: NDArray[np.float64] = left.ravel()
    return flat


def _tiles(frame: NDArray[Any], radii: tuple[float, float]) -> NDArray[Any]:
    """Return a frame as (row of tiles, row, column of tiles, column), without what is left over."""
    height, width = (
        max(1, min(length // 4, round(radius * 3**0.5)))
        for length, radius in zip(frame.shape, radii, strict=True)
    )
    rows, columns = frame.shape[0] // height, frame.shape[1] // width
    tiles = frame[: rows * height, : columns * width]
    return tiles.reshape(rows, height, columns, width)
