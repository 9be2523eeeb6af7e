"""Sample a few frames of a finished store and of its movies.

The cost depends only on the sizes of a frame and a chunk: a store may hold 10⁷ frames.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from smlmlp_dask.filters.kernels import Kernel, without_zero_ends
from smlmlp_dask.filters.wording import mean_of
from smlmlp_dask.messages import one_line
from smlmlp_dask.movies.acquisition import UNKNOWN, Acquisition
from smlmlp_dask.movies.photons import in_counts
from smlmlp_dask.movies.stack import Stack
from smlmlp_dask.store.read import read_attributes, refusing_damage
from smlmlp_dask.store.reopening import reopened_channels

from .diagnostics import Saturation, saturation, share_of_peak, spot_sigma_pix

LEVELS = 64
"""Most frames on which the level of the background is measured."""

PAIRS = 12
"""Most pairs of successive raw frames searched for saturation and spots."""

PERCENTILES = (10, 50, 90)
"""Percentiles of a frame's pixels that show the level of the background and its spread."""

_LARGEST_SIDE = 1024  # pixels; of larger frames, only the middle is sampled


class Result(Protocol):
    """The attributes of a `SpatialMeanResult` that pictures need."""

    @property
    def stacks(self) -> list[Stack]:
        """The backgrounds on disk."""

    @property
    def bkgds(self) -> list[Any] | None:
        """The same as Dask arrays; None if only signals are stored."""

    @property
    def signals(self) -> list[Any] | None:
        """Signals as Dask arrays, if they are stored."""

    @property
    def snrs(self) -> list[Any] | None:
        """Signal-to-noise ratios as Dask arrays, if they are stored."""

    @property
    def mean_bkgds(self) -> list[Any] | None:
        """Mean backgrounds as Dask arrays, if they are stored."""

    @property
    def unit(self) -> str:
        """The unit of backgrounds and signals: counts or photons."""

    @property
    def noise_corrections(self) -> list[np.float32]:
        """One factor per channel."""

    @property
    def steps(self) -> list[tuple[Any, ...]]:
        """The steps of each channel."""

    @property
    def path(self) -> Path:
        """The store."""


@dataclass(frozen=True)
class RawSample:
    """A frame of the raw movie, and signs of trouble in a sample of frames.

    Attributes
    ----------
    frame : numpy.ndarray
        The frame (y, x) shown, in the unit of the background.
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
    n_frames : int
        Frames of the channel.
    frame : int
        Number of the frame shown.
    background : numpy.ndarray
        Its background (y, x), float32, in the `unit`.
    level_frames, levels : numpy.ndarray
        Numbers of the frames on which the level was measured, and their 10th, 50th and 90th
        percentiles, (frame, 3), of the middle 1024 x 1024 pixels at most.
    raw : RawSample or None
        None if the movie can no longer be read.
    missing : str
        The reason, if `raw` is None.
    acquisition : Acquisition
        How the channel was recorded, as far as it is known.
    unit : str
        "counts" or "photons".
    """

    channel: int
    steps: tuple[Any, ...]
    mean: Any
    kernels: tuple[Kernel, Kernel] | None
    n_frames: int
    frame: int
    background: npt.NDArray[np.float32]
    level_frames: npt.NDArray[np.int64]
    levels: npt.NDArray[np.float64]
    raw: RawSample | None
    missing: str
    acquisition: Acquisition = UNKNOWN
    unit: str = "counts"


def raw_stacks(path: Path) -> list[Stack | str]:
    """Open a store's movies again; see `reopened_channels`."""
    attributes = read_attributes(path)
    with refusing_damage(path, ValueError):
        return reopened_channels(attributes)


def one_frame(stack: Stack, frame: int) -> npt.NDArray[Any]:
    """Read one frame (y, x), decoding only the chunks that hold it."""
    pixels: npt.NDArray[Any] = _part(stack, frame, 1, (slice(None), slice(None))).read()[0]
    return pixels


def sample_channels(result: Result, frame: int | None = None) -> list[ChannelSample]:
    """Read the data for a picture of a result.

    Parameters
    ----------
    result : SpatialMeanResult
        A finished result.
    frame : int, optional
        Number of the frame to show; by default the one in the middle of each channel.

    Raises
    ------
    ValueError
        If a channel has no such frame.
    OSError
        If backgrounds cannot be read. An unreadable raw movie is not an error.
    """
    refuse_signals(result)
    stacks = result.stacks
    for i, stack in enumerate(stacks):
        _check_frame(frame, len(stack.frames), i)
    raws = raw_stacks(result.path)
    return [sample_channel(result, i, raw, frame) for i, raw in enumerate(raws)]


def sample_channel(
    result: Result, channel: int, raw_stack: Stack | str, frame: int | None = None
) -> ChannelSample:
    """Read the data for a picture of one channel; see `sample_channels`.

    Parameters
    ----------
    result : SpatialMeanResult
        A finished result.
    channel : int
        Number of the channel.
    raw_stack : Stack or str
        Its raw stack, or the reason why it cannot be opened, from `reopened_channels`.
    frame : int, optional
        Number of the frame to show; by default the one in the middle.
    """
    refuse_signals(result)
    stack, steps = result.stacks[channel], result.steps[channel]
    n_frames = len(stack.frames)
    _check_frame(frame, n_frames, channel)
    number = n_frames // 2 if frame is None else frame
    mean, kernels = mean_of(steps), None
    if mean is not None:
        kernels = without_zero_ends(mean.kernel_y), without_zero_ends(mean.kernel_x)
    raw, missing = None, ""
    if isinstance(raw_stack, str):
        missing = raw_stack
    else:
        try:
            raw = _raw_sample(raw_stack, number, kernels)
        except OSError as error:
            missing = one_line(error)
    chosen = spread_frames(n_frames, LEVELS)
    middle = middle_box(stack)
    levels = [_percentiles(_part(stack, n, 1, middle).read()) for n in chosen]
    return ChannelSample(
        channel=channel,
        steps=steps,
        mean=mean,
        kernels=kernels,
        n_frames=n_frames,
        frame=number,
        background=one_frame(stack, number),
        level_frames=chosen,
        levels=np.array(levels, np.float64),
        raw=raw,
        missing=missing,
        acquisition=stack.acquisition,
        unit=result.unit,
    )


def refuse_signals(result: Result) -> None:
    """Raise `ValueError` if no backgrounds are stored: pictures show raw frames and backgrounds."""
    if result.bkgds is None:
        held = {"signals": result.signals, "snrs": result.snrs, "mean backgrounds": True}
        what = next(name for name, found in held.items() if found is not None)
        raise ValueError(
            f"{result.path} holds {what}, no backgrounds, which pictures show: open it in a "
            "viewer, or store backgrounds too (--write background --write signal)"
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
        _part(counts, first, 2, middle).read()
        for first in spread_frames(len(stack.frames) - 1, PAIRS)
    ]
    shown = one_frame(stack, frame)
    counted = shown if counts is stack else one_frame(counts, frame)
    shape = (2, *(part.stop - part.start for part in middle))
    together = np.stack(pairs) if pairs else np.empty((0, *shape), counts.dtype)
    searched = np.concatenate([*pairs, counted[np.newaxis, *middle]])
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


def _part(stack: Stack, first: int, count: int, box: tuple[slice, slice]) -> Stack:
    return stack.part((slice(int(first), int(first) + count), *box))
