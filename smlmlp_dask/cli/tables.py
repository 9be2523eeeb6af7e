"""Tables and lines that the command line prints."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
from rich import box
from rich.console import Console
from rich.table import Table

from smlmlp_dask.filters.wording import in_words, mean_alone
from smlmlp_dask.messages import counted, printable
from smlmlp_dask.movies.acquisition import Acquisition
from smlmlp_dask.movies.formats.zarr_movie import repair_command
from smlmlp_dask.pipeline.verify import VerifyReport
from smlmlp_dask.result import SpatialMeanResult

if TYPE_CHECKING:
    from .demo import DemoReport  # imports matplotlib
    from .documents import Document


class _Stdout(Console):
    """A console whose caller handles a closed pipe."""

    def on_broken_pipe(self) -> NoReturn:
        """Raise again; rich would exit with code 1."""
        raise  # rich calls this while it handles the BrokenPipeError


def console() -> Console:
    """Return a console for stdout that prints file names unchanged."""
    return _Stdout(highlight=False, markup=False, emoji=False, soft_wrap=True)


def say(out: Console, text: str, style: str | None = None) -> None:
    """Print a text: in a terminal broken between words, else on one line."""
    out.print(text, style=style, soft_wrap=not out.is_terminal)


def print_json(document: "Document") -> None:
    """Print one document, and nothing else, on stdout."""
    click.echo(json.dumps(document, indent=2))


def summary(result: SpatialMeanResult) -> Table:
    """Tabulate the channels of a result."""
    steps = "radius (y, x)" if all(map(mean_alone, result.steps)) else "steps"
    table = Table("channel", "frames×y×x", "chunks", steps, "noise correction", box=box.SIMPLE)
    for i, (stack, factor) in enumerate(zip(result.stacks, result.noise_corrections, strict=True)):
        table.add_row(
            str(i),
            _times(stack.shape),
            _times(stack.unit),
            in_words(result.steps[i]).replace(", then ", "\n"),
            f"{factor:.6f}",
        )
    return table


def recorded(acquisitions: Sequence[Acquisition]) -> Table | None:
    """Tabulate how the channels were recorded; None if nothing is known of any."""
    rows = recorded_rows(acquisitions)
    if not rows:
        return None
    table = Table(*rows[0], box=box.SIMPLE)
    for row in rows[1:]:
        table.add_row(*row)
    return table


def recorded_rows(acquisitions: Sequence[Acquisition]) -> list[tuple[str, ...]]:
    """Return heads and cells of what is known of any channel; nothing if that is nothing."""
    columns = {
        "name": [printable(one.channel or "") for one in acquisitions],
        "pixel size": [pixel_size(one) for one in acquisitions],
        "frame interval": [_seconds(one.frame_interval_s) for one in acquisitions],
        "exposure": [_seconds(one.exposure_s) for one in acquisitions],
    }
    known = {name: cells for name, cells in columns.items() if any(cells)}
    if not known:
        return []
    channels = [str(i) for i in range(len(acquisitions))]
    cells = [[cell or "\N{EN DASH}" for cell in column] for column in known.values()]
    return [("channel", *known), *zip(channels, *cells, strict=True)]


def pixel_size(acquisition: Acquisition) -> str:
    """Return the size of a pixel, one number if it is square; nothing if it is not known."""
    if acquisition.pixel_size_um is None:
        return ""
    y, x = (f"{size:g}" for size in acquisition.pixel_size_um)
    return f"{y} µm" if y == x else f"{y}, {x} µm (y, x)"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:g} s"


def print_report(out: Console, report: VerifyReport) -> None:
    """Print what `verify` checked, found and repaired."""
    for problem in report.repaired:
        say(out, f"repaired: {problem.partition(';')[0]}")
    for problem in (*report.problems, *report.not_compared):
        say(out, problem)
    again = f", {counted(report.recomputed, 'block')} computed again" if report.recomputed else ""
    problems = counted(len(report.problems), "problem") if report.problems else "no problems"
    out.print(f"{counted(report.chunks, 'chunk')} checked{again}: {problems}")
    if report.not_compared and not report.problems:
        out.print("the store is whole; it was not compared with all of its movie")


def print_glance(out: Console, path: Path, problems: Sequence[str]) -> None:
    """Print the problems that a quick check of a finished store found."""
    for problem in problems:
        say(out, problem, "red")
    if problems:
        out.print(f"damaged: repair it by {repair_command(path)}", style="bold red")
    else:
        out.print(f"finished; smlmlp-dask verify {path} checks every byte")


def print_demo(out: Console, report: "DemoReport") -> None:
    """Print the results of the demo."""
    out.print(summary(report.result))
    out.print(_checks(report))
    out.print(f"rate: {report.rate / 1e6:,.0f} Mpx/s, from Zarr to Zarr")
    out.print(f"movie: {report.movie}")
    out.print(f"background: {report.result.path}")
    out.print(f"picture: {report.picture}")


def _checks(report: "DemoReport") -> Table:
    """Tabulate the error of the demo's estimate against the known background."""
    table = Table("channel", "known background", "error (RMS)", "error (mean)", box=box.SIMPLE)
    for i, check in enumerate(report.checks):
        table.add_row(
            str(i),
            f"{check.known:.1f} counts",
            f"{check.rms:.2f} counts ({check.rms / check.known:.1%})",
            f"{check.bias:+.2f} counts ({check.bias / check.known:+.1%})",
        )
    return table


def _times(shape: Sequence[float]) -> str:
    return "×".join(map(str, shape))
