"""What is seen in a source before any run, and which formats can be read: for eyes and scripts."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import groupby, islice
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from smlmlp_dask.installing import install_command
from smlmlp_dask.messages import as_size, printable
from smlmlp_dask.movies.acquisition import Acquisition
from smlmlp_dask.movies.arguments import RawLayout
from smlmlp_dask.movies.formats.table import FORMATS, Format
from smlmlp_dask.movies.opening import HEADERLESS, open_recording, source_roots
from smlmlp_dask.movies.recording import Position, Recording
from smlmlp_dask.movies.stack import Movie

from .documents import Document, recorded, sizes
from .tables import Fact, print_facts, recorded_words, times

COUNTED_FILES = 100_000
"""Most files of a source whose sizes are added up: some seconds on a remote disk."""

LISTED_NAMES = 8
"""Most names of positions in one line."""


# ---- A source ------------------------------------------------------------------------------------


def look(path: str, raw: RawLayout | None) -> Document:
    """Describe a source by its metadata; errors are `open_recording`'s."""
    recording = open_recording(path, raw)
    if raw is not None and recording.format != HEADERLESS:
        raise ValueError(
            f"--raw-shape is given, but {path} is no headerless movie but {recording.format}: "
            "leave out --raw-shape and --raw-dtype"
        )
    # A path into a Zarr store stands for the whole store; its own folder is what matters here.
    roots = [Path(path)] if Path(path).is_dir() else source_roots(path)
    some = list(islice((size for root in roots for size in sizes_below(root)), COUNTED_FILES + 1))
    return describe(path, recording, sum(some) if len(some) <= COUNTED_FILES else None)


def sizes_below(root: Path) -> Iterator[int]:
    """Yield the size of each file below a folder, or of a file, unless it goes meanwhile."""
    files = (Path(folder, name) for folder, _, names in os.walk(root) for name in names)
    for file in [root] if root.is_file() else files:
        with suppress(OSError):
            yield file.stat().st_size


def describe(path: str, recording: Recording, disk_bytes: int | None) -> Document:
    """Describe a source; `disk_bytes` is None if it has too many files to count."""
    return {
        "path": path,
        "format": recording.format,
        "disk_bytes": disk_bytes,
        "default_position": recording.default,
        "positions": [
            {"position": i, "name": position.name or None, **_position(position)}
            for i, position in enumerate(recording.positions)
        ],
        "notes": list(recording.notes),
    }


def _position(position: Position) -> Document:
    channels = [
        {"channel": i, **_channel(position.movie(i, 0), acquisition)}
        for i, acquisition in enumerate(position.channels)
    ]
    cut_short = position.promised is not None and position.promised > channels[0]["frames"]
    return {
        "z_slices": position.depth,
        "channels": channels,
        "promised_frames": position.promised if cut_short else None,
        "cut_short": position.cut_short if cut_short else None,
    }


def _channel(movie: Movie, acquisition: Acquisition) -> Document:
    return {
        **sizes("", movie.shape),
        "dtype": movie.dtype.name,
        **sizes("unit_", [min(pair) for pair in zip(movie.unit, movie.shape, strict=True)]),
        **recorded(acquisition),
    }


def print_source(out: Console, document: Document) -> None:
    """Print what a source holds, one fact a line; positions that are alike stand together."""
    out.print(printable(document["path"]))
    print_facts(out, _facts(document))
    if advice := _advice(document):
        out.print(advice)


def _facts(document: Document) -> Iterator[Fact]:
    size = document["disk_bytes"]
    on_disk = f"over {COUNTED_FILES:,} files" if size is None else as_size(size)
    yield "format", f"{document['format']}, {on_disk} on disk"
    positions = document["positions"]
    indent = ""
    if len(positions) > 1:
        indent = "  "
        default = document["default_position"]
        meant = "" if default is None else f"; {default} is meant"
        yield "positions", f"{len(positions):,}{meant}"
    for _, alike in groupby(positions, key=_without_name):
        group = list(alike)
        if len(positions) > 1:
            yield _numbers(group), _names(group)
        for name, value in _of_position(group[0]):
            yield f"{indent}{name}", value
    for note in document["notes"]:
        yield "note", printable(note)


def _without_name(position: Document) -> Document:
    return {key: value for key, value in position.items() if key not in ("position", "name")}


def _numbers(group: Sequence[Document]) -> str:
    first, last = group[0]["position"], group[-1]["position"]
    return f"position {first}" if first == last else f"positions {first}-{last}"


def _names(group: Sequence[Document]) -> str:
    names = [printable(position["name"]) for position in group if position["name"]]
    more = f" and {len(names) - LISTED_NAMES:,} more" if len(names) > LISTED_NAMES else ""
    return ", ".join(names[:LISTED_NAMES]) + more


def _of_position(position: Document) -> Iterator[Fact]:
    channels = position["channels"]
    layouts = [_layout(channel) for channel in channels]
    alike = all(layout == layouts[0] for layout in layouts)
    if alike:
        yield from layouts[0]
    if position["z_slices"] > 1:
        yield "z slices", f"{position['z_slices']:,}"
    if len(channels) > 1:
        yield "channels", f"{len(channels):,}"
    for channel, layout in zip(channels, layouts, strict=True):
        if words := recorded_words(channel, () if alike else [value for _, value in layout]):
            yield f"channel {channel['channel']}", words
    if position["promised_frames"] is not None:
        yield (
            "cut short",
            (
                f"{channels[0]['frames']:,} of {position['promised_frames']:,} frames: "
                f"{printable(position['cut_short'])}"
            ),
        )


def _layout(channel: Document) -> list[Fact]:
    pixels = channel["frames"] * channel["height_pix"] * channel["width_pix"]
    size = as_size(np.dtype(channel["dtype"]).itemsize * pixels)
    return [
        ("frames×y×x", f"{_times(channel)} {channel['dtype']}, {size}"),
        ("stored in", f"units of {_times(channel, 'unit_')}"),
    ]


def _times(channel: Document, prefix: str = "") -> str:
    return times(channel[prefix + name] for name in ("frames", "height_pix", "width_pix"))


def _advice(document: Document) -> str:
    """Say which options a run needs."""
    positions = document["positions"]
    needed = []
    if len(positions) > 1 and document["default_position"] is None:
        needed.append("--position")
    if any(position["z_slices"] > 1 for position in positions):
        needed.append("--z")
    if any(position["cut_short"] for position in positions):
        needed.append("--salvage or --frames")
    return f"to run it, choose by {', '.join(needed)}" if needed else ""


# ---- Formats -------------------------------------------------------------------------------------


_OLDEST = "3.11"  # the first Python of this package


def formats_document() -> Document:
    """Describe all formats of movies."""
    return {"formats": [_format(known) for known in FORMATS]}


def _format(known: Format) -> Document:
    least = ".".join(map(str, known.python))
    return {
        "name": known.name,
        "endings": [*(known.usual or known.suffixes)],
        "library": known.library or None,
        "installed": known.is_installed,
        "install": install_command(known.extra) if known.extra else None,
        "python": least,
        "python_suits": sys.version_info >= known.python,
    }


def print_formats(out: Console) -> None:
    """Print a table of all formats."""
    table = Table("format", box=box.SIMPLE)
    table.add_column("endings", overflow="fold")
    table.add_column("reader", overflow="fold")
    table.add_column("installed", no_wrap=True)
    missing = ""
    for known, document in zip(FORMATS, formats_document()["formats"], strict=True):
        reader = document["library"] or ""
        if document["python"] != _OLDEST:
            reader += f" (Python {document['python']}+)"
        here = "yes" if known.is_installed else "no"
        if not known.is_installed and document["python_suits"]:
            here, missing = f"no: [{known.extra}]", missing or document["install"]
        table.add_row(known.name, " ".join(document["endings"]), reader, here)
    out.print(table)
    out.print("headerless movies, with any ending: pass --raw-shape and --raw-dtype")
    out.print("TIFFs also as a folder or a glob, in quotes: 'folder/*.tif'")
    if missing:
        out.print(f"a missing reader, by its extra: {missing}")
        out.print(f"all readers: {install_command('formats')}")
