"""What the command line shows, as rich tables and lines."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dask.utils import format_bytes
from rich import box
from rich.console import Console
from rich.table import Table

from .planning import JobPlan
from .store import SpatialMeanResult
from .verify import Report

if TYPE_CHECKING:
    from .demo import DemoReport  # which brings matplotlib


def console() -> Console:
    """Return what tables and lines are printed to: names of files are shown as they are."""
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


def summary(result: SpatialMeanResult) -> Table:
    """Tabulate the channels of a result."""
    table = Table(
        "channel", "frames×y×x", "chunks", "radius (y, x)", "noise correction", box=box.SIMPLE
    )
    radii = result.info["channels_mean_radii_pix"]
    for i, (bkgd, factor) in enumerate(zip(result.bkgds, result.noise_corrections, strict=True)):
        table.add_row(
            str(i),
            _times(bkgd.shape),
            _times(bkgd.chunksize),
            "{:g}, {:g} px".format(*radii[i]),
            f"{factor:.6f}",
        )
    return table


def print_report(out: Console, report: Report) -> None:
    """Print what `verify` checked and found."""
    for problem in report.problems:
        out.print(problem)
    again = f", {report.recomputed:,} blocks computed again" if report.recomputed else ""
    out.print(f"{report.chunks:,} chunks checked{again}: {len(report.problems):,} problems")


def print_demo(out: Console, report: "DemoReport") -> None:
    """Print what the demo did."""
    out.print(summary(report.result))
    out.print(_checks(report))
    out.print(f"rate: {report.rate / 1e6:,.0f} Mpx/s, from Zarr to Zarr")
    out.print(f"movie: {report.movie}")
    out.print(f"background: {report.result.path}")
    out.print(f"picture: {report.picture}")


def _checks(report: "DemoReport") -> Table:
    """Tabulate how far the demo's estimate is from the known background."""
    table = Table("channel", "known background", "error (RMS)", "error (mean)", box=box.SIMPLE)
    for i, check in enumerate(report.checks):
        table.add_row(
            str(i),
            f"{check.known:.1f} counts",
            f"{check.rms:.2f} counts ({check.rms / check.known:.1%})",
            f"{check.bias:+.2f} counts ({check.bias / check.known:+.1%})",
        )
    return table


def print_plan(console: Console, plan: JobPlan) -> None:
    """Print what a job is going to do."""
    for i, channel in enumerate(plan.channels):
        console.print(f"channel {i}: {_times(channel.shape)} (frames×y×x)")
        console.print(f"  blocks: {channel.n_blocks:,} of {_times(channel.block)}, one task each")
        console.print(f"  read:   every pixel is decoded {channel.read_amplification:.2f} times")
        console.print(f"  write:  float32 chunks of {_times(channel.chunks)}")
        console.print(f"  a task holds up to {format_bytes(channel.block_bytes)}")
    console.print(f"tasks:  {plan.n_blocks:,}, {plan.threads} at a time")
    console.print(
        f"memory: {format_bytes(plan.projected_bytes)} of {format_bytes(plan.memory_limit_bytes)}"
    )
    console.print(f"output: {format_bytes(plan.output_bytes)} before compression")
    console.print("nothing was run (--dry-run)")


def _times(shape: Sequence[float]) -> str:
    return "×".join(map(str, shape))
