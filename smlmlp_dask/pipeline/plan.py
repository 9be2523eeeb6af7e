"""`plan_background` and `plan_spatial_mean`: what a job will do and need, before it runs."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smlmlp_dask import blocks
from smlmlp_dask.execution.connect import connected
from smlmlp_dask.execution.tasks import REGION_TASKS, blocks_per_task
from smlmlp_dask.execution.window import MOST_AHEAD, TASKS_PER_THREAD
from smlmlp_dask.execution.workers import BASE_BYTES, active_client
from smlmlp_dask.filters import device
from smlmlp_dask.filters.spatial_mean import Engine, FilterOptions, SpatialMean
from smlmlp_dask.filters.steps import Step
from smlmlp_dask.movies.acquisition import Overrides
from smlmlp_dask.movies.arguments import Choice
from smlmlp_dask.movies.described import DescribedMovie
from smlmlp_dask.movies.opening import Source
from smlmlp_dask.movies.selection import Selection
from smlmlp_dask.paths import store_path
from smlmlp_dask.store.codecs import Codec, Storage
from smlmlp_dask.store.outputs import DEFAULT

from .channels import source_list
from .job import prepare
from .outputs import Outputs
from .run import MEAN_ALONE

if TYPE_CHECKING:
    from .measure import Rates

SCHEDULER_BYTES = 100 * 2**20
"""Memory of a scheduler process, measured by `tests/benchmarks/cluster.py`."""

SCHEDULER_BYTES_PER_THREAD = 6 * 2**20
"""Most memory of the scheduler for each thread of the workers: its submitted tasks and, with one
thread per worker, the last 1000 messages to that worker, which Dask keeps by default."""


@dataclass(frozen=True)
class JobPlan:
    """What a job will do and need, known before anything runs.

    Attributes
    ----------
    channels : list of BlockPlan
        How each channel is cut into blocks, one task each.
    threads : int
        Tasks that run side by side.
    memory_limit_bytes : int
        Memory that they may use together.
    workers : int or None
        Number of single-thread processes to plan for; None for Dask's active scheduler.
    on_cluster : bool
        Whether distributed's scheduler runs the tasks.
    rates : Rates or None
        Rates measured on this machine, if any.
    processes : int
        Processes that run the tasks.
    dtypes : list of str
        Of each channel's outputs.
    """

    channels: list[blocks.BlockPlan]
    threads: int
    memory_limit_bytes: int
    workers: int | None = None
    on_cluster: bool = False
    rates: "Rates | None" = None
    processes: int = 1
    dtypes: list[str] = field(default_factory=list)

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return sum(plan.n_blocks for plan in self.channels)

    @property
    def tasks_under_way(self) -> int:
        """Most tasks that the scheduler holds at a time, running ones included."""
        ahead = max(TASKS_PER_THREAD * self.threads, MOST_AHEAD)
        return min(self.n_blocks, ahead if self.on_cluster else REGION_TASKS)

    @property
    def blocks_per_task(self) -> int:
        """Most blocks in a task; near the end of a job, a task has one."""
        return blocks_per_task(self.threads, self.n_blocks) if self.on_cluster else 1

    @property
    def worker_bytes(self) -> int:
        """Peak memory of a process with one task, Python and its libraries included."""
        return BASE_BYTES + max(plan.block_bytes for plan in self.channels)

    @property
    def projected_bytes(self) -> int:
        """Peak memory of all tasks together, Python and its libraries included."""
        if self.workers is not None:
            return self.workers * self.worker_bytes
        tasks = min(self.threads, max(1, self.n_blocks))
        return self.processes * BASE_BYTES + tasks * (self.worker_bytes - BASE_BYTES)

    @property
    def scheduler_bytes(self) -> int:
        """Memory of distributed's scheduler for a movie of any length; 0 without a cluster."""
        return SCHEDULER_BYTES + SCHEDULER_BYTES_PER_THREAD * self.threads if self.on_cluster else 0

    @property
    def output_bytes(self) -> int:
        """Size of what is stored before it is compressed."""
        return sum(plan.stored_itemsize * prod(plan.shape) for plan in self.channels)

    @property
    def stored_bytes(self) -> int | None:
        """Size of what is stored on disk, if its compression was measured."""
        if self.rates is None:
            return None
        sizes = zip(self.channels, self.rates.bytes_per_pixel, strict=True)
        return round(sum(prod(plan.shape) * size for plan, size in sizes))

    @property
    def work_seconds(self) -> float | None:
        """Time in which the threads read, filter and write everything, if it was measured.

        The machine stays as busy as it is now; but each of `workers`, if given, has its own core.
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

        The time of the threads, or that of the storage to take what they write, whichever is
        longer. With `workers`, storage is assumed to keep up. The source is assumed to be read as
        fast as the sample.
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
    pixel_size_um: float | Sequence[float] | None = None,
    frame_interval_s: float | None = None,
    channel_names: str | Sequence[str] | None = None,
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
    """Plan what `run_spatial_mean` would do with the same arguments, without running it.

    Parameters
    ----------
    sources : path, sequence of paths, or DescribedMovie
        Movies, as `open_channels` takes them, or one that does not exist yet.
    channels_mean_radii_pix, bboxes, flips, frames, channels, position, z, salvage
        As in `run_spatial_mean`. All `frames` of a described movie are taken.
    raw_shape, raw_dtype, raw_header, raw_footer
        As in `run_spatial_mean`.
    pixel_size_um, frame_interval_s, channel_names, memory_limit
        As in `run_spatial_mean`.
    workers : int, optional
        Plan for this many processes of one thread each, like a thread of this machine with its
        share of the memory. By default, plan for the workers of Dask's active scheduler.
    measured : bool, default False
        Also measure for some seconds how long blocks take here and how well they compress: blocks
        spread over the movie, or over a simulated one if the movie is described. Otherwise only
        metadata are read.
    destination : path, optional
        Where the store would be written. The measurement writes to a temporary folder next to it;
        by default, to the system's folder of temporary files.
    cuda, parallel, engine, codec, keep_bits
        As in `run_spatial_mean`; they matter only to the measurement.

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
    return plan_background(
        sources,
        SpatialMean(channels_mean_radii_pix),
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
        pixel_size_um=pixel_size_um,
        frame_interval_s=frame_interval_s,
        channel_names=channel_names,
        memory_limit=memory_limit,
        workers=workers,
        measured=measured,
        destination=destination,
        cuda=cuda,
        parallel=parallel,
        engine=engine,
        codec=codec,
        keep_bits=keep_bits,
    )


@connected()
def plan_background(
    sources: Source | DescribedMovie | Sequence[Source],
    steps: Step | Sequence[Step] = MEAN_ALONE,
    outputs: str | Sequence[str] = DEFAULT,
    *,
    pedestal: int | None = None,
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
    pixel_size_um: float | Sequence[float] | None = None,
    frame_interval_s: float | None = None,
    channel_names: str | Sequence[str] | None = None,
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
    """Plan what `run_background` would do with the same arguments, without running it.

    Parameters
    ----------
    sources
        As in `plan_spatial_mean`.
    steps, outputs, pedestal
        As in `run_background`.
    bboxes, flips, frames, channels, position, z, salvage
        As in `plan_spatial_mean`.
    raw_shape, raw_dtype, raw_header, raw_footer, pixel_size_um, frame_interval_s, channel_names
        As in `plan_spatial_mean`.
    memory_limit, workers, measured, destination, cuda, parallel, engine, codec, keep_bits
        As in `plan_spatial_mean`.

    Returns
    -------
    JobPlan
        As `plan_spatial_mean` does.

    Raises
    ------
    ValueError, TypeError, OSError, RuntimeError
        As `run_background` would.

    Examples
    --------
    >>> from smlmlp_dask import DescribedMovie, SpatialMean, TemporalMedian, plan_background
    >>> movie = DescribedMovie((100_000, 512, 512), "uint16", (1, 512, 512))
    >>> plan = plan_background(movie, [TemporalMedian(25), SpatialMean(7.0)], memory_limit="8GB")
    >>> plan.channels[0].block  # of 4 x 25 frames or more, for 50 more that it reads
    (112, 512, 512)
    """
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
    overrides = Overrides.checked(
        pixel_size_um=pixel_size_um, frame_interval_s=frame_interval_s, channel_names=channel_names
    )
    return plan_job(
        sources,
        steps,
        selection=selection,
        options=FilterOptions.checked(engine=engine, parallel=parallel, cuda=cuda),
        outputs=Outputs.checked(outputs, pedestal),
        storage=Storage.checked(codec, keep_bits),
        overrides=overrides,
        memory_limit=memory_limit,
        workers=workers,
        measured=measured,
        destination=destination,
    )


def plan_job(
    sources: Source | DescribedMovie | Sequence[Source],
    steps: Any,
    *,
    selection: Selection,
    options: FilterOptions | None,
    storage: Storage,
    outputs: Outputs | None = None,
    overrides: Overrides | None,
    memory_limit: int | str | None,
    workers: int | None,
    measured: bool,
    destination: Source | None,
) -> JobPlan:
    """Plan a job; see `prepare` and `plan_spatial_mean`."""
    if workers is not None and (isinstance(workers, bool) or workers < 1):
        raise ValueError(f"workers is {workers!r}: pass 1 or more, or None for those there are")
    above = None if destination is None else _existing(store_path(destination).parent)
    if isinstance(sources, DescribedMovie) and (selection.frames or selection.raw):
        raise ValueError(
            "frames, raw_shape and raw_dtype (--frames, --raw-shape, --raw-dtype) are for "
            "movies on disk: describe the frames to be filtered by shape and dtype instead"
        )
    job = prepare(
        sources if isinstance(sources, DescribedMovie) else source_list(sources),
        steps,
        selection=selection,
        options=options,
        storage=storage,
        outputs=outputs,
        overrides=overrides,
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
        dtypes=job.dtypes,
    )
    if not measured or not any(prod(channel.shape) for channel in plan.channels):
        return plan
    if options is not None and options.cuda:
        device.require_device()
    from .measure import measure  # imports dask.array

    return replace(plan, rates=measure(job, above))


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if os.path.lexists(path))
