"""Steps of a background, one after the other: each takes what the steps before have left."""

from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np

from smlmlp_dask.blocks import Box

from . import device
from .frames import Frames, Halo, as_floats, joined
from .spatial_mean import FilterOptions


class Step(Protocol):
    """One estimate of the background: `SpatialMean`, `TemporalMedian` or `SpatialOpening`.

    Steps are frozen dataclasses of plain settings. All but `for_channels` is for the step of one
    channel.
    """

    def for_channels(self, n_channels: int) -> Sequence[Self]:
        """Return the step of each channel; raise `ValueError` if a setting is wrong."""

    def halo(self, frame: Sequence[int]) -> Halo:
        """Return how far along (frame, y, x) a pixel's background depends on others.

        `frame` is the channel's (height, width). At the movie's ends there is nothing more: windows
        end there, and edges repeat the nearest pixel.
        """

    def apply(self, parts: Frames, options: FilterOptions, start: int, stop: int) -> Any:
        """Return the float32 background of frames `start` to `stop` of a block and its halo.

        NumPy frames give a NumPy array, CuPy frames a CuPy array. It never overlaps `parts`.
        """

    @property
    def noise_correction(self) -> np.float32:
        """The factor by which subtracting this background changes white noise."""

    def to_attributes(self) -> dict[str, Any]:
        """Return what a store records: the step's name and its settings, as JSON."""


def halo_of(steps: Sequence[Step], frame: Sequence[int]) -> Halo:
    """Return the halo of steps that follow one another: the sum of theirs, along (frame, y, x)."""
    halos = [step.halo(frame) for step in steps]
    frames, rows, columns = (sum(halo[axis] for halo in halos) for axis in range(3))
    return frames, min(rows, frame[0] - 1), min(columns, frame[1] - 1)


def background_of(
    parts: Frames,
    steps: Sequence[Step],
    options: FilterOptions,
    own: Box,
    *,
    to_host: bool = False,
) -> Any:
    """Return the float32 background of a block: a task's whole computation.

    Parameters
    ----------
    parts : sequence of numpy.ndarray or cupy.ndarray
        The block and its halo (`halo_of`), of any real dtype, as far as the movie has it.
    steps : sequence of Step
        Of this channel, at least one. Each takes the residual that the steps before have left:
        their frames, as float32, minus the background that they found.
    options : FilterOptions
        Which engine runs. With ``cuda=True`` NumPy frames go to the device; CuPy frames are on it.
    own : Box
        Position of the block within `parts`.
    to_host : bool, default False
        Return a NumPy array; else frames on a device stay there.

    Returns
    -------
    numpy.ndarray or cupy.ndarray
        What one step finds; after several steps the frames minus the last residual. C-contiguous.
    """
    if isinstance(parts[0], np.ndarray) and not options.cuda:
        background = _apply(parts, steps, options, own)
        return np.ascontiguousarray(background)
    from .dask_image import naming_a_size_that_fits

    shape = tuple(part.stop - part.start for part in own)
    if 0 in shape:
        return np.empty(shape, np.float32) if to_host else device.empty(shape)
    count, (height, width) = sum(map(len, parts)), parts[0].shape[1:]
    # the frames as they are, and float32 copies of them: before, sorted, found and left
    frame_bytes = height * width * (parts[0].dtype.itemsize + 6 * 4)
    with (
        device.working_on(parts[0]),
        naming_a_size_that_fits((count, height, width), frame_bytes),
    ):
        background = _apply([device.to_device(part) for part in parts], steps, options, own)
        return device.to_host(background) if to_host else background.copy()


def _apply(parts: Frames, steps: Sequence[Step], options: FilterOptions, own: Box) -> Any:
    count, frame = sum(map(len, parts)), parts[0].shape[1:]
    if len(steps) == 1:
        return steps[0].apply(parts, options, own[0].start, own[0].stop)[:, own[1], own[2]]
    left, first, last = parts, 0, count
    for number, step in enumerate(steps):
        # A halo in time is used up by its step: the next ones get fewer frames.
        rest = halo_of(steps[number + 1 :], frame)[0]
        start, stop = max(first, own[0].start - rest), min(last, own[0].stop + rest)
        found = step.apply(left, options, start - first, stop - first)
        residual = _subtract(joined(left, start - first, stop - first), found)
        left, first, last = [residual], start, stop
    place = (slice(own[0].start - first, own[0].stop - first), own[1], own[2])
    raw = joined(parts, own[0].start, own[0].stop)[:, own[1], own[2]]
    return _subtract(raw, left[0][place])


def _subtract(frames: Any, found: Any) -> Any:
    """Return frames as float32 minus their background, in its place on the host."""
    if not isinstance(found, np.ndarray):
        return as_floats(frames) - found
    with np.errstate(over="ignore", invalid="ignore"):  # infinite pixels
        return np.subtract(frames, found, out=found, dtype=np.float32, casting="same_kind")
