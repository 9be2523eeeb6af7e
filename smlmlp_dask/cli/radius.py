"""The command that suggests a radius before a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from smlmlp_dask.messages import counted, printable

from .errors import Command, printing
from .options import output_option
from .run_options import Call, Movies, declared, grouped

# A command imports what computes when it runs: `--help` and errors in options answer at once.
if TYPE_CHECKING:
    from smlmlp_dask.pipeline.suggest import ChannelRadius, RadiusRow, RadiusSuggestion


@click.command(cls=Command, short_help="Suggest a radius for a movie, before any run.")
@output_option("Picture to write, ending in .png, .svg or .pdf (default: none).")
@declared(Call, "overwrite")
@grouped(movies=Movies)
@declared(Call, "as_json")
def radius(output: Path | None, overwrite: bool, movies: Movies, as_json: bool) -> None:
    """Suggest a radius for a movie, before any run.

    SOURCES and their options are those of run; each channel gets its own radius. On a few frames,
    spread over the movie, it predicts for each radius what the background takes of the spots, and
    what it misses of the unevenness. A longer movie does not take longer.

    \b
    smlmlp-dask radius movie.tif
    smlmlp-dask radius movie.tif -o radius.png
    smlmlp-dask radius dual.tif --bbox 0:0,0,256,512 --bbox 0:256,0,512,512
    """
    from smlmlp_dask.pipeline.suggest import suggest_radius

    from .tables import console, print_json

    if not movies.sources:
        raise click.UsageError("Missing argument 'SOURCES...'.")
    if output is not None:
        from smlmlp_dask.pictures.overview import check_picture  # imports matplotlib

        check_picture(output, overwrite=overwrite)
    suggestion = suggest_radius(list(movies.sources), **movies.selection())
    if output is not None:
        from smlmlp_dask.pictures.overview import write_picture

        write_picture(suggestion.plot(), output)
    with printing():
        if as_json:
            print_json(suggestion_document(suggestion, output))
        else:
            _print_suggestion(console(), suggestion)
            if output is not None:
                console().print(f"picture: {output}")


def suggestion_document(suggestion: "RadiusSuggestion", picture: Path | None) -> dict[str, Any]:
    """Describe the suggested radii, and what others would do."""
    return {
        "channels": [_channel(each) for each in suggestion.channels],
        "picture_path": None if picture is None else str(picture),
    }


def _channel(channel: "ChannelRadius") -> dict[str, Any]:
    sigma_y, sigma_x = channel.spot_sigma_pix or (None, None)
    return {
        "channel": channel.channel,
        "name": channel.acquisition.channel,
        "radius_pix": channel.radius_pix,
        "reason": channel.reason,
        "notes": list(channel.notes),
        "spot_sigma_y_pix": sigma_y,
        "spot_sigma_x_pix": sigma_x,
        "frames_looked_at": list(channel.looked_at),
        "radii": [vars(row) for row in channel.table],
    }


def _print_suggestion(out: Console, suggestion: "RadiusSuggestion") -> None:
    from .tables import say

    for channel in suggestion.channels:
        name = f" ({printable(channel.acquisition.channel)})" if channel.acquisition.channel else ""
        spots = ""
        if channel.spot_sigma_pix is not None:
            spots = "; spots have a sigma of {:.2g} (y) and {:.2g} (x) px".format(
                *channel.spot_sigma_pix
            )
        frames = counted(len(channel.looked_at), "frame")
        out.print(f"channel {channel.channel}{name}, by {frames}{spots}:")
        out.print(_table(channel))
        for line in (channel.reason, *channel.notes):
            say(out, line)
        out.print()
    radii = " ".join(f"--radius {channel.radius_pix:g}" for channel in suggestion.channels)
    out.print(f"for run: {radii}")


def _table(channel: "ChannelRadius") -> Table:
    """Tabulate every second radius, and the suggested one, which is marked; errors in counts."""
    table = Table("radius", box=box.SIMPLE)
    for head in (
        "taken of\na peak",
        "light taken\n(counts)",
        "unevenness\nmissed (counts)",
        "error\n(counts)",
        "",
    ):
        table.add_column(head, justify="right")
    tried = [row for row in channel.table if row.radius_pix != channel.radius_pix]
    some = {row.radius_pix for row in tried[::2]} | {channel.radius_pix}
    for row in channel.table:
        if row.radius_pix in some:
            suggested = row.radius_pix == channel.radius_pix
            table.add_row(*_cells(row), "suggested" if suggested else "",
                          style="bold" if suggested else "")  # fmt: skip
    return table


def _cells(row: "RadiusRow") -> tuple[str, ...]:
    share = "\N{EN DASH}" if row.share_of_peak is None else f"{row.share_of_peak:.0%}"
    counts = (row.taken_counts, row.uneven_counts, row.error_counts)
    return f"{row.radius_pix:g} px", share, *(f"{each:.3g}" for each in counts)
