"""The commands that write a store out of movies: ``run`` and ``convert``."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .errors import explaining_resume, is_verbose, printing
from .estimate import Estimate
from .jobs import JobCommand
from .lines import echo
from .options import output_option
from .run_options import Call, Movies, Planned, Recorded, Where, declared, grouped

# A command imports what computes when it runs: `--help` and errors in options answer at once.
if TYPE_CHECKING:
    from smlmlp_dask.pipeline.job_plan import JobPlan


@click.command(cls=JobCommand)
@output_option("Store to write, such as background.zarr.")
@grouped(what=Estimate, movies=Movies, recorded=Recorded, where=Where, plan=Planned, call=Call)
def run(output: Path | None, what: Estimate, call: Call, **groups: Any) -> None:
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
    from smlmlp_dask.pipeline.plan import plan_background
    from smlmlp_dask.pipeline.run import run_background

    _store(run_background, plan_background, what.arguments(), output, call, **groups)


@click.command(cls=JobCommand)
@output_option("Store to write, such as movie.zarr.")
@declared(Estimate, "codec")
@grouped(movies=Movies, recorded=Recorded, where=Where, plan=Planned, call=Call)
def convert(output: Path | None, codec: str, call: Call, **groups: Any) -> None:
    """Copy movies of any format into one OME-Zarr, pixel for pixel.

    SOURCES and their options are those of run; each is a channel, or several. The store has the
    movie's own dtype, is compressed, can be verified and repaired, and is a source for run.

    \b
    smlmlp-dask convert movie.tif -o movie.zarr
    smlmlp-dask convert movie.tif -o part.zarr --frames 0:1000 --bbox 0:0,0,64,64
    """
    from smlmlp_dask.pipeline.convert import convert_movies, plan_conversion

    _store(convert_movies, plan_conversion, {"codec": codec}, output, call, **groups)


def _store(
    write: Callable[..., Any],
    reckon: "Callable[..., JobPlan]",
    own: dict[str, Any],
    output: Path | None,
    call: Call,
    *,
    movies: Movies,
    recorded: Recorded,
    where: Where,
    plan: Planned,
) -> None:
    """Write a store and print what it holds, or print the plan of a dry run."""
    from smlmlp_dask.execution.connect import connected

    from .documents import plan_document, store_document
    from .stored import print_finished
    from .tables import console, print_json

    sources: Any = plan.movie(movies.sources) or list(movies.sources)
    if output is None and not plan.dry_run:
        raise click.UsageError("Missing option '-o' / '--output'.")
    job = {**movies.selection(), **recorded.overrides(), **own}
    job["memory_limit"] = where.memory_limit
    place = where.place()
    if plan.dry_run or output is None:
        from .planned import print_plan  # imports dask.array

        place, workers = plan.place(place)  # no workers are started
        with connected(place):
            planned = reckon(sources, **job, workers=workers, measured=True, destination=output)
        with printing():
            if call.as_json:
                print_json(plan_document(planned))
            else:
                print_plan(console(), planned, verbose=is_verbose())
        return
    tell = partial(echo, err=True) if call.progress else logging.getLogger(__name__).info
    with (
        explaining_resume(output),
        connected(place, memory_limit=where.memory_limit, tell=tell),
    ):
        write(
            sources,
            output,
            **job,
            resume=call.resume,
            overwrite=call.overwrite,
            progress=call.progress,
        )
    with printing():
        if call.as_json:
            print_json(store_document(output))
        else:
            print_finished(output)
