"""Paths to lazy stacks: Zarr, OME-Zarr, TIFF, folders of TIFFs and headerless movies.

A source is opened once, for its metadata. What goes into the graph is small: each task gets the
path and the place of its own block, opens the file for itself and reads that block.
"""

import glob
import operator
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeAlias, cast

import dask.array as da
import numpy as np
from numpy.typing import DTypeLike

from .stack import Movie, Stack, cut, lazy, printable_errors, shown
from .tiff import TIFF_SUFFIXES, FileMovie, PlainFrames, is_tiff, open_tiff, open_tiffs, tiff_names
from .zarrs import arrays_hint, is_node, open_zarr, store_of

Source: TypeAlias = str | os.PathLike[str]
Box: TypeAlias = Sequence[int]

_BBOXES_FORM = "pass one list of boxes per source, such as bboxes=[[(0, 0, 64, 64)], None]"


def open_channels(
    *sources: Source,
    bboxes: Sequence[Sequence[Box] | None] | None = None,
    flips: Sequence[tuple[bool, bool] | None] | None = None,
    frames: slice | None = None,
    raw_shape: Sequence[int] | None = None,
    raw_dtype: DTypeLike | None = None,
) -> list[da.Array]:
    """Open movies as lazy stacks, one per channel.

    Only metadata are read: headers, shapes and frame counts are checked here, pixels are read
    when a stack is computed.

    Parameters
    ----------
    *sources : str or os.PathLike
        Each is one of

        - a Zarr array (format 2 or 3), also inside a store: ``movie.zarr/0``. It has axes
          (frame, y, x); axes of an OME-Zarr image that are 1 long are dropped;
        - a Zarr group: an OME-Zarr 0.4 or 0.5 image (its full resolution), or a group with
          exactly one 3-D array;
        - a TIFF, BigTIFF, ImageJ or OME-TIFF of one page per frame, compressed or not;
        - a folder or a glob pattern of TIFFs, joined in natural order (2 before 10): single
          pages are the frames, stacks follow one another. Hidden and other files are ignored;
        - any other file: a headerless movie, described by `raw_shape` and `raw_dtype`.
    bboxes : sequence, optional
        Per source a list of boxes (x0, y0, x1, y1), each a channel ``[:, y0:y1, x0:x1]``, or
        None for the whole frame. By default every source is one channel of whole frames.
    flips : sequence, optional
        Per channel (flip_y, flip_x), or None for neither. Channels count after `bboxes`.
    frames : slice, optional
        Frames taken from every source, as Python slices a list.
    raw_shape : (int, int, int), optional
        (frame, y, x) of the headerless movies.
    raw_dtype : dtype, optional
        Their NumPy dtype with its byte order, such as ``">u2"``.

    Returns
    -------
    list of dask.array.Array
        Stacks (frame, y, x) with the source's dtype in native byte order. Blocks are whole
        frames, or storage tiles where a Zarr array is tiled in y or x; along frames they hold
        near 16 MiB of float32 and end where storage chunks end, so that no chunk is
        decoded by two blocks. Channels cut from one source share its reading tasks.

    Raises
    ------
    FileNotFoundError
        If a source does not exist, or a folder or glob has no TIFF.
    TypeError
        If a dtype is not a real integer or float, or an argument is of the wrong type.
    ValueError
        If a source is damaged, cut short, or not one movie of gray frames; if a box, a flip, a
        slice or a raw movie's description does not fit.
    SourceReadError
        When a stack is computed: if pixels cannot be read. It names path, frames and Zarr chunk.
    """
    groups = _open_groups(sources, bboxes, flips, frames, raw_shape, raw_dtype)
    channels = []
    for stacks in groups:
        movie = stacks[0].movie
        whole = lazy(Stack.of(movie, stacks[0].frames))
        channels += [cut(whole, stack) for stack in stacks]
    return channels


def open_stacks(
    *sources: Source,
    bboxes: Sequence[Sequence[Box] | None] | None = None,
    flips: Sequence[tuple[bool, bool] | None] | None = None,
    frames: slice | None = None,
    raw_shape: Sequence[int] | None = None,
    raw_dtype: DTypeLike | None = None,
) -> list["Stack"]:
    """Open movies as `open_channels` does, as `Stack` objects: to be read without Dask.

    Parameters, errors and channels are those of `open_channels`.
    """
    groups = _open_groups(sources, bboxes, flips, frames, raw_shape, raw_dtype)
    return [stack for stacks in groups for stack in stacks]


@printable_errors()
def source_roots(source: Source) -> list[Path]:
    """Return the files and folders on disk that a source stands for.

    Parameters
    ----------
    source : str or os.PathLike
        As for `open_channels`.

    Returns
    -------
    list of pathlib.Path
        Resolved paths: the file or folder; the outermost Zarr store for a path into one; every
        match of a glob pattern.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    path = _path(source)
    if not path.exists():
        folder, names = _glob(path)
        return [(folder / name).resolve() for name in names]
    path = path.resolve()
    stores = [parent for parent in (path, *path.parents) if is_node(parent)]
    return [stores[-1] if stores else path]


# Arguments


@printable_errors()
def _open_groups(
    sources: Sequence[object],
    bboxes: object,
    flips: object,
    frames: object,
    raw_shape: object,
    raw_dtype: DTypeLike | None,
) -> list[list[Stack]]:
    """Check all arguments and return the channels of each source."""
    if not sources:
        raise ValueError("no source given: pass at least one path, as in open_channels(path)")
    paths = [_path(source) for source in sources]
    wanted = _check_slice(frames)
    boxes_of = _boxes_per_source(bboxes, len(paths))
    turns = _flips_per_channel(flips, sum(len(boxes) for boxes in boxes_of))
    raw = _raw_layout(raw_shape, raw_dtype)
    movies = [_open(path, raw) for path in paths]
    if raw is not None and all(
        path.is_dir() or not path.exists() or is_tiff(path) for path in paths
    ):
        raise ValueError(
            f"raw_shape={raw.shape} is given, but no source is a headerless movie "
            f"({', '.join(map(str, paths))}): leave out raw_shape and raw_dtype"
        )
    turn = iter(turns)
    return [
        [_channel(movie, _select(movie, wanted), box, next(turn)) for box in boxes]
        for movie, boxes in zip(movies, boxes_of, strict=True)
    ]


def _channel(
    movie: Movie, frames: range, box: tuple[int, ...] | None, flip: tuple[bool, bool]
) -> Stack:
    _, height, width = movie.shape
    x0, y0, x1, y1 = box or (0, 0, width, height)
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(
            f"box {box} does not fit {movie.path}: pass (x0, y0, x1, y1) with "
            f"0 <= x0 < x1 <= {width} and 0 <= y0 < y1 <= {height}"
        )
    rows, columns = range(y0, y1), range(x0, x1)
    return Stack(
        movie=movie,
        frames=frames,
        rows=rows[::-1] if flip[0] else rows,
        columns=columns[::-1] if flip[1] else columns,
    )


@dataclass(frozen=True)
class _RawLayout:
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]


def _path(source: object) -> Path:
    if not isinstance(source, str | os.PathLike) or not isinstance(os.fspath(source), str):
        raise TypeError(
            f"source {shown(source)} is of type {type(source).__name__}: pass paths one by one, "
            "as in open_channels(path_1, path_2)"
        )
    if not os.fspath(source):
        raise ValueError("source '' is empty: pass the path of a movie")
    # absolute: a worker may run in another folder
    return Path(source).absolute()


def _integer(value: object) -> int | None:
    """Return a Python or NumPy integer as int, anything else, also a bool, as None."""
    if isinstance(value, bool | np.bool_):
        return None
    try:
        return operator.index(cast("int", value))
    except TypeError:
        return None


def _integers(values: object, count: int) -> tuple[int, ...] | None:
    if isinstance(values, str | bytes) or not isinstance(values, Sequence | np.ndarray):
        return None
    numbers = [_integer(value) for value in values]
    whole = tuple(number for number in numbers if number is not None)
    return whole if len(whole) == len(numbers) == count else None


def _check_slice(frames: object) -> slice:
    if frames is None:
        return slice(None)
    if not isinstance(frames, slice):
        raise TypeError(f"frames={shown(frames)} is not a slice: pass one, as slice(0, 1000)")
    parts = (frames.start, frames.stop, frames.step)
    if any(part is not None and _integer(part) is None for part in parts):
        raise TypeError(f"{frames=} has a bound that is not an integer: pass slice(0, 1000)")
    if frames.step == 0:
        raise ValueError(f"{frames=} has step 0: pass a step of 1 or more, or a negative one")
    return frames


def _select(movie: Movie, frames: slice) -> range:
    count = movie.shape[0]
    selection = range(count)[frames]
    if count and not selection:
        raise ValueError(
            f"{frames=} selects none of the {count} frames of {movie.path}: pass bounds "
            f"within 0 and {count}"
        )
    return selection


def _boxes_per_source(bboxes: object, count: int) -> list[Sequence[tuple[int, ...] | None]]:
    """Return per source the boxes of its channels as plain integers, None for whole frames."""
    if bboxes is None:
        return [[None]] * count
    if isinstance(bboxes, str | Mapping) or not isinstance(bboxes, Sequence | np.ndarray):
        raise TypeError(f"bboxes is of type {type(bboxes).__name__}: {_BBOXES_FORM}")
    if any(_integers(boxes, 4) for boxes in bboxes):
        raise ValueError(f"bboxes={shown(bboxes)} is a flat list of boxes: {_BBOXES_FORM}")
    if len(bboxes) != count:
        raise ValueError(f"bboxes has {len(bboxes)} entries for {count} sources: {_BBOXES_FORM}")
    per_source: list[Sequence[tuple[int, ...] | None]] = []
    for index, boxes in enumerate(bboxes):
        if boxes is None:
            per_source.append([None])
            continue
        if not isinstance(boxes, Sequence | np.ndarray) or len(boxes) == 0:
            raise ValueError(
                f"bboxes[{index}]={shown(boxes)} is not a list of boxes: {_BBOXES_FORM}; None is "
                "the whole frame"
            )
        whole = [_integers(box, 4) for box in boxes]
        wrong = [box for box, numbers in zip(boxes, whole, strict=True) if numbers is None]
        if wrong:
            raise ValueError(
                f"bboxes[{index}] has {shown(wrong[0])}: a box is four integers (x0, y0, x1, y1)"
            )
        per_source.append([numbers for numbers in whole if numbers is not None])
    return per_source


def _flips_per_channel(flips: object, count: int) -> list[tuple[bool, bool]]:
    form = "pass one (flip_y, flip_x) pair of booleans per channel, or None for neither"
    if flips is None:
        return [(False, False)] * count
    if isinstance(flips, str | Mapping) or not isinstance(flips, Sequence | np.ndarray):
        raise TypeError(f"flips is of type {type(flips).__name__}: {form}")
    if len(flips) != count:
        raise ValueError(f"flips has {len(flips)} entries for {count} channels: {form}")
    pairs = []
    for index, flip in enumerate(flips):
        pair = (False, False) if flip is None else flip
        if (
            not isinstance(pair, Sequence | np.ndarray)
            or len(pair) != 2
            or not all(isinstance(turned, bool | np.bool_) for turned in pair)
        ):
            raise ValueError(f"flips[{index}]={shown(flip)}: {form}")
        pairs.append((bool(pair[0]), bool(pair[1])))
    return pairs


def _raw_layout(raw_shape: object, raw_dtype: DTypeLike | None) -> _RawLayout | None:
    if raw_shape is None and raw_dtype is None:
        return None
    if raw_shape is None or raw_dtype is None:
        given, missing = (
            ("raw_dtype", "raw_shape") if raw_shape is None else ("raw_shape", "raw_dtype")
        )
        raise ValueError(f"{given} is given without {missing}: a headerless movie needs both")
    shape = _integers(raw_shape, 3)
    if shape is None or min(shape) < 1:
        raise ValueError(
            f"raw_shape={shown(raw_shape)}: pass three positive integers (frame, y, x)"
        )
    try:
        dtype = np.dtype(raw_dtype)
    except (TypeError, ValueError, SyntaxError):
        raise TypeError(
            f"raw_dtype={shown(raw_dtype)} is not a NumPy dtype: pass one such as '>u2'"
        ) from None
    _check_dtype("raw_dtype", dtype)
    return _RawLayout((shape[0], shape[1], shape[2]), dtype)


def _check_dtype(name: str, dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "iuf":
        raise TypeError(
            f"{name} has dtype {dtype}: only real integers and floats are movies, such as the "
            "camera's uint16"
        )


# From a path to a movie


def _open(path: Path, raw: _RawLayout | None) -> Movie:
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
    _check_dtype(movie.path, movie.dtype)
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


def _open_raw(path: Path, raw: _RawLayout | None) -> FileMovie:
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
