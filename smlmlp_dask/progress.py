"""How far a job is: a bar in a terminal, a line now and then in a log."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

LINE_EVERY_SECONDS = 10.0
"""The least time between two lines of a log; whole percents make at most a hundred of them."""


class _RateColumn(ProgressColumn):
    """Megapixels per second, over the whole run so far when it is finished."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(
            f"{speed / 1e6:,.0f} Mpx/s" if speed else "? Mpx/s", style="progress.data.speed"
        )


@contextmanager
def progress_bar(
    total_pixels: int, done_pixels: int = 0, *, shown: bool
) -> Iterator[Callable[[int], None]]:
    """Show on stderr how far a job is, while the ``with`` block runs.

    Parameters
    ----------
    total_pixels : int
        Pixels of the whole job.
    done_pixels : int
        Pixels that were filtered by an earlier run: no part of the rate.
    shown : bool
        False shows nothing. True shows a bar in a terminal; elsewhere (a file, a queue's log, a
        terminal that cannot move its cursor) a line whenever another percent is done, but not
        more than one in ten seconds.

    Yields
    ------
    callable
        To be called with the number of pixels that were filtered since the last call.
    """
    if not shown:
        yield lambda _: None
        return
    console = Console(stderr=True)
    moves_its_cursor = console.is_terminal and not console.is_dumb_terminal
    if not (moves_its_cursor or console.is_jupyter):
        with _lines(total_pixels, done_pixels) as advance:
            yield advance
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),  # whatever the other columns leave
        TaskProgressColumn(),
        _RateColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, expand=console.width <= 80) as bar:
        task = bar.add_task("background", total=total_pixels, completed=done_pixels)
        yield lambda pixels: bar.advance(task, pixels)
        bar.update(task, completed=total_pixels)


@contextmanager
def _lines(total: int, done_before: int) -> Iterator[Callable[[int], None]]:
    """Write a line now and then, and one at the end."""
    begun = shown_at = monotonic()
    done = done_before
    percent = 100 * done // max(1, total)

    def write(seconds: float) -> None:
        rate = (done - done_before) / seconds if seconds > 0 else 0.0
        left = f", {_clock((total - done) / rate)} left" if rate and done < total else ""
        sys.stderr.write(
            f"background: {100 * done // max(1, total)} % after {_clock(seconds)}, "
            f"{rate / 1e6:,.0f} Mpx/s{left}\n"
        )
        sys.stderr.flush()

    def advance(pixels: int) -> None:
        nonlocal done, percent, shown_at
        done += pixels
        now = monotonic()
        if 100 * done // total > percent and now - shown_at >= LINE_EVERY_SECONDS and done < total:
            percent, shown_at = 100 * done // total, now
            write(now - begun)

    yield advance
    done = total
    write(monotonic() - begun)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
