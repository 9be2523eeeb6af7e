"""One-line texts: what messages show of values, names and errors."""

import reprlib
from collections.abc import Iterator
from contextlib import contextmanager


def one_line(error: BaseException) -> str:
    """Return the text of an error on one line, or its type where it has none."""
    return printable(" ".join(str(error).split())) or type(error).__name__


def printable(text: str) -> str:
    """Return a text in which nothing breaks the line or steers a terminal: a name may hold both."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def shown(value: object) -> str:
    """Return how messages show a value: on one line, and not at length."""
    text = printable(" ".join(_SHORT.repr(value).split()))
    return text if len(text) <= 80 else f"{text[:77]}..."


_SHORT = reprlib.Repr()  # what is nested without end, or very long, costs nothing
_SHORT.maxstring = _SHORT.maxother = 1000


@contextmanager
def printable_errors() -> Iterator[None]:
    """Let the messages of errors be `printable`, whatever names they quote."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        error.args = tuple(printable(arg) if isinstance(arg, str) else arg for arg in error.args)
        raise
