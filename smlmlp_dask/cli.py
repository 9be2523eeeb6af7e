"""The command line: parse, call, print, exit code."""

import logging
import sys
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from . import __version__, parsing
from .background import Engine
from .cluster import Place, connected, quieten_distributed, slurm_jobs
from .commands import Group, Parsed, telling_what_is_kept
from .pipeline import run_spatial_mean
from .planning import plan_spatial_mean
from .screens import checks, print_plan, summary
from .stack import printable
from .storage import Codec
from .store import (
    open_backgrounds,
    progress,
    read_attributes,
    refusing_damage,
)
from .verify import verify_backgrounds

verbose_option = click.option(
    "-v", "--verbose", is_flag=True, help="Log more, and show tracebacks of errors."
)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="smlmlp-dask")
def smlmlp() -> None:
    """Background of single-molecule localization movies that fit nowhere.

    \b
    smlmlp-dask demo                                try it on a simulated movie
    smlmlp-dask run movie.tif -o background.zarr    your own movie
    smlmlp-dask info background.zarr                what is in a result
    smlmlp-dask verify background.zarr              is it whole?
    """


@smlmlp.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCES...")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="Store to write, such as background.zarr; must not exist.",
)
@click.option(
    "--radius",
    "radii",
    type=Parsed("R|RY,RX", parsing.radius),
    multiple=True,
    help="Averaging radius in pixels, 7 by default. Once: for all channels; "
    "repeated: one per channel, in order.",
)
@click.option(
    "--bbox",
    "boxes",
    type=Parsed("SOURCE:X0,Y0,X1,Y1", parsing.box),
    multiple=True,
    help="Take only this box of a source (counted from 0) as a channel; repeatable.",
)
@click.option(
    "--flip",
    "flips",
    type=click.Choice(["y", "x", "yx", "none"]),
    multiple=True,
    help="Mirror a channel: once per channel, in order.",
)
@click.option(
    "--frames",
    type=Parsed("START:STOP[:STEP]", parsing.frames),
    help="Frames to take, such as 0:1000.",
)
@click.option(
    "--raw-shape", type=Parsed("T,Y,X", parsing.shape), help="Shape of headerless raw movies."
)
@click.option(
    "--raw-dtype",
    metavar="DTYPE",
    help="Dtype of headerless raw movies, such as '>u2': 16 bit, big-endian.",
)
@click.option(
    "--engine",
    type=click.Choice(["auto", "fused", "dask-image"]),
    default="auto",
    show_default=True,
    help="Which filter computes it.",
)
@click.option("--cuda", is_flag=True, help="Filter on the GPU.")
@click.option("--parallel", is_flag=True, help="Split each block's frames over threads, too.")
@click.option(
    "--codec",
    type=click.Choice(["fast", "small", "none"]),
    default="fast",
    show_default=True,
    help="How the store is compressed, without loss.",
)
@click.option(
    "--keep-bits",
    type=int,
    metavar="BITS",
    help="Round to this many mantissa bits of 23: 12 halves the store, within 0.012 %.",
)
@click.option(
    "--memory-limit", metavar="SIZE", help="What all tasks may use, such as 4GB (default: all)."
)
@click.option(
    "--scheduler", metavar="ADDRESS", help="Run on this Dask scheduler, such as tcp://HOST:8786."
)
@click.option(
    "--scheduler-file",
    type=click.Path(path_type=Path),
    help="Run on the Dask scheduler that wrote this file.",
)
@click.option(
    "--workers", type=click.IntRange(1), metavar="N", help="Run in N processes of this machine."
)
@click.option("--slurm", is_flag=True, help="Run in SLURM jobs; see README for its configuration.")
@click.option(
    "--jobs",
    type=Parsed("N|MIN:MAX", parsing.jobs),
    help="With --slurm: number of jobs, or bounds of it (default: 1).",
)
@click.option("--queue", help="With --slurm: partition of the jobs.")
@click.option("--walltime", metavar="H:MM:SS", help="With --slurm: time limit of a job.")
@click.option("--cores", type=click.IntRange(1), help="With --slurm: cores of a job.")
@click.option("--job-memory", metavar="SIZE", help="With --slurm: memory of a job, such as 8GB.")
@click.option(
    "--resume", is_flag=True, help="Go on with an interrupted run; starts one if there is none."
)
@click.option("--dry-run", is_flag=True, help="Show the plan: blocks, memory, sizes; do nothing.")
@click.option(
    "--progress/--no-progress",
    "show_progress",
    default=None,
    help="Progress bar (default: on a terminal).",
)
@verbose_option
def run(
    sources: tuple[str, ...],
    output: Path,
    radii: tuple[tuple[float, ...], ...],
    boxes: tuple[tuple[int, tuple[int, ...]], ...],
    flips: tuple[str, ...],
    frames: slice | None,
    raw_shape: tuple[int, ...] | None,
    raw_dtype: str | None,
    engine: Engine,
    cuda: bool,
    parallel: bool,
    codec: Codec,
    keep_bits: int | None,
    memory_limit: str | None,
    scheduler: str | None,
    scheduler_file: Path | None,
    workers: int | None,
    slurm: bool,
    jobs: tuple[int, int] | None,
    queue: str | None,
    walltime: str | None,
    cores: int | None,
    job_memory: str | None,
    resume: bool,
    dry_run: bool,
    show_progress: bool | None,
    verbose: bool,
) -> None:
    """Estimate the background of movies and store it.

    SOURCES are Zarr or OME-Zarr, TIFF, folders or globs of TIFFs, or headerless raw movies; each
    is a channel, or several with --bbox. Exits with 0 when OUTPUT is complete.

    \b
    smlmlp-dask run movie.tif -o background.zarr --radius 7
    smlmlp-dask run dual.tif -o b.zarr --bbox 0:0,0,256,512 --bbox 0:256,0,512,512
    smlmlp-dask run movie.raw -o b.zarr --raw-shape 100,30,30 --raw-dtype '>u2'
    smlmlp-dask run movie.tif -o b.zarr --slurm --jobs 1:20 --cores 4 --job-memory 8GB
    """
    _log(verbose)
    which: dict[str, Any] = {
        "bboxes": parsing.bboxes(boxes, len(sources)),
        "flips": [("y" in flip, "x" in flip) for flip in flips] or None,
        "frames": frames,
        "raw_shape": raw_shape,
        "raw_dtype": raw_dtype,
        "memory_limit": memory_limit,
    }
    job = {
        "jobs": jobs,
        "queue": queue,
        "walltime": walltime,
        "cores": cores,
        "memory": job_memory,
    }
    place = Place(scheduler, scheduler_file, workers, slurm_jobs(slurm, job))
    if show_progress is None:
        show_progress = sys.stderr.isatty()
    if dry_run:
        plan = plan_spatial_mean(list(sources), parsing.radii(radii), **which)
        print_plan(Console(highlight=False), plan)
        return
    tell = partial(click.echo, err=True) if show_progress else logging.getLogger(__name__).info
    with (
        telling_what_is_kept(output),
        connected(place, memory_limit=memory_limit, tell=tell),
    ):
        result = run_spatial_mean(
            list(sources),
            output,
            parsing.radii(radii),
            **which,
            cuda=cuda,
            parallel=parallel,
            engine=engine,
            codec=codec,
            keep_bits=keep_bits,
            resume=resume,
            progress=show_progress,
        )
    console = Console()
    console.print(summary(result))
    console.print(f"finished: {result.path}", soft_wrap=True)


@smlmlp.command()
@click.argument("path", type=click.Path(path_type=Path))
@verbose_option
def info(path: Path, verbose: bool) -> None:
    """Show what is in a store of backgrounds.

    \b
    smlmlp-dask info background.zarr
    """
    _log(verbose)
    attributes = read_attributes(path)
    with refusing_damage(path):
        lines = [
            f"sources: {', '.join(map(printable, attributes['sources']))}",
            f"engine: {attributes['engine']}",
            "versions: " + ", ".join(f"{k} {v}" for k, v in attributes["versions"].items()),
        ]
        state = None if attributes["finished"] else progress(path)
    console = Console()
    if state is None:
        console.print(summary(open_backgrounds(path)))
    else:
        console.print(
            f"unfinished: {state.done:,} of {state.total:,} blocks "
            f"({state.done / max(1, state.total):.0%}); run it again with --resume to go on"
        )
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


@smlmlp.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--deep", is_flag=True, help="Also compute some blocks again and compare every bit.")
@click.option(
    "--sample", type=click.IntRange(1), default=10, show_default=True, help="Blocks for --deep."
)
@verbose_option
def verify(path: Path, deep: bool, sample: int, verbose: bool) -> None:
    """Check that a store is finished and whole: every chunk against its checksum.

    Names every chunk that is missing or damaged; exits with 0 if there is none, else with 1.

    \b
    smlmlp-dask verify background.zarr
    smlmlp-dask verify background.zarr --deep --sample 20
    """
    _log(verbose)
    report = verify_backgrounds(path, sample=sample if deep else 0)
    for problem in report.problems:
        click.echo(problem)
    recomputed = f", {report.recomputed:,} blocks computed again" if deep else ""
    click.echo(f"{report.chunks:,} chunks checked{recomputed}: {len(report.problems):,} problems")
    if report.problems:
        raise SystemExit(1)


@smlmlp.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default="smlmlp-dask-demo",
    show_default=True,
    help="Folder to write; must not exist.",
)
@click.option(
    "--frames",
    type=click.IntRange(1),
    default=600,
    show_default=True,
    help="Frames of the simulated movie.",
)
@verbose_option
def demo(output: Path, frames: int, verbose: bool) -> None:
    """Try it: simulate a movie of two channels, run the job, compare with the known background.

    \b
    smlmlp-dask demo
    """
    from .demo import run_demo  # brings matplotlib, which the other commands do without

    _log(verbose)
    console = Console()
    report = run_demo(output, frames, progress=sys.stderr.isatty())
    console.print(summary(report.result))
    console.print(checks(report))
    console.print(f"rate: {report.rate / 1e6:,.0f} Mpx/s, from Zarr to Zarr")
    console.print(f"movie: {report.movie}", soft_wrap=True)
    console.print(f"background: {report.result.path}", soft_wrap=True)
    console.print(f"picture: {report.picture}", soft_wrap=True)


def main() -> None:
    """Run the command line; the entry point of ``smlmlp-dask`` and ``python -m smlmlp_dask``."""
    smlmlp(prog_name="smlmlp-dask")


def _log(verbose: bool) -> None:
    # Libraries log what they then raise; one line is enough unless more is asked for.
    logging.basicConfig(level=logging.INFO if verbose else logging.CRITICAL)
    if not verbose:
        quieten_distributed()
