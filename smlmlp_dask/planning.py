"""What a job is going to do: sources opened, cut into blocks that fit the memory."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

from dask.utils import format_bytes

from . import arguments, chunks
from .background import SpatialMean
from .cluster import BASE_BYTES, Workers, active_workers, connected, memory_limit_bytes
from .sources import open_stacks
from .stack import Stack, shown

Source: TypeAlias = str | os.PathLike[str]


@dataclass(frozen=True)
class Channel:
    """One channel of a job: where its frames come from, how they are cut, how filtered."""

    source: Stack
    plan: chunks.BlockPlan
    mean: SpatialMean


@dataclass(frozen=True)
class JobPlan:
    """What a job is going to do, known before anything runs.

    Attributes
    ----------
    channels : list of BlockPlan
        How each channel is cut into blocks, one task each.
    threads : int
        Tasks that run side by side.
    memory_limit_bytes : int
        Memory that they may use together.
    processes : int
        Processes that run them.
    """

    channels: list[chunks.BlockPlan]
    threads: int
    memory_limit_bytes: int
    processes: int = 1

    @property
    def n_blocks(self) -> int:
        """Number of blocks, and of tasks."""
        return sum(plan.n_blocks for plan in self.channels)

    @property
    def projected_bytes(self) -> int:
        """Peak memory of all tasks together, the libraries' own included."""
        largest = max(plan.block_bytes for plan in self.channels)
        return self.processes * BASE_BYTES + min(self.threads, max(1, self.n_blocks)) * largest

    @property
    def output_bytes(self) -> int:
        """Size of the backgrounds before they are compressed."""
        return sum(4 * prod(plan.shape) for plan in self.channels)


@connected()
def plan_spatial_mean(
    sources: Source | Sequence[Source],
    channels_mean_radii_pix: Any = 7.0,
    *,
    bboxes: Any = None,
    flips: Any = None,
    frames: slice | None = None,
    raw_shape: Sequence[int] | None = None,
    raw_dtype: Any = None,
    memory_limit: int | str | None = None,
) -> JobPlan:
    """Tell what `run_spatial_mean` would do with the same arguments, without doing it.

    Parameters
    ----------
    sources, channels_mean_radii_pix, bboxes, flips, frames, raw_shape, raw_dtype, memory_limit
        As in `run_spatial_mean`.

    Returns
    -------
    JobPlan
        Blocks of each channel, tasks, read amplification, projected memory.

    Raises
    ------
    ValueError, TypeError, OSError
        As `run_spatial_mean` would.
    """
    channels = plan_channels(
        source_list(sources),
        channels_mean_radii_pix,
        bboxes=bboxes,
        flips=flips,
        frames=frames,
        raw_shape=raw_shape,
        raw_dtype=raw_dtype,
        memory_limit=memory_limit,
    )
    workers = _workers(memory_limit)
    plans = [channel.plan for channel in channels]
    return JobPlan(plans, workers.threads, workers.memory_bytes, workers.processes)


def source_list(sources: Source | Sequence[Source]) -> list[Source]:
    """Return the sources as a list, also where a single path was passed."""
    if isinstance(sources, str | bytes | os.PathLike):
        return [sources]
    if not isinstance(sources, Iterable):
        raise TypeError(f"sources is {shown(sources)}: pass a path, or a list of paths")
    return list(sources)


def _workers(memory_limit: int | str | None) -> Workers:
    workers = active_workers()
    if memory_limit is None:
        return workers
    return workers.limited(memory_limit_bytes(memory_limit))


def plan_channels(
    paths: Sequence[Source],
    radii: Any,
    *,
    memory_limit: int | str | None,
    **which: Any,
) -> list[Channel]:
    """Open the sources and plan their blocks so that they keep the memory limit."""
    stacks = open_stacks(*paths, **which)
    means = [SpatialMean.from_radii(pair) for pair in arguments.as_radii(radii, len(stacks))]
    workers = _workers(memory_limit)
    share = workers.task_bytes
    channels = []
    for i, (stack, mean) in enumerate(zip(stacks, means, strict=True)):
        plan = chunks.plan_blocks(
            stack.shape,
            stack.dtype.itemsize,
            stack.unit,
            mean.halo(stack.shape[1:]),
            origin=stack.origin,
            memory_bytes=min(share, chunks.SLAB_BYTES),
        )
        if plan.block_bytes > share:
            raise ValueError(
                f"channel {i} is stored in units of {' x '.join(map(str, stack.unit))} pixels, a "
                f"block of which takes {format_bytes(plan.block_bytes)}; {workers.threads} at a "
                f"time exceed {format_bytes(workers.memory_bytes)}: raise memory_limit "
                "(--memory-limit), use fewer workers, or rechunk the movie"
            )
        channels.append(Channel(stack, plan, mean))
    return channels
