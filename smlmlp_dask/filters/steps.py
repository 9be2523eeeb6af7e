"""Steps of a background, one after the other: each takes what the steps before have left."""

from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np

from smlmlp_dask.blocks import Box

from . import device
from .frames import Frames, Halo, joined
from .spatial_mean import FilterOptions, worker_threads

_PIXELS_AT_A_TIME = 2**18


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
    on_host = isinstance(parts[0], np.ndarray) and not options.cuda
    shape = tuple(part.stop - part.start for part in own)
    if 0 in shape:
        return np.empty(shape, np.float32) if on_host or to_host else device.empty(shape)
    if on_host:
        return np.ascontiguousarray(_apply(parts, steps, options, own))
    from .dask_image import naming_a_size_that_fits

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
    halos = [step.halo(frame)[0] for step in steps]
    in_time = max((number for number, halo in enumerate(halos, 1) if halo), default=0)
    left, first, last = parts, 0, count
    for number, step in enumerate(steps[:in_time], 1):
        # A halo in time is used up by its step: the next ones get fewer frames.
        rest = sum(halos[number:])
        start, stop = max(first, own[0].start - rest), min(last, own[0].stop + rest)
        found = step.apply(left, options, start - first, stop - first)
        residual = _subtract(joined(left, start - first, stop - first), found)
        left, first, last = [residual], start, stop

    # The other steps take each frame by itself: the compiled engine gets a few at a time, which
    # stay in a cache, and what they give takes the place of what is left.
    frames = run = own[0].stop - own[0].start
    result = None
    if options.engine == "fused" and isinstance(parts[0], np.ndarray) and in_time < len(steps):
        threads = options.threads or worker_threads()
        run = threads * max(1, _PIXELS_AT_A_TIME // (frame[0] * frame[1]))
        result = left[0] if in_time else np.empty((frames, *frame), np.float32)
    for start in range(own[0].start, own[0].stop, run):
        stop = min(start + run, own[0].stop)
        residual = joined(left, start - first, stop - first)
        for step in steps[in_time:]:
            found = step.apply([residual], options, 0, stop - start)
            residual = _subtract(residual, found)
        place = None if result is None else result[start - own[0].start : stop - own[0].start]
        background = _subtract(joined(parts, start, stop), residual, place)
    return (background if result is None else result)[:, own[1], own[2]]


def _subtract(frames: Any, found: Any, out: Any = None) -> Any:
    """Return frames as float32 minus their background: on the host in its place, or in `out`."""
    if not isinstance(found, np.ndarray):
        return device.as_float32(frames) - found
    out = found if out is None else out
    with np.errstate(over="ignore", invalid="ignore"):  # infinite pixels
        return np.subtract(frames, found, out=out, dtype=np.float32, casting="same_kind")
