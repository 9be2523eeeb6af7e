"""The lock of a store: one run writes at a time, and its workers check that it holds the store."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from .durable import not_written


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold the lock of a store. The system frees it when this process ends, however it ends.

    Raises
    ------
    BlockingIOError
        If another run that is still alive holds it.
    """
    lock = FileLock(folder / "lock")
    owner = folder / "owner"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        name = writer_of(folder)
        who = f" ({name})" if name else ""
        raise BlockingIOError(
            f"another run is writing {folder.parent}{who}: wait for it, or end it"
        ) from None
    except OSError as error:
        raise not_written(folder.parent, error, "make it writable, or work on a copy") from error
    try:
        owner.write_text(this_owner())
        yield
    finally:
        with suppress(OSError):
            owner.unlink()
        lock.release()


def this_owner() -> str:
    """Return the name of this process in the lock of a store."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def writer_of(folder: Path) -> str:
    """Return the name of the process that writes a store, or was killed while it did, or ""."""
    with suppress(OSError):  # it may not have written its name yet, or be ending
        return (folder / "owner").read_text()
    return ""


def check_owner(folder: Path, owner: str) -> None:
    """Refuse to write unless `owner` holds the store.

    A worker of a cluster may see another folder under the same path, or belong to a run that was
    killed and whose store another run began again.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist, or another run or none holds it.
    """
    if writer_of(folder) != owner:
        raise FileNotFoundError(f"{folder.parent} is not the store that {owner} writes")
