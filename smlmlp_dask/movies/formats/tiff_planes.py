"""The planes of TIFF files, put together to the channels and slices of a position."""

from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.movies.acquisition import UNKNOWN, Acquisition
from smlmlp_dask.movies.recording import Position
from smlmlp_dask.movies.stack import Movie

from .frames import FileMovie, Frames

MOST_CHANNELS = 7
"""Most channels of an ImageJ composite image."""

MOST_PLANES = 10**8
"""Most images that we take metadata at their word for: 50 TB at 512 × 512 pixels."""

ABSENT = -1
"""File number of a plane that is in no file."""


def no_planes(path: Path, sizes: Sequence[int]) -> NDArray[np.int64]:
    """Return planes of these sizes, each in no file yet.

    Raises
    ------
    ValueError
        If metadata describe more than any set of files can hold.
    """
    if prod(sizes) > MOST_PLANES:
        raise ValueError(
            f"{path}: its metadata describe {prod(sizes)} images, more than {MOST_PLANES}: they "
            "are damaged; export the file again"
        )
    return np.full((*sizes, 2), ABSENT, np.int64)


def picked(path: str, files: Sequence[FileMovie], planes: NDArray[np.int64]) -> FileMovie:
    """Return a movie of some pages of some files: planes (frame, 2) of file and page numbers.

    Each file has all its pages in one piece; `path` names the movie in messages.
    """
    pieces: list[Frames] = []
    counts: list[int] = []
    for file, pages in _runs(planes):
        pieces.append(files[file].pieces[0].take(pages))
        counts.append(len(pages))
    used = files[int(planes[0, 0])]
    return FileMovie(
        path=path,
        frame_shape=used.frame_shape,
        dtype=used.dtype,
        pieces=tuple(pieces),
        counts=tuple(counts),
    )


def _runs(planes: NDArray[np.int64]) -> Iterator[tuple[int, range]]:
    """Yield runs of pages of one file, as long as they follow at one distance."""
    start = 0
    while start < len(planes):
        file, first = (int(n) for n in planes[start])
        steps = np.diff(planes[start:], axis=0)
        step = int(steps[0, 1]) if len(steps) else 0
        if step < 1 or steps[0, 0]:
            yield file, range(first, first + 1)
            start += 1
            continue
        other = np.flatnonzero((steps[:, 0] != 0) | (steps[:, 1] != step))
        length = int(other[0]) + 1 if len(other) else len(steps) + 1
        yield file, range(first, first + length * step, step)
        start += length


def position_of(
    path: str,
    files: Sequence[FileMovie],
    planes: NDArray[np.int64],
    *,
    name: str = "",
    channels: Sequence[Acquisition] = (),
    why: str = "",
) -> Position:
    """Return the position that planes make; the last frames may be absent.

    Planes (frame, channel, z, 2) are the numbers of file and page, or `ABSENT`; the files have all
    their pages, alike, in one piece. `why` says what is missing where the last frames are absent.

    Raises
    ------
    ValueError
        If frames within are absent, or all, or if frames differ in shape or dtype.
    """
    frames, n_channels, depth = planes.shape[:3]
    there = (planes[..., 0] != ABSENT).all(axis=(1, 2))
    whole = frames if there.all() else int(np.argmin(there))
    if there[whole:].any() or not whole:
        gap = ", ".join(f"{axis} {n}" for axis, n in zip("tcz", _first_absent(planes), strict=True))
        raise ValueError(
            f"{path} misses frames: the plane {gap} is in none of its files"
            f"{f' ({why})' if why else ''}; copy the whole set again"
        )
    check_alike([files[n] for n in np.unique(planes[:whole, ..., 0])])
    return Position(
        name=name,
        movie=lambda channel, z: picked(path, files, planes[:whole, channel, z]),
        channels=tuple(channels) or (UNKNOWN,) * n_channels,
        depth=depth,
        promised=None if whole == frames else frames,
        cut_short=why or f"{whole} of {frames} frames are in its files",
    )


def check_alike(movies: Sequence[Movie]) -> None:
    """Refuse movies of which one is to be made, if their frames differ in shape or dtype."""
    shape, dtype = movies[0].shape[1:], movies[0].dtype
    for movie in movies:
        if (movie.shape[1:], movie.dtype) != (shape, dtype):
            raise ValueError(
                f"{movie.path} has frames of shape {movie.shape[1:]} and dtype {movie.dtype}, "
                f"{movies[0].path} of {shape} and {dtype}; a movie's frames are all alike: keep "
                "other images elsewhere"
            )


def _first_absent(planes: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(int(n) for n in np.argwhere(planes[..., 0] == ABSENT)[0])


def in_axes(
    path: Path, sizes: Sequence[int], axes: str, frame_shape: tuple[int, int]
) -> NDArray[np.int64]:
    """Return the pages of one file as planes (frame, channel, z, 2), by the axes of its frames.

    A long axis that is neither channel nor z, whatever its name, is time. So is z if it is the
    only one, and so are channels of which there are more than ImageJ can show: programs that are
    given no axes write frames as either.

    Raises
    ------
    ValueError
        If two axes could be time.
    """
    kinds = [{"C": "c", "Z": "z"}.get(axis, "t") for axis in axes]
    if axes == "Z" or (axes == "C" and sizes[0] > MOST_CHANNELS):
        kinds = ["t"]
    if len({*kinds}) < len(kinds):
        raise ValueError(
            f"{path} has shape {(*sizes, *frame_shape)} (axes {axes}YX), not frame, channel, z, y "
            "and x: save each channel or slice as a movie of its own"
        )
    order = sorted(range(len(kinds)), key=lambda at: "tcz".index(kinds[at]))
    pages = np.arange(prod(sizes)).reshape(sizes).transpose(order)
    numbers = pages.reshape([sizes[kinds.index(axis)] if axis in kinds else 1 for axis in "tcz"])
    return np.stack([np.zeros_like(numbers), numbers], axis=-1).astype(np.int64)
