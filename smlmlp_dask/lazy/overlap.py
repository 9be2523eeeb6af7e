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
from dask.array.core import concatenate3
from dask.highlevelgraph import HighLevelGraph

from smlmlp_dask.blocks import Chunks


@dataclass(frozen=True)
class Reach:
    """What a block takes of the chunks that it overlaps, along one axis.

    Attributes
    ----------
    chunks : list of int
        Their numbers.
    parts : list of slice
        The part of each that is read.
    own : slice
        Where the block itself lies in what is read.
    """

    chunks: list[int]
    parts: list[slice]
    own: slice


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
    reaches = [
        [
            _reach(list(accumulate(old)), stop - run, stop, margin)
            for run, stop in zip(new, accumulate(new), strict=True)
        ]
        for old, new, margin in zip(stack.chunks, chunks, halo, strict=True)
    ]
    graph: dict[Any, Any] = {}
    for place in product(*(range(len(runs)) for runs in chunks)):
        frames, rows, columns = (axis[i] for axis, i in zip(reaches, place, strict=True))
        keys = [
            [[(stack.name, t, y, x) for x in columns.chunks] for y in rows.chunks]
            for t in frames.chunks
        ]
        graph[(name, *place)] = (_apply, function, keys, frames, rows, columns)
    layers = HighLevelGraph.from_collections(name, graph, [stack])  # type: ignore[list-item]
    return da.Array(layers, name, chunks, meta=meta)


def _reach(ends: Sequence[int], start: int, stop: int, margin: int) -> Reach:
    """Return what `start` to `stop` and a margin overlap of chunks that end at `ends`."""
    low, high = max(0, start - margin), min(ends[-1], stop + margin)
    own = slice(start - low, stop - low)
    reach = Reach([], [], own)
    number = bisect_right(ends, low)
    while low < high:
        begin, end = ends[number - 1] if number else 0, ends[number]
        if begin < end:  # chunks may be empty
            reach.chunks.append(number)
            reach.parts.append(slice(low - begin, min(end, high) - begin))
        low, number = end, number + 1
    # a block without frames
    return reach if reach.chunks else Reach([0], [slice(0, 0)], own)


def _apply(
    function: Callable[..., Any],
    chunks: Sequence[Sequence[Sequence[Any]]],
    frames: Reach,
    rows: Reach,
    columns: Reach,
) -> Any:
    runs = [
        _merged(tiles, part, rows.parts, columns.parts)
        for tiles, part in zip(chunks, frames.parts, strict=True)
    ]
    return function(runs, own=(frames.own, rows.own, columns.own))


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
    return concatenate3([parts]) if len(rows) * len(columns) > 1 else parts[0][0]
