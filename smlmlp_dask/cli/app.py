"""The command line: parse, call, print, exit code."""

import gc
import io
import logging
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from smlmlp_dask import __version__

from . import options
from .errors import Group, log_to_stderr, open_standard_streams, telling_what_is_kept, told
from .options import LocalPath, Parsed, json_option, verbose_option
from .store_commands import STORE_COMMANDS

# What computes is imported by the command that needs it: `--help` and wrong options answer at once.
if TYPE_CHECKING:
    from smlmlp_dask.filters.spatial_mean import Engine
    from smlmlp_dask.movies.described import DescribedMovie
    from smlmlp_dask.store.codecs import Codec


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="smlmlp-dask")
def smlmlp() -> None:
    """Background of single-molecule localization movies that fit nowhere.

    \b
    smlmlp-dask demo                                try it on a simulated movie
    smlmlp-dask run movie.tif -o background.zarr    your own movie
    smlmlp-dask info background.zarr                what is in a result
    smlmlp-dask verify background.zarr              is it whole?
    smlmlp-dask plot background.zarr                a picture of it
    smlmlp-dask report background.zarr              all of it as one HTML page
    """
    open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # else it is somebody's own, who sees to that
            stream.reconfigure(errors="backslashreplace")  # no locale can make us fail


for command in STORE_COMMANDS:
    smlmlp.add_command(command)


@smlmlp.command()
@click.argument(
    "sources", nargs=-1, metavar="SOURCES...", shell_complete=click.Path().shell_complete
)
@click.option(
    "-o",
    "--output",
    type=LocalPath(),
    help="Store to write, such as background.zarr; must not exist.",
)
@click.option(
    "--radius",
    "radii",
    type=Parsed("R|RY,RX", options.radius),
    multiple=True,
    help="Averaging radius in pixels, 7 by default. Once: for all channels; "
    "repeated: one per channel, in order.",
)
@click.option(
    "--bbox",
    "boxes",
    type=Parsed("SOURCE:X0,Y0,X1,Y1", options.box),
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
    type=Parsed("START:STOP[:STEP]", options.frames),
    help="Frames to take, such as 0:1000.",
)
@click.option(
    "--raw-shape", type=Parsed("T,Y,X", options.shape), help="Shape of headerless raw movies."
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
    type=LocalPath(),
    help="Run on the Dask scheduler that wrote this file.",
)
@click.option(
    "--workers", type=click.IntRange(1), metavar="N", help="Run in N processes of this machine."
)
@click.option("--slurm", is_flag=True, help="Run in SLURM jobs; see README for its configuration.")
@click.option(
    "--jobs",
    type=Parsed("N|MIN:MAX", options.jobs),
    help="With --slurm: number of jobs, or bounds of it (default: 1).",
)
@click.option("--queue", help="With --slurm: partition of the jobs.")
@click.option("--walltime", metavar="H:MM:SS", help="With --slurm: time limit of a job.")
@click.option("--cores", type=click.IntRange(1), help="With --slurm: cores of a job.")
@click.option("--job-memory", metavar="SIZE", help="With --slurm: memory of a job, such as 8GB.")
@click.option(
    "--resume", is_flag=True, help="Go on with an interrupted run; starts one if there is none."
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Show the plan: blocks, memory, size on disk, time; write nothing that stays.",
)
@click.option(
    "--for-workers",
    type=click.IntRange(1),
    metavar="N",
    help="With --dry-run: plan for N processes of one thread each, wherever they are.",
)
@click.option(
    "--shape",
    "described_shape",
    type=Parsed("T,Y,X", options.shape),
    help="With --dry-run, in place of SOURCES: a movie that does not exist yet.",
)
@click.option(
    "--dtype", "described_dtype", metavar="DTYPE", help="Its dtype, uint16 if it is not given."
)
@click.option(
    "--chunks",
    "described_chunks",
    type=Parsed("T,Y,X", options.shape),
    help="Its chunks; single frames if they are not given.",
)
@click.option(
    "--progress/--no-progress",
    "show_progress",
    default=None,
    help="Progress (default: in a terminal); in a file or log, a line now and then.",
)
@json_option
@verbose_option
def run(
    sources: tuple[str, ...],
    output: Path | None,
    radii: tuple[tuple[float, ...], ...],
    boxes: tuple[tuple[int, tuple[int, ...]], ...],
    flips: tuple[str, ...],
    frames: slice | None,
    raw_shape: tuple[int, ...] | None,
    raw_dtype: str | None,
    engine: "Engine",
    cuda: bool,
    parallel: bool,
    codec: "Codec",
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
    for_workers: int | None,
    described_shape: tuple[int, ...] | None,
    described_dtype: str | None,
    described_chunks: tuple[int, ...] | None,
    show_progress: bool | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Estimate the background of movies and store it.

    SOURCES are Zarr or OME-Zarr, TIFF, folders or globs of TIFFs, or headerless raw movies; each
    is a channel, or several with --bbox. Exits with 0 when OUTPUT is complete.

    \b
    smlmlp-dask run movie.tif -o background.zarr --radius 7
    smlmlp-dask run dual.tif -o b.zarr --bbox 0:0,0,256,512 --bbox 0:256,0,512,512
    smlmlp-dask run movie.raw -o b.zarr --raw-shape 100,30,30 --raw-dtype '>u2'
    smlmlp-dask run --dry-run --shape 10000000,512,512 --chunks 32,512,512 --for-workers 64
    smlmlp-dask run movie.tif -o b.zarr --slurm --jobs 1:20 --cores 4 --job-memory 8GB
    """
    from smlmlp_dask.execution.connect import Place, connected
    from smlmlp_dask.execution.slurm import slurm_jobs
    from smlmlp_dask.pipeline.plan import plan_spatial_mean
    from smlmlp_dask.pipeline.run import run_spatial_mean

    from . import documents
    from .tables import console, print_json, print_plan, summary

    log_to_stderr(verbose=verbose)
    described = _described(dry_run, sources, described_shape, described_dtype, described_chunks)
    if for_workers is not None and not dry_run:
        raise click.UsageError("--for-workers is for plans: give --dry-run, too")
    if output is None and not dry_run:
        raise click.UsageError("Missing option '-o' / '--output'.")
    which: dict[str, Any] = {
        "bboxes": options.bboxes(boxes, 1 if described else len(sources)),
        "flips": [("y" in flip, "x" in flip) for flip in flips] or None,
        "frames": frames,
        "raw_shape": raw_shape,
        "raw_dtype": raw_dtype,
        "memory_limit": memory_limit,
    }
    how: dict[str, Any] = {
        "cuda": cuda,
        "parallel": parallel,
        "engine": engine,
        "codec": codec,
        "keep_bits": keep_bits,
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
    if dry_run and (workers is not None or slurm):
        raise click.UsageError(
            f"--dry-run starts no workers: give --for-workers N in place of "
            f"{'--slurm' if slurm else '--workers'}"
        )
    if dry_run or output is None:
        with connected(place):
            plan = plan_spatial_mean(
                described or list(sources),
                options.radii(radii),
                **which,
                workers=for_workers,
                measured=True,
                destination=output,
                **how,
            )
        with told():
            if as_json:
                print_json(documents.plan_document(plan))
            else:
                print_plan(console(), plan)
        return
    tell = partial(click.echo, err=True) if show_progress else logging.getLogger(__name__).info
    with (
        telling_what_is_kept(output),
        connected(place, memory_limit=memory_limit, tell=tell),
    ):
        result = run_spatial_mean(
            list(sources),
            output,
            options.radii(radii),
            **which,
            **how,
            resume=resume,
            progress=show_progress,
        )
    with told():
        if as_json:
            print_json(documents.store_document(output))
            return
        out = console()
        out.print(summary(result))
        out.print(f"finished: {output}")


def _described(
    dry_run: bool,
    sources: tuple[str, ...],
    shape: tuple[int, ...] | None,
    dtype: str | None,
    chunks: tuple[int, ...] | None,
) -> "DescribedMovie | None":
    """Return the movie that --shape, --dtype and --chunks describe, if they may and do."""
    from smlmlp_dask.movies.described import DescribedMovie

    if shape is None:
        if dtype is not None or chunks is not None:
            raise click.UsageError("--dtype and --chunks describe a movie: give its --shape, too")
        if not sources:
            raise click.UsageError("Missing argument 'SOURCES...'.")
        return None
    if not dry_run:
        raise click.UsageError("--shape describes a movie without pixels: give --dry-run, too")
    if sources:
        raise click.UsageError(
            f"--shape describes a movie in place of SOURCES, and there is {sources[0]}: "
            "leave one of them out"
        )
    return DescribedMovie(shape, dtype or "uint16", chunks)


@smlmlp.command()
@click.option(
    "-o",
    "--output",
    type=LocalPath(),
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
@json_option
@verbose_option
def demo(output: Path, frames: int, as_json: bool, verbose: bool) -> None:
    """Try it on a simulated movie.

    Simulates two channels, runs the job, compares with the known background, draws a picture.

    \b
    smlmlp-dask demo
    """
    from . import documents
    from .demo import run_demo  # brings matplotlib, which the other commands do without
    from .tables import console, print_demo, print_json

    log_to_stderr(verbose=verbose)
    report = run_demo(output, frames, progress=sys.stderr.isatty())
    with told():
        if as_json:
            print_json(documents.demo_document(report))
        else:
            print_demo(console(), report)


def main() -> None:
    """Run the command line; the entry point of ``smlmlp-dask`` and ``python -m smlmlp_dask``."""
    gc.set_threshold(100_000)  # else a tenth of a second goes into looking through fresh imports
    try:
        smlmlp(prog_name="smlmlp-dask")
    finally:
        gc.freeze()  # else a third of a second goes into collecting what ends anyway
