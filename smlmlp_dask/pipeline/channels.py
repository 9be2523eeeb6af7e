"""The channels of a job, cut into blocks that fit into memory."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import merge
from typing import Any

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
from smlmlp_dask.messages import as_size, counted, one_line, shown
from smlmlp_dask.movies.arrays import is_array
from smlmlp_dask.movies.camera import Camera
from smlmlp_dask.movies.memory import DaskMovie, NumpyMovie
from smlmlp_dask.movies.opening import AnySource
from smlmlp_dask.movies.photons import in_counts
from smlmlp_dask.movies.stack import Stack

from .outputs import BACKGROUND_ALONE, Outputs

log = logging.getLogger(__name__)

FEW_TIMES = 2.0
"""How often pixels may be decoded before it is tried to run fewer blocks at a time."""

WORK = 3.0
"""Time to filter and store a pixel, about, in times that it takes to decode it."""

KEEP = object()
"""Stands in place of steps in a job without any: frames are kept as they are."""

SENT_BYTES = 2**20
"""Most bytes of one block's tasks of a Dask array that are sent to a worker."""


@dataclass(frozen=True)
class Channel:
    """One channel of a job: where its frames come from, how they are cut, and their steps.

    Without a step, frames are kept as they are. Frames in photoelectrons are those of `source`; the
    camera is None where nothing depends on it.
    """

    source: Stack
    plan: blocks.BlockPlan
    steps: Chain
    camera: Camera | None = None


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
        movie, blocks_of_it = in_counts(channel.source).movie, channel.plan.blocks()
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
                f"{movie.path} holds data: each task would take {as_size(size)} of it to a "
                f"worker, and {as_size(SENT_BYTES)} at most are sent: {remedy}"
            )


def workers_for(memory_limit: int | str | None, planned: int | Workers | None = None) -> Workers:
    """Return the workers of a job; or those `planned`, a number being like threads of the present.

    Raises
    ------
    ValueError
        If the memory limit is not a size, or too small for the processes.
    """
    if isinstance(planned, Workers):
        workers, count = planned, planned.processes
    else:
        workers, count = active_workers(), planned or 1
        if planned is not None:
            workers = Workers(count, workers.memory_bytes * count // workers.threads, count)
    if memory_limit is None:
        return workers
    return workers.limited(memory_limit_bytes(memory_limit, count))


def cut_into_blocks(
    stacks: Sequence[Stack],
    steps: Any,
    workers: Workers,
    outputs: Outputs = BACKGROUND_ALONE,
    cameras: Sequence[Camera] | None = None,
    *,
    rounded: bool = False,
) -> list[Channel]:
    """Cut each channel into blocks so small that every thread of the workers can hold one.

    If no block is, or those decode the movie many times, and the threads are ours, blocks are cut
    for fewer of them; `side_by_side` says for how many. With `KEEP` as steps, frames are kept as
    they are.
    """
    count = len(stacks)
    of_channels: list[Chain] = [()] * count if steps is KEEP else chains(steps, count)
    of_cameras: Sequence[Camera | None] = cameras or [None] * count
    parts = [*zip(stacks, of_channels, of_cameras, strict=True)]
    least = _fewest_tasks(workers)
    channels: list[Channel] = []
    lowest = float("inf")
    for tasks in _halved(workers.threads, least):
        share = replace(workers, threads=tasks).task_bytes
        cut = [_cut(*part, share, outputs, rounded) for part in parts]
        fits = max(channel.plan.block_bytes for channel in cut) <= share
        decoded = max(channel.plan.read_amplification for channel in cut)
        cost = (decoded + WORK) / tasks if fits else float("inf")
        if cost < lowest:
            channels, lowest = cut, cost
        if fits and decoded <= FEW_TIMES:
            break
    if lowest == float("inf"):
        raise ValueError(_too_little(cut, workers, least))
    for i, channel in enumerate(channels):
        stack, plan = channel.source, channel.plan
        log.info(
            "channel %d: %s, %s %s; %s of %s, up to %s each",
            *(i, stack.movie.path, stack.shape, stack.dtype),
            *(counted(plan.n_blocks, "block"), plan.block, as_size(plan.block_bytes)),
        )
    return channels


def _halved(most: int, least: int) -> Iterator[int]:
    """Yield a number, and ever smaller ones, down to the least."""
    while most > least:
        yield most
        most = max(least, most // 2)
    yield least


def _cut(
    stack: Stack,
    chain: Chain,
    camera: Camera | None,
    share: int,
    outputs: Outputs,
    rounded: bool,
) -> Channel:
    """Cut a channel into blocks of at most `share` bytes, or else into the smallest."""
    frame = stack.shape[1:]
    halo = halo_of(chain, frame)
    plan = blocks.plan_blocks(
        stack.shape,
        in_counts(stack).dtype.itemsize,
        stack.unit,
        halo[1:],
        origin=stack.origin,
        decoding=stack.decoding,
        kept=not chain,
        halo_fr=halo[0],
        later_fr=tuple(halo_of(chain[n + 1 :], frame)[0] for n in range(len(chain))) or (0,),
        stores=outputs.stores(camera, stack.movie.shape[1:], rounded=rounded),
        memory_bytes=share,
    )
    return Channel(stack, plan, chain, camera)


def _too_little(channels: Sequence[Channel], workers: Workers, tasks: int) -> str:
    """Say that no block fits, and what helps."""
    largest = max(channels, key=lambda channel: channel.plan.block_bytes)
    fewer = "" if tasks == 1 else "use fewer workers, "
    rest = "take fewer frames for the median" if largest.plan.halo_fr else "rechunk the movie"
    return (
        f"channel {channels.index(largest)} is stored in units of "
        f"{' x '.join(map(str, largest.source.movie.unit))} pixels; "
        f"{_memory_needed(largest.plan, workers, tasks)}, {fewer}or {rest}"
    )


def side_by_side(channels: Sequence[Channel], workers: Workers) -> int:
    """Return how many blocks run at a time: as many as the memory holds of the largest.

    Raises
    ------
    ValueError
        If none fits; or, on threads that we do not start, fewer than one for each thread.
    """
    plan = max((channel.plan for channel in channels), key=lambda plan: plan.block_bytes)
    held = workers.held(plan.block_bytes)
    if held >= workers.threads:
        return workers.threads
    least = _fewest_tasks(workers)
    if held < least:
        raise ValueError(
            f"the store was begun in blocks of {' x '.join(map(str, plan.block))} pixels; "
            f"{_memory_needed(plan, workers, least)}, or use fewer workers"
        )
    return held


def _fewest_tasks(workers: Workers) -> int:
    """Return the fewest tasks at a time: one on threads that we start, else one on each thread."""
    ours = runs_own_threads() and workers.processes == 1 and workers.usable == 1
    return 1 if ours else workers.threads


def _memory_needed(plan: blocks.BlockPlan, workers: Workers, tasks: int) -> str:
    """Say what memory a block takes, and the smallest limit for `tasks` blocks at a time."""
    parts = " + ".join(f"{as_size(size)} {name}" for name, size in plan.held.items())
    libraries = as_size(workers.processes * BASE_BYTES)
    least = f"{workers.least_limit(plan.block_bytes, tasks) // 10**6}MB"
    remedy = f"raise memory_limit (--memory-limit) to {least}"
    if workers.usable < 1:
        remedy = f"use workers with {least} together, and {remedy} if there is one"
    at_a_time = "it exceeds" if tasks == 1 else f"{tasks:,} at a time exceed"
    return (
        f"a block takes {as_size(plan.block_bytes)} ({parts}), and with {libraries} for Python and "
        f"its libraries {at_a_time} {as_size(workers.memory_bytes)}: {remedy}"
    )


def interleave(plans: Sequence[blocks.BlockPlan]) -> Iterator[tuple[int, blocks.Block]]:
    """Yield the blocks of several channels so that all channels advance together."""

    def numbered(channel: int, plan: blocks.BlockPlan) -> Iterator[tuple[float, int, blocks.Block]]:
        """Yield the blocks of a channel with their place in the movie, from 0 to 1."""
        for block in plan.blocks():
            yield (block.number + 0.5) / plan.n_blocks, channel, block

    streams = [numbered(channel, plan) for channel, plan in enumerate(plans)]
    for _, channel, block in merge(*streams):
        yield channel, block
