"""Check whether a store is whole: metadata against their copy, chunks against their checksums."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from itertools import count
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import zarr
from dask.system import CPU_COUNT

from smlmlp_dask.blocks import BlockPlan

from .chunk_files import chunk_path, ends_in, own_checksum
from .codecs import Storage, holds_raw
from .metadata import (
    COPY,
    RECORDS,
    ROOT,
    chunks_in,
    copied_attributes,
    damaged_metadata,
    read_copy,
    records_length,
    unusable_metadata,
    write_metadata,
)
from .outputs import Output, counts_clipped, stored_outputs
from .read import read_attributes, refusing_damage

GLANCES = 1000
"""Most chunks that `glance` looks at: some 10 ms on a local disk, a second on a remote one."""


@dataclass(frozen=True)
class Findings:
    """Result of checking a finished store.

    Attributes
    ----------
    chunks : int
        Number of chunks checked.
    problems : list of str
        One line for each missing or damaged file, with its path in the store.
    whole : dict
        (channel, number of the block) → checksums of its chunks, for each undamaged block.
    """

    chunks: int
    problems: list[str]
    whole: dict[tuple[int, int], list[int]]


@dataclass(frozen=True)
class StoreMetadata:
    """The metadata of a store, from its root group or, if that is damaged, from the copy.

    Attributes
    ----------
    attributes : dict
        Everything that determines its bits.
    finished : bool
        Whether the store claims to be finished.
    copy : dict or None
        The metadata files as written: from the copy or, if that is damaged, rebuilt from the root
        group's attributes. Earlier versions wrote no copy: of their stores, the files that cannot
        be used, rebuilt. None if they cannot be rebuilt.
    copied : bool
        Whether the copy exists and is whole.
    """

    attributes: dict[str, Any]
    finished: bool
    copy: dict[str, str] | None
    copied: bool


def read_metadata(path: Path) -> StoreMetadata:
    """Return the metadata of a store, even if its root group is damaged.

    Raises
    ------
    FileNotFoundError
        If `path` does not exist.
    ValueError
        If it is not a store of backgrounds, or neither the root group nor the copy can be read.
    """
    copy = read_copy(path)
    if copy is not None and damaged_metadata(path, {ROOT: copy[ROOT]}):
        # An unfinished store has a journal, and a finished one has none.
        finished = not (path / RECORDS / "journal").exists()
        return StoreMetadata(copied_attributes(copy), finished, copy, copied=True)
    attributes = read_attributes(path, copy)
    made = copy
    if copy is None and "metadata_copy" not in attributes:  # of an earlier version
        made = unusable_metadata(path, _rebuilt(attributes) or {})
    elif copy is None and attributes.get("versions", {}).get("zarr") == version("zarr"):
        made = _rebuilt(attributes)  # the JSON of another Zarr may look different
    return StoreMetadata(attributes, attributes.get("finished") is True, made, copy is not None)


def _rebuilt(attributes: Mapping[str, Any]) -> dict[str, str] | None:
    """Return the metadata files that we write for these attributes; None if they are damaged."""
    with suppress(LookupError, TypeError, ValueError), TemporaryDirectory() as folder:
        storage = Storage.recorded(attributes)
        write_metadata(Path(folder), stored_plans(attributes), attributes, storage)
        return read_copy(Path(folder))
    return None


def stored_plans(attributes: Mapping[str, Any]) -> list[BlockPlan]:
    """Return the block plans of a store's channels."""
    plans = []
    first = stored_outputs(attributes, len(attributes["plan"]))[0]
    for plan, dtype in zip(attributes["plan"], first.dtypes, strict=True):
        shape, chunks, block = (tuple(plan[key]) for key in ("shape", "chunks", "block"))
        size = np.dtype(dtype).itemsize
        halo, kept = tuple(plan["halo"]), holds_raw(attributes)
        halo_fr = int(plan.get("halo_fr", 0))  # only steps along time have one
        plans.append(
            BlockPlan(shape, size, chunks, chunks, block, halo, kept=kept, halo_fr=halo_fr)
        )
    return plans


def check(path: Path, store: StoreMetadata, plans: Sequence[BlockPlan]) -> Findings:
    """Check every byte of a finished store.

    Raises
    ------
    ValueError
        If its metadata cannot be understood.
    """
    with refusing_damage(path, ValueError):
        problems = metadata_problems(path, store)
        outputs = stored_outputs(store.attributes, len(plans))
        recorded = read_records(path, records_length(plans, store.attributes))
        if recorded is None:
            problems.append(_RECORDS_PROBLEM)
        files = list(chunk_files(path, plans, outputs))
        with ThreadPoolExecutor(CPU_COUNT) as pool:
            found = list(pool.map(own_checksum, files))
        # Without the records, we trust a chunk that fits the checksum in its own file.
        wanted = [-1 if checksum is None else checksum for checksum in found]
        wanted = wanted if recorded is None else recorded[: len(files)]
        good = [checksum == due for checksum, due in zip(found, wanted, strict=True)]
        counts = [] if recorded is None else recorded[len(files) :]
        problems += [
            _chunk_problem(path, file) for file, whole in zip(files, good, strict=True) if not whole
        ]
        if recorded is None and counts_clipped(store.attributes):  # lost with the records
            return Findings(len(files), problems, {})
        wanted, good = [*wanted, *counts], [*good, *(True for _ in counts)]
        whole = {
            name: [wanted[i] for i in numbers]
            for name, numbers in _records_of_blocks(plans, store.attributes)
            if all(good[i] for i in numbers)
        }
        return Findings(len(files), problems, whole)


def _records_of_blocks(
    plans: Sequence[BlockPlan], attributes: Mapping[str, Any]
) -> Iterator[tuple[tuple[int, int], list[int]]]:
    """Yield for each block its (channel, number) and the indices of its numbers in the records.

    They are its chunks' checksums, output after output, and where they count, its clipped pixels.
    """
    channels: list[list[tuple[BlockPlan, Any]]] = [[] for _ in plans]
    first, counted = 0, counts_clipped(attributes)
    for output in stored_outputs(attributes, len(plans)):
        for own, plan in zip(channels, plans, strict=True):
            layout = output.layout(plan)
            n_chunks = prod(layout.grid)
            own.append((layout, np.arange(first, first + n_chunks).reshape(layout.grid)))
            first += n_chunks
    counts = count(first)
    for channel, own in enumerate(channels):
        for number in range(plans[channel].n_blocks):
            numbers = [
                int(places[at])
                for layout, places in own
                for at in layout.chunks_of(layout.nth_block(number))
            ]
            yield (channel, number), numbers + ([next(counts)] if counted else [])


def records_of(
    plans: Sequence[BlockPlan],
    attributes: Mapping[str, Any],
    done: Mapping[tuple[int, int], Sequence[int]],
) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """Return the records of a store by the numbers of its blocks."""
    records = np.zeros(records_length(plans, attributes), np.uint32)
    for name, numbers in _records_of_blocks(plans, attributes):
        for number, value in zip(numbers, done[name], strict=True):
            records[number] = value
    return records


def recorded_blocks(
    path: Path, plans: Sequence[BlockPlan], attributes: Mapping[str, Any]
) -> dict[tuple[int, int], list[int]]:
    """Return the recorded numbers of each block; {} if the records are missing or damaged."""
    records = read_records(path, records_length(plans, attributes))
    if records is None:
        return {}
    blocks = _records_of_blocks(plans, attributes)
    return {name: [records[i] for i in numbers] for name, numbers in blocks}


def clipped_pixels(path: Path, attributes: Mapping[str, Any]) -> list[int] | None:
    """Return how many pixels of each channel's signal were clipped; None where none can be.

    Raises
    ------
    ValueError
        If the records, which say so, are damaged.
    """
    if not counts_clipped(attributes):
        return None
    plans = stored_plans(attributes)
    blocks = recorded_blocks(path, plans, attributes)
    if not blocks and any(plan.n_blocks for plan in plans):
        raise ValueError(_RECORDS_PROBLEM)
    return [
        sum(numbers[-1] for (channel, _), numbers in blocks.items() if channel == i)
        for i in range(len(plans))
    ]


def metadata_problems(path: Path, store: StoreMetadata) -> list[str]:
    """Return a line for each metadata file that is missing or not as it was written."""
    problems = []
    if not store.copied and "metadata_copy" in store.attributes:
        problems.append(
            f"{COPY} (copy of the metadata): damaged or missing; verify --repair restores it"
        )
    return problems + [
        f"{file} (metadata): {'not as it was written' if (path / file).exists() else 'missing'}; "
        "verify --repair restores it"
        for file in damaged_metadata(path, store.copy or {})
    ]


def read_records(path: Path, n_chunks: int) -> list[int] | None:
    """Return the recorded numbers, of checksums first; None if they cannot be read."""
    if n_chunks and not (path / RECORDS / "c" / "0").is_file():
        return None  # Zarr would read a missing chunk as zeros
    try:
        records: Any = zarr.open_array(path / RECORDS, mode="r")
        checksums: list[int] = records[:].tolist()
    except Exception:  # codecs raise anything on damaged bytes
        return None
    return checksums if len(checksums) == n_chunks else None


def chunk_files(
    path: Path, plans: Sequence[BlockPlan], outputs: Sequence[Output]
) -> Iterator[Path]:
    """Yield the files of all chunks in the order of the records."""
    for output in outputs:
        for channel, plan in enumerate(plans):
            for place in np.ndindex(output.layout(plan).grid):
                yield chunk_path(output.array(path, channel), place)


def glance(path: Path) -> list[str]:
    """Check a finished store quickly; return one line for each problem.

    It reads metadata, records, and the last four bytes of up to `GLANCES` chunks.
    """
    store = read_metadata(path)
    with refusing_damage(path, ValueError):
        plans = stored_plans(store.attributes)
        problems = metadata_problems(path, store)
        outputs = stored_outputs(store.attributes, len(plans))
        n_chunks = chunks_in(plans, outputs)
        recorded = read_records(path, records_length(plans, store.attributes))
        if recorded is None:
            return [*problems, _RECORDS_PROBLEM]
        step = max(1, -(-n_chunks // GLANCES))
        files = chunk_files(path, plans, outputs)
        for i, (file, checksum) in enumerate(zip(files, recorded[:n_chunks], strict=True)):
            if i % step == 0 and not ends_in(file, checksum):
                problems.append(_chunk_problem(path, file))
    return problems


_RECORDS_PROBLEM = f"{RECORDS} (checksums): damaged or missing; verify --repair restores them"


def _chunk_problem(path: Path, file: Path) -> str:
    what = "damaged" if file.exists() else "missing"
    return f"{file.relative_to(path)}: {what}; verify --repair computes it again"
