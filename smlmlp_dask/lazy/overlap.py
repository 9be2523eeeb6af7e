"""Blocks that read their neighbours' pixels, each in one task.

`dask.array.map_overlap` would cut every chunk into its edges and put these together again: several
tasks a block, and a rechunk where a halo is longer than a chunk. Here a task gets the chunks that
it overlaps, as they are, and takes from them what it needs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, product
from typing import Any

import dask.array as da
from dask.array.core import concatenate3
from dask.highlevelgraph import HighLevelGraph

from smlmlp_dask.blocks import Chunks
from smlmlp_dask.movies.stack import Piece, pieces


@dataclass(frozen=True)
class Reach:
    """What a block takes of the chunks that it overlaps, along one axis.

    Attributes
    ----------
    pieces : list of Piece
        The parts that are read.
    own : slice
        Where the block itself lies in what is read.
    """

    pieces: list[Piece]
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
    borders = [tuple(accumulate(lengths, initial=0)) for lengths in stack.chunks]
    reaches = [
        [
            _reach(edges, stop - run, stop, margin)
            for run, stop in zip(runs, accumulate(runs), strict=True)
        ]
        for edges, runs, margin in zip(borders, chunks, halo, strict=True)
    ]
    graph: dict[Any, Any] = {}
    for place in product(*(range(len(runs)) for runs in chunks)):
        frames, rows, columns = (axis[i] for axis, i in zip(reaches, place, strict=True))
        keys = [
            [[(stack.name, t.chunk, y.chunk, x.chunk) for x in columns.pieces] for y in rows.pieces]
            for t in frames.pieces
        ]
        graph[(name, *place)] = (_apply, function, keys, frames, rows, columns)
    layers = HighLevelGraph.from_collections(name, graph, [stack])  # type: ignore[list-item]
    return da.Array(layers, name, chunks, meta=meta)


def _reach(borders: Sequence[int], start: int, stop: int, margin: int) -> Reach:
    """Return what `start` to `stop` and a margin overlap of chunks with these borders."""
    low, high = max(0, start - margin), min(borders[-1], stop + margin)
    nothing = Piece(0, slice(0, 0), slice(0, 0))  # of a stack without frames
    return Reach(pieces(borders, range(low, high)) or [nothing], slice(start - low, stop - low))


def _apply(
    function: Callable[..., Any],
    chunks: Sequence[Sequence[Sequence[Any]]],
    frames: Reach,
    rows: Reach,
    columns: Reach,
) -> Any:
    runs = [
        _merged(tiles, piece.source, rows.pieces, columns.pieces)
        for tiles, piece in zip(chunks, frames.pieces, strict=True)
    ]
    return function(runs, own=(frames.own, rows.own, columns.own))


def _merged(
    tiles: Sequence[Sequence[Any]],
    frames: slice,
    rows: Sequence[Piece],
    columns: Sequence[Piece],
) -> Any:
    """Return one run of frames: a view of its only tile, or its tiles put together."""
    parts = [
        [tile[frames, y.source, x.source] for tile, x in zip(line, columns, strict=True)]
        for line, y in zip(tiles, rows, strict=True)
    ]
    return concatenate3([parts]) if len(rows) * len(columns) > 1 else parts[0][0]
