"""The journal of a store: which blocks are done, and the checksums of their chunks.

It lies in the folder of the Zarr array ``records``, next to the lock, while a job runs: a line a
finished block. In the end the array holds the checksum of every chunk. (Files in an array's
folder do not disturb Zarr; in a group's they would.)
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path

from dask.system import CPU_COUNT

from smlmlp_dask.blocks import Block, BlockPlan

from .chunk_files import chunk_path, ends_in, is_whole
from .durable import sync_file, sync_files, write_whole


def this_boot() -> str | None:
    """Return what tells this start of the machine from the last; None where nothing does."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return None


_BOOT = Path("/proc/sys/kernel/random/boot_id")  # Linux; its containers share it


@dataclass
class Journal:
    """The blocks of a job that are done.

    One process appends to it, a line a block: channel, number of the block, and the checksums of
    its chunks. A line counts once it ends, so that a torn one is a block that is not done. The
    first line tells on which start of the machine the blocks were written: if that was another
    one, they may not have reached the disk.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    done : dict
        (channel, number of the block) → checksums, in the order of `BlockPlan.chunks_of`.
    boot : str or None
        On which start of the machine it was written, if that is known.
    """

    path: Path
    done: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    boot: str | None = None

    @classmethod
    def read(cls, path: Path) -> "Journal":
        """Return what a journal says; what is torn or no journal counts for nothing."""
        journal = cls(path)
        text = path.read_text(errors="replace") if path.exists() else ""
        for line in text.split("\n")[:-1]:
            if line.startswith(_BOOT_LINE):
                journal.boot = line.removeprefix(_BOOT_LINE)
                continue
            try:
                channel, number, *checksums = map(int, line.split())
            except ValueError:
                continue
            journal.done[channel, number] = checksums
        return journal

    def write(self) -> None:
        """Write down what is known, without torn lines; the disk has it when this returns."""
        boot = this_boot()
        lines = [] if boot is None else [f"{_BOOT_LINE}{boot}\n"]
        lines += map(_line, self.done.items())
        write_whole(self.path, "".join(lines).encode(), synced=True)

    @contextmanager
    def appending(self) -> Iterator["JournalWriter"]:
        """Open it to add blocks, after `write`."""
        self.write()
        with self.path.open("a") as file:
            yield JournalWriter(self, file)


_BOOT_LINE = "# boot "


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

    def sync(self) -> None:
        """Let the lines outlive a loss of power, too."""
        sync_file(self.file.fileno())


def _line(entry: tuple[tuple[int, int], list[int]]) -> str:
    (channel, number), checksums = entry
    return " ".join(map(str, (channel, number, *checksums))) + "\n"


def still_there(journal: Journal, plans: Sequence[BlockPlan], arrays: Sequence[Path]) -> Journal:
    """Return a journal with only those blocks whose chunks are all there, as recorded.

    Where the machine was started anew since they were written, every byte of them is read: a loss
    of power leaves files with their names, their sizes and no content. They are on the disk when
    this returns.
    """
    kept = Journal(journal.path)
    read_whole = journal.boot is None or journal.boot != this_boot()

    def is_there(known: tuple[BlockPlan, Path, Block, list[int]]) -> bool:
        plan, array, block, checksums = known
        files = [chunk_path(array, place) for place in plan.chunks_of(block)]
        if len(files) != len(checksums):
            return False
        looks_right = is_whole if read_whole else ends_in
        if not all(map(looks_right, files, checksums)):
            return False
        sync_files(files, array)
        return True

    recorded = [
        ((channel, block.number), (plan, array, block, checksums))
        for channel, (plan, array) in enumerate(zip(plans, arrays, strict=True))
        for block in plan.blocks()
        if (checksums := journal.done.get((channel, block.number))) is not None
    ]
    with ThreadPoolExecutor(CPU_COUNT) as pool:
        there = pool.map(is_there, [known for _, known in recorded])
        for (name, (*_, checksums)), whole in zip(recorded, there, strict=True):
            if whole:
                kept.done[name] = checksums
    return kept
