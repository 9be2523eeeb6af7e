"""Checks of every worker before a job begins: package versions, and access to the files."""

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .workers import active_client

FILES_CHECKED = 100
"""Source files that each worker checks: of more, an even selection of up to twice as many."""


@contextmanager
def checking_workers(
    sources: Sequence[Path], destination: Path, versions: Mapping[str, str]
) -> Iterator[None]:
    """Check that every worker of the active client can take part in the job in the ``with`` block.

    Each must see the sources, write the destination and have these versions of packages. Check
    again if the job fails: a worker that joined later may lack something.

    Raises
    ------
    RuntimeError
        If a worker has other versions of packages, or lacks one.
    OSError
        If a worker does not see a source, or cannot write where the destination goes.
    """
    client = active_client()
    if client is None:
        yield
        return
    needs = (versions, *_paths_needed(sources, destination))
    _check_workers(client, *needs)
    try:
        yield
    except Exception:
        if client.status == "running":
            _check_workers(client, *needs)  # its error names the cause, the job's may not
        raise


def _paths_needed(
    sources: Sequence[Path], destination: Path
) -> tuple[list[tuple[Path, int | None]], Path]:
    some = sources[:: max(1, len(sources) // FILES_CHECKED)]
    read = [(path, None if path.is_dir() else path.stat().st_size) for path in some]
    above = next(parent for parent in destination.absolute().parents if parent.exists())
    return read, above


def _check_workers(
    client: Any, versions: Mapping[str, str], read: list[tuple[Path, int | None]], above: Path
) -> None:
    for package, expected in versions.items():
        for worker, found in client.run(version, package, on_error="return").items():
            if isinstance(found, PackageNotFoundError):
                raise RuntimeError(
                    f"worker {worker} has no {package}: install {package} {expected} there"
                )
            if isinstance(found, str) and found != expected:
                raise RuntimeError(
                    f"worker {worker} has {package} {found}, this machine has {expected}: install "
                    "the same version in both places"
                )
    for worker, problem in client.run(_unusable, read, above, on_error="return").items():
        if isinstance(problem, str):
            raise OSError(f"worker {worker} {problem}")
        if isinstance(problem, ImportError | AttributeError):
            raise RuntimeError(
                f"worker {worker} cannot import smlmlp_dask ({problem}): install the same version "
                "there"
            )


def _unusable(read: list[tuple[Path, int | None]], above: Path) -> str | None:
    """Say which file or folder of a job this worker cannot use; None if it can use all."""
    remedy = "use a folder that all machines share, under the same path"
    host = socket.gethostname()
    for path, size in read:
        try:
            found = path.stat()
        except OSError as error:
            return f"({host}) cannot read {path} ({error.strerror}): {remedy}"
        if not os.access(path, os.R_OK):
            return f"({host}) may not read {path}: give the worker's user permission to read it"
        if size is not None and found.st_size != size:
            return f"({host}) sees another {path}, of {found.st_size} bytes, not {size}: {remedy}"
    if not above.is_dir():
        return f"({host}) does not see the folder {above} of the destination: {remedy}"
    if not os.access(above, os.W_OK):
        return f"({host}) may not write into {above}: give the worker's user permission to write"
    return None
