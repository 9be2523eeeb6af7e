"""Steps of a background, one after the other: each takes what the steps before have left."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from math import prod
from typing import Any, Literal, Protocol, Self, TypeAlias, get_args

import numpy as np
from dask.system import CPU_COUNT

from smlmlp_dask.blocks import Box

from . import device, parameters
from .compiled.engine import FILTER_VERSION
from .compiled.parts import between

Engine: TypeAlias = Literal["auto", "fused", "dask-image"]

Frames: TypeAlias = Sequence[Any]
"""NumPy or CuPy stacks (frame, y, x) of one dtype, one after the other in time; at least one."""

Halo: TypeAlias = tuple[int, int, int]
"""How far along (frame, y, x) a pixel's background depends on others."""

_PIXELS_AT_A_TIME = 2**18


@dataclass(frozen=True)
class FilterOptions:
    """How blocks in memory are filtered.

    Attributes
    ----------
    engine : {"fused", "dask-image"}
        Which filter runs; "fused" for NumPy frames only.
    threads : int
        Threads for each block; 0 for as many as the worker has.
    cuda : bool
        Filter on the GPU.
    """

    engine: Engine
    threads: int = 1
    cuda: bool = False

    @classmethod
    def checked(cls, *, engine: Any = "auto", parallel: Any = False, cuda: Any = False) -> Self:
        """Check the arguments of `run_spatial_mean` that say how to filter; resolve "auto"."""
        threads = parameters.check_parallel(parallel)
        if engine not in get_args(Engine):
            raise ValueError(f"engine is {engine!r}: pass one of {', '.join(get_args(Engine))}")
        if engine == "fused" and cuda:
            raise ValueError(
                "engine 'fused' filters NumPy chunks only: pass engine='auto' or 'dask-image' for "
                "CuPy"
            )
        if engine == "auto":
            engine = "dask-image" if cuda else "fused"
        return cls(engine, threads, bool(cuda))

    def threads_here(self) -> int:
        """Return the threads for each block in this process: 0 stands for its worker's, or CPUs."""
        if self.threads:
            return self.threads
        distributed = sys.modules.get("distributed")
        try:
            return int(distributed.get_worker().state.nthreads) if distributed else CPU_COUNT
        except ValueError:  # not in a worker
            return CPU_COUNT

    def to_attributes(self, cupy_versions: Sequence[str] = ()) -> dict[str, Any]:
        """Return what a store records: the options, and the versions, that determine the bits."""
        versions = str(FILTER_VERSION)
        if cupy_versions:
            cupy = " and ".join(sorted({*cupy_versions}))
            versions = f"dask-image {version('dask-image')}, cupy {cupy}"
        elif self.engine == "dask-image":
            versions = f"dask-image {version('dask-image')}, scipy {version('scipy')}"
        return {"engine": self.engine, "engine_version": versions, "cuda": self.cuda}


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
        If its memory is short, steps without a halo in time take the block in parts.
    own : Box
        Position of the block within `parts`.
    to_host : bool, default False
        Return a NumPy array; else frames on a device stay there.

    Returns
    -------
    numpy.ndarray or cupy.ndarray
        What one step finds; after several steps the frames minus the last residual. C-contiguous.
    """
    shape = tuple(part.stop - part.start for part in own)
    if 0 in shape:
        on_device = options.cuda and not to_host
        return device.empty(shape) if on_device else np.empty(shape, np.float32)
    if options.cuda:
        with device.working_on(parts[0]):
            return _on_device(parts, steps, options, own, to_host=to_host)
    return np.ascontiguousarray(_apply(parts, steps, options, own))


def joined(parts: Frames, start: int, stop: int) -> Any:
    """Return frames `start` to `stop` as one stack: a view, if one part has them all."""
    cut = between(parts, start, stop)
    if not cut:
        return parts[0][:0]
    if len(cut) == 1:
        return cut[0]
    return device.namespace(cut[0]).concatenate(cut)


def _on_device(
    parts: Frames, steps: Sequence[Step], options: FilterOptions, own: Box, *, to_host: bool
) -> Any:
    """Filter a block on the current device; in parts with the same bits if its memory is short.

    Frames go up in their own dtype. With a halo in time they go up together.
    """
    count, frame = sum(map(len, parts)), parts[0].shape[1:]
    frame_bytes = prod(frame) * (parts[0].dtype.itemsize + device.PIXEL_BYTES)
    halo = halo_of(steps, frame)[0]
    run = count if halo else max(1, min(count, device.free_bytes() // frame_bytes))
    shape = tuple(part.stop - part.start for part in own)
    with device.naming_a_size_that_fits((run, *frame), frame_bytes):
        whole = np.empty(shape, np.float32) if to_host else device.empty(shape)
        for start in range(own[0].start, own[0].stop, run):
            stop = min(start + run, own[0].stop)
            low = max(0, start - halo)
            frames = device.to_device(joined(parts, low, stop + halo))
            place = (slice(start - low, stop - low), *own[1:])
            found = _apply([frames], steps, options, place)
            whole[start - own[0].start : stop - own[0].start] = (
                device.to_host(found) if to_host else found
            )
        return whole


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
    if options.engine == "fused" and in_time < len(steps):
        run = options.threads_here() * max(1, _PIXELS_AT_A_TIME // (frame[0] * frame[1]))
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
