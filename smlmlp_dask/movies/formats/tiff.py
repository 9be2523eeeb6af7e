"""TIFF in its many layouts: read the headers and find the places of a movie's frames."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

import numpy as np
from tifffile import TiffFile, TiffFileError, TiffPage, natural_sorted

from smlmlp_dask.messages import one_line
from smlmlp_dask.movies.recording import Recording

from .frames import CodedPages, FileMovie, Frames, PageFiles, PlainFrames, movie_shape, open_file
from .tiff_pages import follow_on, pages_as_they_are

TIFF_SUFFIXES = frozenset({".tif", ".tiff", ".btf", ".tf2", ".tf8"})
"""Endings, in lower case, of the files that count as TIFF in a folder or glob."""

MAX_HEADERS = 2000
"""Most single-page files of a folder whose headers are all read when it is opened."""

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def is_tiff(path: Path) -> bool:
    """Say whether a file is a TIFF, by its ending or its first bytes."""
    if path.suffix.lower() in TIFF_SUFFIXES:
        return True
    with path.open("rb") as file:
        return file.read(4) in _MAGIC


def tiff_names(folder: Path, files: Sequence[Path]) -> list[str]:
    """Return the visible TIFF files as names relative to `folder`, in natural order (2 before 10).

    Raises
    ------
    FileNotFoundError
        If one is a link to nothing, so that frames of the movie are missing.
    """
    names = []
    for file in files:
        if file.name.startswith(".") or file.suffix.lower() not in TIFF_SUFFIXES:
            continue
        if file.is_file():
            names.append(file.relative_to(folder).as_posix())
        elif file.is_symlink() and not file.exists():
            raise FileNotFoundError(
                f"{file} is a link to a file that does not exist: restore that file, or remove the "
                "link"
            )
    return natural_sorted(names)


def recognises(path: Path) -> bool:
    """Say whether a path is a TIFF, or a folder of TIFFs."""
    return is_tiff(path) if path.is_file() else bool(tiff_names(path, list(path.iterdir())))


def open(path: Path) -> Recording:
    """Read the headers of a TIFF, or of all TIFFs of a folder."""
    if path.is_dir():
        return open_tiffs(str(path), path, tiff_names(path, list(path.iterdir())))
    return Recording.of(open_tiff(path), "TIFF")


def open_tiff(path: Path, *, alone: bool = True) -> FileMovie:
    """Read the headers of one TIFF.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    alone : bool
        False for a file of a folder or glob. Then a single 2-D page is one frame, and a file of
        a multi-file OME set counts with its own pages only.

    Raises
    ------
    ValueError
        If the file is damaged, cut short, or not one movie of gray frames.
    """
    with _parsing(path):
        tif = open_file(path)
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
        shape = movie_shape(path, first.shape, first.axes)
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


def open_tiffs(label: str, folder: Path, names: Sequence[str]) -> Recording:
    """Join TIFF files, in this order, into one movie.

    This reads the headers of all files, except in a folder of over `MAX_HEADERS` single-page
    files: there it reads the first and the last, and each page is checked when it is read.

    Parameters
    ----------
    label : str
        Name of the source in messages.
    folder : pathlib.Path
        Folder of `names`.
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
    movie = FileMovie(
        path=label,
        frame_shape=reference.frame_shape,
        dtype=reference.dtype,
        pieces=pieces,
        counts=counts,
    )
    return Recording.of(movie, "TIFF")


_REWRITE = (
    "write the frames as one stack, such as tifffile.imwrite(path, movie) with a movie of shape "
    "(frame, y, x)"
)


@contextmanager
def _parsing(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:
        # tifffile fails on damaged headers with struct.error, IndexError, RuntimeError ...
        raise ValueError(
            f"{path} cannot be read as TIFF: {one_line(error)}; copy or export the file again"
        ) from error


def _chain_is_complete(tif: TiffFile) -> bool:
    # tifffile silently ends a chain of pages whose next link leads out of the file.
    tif.filehandle.seek(cast("int", tif.pages.next_page_offset))
    link = tif.filehandle.read(tif.tiff.offsetsize)
    return len(link) == tif.tiff.offsetsize and not any(link)


def _check_counts(
    path: Path, tif: TiffFile, series: Any, *, frames: int, pages: int, alone: bool
) -> None:
    with _parsing(path):
        origin, promised = _promised_frames(tif, series, alone=alone)
    described = frames if promised is None else promised
    # One page may stand for a whole contiguous movie: ImageJ writes only one above 4 GiB.
    if described != frames or pages not in {1, frames}:
        raise ValueError(
            f"{path} holds {pages} pages, but its {origin} metadata describe {described} frames; "
            f"copy the file again, pass the folder or a glob of a multi-file set, or {_REWRITE}"
        )


def _promised_frames(tif: TiffFile, series: Any, *, alone: bool) -> tuple[str, int | None]:
    """Return whose metadata count the frames, and their count if the series ignores it."""
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
    """Return the frames, and the byte of the file at which the last of them ends."""
    dtype = np.dtype(series.dtype)
    stored = dtype.newbyteorder(tif.byteorder)
    frame_bytes = prod(shape[1:]) * dtype.itemsize
    start = series.dataoffset
    if start and follow_on(tif, shape[0], frame_bytes):
        end = start + shape[0] * frame_bytes
        return PlainFrames(path=path, offsets=range(start, end, frame_bytes), dtype=stored), end
    pages, alike = pages_as_they_are(tif, series)
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
    if (
        alike
        and keyframe.is_final
        and all(
            page.dataoffsets[0] and page.dataoffsets[-1] - page.dataoffsets[0] == span
            for page in pages
        )
    ):
        starts = np.fromiter((page.dataoffsets[0] for page in pages), np.int64, len(pages))
        return PlainFrames(path=path, offsets=starts, dtype=stored), end
    headers = np.fromiter((page.offset for page in pages), np.int64, len(pages))
    encoded = max(count for page in pages for count in page.databytecounts)
    decoded = frame_bytes
    if not keyframe.is_contiguous and keyframe.jpegheader is None:
        decoded = min(frame_bytes, prod(keyframe.chunks) * dtype.itemsize)
    return CodedPages(path=path, offsets=headers, segment_bytes=2 * (encoded + decoded)), end
