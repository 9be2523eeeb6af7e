"""Who writes a store: one run at a time, and workers check that it still does."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold the lock of a store; it is free again when this process ends, however it ends.

    Raises
    ------
    BlockingIOError
        If a living run holds it.
    """
    lock = FileLock(folder / "lock")
    owner = folder / "owner"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = ""
        with suppress(OSError):  # it may be about to write it, or to end
            who = f" ({owner.read_text()})"
        raise BlockingIOError(
            f"another run is writing {folder.parent}{who}: wait for it, or end it"
        ) from None
    try:
        owner.write_text(this_owner())
        yield
    finally:
        with suppress(OSError):
            owner.unlink()
        lock.release()


def this_owner() -> str:
    """Return how a store names this process while it writes there."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def check_owner(folder: Path, owner: str) -> None:
    """Refuse to write into another store than the one that `owner` has locked.

    A worker of a cluster may see another folder under the same path, or belong to a run that was
    killed and whose store was begun anew.

    Raises
    ------
    FileNotFoundError
        If the folder is not there, or belongs to another run or to none.
    """
    with suppress(OSError):
        if (folder / "owner").read_text() == owner:
            return
    raise FileNotFoundError(f"{folder.parent} is not the store that {owner} writes")
