"""The command line: parse, call, print, exit code."""

import gc
import io
import sys
from pathlib import Path

import click

from .errors import Group, open_standard_streams, printing
from .export import export
from .job_commands import convert, run
from .options import output_option
from .radius import radius
from .run_options import Call, declared
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


for command in (run, radius, convert, export, *STORE_COMMANDS):
    smlmlp.add_command(command)


@smlmlp.command()
@output_option("Folder to write.", default="smlmlp-dask-demo", show_default=True)
@declared(Call, "overwrite")
@click.option(
    "--frames",
    type=click.IntRange(1),
    metavar="N",
    default=600,
    show_default=True,
    help="Frames of the simulated movie.",
)
@declared(Call, "as_json")
def demo(output: Path, overwrite: bool, frames: int, as_json: bool) -> None:
    """Try it on a simulated movie.

    Simulates two channels, runs the job, compares with the known background, draws a picture.

    \b
    smlmlp-dask demo
    """
    from .demo import demo_document, print_demo, run_demo  # imports matplotlib
    from .tables import console, print_json

    report = run_demo(output, frames, progress=sys.stderr.isatty(), overwrite=overwrite)
    with printing():
        if as_json:
            print_json(demo_document(report))
        else:
            print_demo(console(), report)


def main() -> None:
    """Run the command line; the entry point of ``smlmlp-dask`` and ``python -m smlmlp_dask``."""
    try:
        smlmlp(prog_name="smlmlp-dask")
    finally:
        gc.freeze()  # else all modules are collected at the end: 0.1 s of `info`, 0.3 s of `run`
