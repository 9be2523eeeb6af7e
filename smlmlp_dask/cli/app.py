"""The command line: parse, call, print, exit code."""

import gc
import io
import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from .convert import convert
from .errors import Group, log_to_stderr, open_standard_streams, printing
from .estimate import Estimate
from .export import export
from .jobs import JobCommand
from .options import (
    LocalPath,
    json_option,
    overwrite_option,
    progress_option,
    resume_option,
    verbose_option,
)
from .radius import radius
from .run_options import Filtering, Movies, Planned, Recorded, Where, grouped
from .sections import sectioned
from .store_commands import STORE_COMMANDS
from .version import print_version

# A command imports what computes when it runs: `--help` and errors in options answer at once.


@click.group(
    cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120}
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=print_version,
    help="Show the versions that a report of a fault should name.",
)
def smlmlp() -> None:
    """Background of single-molecule localization movies larger than memory.

    \b
    smlmlp-dask demo                                try it on a simulated movie
    smlmlp-dask run movie.tif -o background.zarr    your own movie
    smlmlp-dask info movie.tif                      what is in a movie or a store
    smlmlp-dask formats                             which movies can be read
    smlmlp-dask radius movie.tif                    which radius suits it
    smlmlp-dask convert movie.tif -o movie.zarr     a movie as OME-Zarr, as it is
    smlmlp-dask export signal.zarr -o signal.raw    for Picasso, Fiji and others
    smlmlp-dask verify background.zarr              is it whole?
    smlmlp-dask plot background.zarr                a picture of it
    smlmlp-dask report background.zarr              all of it as one HTML page
    smlmlp-dask view background.zarr                look at it in the browser
    """
    open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a replaced stream is its owner's business
            stream.reconfigure(errors="backslashreplace")  # no locale can make us fail


for command in (radius, convert, export, *STORE_COMMANDS):
    smlmlp.add_command(command)


@smlmlp.command(cls=JobCommand)
@sectioned(
    "Output",
    "-o",
    "--output",
    type=LocalPath(),
    help="Store to write, such as background.zarr.",
)
@grouped(what=Estimate, movies=Movies, recorded=Recorded, how=Filtering, where=Where, plan=Planned)
@resume_option
@overwrite_option
@progress_option
@json_option
@verbose_option
def run(
    output: Path | None,
    what: Estimate,
    movies: Movies,
    recorded: Recorded,
    how: Filtering,
    where: Where,
    plan: Planned,
    resume: bool,
    overwrite: bool,
    show_progress: bool | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Estimate the background of movies and store it.

    SOURCES are movies of the formats that smlmlp-dask formats lists, sets and folders of files,
    patterns such as 'run1/*.tif', or headerless raw movies. Each gives its channels, or several
    with --bbox; so quote a pattern, or the shell makes a source and a channel of every file. Exits
    with 0 when OUTPUT is complete.

    \b
    smlmlp-dask run movie.tif -o background.zarr --radius 7
    smlmlp-dask run dual.tif -o b.zarr --bbox 0:0,0,256,512 --bbox 0:256,0,512,512
    smlmlp-dask run movie.tif -o b.zarr --step median:25 --step mean:7
    smlmlp-dask run movie.tif -o b.zarr --write signal --pedestal 100
    smlmlp-dask run movie.raw -o b.zarr --raw-shape 100,30,30 --raw-dtype '>u2'
    smlmlp-dask run job.toml                       sources and options from a file
    smlmlp-dask run --dry-run --shape 10000000,512,512 --for-workers 64
    smlmlp-dask run movie.tif -o b.zarr --slurm --jobs 1:20 --cores 4
    """
    from smlmlp_dask.pipeline.plan import plan_background, plan_spatial_mean
    from smlmlp_dask.pipeline.run import run_background, run_spatial_mean
    from smlmlp_dask.store.read import read_attributes

    from . import documents
    from .begin import running, show_plan
    from .stored import outputs_text
    from .tables import console, print_json, say, summary

    log_to_stderr(verbose=verbose)
    described = plan.movie(movies.sources)
    if output is None and not plan.dry_run:
        raise click.UsageError("Missing option '-o' / '--output'.")
    steps = what.chain()
    job: dict[str, Any] = {
        **movies.selection(),
        **recorded.overrides(),
        **vars(how),
        **what.stored(),
    }
    job["memory_limit"] = where.memory_limit
    place = where.place()
    if plan.dry_run or output is None:
        plan_it = plan_background if steps else plan_spatial_mean
        planned = partial(plan_it, described or list(movies.sources), steps or what.passed(), **job)
        show_plan(planned, plan, place, output, as_json=as_json, verbose=verbose)
        return
    with running(output, place, where.memory_limit, show_progress=show_progress) as shown:
        result = (run_background if steps else run_spatial_mean)(
            list(movies.sources),
            output,
            steps or what.passed(),
            **job,
            resume=resume,
            overwrite=overwrite,
            progress=shown,
        )
    with printing():
        if as_json:
            print_json(documents.store_document(output))
            return
        out = console()
        out.print(summary(result))
        say(out, f"stored: {outputs_text(output, read_attributes(output), whole=True)}")
        out.print(f"finished: {output}")


@smlmlp.command()
@click.option(
    "-o",
    "--output",
    type=LocalPath(),
    default="smlmlp-dask-demo",
    show_default=True,
    help="Folder to write.",
)
@overwrite_option
@click.option(
    "--frames",
    type=click.IntRange(1),
    metavar="N",
    default=600,
    show_default=True,
    help="Frames of the simulated movie.",
)
@json_option
@verbose_option
def demo(output: Path, overwrite: bool, frames: int, as_json: bool, verbose: bool) -> None:
    """Try it on a simulated movie.

    Simulates two channels, runs the job, compares with the known background, draws a picture.

    \b
    smlmlp-dask demo
    """
    from . import documents
    from .demo import run_demo  # imports matplotlib, which most commands do not need
    from .tables import console, print_demo, print_json

    log_to_stderr(verbose=verbose)
    report = run_demo(output, frames, progress=sys.stderr.isatty(), overwrite=overwrite)
    with printing():
        if as_json:
            print_json(documents.demo_document(report))
        else:
            print_demo(console(), report)


def main() -> None:
    """Run the command line; the entry point of ``smlmlp-dask`` and ``python -m smlmlp_dask``."""
    try:
        smlmlp(prog_name="smlmlp-dask")
    finally:
        gc.freeze()  # else all modules are collected at the end: 0.1 s of `info`, 0.3 s of `run`
