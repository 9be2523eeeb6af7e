"""Messages as the command line shows them: in its own words, and broken between words."""

import re
import shutil
import sys

import click
from rich.cells import cell_len

_VALUE = r"""(?:\w*\([^()]*\)|'[^']*'|[^\s(),]+)"""
_NAME = rf"[a-z]\w*(?:={_VALUE})?"
_BOTH = re.compile(
    rf"(?<![\w.=/-])(?P<names>(?:{_NAME}(?:,\s|\sand\s))*{_NAME})"
    r"\s\((?P<options>(?:--|smlmlp-dask\s)[^()]*)\)"
)
"""How a message gives an argument to both readers: ``resume=True (--resume)``."""
_PARTS = re.compile(rf"({_NAME})(?:,\s|\sand\s|$)")


def in_options(message: str) -> str:
    """Leave the options of a message, without the Python arguments in front of them.

    >>> from smlmlp_dask.cli.lines import in_options
    >>> in_options("go on with resume=True (--resume), or take frames=slice(0, 9) (--frames 0:9)")
    'go on with --resume, or take --frames 0:9'
    """
    return _BOTH.sub(_option, message)


def _option(both: re.Match[str]) -> str:
    options = both["options"]
    kept = names = list(_PARTS.finditer(both["names"]))
    while kept and _is_argument(kept[-1][1], options):
        kept = kept[:-1]
    if len(kept) == len(names):
        return both[0]  # plain words, with an option that they are about
    _, equals, value = names[-1][1].partition("=")
    if equals and value != "True" and re.fullmatch(r"--[\w-]+", options):
        options += f" {value}"
    return "".join(part[0] for part in kept) + options


def _is_argument(name: str, options: str) -> bool:
    """Whether a word is an argument of Python, and no word of the sentence."""
    word, equals, _ = name.partition("=")
    return bool(equals) or "_" in word or f"--{word}" in re.split(r"[\s,]+", options)


def echo(line: str, *, err: bool = False) -> None:
    """Print a line on stdout or stderr; a terminal breaks it between words."""
    stream = sys.stderr if err else sys.stdout
    if stream is not None and stream.isatty():
        line = between_words(line, shutil.get_terminal_size().columns)
    click.echo(line, err=err)


def between_words(line: str, width: int) -> str:
    """Pad a line with spaces, so that a terminal of this width breaks it between words.

    It stays one line: what is copied out of a terminal, such as a command, is not cut in two.
    """
    filled, column = "", 0
    for word in line.split(" "):
        length = cell_len(word)
        if column and column + length >= width:  # a space is left between words
            filled += " " * (width - column)
            column = 0
        filled += f"{word} "
        column = (column + length + 1) % width
    return filled.rstrip(" ")
