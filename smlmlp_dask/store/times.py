"""When a store was written, by the times of its files.

Times are not recorded in it: the same job gives the same bytes, whenever it runs and however often
it is interrupted.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from .chunk_files import chunk_path
from .metadata import COPY, ROOT
from .outputs import Placed


def when_written(path: Path, placed: Sequence[Placed]) -> tuple[datetime, datetime] | None:
    """Return when a store was begun and finished, in UTC; None if its files do not tell.

    They do not if their times are not in the order in which a job writes them: metadata, chunks,
    ``finished``. So it is after a copy that did not keep the times. Of each array the first and the
    last chunk of its grid are looked at.
    """
    chunks = [
        chunk_path(one.array, place)
        for one in placed
        if 0 not in one.plan.grid
        for place in {(0, 0, 0), tuple(length - 1 for length in one.plan.grid)}
    ]
    try:
        times = [file.stat().st_mtime_ns for file in (path / COPY, *chunks, path / ROOT)]
    except OSError:
        return None
    begun, finished = times[0], times[-1]
    if not begun == min(times) <= max(times) == finished:
        return None
    return datetime.fromtimestamp(begun / 1e9, UTC), datetime.fromtimestamp(finished / 1e9, UTC)
