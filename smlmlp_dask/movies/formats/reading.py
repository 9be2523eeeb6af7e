"""What readers of several formats share: refusals, frames that are whole, boxes cut in parts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.messages import one_line
from smlmlp_dask.movies.recording import Position, Recording
from smlmlp_dask.movies.stack import within
from smlmlp_dask.units import in_groups


class Unsuitable(ValueError):
    """A file, or an image in it, is whole, but no movie that we can read."""


@contextmanager
def reading_as(
    what: object,
    format: str,
    remedy: str,
    errors: type[Exception] | tuple[type[Exception], ...] = Exception,
) -> Iterator[None]:
    """Say in one line why a file cannot be read, whatever its library raises."""
    try:
        yield
    except Unsuitable as error:
        raise ValueError(f"{what} {error}") from None
    except errors as error:
        raise ValueError(
            f"{what} cannot be read as {format}: {one_line(error)}; {remedy}"
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


def parts_of(
    box: Sequence[range], unit: Sequence[int], most: int = 1
) -> Iterator[tuple[list[range], tuple[slice, ...]]]:
    """Cut a box of rising numbers along the borders of units, into parts of at most `most` of them.

    Yield the numbers of each part on all axes, and where they lie in the box.
    """
    for group in in_groups([slice(axis[0], axis[-1] + 1) for axis in box], unit, most):
        parts = [within(axis, part.start, part.stop) for axis, part in zip(box, group, strict=True)]
        if all(parts):  # else no number of a box with steps lies in it
            yield (
                parts,
                tuple(
                    slice(axis.index(part[0]), axis.index(part[-1]) + 1)
                    for axis, part in zip(box, parts, strict=True)
                ),
            )
