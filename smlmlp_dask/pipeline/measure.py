"""What blocks cost on this machine: a few of them read, filtered and written, and timed."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, product
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from time import perf_counter, process_time
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from smlmlp_dask.blocks import Block
from smlmlp_dask.execution.workers import local_threads
from smlmlp_dask.filters.steps import background_of
from smlmlp_dask.movies.described import DescribedMovie
from smlmlp_dask.movies.opening import open_stacks
from smlmlp_dask.movies.photons import in_counts, in_photons
from smlmlp_dask.movies.stack import Movie
from smlmlp_dask.simulation.movie import simulate_movie
from smlmlp_dask.store.chunk_files import ChunkFiles, chunk_path
from smlmlp_dask.store.durable import sync_files
from smlmlp_dask.store.outputs import MEAN, arrays_of, stored_outputs, writers_of
from smlmlp_dask.units import in_groups, touched

from .block import Task, filter_and_store
from .channels import Channel
from .job import Job

SECONDS = 1.5
"""Seconds during which new sample blocks start."""

SAMPLE_BYTES = 2**30
"""Most float32 bytes of background in a sample, unless its blocks are larger."""

SIMULATED_BLOCKS = 4
"""Blocks of the movie simulated for a described one: more than a processor's cache holds."""

SIMULATED_PIXELS = 4 * 2**20
"""Pixels simulated before they repeat: codecs look back less far."""

GOLDEN = (5**0.5 - 1) / 2
"""Golden ratio minus 1: its multiples, modulo 1, are spread evenly for any count."""


@dataclass(frozen=True)
class Rates:
    """Measured rates; lists have one entry per channel.

    Attributes
    ----------
    seconds_per_pixel : list of float
        Time in which one thread reads, filters and writes a pixel, with `threads` side by side.
    core_seconds_per_pixel : list of float
        The part of that time in which a core worked: all of it, on an idle machine with fast
        storage. With CUDA it is `seconds_per_pixel`, since the GPU does most of the work.
    bytes_per_pixel : list of float
        Size of the outputs on disk, compressed.
    storage_bytes_per_second : float
        Speed at which written blocks went from the system's memory to the storage of `folder`.
    blocks : int
        Blocks that were run.
    threads : int
        Blocks that ran side by side.
    simulated : bool
        Whether the blocks were of a simulated movie.
    folder : pathlib.Path
        Where the blocks were written.
    """

    seconds_per_pixel: list[float]
    core_seconds_per_pixel: list[float]
    bytes_per_pixel: list[float]
    storage_bytes_per_second: float
    blocks: int
    threads: int
    simulated: bool
    folder: Path


@dataclass(frozen=True)
class _Timed:
    """Measured blocks of one channel; bytes and seconds are for one pixel."""

    blocks: int = 0
    stored_bytes: float = 0.0
    seconds: float = 0.0
    core_seconds: float = 0.0


def measure(job: Job, above: Path | None) -> Rates:
    """Run some blocks of each channel, time them, and remove what they wrote.

    They are written to a new folder in `above`, or among the system's temporary files. At most
    `local_threads` blocks run side by side.
    """
    side_by_side = max(1, min(job.workers.threads, local_threads()))
    work = partial(filter_and_store, options=job.options, outputs=job.outputs)
    filled = [i for i, plan in enumerate(job.plans) if prod(plan.shape)]
    simulated = isinstance(in_counts(job.channels[0].source).movie, DescribedMovie)
    job = replace(job, channels=[*job.channels])
    timed = [_Timed()] * len(job.channels)
    with TemporaryDirectory(prefix=".smlmlp-dask-plan-", dir=above) as name:
        folder = Path(name)
        outputs = stored_outputs(job.attributes, len(job.channels))
        targets = writers_of(arrays_of(folder / "out", outputs, job.plans), outputs, job.storage)
        for i in filled:
            if simulated:
                job.channels[i] = _simulated(job.channels[i], folder / f"movie_{i}.zarr")
            # The first filter of a dtype and radius on a machine is compiled: not counted.
            _, height, width = job.plans[i].block
            first = np.zeros((1, height, width), job.channels[i].source.dtype)
            if job.options is not None:
                whole = (slice(0, 1), slice(0, height), slice(0, width))
                background_of([first], job.channels[i].steps, job.options, whole, to_host=True)
            tasks = _tasks(job, i, targets[i], side_by_side)
            timed[i] = _run(work, tasks, side_by_side, SECONDS / len(filled), job.outputs.names)
        flushed, seconds = _flush(folder / "out")
    return Rates(
        seconds_per_pixel=[each.seconds for each in timed],
        core_seconds_per_pixel=[
            each.seconds if job.options and job.options.cuda else each.core_seconds
            for each in timed
        ],
        bytes_per_pixel=[each.stored_bytes for each in timed],
        storage_bytes_per_second=flushed / max(seconds, 1e-6),
        blocks=sum(each.blocks for each in timed),
        threads=side_by_side,
        simulated=simulated,
        folder=folder.parent,
    )


def _tasks(
    job: Job, channel: int, targets: tuple[ChunkFiles, ...], side_by_side: int
) -> Iterator[Task]:
    """Yield tasks for blocks spread over a channel; their output lies one after the other."""
    plan = job.plans[channel]
    slots = max(2 * side_by_side, SAMPLE_BYTES // (4 * prod(plan.block)))
    for i in count():
        block = plan.nth_block(int(i * GOLDEN % 1 * plan.n_blocks))
        task = job.task(channel, block, targets)
        yield replace(task, block=_moved(block, i % slots, plan.block[0]))


def _moved(block: Block, run: int, frames: int) -> Block:
    """Move a block to so many blocks of frames, and to the first rows and columns."""
    corner = [part.start for part in block.inner]
    corner[0] -= run * frames
    inner, read = (
        tuple(slice(p.start - c, p.stop - c) for p, c in zip(box, corner, strict=True))
        for box in (block.inner, block.read)
    )
    return Block(block.number, read, inner, run)  # type: ignore[arg-type]


def _run(
    work: Callable[[Task], Any],
    tasks: Iterator[Task],
    side_by_side: int,
    seconds: float,
    outputs: Sequence[str],
) -> _Timed:
    """Run tasks side by side, at least one a thread; do not count each thread's first task."""
    taking = Lock()
    run: list[Task] = []
    begun, cores_begun = perf_counter(), process_time()

    def run_until_time_is_up() -> list[tuple[Task, float]]:
        timed: list[tuple[Task, float]] = []
        while not timed or perf_counter() < begun + seconds:
            with taking:
                task = next(tasks)
                run.append(task)
            start = perf_counter()
            work(task)
            timed.append((task, perf_counter() - start))
        return timed[1:] or timed  # the first opens files and takes new memory, and is slower

    with ThreadPoolExecutor(side_by_side) as pool:
        timed = [
            entry
            for entries in list(pool.map(lambda _: run_until_time_is_up(), range(side_by_side)))
            for entry in entries
        ]
    # of the process: a library may decode and encode in threads of its own
    cores = (process_time() - cores_begun) / sum(task.block.pixels for task in run)
    pixels = sum(task.block.pixels for task, _ in timed)
    stored, spent = (
        sum(_stored(task, outputs) for task, _ in timed),
        sum(spent for _, spent in timed),
    )
    return _Timed(len(timed), stored / pixels, spent / pixels, cores)


def _stored(task: Task, outputs: Sequence[str]) -> int:
    plane = (slice(task.block.run, task.block.run + 1), *task.block.inner[1:])
    return sum(
        chunk_path(target.array, place).stat().st_size
        for target, name in zip(task.targets, outputs, strict=True)
        for place in product(*touched(plane if name == MEAN else task.block.inner, target.chunks))
    )


def _flush(folder: Path) -> tuple[int, float]:
    """Wait until what was written is on the storage: bytes and seconds."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    start = perf_counter()
    sync_files(files, folder)
    return sum(path.stat().st_size for path in files), perf_counter() - start


def _simulated(channel: Channel, path: Path) -> Channel:
    """Simulate a channel of a few blocks, stored as the described movie would be.

    Its movie is as large as those blocks need; where frames are tiled, that is three tiles along
    y and x, so that one of them has neighbours on all sides.
    """
    source, plan = in_counts(channel.source), channel.plan
    wide = [
        1 if block == length else 3
        for block, length in zip(plan.block[1:], plan.shape[1:], strict=True)
    ]
    counts = (SIMULATED_BLOCKS if wide == [1, 1] else 1, *wide)
    sides = zip(plan.origin, counts, plan.block, plan.shape, strict=True)
    frames, rows, columns = (slice(at, at + min(n * b, whole)) for at, n, b, whole in sides)
    if plan.halo_fr:  # blocks may be so long that a part of one must do
        most = max(plan.chunks[0], SAMPLE_BYTES // (4 * rows.stop * columns.stop))
        frames = slice(frames.start, min(frames.stop, frames.start + most))
    _store_simulated(path, (frames.stop, rows.stop, columns.stop), source.movie)
    (stored,) = open_stacks(path)
    few = stored.part((frames, rows, columns))
    flipped = few.rows[:: source.rows.step], few.columns[:: source.columns.step]
    few = replace(few, rows=flipped[0], columns=flipped[1])
    plan = replace(plan, shape=few.shape, origin=few.origin)
    return replace(channel, source=in_photons(few, channel.camera), plan=plan)


def _store_simulated(path: Path, shape: tuple[int, int, int], movie: Movie) -> None:
    side = min(shape[1], 1024), min(shape[2], 1024)
    frames = max(1, min(shape[0], SIMULATED_PIXELS // prod(side)))
    counts = simulate_movie(frames, *side).movie.compute(scheduler="threads")
    if movie.dtype.kind in "iu":
        counts = np.minimum(counts, np.iinfo(movie.dtype).max)
    counts = counts.astype(movie.dtype)
    array: Any = zarr.create_array(
        path,
        shape=shape,
        chunks=tuple(map(min, movie.unit, shape)),
        dtype=movie.dtype,
        compressors=BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"),
    )
    for box in in_groups([slice(0, n) for n in shape], array.chunks, 1):
        repeated = (np.arange(p.start, p.stop) % n for p, n in zip(box, counts.shape, strict=True))
        array[box] = counts[np.ix_(*repeated)]
