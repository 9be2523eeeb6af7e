"""One-line texts of values, names and errors for messages."""

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
