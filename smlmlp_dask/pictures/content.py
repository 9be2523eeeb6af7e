"""What there is to see of a channel: what is stored, and what follows from it and the movie."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.movies.stack import Small, Stack, as_slice
from smlmlp_dask.store.outputs import BACKGROUND as BACKGROUND
from smlmlp_dask.store.outputs import MEAN
from smlmlp_dask.store.outputs import SIGNAL as SIGNAL
from smlmlp_dask.store.outputs import SNR as SNR
from smlmlp_dask.units import Decoding

RAW, MEAN_BACKGROUND = "raw", MEAN

KINDS = (RAW, BACKGROUND, MEAN_BACKGROUND, SIGNAL, SNR)
"""What is shown, from left to right."""


LEVELS = (RAW, BACKGROUND, MEAN_BACKGROUND)
"""What is of counts above 0, on one scale; the others are about 0."""

_PERCENTILES = (0.5, 99.8)


class Result(Protocol):
    """The attributes of a `SpatialMeanResult` that pictures need."""

    @property
    def stacks(self) -> list[Stack]:
        """One stack of each channel: what is stored first."""

    @property
    def stored(self) -> dict[str, list[Stack]]:
        """The outputs on disk, by name."""

    @property
    def bkgds(self) -> Any:
        """Backgrounds as Dask arrays; None if they are not stored."""

    @property
    def signals(self) -> Any:
        """The same of signals."""

    @property
    def snrs(self) -> Any:
        """The same of signal-to-noise ratios."""

    @property
    def mean_bkgds(self) -> Any:
        """Mean backgrounds as Dask arrays (y, x); None if they are not stored."""

    @property
    def unit(self) -> str:
        """The unit of backgrounds and signals."""

    @property
    def pedestal(self) -> int | None:
        """Counts to subtract from signals."""

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
class Difference(Small):
    """A `Movie` of one stack minus another, float32.

    Attributes
    ----------
    raw, less : Stack
        Stacks of equal shape; the second is of the store.
    """

    raw: Stack
    less: Stack

    @property
    def path(self) -> str:
        """The store's array."""
        return self.less.movie.path

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows and columns."""
        return self.less.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Always float32: a signal may be negative."""
        return np.dtype(np.float32)

    @property
    def unit(self) -> tuple[int, int, int]:
        """Chunks of the store; a movie's own units are often single frames."""
        return self.less.unit

    def decoding(self, *, whole: bool) -> Decoding:
        """Return how the store's array is decoded."""
        return self.less.movie.decoding(whole=whole)

    def read(self, frames: range, rows: slice, columns: slice) -> NDArray[Any]:
        """Return a box of these frames."""
        box = (as_slice(frames), rows, columns)
        with np.errstate(over="ignore", invalid="ignore"):  # infinite pixels
            pixels = self.raw.part(box).read().astype(np.float32)
            pixels -= self.less.part(box).read()
        return pixels


@dataclass(frozen=True)
class Content:
    """What there is to see of a channel.

    Attributes
    ----------
    stacks : dict
        Stacks by kind, of `KINDS`, in their order.
    derived : frozenset of str
        The kinds that are not stored, but the difference of raw frames and another kind.
    pedestal : int or None
        Counts that stored signals are higher, and whole; None if they are float32.
    missing : str
        Why there are no raw frames; empty if there are.
    unit : str
        Of all but SNR.
    n_frames : int
        Frames of the channel; a mean background is one frame, of all of them.
    """

    stacks: dict[str, Stack]
    derived: frozenset[str]
    pedestal: int | None = None
    missing: str = ""
    unit: str = "counts"
    n_frames: int = 1

    def without_raw(self, reason: str) -> "Content":
        """Return the same without what takes raw frames."""
        stacks = {k: s for k, s in self.stacks.items() if k != RAW and k not in self.derived}
        return replace(self, stacks=stacks, derived=frozenset(), missing=reason)


def content_of(
    result: Result, channel: int, raw: Stack | str, attributes: Mapping[str, Any]
) -> Content:
    """Return what there is to see of a channel.

    Of background and signal, the one that is not stored is the difference of the raw frames and the
    other. A background is left out if its signal was rounded: the difference would not be it.

    Parameters
    ----------
    result : SpatialMeanResult
        A finished result.
    channel : int
        Number of the channel.
    raw : Stack or str
        Its raw stack, or why there is none, from `reopened_channels`.
    attributes : mapping
        Those of the store.
    """
    found = {name: stacks[channel] for name, stacks in result.stored.items()}
    derived = {}
    if isinstance(raw, Stack):
        exact = result.pedestal is None and not attributes.get("relative_error_of_rounding")
        if BACKGROUND in found and SIGNAL not in found:
            derived[SIGNAL] = _minus(raw, found[BACKGROUND])
        elif SIGNAL in found and BACKGROUND not in found and exact:
            derived[BACKGROUND] = _minus(raw, found[SIGNAL])
        derived[RAW] = raw
    everything = {**found, **derived}
    return Content(
        stacks={kind: everything[kind] for kind in KINDS if kind in everything},
        derived=frozenset(derived) - {RAW},
        pedestal=result.pedestal,
        missing=raw if isinstance(raw, str) else "",
        unit=result.unit,
        n_frames=int(attributes["plan"][channel]["shape"][0]),
    )


def _minus(raw: Stack, less: Stack) -> Stack:
    return Stack.of(Difference(raw, less), range(less.shape[0]))


def images_of(
    content: Content, frame: int, raw: NDArray[Any] | None = None
) -> dict[str, NDArray[np.float64]]:
    """Return one frame (y, x) of each kind, signals without their pedestal; reads each stack once.

    `raw` is the raw frame, if it was read already.
    """
    found = {}
    for kind, stack in content.stacks.items():
        number = 0 if kind == MEAN_BACKGROUND else frame
        if kind == RAW and raw is not None:
            found[kind] = raw.astype(float)
        elif kind not in content.derived:
            found[kind] = one_frame(stack, number).astype(float)
    if SIGNAL in found:
        found[SIGNAL] -= content.pedestal or 0
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        for kind in content.derived:
            found[kind] = found[RAW] - found[BACKGROUND if kind == SIGNAL else SIGNAL]
    return {kind: found[kind] for kind in content.stacks}


def one_frame(stack: Stack, frame: int) -> NDArray[Any]:
    """Read one frame (y, x), decoding only the chunks that hold it."""
    pixels: NDArray[Any] = part_of(stack, frame, 1, (slice(None), slice(None))).read()[0]
    return pixels


def part_of(stack: Stack, first: int, count: int, box: tuple[slice, slice]) -> Stack:
    """Return some frames of a stack, cut to a box."""
    return stack.part((slice(int(first), int(first) + count), *box))


def shown_range(pixels: NDArray[Any], *, about_zero: bool = False) -> tuple[float, float]:
    """Return what is shown darkest and brightest, of finite pixels.

    Percentiles leave out hot pixels and the peaks of single molecules; a constant has a range about
    it.
    """
    finite = pixels[np.isfinite(pixels)]
    if about_zero:
        limit = float(np.percentile(np.abs(finite), _PERCENTILES[1])) if finite.size else 0.0
        return -(limit or 1.0), limit or 1.0
    low, high = map(float, np.percentile(finite, _PERCENTILES)) if finite.size else (0.0, 0.0)
    margin = 0.0 if low < high else max(0.5, abs(low) * 1e-3)
    return low - margin, high + margin


def frame_name(frame: int, count: int) -> str:
    """Return the number of a frame, and how they are counted: the first is 0."""
    return f"frame {frame:,} of 0\N{EN DASH}{count - 1:,}"
