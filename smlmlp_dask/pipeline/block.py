"""One task of a job: read a block, filter it or keep it as it is, write whole chunks."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np

from smlmlp_dask import blocks
from smlmlp_dask.execution.workers import this_worker
from smlmlp_dask.filters.chains import Chain
from smlmlp_dask.filters.compiled.snr import Noise
from smlmlp_dask.filters.steps import FilterOptions, background_of, halo_of
from smlmlp_dask.movies.camera import Camera
from smlmlp_dask.movies.stack import SourceReadError, Stack
from smlmlp_dask.store.chunk_files import ChunkFiles
from smlmlp_dask.store.codecs import Storage
from smlmlp_dask.store.lock import check_owner
from smlmlp_dask.store.outputs import MEAN

from .outputs import BACKGROUND_ALONE, Outputs

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = (0.05, 0.2, 0.5, 1.0)
"""Pauses after which a block that could not be read is tried again."""


@dataclass(frozen=True)
class Measured:
    """What the SNR of a channel needs: its noise correction, and its camera."""

    factor: float
    camera: Camera

    def noise(self, source: Stack, own: blocks.Box) -> Noise:
        """Return what the noise of a part of a stack depends on."""
        values = self.camera.noise(source.rows[own[1]], source.columns[own[2]])
        return Noise(np.float32(self.factor), *values)


@dataclass(frozen=True)
class Task:
    """One block of one channel: where its frames come from, their steps, where they go.

    Attributes
    ----------
    source : Stack
        The block and its halo.
    targets : tuple of ChunkFiles
        One for each output.
    chunk_frames : int
        Frames of a chunk.
    measured : Measured or None
        What the SNR needs, if it is stored.
    """

    channel: int
    source: Stack
    targets: tuple[ChunkFiles, ...]
    block: blocks.Block
    steps: Chain
    chunk_frames: int
    measured: Measured | None = None

    def __str__(self) -> str:
        frames = self.block.inner[0]
        return f"channel {self.channel}, frames {frames.start}-{frames.stop - 1}"


@dataclass(frozen=True)
class Guard:
    """What a task checks while it reads and before it writes.

    Attributes
    ----------
    folder : pathlib.Path
        The folder of the store's lock.
    owner : str
        This run's name in the lock.
    sources : tuple of pathlib.Path
        Files and folders that must exist before and after each read.
    """

    folder: Path
    owner: str
    sources: tuple[Path, ...] = ()

    def reading(self, read: Callable[[], np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        """Check that the sources are still mounted before and after reading.

        Zarr reads a missing chunk as fill values. Up to 16 looks at folders, before and after,
        took 0.03 of a block's 47 ms on a local disk.
        """
        self._check_sources()
        pixels = read()
        self._check_sources()
        return pixels

    def _check_sources(self) -> None:
        for path in self.sources:
            if not path.exists():
                raise FileNotFoundError(
                    f"{this_worker()} cannot read {path}: use a folder that all machines share"
                )

    def check(self) -> None:
        """Refuse to write unless this run holds the store."""
        try:
            check_owner(self.folder, self.owner)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{this_worker()} cannot write: {error} under this path; use a folder that all "
                "machines share"
            ) from None


def filter_and_store(
    task: Task,
    *,
    options: FilterOptions | None,
    outputs: Outputs = BACKGROUND_ALONE,
    guard: Guard | None = None,
) -> list[int]:
    """Read a block, filter it, and write its outputs one chunk at a time.

    Returns
    -------
    list of int
        The chunks' checksums, output after output; with a pedestal, then how many pixels of the
        block were clipped.
    """
    raw = _read(task.source) if guard is None else guard.reading(lambda: _read(task.source))
    checksums: list[list[int]] = [[] for _ in task.targets]
    clipped = 0
    for output, box, pixels, count in computed(
        task, raw, options=options, outputs=outputs, storage=task.targets[0].storage
    ):
        clipped += count
        if guard is not None:
            guard.check()
        checksums[output].append(task.targets[output].write(box, pixels))
        del pixels  # before the next ones are made
    counts = [] if outputs.pedestal is None else [clipped]
    return [*chain.from_iterable(checksums), *counts]


def computed(
    task: Task,
    raw: np.ndarray[Any, Any],
    *,
    options: FilterOptions | None,
    outputs: Outputs,
    storage: Storage,
) -> Iterator[tuple[int, blocks.Box, np.ndarray[Any, Any], int]]:
    """Yield what is stored of a block, chunk after chunk of each output; then its mean.

    Yields
    ------
    int
        Number of the output.
    tuple of slice
        Where the pixels belong in it; for the mean, its frame among those of all blocks.
    numpy.ndarray
        The pixels.
    int
        How many of them were clipped.
    """
    block, steps, (frames, rows, columns) = task.block, task.steps, task.block.inner
    together, noise = None, None
    if options is not None:
        if task.measured is not None:
            noise = task.measured.noise(task.source, block.own)
        if halo_of(steps, raw.shape[1:])[0] > 0:
            # Frames that depend on others are filtered together: windows are sorted only once.
            together = background_of([raw], steps, options, block.own, to_host=True)
    total: Any = None
    for first in range(frames.start, frames.stop, task.chunk_frames):
        start = first - frames.start
        stop = min(start + task.chunk_frames, frames.stop - frames.start)
        part = raw[block.own[0].start + start : block.own[0].start + stop]
        own = (slice(0, stop - start), *block.own[1:])
        box = (slice(first, frames.start + stop), rows, columns)
        if options is None:
            yield 0, box, part[own], 0
            continue
        if together is None:
            found = background_of([part], steps, options, own, to_host=True)
        else:
            found = together[start:stop]
        for name, pixels, clipped in outputs.pixels(part[own], found, storage, noise):
            if name != MEAN:
                yield outputs.names.index(name), box, pixels, clipped
                continue
            with np.errstate(invalid="ignore"):  # infinite pixels
                total = pixels if total is None else np.add(total, pixels, out=total)
        del found, pixels  # before the next ones are made
    if total is not None:
        means = (total / (frames.stop - frames.start)).astype(np.float32)
        plane = (slice(block.run, block.run + 1), rows, columns)
        yield outputs.names.index(MEAN), plane, means[np.newaxis], 0


def _read(source: Stack) -> np.ndarray[Any, Any]:
    """Read a block; retry, since a disk or a network may fail only for a moment."""
    for seconds in RETRY_AFTER_SECONDS:
        try:
            return source.read()
        except SourceReadError as error:
            log.warning("%s; trying again in %g s", error, seconds)
            sleep(seconds)
    return source.read()
