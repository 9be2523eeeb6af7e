"""One progress bar for a job: share done, rate, time left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
    """Show a bar on stderr while the ``with`` block runs.

    Parameters
    ----------
    total_pixels : int
        Pixels of the whole job.
    done_pixels : int
        Pixels that were filtered by an earlier run: no part of the rate.
    shown : bool
        False shows nothing.

    Yields
    ------
    callable
        To be called with the number of pixels that were filtered since the last call.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        _RateColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task("background", total=total_pixels, completed=done_pixels)
        yield lambda pixels: bar.advance(task, pixels)
        bar.update(task, completed=total_pixels)
