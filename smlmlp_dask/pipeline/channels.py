"""The channels of a job, cut into blocks that fit into memory."""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dask.utils import format_bytes

from smlmlp_dask import blocks
from smlmlp_dask.execution.window import packed_bytes
from smlmlp_dask.execution.workers import (
    BASE_BYTES,
    Workers,
    active_workers,
    memory_limit_bytes,
    runs_own_threads,
)
from smlmlp_dask.filters.chains import Chain, chains
from smlmlp_dask.filters.steps import halo_of
from smlmlp_dask.messages import one_line, shown
from smlmlp_dask.movies.arrays import is_array
from smlmlp_dask.movies.memory import DaskMovie, NumpyMovie
from smlmlp_dask.movies.opening import AnySource
from smlmlp_dask.movies.stack import Stack

from .outputs import Outputs

log = logging.getLogger(__name__)

KEEP = object()
"""Stands in place of steps in a job without any: frames are kept as they are."""

SENT_BYTES = 2**20
"""Most bytes of one block's tasks of a Dask array that are sent to a worker."""


@dataclass(frozen=True)
class Channel:
    """One channel of a job: where its frames come from, how they are cut, and their steps.

    Without a step, frames are kept as they are.
    """

    source: Stack
    plan: blocks.BlockPlan
    steps: Chain


def source_list(sources: AnySource | Sequence[AnySource]) -> list[AnySource]:
    """Return the sources as a list, even if a single path or array was passed."""
    if isinstance(sources, str | bytes | os.PathLike) or is_array(sources):
        return [sources]  # type: ignore[list-item]
    if not isinstance(sources, Iterable) or isinstance(sources, Mapping):
        raise TypeError(
            f"sources is {shown(sources)}: pass a path or an array (frame, y, x), or a list of them"
        )
    return list(sources)


def check_sent(channels: Sequence[Channel]) -> None:
    """Refuse arrays whose pixels would travel to the workers of a cluster, task by task.

    Raises
    ------
    ValueError
        If a source is in this process's memory, or cannot be sent, or its tasks hold much data.
    """
    for channel in channels:
        movie, blocks_of_it = channel.source.movie, channel.plan.blocks()
        remedy = "save it where all workers see it, as Zarr or by numpy.save, and pass that path"
        if isinstance(movie, NumpyMovie):
            raise ValueError(
                f"{movie.path} is in the memory of this process, not of the cluster's workers: "
                f"{remedy}, or run without a cluster"
            )
        if not isinstance(movie, DaskMovie) or not channel.plan.n_blocks:
            continue
        try:
            size = packed_bytes(channel.source.part(next(blocks_of_it).read))
        except Exception as error:  # whatever the caller's objects raise
            raise ValueError(
                f"{movie.path} cannot be sent to workers ({one_line(error)}): {remedy}"
            ) from error
        if size > SENT_BYTES:
            raise ValueError(
                f"{movie.path} holds data: each task would take {format_bytes(size)} of it to a "
                f"worker, and {format_bytes(SENT_BYTES)} at most are sent: {remedy}"
            )


def workers_for(memory_limit: int | str | None, count: int | None = None) -> Workers:
    """Return the workers of a job, or `count` processes, each like one of their threads.

    Raises
    ------
    ValueError
        If the memory limit is not a size, or too small for the processes.
    """
    workers = active_workers()
    if count is not None:
        workers = Workers(count, workers.memory_bytes * count // workers.threads, count)
    if memory_limit is None:
        return workers
    return workers.limited(memory_limit_bytes(memory_limit, count or 1))


def cut_into_blocks(
    stacks: Sequence[Stack], steps: Any, workers: Workers, outputs: Outputs | None = None
) -> list[Channel]:
    """Cut each channel into blocks so small that every thread of the workers can hold one.

    With `KEEP` as steps, frames are kept as they are.
    """
    count = len(stacks)
    of_channels: list[Chain] = [()] * count if steps is KEEP else chains(steps, count)
    share = workers.task_bytes
    stores = (outputs or Outputs()).pixel_bytes
    channels = []
    for i, (stack, chain) in enumerate(zip(stacks, of_channels, strict=True)):
        frame = stack.shape[1:]
        halo = halo_of(chain, frame)
        plan = blocks.plan_blocks(
            stack.shape,
            stack.dtype.itemsize,
            stack.unit,
            halo[1:],
            origin=stack.origin,
            decoding=stack.decoding,
            kept=not chain,
            halo_fr=halo[0],
            later_fr=tuple(halo_of(chain[n + 1 :], frame)[0] for n in range(len(chain))) or (0,),
            stores=stores,
            memory_bytes=share,
        )
        channels.append(Channel(stack, plan, chain))
        log.info(
            "channel %d: %s, %s %s; %d blocks of %s, up to %s each",
            *(i, stack.movie.path, stack.shape, stack.dtype, plan.n_blocks, plan.block),
            format_bytes(plan.block_bytes),
        )
    largest = max(channels, key=lambda channel: channel.plan.block_bytes)
    if largest.plan.block_bytes > share:
        raise ValueError(
            f"channel {channels.index(largest)} is stored in units of "
            f"{' x '.join(map(str, largest.source.movie.unit))} pixels; "
            f"{_memory_needed(largest.plan, workers, workers.threads)}, use fewer workers, or "
            f"{'take fewer frames for the median' if largest.plan.halo_fr else 'rechunk the movie'}"
        )
    log.info("%d tasks at a time, %s", workers.threads, format_bytes(workers.memory_bytes))
    return channels


def side_by_side(channels: Sequence[Channel], workers: Workers) -> int:
    """Return how many blocks fit into memory at a time, if they were cut for another memory.

    Raises
    ------
    ValueError
        If none fits; or, on threads that we do not start, fewer than one for each thread.
    """
    plan = max((channel.plan for channel in channels), key=lambda plan: plan.block_bytes)
    held = workers.held(plan.block_bytes)
    if held >= workers.threads:
        return workers.threads
    least = 1 if runs_own_threads() else workers.threads
    if held < least:
        raise ValueError(
            f"the store was begun in blocks of {' x '.join(map(str, plan.block))} pixels; "
            f"{_memory_needed(plan, workers, least)}, or use fewer workers"
        )
    log.info("%d of %d tasks at a time: the memory holds no more", held, workers.threads)
    return held


def _memory_needed(plan: blocks.BlockPlan, workers: Workers, tasks: int) -> str:
    """Say what memory a block takes, and the smallest limit for `tasks` blocks at a time."""
    parts = " + ".join(f"{format_bytes(size)} {name}" for name, size in plan.held.items())
    libraries = format_bytes(workers.processes * BASE_BYTES)
    least = f"{workers.least_limit(plan.block_bytes, tasks) // 10**6}MB"
    remedy = f"raise memory_limit (--memory-limit) to {least}"
    if workers.usable < 1:
        remedy = f"use workers with {least} together, and {remedy} if there is one"
    return (
        f"a block takes {format_bytes(plan.block_bytes)} ({parts}), and {tasks} at a time, with "
        f"{libraries} for Python and its libraries, exceed {format_bytes(workers.memory_bytes)}: "
        f"{remedy}"
    )
