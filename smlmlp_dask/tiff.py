"""Movies in files: TIFF in its many layouts, and frames that lie plainly at known offsets.

Everything here holds paths and byte offsets, never an open file: it pickles, and each read opens
the file for itself, so that threads share no file position.
"""

import json
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from math import prod
from pathlib import Path
from typing import Any, Protocol, Self, TypeAlias, cast
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile, TiffFileError, TiffPage, natural_sorted

from .chunks import frames_per_block
from .stack import SourceReadError, as_slice, named, one_line, within

TIFF_SUFFIXES = frozenset({".tif", ".tiff", ".btf", ".tf2", ".tf8"})
"""Endings, in lower case, of the files of a folder or glob that are taken as TIFF."""

MAX_HEADERS = 2000
"""Single-page files whose headers are all read when a folder is opened; beyond, the ends are."""

Offsets: TypeAlias = range | NDArray[np.int64]

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


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
        with _open(Path(self.path)) as tif:
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
                with _open(Path(self.path) / name) as tif:
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


def is_tiff(path: Path) -> bool:
    """Tell whether a file is to be read as TIFF: by its ending, else by its first bytes."""
    if path.suffix.lower() in TIFF_SUFFIXES:
        return True
    with path.open("rb") as file:
        return file.read(4) in _MAGIC


def tiff_names(folder: Path, files: Sequence[Path]) -> list[str]:
    """Return the visible TIFF files as names relative to `folder`: 2 before 10."""
    return natural_sorted(
        file.relative_to(folder).as_posix()
        for file in files
        if not file.name.startswith(".") and file.suffix.lower() in TIFF_SUFFIXES and file.is_file()
    )


def open_tiff(path: Path, *, alone: bool = True) -> FileMovie:
    """Read the headers of one TIFF.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    alone : bool
        False for a file of a folder or glob: a single 2-D page is one frame then, and a file of
        a multi-file OME set stands for its own pages.

    Raises
    ------
    ValueError
        If the file is damaged, cut short, or not one movie of gray frames.
    """
    with _parsing(path):
        tif = _open(path)
    with tif:
        with _parsing(path):
            pages = len(tif.pages)
            complete = _chain_is_complete(tif)
            series = list(tif.series)
        if not series:
            raise ValueError(f"{path} has no image: it is empty or cut short; copy the file again")
        if not complete:
            raise ValueError(
                f"{path} is cut short: its page {pages} points to a next page that is not in the "
                "file; copy the file again"
            )
        first = series[0]
        if len(series) > 1:
            raise ValueError(
                f"{path} holds {len(series)} image series in {pages} pages, the first of shape "
                f"{first.shape}, not one movie; {_REWRITE}"
            )
        if first.keyframe.dtype is None:
            raise ValueError(
                f"{path} has {first.keyframe.bitspersample} bits per pixel in a form that has no "
                "NumPy dtype: save it as 16-bit integers"
            )
        shape = _movie_shape(path, first.shape, first.axes)
        _check_counts(path, tif, first, frames=shape[0], pages=pages, alone=alone)
        if alone and first.ndim == 2:
            raise ValueError(
                f"{path} is one 2-D page of shape {first.shape}: pass its folder or a glob "
                "pattern to open pages as the frames of a movie"
            )
        with _parsing(path):
            frames, end = _locate(str(path), tif, first, shape)
        size = tif.filehandle.size
        if end > size:
            raise ValueError(
                f"{path} is cut short: its {shape[0]} frames reach to byte {end}, the file ends "
                f"at {size}; copy the file again"
            )
        return FileMovie(
            path=str(path),
            frame_shape=shape[1:],
            dtype=np.dtype(first.dtype).newbyteorder("="),
            pieces=(frames,),
            counts=(shape[0],),
        )


def open_tiffs(label: str, folder: Path, names: Sequence[str]) -> FileMovie:
    """Join TIFF files, in this order, to one movie.

    The headers of all files are read, except in a folder of over `MAX_HEADERS` single-page
    files: there those of the first and the last are, and each page is checked when it is read.

    Parameters
    ----------
    label : str
        The source, for messages.
    folder : pathlib.Path
        What `names` are relative to.
    names : sequence of str
        At least one.

    Raises
    ------
    ValueError
        If a file is not a readable TIFF, or its frames differ in shape or dtype from the first.
    """
    many = len(names) > MAX_HEADERS
    looked_at = [names[0], names[-1]] if many else names
    movies = [open_tiff(folder / name, alone=False) for name in looked_at]
    sampled = many and all(movie.shape[0] == 1 for movie in movies)
    if many and not sampled:
        movies = [open_tiff(folder / name, alone=False) for name in names]
    reference = movies[0]
    for movie in movies:
        if (movie.frame_shape, movie.dtype) != (reference.frame_shape, reference.dtype):
            raise ValueError(
                f"{movie.path} has frames of shape {movie.frame_shape} and dtype {movie.dtype}, "
                f"{reference.path} of {reference.frame_shape} and {reference.dtype}; a movie's "
                "frames are all alike: keep other images elsewhere"
            )
    pieces: tuple[Frames, ...] = tuple(piece for movie in movies for piece in movie.pieces)
    counts = tuple(movie.shape[0] for movie in movies)
    if sampled:
        pieces = (PageFiles(path=str(folder), names=tuple(names)),)
        counts = (len(names),)
    return FileMovie(
        path=label,
        frame_shape=reference.frame_shape,
        dtype=reference.dtype,
        pieces=pieces,
        counts=counts,
    )


_REWRITE = (
    "write the frames as one stack, such as tifffile.imwrite(path, movie) with a movie of shape "
    "(frame, y, x)"
)


def _open(path: Path) -> TiffFile:
    # The metadata of multi-file sets name other files: they are never followed. A set is opened
    # by its folder or a glob pattern.
    return TiffFile(path, _multifile=False, is_mmstack=False)


@contextmanager
def _parsing(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:
        # a damaged header fails in tifffile as struct.error, IndexError, RuntimeError ...
        raise ValueError(
            f"{path} cannot be read as TIFF: {one_line(error)}; copy or export the file again"
        ) from error


def _chain_is_complete(tif: TiffFile) -> bool:
    # tifffile ends a chain of pages whose next link leads out of the file without an error
    tif.filehandle.seek(cast("int", tif.pages.next_page_offset))
    link = tif.filehandle.read(tif.tiff.offsetsize)
    return len(link) == tif.tiff.offsetsize and not any(link)


def _movie_shape(path: Path, shape: Sequence[int], axes: str) -> tuple[int, int, int]:
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


def _check_counts(
    path: Path, tif: TiffFile, series: Any, *, frames: int, pages: int, alone: bool
) -> None:
    with _parsing(path):
        origin, promised = _promised_frames(tif, series, alone=alone)
    described = frames if promised is None else promised
    # one page may stand for a whole contiguous movie: ImageJ writes no more above 4 GiB
    if described != frames or pages not in {1, frames}:
        raise ValueError(
            f"{path} holds {pages} pages, but its {origin} metadata describe {described} frames; "
            f"copy the file again, pass the folder or a glob of a multi-file set, or {_REWRITE}"
        )


def _promised_frames(tif: TiffFile, series: Any, *, alone: bool) -> tuple[str, int | None]:
    """Return whose metadata count the frames, and the count where the series ignores it."""
    if tif.is_ome:
        if series.kind == "ome" or not alone:
            return "OME", None
        return "OME", _ome_planes(tif.ome_metadata or "")
    if tif.is_shaped:
        if series.kind == "shaped":
            return "tifffile", None
        return "tifffile", _shaped_planes(tif.pages.first)
    if tif.is_imagej:
        if series.kind == "imagej":
            return "ImageJ", None
        return "ImageJ", int((tif.imagej_metadata or {}).get("images", 1))
    return series.kind, None


def _shaped_planes(page: TiffPage) -> int | None:
    try:
        shape: list[int] = json.loads(page.shaped_description or "")["shape"]
    except ValueError:  # old versions wrote shape=(...)
        return None
    return prod(shape) // prod(page.shape)


def _ome_planes(xml: str) -> int | None:
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None
    for element in root.iter():
        if element.tag.endswith("Pixels"):
            return prod(int(element.get(size, "1")) for size in ("SizeT", "SizeZ", "SizeC"))
    return None


def _locate(
    path: str, tif: TiffFile, series: Any, shape: tuple[int, int, int]
) -> tuple[Frames, int]:
    """Return where the frames are, and where in the file the last of their bytes ends."""
    dtype = np.dtype(series.dtype)
    stored = dtype.newbyteorder(tif.byteorder)
    frame_bytes = prod(shape[1:]) * dtype.itemsize
    start = series.dataoffset
    if start:
        end = start + shape[0] * frame_bytes
        return PlainFrames(path=path, offsets=range(start, end, frame_bytes), dtype=stored), end
    pages = list(series)
    missing = sum(page is None for page in pages)
    if missing or len(pages) != shape[0]:
        raise TiffFileError(f"{len(pages) - missing} pages stand for {shape[0]} frames")
    end = max(
        offset + count
        for page in pages
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)
    )
    keyframe = series.keyframe
    span = keyframe.dataoffsets[-1] - keyframe.dataoffsets[0]
    if keyframe.is_final and all(
        page.dataoffsets[0] and page.dataoffsets[-1] - page.dataoffsets[0] == span for page in pages
    ):
        starts = np.fromiter((page.dataoffsets[0] for page in pages), np.int64, len(pages))
        return PlainFrames(path=path, offsets=starts, dtype=stored), end
    headers = np.fromiter((page.offset for page in pages), np.int64, len(pages))
    return CodedPages(path=path, offsets=headers), end


def _decode(page: TiffPage, out: NDArray[Any]) -> NDArray[Any]:
    """Return the pixels of one page, refusing a page unlike `out` (frame, y, x) or cut short."""
    shape = _movie_shape(Path(page.parent.filename), page.shape, page.axes)
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
