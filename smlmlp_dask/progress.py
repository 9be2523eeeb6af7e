"""One progress bar for a job, wherever it runs: blocks, rate, workers, time left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


@dataclass(frozen=True)
class Amount:
    """How much of a job: blocks, and their pixels."""

    blocks: int
    pixels: int


class _RateColumn(ProgressColumn):
    """Megapixels per second, over the whole run so far when it is finished."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(
            f"{speed / 1e6:,.0f} Mpx/s" if speed else "? Mpx/s", style="progress.data.speed"
        )


class _WorkersColumn(ProgressColumn):
    """Workers of a cluster."""

    max_refresh = 0.5

    def __init__(self, count: Callable[[], int | None]) -> None:
        super().__init__()
        self.count = count

    def render(self, _: Task) -> Text:
        count = self.count()
        return Text(f"{count} worker{'' if count == 1 else 's'}", style="progress.data.speed")


@contextmanager
def progress_bar(
    total: Amount, done: Amount, workers: Callable[[], int | None], *, shown: bool
) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr while the ``with`` block runs.

    Parameters
    ----------
    total : Amount
        The whole job.
    done : Amount
        What an earlier run did: no part of the rate.
    workers : callable
        Returns the number of a cluster's workers, now; None without a cluster.
    shown : bool
        False shows nothing.

    Yields
    ------
    callable
        To be called once for each block that is done, with its number of pixels.
    """
    columns = [
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TextColumn(f"{{task.fields[blocks]:,}}/{total.blocks:,} blocks"),
        _RateColumn(),
        *([_WorkersColumn(workers)] if workers() is not None else []),
        TimeRemainingColumn(elapsed_when_finished=True),
    ]
    console = Console(stderr=True)
    with Progress(*columns, console=console, expand=True, disable=not shown) as bar:
        task = bar.add_task("", total=total.pixels, completed=done.pixels, blocks=done.blocks)
        blocks = done.blocks

        def advance(pixels: int) -> None:
            nonlocal blocks
            blocks += 1
            bar.update(task, advance=pixels, blocks=blocks)

        yield advance
        bar.update(task, completed=total.pixels, blocks=total.blocks)
