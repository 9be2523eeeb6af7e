"""`plan_spatial_mean`: what a job is going to do, and what it will take, before it runs."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smlmlp_dask import blocks
from smlmlp_dask.execution.connect import connected
from smlmlp_dask.execution.tasks import REGION_TASKS, blocks_per_task
from smlmlp_dask.execution.window import MOST_AHEAD, TASKS_PER_THREAD
from smlmlp_dask.execution.workers import BASE_BYTES, active_client
from smlmlp_dask.filters import device
from smlmlp_dask.filters.spatial_mean import Engine, FilterOptions
from smlmlp_dask.movies.arguments import Choice
from smlmlp_dask.movies.described import DescribedMovie
from smlmlp_dask.movies.opening import Source
from smlmlp_dask.movies.selection import Selection
from smlmlp_dask.paths import store_path
from smlmlp_dask.store.codecs import Codec, Storage

from .channels import source_list
from .job import prepare

if TYPE_CHECKING:
    from .measure import Rates

SCHEDULER_BYTES = 100 * 2**20
"""What distributed's scheduler takes as a process of its own, by `tests/benchmarks/cluster.py`."""

SCHEDULER_BYTES_PER_THREAD = 6 * 2**20
"""What it takes, at most, for each thread of the workers: the tasks under way for it and, if it is
a worker of its own, the notes that Dask keeps by default of the last 1000 messages to it."""


@dataclass(frozen=True)
class JobPlan:
    """What a job is going to do, known before anything runs.

    Attributes
    ----------
    channels : list of BlockPlan
        How each channel is cut into blocks, one task each.
    threads : int
        Tasks that run side by side.
    memory_limit_bytes : int
        Memory that they may use together.
    workers : int or None
        The processes of one thread each that were asked for; None for Dask's active scheduler.
    on_cluster : bool
        If distributed's scheduler runs the tasks.
    rates : Rates or None
        What was measured on this machine; None if nothing was.
    processes : int
        Processes that run the tasks.
    """

    channels: list[blocks.BlockPlan]
    threads: int
    memory_limit_bytes: int
    workers: int | None = None
    on_cluster: bool = False
    rates: "Rates | None" = None
    processes: int = 1

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return sum(plan.n_blocks for plan in self.channels)

    @property
    def tasks_under_way(self) -> int:
        """Tasks that the scheduler holds at most, running ones included."""
        ahead = max(TASKS_PER_THREAD * self.threads, MOST_AHEAD)
        return min(self.n_blocks, ahead if self.on_cluster else REGION_TASKS)

    @property
    def blocks_per_task(self) -> int:
        """Blocks that a task takes at most; towards the end of a job it is one."""
        return blocks_per_task(self.threads, self.n_blocks) if self.on_cluster else 1

    @property
    def worker_bytes(self) -> int:
        """Peak memory of a process with one task, the libraries' own included."""
        return BASE_BYTES + max(plan.block_bytes for plan in self.channels)

    @property
    def projected_bytes(self) -> int:
        """Peak memory of all tasks together, the libraries' own included."""
        if self.workers is not None:
            return self.workers * self.worker_bytes
        tasks = min(self.threads, max(1, self.n_blocks))
        return self.processes * BASE_BYTES + tasks * (self.worker_bytes - BASE_BYTES)

    @property
    def scheduler_bytes(self) -> int:
        """Memory of distributed's scheduler, however long the movie; 0 where there is none."""
        return SCHEDULER_BYTES + SCHEDULER_BYTES_PER_THREAD * self.threads if self.on_cluster else 0

    @property
    def output_bytes(self) -> int:
        """Size of the backgrounds before they are compressed."""
        return sum(4 * prod(plan.shape) for plan in self.channels)

    @property
    def stored_bytes(self) -> int | None:
        """Size of the backgrounds on disk, if it was measured how they compress."""
        if self.rates is None:
            return None
        sizes = zip(self.channels, self.rates.bytes_per_pixel, strict=True)
        return round(sum(prod(plan.shape) * size for plan, size in sizes))

    @property
    def work_seconds(self) -> float | None:
        """Time that the threads take for reading, filtering and writing, if it was measured.

        As busy as this machine is now; but with a core for each of `workers` that were asked for.
        """
        if self.rates is None:
            return None
        rates = self.rates
        costs = rates.seconds_per_pixel if self.workers is None else rates.core_seconds_per_pixel
        sizes = zip(self.channels, costs, strict=True)
        threads = max(1, min(self.threads, self.n_blocks))
        return sum(prod(plan.shape) * seconds for plan, seconds in sizes) / threads

    @property
    def seconds(self) -> float | None:
        """Time of the job, if it was measured.

        That of the threads; or, if the scheduler is the active one, that which the storage takes
        to keep what they write, where it is the longer one. Storage is taken to keep up with
        `workers` that were asked for, and the source to be read as fast as the sample was.
        """
        if self.rates is None or self.work_seconds is None or self.stored_bytes is None:
            return None
        if self.workers is not None:
            return self.work_seconds
        return max(self.work_seconds, self.stored_bytes / self.rates.storage_bytes_per_second)


@connected()
def plan_spatial_mean(
    sources: Source | DescribedMovie | Sequence[Source],
    channels_mean_radii_pix: Any = 7.0,
    *,
    bboxes: Any = None,
    flips: Any = None,
    frames: slice | Sequence[slice | None] | None = None,
    channels: Choice | None = None,
    position: Choice | None = None,
    z: int | None = None,
    salvage: bool = False,
    raw_shape: Sequence[int] | None = None,
    raw_dtype: Any = None,
    raw_header: int = 0,
    raw_footer: int = 0,
    memory_limit: int | str | None = None,
    workers: int | None = None,
    measured: bool = False,
    destination: Source | None = None,
    cuda: bool = False,
    parallel: bool | int | None = False,
    engine: Engine = "auto",
    codec: Codec = "fast",
    keep_bits: int | None = None,
) -> JobPlan:
    """Tell what `run_spatial_mean` would do with the same arguments, without doing it.

    Parameters
    ----------
    sources : path, sequence of paths, or DescribedMovie
        Movies, as `open_channels` takes them, or one that does not exist yet.
    channels_mean_radii_pix, bboxes, flips, frames, channels, position, z, salvage, raw_shape, \
    raw_dtype, raw_header, raw_footer, memory_limit
        As in `run_spatial_mean`. All `frames` of a described movie are taken.
    workers : int, optional
        Plan for so many processes of one thread each, like a thread of this machine with its
        share of the memory. By default, for the workers of Dask's active scheduler.
    measured : bool, default False
        Also measure, for some seconds, how long blocks take here and how they compress: blocks of
        the movie itself, spread over it, or of a simulated one for a described movie. Otherwise
        only metadata are read.
    destination : path, optional
        Where the store would be written: the measurement is made in a folder next to it, which is
        removed again. By default in the system's folder of temporary files.
    cuda, parallel, engine, codec, keep_bits
        As in `run_spatial_mean`; they matter to what is measured.

    Returns
    -------
    JobPlan
        Blocks of each channel, tasks, read amplification, projected memory; with `measured` also
        size on disk and time.

    Raises
    ------
    ValueError, TypeError, OSError, RuntimeError
        As `run_spatial_mean` would.

    Examples
    --------
    >>> from smlmlp_dask import plan_spatial_mean
    >>> plan = plan_spatial_mean("movie.tif", 7.0, memory_limit="2GB")
    >>> plan.n_blocks, plan.memory_limit_bytes, plan.output_bytes
    (1, 2000000000, 2949120)
    >>> plan.channels[0].block  # frames, rows and columns of one task
    (120, 64, 96)

    A movie that does not exist yet, on 64 workers:

    >>> from smlmlp_dask import DescribedMovie
    >>> movie = DescribedMovie((10_000_000, 512, 512), "uint16", (32, 512, 512))
    >>> plan = plan_spatial_mean(movie, 7.0, workers=64)
    >>> plan.n_blocks, plan.tasks_under_way
    (312500, 256)
    """
    if workers is not None and (isinstance(workers, bool) or workers < 1):
        raise ValueError(f"workers is {workers!r}: pass 1 or more, or None for those there are")
    above = None if destination is None else _existing(store_path(destination).parent)
    selection = Selection.checked(
        bboxes=bboxes,
        flips=flips,
        frames=frames,
        channels=channels,
        position=position,
        z=z,
        salvage=salvage,
        raw_shape=raw_shape,
        raw_dtype=raw_dtype,
        raw_header=raw_header,
        raw_footer=raw_footer,
    )
    if isinstance(sources, DescribedMovie) and (selection.frames or selection.raw):
        raise ValueError(
            "frames, raw_shape and raw_dtype (--frames, --raw-shape, --raw-dtype) are for "
            "movies on disk: describe the frames to be filtered by shape and dtype instead"
        )
    job = prepare(
        sources if isinstance(sources, DescribedMovie) else source_list(sources),
        channels_mean_radii_pix,
        selection=selection,
        options=FilterOptions.checked(engine=engine, parallel=parallel, cuda=cuda),
        storage=Storage.checked(codec, keep_bits),
        memory_limit=memory_limit,
        processes=workers,
    )
    plan = JobPlan(
        job.plans,
        job.workers.threads,
        job.workers.memory_bytes,
        workers,
        on_cluster=workers is not None or active_client() is not None,
        processes=job.workers.processes,
    )
    if not measured or not any(prod(channel.shape) for channel in plan.channels):
        return plan
    if cuda:
        device.require_device()
    from .measure import measure  # which simulates movies, by dask.array

    return replace(plan, rates=measure(job, above))


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if os.path.lexists(path))
