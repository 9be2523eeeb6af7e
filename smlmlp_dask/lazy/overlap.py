"""Blocks that read their neighbours' pixels, each in one task.

`dask.array.map_overlap` would cut every chunk into its edges and put these together again: several
tasks a block, and a rechunk where a halo is longer than a chunk. Here a task gets the chunks that
it overlaps, as they are, and takes from them what it needs.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, product
from typing import Any

import dask.array as da
import numpy as np
from dask.highlevelgraph import HighLevelGraph

from smlmlp_dask.blocks import Box, Chunks
from smlmlp_dask.filters import device

Piece = tuple[int, slice]
"""A chunk's number on its axis, and the part of it that is read."""


@dataclass(frozen=True)
class Reach:
    """What one task takes from the chunks it gets, and which part of that is its own."""

    pieces: tuple[tuple[slice, ...], tuple[slice, ...], tuple[slice, ...]]
    own: Box


def map_with_halo(
    function: Callable[..., Any],
    stack: da.Array,
    chunks: Chunks,
    halo: Sequence[int],
    *,
    name: str,
    meta: Any,
) -> da.Array:
    """Apply a function to each block and its halo, lazily.

    Parameters
    ----------
    function : callable
        Takes the block and its halo, as far as the stack has it, as a list of stacks one after the
        other in time, and the block's position in them. Returns the block.
    stack : dask.array.Array
        Shape (frame, y, x).
    chunks : tuple of tuple of int
        The blocks along (frame, y, x); they need not be the stack's.
    halo : sequence of int
        Frames, rows and columns that a block reads beyond its own.
    name : str
        The new array's; it must tell all that determines the result.
    meta : array
        An empty array of the result's type and dtype.
    """
    pieces = [
        [
            _overlapped(ends, stop - run, stop, margin)
            for run, stop in zip(new, accumulate(new), strict=True)
        ]
        for ends, new, margin in zip(
            (list(accumulate(old)) for old in stack.chunks), chunks, halo, strict=True
        )
    ]
    graph: dict[Any, Any] = {}
    for place in product(*(range(len(runs)) for runs in chunks)):
        frames, rows, columns = (
            axis_pieces[i] for axis_pieces, i in zip(pieces, place, strict=True)
        )
        keys = [
            [[(stack.name, t, y, x) for x, _ in columns[0]] for y, _ in rows[0]]
            for t, _ in frames[0]
        ]
        reach = Reach(
            (_parts(frames[0]), _parts(rows[0]), _parts(columns[0])),
            (frames[1], rows[1], columns[1]),
        )
        graph[(name, *place)] = (_apply, function, keys, reach)
    layers = HighLevelGraph.from_collections(name, graph, [stack])  # type: ignore[list-item]
    return da.Array(layers, name, chunks, meta=meta)


def _overlapped(
    ends: Sequence[int], start: int, stop: int, margin: int
) -> tuple[list[Piece], slice]:
    """Return the pieces that hold `start` to `stop` and a margin, and where these lie in them.

    `ends` are where the stack's chunks end on this axis.
    """
    low, high = max(0, start - margin), min(ends[-1], stop + margin)
    pieces = []
    number = bisect_right(ends, low)
    while low < high:
        begin, end = ends[number - 1] if number else 0, ends[number]
        if begin < end:  # chunks may be empty
            pieces.append((number, slice(low - begin, min(end, high) - begin)))
        low, number = end, number + 1
    own = slice(start - max(0, start - margin), stop - max(0, start - margin))
    # a block without frames
    return pieces or [(0, slice(0, 0))], own


def _parts(pieces: Sequence[Piece]) -> tuple[slice, ...]:
    return tuple(part for _, part in pieces)


def _apply(
    function: Callable[..., Any],
    chunks: Sequence[Sequence[Sequence[Any]]],
    reach: Reach,
) -> Any:
    times, rows, columns = reach.pieces
    whole = [
        _merged(tiles, frames, rows, columns) for tiles, frames in zip(chunks, times, strict=True)
    ]
    return function(whole, own=reach.own)


def _merged(
    tiles: Sequence[Sequence[Any]],
    frames: slice,
    rows: Sequence[slice],
    columns: Sequence[slice],
) -> Any:
    """Return one run of frames: a view of its only tile, or its tiles put together."""
    parts = [
        [tile[frames, y, x] for tile, x in zip(line, columns, strict=True)]
        for line, y in zip(tiles, rows, strict=True)
    ]
    if len(parts) == len(parts[0]) == 1:
        return parts[0][0]
    first = parts[0][0]
    shape = (
        len(first),
        sum(line[0].shape[1] for line in parts),
        sum(tile.shape[2] for tile in parts[0]),
    )
    on_host = isinstance(first, np.ndarray)
    whole = np.empty(shape, first.dtype) if on_host else device.empty(shape, first.dtype)
    y = 0
    for line in parts:
        x, height = 0, line[0].shape[1]
        for tile in line:
            whole[:, y : y + height, x : x + tile.shape[2]] = tile
            x += tile.shape[2]
        y += height
    return whole
