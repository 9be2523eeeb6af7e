"""The command that copies movies into an OME-Zarr."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from .errors import log_to_stderr, printing
from .jobs import JobCommand
from .options import (
    LocalPath,
    json_option,
    overwrite_option,
    progress_option,
    resume_option,
    verbose_option,
)
from .run_options import Movies, Planned, Recorded, Storing, Where, grouped
from .sections import sectioned


@click.command(cls=JobCommand)
@sectioned(
    "Output",
    "-o",
    "--output",
    type=LocalPath(),
    help="Store to write, such as movie.zarr.",
)
@grouped(movies=Movies, recorded=Recorded, how=Storing, where=Where, plan=Planned)
@resume_option
@overwrite_option
@progress_option
@json_option
@verbose_option
def convert(
    output: Path | None,
    movies: Movies,
    recorded: Recorded,
    how: Storing,
    where: Where,
    plan: Planned,
    resume: bool,
    overwrite: bool,
    show_progress: bool | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Copy movies of any format into one OME-Zarr, pixel for pixel.

    SOURCES and their options are those of run; each is a channel, or several. The store has the
    movie's own dtype, is compressed, can be verified and repaired, and is a source for run.

    \b
    smlmlp-dask convert movie.tif -o movie.zarr
    smlmlp-dask convert movie.tif -o part.zarr --frames 0:1000 --bbox 0:0,0,64,64
    """
    from smlmlp_dask.pipeline.convert import convert_movies, plan_conversion

    from . import documents
    from .begin import running, show_plan
    from .sources import frames_table
    from .tables import console, print_json

    log_to_stderr(verbose=verbose)
    described = plan.movie(movies.sources)
    if output is None and not plan.dry_run:
        raise click.UsageError("Missing option '-o' / '--output'.")
    job: dict[str, Any] = {**movies.selection(), **recorded.overrides(), "codec": how.codec}
    job["memory_limit"] = where.memory_limit
    place = where.place()
    if plan.dry_run or output is None:
        planned = partial(plan_conversion, described or list(movies.sources), **job)
        show_plan(planned, plan, place, output, as_json=as_json, verbose=verbose)
        return
    with running(output, place, where.memory_limit, show_progress=show_progress) as shown:
        convert_movies(
            list(movies.sources),
            output,
            **job,
            resume=resume,
            overwrite=overwrite,
            progress=shown,
        )
    document = documents.store_document(output)
    with printing():
        if as_json:
            print_json(document)
            return
        out = console()
        out.print(frames_table(document))
        out.print(f"finished: {output}")
