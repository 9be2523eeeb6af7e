"""What readers of microscopes' files say and count alike: refusals, and frames that are whole."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.messages import one_line
from smlmlp_dask.movies.recording import Position, Recording


class Unsuitable(ValueError):
    """A file, or an image in it, is whole, but no movie that we can read."""


@contextmanager
def reading_as(
    path: Path,
    format: str,
    remedy: str,
    errors: type[Exception] | tuple[type[Exception], ...] = Exception,
) -> Iterator[None]:
    """Say in one line why a file cannot be read, whatever its library raises."""
    try:
        yield
    except Unsuitable as error:
        raise ValueError(f"{path} {error}") from None
    except errors as error:
        raise ValueError(
            f"{path} cannot be read as {format}: {one_line(error)}; {remedy}"
        ) from error


def recording_of(
    path: Path, format: str, positions: Sequence[Position], others: Sequence[str], kind: str
) -> Recording:
    """Return the recording of the images that are movies, and say why others are left out.

    `kind` is what the format calls its images.
    """
    said = "; ".join(others[:3]) + (f"; and {len(others) - 3} more" if len(others) > 3 else "")
    if not positions:
        raise Unsuitable(f"holds no movie: {said or 'it has no images'}")
    notes = (f"not all {kind} are movies: {said}",) if others else ()
    return Recording(path=str(path), format=format, positions=tuple(positions), notes=notes)


def whole_frames(there: NDArray[Any]) -> int:
    """Return how many frames there are before the first that lacks a part.

    The first axis of `there` is that of the frames.
    """
    frames = there.all(axis=tuple(range(1, there.ndim)))
    return len(frames) if frames.all() else int(np.argmin(frames))
