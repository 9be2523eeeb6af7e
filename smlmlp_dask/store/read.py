"""Read a store's attributes and its progress."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr
from zarr.errors import NodeNotFoundError

from smlmlp_dask.messages import one_line
from smlmlp_dask.movies.formats.zarr_movie import Seal, open_stored, repair_command
from smlmlp_dask.movies.stack import Stack
from smlmlp_dask.paths import mistyped

from .codecs import holds_raw
from .journal import Journal
from .lock import writer_of
from .metadata import ATTRIBUTE, COPY, RECORDS, ROOT, copied_attributes, read_copy
from .outputs import Output


@dataclass(frozen=True)
class Progress:
    """Blocks that are done, and blocks in all."""

    done: int
    total: int


def progress(path: Path, attributes: Mapping[str, Any] | None = None) -> Progress:
    """Return the progress of a store, finished or not; for errors see `read_attributes`."""
    attributes = attributes or read_attributes(path)
    with refusing_damage(path):
        total = int(attributes["blocks"])
    if attributes.get("finished") is True:
        return Progress(total, total)
    return Progress(len(Journal.read(path / RECORDS / "journal").done), total)


@contextmanager
def refusing_damage(path: Path, *errors: type[Exception]) -> Iterator[None]:
    """Turn errors of damaged attributes, and the given `errors`, into one `ValueError`."""
    damage: tuple[type[Exception], ...] = (
        *errors,
        *(LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, MemoryError),
    )
    try:
        yield
    except damage as error:
        raise ValueError(f"{path} is damaged ({one_line(error)}): {_mend(path)}") from error


def _mend(path: Path) -> str:
    return f"repair it by {repair_command(path)}, or by the command that wrote it, with --resume"


def refuse_unfinished(path: Path, attributes: Mapping[str, Any]) -> None:
    """Raise `ValueError` unless a store is finished."""
    if attributes.get("finished") is True:
        return
    what, command = ("backgrounds", "run")
    if holds_raw(attributes):
        what, command = ("frames", "convert")
    owner = writer_of(path / RECORDS)  # of a run that was killed, too
    wait = f"wait for {owner}, or if that has ended, " if owner else ""
    raise ValueError(
        f"{path} is not finished: its {what} are incomplete; {wait}resume it with resume=True "
        f"(smlmlp-dask {command} ... --resume), or delete it"
    )


def refuse_raw(path: Path, attributes: Mapping[str, Any]) -> None:
    """Raise `ValueError` if a store holds raw frames, not backgrounds."""
    if holds_raw(attributes):
        raise ValueError(
            f"{path} holds raw frames, no backgrounds: open it as a movie, by open_channels, or "
            f"estimate its background by smlmlp-dask run {shlex.quote(str(path))} -o NAME.zarr"
        )


def stored_stacks(path: Path, output: Output) -> list[Stack]:
    """Open an output of a finished store; a missing or damaged chunk is an error."""
    count = len(output.dtypes)
    seal = Seal.of(path / COPY)
    movies = [open_stored(output.array(path, i), path, seal) for i in range(count)]
    return [Stack.of(movie, range(movie.shape[0])) for movie in movies]


def is_store(path: Path) -> bool:
    """Say whether a path is a store of ours, even an unfinished or a damaged one."""
    try:
        return (path / COPY).is_file() or f'"{ATTRIBUTE}"' in (path / ROOT).read_text("utf-8")
    except (OSError, ValueError):
        return False


def read_attributes(path: Path, copy: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the root group's attributes of a store, finished or not.

    Pass the metadata copy if it was read already.

    Raises
    ------
    FileNotFoundError
        If `path` does not exist.
    ValueError
        If it is not a store of backgrounds, or its attributes differ from the metadata copy, such
        as by one digit of a noise factor.
    """
    if not path.exists():
        near = mistyped(path)
        raise FileNotFoundError(f"{path} does not exist{near and ': '}{near}")
    try:
        attributes = zarr.open_group(path, mode="r").attrs.get(ATTRIBUTE)
    except Exception as error:  # damaged metadata make zarr raise many kinds of errors
        if isinstance(error, OSError) and not isinstance(error, NodeNotFoundError | ValueError):
            raise
        attributes = None
        cause: Exception | None = error
    else:
        cause = None
    copy = copy or read_copy(path)
    if copy is not None:
        written = copied_attributes(copy)
        if not isinstance(attributes, dict) or (
            {**attributes, "finished": False} != {**written, "finished": False}
        ):
            raise ValueError(
                f"{path} has damaged metadata ({ROOT} is not as it was written): {_mend(path)}"
            ) from cause
    if not isinstance(attributes, dict):
        raise ValueError(
            f"{path} is not a store of backgrounds: pass one written by run_spatial_mean or "
            "smlmlp-dask run"
        ) from cause
    return attributes
