"""What is printed on stdout: texts, facts, tables and JSON."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

import click
from rich import box
from rich.console import Console
from rich.table import Table

from smlmlp_dask.messages import printable

if TYPE_CHECKING:
    from .documents import Document

Fact = tuple[str, str]
"""What a line is about, and what it says."""


class _Stdout(Console):
    """A console whose caller handles a closed pipe."""

    def on_broken_pipe(self) -> NoReturn:
        """Raise again; rich would exit with code 1."""
        raise  # rich calls this while it handles the BrokenPipeError


def console() -> Console:
    """Return a console for stdout that prints file names unchanged."""
    return _Stdout(highlight=False, markup=False, emoji=False, soft_wrap=True)


def say(out: Console, text: str, style: str | None = None) -> None:
    """Print a text: in a terminal broken between words, else on one line."""
    out.print(text, style=style, soft_wrap=not out.is_terminal)


def print_json(document: "Document") -> None:
    """Print one document, and nothing else, on stdout."""
    click.echo(json.dumps(document, indent=2))


def print_facts(out: Console, facts: Iterable[Fact]) -> None:
    """Print one fact a line, all texts in one column."""
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in facts:
        table.add_row(name and f"{name}:", text)
    out.print(table)


def table_of(columns: Mapping[str, Sequence[str]]) -> Table:
    """Return a table by the heads and cells of its columns."""
    table = Table(*columns, box=box.SIMPLE)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def times(lengths: Iterable[int]) -> str:
    """Return the sizes of frames, a chunk or a block: 10,000×512×512."""
    return "×".join(f"{length:,}" for length in lengths)


def recorded_words(channel: "Document", sizes: Sequence[str] = ()) -> str:
    """Return name, sizes and what is known of how a channel was recorded, as a person says it."""
    height, width = channel["pixel_size_y_um"], channel["pixel_size_x_um"]
    parts = [*([printable(channel["name"])] if channel["name"] else []), *sizes]
    if height is not None:
        square = height == width
        parts.append(f"pixel {height:g} µm" if square else f"pixel {height:g}×{width:g} µm (y×x)")
    for key, text in (
        ("frame_interval_s", "a frame every {:g} s"),
        ("exposure_s", "exposure {:g} s"),
        ("gain", "{:g} photoelectrons per count"),
        ("baseline_counts", "baseline {:g} counts"),
        ("colour", "colour {}"),
    ):
        if channel[key] is not None:
            parts.append(text.format(channel[key]))
    return ", ".join(parts)
