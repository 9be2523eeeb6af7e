"""Movies that lie in a file as one run of bytes, in the layout that a description gives."""

from math import prod
from pathlib import Path

from smlmlp_dask.movies.acquisition import UNKNOWN, Acquisition
from smlmlp_dask.movies.arguments import RawLayout
from smlmlp_dask.movies.recording import Position, Recording

from .frames import FileMovie, PlainFrames


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
    whole = max(0, min(layout.shape[0], (size - layout.header) // frame_bytes))
    found = (
        f"it has {size} bytes where {by} describes {layout.shape} of {layout.dtype}, {due} bytes"
    )
    if size > due or (size < due and not whole):
        raise ValueError(f"{path} does not fit its description: {found}; {remedy}")
    movie = plain_movie(path, layout, whole)
    position = Position(
        movie=lambda *_: movie,
        channels=(acquisition,),
        promised=layout.shape[0],
        cut_short=found,
    )
    return Recording(path=str(path), format=format, positions=(position,))
