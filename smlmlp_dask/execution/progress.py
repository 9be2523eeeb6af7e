"""Progress of a job: a bar in a terminal, a line now and then in a log."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

from rich.console import Console
from rich.constrain import Constrain
from rich.live import Live
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
)
from rich.text import Text

from smlmlp_dask.messages import as_time, counted

LINE_EVERY_SECONDS = 10.0
"""Shortest time between two lines in a log. Each shows a new percent, so at most 100 appear."""


@dataclass(frozen=True)
class Amount:
    """An amount of work: blocks and their pixels."""

    blocks: int
    pixels: int


class _Said(ProgressColumn):
    """What a function says of a job."""

    def __init__(self, text: Callable[[Task], str], style: str) -> None:
        super().__init__()
        self.text, self.style = text, style

    def render(self, task: Task) -> Text:
        return Text(self.text(task), style=self.style)


def _rate(task: Task) -> str:
    """Return megapixels per second: recently, and at the end over the whole run."""
    if speed := task.finished_speed or task.speed:
        return f"{speed / 1e6:,.0f} Mpx/s"
    return "" if task.finished else "? Mpx/s"  # done at once, or resumed


def _time(task: Task) -> str:
    """Return the time that is left, and at the end the time that it took."""
    seconds, text = task.time_remaining, "{} left"
    if task.finished:
        seconds, text = task.finished_time, "in {}"
    return "" if seconds is None else text.format(as_time(seconds))


@contextmanager
def progress_bar(
    total: Amount, done: Amount, workers: Callable[[], int | None], *, shown: bool
) -> Iterator[Callable[[int], None]]:
    """Show on stderr how far a job has come, while the ``with`` block runs.

    Parameters
    ----------
    total : Amount
        The whole job.
    done : Amount
        Work of an earlier run; it does not count for the rate.
    workers : callable
        Returns the present number of a cluster's workers; None without a cluster.
    shown : bool
        False shows nothing. True shows a bar in a terminal. Elsewhere (a file, a queue's log, a
        terminal that cannot move its cursor) it writes a line for each further percent, at most
        one in ten seconds.

    Yields
    ------
    callable
        Call it once for each finished block, with the block's number of pixels.
    """
    if not shown:
        yield lambda _: None
        return
    console = Console(stderr=True)
    moves_its_cursor = console.is_terminal and not console.is_dumb_terminal
    if not (moves_its_cursor or console.is_jupyter):
        with _lines(total, done, workers) as advance:
            yield advance
        return
    columns = [
        BarColumn(bar_width=None),  # as wide as the other columns allow
        TaskProgressColumn(),
        TextColumn(f"{{task.fields[blocks]:,}}/{counted(total.blocks, 'block')}"),
        _Said(_rate, "progress.data.speed"),
        _Said(_time, "progress.remaining"),
    ]
    if workers() is not None:
        on = _Said(lambda _: counted(workers() or 0, "worker"), "progress.data.speed")
        columns.insert(-1, on)
    bar = Progress(*columns, console=console, expand=True)

    def beside_keys() -> Constrain:
        """Leave two columns free, or the ``^C`` that a terminal echoes would wrap the line."""
        return Constrain(bar, console.width - len("^C"))

    with Live(get_renderable=beside_keys, console=console, refresh_per_second=10):
        task = bar.add_task("", total=total.pixels, completed=done.pixels, blocks=done.blocks)
        blocks = done.blocks

        def advance_bar(pixels: int) -> None:
            nonlocal blocks
            blocks += 1
            bar.update(task, advance=pixels, blocks=blocks)

        yield advance_bar
        bar.update(task, completed=total.pixels, blocks=total.blocks)


@contextmanager
def _lines(
    total: Amount, before: Amount, workers: Callable[[], int | None]
) -> Iterator[Callable[[int], None]]:
    """Write a line now and then, and one at the end."""
    begun = shown_at = monotonic()
    blocks, done = before.blocks, before.pixels
    percent = 100 * done // max(1, total.pixels)

    def write(seconds: float) -> None:
        rate = (done - before.pixels) / seconds if seconds > 0 else 0.0
        n = workers()
        on = "" if n is None else f", {counted(n, 'worker')}"
        left = ""
        if rate and done < total.pixels:
            left = f", {as_time((total.pixels - done) / rate)} left"
        sys.stderr.write(
            f"{100 * done // max(1, total.pixels)}%: {blocks:,}/{counted(total.blocks, 'block')} "
            f"after {as_time(seconds)}, {rate / 1e6:,.0f} Mpx/s{on}{left}\n"
        )
        sys.stderr.flush()

    def advance(pixels: int) -> None:
        nonlocal blocks, done, percent, shown_at
        blocks += 1
        done += pixels
        now = monotonic()
        so_far = 100 * done // total.pixels
        if so_far > percent and now - shown_at >= LINE_EVERY_SECONDS and done < total.pixels:
            percent, shown_at = so_far, now
            write(now - begun)

    yield advance
    blocks, done = total.blocks, total.pixels
    write(monotonic() - begun)
