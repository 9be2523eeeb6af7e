"""One TIFF file: where its pages lie, and how many of them are whole."""

import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile, TiffFileError, TiffPageSeries

from smlmlp_dask.messages import one_line

from .frames import CodedPages, FileMovie, Frames, PlainFrames, check_frame, open_file
from .tiff_pages import Directory, follow_on, pages_as_they_are

_DESCRIPTION = 270  # tag
_MM_METADATA = 51123  # tag of Micro-Manager's metadata of a page


@dataclass(frozen=True, kw_only=True, eq=False)
class Pages:
    """Pages of one TIFF, all alike, in their order.

    Attributes
    ----------
    movie : FileMovie
        The whole pages, in one piece.
    promised : int
        Pages that the file should have.
    cut_short : str
        If it has fewer whole ones, what is missing, for messages.
    description : str
        The first page's ImageDescription.
    first_tags : mapping
        Micro-Manager's metadata of the first page.
    """

    movie: FileMovie
    promised: int
    cut_short: str = ""
    description: str = ""
    first_tags: Mapping[str, Any] = field(default_factory=dict)

    def why(self, page: int) -> str:
        """Say why there is no whole page of this number."""
        if self.cut_short:
            return f"{Path(self.movie.path).name} is cut short: {self.cut_short}"
        return (
            f"{Path(self.movie.path).name} holds {self.movie.shape[0]} pages, and its metadata "
            f"name page {page}"
        )


@contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Turn what tifffile raises on damaged headers into one error that names the file."""
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:
        # struct.error, IndexError, RuntimeError ...
        raise ValueError(
            f"{path} cannot be read as TIFF: {one_line(error)}; copy or export the file again"
        ) from error


def beside(path: Path, name: str) -> Path:
    """Return the file of a name that metadata have; refuse one of another folder."""
    if not name or Path(name).name != name:
        raise ValueError(
            f"{path}: its metadata name the file {name!r}, which is not in the same folder: put "
            "all files of the set into one folder"
        )
    return path.parent / name


def all_pages(path: Path) -> Pages:
    """Find all pages of a file, whatever its metadata say of them; see `pages_of`."""
    with parsing(path):
        tif = open_file(path)
    with tif:
        return pages_of(path, tif)


def pages_of(path: Path, tif: TiffFile) -> Pages:
    """Find all pages of an open file.

    Raises
    ------
    ValueError
        If the file is damaged, has no whole page, or pages that are not alike.
    """
    with parsing(path):
        pages, first = readable_pages(tif), tif.pages.first
    check_pixels(path, first)
    frame_shape = check_frame(path, first.shape, first.axes)
    with parsing(path):
        sizes, axes = (len(pages), *first.shape), f"Q{first.axes}"
        series = TiffPageSeries(pages, sizes, first.dtype, axes)
    return found_pages(path, tif, series, len(pages), frame_shape)


def readable_pages(tif: TiffFile) -> list[Any]:
    """Return the pages up to one whose header is not in the file."""
    tif.pages.useframes = True
    tif.pages.set_keyframe(0)
    pages: list[Any] = []
    with suppress(Exception):  # whatever tifffile raises there
        pages += (tif.pages[number] for number in range(len(tif.pages)))
    if len(pages) == len(tif.pages) and not _header_is_whole(tif):
        pages.pop()
    return pages


def check_pixels(path: Path, page: Any) -> None:
    """Refuse pixels that have no dtype."""
    if page.dtype is None:
        raise ValueError(
            f"{path} has {page.bitspersample} bits per pixel in a form that has no NumPy dtype: "
            "save it as 16-bit integers"
        )


def found_pages(
    path: Path, tif: TiffFile, series: TiffPageSeries, count: int, frame_shape: tuple[int, int]
) -> Pages:
    """Find the pages of a series of an open file, and those that are whole."""
    with parsing(path):
        pages = len(tif.pages)
        complete, readable = _chain_is_complete(tif), _header_is_whole(tif)
        frames, ends = _located(str(path), tif, series, (count, *frame_shape))
        size = tif.filehandle.size
        description, first_tags = tif.pages.first.description, micromanager_tag(tif.pages.first)
    whole, cut_short, promised = count, "", count
    if series.is_truncated:
        pass  # one page stands for all: the headers of others say nothing more
    elif not complete:
        promised = max(count, pages) + 1
        cut_short = f"its page {pages} points to a next page that is not in the file"
    elif not readable:
        promised = max(count, pages)
        cut_short = f"the header of its page {pages} is not wholly in the file"
    if ends.max(initial=0) > size:
        whole = int(np.argmax(ends > size))
        cut_short = f"its {count} frames reach to byte {ends.max()}, the file ends at {size}"
    if not whole:
        raise ValueError(f"{path} is cut short: {cut_short}; copy the file again")
    dtype = np.dtype(series.dtype)
    movie = FileMovie.of(frames.take(range(whole)), whole, frame_shape, dtype)
    return Pages(
        movie=movie,
        promised=promised,
        cut_short=cut_short,
        description=description,
        first_tags=first_tags,
    )


def micromanager_tag(page: Any) -> Mapping[str, Any]:
    """Return Micro-Manager's metadata of a page; nothing if there are none."""
    found = page.tags.valueof(_MM_METADATA)
    return found if isinstance(found, dict) else {}


def is_whole(tif: TiffFile) -> bool:
    """Say whether the headers of all pages of a file are in it."""
    return _chain_is_complete(tif) and _header_is_whole(tif)


def _chain_is_complete(tif: TiffFile) -> bool:
    # tifffile silently ends a chain of pages whose next link leads out of the file.
    tif.filehandle.seek(cast("int", tif.pages.next_page_offset))
    link = tif.filehandle.read(tif.tiff.offsetsize)
    if len(link) < tif.tiff.offsetsize or not any(link):
        return len(link) == tif.tiff.offsetsize
    # Bio-Formats links the last page of a plain TIFF to the end of the file. So may one that was
    # cut there, but for the count that ImageJ's metadata have.
    (place,) = struct.unpack(tif.tiff.offsetformat, link)
    return bool(
        place == tif.filehandle.size
        and tif.is_imagej
        and (tif.imagej_metadata or {}).get("images") == len(tif.pages)
    )


def _header_is_whole(tif: TiffFile) -> bool:
    """Say whether the header of the last page is in the file."""
    try:
        last = Directory.read(tif, int(tif.pages.get(len(tif.pages) - 1).offset))
    except Exception:  # whatever tifffile raises there
        return False
    return bool(last.layout)  # zeros stand where a crash left the space of a page


def check_description(path: Path, tif: TiffFile) -> None:
    """Refuse a file whose description lies beyond its end, since that may name channels.

    Raises
    ------
    ValueError
        If so: tifffile would take the file as one without a description.
    """
    tiff, size = tif.tiff, tif.filehandle.size
    with parsing(path):
        for code, _, length, value in Directory.read(tif, tif.pages.first.offset).entries:
            (place,) = struct.unpack(tiff.offsetformat, value)
            if code == _DESCRIPTION and length > tiff.offsetsize and place + length > size:
                raise TiffFileError(
                    f"its description reaches to byte {place + length}, the file ends at {size}, "
                    "so nothing says which pages are channels"
                )


def _located(
    path: str, tif: TiffFile, series: TiffPageSeries, shape: tuple[int, int, int]
) -> tuple[Frames, NDArray[np.int64]]:
    """Return the frames, and the byte of the file at which each of them ends."""
    dtype = np.dtype(series.dtype)
    stored = dtype.newbyteorder(tif.byteorder)
    frame_bytes = prod(shape[1:]) * dtype.itemsize
    start = series.dataoffset
    one_for_all = series.is_truncated or len(tif.pages) == 1
    if start and (one_for_all or follow_on(tif, shape[0], frame_bytes)):
        places = range(start, start + shape[0] * frame_bytes, frame_bytes)
        ends = np.arange(1, shape[0] + 1, dtype=np.int64) * frame_bytes + start
        return PlainFrames(path=path, offsets=places, dtype=stored), ends
    pages, alike = pages_as_they_are(tif, series)
    missing = sum(page is None for page in pages)
    if missing or len(pages) != shape[0]:
        raise TiffFileError(f"{len(pages) - missing} pages stand for {shape[0]} frames")
    ends = np.fromiter((_end(page) for page in pages), np.int64, len(pages))
    keyframe = series.keyframe
    span = keyframe.dataoffsets[-1] - keyframe.dataoffsets[0]
    if (
        alike
        and keyframe.is_final
        and all(
            page.dataoffsets[0] and page.dataoffsets[-1] - page.dataoffsets[0] == span
            for page in pages
        )
    ):
        starts = np.fromiter((page.dataoffsets[0] for page in pages), np.int64, len(pages))
        return PlainFrames(path=path, offsets=starts, dtype=stored), ends
    headers = np.fromiter((page.offset for page in pages), np.int64, len(pages))
    encoded = max(count for page in pages for count in page.databytecounts)
    decoded = frame_bytes
    if not keyframe.is_contiguous and keyframe.jpegheader is None:
        decoded = min(frame_bytes, prod(keyframe.chunks) * dtype.itemsize)
    return CodedPages(path=path, offsets=headers, segment_bytes=2 * (encoded + decoded)), ends


def _end(page: Any) -> int:
    ends = map(sum, zip(page.dataoffsets, page.databytecounts, strict=False))
    return int(max(ends, default=0))
