"""Movies of cameras: uncompressed frames at known places of one file."""

from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.movies.acquisition import UNKNOWN, Acquisition
from smlmlp_dask.movies.recording import Position
from smlmlp_dask.movies.stack import turn

from .frames import FileMovie, Frame, Frames, Offsets, PlainFrames


@dataclass(frozen=True, kw_only=True, eq=False)
class BottomUp:
    """Uncompressed frames whose last row lies first in the file."""

    frames: PlainFrames

    @property
    def path(self) -> str:
        """The file, for messages."""
        return self.frames.path

    def take(self, frames: range) -> Self:
        """Return only these frames, in this order."""
        return replace(self, frames=self.frames.take(frames))

    def held_bytes(self, frame_bytes: int, *, whole: bool) -> int:
        """Return the bytes of the buffer from which a box is cut."""
        return self.frames.held_bytes(frame_bytes, whole=whole)

    def read_into(self, out: NDArray[Any], rows: range, columns: range, frame: Frame) -> None:
        """Fill `out` with a box of each frame."""
        last = frame[0] - 1
        stored = range(last - rows[-1], last - rows[0] + 1, rows.step)
        self.frames.read_into(out, stored, columns, frame)
        turn(out, -1, 1)


def strided_position(
    path: Path,
    offsets: Offsets,
    frame: Frame,
    dtype: np.dtype[Any],
    *,
    end: int | None = None,
    name: str = "",
    bottom_up: bool = False,
    acquisition: Acquisition = UNKNOWN,
) -> Position:
    """Return a position with the frames that the file holds whole.

    Frames should begin at these `offsets`, and end before the byte `end`, by default the file's
    last. The `dtype` has the byte order of the file; `bottom_up`, the last row lies first.
    """
    frame_bytes = prod(frame) * dtype.itemsize
    size = path.stat().st_size
    end = size if end is None else min(end, size)
    whole = _whole(offsets, frame_bytes, end)
    frames: Frames = PlainFrames(path=str(path), offsets=offsets[:whole], dtype=dtype)
    if bottom_up and isinstance(frames, PlainFrames):
        frames = BottomUp(frames=frames)
    movie = FileMovie.of(frames, whole, frame, dtype)
    return Position(
        name=name,
        movie=lambda *_: movie,
        channels=(acquisition,),
        promised=len(offsets),
        cut_short=f"its header promises {len(offsets)} frames, {whole} of them are in the file",
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
