"""The command that writes a stored channel as a file for the next program."""

from functools import partial
from pathlib import Path

import click

from smlmlp_dask.messages import counted

from .errors import Command, explaining_resume, log_to_stderr, printing, resuming_command
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
@declared(Call, "resume", "overwrite", "progress", "verbose")
def export(
    store: Path,
    output: Path,
    what: str | None,
    channel: str | None,
    resume: bool,
    overwrite: bool,
    progress: bool,
    verbose: bool,
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

    log_to_stderr(verbose=verbose)
    with explaining_resume(output, partial(_how_to_resume, before=_place(output))):
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


def _place(file: Path) -> int | None:
    """Return what tells a file from a later one of the same name; None if there is none."""
    return file.stat().st_ino if file.exists() else None


def _how_to_resume(file: Path, before: int | None) -> str:
    from smlmlp_dask.pipeline.filling import frames_kept

    kept, now = frames_kept(file), _place(file)
    if kept is None and now not in (None, before):
        return f"{file} is finished"
    if kept is None:
        return "nothing was done yet and nothing is kept"
    done, total = kept
    are = "is" if done == 1 else "are"
    return f"{done:,} of {counted(total, 'frame')} {are} kept; to resume: {resuming_command()}"
