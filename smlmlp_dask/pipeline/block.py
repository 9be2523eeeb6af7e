"""One task of a job: read a block, filter it or keep it as it is, write whole chunks."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np

from smlmlp_dask import blocks
from smlmlp_dask.execution.workers import this_worker
from smlmlp_dask.filters.chains import Chain
from smlmlp_dask.filters.spatial_mean import FilterOptions, filter_chunk
from smlmlp_dask.filters.steps import background_of, halo_of
from smlmlp_dask.filters.wording import mean_alone
from smlmlp_dask.movies.stack import SourceReadError, Stack
from smlmlp_dask.store.chunk_files import ChunkFiles
from smlmlp_dask.store.codecs import Storage
from smlmlp_dask.store.lock import check_owner

from .outputs import Outputs

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = (0.05, 0.2, 0.5, 1.0)
"""Pauses after which a block that could not be read is tried again."""


@dataclass(frozen=True)
class Task:
    """One block of one channel: where its frames come from, their steps, where they go."""

    channel: int
    source: Stack
    targets: tuple[ChunkFiles, ...]
    block: blocks.Block
    steps: Chain

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
    outputs: Outputs | None = None,
    guard: Guard | None = None,
) -> list[int]:
    """Read a block, filter it, and write its outputs one chunk at a time.

    Returns
    -------
    list of int
        The chunks' checksums, output after output; with a pedestal, then how many pixels of the
        block were clipped.
    """
    block, step = task.block, task.targets[0].chunks[0]
    raw = _read(task.source) if guard is None else guard.reading(lambda: _read(task.source))
    found = _Pixels(raw, block.own, task.steps, options, outputs or Outputs())
    checksums: list[list[int]] = [[] for _ in task.targets]
    counts: list[list[int]] = []
    for first in range(block.inner[0].start, block.inner[0].stop, step):
        stop = min(first + step, block.inner[0].stop)
        start = block.inner[0].start
        pixels, count = found.frames(first - start, stop - start, task.targets[0].storage)
        counts.append(count)
        if guard is not None:
            guard.check()
        box = (slice(first, stop), *block.inner[1:])
        for target, of_output, written in zip(task.targets, pixels, checksums, strict=True):
            written.append(target.write(box, of_output))
    return [*chain.from_iterable(checksums), *map(sum, zip(*counts, strict=True))]


class _Pixels:
    """The pixels to store of a block, some frames at a time."""

    def __init__(
        self,
        raw: np.ndarray[Any, Any],
        own: blocks.Box,
        steps: Chain,
        options: FilterOptions | None,
        outputs: Outputs,
    ) -> None:
        self._raw, self._own = raw, own
        self._steps, self._options, self._outputs = steps, options, outputs
        # Frames that depend on others are filtered together: windows are sorted only once.
        together = options is not None and halo_of(steps, raw.shape[1:])[0] > 0
        self._found = background(raw, own, steps, options) if together and options else None

    def frames(
        self, first: int, stop: int, storage: Storage
    ) -> tuple[list[np.ndarray[Any, Any]], list[int]]:
        """Return frames of the block, counted from its first; see `Outputs.pixels`."""
        start = self._own[0].start
        part = self._raw[start + first : start + stop]
        own = (slice(0, stop - first), *self._own[1:])
        if not self._steps or self._options is None:
            return [part[own]], []
        if self._found is not None:
            found = self._found[first:stop]
        else:
            found = background(part, own, self._steps, self._options)
        return self._outputs.pixels(part[own], found, storage)


def background(
    frames: np.ndarray[Any, Any], own: blocks.Box, steps: Chain, options: FilterOptions
) -> np.ndarray[Any, Any]:
    """Return the background of frames that were read, without their halo."""
    if options.cuda and (mean := mean_alone(steps)):  # takes as many frames as the device holds
        return filter_chunk(frames, mean, options)[own]
    found: np.ndarray[Any, Any] = background_of([frames], steps, options, own, to_host=True)
    return found


def filtered(
    frames: np.ndarray[Any, Any],
    own: blocks.Box,
    steps: Chain,
    options: FilterOptions | None,
    outputs: Outputs,
    storage: Storage,
) -> list[np.ndarray[Any, Any]]:
    """Return the pixels of each output for frames that were read, without their halo."""
    if not steps or options is None:
        return [frames[own]]
    return outputs.pixels(frames[own], background(frames, own, steps, options), storage)[0]


def _read(source: Stack) -> np.ndarray[Any, Any]:
    """Read a block; retry, since a disk or a network may fail only for a moment."""
    for seconds in RETRY_AFTER_SECONDS:
        try:
            return source.read()
        except SourceReadError as error:
            log.warning("%s; trying again in %g s", error, seconds)
            sleep(seconds)
    return source.read()
