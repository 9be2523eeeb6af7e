"""The commands for stores, finished or not, and for sources: info, verify, report, plot, view."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from .errors import Command, explaining_resume, how_to_repair, printing
from .options import LocalPath, output_option
from .run_options import Call, Movies, declared


@click.command(cls=Command, short_help="Show what is in a movie, or in a store.")
@click.argument("path", metavar="SOURCE", type=LocalPath())
@declared(Movies, "raw_shape", "raw_dtype", "raw_header", "raw_footer")
@declared(Call, "as_json")
def info(path: Path, as_json: bool, **raw: Any) -> None:
    """Show what is in a movie, before any run, or in a store that run or convert wrote.

    SOURCE is what run takes: only its metadata are read. Of a movie it shows format, positions,
    channels, sizes, what its file says of the recording, and what is missing.

    \b
    smlmlp-dask info movie.tif
    smlmlp-dask info movie.raw --raw-shape 100,30,30 --raw-dtype '>u2'
    smlmlp-dask info background.zarr
    """
    from smlmlp_dask.movies.arguments import checked_raw
    from smlmlp_dask.store.read import is_store

    from .documents import store_document
    from .sources import look, print_source
    from .stored import print_store
    from .tables import console, print_json

    of_store = is_store(path)
    if of_store and not as_json:
        print_store(path)
        return
    document = store_document(path) if of_store else look(str(path), checked_raw(**raw))
    with printing():
        if as_json:
            print_json(document)
        else:
            print_source(console(), document)


@click.command(
    cls=Command, short_help="List the formats that can be read, and how to install readers."
)
@declared(Call, "as_json")
def formats(as_json: bool) -> None:
    """List the formats of movies that can be read, and how to install the readers of others.

    \b
    smlmlp-dask formats
    """
    from .sources import formats_document, print_formats
    from .tables import console, print_json

    with printing():
        if as_json:
            print_json(formats_document())
        else:
            print_formats(console())


@click.command(cls=Command)
@click.argument("path", type=LocalPath())
@click.option("--deep", is_flag=True, help="Also compute some blocks again and compare every bit.")
@click.option(
    "--sample",
    type=click.IntRange(1),
    metavar="N",
    default=10,
    show_default=True,
    help="Blocks that --deep computes.",
)
@click.option(
    "--repair",
    is_flag=True,
    help="Repair what is missing or damaged, computing it again from the movie.",
)
@declared(Call, "as_json")
def verify(path: Path, deep: bool, sample: int, repair: bool, as_json: bool) -> None:
    """Check that a store is finished and whole.

    Compares every chunk with its checksum and the metadata with their copy, and names each file
    that is missing or damaged. Exits with 0 if the store is whole (with --repair: afterwards),
    with 1 if it is not, and with 3 if it is whole, but --deep could not read all of its movie.

    \b
    smlmlp-dask verify background.zarr
    smlmlp-dask verify background.zarr --deep --sample 20
    smlmlp-dask verify background.zarr --repair
    """
    from smlmlp_dask.pipeline.verify import verify_backgrounds

    from .documents import verify_document
    from .stored import print_report
    from .tables import console, print_json

    with explaining_resume(path, how_to_repair) if repair else nullcontext():
        report = verify_backgrounds(
            path, sample=sample if deep else 0, repair=repair, progress=sys.stderr.isatty()
        )
    with printing():
        if as_json:
            print_json(verify_document(path, report))
        else:
            print_report(console(), report)
    if report.problems or report.not_compared:
        raise SystemExit(1 if report.problems else 3)


@click.command(cls=Command)
@click.argument("path", type=LocalPath())
@output_option("File to write (default: PATH with .html).")
@declared(Call, "overwrite")
@click.option(
    "--verify/--no-verify",
    "check",
    default=True,
    show_default=True,
    help="Compare every chunk with its checksum.",
)
def report(path: Path, output: Path | None, overwrite: bool, check: bool) -> None:
    """Write a report on a store as one HTML page.

    For a reviewer or a lab book: whether the store is whole, the warnings and picture of plot,
    methods in words, parameters, sources, kernels, versions; for an unfinished store, its progress.

    \b
    smlmlp-dask report background.zarr -o background.html
    """
    from .report import write_report  # imports matplotlib
    from .tables import console

    target = path.with_suffix(".html") if output is None else output
    write_report(path, target, verify=check, overwrite=overwrite)
    with printing():
        console().print(f"report: {target}")


@click.command(cls=Command, short_help="Draw a finished store as a picture.")
@click.argument("path", type=LocalPath())
@output_option("Picture to write, ending in .png, .svg or .pdf; by default next to the store.")
@click.option(
    "--frame",
    type=click.IntRange(0),
    metavar="NUMBER",
    help="Number of the frame to show (default: the one in the middle).",
)
@declared(Call, "overwrite")
def plot(path: Path, output: Path | None, frame: int | None, overwrite: bool) -> None:
    """Draw a finished store: raw, background, signal, kernels, background over time.

    The picture warns if the camera was saturated, or if the radius is too small for the spots.
    A longer movie does not take longer.

    \b
    smlmlp-dask plot background.zarr
    smlmlp-dask plot background.zarr -o picture.svg --frame 1000
    """
    from smlmlp_dask.pictures import overview  # imports matplotlib
    from smlmlp_dask.result import open_backgrounds

    from .tables import console

    result = open_backgrounds(path)
    picture = overview.picture_beside(path) if output is None else output
    overview.check_picture(picture, path, overwrite=overwrite)
    overview.write_picture(overview.plot_result(result, frame), picture)
    with printing():
        console().print(f"picture: {picture}")


@click.command(cls=Command, short_help="Show a finished store in the browser.")
@click.argument("path", type=LocalPath())
@click.option(
    "--browser/--no-browser",
    default=True,
    show_default=True,
    help="Open the browser, or only print the URL.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="NUMBER",
    help="Port of 127.0.0.1, such as one that ssh -L forwards (default: any free one).",
)
def view(path: Path, browser: bool, port: int | None) -> None:
    """Show a finished store in the browser: raw, background and signal side by side.

    The mouse wheel moves through the frames, with Ctrl it zooms. Pixels are read when they are
    shown, and served to this machine only. Ctrl-C ends it. Needs the extra view.

    \b
    smlmlp-dask view background.zarr
    smlmlp-dask view background.zarr --no-browser --port 8080
    """
    from smlmlp_dask.result import open_backgrounds

    from .viewing import serve

    serve(open_backgrounds(path), browser=browser, port=port)


STORE_COMMANDS = (info, formats, verify, report, plot, view)
