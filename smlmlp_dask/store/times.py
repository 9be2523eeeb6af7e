"""When a store was written, by the times of its files.

Times are not recorded in it: the same job gives the same bytes, whenever it runs and however often
it is interrupted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .chunk_files import chunk_path
from .metadata import COPY, ROOT


@dataclass(frozen=True)
class Written:
    """When a store was begun, and when it was finished.

    Attributes
    ----------
    begun : datetime.datetime
        When its metadata were written, in UTC.
    finished : datetime.datetime
        When the word ``finished`` was written into them.
    """

    begun: datetime
    finished: datetime

    @property
    def seconds(self) -> float:
        """The time from one to the other, with all interruptions."""
        return (self.finished - self.begun).total_seconds()


def when_written(
    path: Path, arrays: Sequence[Path], grids: Sequence[tuple[int, int, int]]
) -> Written | None:
    """Return when a finished store was written; None if the times of its files do not tell.

    They do not if files are not in the order in which a job writes them: metadata, chunks,
    ``finished``. So it is after a copy that did not keep the times. Of each array the first and the
    last chunk of its grid are looked at.
    """
    places = [
        (array, place)
        for array, grid in zip(arrays, grids, strict=True)
        if 0 not in grid
        for place in {(0, 0, 0), tuple(length - 1 for length in grid)}
    ]
    try:
        begun, finished = (_changed(path / name) for name in (COPY, ROOT))
        chunks = [_changed(chunk_path(array, place)) for array, place in places]
    except OSError:
        return None
    if any(not begun <= chunk <= finished for chunk in [begun, *chunks]):
        return None
    return Written(*(datetime.fromtimestamp(ns / 1e9, UTC) for ns in (begun, finished)))


def _changed(file: Path) -> int:
    return file.stat().st_mtime_ns
