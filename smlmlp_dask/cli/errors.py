"""Click commands whose errors are one line on stderr, with exit code 2."""

import errno
import logging
import os
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO

import click
from rich.console import Console
from rich.text import Text

from smlmlp_dask.messages import counted, one_line, printable

from .lines import between_words, in_options
from .options import SectionedOption, write_options

USER_ERRORS = (ValueError, TypeError, OSError, RuntimeError, MemoryError)
"""Errors of wrong inputs, full disks or missing devices; any other error is a bug of ours."""


class OneLineError(click.ClickException):
    """An error as one line on stderr, with exit code 2 unless another is given."""

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(message)
        self.code = exit_code

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """Exit code for the shell."""
        return self.code

    def show(self, file: Any = None) -> None:
        """Print the message on one line."""
        _print(Console(file=file, stderr=True), "Error:", "bold red", self.message)


def _print(console: Console, kind: str, style: str, message: str) -> None:
    """Print a message on one line, in the words of the command line."""
    line = f"{kind} {in_options(printable(' '.join(message.split())))}"
    if console.is_terminal:
        line = between_words(line, console.width)
    console.print(Text.assemble((kind, style), line.removeprefix(kind)), soft_wrap=True)


@contextmanager
def printing() -> Iterator[None]:
    """Print results in the ``with`` block; a closed stdout is not an error, as the job is done.

    Run no job in the block: the broken pipe could be the job's own connection.
    """
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # else Python fails at exit, writing the rest
        os.close(nowhere)


def open_standard_streams() -> None:
    """Open a closed stdout or stderr on the null device.

    Otherwise the next opened file takes its number, and libraries print into that file.
    """
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            with suppress(OSError):
                os.fstat(number)
                continue
            nowhere = os.open(os.devnull, os.O_WRONLY)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115


def is_verbose() -> bool:
    """Say whether the command that runs was given ``--verbose``."""
    return bool(click.get_current_context().meta.get(__name__))


class Command(click.Command):
    """A command whose errors are one line, unless ``--verbose`` asks for the traceback."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        verbose = SectionedOption(
            ["-v", "--verbose"],
            is_flag=True,
            expose_value=False,
            callback=lambda ctx, _, value: ctx.meta.update({__name__: value}),
            help="Say more: each step, how a plan is reckoned, the tracebacks of errors.",
        )
        self.params.append(verbose)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; raise any error as one line."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            _fail(f"{error.format_message()} (see {ctx.command_path} --help)", error)
        except ValueError as error:  # an impossible path, such as one with a null byte
            _fail(str(error), error)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; raise any error as one line."""
        log_to_stderr(verbose=is_verbose())
        try:
            with warnings_on_one_line():
                return self.work(ctx)
        except click.UsageError as error:
            _fail(f"{error.format_message()} (see {ctx.command_path} --help)", error)
        except BrokenPipeError:
            raise  # the reader of our output, such as head, has ended; click ends quietly
        except KeyboardInterrupt as error:  # click would end with 1, as a store that is not whole
            raise OneLineError("interrupted by SIGINT", 128 + signal.SIGINT) from error
        except USER_ERRORS as error:
            if is_verbose():
                click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
            _fail(self._in_options(_told(error)) or type(error).__name__, error)

    def work(self, ctx: click.Context) -> Any:
        """Do what the command is for; its errors become one line."""
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options into the help, many of them in sections."""
        write_options(self, ctx, formatter)

    def _in_options(self, message: str) -> str:
        """Replace a parameter at a message's start by its option: memory_limit, --memory-limit."""
        names = {p.name: max(p.opts, key=len) for p in self.params if isinstance(p, click.Option)}
        names["channels_mean_radii_pix"] = names.get("radii", "")
        name, space, rest = message.partition(" ")
        return f"{names.get(name) or name}{space}{rest}"


@contextmanager
def warnings_on_one_line() -> Iterator[None]:
    """Print each `UserWarning` in the ``with`` block as one line, without a place in the code."""
    previous = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if category is not UserWarning:
            previous(message, category, filename, lineno, file, line)
            return
        _print(Console(stderr=True), "Warning:", "bold yellow", str(message))

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = previous


class Group(click.Group):
    """A group whose errors are one line."""

    command_class = Command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command; the error for an unknown one lists all."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            names = ", ".join(self.list_commands(ctx))
            _fail(f"{error.format_message()} Commands: {names}.", error)


@contextmanager
def explaining_resume(store: Path, how: Callable[[Path], str] | None = None) -> Iterator[None]:
    """Let SIGTERM end the ``with`` block as Ctrl-C does; errors say how to resume the store.

    For another file than a store, or another command than the one that wrote it, `how` says how.
    """

    def interrupt(number: int, _: Any) -> NoReturn:
        raise KeyboardInterrupt(signal.Signals(number).name)

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt as error:
        # Zarr's open coroutines are dropped; Python would print a warning for each.
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        name = str(error) or "SIGINT"
        message = f"interrupted by {name}; {(how or _how_to_resume)(store)}"
        raise OneLineError(message, 128 + signal.Signals[name].value) from error
    except (OSError, RuntimeError, MemoryError) as error:
        if _is_finished(store) is not False or isinstance(error, BlockingIOError | FileExistsError):
            raise
        raise RuntimeError(f"{_told(error)}; {(how or _how_to_resume)(store)}") from error
    finally:
        signal.signal(signal.SIGTERM, previous)


def _told(error: Exception) -> str:
    """Return the text of an error; where the storage is full, it begins with that."""
    numbers = {getattr(each, "errno", None) for each in (error, error.__cause__)}
    if isinstance(error, OSError) and numbers & {errno.ENOSPC, errno.EDQUOT}:
        return f"the disk is full or your quota used up: make room ({one_line(error)})"
    return one_line(error) if str(error) else ""


def _is_finished(store: Path) -> bool | None:
    """Say whether a store is finished; None if it does not exist or cannot be read."""
    from smlmlp_dask.store.read import read_attributes

    try:
        return bool(read_attributes(store)["finished"])
    except (OSError, ValueError, KeyError):
        return None


def _how_to_resume(store: Path) -> str:
    match _is_finished(store):
        case None:
            return "nothing was done yet and nothing is kept"
        case True:
            return f"{store} is finished"
    return to_resume(_blocks_kept(store))


def how_to_repair(store: Path) -> str:
    """Say how to go on with a repair that was interrupted."""
    if _is_finished(store) is not False:
        return "nothing was changed"
    command = shlex.join(["smlmlp-dask", *sys.argv[1:]])
    return f"{_blocks_kept(store)}; to go on: {command}"


def _blocks_kept(store: Path) -> str:
    from smlmlp_dask.store.read import progress

    state = progress(store)
    return kept(state.done, state.total, "block")


def kept(done: int, total: int, what: str) -> str:
    """Say how much of a job that was interrupted is kept."""
    return f"{done:,} of {counted(total, what)} {'is' if done == 1 else 'are'} kept"


def to_resume(so_far: str) -> str:
    """Add the present command line with ``--resume``, in place of ``--overwrite``."""
    arguments = [given for given in sys.argv[1:] if given not in ("--resume", "--overwrite")]
    return f"{so_far}; to resume: {shlex.join(['smlmlp-dask', *arguments, '--resume'])}"


def place_of(path: Path | None) -> int | None:
    """Return what tells a file or store from a later one of its name; None if there is none."""
    return path.stat().st_ino if path is not None and path.exists() else None


def _fail(message: str, cause: Exception) -> NoReturn:
    raise OneLineError(message) from cause


def log_to_stderr(*, verbose: bool) -> None:
    """Log our steps and the warnings of libraries if `verbose`, else nothing.

    Libraries log errors that they then raise, and without `verbose` an error is only one line.
    """
    handler = _Stderr()
    shape = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    handler.setFormatter(logging.Formatter(shape, datefmt="%Y-%m-%d %H:%M:%S"))
    level = logging.WARNING if verbose else logging.CRITICAL
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("smlmlp_dask").setLevel(logging.INFO if verbose else logging.NOTSET)
    if not verbose:
        from smlmlp_dask.execution.connect import silence_distributed

        silence_distributed()


class _Stderr(logging.Handler):
    """Writes to the present `sys.stderr`, so that lines appear above a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the lines of a record."""
        for line in self.format(record).splitlines():
            sys.stderr.write(f"{printable(line)}\n")
