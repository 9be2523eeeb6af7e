"""Click commands whose errors are one line on stderr, with exit code 2."""

from collections.abc import Callable
from typing import Any, NoReturn

import click
from rich.console import Console

USER_ERRORS = (ValueError, TypeError, OSError, RuntimeError, MemoryError)
"""What a wrong input, a full disk or a missing device raises; anything else is our own fault."""


class OneLineError(click.ClickException):
    """An error as one line on stderr, with exit code 2."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        """Print the message on a line of its own, whatever line breaks it had."""
        click.echo(f"Error: {' '.join(self.message.split())}", file=file, err=True)


class Command(click.Command):
    """A command whose errors are one line, unless ``--verbose`` asks for the traceback."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, and say what is wrong in one line."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            _fail(f"{error.format_message()} (see {ctx.command_path} --help)", error)

    def invoke(self, ctx: click.Context) -> Any:
        """Run, and say what went wrong in one line."""
        verbose = bool(ctx.params.get("verbose"))
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            _fail(f"{error.format_message()} (see {ctx.command_path} --help)", error)
        except USER_ERRORS as error:
            if verbose:
                Console(stderr=True).print_exception()
            _fail(str(error) or type(error).__name__, error)


class Group(click.Group):
    """A group whose errors are one line."""

    command_class = Command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command, or say in one line which ones there are."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            names = ", ".join(self.list_commands(ctx))
            _fail(f"{error.format_message()} Commands: {names}.", error)


def _fail(message: str, cause: Exception) -> NoReturn:
    raise OneLineError(message) from cause


class Parsed(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A value that a function parses; what it says in a `ValueError` is shown."""

    def __init__(self, metavar: str, parse: Callable[[str], Any]) -> None:
        self.name = metavar
        self.parse = parse

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Turn the text into the value."""
        try:
            return self.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
