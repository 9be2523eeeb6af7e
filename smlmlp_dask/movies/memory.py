"""Movies that are no files: NumPy arrays in memory, and Dask arrays that compute their frames."""

import sys
from bisect import bisect_left, bisect_right
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

from .stack import Small, SourceReadError, as_slice, named, within

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
            tasks = self._tasks(self._keys([range(1)] * 3))
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
        places = _touched(self.borders[0], start, stop)
        if len(places) == len(self.borders[0]) - 1:
            return self
        along, *across = self.borders
        narrowed = replace(
            self,
            borders=(along[places.start : places.stop + 1], *across),
            first=self.first + places.start,
        )
        every = (range(len(edges) - 1) for edges in narrowed.borders)
        return replace(narrowed, graph=self._tasks(narrowed._keys(every)))

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

        places = [
            _touched(edges, part[0], part[-1] + 1)
            for edges, part in zip(self.borders, box, strict=True)
        ]
        keys = self._keys(places)
        # In this thread: tasks of the job run side by side already. They have the callbacks.
        computed = get_sync(self._tasks(keys), keys, callbacks=())
        chunks = dict(zip(product(*places), computed, strict=True))
        out = np.empty([len(part) for part in box], self.dtype)
        for place, chunk in chunks.items():
            spans = [edges[n : n + 2] for edges, n in zip(self.borders, place, strict=True)]
            self._check_chunk(chunk, tuple(stop - start for start, stop in spans))
            parts = [within(axis, *span) for axis, span in zip(box, spans, strict=True)]
            if not all(parts):  # no selected frame lies in this chunk
                continue
            source = (
                slice(part[0] - start, part[-1] + 1 - start, part.step)
                for part, (start, _) in zip(parts, spans, strict=True)
            )
            pixels = chunk[tuple(source)]
            if len(chunks) == 1:
                return _untouchable(np.require(pixels, self.dtype, ["C", "A"]))
            target = (
                slice(axis.index(part[0]), axis.index(part[-1]) + 1)
                for axis, part in zip(box, parts, strict=True)
            )
            out[tuple(target)] = pixels
        return out

    def _check_chunk(self, chunk: Any, shape: tuple[int, ...]) -> None:
        """Refuse a chunk that is not what the array promises: it would be cast or cut silently."""
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

    def _keys(self, places: Any) -> list[tuple[Any, ...]]:
        return [(self.name, self.first + t, y, x) for t, y, x in product(*places)]

    def _tasks(self, keys: list[tuple[Any, ...]]) -> dict[Any, Any]:
        """Return the tasks that these chunks need."""
        from dask.optimization import cull

        tasks: dict[Any, Any] = cull(self.graph, keys)[0]
        return tasks

    def digest(self) -> str:
        """Return the array's name, which Dask makes from all that went into it."""
        return self.name


def _touched(borders: Sequence[int], start: int, stop: int) -> range:
    """Return the numbers of the chunks that a part touches."""
    return range(bisect_right(borders, start) - 1, bisect_left(borders, stop))


def _untouchable(pixels: NDArray[Any]) -> NDArray[Any]:
    view = pixels.view()
    view.flags.writeable = False
    return view
