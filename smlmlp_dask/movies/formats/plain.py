"""Uncompressed frames at known places of one file, as a header or a description says."""

from math import prod
from pathlib import Path

import numpy as np

from smlmlp_dask.movies.acquisition import UNKNOWN, Acquisition
from smlmlp_dask.movies.arguments import RawLayout
from smlmlp_dask.movies.recording import Position, Recording

from .frames import FileMovie, Frame, Offsets, PlainFrames


def plain_movie(path: Path, layout: RawLayout, count: int) -> FileMovie:
    """Return the first `count` frames of a file."""
    frame_bytes = prod(layout.shape[1:]) * layout.dtype.itemsize
    offsets = range(layout.header, layout.header + count * frame_bytes, frame_bytes)
    frames = PlainFrames(path=str(path), offsets=offsets, dtype=layout.dtype)
    return FileMovie.of(frames, count, layout.shape[1:], layout.dtype)


def plain_recording(
    path: Path,
    format: str,
    layout: RawLayout,
    *,
    by: str,
    remedy: str,
    acquisition: Acquisition = UNKNOWN,
) -> Recording:
    """Return the recording of a movie that a header, or a file beside it, describes.

    `by` names what describes it, and `remedy` says what to do if it does not fit.

    Raises
    ------
    ValueError
        If the file is longer than described, or has no whole frame.
    """
    frame_bytes = prod(layout.shape[1:]) * layout.dtype.itemsize
    due = layout.header + layout.shape[0] * frame_bytes
    size = path.stat().st_size
    found = (
        f"it has {size} bytes where {by} describes {layout.shape} of {layout.dtype}, {due} bytes"
    )
    if size > due or size < min(due, layout.header + frame_bytes):
        raise ValueError(f"{path} does not fit its description: {found}; {remedy}")
    position = plain_position(
        path,
        range(layout.header, due, frame_bytes),
        layout.shape[1:],
        layout.dtype,
        acquisition=acquisition,
        cut_short=found,
    )
    return Recording(path=str(path), format=format, positions=(position,))


def plain_position(
    path: Path,
    offsets: Offsets,
    frame: Frame,
    dtype: np.dtype[np.generic],
    *,
    end: int | None = None,
    name: str = "",
    bottom_up: bool = False,
    acquisition: Acquisition = UNKNOWN,
    cut_short: str = "",
) -> Position:
    """Return a position with the frames that the file holds whole.

    Frames should begin at these `offsets`, and end before the byte `end`, by default the file's
    last. The `dtype` has the byte order of the file; `bottom_up`, the last row lies first.
    """
    frame_bytes = prod(frame) * dtype.itemsize
    size = path.stat().st_size
    whole = _whole(offsets, frame_bytes, size if end is None else min(end, size))
    frames = PlainFrames(path=str(path), offsets=offsets[:whole], dtype=dtype, bottom_up=bottom_up)
    movie = FileMovie.of(frames, whole, frame, dtype)
    promised = f"its header promises {len(offsets)} frames, {whole} of them are in the file"
    return Position(
        name=name,
        movie=lambda *_: movie,
        channels=(acquisition,),
        promised=len(offsets),
        cut_short=cut_short or promised,
    )


def _whole(offsets: Offsets, frame_bytes: int, end: int) -> int:
    """Return how many of the first frames lie in the file as a whole."""
    if isinstance(offsets, range):
        room = (end - frame_bytes - offsets.start) // offsets.step + 1
        return min(len(offsets), max(0, room))
    inside = (offsets > 0) & (offsets + frame_bytes <= end)
    return len(offsets) if inside.all() else int(np.argmin(inside))


def frames_of(counted: int, room: int) -> tuple[int, tuple[str, ...]]:
    """Return the frames that a header counts, or else as many as fit, and a note if they differ."""
    if counted < 1:  # the recording was aborted, or the program leaves it empty
        return room, (f"its header does not count its frames; {room} fit into the file",)
    if room > counted:
        return counted, (f"its header counts {counted} frames, which are taken, and {room} fit in",)
    return counted, ()


def mean_interval_s(first_s: float, last_s: float, frames: int) -> float | None:
    """Return the mean time between frames by the stamps of the first and the last."""
    return (last_s - first_s) / (frames - 1) if frames > 1 and last_s > first_s else None
