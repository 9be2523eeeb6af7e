"""From the path of a source to its channels.

A source is opened once, for its metadata. What goes into the graph is small: each task gets the
path and the place of its own block, opens the file for itself and reads that block.
"""

import glob
import os
import warnings
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TypeAlias

from smlmlp_dask.messages import printable_errors, shown
from smlmlp_dask.paths import absolute_path, mistyped

from .arguments import RawLayout, check_dtype
from .arrays import Array, ArraySource
from .formats.file_names import arranged
from .formats.plain import plain_movie
from .formats.table import TIFF_SUFFIXES, format_of
from .formats.unread import unread
from .formats.zarr_nodes import is_node, store_of
from .formats.zarrs import arrays_hint
from .recording import Position, Recording
from .selection import Selection
from .stack import Stack

Source: TypeAlias = str | os.PathLike[str]
AnySource: TypeAlias = Source | Array
Box: TypeAlias = Sequence[int]

NUMBERED = 3
"""Fewest files whose numbers say that they may be one movie; two are more often two cameras."""

INSIDE = "::"
"""Stands between a file and a place in it, as in ``movie.h5::/entry/data``."""


def open_stacks(*sources: Source, selection: Selection = Selection()) -> list[Stack]:  # noqa: B008
    """Open movies as `open_channels` does, as `Stack` objects: to be read without Dask."""
    return [stack for stacks in open_sources(*sources, selection=selection) for stack in stacks]


@printable_errors()
def open_sources(*sources: Source | ArraySource, selection: Selection) -> list[list[Stack]]:
    """Open movies; return for each source its channels."""
    if not sources:
        raise ValueError("no source given: pass at least one path, as in open_channels(path)")
    paths = [source if isinstance(source, ArraySource) else _path(source) for source in sources]
    selection.by_source(len(paths))  # what does not fit their number is said at once
    recordings = [
        path.recording if isinstance(path, ArraySource) else _open(path, selection.raw)
        for path in paths
    ]
    raw = selection.raw
    if raw is not None and all(recording.format != HEADERLESS for recording in recordings):
        raise ValueError(
            f"raw_shape={raw.shape} is given, but no source is a headerless movie "
            f"({', '.join(map(_with_description, paths))}): leave out raw_shape and raw_dtype"
        )
    if hint := _numbered([path for path in paths if isinstance(path, Path)]):
        warnings.warn(hint, stacklevel=2)
    return selection.stacks(recordings)


def _numbered(paths: Sequence[Path]) -> str:
    """Say that TIFFs whose numbers follow on become channels: shells expand bare patterns."""
    names, suffixes = [path.name for path in paths], {path.suffix for path in paths}
    together = len({path.parent for path in paths}) == len(suffixes) == 1
    if len(paths) < NUMBERED or not together or not {*TIFF_SUFFIXES}.issuperset(suffixes):
        return ""
    try:
        order = arranged(names)
    except ValueError:
        return ""
    if len(order.groups) > 1 or not order.counts:  # their names tell of channels, or of nothing
        return ""
    letters = enumerate(zip(*names, strict=False))
    alike_to = next((at for at, column in letters if len({*column}) > 1), 0)
    start = names[0][:alike_to].rstrip("0123456789")
    pattern = paths[0].with_name(f"{start}*{paths[0].suffix}")
    return (
        f"{len(paths)} files with running numbers become {len(paths)} channels: if they are one "
        f"movie, pass their folder or a pattern in quotes, such as '{pattern}'"
    )


@printable_errors()
def open_recording(source: Source, raw: RawLayout | None = None) -> Recording:
    """Read what a source holds; no pixels are read."""
    return _open(_path(source), raw)


@printable_errors()
def source_roots(source: Source) -> list[Path]:
    """Return the files and folders on disk that a source stands for; an error if there are none.

    They are resolved: the file or folder; all files of a set; the outermost Zarr store for a path
    into one; every match of a glob pattern.
    """
    path, _ = _split(_path(source))
    if not path.exists():
        folder, names = _glob(path)
        return [(folder / name).resolve() for name in names]
    path = path.resolve()
    stores = [parent for parent in (path, *path.parents) if is_node(parent)]
    if stores:
        return [stores[-1]]
    known = format_of(path)
    return [path] if known is None else [file.resolve() for file in known.files(path)]


def _with_description(path: Path | ArraySource) -> str:
    """Return the path of a source, and the file beside it that describes it."""
    if isinstance(path, ArraySource):
        return str(path)
    known = format_of(path) if path.is_file() else None
    beside = known.files(path)[1:] if known else []
    return f"{path}, described by {beside[0]}" if beside else str(path)


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


def _split(path: Path) -> tuple[Path, str]:
    """Split a path like ``movie.h5::/entry/data`` into the file and the place in it."""
    file, found, inside = str(path).partition(INSIDE)
    if found and not path.exists() and Path(file).exists():
        return Path(file), inside
    return path, ""


# From a path to what it holds

DESCRIBED_BY = {".dax": ("a DAX movie", ".inf"), ".raw": ("a movie of Picasso's", ".yaml")}
"""Files of plain pixels, and the endings of those that describe them."""

HEADERLESS = "headerless"
"""Name of the format of movies that only the user can describe."""


def _open(path: Path, raw: RawLayout | None) -> Recording:
    recording = _opened(path, raw)
    for position in recording.positions:
        movie = position.movie(0, 0)
        check_dtype(movie.path, movie.dtype)
        if 0 in movie.shape[1:]:
            raise ValueError(f"{movie.path} has shape {movie.shape}, without pixels: pass a movie")
    return recording


def _opened(path: Path, raw: RawLayout | None) -> Recording:
    path, inside = _split(path)
    if not path.exists():
        from .formats.tiff import open_tiffs  # imports tifffile, which other movies do not need

        return open_tiffs(str(path), *_glob(path))
    if not path.is_dir() and not path.is_file():
        raise ValueError(f"{path} is a pipe, socket or device: copy the movie into a file")
    _check_permission(path)
    known = format_of(path)
    if inside and (known is None or not known.inside):
        named = f"a {known.name} file" if known else "a file"
        raise ValueError(
            f"{path}{INSIDE}{inside} names a place in {named}, which has none: pass {path}"
        )
    if known is not None:
        return known.open(path, inside)
    if path.is_dir():
        raise FileNotFoundError(_nothing_in(path))
    return _open_raw(path, raw)


def _check_permission(path: Path) -> None:
    """Refuse what this user may not read; each library would say it in its own way."""
    try:
        if path.is_dir():
            os.scandir(path).close()
        else:
            path.open("rb").close()
    except PermissionError as error:
        raise PermissionError(
            f"{path} may not be read by this user: ask its owner for permission, or copy it"
        ) from error


def _nothing_in(folder: Path) -> str:
    if (store := store_of(folder)) is not None:
        return f"{folder} is no array or group of {store}: {arrays_hint(store)}"
    return (
        f"{folder} has no file ending in {', '.join(sorted(TIFF_SUFFIXES))} and is no Zarr "
        "store: pass a folder of TIFFs, a Zarr array or group, or a file"
    )


def _glob(path: Path) -> tuple[Path, list[str]]:
    """Return the TIFF files that match a pattern, in natural order, below its fixed part."""
    fixed = path
    while not fixed.exists() and glob.has_magic(str(fixed)):
        fixed = fixed.parent
    pattern = str(path.relative_to(fixed))
    if not glob.has_magic(pattern):
        store = store_of(path)
        hint = arrays_hint(store) if store else mistyped(path) or "check the path"
        if path.is_symlink():
            hint = "it is a link to a file that is gone; restore that file, or pass another"
        raise FileNotFoundError(f"{path} does not exist: {hint}")
    try:
        matches = list(fixed.glob(pattern))
    except ValueError as error:
        raise ValueError(f"{path} is no pattern of file names: {error}") from error
    from .formats.tiff import tiff_names  # imports tifffile

    names = tiff_names(fixed, matches)
    if not names:
        raise FileNotFoundError(
            f"{path} matches {len(matches)} files and folders, none of them a visible file "
            f"ending in {', '.join(sorted(TIFF_SUFFIXES))}: check the pattern, and pass files of "
            "other kinds one by one"
        )
    return fixed, names


def _open_raw(path: Path, raw: RawLayout | None) -> Recording:
    if raw is None and (what := unread(path)) is not None:
        raise ValueError(f"{path} is by its name {what}")
    if raw is None:
        beside = DESCRIBED_BY.get(path.suffix.lower())
        lacks = ""
        if beside is not None:
            program, ending = beside
            lacks = f"if it is {program}, copy {path.with_suffix(ending).name} beside it; "
        raise ValueError(
            f"{path} is of no known format: {lacks}for a headerless movie pass raw_shape=(T, Y, X) "
            "and raw_dtype='>u2' (--raw-shape T,Y,X --raw-dtype '>u2')"
        )
    frame_bytes = prod(raw.shape[1:]) * raw.dtype.itemsize
    expected = raw.header + raw.shape[0] * frame_bytes + raw.footer
    size = path.stat().st_size
    whole = min(raw.shape[0], max(0, size - raw.header) // frame_bytes)
    fitting, rest = divmod(size - raw.header - raw.footer, frame_bytes)
    described = f"raw_shape={raw.shape} of {raw.dtype.str} takes {expected}"
    remedy = ""
    if fitting > 0 and not rest:
        remedy = f"pass raw_shape={(fitting, *raw.shape[1:])}"
    if size != expected and (size > expected or whole in (0, raw.shape[0]) or rest):
        remedy = remedy or "check the frame's sizes and the dtype"
        raise ValueError(f"{path} has {size} bytes, {described}: {remedy}")
    movie = plain_movie(path, raw, whole)
    position = Position(
        movie=lambda *_: movie,
        promised=raw.shape[0],
        cut_short=f"it has {size} bytes, {described}: {remedy}",
    )
    return Recording(path=str(path), format=HEADERLESS, positions=(position,))
