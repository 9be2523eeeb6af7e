"""Sources opened and cut into blocks that fit the memory."""

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from dask.utils import format_bytes

from . import arguments, chunks
from .filtering import SpatialMean
from .sources import open_stacks
from .stack import Stack, shown
from .workers import Workers, active_workers, memory_limit_bytes

Source: TypeAlias = str | os.PathLike[str]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Channel:
    """One channel of a job: where its frames come from, how they are cut, how filtered."""

    source: Stack
    plan: chunks.BlockPlan
    mean: SpatialMean


def source_list(sources: Source | Sequence[Source]) -> list[Source]:
    """Return the sources as a list, also where a single path was passed."""
    if isinstance(sources, str | bytes | os.PathLike):
        return [sources]
    if not isinstance(sources, Iterable):
        raise TypeError(f"sources is {shown(sources)}: pass a path, or a list of paths")
    return list(sources)


def workers_for(memory_limit: int | str | None, count: int | None = None) -> Workers:
    """Return the workers that a job has, or `count` processes like a thread of those.

    Raises
    ------
    ValueError
        If there is no such memory limit, or it does not hold the processes.
    """
    workers = active_workers()
    if count is not None:
        workers = Workers(count, workers.memory_bytes * count // workers.threads, count)
    if memory_limit is None:
        return workers
    return workers.limited(memory_limit_bytes(memory_limit, count or 1))


def plan_channels(
    paths: Sequence[Source],
    radii: Any,
    *,
    memory_limit: int | str | None,
    **which: Any,
) -> list[Channel]:
    """Open the sources and plan their blocks so that they keep the memory limit."""
    return cut_into_blocks(open_stacks(*paths, **which), radii, workers_for(memory_limit))


def cut_into_blocks(stacks: Sequence[Stack], radii: Any, workers: Workers) -> list[Channel]:
    """Plan blocks of which the workers, can hold one for each thread."""
    means = [SpatialMean.from_radii(pair) for pair in arguments.as_radii(radii, len(stacks))]
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
        log.info(
            "channel %d: %s, %s %s; %d blocks of %s, up to %s each",
            *(i, stack.movie.path, stack.shape, stack.dtype, plan.n_blocks, plan.block),
            format_bytes(plan.block_bytes),
        )
    log.info("%d tasks at a time, %s", workers.threads, format_bytes(workers.memory_bytes))
    return channels
