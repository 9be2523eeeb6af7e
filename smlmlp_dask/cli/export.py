"""The command that writes a stored channel as a file for the next program."""

from functools import partial
from pathlib import Path

import click

from .errors import (
    Command,
    explaining_resume,
    kept,
    place_of,
    printing,
    to_resume,
)
from .options import LocalPath, output_option
from .run_options import Call, declared


@click.command(
    cls=Command, short_help="Write a stored channel as one file, for Picasso, Fiji and others."
)
@click.argument("store", type=LocalPath())
@output_option("File to write, ending in .raw, .tif or .tiff.", required=True)
@click.option(
    "--what",
    type=click.Choice(["signal", "background", "snr", "mean_background", "raw"]),
    help="What to write (default: the signal, or else the background; of convert, the frames).",
)
@click.option(
    "--channel", metavar="NUMBER|NAME", help="Channel to write, counted from 0, if several."
)
@declared(Call, "resume", "overwrite", "progress")
def export(
    store: Path,
    output: Path,
    what: str | None,
    channel: str | None,
    resume: bool,
    overwrite: bool,
    progress: bool,
) -> None:
    """Write a channel of a finished store as one file, for Picasso, Fiji and others.

    A .raw gets a .yaml beside it, as Picasso reads them; a .tif is an uncompressed OME-TIFF, as
    BigTIFF where it must be. With --what raw, it is the movie that the background was computed
    from: programs that fit photons by maximum likelihood need these counts.

    \b
    smlmlp-dask export signal.zarr -o signal.raw
    smlmlp-dask export signal.zarr -o raw.raw --what raw
    smlmlp-dask export background.zarr -o background.tif --channel 0
    """
    from smlmlp_dask.pipeline.export import export_movie

    with explaining_resume(output, partial(_how_to_resume, before=place_of(output))):
        export_movie(
            store,
            output,
            what=what,
            channel=channel,
            resume=resume,
            overwrite=overwrite,
            progress=progress,
        )
    with printing():
        click.echo(f"finished: {output}")


def _how_to_resume(file: Path, before: int | None) -> str:
    from smlmlp_dask.pipeline.filling import frames_kept

    if frames := frames_kept(file):
        return to_resume(kept(*frames, "frame"))
    if place_of(file) not in (None, before):
        return f"{file} is finished"
    return "nothing was done yet and nothing is kept"
