"""Sample a few frames of a finished store and of its movies.

The cost depends only on the sizes of a frame and a chunk: a store may hold 10⁷ frames.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from smlmlp_dask.filters.kernels import Kernel, without_zero_ends
from smlmlp_dask.filters.wording import mean_of
from smlmlp_dask.messages import one_line
from smlmlp_dask.movies.acquisition import Acquisition
from smlmlp_dask.movies.photons import in_counts
from smlmlp_dask.movies.stack import Stack
from smlmlp_dask.store.read import read_attributes, refusing_damage
from smlmlp_dask.store.reopening import reopened_channels

from .content import RAW, SIGNAL, Content, Result, content_of, images_of, one_frame, part_of
from .diagnostics import Saturation, saturation, share_of_peak, spot_sigma_pix
from .origins import origins

LEVELS = 64
"""Most frames on which the level is measured."""

PAIRS = 12
"""Most pairs of successive raw frames searched for saturation and spots."""

PERCENTILES = (10, 50, 90)
"""Percentiles of a frame's pixels that show their level and its spread."""

_LARGEST_SIDE = 1024  # pixels; of larger frames, only the middle is sampled


@dataclass(frozen=True)
class RawSample:
    """A frame of the raw movie, and signs of trouble in a sample of frames.

    Attributes
    ----------
    frame : numpy.ndarray
        The frame (y, x) shown, in camera counts.
    looked_at : int
        Number of frames searched for saturation.
    saturation : Saturation or None
        Saturated pixels, if any.
    spot_sigma_pix : (float, float) or None
        Standard deviation of the spots along y and x.
    share_of_peak : float or None
        Share of a spot's peak that the background contains.
    """

    frame: npt.NDArray[Any]
    looked_at: int
    saturation: Saturation | None
    spot_sigma_pix: tuple[float, float] | None
    share_of_peak: float | None


@dataclass(frozen=True)
class ChannelSample:
    """The data of a picture of one channel.

    Attributes
    ----------
    channel : int
        Its number.
    steps : tuple of Step
        What its background is.
    mean : SpatialMean or None
        The local mean among the steps.
    kernels : (numpy.ndarray, numpy.ndarray) or None
        Of the local mean, along y and x, without zero ends.
    content : Content
        What there is to see of it.
    frame : int
        Number of the frame shown.
    images : dict
        What there is of it by kind, of `content.KINDS`, as `content.images_of` returns it.
    level_of : str
        The kind whose level was measured: the first one stored.
    level_frames, levels : numpy.ndarray
        Numbers of the frames on which the level was measured, and their 10th, 50th and 90th
        percentiles, (frame, 3), of the middle 1024 x 1024 pixels at most.
    raw : RawSample or None
        None if the movie can no longer be read; `content.missing` says why.
    acquisition : Acquisition
        How the channel was recorded, as far as it is known.
    origin : str
        Its source, box, frames and flips, in words.
    """

    channel: int
    steps: tuple[Any, ...]
    mean: Any
    kernels: tuple[Kernel, Kernel] | None
    content: Content
    frame: int
    images: dict[str, npt.NDArray[np.float64]]
    level_of: str
    level_frames: npt.NDArray[np.int64]
    levels: npt.NDArray[np.float64]
    raw: RawSample | None
    acquisition: Acquisition
    origin: str


def raw_stacks(path: Path) -> list[Stack | str]:
    """Open a store's movies again; see `reopened_channels`."""
    attributes = read_attributes(path)
    with refusing_damage(path, ValueError):
        return reopened_channels(attributes)


def sample_channels(result: Result, frame: int | None = None) -> list[ChannelSample]:
    """Read the data for a picture of a result, by default of each channel's frame in the middle.

    Raises
    ------
    ValueError
        If a channel has no such frame.
    OSError
        If the store cannot be read. An unreadable raw movie is not an error.
    """
    raws = raw_stacks(result.path)
    return [sample_channel(result, i, raw, frame) for i, raw in enumerate(raws)]


def sample_channel(
    result: Result, channel: int, raw_stack: Stack | str, frame: int | None = None
) -> ChannelSample:
    """Read the data for a picture of one channel; see `sample_channels`.

    `raw_stack` is its raw stack, or why it cannot be opened, from `reopened_channels`.
    """
    stack, steps = result.stacks[channel], result.steps[channel]
    attributes = read_attributes(result.path)
    with refusing_damage(result.path, ValueError):
        origin = origins(attributes)[channel]
        content = content_of(result, channel, raw_stack, attributes)
    _check_frame(frame, content.n_frames, channel)
    number = content.n_frames // 2 if frame is None else frame
    mean, kernels = mean_of(steps), None
    if mean is not None:
        kernels = without_zero_ends(mean.kernel_y), without_zero_ends(mean.kernel_x)
    raw = None
    if not content.missing:
        try:
            raw = _raw_sample(content.stacks[RAW], number, kernels)
        except OSError as error:
            content = content.without_raw(one_line(error))
    chosen = spread_frames(len(stack.frames), LEVELS)
    middle = middle_box(stack)
    levels = [_percentiles(part_of(stack, n, 1, middle).read()) for n in chosen]
    level_of = next(iter(result.stored))  # what `stacks` are
    lift = content.pedestal or 0 if level_of == SIGNAL else 0
    return ChannelSample(
        channel=channel,
        steps=steps,
        mean=mean,
        kernels=kernels,
        content=content,
        frame=number,
        images=images_of(content, number, None if raw is None else raw.frame),
        level_of=level_of,
        level_frames=chosen,
        levels=np.array(levels, np.float64) - lift,
        raw=raw,
        acquisition=stack.acquisition,
        origin=origin,
    )


def _check_frame(frame: int | None, n_frames: int, channel: int) -> None:
    if n_frames == 0:
        raise ValueError(f"channel {channel} has no frames: there is nothing to draw")
    if frame is not None and not 0 <= frame < n_frames:
        raise ValueError(
            f"frame {frame}: channel {channel} has {n_frames} frames; pass 0 to {n_frames - 1}"
        )


def _raw_sample(stack: Stack, frame: int, kernels: tuple[Kernel, Kernel] | None) -> RawSample:
    # A camera is saturated in counts, and spots are as wide in them as in photoelectrons.
    middle, counts = middle_box(stack), in_counts(stack)
    pairs = [
        part_of(counts, first, 2, middle).read()
        for first in spread_frames(len(stack.frames) - 1, PAIRS)
    ]
    shown = one_frame(stack, frame)
    shape = (2, *(part.stop - part.start for part in middle))
    together = np.stack(pairs) if pairs else np.empty((0, *shape), counts.dtype)
    frame_in_counts = shown if counts is stack else one_frame(counts, frame)
    searched = np.concatenate([*pairs, frame_in_counts[np.newaxis, *middle]])
    sigmas = spot_sigma_pix(together)
    return RawSample(
        frame=shown,
        looked_at=len(searched),
        saturation=saturation(searched),
        spot_sigma_pix=sigmas,
        share_of_peak=share_of_peak(sigmas, kernels) if sigmas and kernels else None,
    )


def _percentiles(pixels: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    finite = pixels[np.isfinite(pixels)]
    if finite.size == 0:
        return np.full(len(PERCENTILES), np.nan)
    found: npt.NDArray[np.float64] = np.percentile(finite, PERCENTILES)
    return found


def spread_frames(n_frames: int, count: int) -> npt.NDArray[np.int64]:
    """Return at most `count` frame numbers, evenly spread from the first to the last."""
    if n_frames <= 0:
        return np.empty(0, np.int64)
    return np.unique(np.linspace(0, n_frames - 1, count).round().astype(np.int64))


def middle_box(stack: Stack, most: int = _LARGEST_SIDE) -> tuple[slice, slice]:
    """Return the middle part of a frame, at most so many pixels wide and high."""
    rows, columns = (
        slice(start, start + side)
        for length in stack.shape[1:]
        for side in (min(length, most),)
        for start in ((length - side) // 2,)
    )
    return rows, columns
