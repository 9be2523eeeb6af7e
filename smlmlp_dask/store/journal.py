"""The journal of a store: which blocks are done, and the checksums of their chunks.

While a job runs, it lies beside the lock in the folder of the Zarr array ``records``, with one
line for each finished block. At the end the array takes the checksums over. (Zarr ignores extra
files in an array's folder, but not in a group's.)
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path

import google_crc32c
from dask.system import CPU_COUNT

from .chunk_files import ends_in, is_whole
from .durable import sync_file, sync_files, write_whole
from .outputs import Placed


def this_boot() -> str | None:
    """Return the identifier of the machine's present boot; None if the system has none."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return None


_BOOT = Path("/proc/sys/kernel/random/boot_id")  # Linux; containers see that of their host


@dataclass
class Journal:
    """The blocks of a job that are done.

    One process appends a line for each block: channel, number of the block, checksums of its
    chunks, and one of the line itself, since nothing else would tell that a count of clipped pixels
    has changed. (Earlier versions wrote none.) A torn last line does not count. The first line
    names the boot of the machine: after another boot, the blocks may not have reached the disk.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    done : dict
        (channel, number of the block) → checksums, in the order of `BlockPlan.chunks_of`.
    boot : str or None
        Boot during which it was written, if known.
    """

    path: Path
    done: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    boot: str | None = None

    @classmethod
    def read(cls, path: Path) -> "Journal":
        """Read a journal; torn and damaged lines are skipped, and a missing file is empty."""
        journal = cls(path)
        text = path.read_text(errors="replace") if path.exists() else ""
        for line in text.split("\n")[:-1]:
            if line.startswith(_BOOT_LINE):
                journal.boot = line.removeprefix(_BOOT_LINE)
                continue
            entry, marked, checksum = line.partition(_CHECKED)
            if marked and checksum != _checksum(entry):
                continue
            try:
                channel, number, *checksums = map(int, entry.split())
            except ValueError:
                continue
            journal.done[channel, number] = checksums
        return journal

    def write(self) -> None:
        """Rewrite the journal without torn lines; it is on the disk when this returns."""
        boot = this_boot()
        lines = [] if boot is None else [f"{_BOOT_LINE}{boot}\n"]
        lines += map(_line, self.done.items())
        write_whole(self.path, "".join(lines).encode(), synced=True)

    @contextmanager
    def appending(self) -> Iterator["JournalWriter"]:
        """Rewrite the journal, and open it to add blocks."""
        self.write()
        with self.path.open("a") as file:
            yield JournalWriter(self, file)


_BOOT_LINE = "# boot "
_CHECKED = " #"


@dataclass(frozen=True)
class JournalWriter:
    """An open journal, to which blocks are added."""

    journal: Journal
    file: TextIOWrapper

    def add(self, channel: int, number: int, checksums: Sequence[int]) -> None:
        """Record that a block is done; the line survives if this process is killed."""
        entry = ((channel, number), list(checksums))
        self.file.write(_line(entry))
        self.file.flush()
        self.journal.done[entry[0]] = entry[1]

    def sync(self) -> None:
        """Bring the lines to the disk, so that they survive a loss of power, too."""
        sync_file(self.file.fileno())


def _line(entry: tuple[tuple[int, int], list[int]]) -> str:
    (channel, number), checksums = entry
    text = " ".join(map(str, (channel, number, *checksums)))
    return f"{text}{_CHECKED}{_checksum(text)}\n"


def _checksum(text: str) -> str:
    return f"{google_crc32c.value(text.encode()):08x}"


def without_lost_blocks(
    journal: Journal, placed: Sequence[Sequence[Placed]], *, counted: bool = False
) -> Journal:
    """Return a journal of only those blocks whose chunks all exist as recorded.

    A block has chunks in each of the arrays `placed` for its channel. If `counted`, its last number
    is a count.

    If the machine was booted since they were written, this reads every byte: a loss of power
    leaves files with a name and a size but no content. The chunks are on the disk when it returns.
    """
    kept = Journal(journal.path)
    read_whole = journal.boot is None or journal.boot != this_boot()

    def exists(recorded: tuple[Sequence[Placed], int, list[int]]) -> bool:
        own, block, numbers = recorded
        files = [one.files_of(block) for one in own]
        paths = [path for of_array in files for path in of_array]
        if len(paths) + counted != len(numbers):
            return False
        looks_right = is_whole if read_whole else ends_in
        if not all(map(looks_right, paths, numbers)):
            return False
        for one, of_array in zip(own, files, strict=True):
            sync_files(of_array, one.array)
        return True

    recorded = [
        ((channel, number), (own, number, checksums))
        for channel, own in enumerate(placed)
        for number in range(own[0].plan.n_blocks)
        if (checksums := journal.done.get((channel, number))) is not None
    ]
    with ThreadPoolExecutor(CPU_COUNT) as pool:
        found = pool.map(exists, [chunks for _, chunks in recorded])
        for (name, (*_, checksums)), whole in zip(recorded, found, strict=True):
            if whole:
                kept.done[name] = checksums
    return kept
