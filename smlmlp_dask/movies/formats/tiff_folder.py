"""TIFF files of a folder or pattern, joined as their names say."""

import filecmp
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from smlmlp_dask.movies.acquisition import Acquisition
from smlmlp_dask.movies.recording import Position, Recording

from .file_names import Arrangement, arranged
from .frames import FileMovie, PageFiles
from .tiff_planes import check_alike
from .tiff_single import Single

MAX_HEADERS = 2000
"""Most single-page files of a folder whose headers are all read when it is opened."""

SAMPLE_ROWS = 8
"""Rows by which first frames are compared."""

SAMPLE_BYTES = 2**12
"""Bytes by which files are compared: a camera's noise is never twice the same."""


def join(
    label: str, folder: Path, names: Sequence[str], open_member: Callable[[Path], Single]
) -> Recording:
    """Join files that belong to no set, as their names say; see `open_tiffs`."""
    try:
        order = arranged(names)
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from error
    many = len(names) > MAX_HEADERS
    looked_at = [names[0], names[-1]] if many else list(names)
    files, lost = _members(folder, looked_at, order, open_member)
    sampled = many and all(file.is_page for file in files.values()) and not lost
    if many and not sampled:
        files, lost = _members(folder, names, order, open_member)
    _check_alike(label, files, order)
    notes = order.notes
    if lost:
        order = _without(order, lost[0])
    if not sampled:
        notes += _doubled(label, folder, files)
    positions = tuple(
        _position(label, folder if sampled else None, order, number, name, files, lost)
        for number, name in enumerate(order.positions)
    )
    return Recording(path=label, format=files[names[0]].format, positions=positions, notes=notes)


def _members(
    folder: Path, names: Sequence[str], order: Arrangement, open_member: Callable[[Path], Single]
) -> tuple[dict[str, Single], tuple[str, ...]]:
    """Open files; return them, and the name of the last one and its error if it has no frame.

    That one may be the file of a frame that was being written when recording was aborted.
    """
    files: dict[str, Single] = {}
    (last, *_), *others = (group[::-1] for group in order.groups.values())
    for name in names:
        try:
            files[name] = open_member(folder / name)
        except ValueError as error:
            if others or name != last or len(names) < 2:
                raise
            return files, (name, str(error))
    return files, ()


def _without(order: Arrangement, name: str) -> Arrangement:
    groups = {at: tuple(n for n in group if n != name) for at, group in order.groups.items()}
    return replace(order, groups=groups)


def _check_alike(label: str, files: Mapping[str, Single], order: Arrangement) -> None:
    check_alike([file.position.movie(0, 0) for file in files.values()])
    stacks = [name for name, file in files.items() if not file.is_page]
    if stacks and not order.counts:
        raise ValueError(
            f"{label}: the numbers in the names of {', '.join(list(files)[:3])} do not follow one "
            "another, so nothing says that these are parts of one movie: pass each as a source of "
            "its own, or number the parts 1, 2, 3"
        )
    for group in order.groups.values():
        said = {_channel_names(files[name]): name for name in group if name in files}
        if len(said) > 1:
            (one, first_name), (other, second_name), *_ = said.items()
            raise ValueError(
                f"{label}: the metadata of {first_name} name the channel {', '.join(one)}, those "
                f"of {second_name} {', '.join(other)}, so they are no frames of one movie: pass "
                "each channel as a source of its own"
            )


def _channel_names(file: Single) -> tuple[str, ...]:
    return tuple(channel.channel or "without a name" for channel in file.position.channels)


def _doubled(label: str, folder: Path, files: Mapping[str, Single]) -> tuple[str, ...]:
    """Refuse stacks that hold the same; say so of single frames, which may be dark.

    Few bytes are read of each file, and all of two that agree in those. A stack may be stored
    anew, with another compression: then its first frame is that of the other.
    """
    found: dict[Any, str] = {}
    for name, file in files.items():
        path = folder / name
        size = path.stat().st_size
        with path.open("rb") as content:
            content.seek(size // 2)
            middle = content.read(SAMPLE_BYTES)
        other = found.setdefault((size, middle), name)
        if other == name or not filecmp.cmp(folder / other, path, shallow=False):
            continue
        if not file.is_page:
            raise ValueError(
                f"{label}: {other} and {name} hold the same frames: keep copies elsewhere"
            )
        return (f"{other} and {name} hold the same frame: is one a copy?",)
    _check_first_frames(label, files)
    return ()


def _check_first_frames(label: str, files: Mapping[str, Single]) -> None:
    found: dict[bytes, str] = {}
    for name, file in files.items():
        if file.position.movie(0, 0).shape[0] < 2:
            continue
        top = _top(file, 0)
        other = found.setdefault(top, name)
        # A shutter may be shut, and a simulated movie without noise.
        if other != name and top != _top(file, 1):
            raise ValueError(
                f"{label}: {other} and {name} begin with the same frame: keep copies elsewhere"
            )


def _top(file: Single, frame: int) -> bytes:
    """Return the first rows of a frame."""
    movie = file.position.movie(0, 0)
    return movie.read(range(frame, frame + 1), slice(SAMPLE_ROWS), slice(None)).tobytes()


def _position(
    label: str,
    pages: Path | None,
    order: Arrangement,
    number: int,
    name: str,
    files: Mapping[str, Single],
    absent: tuple[str, ...],
) -> Position:
    """Return a position of files that follow one another, each with a grid of its own.

    `pages` is the folder of files of one page that are opened when they are read.
    """
    first = next(iter(files.values()))
    own = first.position
    channels, depth = len(own.channels), own.depth
    for path, file in files.items():
        sizes = (len(file.position.channels), file.position.depth)
        if sizes != (channels, depth):
            raise ValueError(
                f"{label}: {path} holds {sizes[0]} channels and {sizes[1]} slices, others "
                f"{channels} and {depth}: keep other images elsewhere"
            )
    if (len(order.channels) > 1 < channels) or (order.depth > 1 < depth):
        raise ValueError(
            f"{label}: the names of its files tell of channels or slices, and each file holds "
            "several, too: pass the files one by one"
        )
    lost = {n: f for n, f in files.items() if f.position.promised is not None}
    ends = {group[-1] for group in order.groups.values()}
    for path, file in lost.items():
        if path not in ends or len(order.groups) > 1:
            raise ValueError(
                f"{label}: {path} is cut short: {file.position.cut_short}; copy the file again"
            )

    def movie(channel: int, z: int) -> FileMovie:
        key = (
            number,
            channel if len(order.channels) > 1 else 0,
            z if order.depth > 1 else 0,
        )
        group = order.groups[key]
        inner = (channel if channels > 1 else 0, z if depth > 1 else 0)
        dtype = own.movie(0, 0).dtype
        if pages is None:
            movies: list[Any] = [files[part].position.movie(*inner) for part in group]
        else:
            unread = PageFiles(path=str(pages), names=group)
            movies = [FileMovie.of(unread, len(group), first.frame_shape, dtype)]
        return FileMovie(
            path=label,
            frame_shape=first.frame_shape,
            dtype=dtype,
            pieces=tuple(piece for movie in movies for piece in movie.pieces),
            counts=tuple(count for movie in movies for count in movie.counts),
        )

    known = own.channels if channels > 1 else _named(order.channels, own.channels)
    position = Position(name=name, movie=movie, channels=known, depth=max(depth, order.depth))
    whole = position.movie(0, 0).shape[0]
    if absent:
        return replace(position, promised=whole + 1, cut_short=f"its last file: {absent[1]}")
    if not lost:
        return position
    ((path, file),) = lost.items()
    missing = (file.position.promised or 0) - file.position.movie(0, 0).shape[0]
    return replace(
        position,
        promised=whole + missing,
        cut_short=f"its last file {path}: {file.position.cut_short}",
    )


def _named(names: Sequence[str], known: Sequence[Acquisition]) -> tuple[Acquisition, ...]:
    """Return what is known of each channel that file names tell of."""
    if names == ("",):
        return tuple(known)
    return tuple(replace(known[0], channel=name) for name in names)
