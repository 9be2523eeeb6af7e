"""Paths to stacks: Zarr, OME-Zarr, TIFF, folders of TIFFs and headerless movies.

A source is opened once, for its metadata. What goes into the graph is small: each task gets the
path and the place of its own block, opens the file for itself and reads that block.
"""

import glob
import os
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TypeAlias

from smlmlp_dask.messages import printable_errors, shown
from smlmlp_dask.paths import absolute_path

from .formats.frames import FileMovie, PlainFrames
from .formats.tiff import TIFF_SUFFIXES, is_tiff, open_tiff, open_tiffs, tiff_names
from .formats.zarr_nodes import is_node, store_of
from .formats.zarrs import arrays_hint, open_zarr
from .selection import RawLayout, Selection, check_dtype
from .stack import Movie, Stack

Source: TypeAlias = str | os.PathLike[str]
Box: TypeAlias = Sequence[int]


@printable_errors()
def open_stacks(*sources: Source, selection: Selection = Selection()) -> list[Stack]:  # noqa: B008
    """Open movies as `open_channels` does, as `Stack` objects: to be read without Dask."""
    if not sources:
        raise ValueError("no source given: pass at least one path, as in open_channels(path)")
    paths = [_path(source) for source in sources]
    parts = selection.by_source(len(paths))
    raw = selection.raw
    movies = [_open(path, raw) for path in paths]
    if raw is not None and all(
        path.is_dir() or not path.exists() or is_tiff(path) for path in paths
    ):
        raise ValueError(
            f"raw_shape={raw.shape} is given, but no source is a headerless movie "
            f"({', '.join(map(str, paths))}): leave out raw_shape and raw_dtype"
        )
    return [
        stack for movie, part in zip(movies, parts, strict=True) for stack in part.channels(movie)
    ]


@printable_errors()
def source_roots(source: Source) -> list[Path]:
    """Return the files and folders on disk that a source stands for; an error if there are none.

    They are resolved: the file or folder; the outermost Zarr store for a path into one; every
    match of a glob pattern.
    """
    path = _path(source)
    if not path.exists():
        folder, names = _glob(path)
        return [(folder / name).resolve() for name in names]
    path = path.resolve()
    stores = [parent for parent in (path, *path.parents) if is_node(parent)]
    return [stores[-1] if stores else path]


def _path(source: object) -> Path:
    if not isinstance(source, str | os.PathLike) or not isinstance(os.fspath(source), str):
        raise TypeError(
            f"source {shown(source)} is of type {type(source).__name__}: pass paths one by one, "
            "as in open_channels(path_1, path_2)"
        )
    if not os.fspath(source):
        raise ValueError("source '' is empty: pass the path of a movie")
    # absolute: a worker may run in another folder
    return absolute_path(source, "source")


# From a path to a movie


def _open(path: Path, raw: RawLayout | None) -> Movie:
    movie: Movie
    if path.is_dir():
        movie = open_zarr(path) if is_node(path) else _open_folder(path)
    elif path.is_file():
        movie = open_tiff(path) if is_tiff(path) else _open_raw(path, raw)
    elif path.exists():
        raise ValueError(f"{path} is a pipe, socket or device: copy the movie into a file")
    else:
        folder, names = _glob(path)
        movie = open_tiffs(str(path), folder, names)
    check_dtype(movie.path, movie.dtype)
    if 0 in movie.shape[1:]:
        raise ValueError(f"{movie.path} has shape {movie.shape}, without pixels: pass a movie")
    return movie


def _open_folder(folder: Path) -> FileMovie:
    names = tiff_names(folder, list(folder.iterdir()))
    if not names:
        if (store := store_of(folder)) is not None:
            raise FileNotFoundError(
                f"{folder} is no array or group of {store}: {arrays_hint(store)}"
            )
        raise FileNotFoundError(
            f"{folder} has no file ending in {', '.join(sorted(TIFF_SUFFIXES))} and is no Zarr "
            "store: pass a folder of TIFFs, a Zarr array or group, or a file"
        )
    return open_tiffs(str(folder), folder, names)


def _glob(path: Path) -> tuple[Path, list[str]]:
    """Return the TIFF files that match a pattern, in natural order, below its fixed part."""
    fixed = path
    while not fixed.exists() and glob.has_magic(str(fixed)):
        fixed = fixed.parent
    pattern = str(path.relative_to(fixed))
    if not glob.has_magic(pattern):
        store = store_of(path)
        hint = arrays_hint(store) if store else "check the path"
        raise FileNotFoundError(f"{path} does not exist: {hint}")
    try:
        matches = list(fixed.glob(pattern))
    except ValueError as error:
        raise ValueError(f"{path} is no pattern of file names: {error}") from error
    names = tiff_names(fixed, matches)
    if not names:
        raise FileNotFoundError(
            f"{path} matches {len(matches)} files and folders, none of them a visible file "
            f"ending in {', '.join(sorted(TIFF_SUFFIXES))}: check the pattern, and pass files of "
            "other kinds one by one"
        )
    return fixed, names


def _open_raw(path: Path, raw: RawLayout | None) -> FileMovie:
    if raw is None:
        raise ValueError(
            f"{path} is neither TIFF nor Zarr: for a headerless movie pass raw_shape=(T, Y, X) "
            "and raw_dtype='>u2' (--raw-shape T,Y,X --raw-dtype '>u2')"
        )
    frame_bytes = prod(raw.shape[1:]) * raw.dtype.itemsize
    expected, size = raw.shape[0] * frame_bytes, path.stat().st_size
    if size != expected:
        fitting, rest = divmod(size, frame_bytes)
        remedy = (
            f"pass raw_shape={(fitting, *raw.shape[1:])}"
            if fitting and not rest
            else "check the frame's sizes and the dtype"
        )
        raise ValueError(
            f"{path} has {size} bytes, raw_shape={raw.shape} of {raw.dtype.str} takes "
            f"{expected}: {remedy}"
        )
    frames = PlainFrames(path=str(path), offsets=range(0, expected, frame_bytes), dtype=raw.dtype)
    return FileMovie(
        path=str(path),
        frame_shape=raw.shape[1:],
        dtype=raw.dtype.newbyteorder("="),
        pieces=(frames,),
        counts=(raw.shape[0],),
    )
