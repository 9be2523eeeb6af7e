"""Frames in files: their places, and how to read a run of them.

Everything here holds paths and byte offsets, never an open file. So it pickles, and since each read
opens the file itself, threads share no file position.
"""

import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import FileIO
from itertools import accumulate, pairwise
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.messages import one_line
from smlmlp_dask.movies.stack import as_slice, turn, unreadable, within
from smlmlp_dask.units import Decoding

if TYPE_CHECKING:  # plain frames, of many formats, need no tifffile
    from tifffile import TiffFile, TiffPage

Offsets: TypeAlias = range | NDArray[np.int64]

READ_BYTES = 2**18
"""Encoded bytes of small strips or tiles read at a time; a larger one is read alone."""

BUFFER_BYTES = 2**23
"""Bytes read at a time to cut a box out of them."""


Frame: TypeAlias = tuple[int, int]
"""Rows and columns of a frame."""


class Frames(Protocol):
    """Frames of one file or folder that are read together."""

    @property
    def path(self) -> str:
        """File or folder, for messages."""

    def take(self, frames: range) -> Self:
        """Return only these frames, in this order."""

    def held_bytes(self, frame_bytes: int, *, whole: bool) -> int:
        """Return the bytes needed, besides the pixels, to read a whole frame or a box of it."""

    def read_into(self, out: NDArray[Any], rows: range, columns: range, frame: Frame) -> None:
        """Fill `out`, C-contiguous (frame, y, x) in native byte order, with a box of each frame."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PlainFrames:
    """Uncompressed frames of one file, each one run of bytes."""

    path: str
    offsets: Offsets
    dtype: np.dtype[Any]  # as stored, byte order included
    bottom_up: bool = False  # the last row of a frame lies first

    def take(self, frames: range) -> Self:
        """Return only these frames, in this order."""
        return replace(self, offsets=self.offsets[as_slice(frames)])

    def held_bytes(self, frame_bytes: int, *, whole: bool) -> int:
        """Return the bytes of the buffer from which a box is cut."""
        return 0 if whole else min(frame_bytes, BUFFER_BYTES)

    def read_into(self, out: NDArray[Any], rows: range, columns: range, frame: Frame) -> None:
        """Fill `out` with a box of each frame; frames side by side in the file take one read."""
        if self.bottom_up:
            last = frame[0] - 1
            rows = range(last - rows[-1], last - rows[0] + 1, rows.step)
        line_bytes = frame[1] * out.itemsize
        frame_bytes = frame[0] * line_bytes
        offsets = np.asarray(self.offsets, dtype=np.int64)
        breaks = np.flatnonzero(np.diff(offsets) != frame_bytes) + 1
        runs = pairwise([0, *breaks.tolist(), len(offsets)])
        with Path(self.path).open("rb", buffering=0) as file:
            if out.shape[1:] == frame:
                for first, stop in runs:
                    _fill(file, int(offsets[first]), out[first:stop])
            elif frame_bytes <= BUFFER_BYTES:
                step = BUFFER_BYTES // frame_bytes
                buffer = np.empty((min(step, len(offsets)), *frame), out.dtype)
                for run in runs:
                    for first in range(*run, step):
                        stop = min(first + step, run[1])
                        _fill(file, int(offsets[first]), buffer[: stop - first])
                        out[first:stop] = _cut(buffer[: stop - first], rows, columns)
            else:
                step = max(1, BUFFER_BYTES // (line_bytes * rows.step))
                buffer = np.empty((min(step, len(rows)) * rows.step, frame[1]), out.dtype)
                for index, offset in enumerate(offsets.tolist()):
                    for first in range(0, len(rows), step):
                        lines = rows[first : first + step]
                        read = buffer[: lines[-1] + 1 - lines[0]]
                        _fill(file, offset + lines[0] * line_bytes, read)
                        out[index, first : first + step] = read[:: rows.step, as_slice(columns)]
        if not self.dtype.isnative:
            out.byteswap(inplace=True)
        if self.bottom_up:
            turn(out, -1, 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class CodedPages:
    """Pages of one TIFF that must be decoded: compressed, tiled, packed bits."""

    path: str
    offsets: Offsets  # of the pages' directories, to reach one without following the chain
    segment_bytes: int  # of the largest strip or tile: its encoded bytes and its pixels, both twice

    def take(self, frames: range) -> Self:
        """Return only these pages, in this order."""
        return replace(self, offsets=self.offsets[as_slice(frames)])

    def held_bytes(self, frame_bytes: int, *, whole: bool) -> int:  # noqa: ARG002
        """Return the bytes of one strip or tile: they are decoded one at a time."""
        return self.segment_bytes

    def read_into(self, out: NDArray[Any], rows: range, columns: range, frame: Frame) -> None:
        """Fill `out` with a box of every page."""
        from tifffile import TiffPage

        with open_file(Path(self.path)) as tif:
            for index, offset in enumerate(self.offsets):
                tif.filehandle.seek(int(offset))
                _decode(TiffPage(tif, index=index), out[index], rows, columns, frame)


@dataclass(frozen=True, kw_only=True, eq=False)
class PageFiles:
    """TIFF files of one page each, which are checked only when read."""

    path: str  # the folder
    names: tuple[str, ...]

    def take(self, frames: range) -> Self:
        """Return only these files, in this order."""
        return replace(self, names=self.names[as_slice(frames)])

    def held_bytes(self, frame_bytes: int, *, whole: bool) -> int:  # noqa: ARG002
        """Return the bytes of a page in one strip, encoded and decoded: the worst case."""
        return 3 * frame_bytes

    def read_into(self, out: NDArray[Any], rows: range, columns: range, frame: Frame) -> None:
        """Fill `out` with a box of the page of every file."""
        for index, name in enumerate(self.names):
            try:
                with open_file(Path(self.path) / name) as tif:
                    if tif.pages.is_multipage:
                        raise ValueError("it has more than one page")
                    _decode(tif.pages.first, out[index], rows, columns, frame)
            except Exception as error:
                raise ValueError(f"{name}: {one_line(error)}") from error


@dataclass(frozen=True, kw_only=True, eq=False)
class FileMovie:
    """Consecutive frames of a movie in one file, or in one file after another."""

    path: str
    frame_shape: tuple[int, int]
    dtype: np.dtype[Any]  # native byte order
    pieces: tuple[Frames, ...]
    counts: tuple[int, ...]  # frames of each piece
    first: int = 0  # number of the first frame

    @classmethod
    def of(cls, frames: Frames, count: int, frame: Frame, dtype: np.dtype[Any]) -> Self:
        """Return the movie of so many frames that are read together."""
        native = dtype.newbyteorder("=")
        return cls(
            path=frames.path, frame_shape=frame, dtype=native, pieces=(frames,), counts=(count,)
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows and columns."""
        return (sum(self.counts), *self.frame_shape)

    @property
    def unit(self) -> tuple[int, int, int]:
        """Frames, rows and columns that are read together."""
        return (1, *self.frame_shape)

    def decoding(self, *, whole: bool) -> Decoding:
        """Return how frames are decoded, and the memory for it, whole or to cut a box out."""
        frame_bytes = prod(self.frame_shape) * self.dtype.itemsize
        each = max(piece.held_bytes(frame_bytes, whole=whole) for piece in self.pieces)
        together = max(1, BUFFER_BYTES // max(1, frame_bytes)) if each <= frame_bytes else 1
        return Decoding(self.unit, each, together)

    def narrow(self, start: int, stop: int) -> Self:
        """Return a movie that holds only the places of the frames numbered start to stop."""
        parts = self._parts(range(start, stop))
        return replace(
            self,
            pieces=tuple(piece for _, piece in parts),
            counts=tuple(len(numbers) for numbers, _ in parts),
            first=start,
        )

    def read(self, frames: range, rows: slice, columns: slice) -> NDArray[Any]:
        """Return a box of the frames with these numbers, in their order.

        Raises
        ------
        SourceReadError
            If a file can no longer be read as when it was opened.
        """
        height, width = self.frame_shape
        lines, places = range(height)[rows], range(width)[columns]
        box = np.empty((len(frames), len(lines), len(places)), self.dtype)
        start = 0
        for numbers, part in self._parts(frames):
            stop = start + len(numbers)
            try:
                part.read_into(box[start:stop], lines, places, self.frame_shape)
            except Exception as error:
                raise unreadable(part.path, numbers, error) from error
            start = stop
        return box

    def _parts(self, frames: range) -> list[tuple[range, Frames]]:
        """Return the parts of pieces that hold these frames, in the frames' order."""
        starts = list(accumulate(self.counts, initial=self.first))
        low, high = sorted((frames[0], frames[-1]))
        touched = range(bisect_right(starts, low) - 1, bisect_right(starts, high))
        parts = []
        for index in touched if frames.step > 0 else reversed(touched):
            start, stop = starts[index : index + 2]
            inside = within(frames, start, stop)
            if inside:
                local = range(inside.start - start, inside.stop - start, inside.step)
                parts.append((inside, self.pieces[index].take(local)))
        return parts


def open_file(path: Path) -> "TiffFile":
    """Open a TIFF, and none of the files that its metadata name as parts of a set.

    A set is opened by its folder or a glob pattern.
    """
    from tifffile import TiffFile

    return TiffFile(path, _multifile=False, is_mmstack=False)


def check_frame(path: Path, shape: Sequence[int], axes: str) -> tuple[int, int]:
    """Return rows and columns of an image whose last axes they are; refuse colours."""
    kept = [(n, axis) for n, axis in zip(shape, axes, strict=True) if (n, axis) != (1, "S")]
    names = "".join(axis for _, axis in kept)
    sizes = tuple(int(n) for n, _ in kept)
    if "S" in names:
        raise ValueError(
            f"{path} has shape {sizes} with colour samples (axes {names}): save one gray channel"
        )
    if not names.endswith("YX"):
        raise ValueError(
            f"{path} has shape {sizes} (axes {names}), not (frame, y, x): save each channel or "
            "slice as a movie of its own"
        )
    return sizes[-2], sizes[-1]


def _fill(file: FileIO, offset: int, out: NDArray[Any]) -> None:
    """Fill a C-contiguous array from a file, beginning at `offset`."""
    file.seek(offset)
    unread = memoryview(out.reshape(-1).view(np.uint8))
    while unread:
        # One call reads at most 2 GiB on Linux, and less if a signal interrupts it.
        count = file.readinto(unread)
        if not count:
            raise EOFError(f"the file ends at byte {file.seek(0, os.SEEK_END)}")
        unread = unread[count:]


def _cut(frames: NDArray[Any], rows: range, columns: range) -> NDArray[Any]:
    return frames[..., as_slice(rows), as_slice(columns)]


def _decode(page: "TiffPage", out: NDArray[Any], rows: range, columns: range, frame: Frame) -> None:
    """Fill `out` with a box of a page; refuse a page of another shape or dtype, or cut short."""
    found = check_frame(Path(page.parent.filename), page.shape, page.axes)
    if found != frame or prod(page.shape) != prod(frame) or np.dtype(page.dtype) != out.dtype:
        raise ValueError(
            f"it holds a page of shape {page.shape} and dtype {page.dtype} where "
            f"{frame} and {out.dtype} are due"
        )
    size = page.parent.filehandle.size
    end = max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=False)), default=0)
    if end > size:
        # tifffile would fill the missing bytes with zeros
        raise EOFError(f"its pixels reach to byte {end}, the file ends at {size}")
    if page.is_contiguous or page.jpegheader is not None or page.samplesperpixel != 1:
        out[...] = _cut(page.asarray(maxworkers=1).reshape(frame), rows, columns)
        return
    # Decode strip by strip or tile by tile, so that a large page is never in memory as a whole. One
    # thread a page is enough: Dask already reads several blocks at a time.
    for pixels, (_, _, top, left, _), (_, height, width, _) in page.segments(
        maxworkers=1, buffersize=READ_BYTES, _fullsize=False
    ):
        lines = within(rows, top, top + height)
        places = within(columns, left, left + width)
        if not lines or not places:
            del pixels
            continue
        target = out[_places(rows, lines), _places(columns, places)]
        if pixels is None:
            target[...] = page.nodata
        else:
            rest = pixels[0, lines[0] - top :: rows.step, places[0] - left :: columns.step, 0]
            target[...] = rest[: len(lines), : len(places)]
        del pixels  # free it before decoding the next


def _places(numbers: range, part: range) -> slice:
    """Return the slice of a range at which a part of it lies."""
    return slice(numbers.index(part[0]), numbers.index(part[-1]) + 1)
