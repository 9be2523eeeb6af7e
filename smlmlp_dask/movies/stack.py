"""A movie on disk, the part of it that is a channel, and the lazy array that reads it."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.messages import one_line, printable
from smlmlp_dask.units import Decoding

from .acquisition import UNKNOWN, Acquisition

TURNED_BYTES = 2**20
"""Bytes copied at a time to flip frames in place, unless a frame takes more."""

MAX_BLOCKS = 10**7
"""Most blocks along one axis that Dask can list: 160 TB at 16 MiB each."""


class SourceReadError(OSError):
    """The pixels of a source cannot be read: its file is cut short, corrupt, changed or gone.

    Raised when a block is computed. The message names the path and the frames, and for a Zarr
    array the chunk.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def unreadable(what: str, frames: range, error: Exception) -> SourceReadError:
    """Return the error that these frames cannot be read."""
    return SourceReadError(
        f"{what}: {named(frames)} cannot be read: {one_line(error)}; check that the file is whole "
        "and has not changed since it was opened"
    )


def check_due(found: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise `ValueError` if an array is not of this shape and, in native byte order, dtype."""
    if (found.shape, found.dtype.newbyteorder("=")) != (shape, dtype):
        raise ValueError(
            f"it has shape {found.shape} and dtype {found.dtype} where {shape} and {dtype} are due"
        )


def as_slice(frames: range) -> slice:
    """Return the slice that selects the frames of a range."""
    return slice(frames.start, frames.stop if frames.stop >= 0 else None, frames.step)


def within(frames: range, start: int, stop: int) -> range:
    """Return the part of an ascending or descending range that lies in [start, stop)."""
    if frames.step < 0:
        return within(frames[::-1], start, stop)[::-1]
    return frames[bisect_left(frames, start) : bisect_left(frames, stop)]


class Piece(NamedTuple):
    """What is wanted of one chunk along an axis, and its place among all that is wanted."""

    chunk: int
    source: slice
    target: slice


def pieces(borders: Sequence[int], wanted: range) -> list[Piece]:
    """Return the parts of chunks that hold rising numbers, by the borders of all chunks."""
    found: list[Piece] = []
    if not wanted:
        return found
    done = 0
    touched = range(bisect_right(borders, wanted[0]) - 1, bisect_left(borders, wanted[-1] + 1))
    for chunk in touched:
        start, stop = borders[chunk : chunk + 2]
        if inside := within(wanted, start, stop):
            source = slice(inside[0] - start, inside[-1] + 1 - start, inside.step)
            found.append(Piece(chunk, source, slice(done, done + len(inside))))
            done += len(inside)
    return found


def named(frames: range) -> str:
    """Return the name of these frames in messages."""
    low, high = min(frames), max(frames)
    return f"frame {low}" if low == high else f"frames {low}-{high}"


# One movie, and the part of it that is a channel


class Movie(Protocol):
    """A movie on disk whose metadata were read. It pickles small and holds no open file."""

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
        """Frames, rows and columns that are stored and decoded together."""

    def decoding(self, *, whole: bool) -> Decoding:
        """Return how units are decoded, and the memory for it, to read whole frames or a box."""

    def narrow(self, start: int, stop: int) -> Self:
        """Return a smaller movie that can read only the frames start to stop."""

    def read(self, frames: range, rows: slice, columns: slice) -> NDArray[Any]:
        """Return a box of the frames with these numbers, in their order."""


class Small:
    """A movie that pickles small as it is."""

    def narrow(self, start: int, stop: int) -> Self:  # noqa: ARG002 - none can be left out
        """Return itself."""
        return self


@dataclass(frozen=True, kw_only=True, eq=False)
class Stack:
    """One channel, or a part of it: some frames, rows and columns of a movie, in some order.

    Attributes
    ----------
    movie : Movie
        The movie that holds the pixels.
    frames, rows, columns : range
        Numbers in the movie; a descending range is a flip.
    acquisition : Acquisition
        How the channel was recorded, as far as its file says.
    photons : callable or None
        ``photons(counts, (rows, columns))`` returns a box of frames in photoelectrons, in float32;
        without it, they are in the camera's counts.
    """

    movie: Movie
    frames: range
    rows: range
    columns: range
    acquisition: Acquisition = UNKNOWN
    photons: Callable[[NDArray[Any], tuple[slice, slice]], NDArray[Any]] | None = None

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
        """The source's dtype in native byte order; float32 of photoelectrons."""
        return self.movie.dtype if self.photons is None else np.dtype(np.float32)

    @property
    def unit(self) -> tuple[int, int, int]:
        """Frames, rows and columns that are stored together.

        Blocks that begin at multiples of it decode nothing twice, if the channel begins at the
        border of a unit of the movie.
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
        """Position within a unit of the movie where the channel begins, on each axis."""
        frame, row, column = (
            (part[0] if part.step > 0 else -1 - part[0]) % unit if part else 0
            for part, unit in zip(
                (self.frames, self.rows, self.columns), self.movie.unit, strict=True
            )
        )
        return (frame // abs(self.frames.step), row, column)

    @property
    def decoding(self) -> Decoding:
        """How the movie's units are decoded for this channel, and the memory for it."""
        whole = (len(self.rows), len(self.columns)) == self.movie.shape[1:]
        decoding = self.movie.decoding(whole=whole)
        frames, step = decoding.unit[0], abs(self.frames.step)
        unit = (max(1, frames // step), *decoding.unit[1:])
        return replace(decoding, unit=unit, even=decoding.even and frames % step == 0)

    def part(self, box: tuple[slice, slice, slice]) -> Self:
        """Return a part. It pickles small, since it holds only the places of its own frames."""
        frames, rows, columns = self.frames[box[0]], self.rows[box[1]], self.columns[box[2]]
        movie = self.movie
        if frames:
            movie = movie.narrow(min(frames), max(frames) + 1)
        return replace(self, movie=movie, frames=frames, rows=rows, columns=columns)

    def read(self) -> NDArray[Any]:
        """Return the pixels, C-contiguous, or raise `SourceReadError`; do not write to them."""
        if 0 in self.shape:
            return np.empty(self.shape, self.dtype)
        box = as_rising(self.rows), as_rising(self.columns)
        pixels = self.movie.read(self.frames, *box)
        if self.photons is not None:
            pixels = self.photons(pixels, box)
        pixels = np.ascontiguousarray(pixels)
        step_y, step_x = (-1 if part.step < 0 else 1 for part in (self.rows, self.columns))
        if (step_y, step_x) != (1, 1):
            if not pixels.flags.writeable:
                pixels = pixels.copy()  # of an array of the caller's, which must not be turned
            turn(pixels, step_y, step_x)
        return pixels


def turn(frames: NDArray[Any], step_y: int, step_x: int) -> None:
    """Reverse the rows, the columns or both of frames in place, by steps of -1."""
    few = max(1, TURNED_BYTES // frames[0].nbytes)
    for start in range(0, len(frames), few):
        part = frames[start : start + few]
        part[...] = part[:, ::step_y, ::step_x].copy()


def as_rising(numbers: range) -> slice:
    """Return the slice with a positive step that selects the numbers of a range."""
    rising = numbers if numbers.step > 0 else numbers[::-1]
    return slice(rising.start, rising.stop, rising.step)
