"""What a viewer shows of a store: raw, background and signal of each channel, read on demand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.messages import one_line
from smlmlp_dask.movies.acquisition import Acquisition
from smlmlp_dask.movies.stack import Stack, as_slice
from smlmlp_dask.store.metadata import RANGES
from smlmlp_dask.store.ome import channel_labels
from smlmlp_dask.store.read import read_attributes, refusing_damage
from smlmlp_dask.units import Decoding

from .samples import Result, one_frame, raw_stacks, refuse_signals

RAW, BACKGROUND, SIGNAL = "raw", "background", "signal"

_PERCENTILES = (0.5, 99.8)
"""Percentiles of a frame's pixels that are shown darkest and brightest, as in pictures."""


@dataclass(frozen=True)
class Signal:
    """A `Movie` of raw frames minus their background, float32.

    Attributes
    ----------
    raw, background : Stack
        Stacks of equal shape.
    """

    raw: Stack
    background: Stack

    @property
    def path(self) -> str:
        """The store's array."""
        return self.background.movie.path

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows and columns."""
        return self.background.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Always float32: a signal may be negative."""
        return np.dtype(np.float32)

    @property
    def unit(self) -> tuple[int, int, int]:
        """Chunks of the background; a movie's own units are often single frames."""
        return self.background.unit

    def decoding(self, *, whole: bool) -> Decoding:
        """Return how the background is decoded."""
        return self.background.movie.decoding(whole=whole)

    def narrow(self, start: int, stop: int) -> Self:  # noqa: ARG002
        """Return the same: viewers read in this process, so nothing is pickled."""
        return self

    def read(self, frames: range, rows: slice, columns: slice) -> NDArray[Any]:
        """Return a box of these frames."""
        box = (as_slice(frames), rows, columns)
        pixels = self.raw.part(box).read().astype(np.float32)
        pixels -= self.background.part(box).read()
        return pixels


@dataclass(frozen=True)
class Layer:
    """What a viewer shows in one place.

    Attributes
    ----------
    kind : str
        `RAW`, `BACKGROUND` or `SIGNAL`.
    channel : int
        Number of the channel.
    name : str
        The channel's name and the kind, and the unit if it is not counts; no two layers have the
        same.
    stack : Stack
        The pixels.
    limits : (float, float)
        Values that are shown darkest and brightest.
    scale : (float, float, float)
        Step along frame, y and x, in the `units`.
    units : (str or None, str or None, str or None)
        ``"second"`` and ``"micrometer"``; None where the scale is not known, and 1. All layers of
        a store have the same, since they share a viewer's axes.
    colour : str or None
        Of the channel, six hexadecimal digits.
    unit : str
        Of the pixels: "counts" or "photons".
    """

    kind: str
    channel: int
    name: str
    stack: Stack
    limits: tuple[float, float]
    scale: tuple[float, float, float]
    units: tuple[str | None, str | None, str | None]
    colour: str | None
    unit: str = "counts"


def viewed_layers(result: Result) -> tuple[list[Layer], list[str]]:
    """Return the layers of a store, and a line for each channel whose raw frames are missing.

    Reads one frame of each stack, whatever the length of the movie. Channels without pixels are
    left out.

    Raises
    ------
    ValueError
        If no channel has a pixel, or only signals are stored.
    OSError
        If backgrounds cannot be read.
    """
    refuse_signals(result)
    stacks, raws = result.stacks, raw_stacks(result.path)
    with refusing_damage(result.path):
        ranges = read_attributes(result.path).get(RANGES) or [None] * len(stacks)
    acquisitions = [stack.acquisition for stack in stacks]
    labels = channel_labels(acquisitions)
    unit = "" if result.unit == "counts" else f" ({result.unit})"
    layers, missing = [], []
    for i, (background, raw, shown) in enumerate(zip(stacks, raws, ranges, strict=True)):
        if 0 in background.shape:
            continue
        frame = background.shape[0] // 2
        found = {BACKGROUND: background}
        limits = {}
        try:
            if isinstance(raw, str):
                raise OSError(raw)
            limits[RAW] = _limits(one_frame(raw, frame))
            signal = Stack.of(Signal(raw, background), range(background.shape[0]))
            found = {RAW: raw, BACKGROUND: background, SIGNAL: signal}
        except OSError as error:
            missing.append(f"{labels[i]}: no raw frames and no signal: {one_line(error)}")
        if shown is not None:
            limits[BACKGROUND] = (shown["start"], shown["end"])
        layers += [
            Layer(
                kind=kind,
                channel=i,
                name=f"{labels[i]} {kind}{unit}",
                stack=stack,
                limits=limits.get(kind) or _limits(one_frame(stack, frame)),
                **_axes(acquisitions, i),
                colour=acquisitions[i].colour,
                unit=result.unit,
            )
            for kind, stack in found.items()
        ]
    if not layers:
        raise ValueError(f"{result.path} has no frames: there is nothing to show")
    return layers, missing


def _limits(frame: NDArray[Any]) -> tuple[float, float]:
    """Return percentiles of a frame's finite pixels, or a range about a constant."""
    finite = frame[np.isfinite(frame)]
    low, high = map(float, np.percentile(finite, _PERCENTILES)) if finite.size else (0.0, 0.0)
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _axes(acquisitions: Sequence[Acquisition], channel: int) -> dict[str, Any]:
    """Return scale and units of a channel; an axis is in pixels or frames unless all know it."""
    one = acquisitions[channel]
    interval, pixel, unit, length = 1.0, (1.0, 1.0), None, None
    if one.frame_interval_s and all(other.frame_interval_s for other in acquisitions):
        interval, unit = one.frame_interval_s, "second"
    if one.pixel_size_um and all(other.pixel_size_um for other in acquisitions):
        pixel, length = one.pixel_size_um, "micrometer"
    return {"scale": (interval, *pixel), "units": (unit, length, length)}
