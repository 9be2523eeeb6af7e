"""A movie on disk, the part of it that is a channel, and the lazy array that reads it."""

import reprlib
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self
from uuid import uuid4

import dask.array as da
import numpy as np
from dask.layers import ArraySliceDep
from numpy.typing import NDArray

from .chunks import Chunks, frames_per_block, split

MAX_BLOCKS = 10**7
"""Blocks along one axis that Dask can still list; at 16 MiB each, 160 TB."""


class SourceReadError(OSError):
    """The pixels of a source cannot be read: its file is cut short, corrupt, changed or gone.

    Raised when a block is computed. The message names the path and the frames, and for a Zarr
    array the chunk.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def as_slice(frames: range) -> slice:
    """Return the slice that selects what the range lists."""
    return slice(frames.start, frames.stop if frames.stop >= 0 else None, frames.step)


def within(frames: range, start: int, stop: int) -> range:
    """Return the part of an ascending or descending range that lies in [start, stop)."""
    if frames.step < 0:
        return within(frames[::-1], start, stop)[::-1]
    return frames[bisect_left(frames, start) : bisect_left(frames, stop)]


def named(frames: range) -> str:
    """Return how messages call these frames."""
    low, high = min(frames), max(frames)
    return f"frame {low}" if low == high else f"frames {low}-{high}"


def one_line(error: BaseException) -> str:
    """Return the text of an error on one line, or its type where it has none."""
    return printable(" ".join(str(error).split())) or type(error).__name__


def printable(text: str) -> str:
    """Return a text in which nothing breaks the line or steers a terminal: a name may hold both."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def shown(value: object) -> str:
    """Return how messages show a value: on one line, and not at length."""
    text = printable(" ".join(_SHORT.repr(value).split()))
    return text if len(text) <= 80 else f"{text[:77]}..."


_SHORT = reprlib.Repr()  # what is nested without end, or very long, costs nothing
_SHORT.maxstring = _SHORT.maxother = 1000


@contextmanager
def printable_errors() -> Iterator[None]:
    """Let the messages of errors be `printable`, whatever names they quote."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        error.args = tuple(printable(arg) if isinstance(arg, str) else arg for arg in error.args)
        raise


# One movie, and the part of it that is a channel


class Movie(Protocol):
    """A movie on disk, opened for its metadata. It pickles small and holds no open file."""

    @property
    def path(self) -> str:
        """File, folder, pattern or Zarr array, for messages."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows and columns."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Native byte order."""

    @property
    def unit(self) -> tuple[int, int, int]:
        """Frames, rows and columns that are stored, and decoded, together."""

    def narrow(self, start: int, stop: int) -> Self:
        """Return the same with no more than is needed to read the frames start to stop."""

    def read(self, frames: range, rows: slice, columns: slice) -> NDArray[Any]:
        """Return a box of the frames with these numbers, in their order."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stack:
    """One channel, or a part of it: which frames, rows and columns of a movie, in which order.

    Attributes
    ----------
    movie : Movie
        Where the pixels are.
    frames, rows, columns : range
        Numbers in the movie. A flip is a range that descends.
    """

    movie: Movie
    frames: range
    rows: range
    columns: range

    @classmethod
    def of(cls, movie: Movie, frames: range) -> Self:
        """Return whole frames of a movie."""
        _, height, width = movie.shape
        return cls(movie=movie, frames=frames, rows=range(height), columns=range(width))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows and columns."""
        return (len(self.frames), len(self.rows), len(self.columns))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The source's dtype in native byte order."""
        return self.movie.dtype

    @property
    def unit(self) -> tuple[int, int, int]:
        """Frames, rows and columns that are stored together.

        Blocks that begin at multiples of it decode nothing twice if the channel itself begins
        where a unit of the movie does.
        """
        frames, rows, columns = (
            max(1, min(unit, length))
            for unit, length in zip(self.movie.unit, self.movie.shape, strict=True)
        )
        return (
            max(1, frames // abs(self.frames.step)),
            min(rows, max(1, len(self.rows))),
            min(columns, max(1, len(self.columns))),
        )

    @property
    def origin(self) -> tuple[int, int, int]:
        """Where in a unit of the movie the channel begins, on each axis."""
        frame, row, column = (
            (part[0] if part.step > 0 else -1 - part[0]) % unit if part else 0
            for part, unit in zip(
                (self.frames, self.rows, self.columns), self.movie.unit, strict=True
            )
        )
        return (frame // abs(self.frames.step), row, column)

    def part(self, box: tuple[slice, slice, slice]) -> Self:
        """Return a part, small to pickle: it holds only the places of its own frames."""
        frames, rows, columns = self.frames[box[0]], self.rows[box[1]], self.columns[box[2]]
        movie = self.movie
        if frames:
            movie = movie.narrow(min(frames), max(frames) + 1)
        return replace(self, movie=movie, frames=frames, rows=rows, columns=columns)

    def read(self) -> NDArray[Any]:
        """Return the pixels, C-contiguous.

        Raises
        ------
        SourceReadError
            If they cannot be read. It names path, frames and Zarr chunk.
        """
        if 0 in self.shape:
            return np.empty(self.shape, self.dtype)
        pixels = self.movie.read(self.frames, as_rising(self.rows), as_rising(self.columns))
        turn = (slice(None, None, 1 if part.step > 0 else -1) for part in (self.rows, self.columns))
        return np.ascontiguousarray(pixels[(slice(None), *turn)])


def as_rising(numbers: range) -> slice:
    """Return the slice, of positive step, that selects the numbers of a range."""
    rising = numbers if numbers.step > 0 else numbers[::-1]
    return slice(rising.start, rising.stop, rising.step)


# From a movie to a graph


class _BlockReads(ArraySliceDep):
    """What each task reads, made when the graph is: the graph itself holds no task list."""

    def __init__(self, stack: Stack, chunks: Chunks) -> None:
        super().__init__(chunks)
        self.stack = stack

    def __getitem__(self, idx: tuple[int, ...]) -> Stack:
        frames, rows, columns = super().__getitem__(idx)
        return self.stack.part((frames, rows, columns))


def lazy(stack: Stack) -> da.Array:
    """Return whole frames as blocks that end where storage units do.

    Raises
    ------
    ValueError
        If there would be more than `MAX_BLOCKS` of them along an axis.
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
    lazy: da.Array = da.blockwise(
        Stack.read,
        "tyx",
        _BlockReads(stack, chunks),
        "tyx",
        # a new name every time: what is on disk may change between two calls
        name=f"open-channels-{uuid4().hex}",
        dtype=stack.dtype,
        meta=np.empty((0, 0, 0), stack.dtype),
        align_arrays=False,
        # as da.from_array: tells distributed to hold such tasks back until a worker is free
        _data_producer=True,
    )
    return lazy


def _frames_in_runs(selection: range, run: int) -> tuple[int, ...]:
    """Return how many selected frames fall in each run of frames, leaving out empty runs."""
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
    """Return the channel as a part of the movie's whole frames, whose reads it shares."""
    turn = (as_slice(stack.rows), as_slice(stack.columns))
    if whole.shape == stack.shape and stack.rows.step == stack.columns.step == 1:
        return whole
    if whole.numblocks[1:] != (1, 1):
        cut: da.Array = whole[(slice(None), *turn)]
        return cut
    # slicing by Dask would list every block in the graph
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
    # a copy: a view would keep the whole frames in memory
    return np.ascontiguousarray(block[(slice(None), *turn)])
