"""Movies that are no files: NumPy arrays in memory, and Dask arrays that compute their frames."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, product
from math import prod
from typing import TYPE_CHECKING, Any, Self

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.messages import one_line
from smlmlp_dask.units import Decoding

from .stack import Piece, Small, SourceReadError, as_slice, named, pieces

if TYPE_CHECKING:
    import dask.array as da

CHECKED_BYTES = 2**24
"""Bytes of an array that are checksummed at a time: parts that are not contiguous are copied."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NumpyMovie(Small):
    """An array (frame, y, x) in the memory of this process, where all its blocks are read."""

    path: str
    array: NDArray[Any]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows and columns."""
        frames, height, width = self.array.shape
        return (frames, height, width)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Native byte order."""
        return self.array.dtype.newbyteorder("=")

    @property
    def unit(self) -> tuple[int, int, int]:
        """One frame."""
        return (1, *self.shape[1:])

    def decoding(self, *, whole: bool) -> Decoding:  # noqa: ARG002 - a box is a view, too
        """Return that nothing is decoded."""
        return Decoding(self.unit, 0, 1)

    def read(self, frames: range, rows: slice, columns: slice) -> NDArray[Any]:
        """Return a box of the frames with these numbers: a view, if it lies as filters need it.

        It cannot be written to: it is the caller's array.
        """
        box = self.array[as_slice(frames), rows, columns]
        return _untouchable(np.require(box, self.dtype, ["C", "A"]))

    def digest(self) -> str:
        """Return a checksum of dtype, shape and pixels."""
        checksum = google_crc32c.value(f"{self.array.dtype.str} {self.shape}".encode())
        step = max(1, CHECKED_BYTES // max(1, self.dtype.itemsize * prod(self.shape[1:])))
        for first in range(0, len(self.array), step):
            part = np.ascontiguousarray(self.array[first : first + step])
            checksum = google_crc32c.extend(checksum, part.reshape(-1).view(np.uint8))
        return f"crc32c {checksum:08x}"


@dataclass(frozen=True, kw_only=True, eq=False)
class DaskMovie:
    """A Dask array (frame, y, x), or some of its frames; a read computes the chunks it needs."""

    path: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    unit: tuple[int, int, int]
    name: str
    borders: tuple[tuple[int, ...], ...]  # of chunks, along frames, rows and columns
    graph: Mapping[Any, Any]
    even: bool = True  # whether chunks have as many frames as the unit, but for the last
    first: int = 0  # number of the first chunk in time

    @classmethod
    def of(cls, array: "da.Array", path: str) -> Self:
        """Return the movie of an array with known chunks; nothing is computed.

        Raises
        ------
        ValueError
            If its chunks lie on the workers of a cluster.
        """
        from dask.utils import ensure_dict

        frames, height, width = (int(length) for length in array.shape)
        chunks = array.chunks
        longest, rows, columns = (max(1, *lengths) for lengths in chunks)
        keys = array.__dask_keys__()
        movie = cls(
            path=path,
            shape=(frames, height, width),
            dtype=np.dtype(array.dtype).newbyteorder("="),
            unit=(longest, rows, columns),
            name=array.name,
            borders=tuple(tuple(accumulate(lengths, initial=0)) for lengths in chunks),
            graph=ensure_dict(array.__dask_optimize__(array.__dask_graph__(), keys)),
            even=all(length == longest for length in chunks[0][:-1]),
        )
        if not movie._has_all_tasks:
            raise ValueError(
                f"{path} lies on the workers of a cluster, as persist() leaves it: save it as "
                "Zarr, and pass that path"
            )
        return movie

    @property
    def _has_all_tasks(self) -> bool:
        """Whether the first chunk needs tasks alone, and no Future of distributed."""
        try:
            tasks = self._tasks([self._key(0, 0, 0)])
        except KeyError:
            return False
        needed = (getattr(task, "dependencies", ()) for task in tasks.values())
        return all(key in tasks for keys in needed for key in keys)

    def decoding(self, *, whole: bool) -> Decoding:  # noqa: ARG002 - a chunk is computed whole
        """Return that a read holds all chunks that it touches."""
        chunk_bytes = self.dtype.itemsize * prod(self.unit)
        return Decoding(self.unit, chunk_bytes, sys.maxsize, self.even)

    def narrow(self, start: int, stop: int) -> Self:
        """Return a movie with the tasks of the frames start to stop alone."""
        along, *across = self.borders
        touched = pieces(along, range(start, stop))
        first, last = touched[0].chunk, touched[-1].chunk + 1
        every = (range(first, last), *(range(len(edges) - 1) for edges in across))
        return replace(
            self,
            borders=(along[first : last + 1], *across),
            graph=self._tasks([self._key(*place) for place in product(*every)]),
            first=self.first + first,
        )

    def read(self, frames: range, rows: slice, columns: slice) -> NDArray[Any]:
        """Return a box of the frames with these numbers, in their order.

        Raises
        ------
        SourceReadError
            If a chunk cannot be computed, or is not as the array says.
        """
        rising = frames if frames.step > 0 else frames[::-1]
        box = (rising, range(self.shape[1])[rows], range(self.shape[2])[columns])
        try:
            pixels = self._compute(box)
        except Exception as error:  # whatever the caller's functions raise
            what = f"{type(error).__name__}: {one_line(error)}"
            raise SourceReadError(
                f"{self.path}, {named(frames)}, cannot be computed: {what}"
            ) from error
        return pixels if frames.step > 0 else pixels[::-1]

    def _compute(self, box: Sequence[range]) -> NDArray[Any]:
        from dask.local import get_sync

        cuts = [pieces(edges, part) for edges, part in zip(self.borders, box, strict=True)]
        places = list(product(*cuts))
        keys = [self._key(*(piece.chunk for piece in place)) for place in places]
        # In this thread: tasks of the job run side by side already. They have the callbacks.
        chunks = get_sync(self._tasks(keys), keys, callbacks=())
        out = np.empty([len(part) for part in box], self.dtype)
        for place, chunk in zip(places, chunks, strict=True):
            self._check_chunk(chunk, place)
            pixels = chunk[tuple(piece.source for piece in place)]
            if len(places) == 1:
                return _untouchable(np.require(pixels, self.dtype, ["C", "A"]))
            out[tuple(piece.target for piece in place)] = pixels
        return out

    def _check_chunk(self, chunk: Any, place: Sequence[Piece]) -> None:
        """Refuse a chunk that is not what the array promises: it would be cast or cut silently."""
        shape = tuple(
            edges[piece.chunk + 1] - edges[piece.chunk]
            for edges, piece in zip(self.borders, place, strict=True)
        )
        if not isinstance(chunk, np.ndarray) or isinstance(chunk, np.ma.MaskedArray):
            raise TypeError(
                f"a chunk is a {type(chunk).__name__}, not a NumPy array: compute it, or save it "
                "as Zarr, and pass that"
            )
        found = chunk.dtype.newbyteorder("=")
        if chunk.shape != shape or found != self.dtype:
            raise ValueError(
                f"a chunk has shape {chunk.shape} and dtype {found}, and the array promises "
                f"{shape} and {self.dtype}: correct the function that makes it"
            )

    def _key(self, t: int, y: int, x: int) -> tuple[str, int, int, int]:
        return (self.name, self.first + t, y, x)

    def _tasks(self, keys: list[tuple[str, int, int, int]]) -> dict[Any, Any]:
        """Return the tasks that these chunks need."""
        from dask.optimization import cull

        tasks: dict[Any, Any] = cull(self.graph, keys)[0]
        return tasks

    def digest(self) -> str:
        """Return the array's name, which Dask makes from all that went into it."""
        return self.name


def _untouchable(pixels: NDArray[Any]) -> NDArray[Any]:
    view = pixels.view()
    view.flags.writeable = False
    return view
