"""Bring files and their names to the disk, so that they survive a loss of power.

A file that was written and renamed is only in the system's memory: after a loss of power its name
can remain without a byte of content. `sync_file` brings the bytes to the disk, `sync_folder` the
names. `write` documents the order in which a store calls them.
"""

import errno
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

try:
    import fcntl
except ImportError:  # Windows
    _full_sync = None
else:  # on macOS, fsync leaves the bytes in the drive's cache
    _full_sync = getattr(fcntl, "F_FULLFSYNC", None)

PARTIAL = ".partial"
"""Suffix of files still being written, ours and Zarr's."""

WRITABLE = "choose a folder that you may write to"
"""What helps where nothing can be written."""

_CANNOT = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""Errors of file systems that know no such call; a failing disk answers EIO."""

_UNCACHED = 0x80 if sys.platform == "linux" else None
"""RWF_DONTCACHE of Linux 6.14 and later (readv(2)); Python has no name for it."""


def sync_file(descriptor: int) -> None:
    """Return once the bytes of an open file are on the disk, unless its file system cannot."""
    try:
        if _full_sync is not None:
            fcntl.fcntl(descriptor, _full_sync)
        elif hasattr(os, "fdatasync"):
            os.fdatasync(descriptor)
        else:
            os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise


def sync_folder(folder: Path) -> bool:
    """Return once the names in a folder are on the disk; False if its file system cannot."""
    if os.name == "nt":  # Windows cannot open a folder, and keeps names by itself
        return True
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        return False
    finally:
        os.close(descriptor)
    return True


def sync_files(files: Iterable[Path], top: Path) -> None:
    """Bring files to the disk, then the folders that hold them, up to and including `top`."""
    folders: set[Path] = set()
    for path in files:
        # Windows syncs only what was opened to be written
        descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
        try:
            sync_file(descriptor)
        finally:
            os.close(descriptor)
        folders.update(path.parents[: len(path.parts) - len(top.parts)])
    for folder in sorted(folders, reverse=True):  # inner folders first
        sync_folder(folder)


def write_whole(path: Path, *parts: bytes, synced: bool) -> None:
    """Write a file under another name and rename it, so that it is whole or as it was before.

    Its folder is made. If `synced`, bytes and name are on the disk on return. Otherwise a loss of
    power can damage the file, and local disks of Linux begin at once to write it and do not keep it
    in the page cache, where a long job's output would take the place of what is read again.

    Raises
    ------
    OSError
        If it cannot be written; the file stays as it was.
    """
    partial = path.with_name(f"{path.name}.{uuid4().hex}{PARTIAL}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("wb") as file:
            written = 0 if synced else _written_uncached(file.fileno(), parts)
            file.seek(written)
            for part in parts:
                file.write(part[written:])
                written = max(0, written - len(part))
            if synced:
                file.flush()
                sync_file(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if synced:
        sync_folder(path.parent)


def _written_uncached(descriptor: int, parts: Sequence[bytes]) -> int:
    """Write past the page cache, as far as the system does; return how many bytes it took."""
    if _UNCACHED is None:
        return 0
    try:
        return os.pwritev(descriptor, parts, 0, _UNCACHED)
    except NotImplementedError:  # this Python was built for a system without flags
        return 0
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        return 0


def not_written(what: object, error: OSError, remedy: str = WRITABLE) -> OSError:
    """Return an error of the same type that says what cannot be written, why, and what helps."""
    return type(error)(f"{what} cannot be written ({error.strerror or error}): {remedy}")


@contextmanager
def syncing(sync: Callable[[list[Path]], None]) -> Iterator[Callable[[Iterable[Path]], None]]:
    """Bring files to the disk in a background thread, while others are being written.

    Parameters
    ----------
    sync : callable
        Called in that thread with all files that arrived since the last call.

    Yields
    ------
    callable
        Pass it files that were written. When the ``with`` block ends without an error, all of
        them are on the disk; after an error, those still waiting are not synced.

    Raises
    ------
    OSError
        At the end of the block, if a file could not be synced.
    """
    waiting: deque[Path] = deque()
    failed: list[Exception] = []

    def sync_waiting() -> None:
        files = [waiting.popleft() for _ in range(len(waiting))]
        if not files or failed:
            return
        try:
            sync(files)
        except Exception as error:
            failed.append(error)

    def sync_later(files: Iterable[Path]) -> None:
        waiting.extend(files)
        pool.submit(sync_waiting)

    pool = ThreadPoolExecutor(1, "sync")
    try:
        yield sync_later
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()
    if failed:
        raise failed[0]
