"""Frames in files: where they lie, and how a run of them is read.

Everything here holds paths and byte offsets, never an open file: it pickles, and each read opens
the file for itself, so that threads share no file position.
"""

import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from math import prod
from pathlib import Path
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile, TiffPage

from .chunks import frames_per_block
from .stack import SourceReadError, as_slice, named, one_line, within

Offsets: TypeAlias = range | NDArray[np.int64]


class Frames(Protocol):
    """Frames of one path that are read together."""

    @property
    def path(self) -> str:
        """File or folder, for messages."""

    def take(self, frames: range) -> Self:
        """Return only these frames, in this order."""

    def read_into(self, out: NDArray[Any]) -> None:
        """Fill `out`, C-contiguous (frame, y, x) in native byte order, with every frame."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PlainFrames:
    """Uncompressed frames of one file, each one run of bytes."""

    path: str
    offsets: Offsets
    dtype: np.dtype[Any]  # as stored, byte order included

    def take(self, frames: range) -> Self:
        """Return only these frames, in this order."""
        return replace(self, offsets=self.offsets[as_slice(frames)])

    def read_into(self, out: NDArray[Any]) -> None:
        """Fill `out` with every frame, neighbours in the file by one read."""
        frame_bytes = prod(out.shape[1:]) * out.itemsize
        offsets = np.asarray(self.offsets, dtype=np.int64)
        breaks = np.flatnonzero(np.diff(offsets) != frame_bytes) + 1
        with Path(self.path).open("rb", buffering=0) as file:
            for first, stop in pairwise([0, *breaks.tolist(), len(offsets)]):
                file.seek(int(offsets[first]))
                unread = memoryview(out[first:stop].reshape(-1).view(np.uint8))
                while unread:
                    # one call reads at most 2 GiB on Linux, and less when a signal comes in
                    count = file.readinto(unread)
                    if not count:
                        raise EOFError(f"the file ends at byte {os.fstat(file.fileno()).st_size}")
                    unread = unread[count:]
        if not self.dtype.isnative:
            out.byteswap(inplace=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class CodedPages:
    """Pages of one TIFF that must be decoded: compressed, tiled, packed bits."""

    path: str
    offsets: Offsets  # of the pages' directories: no walk along the chain to reach one

    def take(self, frames: range) -> Self:
        """Return only these pages, in this order."""
        return replace(self, offsets=self.offsets[as_slice(frames)])

    def read_into(self, out: NDArray[Any]) -> None:
        """Fill `out` with every page."""
        with open_file(Path(self.path)) as tif:
            for index, offset in enumerate(self.offsets):
                tif.filehandle.seek(int(offset))
                out[index] = _decode(TiffPage(tif, index=index), out)


@dataclass(frozen=True, kw_only=True, eq=False)
class PageFiles:
    """TIFF files of one page each, checked when they are read."""

    path: str  # the folder
    names: tuple[str, ...]

    def take(self, frames: range) -> Self:
        """Return only these files, in this order."""
        return replace(self, names=self.names[as_slice(frames)])

    def read_into(self, out: NDArray[Any]) -> None:
        """Fill `out` with the page of every file."""
        for index, name in enumerate(self.names):
            try:
                with open_file(Path(self.path) / name) as tif:
                    if tif.pages.is_multipage:
                        raise ValueError("it has more than one page")
                    out[index] = _decode(tif.pages.first, out)
            except Exception as error:
                raise ValueError(f"{name}: {one_line(error)}") from error


@dataclass(frozen=True, kw_only=True, eq=False)
class FileMovie:
    """Consecutive frames of a movie, whole in one file or in one file after another."""

    path: str
    frame_shape: tuple[int, int]
    dtype: np.dtype[Any]  # native byte order
    pieces: tuple[Frames, ...]
    counts: tuple[int, ...]  # frames of each piece
    first: int = 0  # number of the first frame

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows and columns."""
        return (sum(self.counts), *self.frame_shape)

    @property
    def unit(self) -> tuple[int, int, int]:
        """Frames, rows and columns that are read together."""
        return (1, *self.frame_shape)

    def narrow(self, start: int, stop: int) -> Self:
        """Return the frames numbered start to stop, without the places of all others."""
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
            If a file cannot be read as it could when it was opened.
        """
        height, width = self.frame_shape
        rows_read, columns_read = range(height)[rows], range(width)[columns]
        box = np.empty((len(frames), len(rows_read), len(columns_read)), self.dtype)
        if box.shape[1:] == self.frame_shape:
            self._read_whole(frames, box)
            return box
        # a small box of many large frames: few whole frames are in memory at a time
        step = frames_per_block(height * width)
        whole = np.empty((min(step, len(frames)), height, width), self.dtype)
        for start in range(0, len(frames), step):
            part = frames[start : start + step]
            self._read_whole(part, whole[: len(part)])
            box[start : start + step] = whole[: len(part), rows, columns]
        return box

    def _read_whole(self, frames: range, out: NDArray[Any]) -> None:
        start = 0
        for numbers, part in self._parts(frames):
            stop = start + len(numbers)
            try:
                part.read_into(out[start:stop])
            except Exception as error:
                raise SourceReadError(
                    f"{part.path}: {named(numbers)} cannot be read: {one_line(error)}; check "
                    "that the file is whole and has not changed since it was opened"
                ) from error
            start = stop

    def _parts(self, frames: range) -> list[tuple[range, Frames]]:
        """Return the pieces that hold these frames, cut to them, in the frames' order."""
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


def open_file(path: Path) -> TiffFile:
    """Open a TIFF, and no other file that it names."""
    # The metadata of multi-file sets name other files: they are never followed. A set is opened
    # by its folder or a glob pattern.
    return TiffFile(path, _multifile=False, is_mmstack=False)


def movie_shape(path: Path, shape: Sequence[int], axes: str) -> tuple[int, int, int]:
    """Return shape and axes of an image as (frame, y, x), if it is one movie of gray frames."""
    kept = [(n, axis) for n, axis in zip(shape, axes, strict=True) if (n, axis) != (1, "S")]
    names = "".join(axis for _, axis in kept)
    sizes = tuple(int(n) for n, _ in kept)
    if "S" in names:
        raise ValueError(
            f"{path} has shape {sizes} with colour samples (axes {names}): save one gray channel"
        )
    if not names.endswith("YX") or sum(n != 1 for n in sizes[:-2]) > 1:
        raise ValueError(
            f"{path} has shape {sizes} (axes {names}), not (frame, y, x): save each channel or "
            "slice as a movie of its own"
        )
    return (prod(sizes[:-2]), sizes[-2], sizes[-1])


def _decode(page: TiffPage, out: NDArray[Any]) -> NDArray[Any]:
    """Return the pixels of one page, refusing a page unlike `out` (frame, y, x) or cut short."""
    shape = movie_shape(Path(page.parent.filename), page.shape, page.axes)
    if shape != (1, *out.shape[1:]) or np.dtype(page.dtype) != out.dtype:
        raise ValueError(
            f"it holds a page of shape {shape[1:]} and dtype {page.dtype} where "
            f"{out.shape[1:]} and {out.dtype} are due"
        )
    size = page.parent.filehandle.size
    end = max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=False)), default=0)
    if end > size:
        # tifffile fills what is missing with zeros
        raise EOFError(f"its pixels reach to byte {end}, the file ends at {size}")
    # Dask's threads already run side by side: no pool of decoders within one page
    pixels: NDArray[Any] = page.asarray(maxworkers=1)
    return pixels.reshape(out.shape[1:])
