"""One-line texts of values, names, errors, numbers, sizes and times for messages."""

import reprlib
from collections.abc import Iterator
from contextlib import contextmanager


def one_line(error: BaseException) -> str:
    """Return the text of an error on one line, or its type if it has no text."""
    return printable(" ".join(str(error).split())) or type(error).__name__


def printable(text: str) -> str:
    """Escape newlines and terminal codes in a text: names of files may hold both."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def shown(value: object) -> str:
    """Return a value as messages show it: on one line, in at most 80 characters."""
    text = printable(" ".join(_SHORT.repr(value).split()))
    return text if len(text) <= 80 else f"{text[:77]}..."


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: 1 block, 2 blocks."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def as_size(n_bytes: float) -> str:
    """Return a number of bytes in the units that people type and disks have: 41.2 kB, 4 GB."""
    if n_bytes < 999.5:
        return counted(round(n_bytes), "byte")
    units = iter(("kB", "MB", "GB", "TB", "PB"))
    value, unit = n_bytes / 1000, next(units)
    while value >= 999.5 and unit != "PB":
        value, unit = value / 1000, next(units)
    return f"{value:.3g} {unit}"


def as_time(seconds: float) -> str:
    """Return a time as people say it: 0.3 s (at least 0.1), 12 s, 7 min, 2 h 10 min, 3 days 4 h."""
    if seconds < 0.95:
        return f"{max(0.1, seconds):.1g} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(round(seconds / 3600), 24)
    return counted(days, "day") + (f" {hours} h" if hours else "")


_SHORT = reprlib.Repr()  # stays quick for endless nesting and very long values
_SHORT.maxstring = _SHORT.maxother = 1000


@contextmanager
def printable_errors() -> Iterator[None]:
    """Make the messages of errors `printable`, whatever names they quote."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        error.args = tuple(printable(arg) if isinstance(arg, str) else arg for arg in error.args)
        raise
