"""Dask arrays that read stacks on disk block by block."""

from typing import Any
from uuid import uuid4

import dask.array as da
import numpy as np
from dask.base import normalize_token
from dask.layers import ArraySliceDep
from numpy.typing import NDArray

from smlmlp_dask.blocks import Chunks, frames_per_block, split
from smlmlp_dask.movies.stack import MAX_BLOCKS, Stack, as_slice


class _BlockReads(ArraySliceDep):
    """The part that each task reads, made when the graph is built: so no task list is stored."""

    def __init__(self, stack: Stack, chunks: Chunks, name: str) -> None:
        super().__init__(chunks)
        self.stack = stack
        self.name = name

    def __getitem__(self, idx: tuple[int, ...]) -> Stack:
        frames, rows, columns = super().__getitem__(idx)
        return self.stack.part((frames, rows, columns))


# When Dask fuses tasks, it takes reads with equal tokens for the same read. A subclass of
# `ArraySliceDep` inherits its registered token, the chunks alone (dask.layers): of two stacks with
# equal chunks, Dask would read only one. A `__dask_tokenize__` method does not help, since Dask
# prefers the parent's registration.
normalize_token.register(_BlockReads, lambda reads: ("_BlockReads", reads.name))


def lazy(stack: Stack) -> da.Array:
    """Return a dask array of a stack in blocks of whole storage units.

    Raises
    ------
    ValueError
        If it would have more than `MAX_BLOCKS` blocks along an axis.
    """
    _, rows, columns = stack.unit
    run = frames_per_block(rows * columns, stack.movie.unit[0])
    steps = (max(1, run // abs(stack.frames.step)), rows, columns)
    if any(n > MAX_BLOCKS * step for n, step in zip(stack.shape, steps, strict=True)):
        raise ValueError(
            f"{stack.movie.path} has shape {stack.shape} in units of {stack.unit}: more than "
            f"{MAX_BLOCKS:,} blocks along an axis; take a part by frames=, or rechunk the movie"
        )
    chunks = (
        _frames_in_runs(stack.frames, run),
        split(stack.shape[1], rows),
        split(stack.shape[2], columns),
    )
    # A new name every time, as the file may change between two calls.
    name = f"open-channels-{uuid4().hex}"
    lazy: da.Array = da.blockwise(
        Stack.read,
        "tyx",
        _BlockReads(stack, chunks, name),
        "tyx",
        name=name,
        dtype=stack.dtype,
        meta=np.empty((0, 0, 0), stack.dtype),
        align_arrays=False,
        # As in da.from_array: distributed holds these tasks back until a worker is free.
        _data_producer=True,
    )
    return lazy


def _frames_in_runs(selection: range, run: int) -> tuple[int, ...]:
    """Return how many selected frames lie in each run of frames; leave empty runs out."""
    if not selection:
        return (0,)
    if abs(selection.step) >= run:
        return (1,) * len(selection)
    if selection.step < 0:
        return _frames_in_runs(selection[::-1], run)[::-1]
    ends = np.arange(selection[0] // run + 1, selection[-1] // run + 1) * run
    before = -((selection.start - ends) // selection.step)
    return tuple(np.diff(before, prepend=0, append=len(selection)).tolist())


def cut(whole: da.Array, stack: Stack) -> da.Array:
    """Return a channel as a part of the movie's whole frames, so that channels share reads."""
    turn = (as_slice(stack.rows), as_slice(stack.columns))
    if whole.shape == stack.shape and stack.rows.step == stack.columns.step == 1:
        return whole
    if whole.numblocks[1:] != (1, 1):
        cut: da.Array = whole[(slice(None), *turn)]
        return cut
    # Slicing with Dask would list every block in the graph.
    mapped: da.Array = da.map_blocks(
        _cut_block,
        whole,
        turn=turn,
        chunks=(whole.chunks[0], *((length,) for length in stack.shape[1:])),
        dtype=whole.dtype,
        meta=np.empty((0, 0, 0), whole.dtype),
    )
    return mapped


def _cut_block(block: NDArray[Any], *, turn: tuple[slice, slice]) -> NDArray[Any]:
    # Copy, as a view would keep the whole frames in memory.
    return np.ascontiguousarray(block[(slice(None), *turn)])
