"""Is a store whole? Every chunk against its checksum, and some blocks against the source."""

import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from dask.system import CPU_COUNT

from . import backend
from .chunk_files import chunk_path, is_whole
from .chunks import Block, BlockPlan
from .filtering import SpatialMean, filter_chunk
from .records import source_identity
from .sources import open_stacks, source_roots
from .stack import Stack
from .storage import Storage
from .store import (
    RECORDS,
    SpatialMeanResult,
    open_backgrounds,
    read_attributes,
    refusing_damage,
)


@dataclass(frozen=True)
class Report:
    """What was checked and found.

    Attributes
    ----------
    chunks : int
        Chunks whose checksums were compared.
    recomputed : int
        Blocks that were computed again from the source.
    problems : list of str
        One line for each chunk that is missing or damaged, and each block that differs.
    """

    chunks: int
    recomputed: int
    problems: list[str]


def verify_backgrounds(
    path: str | os.PathLike[str], *, sample: int = 0, seed: int | None = None
) -> Report:
    """Check that a store of backgrounds is finished and whole.

    The checksum (CRC-32C) that was recorded when a chunk was written is compared with the one at
    the end of the chunk, and with one computed from its bytes: a chunk that is missing, cut short,
    changed or swapped with another is found.

    Parameters
    ----------
    path : str or path-like
        A finished store.
    sample : int, default 0
        Number of blocks, chosen at random, to compute again from the source and compare bit for
        bit. The sources must be as they were.
    seed : int, optional
        Makes the choice repeatable.

    Returns
    -------
    Report
        Its ``problems`` are empty if the store is whole.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    ValueError
        If it is no such store, an unfinished one, or `sample` is not possible.
    RuntimeError
        If blocks were filtered on a GPU, and are to be again where there is none.

    Examples
    --------
    >>> from smlmlp_dask import run_spatial_mean, verify_backgrounds
    >>> path = run_spatial_mean("movie.tif", "background.zarr", 7.0).path
    >>> report = verify_backgrounds(path, sample=1)
    >>> report.chunks, report.recomputed, report.problems
    (1, 1, [])
    """
    path = Path(path)
    result = open_backgrounds(path)  # refuses what is unfinished
    with refusing_damage(path, ValueError):
        return _verified(path, result, sample, seed)


def _verified(path: Path, result: SpatialMeanResult, sample: int, seed: int | None) -> Report:
    attributes = read_attributes(path)
    plans = [_stored_plan(plan) for plan in attributes["plan"]]
    if [plan.shape for plan in plans] != [bkgd.shape for bkgd in result.bkgds]:
        raise ValueError("its plan is not of the shapes of its arrays")
    records: Any = zarr.open_array(path / RECORDS, mode="r")
    n_chunks = sum(prod(plan.grid) for plan in plans)
    if records.shape != (n_chunks,):
        return Report(0, 0, [f"{RECORDS}: checksums {records.shape} for {n_chunks} chunks"])
    checksums = records[:].tolist()
    files = list(_chunk_files(path, plans))
    with ThreadPoolExecutor(CPU_COUNT) as pool:
        whole = list(pool.map(is_whole, files, checksums))
    problems = [
        f"{file.relative_to(path)}: {'damaged' if file.exists() else 'missing'}"
        for file, good in zip(files, whole, strict=True)
        if not good
    ]
    if not sample:
        return Report(len(files), 0, problems)

    if attributes["cuda"]:
        backend.require_device()
    changed = changed_sources(attributes)
    if changed:
        return Report(len(files), 0, [*problems, *changed])
    blocks = [(i, block) for i, plan in enumerate(plans) for block in plan.blocks()]
    chosen = random.Random(seed).sample(blocks, min(sample, len(blocks)))
    for channel, block in chosen:
        try:
            stored = result.bkgds[channel][block.inner].compute()
        except OSError:
            continue  # a chunk of it is among the problems already
        if stored.tobytes() != _computed(attributes, channel, block).tobytes():
            start, stop = block.inner[0].start, block.inner[0].stop
            problems.append(
                f"channel_{channel}, frames {start}-{stop - 1}: not what the source gives"
            )
    return Report(len(files), len(chosen), problems)


def _stored_plan(plan: dict[str, Any]) -> BlockPlan:
    shape, chunks, block = (tuple(plan[key]) for key in ("shape", "chunks", "block"))
    return BlockPlan(shape, 4, chunks, chunks, block, tuple(plan["halo"]))


def _chunk_files(path: Path, plans: list[BlockPlan]) -> Iterator[Path]:
    for channel, plan in enumerate(plans):
        for place in np.ndindex(plan.grid):
            yield chunk_path(path / f"channel_{channel}" / "0", place)


def changed_sources(attributes: dict[str, Any]) -> list[str]:
    """Say why the sources of a store are not those that it was computed from; [] if they are."""
    try:
        roots = [root for source in attributes["sources"] for root in source_roots(source)]
        now = [source_identity(root) for root in roots]
    except OSError as error:
        return [f"sources cannot be compared: {error}"]
    return [] if now == attributes["inputs"] else ["sources have changed since: not compared"]


def stored_sources(attributes: dict[str, Any]) -> list[Stack]:
    """Open the channels from which a store was computed."""
    frames = attributes["frames"]
    return open_stacks(
        *attributes["sources"],
        bboxes=attributes["bboxes"],
        flips=attributes["flips"],
        frames=None if frames is None else slice(*frames),
        raw_shape=attributes["raw_shape"],
        raw_dtype=attributes["raw_dtype"],
    )


def _computed(attributes: dict[str, Any], channel: int, block: Block) -> np.ndarray[Any, Any]:
    raw = stored_sources(attributes)[channel].part(block.read).read()
    mean = SpatialMean.from_radii(tuple(attributes["channels_mean_radii_pix"][channel]))
    background = filter_chunk(
        raw, mean, engine=attributes["engine"], threads=1, cuda=attributes["cuda"]
    )
    storage = Storage.checked(attributes["codec"], attributes["keep_bits"])
    return storage.rounded(background[block.own])
