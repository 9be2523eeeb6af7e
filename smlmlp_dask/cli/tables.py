"""Tables and lines that the command line prints."""

import json
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from dask.utils import format_bytes, format_time
from rich import box
from rich.console import Console
from rich.table import Table

from smlmlp_dask.execution.tasks import REGION_TASKS
from smlmlp_dask.filters.wording import in_words, mean_alone
from smlmlp_dask.messages import printable
from smlmlp_dask.movies.acquisition import Acquisition
from smlmlp_dask.movies.formats.zarr_movie import repair_command
from smlmlp_dask.pipeline.outputs import Outputs, clipping
from smlmlp_dask.pipeline.verify import VerifyReport
from smlmlp_dask.result import SpatialMeanResult
from smlmlp_dask.store.checking import clipped_pixels

if TYPE_CHECKING:
    from smlmlp_dask.pipeline.job_plan import JobPlan
    from smlmlp_dask.pipeline.measure import Rates

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


def outputs_line(path: Path, attributes: Mapping[str, Any]) -> str:
    """Say what a finished store holds besides backgrounds; nothing if it is only these."""
    outputs = Outputs.recorded(attributes)
    if outputs == Outputs():
        return ""
    texts = [f"{n} ({d})" for n, d in zip(outputs.names, outputs.dtypes, strict=True)]
    if outputs.pedestal is None:
        return f"stored: {', '.join(texts)}"
    clipped = sum(clipped_pixels(path, attributes) or ())
    told = clipping(clipped, outputs.pedestal) if clipped else "no pixel of the signal was clipped"
    return f"stored: {', '.join(texts)}, pedestal {outputs.pedestal}; {told}"


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
        out.print(f"repaired: {problem.partition(';')[0]}")
    for problem in report.problems:
        out.print(problem)
    again = f", {report.recomputed:,} blocks computed again" if report.recomputed else ""
    out.print(f"{report.chunks:,} chunks checked{again}: {len(report.problems):,} problems")


def print_glance(out: Console, path: Path, problems: Sequence[str]) -> None:
    """Print the problems that a quick check of a finished store found."""
    for problem in problems:
        out.print(problem, style="red")
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


def print_plan(console: Console, plan: "JobPlan") -> None:
    """Print what a job would do and need, one fact a line."""
    facts = Table.grid(padding=(0, 1))
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    for i, (channel, dtype) in enumerate(zip(plan.channels, plan.dtypes, strict=True)):
        movie = format_bytes(channel.itemsize * prod(channel.shape))
        facts.add_row(f"channel {i}:", f"{_counts(channel.shape)} (frames×y×x), {movie}")
        facts.add_row("  blocks:", f"{channel.n_blocks:,} of {_times(channel.block)}")
        facts.add_row("  read:", f"every pixel is decoded {channel.read_amplification:.2f} times")
        facts.add_row("  write:", f"{dtype} chunks of {_times(channel.chunks)}")
        facts.add_row(
            "  memory:", f"a block in work holds up to {format_bytes(channel.block_bytes)}:"
        )
        for part, size in channel.held.items():
            facts.add_row("", f"{format_bytes(size)} {part}")
    if plan.on_cluster:
        each = "1 block" if plan.blocks_per_task == 1 else f"up to {plan.blocks_per_task:,} blocks"
        facts.add_row("tasks:", f"of {each}, {plan.threads:,} at a time")
        facts.add_row(
            "scheduler:",
            f"{format_bytes(plan.scheduler_bytes)}, for {plan.tasks_under_way:,} tasks under way "
            "at most, however long the movie",
        )
    else:
        regions = -(-plan.n_blocks // REGION_TASKS)
        facts.add_row("tasks:", f"{plan.n_blocks:,} of 1 block, {plan.threads:,} at a time")
        facts.add_row("regions:", f"{regions:,} of up to {REGION_TASKS} tasks, one after the other")
    if plan.workers is not None:
        facts.add_row(
            "workers:",
            f"{plan.workers:,} of one thread, {format_bytes(plan.worker_bytes)} of memory each",
        )
    limit = format_bytes(plan.memory_limit_bytes)
    facts.add_row("memory:", f"{format_bytes(plan.projected_bytes)} of {limit}")
    facts.add_row("output:", f"{format_bytes(plan.output_bytes)} before compression")
    if plan.rates is not None:
        _add_rates(facts, plan, plan.rates)
    console.print(facts)
    console.print("nothing was run (--dry-run)")


def _add_rates(facts: Table, plan: "JobPlan", rates: "Rates") -> None:
    stored, work = plan.stored_bytes or 0, plan.work_seconds or 0.0
    source = sum(channel.itemsize * prod(channel.shape) for channel in plan.channels)
    give, take = (format_bytes(round(size / max(work, 1e-9))) for size in (source, stored))
    threads = "1 thread" if plan.threads == 1 else f"{plan.threads:,} threads"
    facts.add_row("  disk:", f"{format_bytes(stored)}, compressed as the sample was")
    facts.add_row("time:", f"{format_time(plan.seconds or 0.0)} with {threads}")
    steps = "read" if any(channel.kept for channel in plan.channels) else "read, filter"
    facts.add_row("  threads:", f"{format_time(work)} to {steps} and write")
    facts.add_row(
        "  storage:",
        f"must read up to {give}/s and write {take}/s; "
        f"{rates.folder} wrote {format_bytes(round(rates.storage_bytes_per_second))}/s",
    )
    if plan.workers is not None:
        facts.add_row("  assumed:", "it keeps up, and each worker has a core like this machine's")
    sample = "a simulated movie" if rates.simulated else "this movie"
    at_work = sum(rates.core_seconds_per_pixel) / max(1e-30, sum(rates.seconds_per_pixel))
    facts.add_row(
        "  sample:",
        f"{rates.blocks:,} blocks of {sample}, {rates.threads} side by side, here and now; each "
        f"had a core for {min(1.0, at_work):.0%} of its time",
    )


def _times(shape: Sequence[float]) -> str:
    return "×".join(map(str, shape))


def _counts(shape: Sequence[int]) -> str:
    return "×".join(f"{length:,}" for length in shape)
