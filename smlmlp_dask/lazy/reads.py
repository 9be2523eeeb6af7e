"""Dask arrays that read stacks on disk block by block."""

from typing import Any
from uuid import uuid4

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.blocks import Box, frames_per_block, split
from smlmlp_dask.movies.stack import MAX_BLOCKS, Stack, as_slice


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
    lazy: da.Array = da.from_array(
        stack,
        chunks=chunks,
        name=f"open-channels-{uuid4().hex}",
        getitem=_read,  # of our own: Dask fuses slices into its own, and would read blocks in parts
        meta=np.empty((0, 0, 0), stack.dtype),
    )
    return lazy


def _read(stack: Stack, part: Box) -> NDArray[Any]:
    return stack.part(part).read()


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
