"""What stands beside the pixels of a store: who writes it, which blocks are done, checksums.

All of it lives in the folder of the Zarr array ``records``. While a job runs, that holds a lock and
a journal, one line a finished block; when it is finished, the array holds the checksum of every
chunk. (Files in an array's folder do not disturb Zarr; in a group's they would.)
"""

import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .chunk_files import chunk_path, stored_checksum
from .chunks import BlockPlan

CONSEQUENCES = frozenset(
    {
        "spatial_mean_sigmas",
        "spatial_mean_kernels_y",
        "spatial_mean_kernels_x",
        "noise_corrections",
        "plan",
        "blocks",
    }
)
"""Attributes of a store that follow from others: they say no more where those differ."""

OPTIONS = {"channels_mean_radii_pix": "--radius", "bboxes": "--bbox", "flips": "--flip"}
"""Settings that the command line calls otherwise."""


def source_identity(path: Path) -> dict[str, Any]:
    """Return what tells whether a source has changed, without reading its pixels.

    Parameters
    ----------
    path : pathlib.Path
        A file, or a folder with all that is in it.

    Returns
    -------
    dict
        ``path``, ``files``, ``bytes``, ``newest`` (modification time, ns) and ``digest`` (of all
        names, sizes and times).
    """
    entries = sorted(_entries(path))
    digest = hashlib.blake2b(json.dumps(entries).encode(), digest_size=16).hexdigest()
    return {
        "path": str(path),
        "files": len(entries),
        "bytes": sum(size for _, size, _ in entries),
        "newest": max((time for *_, time in entries), default=0),
        "digest": digest,
    }


def _entries(path: Path) -> Iterator[tuple[str, int, int]]:
    if path.is_file():
        status = path.stat()
        yield path.name, status.st_size, status.st_mtime_ns
        return
    folders = [path]
    while folders:
        with os.scandir(folders.pop()) as found:
            for entry in found:
                if entry.is_dir():
                    folders.append(Path(entry.path))
                else:
                    status = entry.stat()
                    name = os.path.relpath(entry.path, path)
                    yield name, status.st_size, status.st_mtime_ns


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Name every setting of a job in which a store and a new call differ, and not what follows."""
    names = [name for name, value in wanted.items() if stored.get(name) != value]
    chosen = [name for name in names if name not in CONSEQUENCES]
    return [
        f"{_named(name)} was {_short(stored.get(name))} and is {_short(wanted[name])}"
        for name in chosen or names
    ]


def _named(setting: str) -> str:
    return f"{setting} ({OPTIONS[setting]})" if setting in OPTIONS else setting


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


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


@dataclass
class Journal:
    """The blocks of a job that are done.

    One process appends to it, a line a block: channel, number of the block, and the checksums of
    its chunks. A line counts once it ends, so that a torn one is a block that is not done.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    done : dict
        (channel, number of the block) → checksums, in the order of `BlockPlan.chunks_of`.
    """

    path: Path
    done: dict[tuple[int, int], list[int]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Journal":
        """Return what a journal says; what is torn or no journal counts for nothing."""
        journal = cls(path)
        text = path.read_text(errors="replace") if path.exists() else ""
        for line in text.split("\n")[:-1]:
            try:
                channel, number, *checksums = map(int, line.split())
            except ValueError:
                continue
            journal.done[channel, number] = checksums
        return journal

    @contextmanager
    def appending(self) -> Iterator["JournalWriter"]:
        """Open it to add blocks; first write down what is known, without torn lines."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text("".join(map(_line, self.done.items())))
        fresh.replace(self.path)
        with self.path.open("a") as file:
            yield JournalWriter(self, file)


@dataclass(frozen=True)
class JournalWriter:
    """Adds to a journal."""

    journal: Journal
    file: TextIOWrapper

    def add(self, channel: int, number: int, checksums: Sequence[int]) -> None:
        """Note that a block is done; the line outlives this process from here on."""
        entry = ((channel, number), list(checksums))
        self.file.write(_line(entry))
        self.file.flush()
        self.journal.done[entry[0]] = entry[1]


def _line(entry: tuple[tuple[int, int], list[int]]) -> str:
    (channel, number), checksums = entry
    return " ".join(map(str, (channel, number, *checksums))) + "\n"


def still_there(journal: Journal, plans: Sequence[BlockPlan], arrays: Sequence[Path]) -> Journal:
    """Return a journal with only those blocks whose chunks are all on disk, as recorded."""
    kept = Journal(journal.path)
    for channel, (plan, array) in enumerate(zip(plans, arrays, strict=True)):
        for block in plan.blocks():
            checksums = journal.done.get((channel, block.number))
            places = plan.chunks_of(block)
            if checksums is None or len(checksums) != len(places):
                continue
            with suppress(OSError):
                found = [stored_checksum(chunk_path(array, place)) for place in places]
                if found == checksums:
                    kept.done[channel, block.number] = checksums
    return kept
