"""`plan_background` and `plan_spatial_mean`: what a job will do and need, before it runs."""

import os
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from shutil import disk_usage
from typing import Any

from smlmlp_dask.execution.connect import connected
from smlmlp_dask.execution.workers import Workers, active_client
from smlmlp_dask.filters import device
from smlmlp_dask.filters.spatial_mean import SpatialMean
from smlmlp_dask.filters.steps import Engine, FilterOptions, Step
from smlmlp_dask.messages import as_size
from smlmlp_dask.movies.acquisition import Overrides
from smlmlp_dask.movies.arguments import Choice
from smlmlp_dask.movies.camera import CameraSettings, OfCamera
from smlmlp_dask.movies.described import DescribedMovie
from smlmlp_dask.movies.opening import AnySource, Source
from smlmlp_dask.movies.selection import Selection
from smlmlp_dask.paths import store_path
from smlmlp_dask.store.codecs import Codec, Storage
from smlmlp_dask.store.outputs import DEFAULT

from .channels import source_list
from .job import prepare
from .job_plan import JobPlan
from .outputs import BACKGROUND_ALONE, Outputs
from .run import MEAN_ALONE


@connected()
def plan_spatial_mean(
    sources: AnySource | DescribedMovie | Sequence[AnySource],
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
    sources : path, array, sequence of them, or DescribedMovie
        Movies, as `run_spatial_mean` takes them, or one that does not exist yet.
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
        spread over the movie, or over a simulated one if the movie is described. And look whether a
        radius is far from what some frames suggest. Otherwise only metadata are read.
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
    given = {**locals(), "steps": SpatialMean(channels_mean_radii_pix)}
    del given["channels_mean_radii_pix"]  # all others go on under their own names
    return plan_background(**given)


@connected()
def plan_background(
    sources: AnySource | DescribedMovie | Sequence[AnySource],
    steps: Step | Sequence[Step] = MEAN_ALONE,
    outputs: str | Sequence[str] = DEFAULT,
    *,
    pedestal: int | None = None,
    gain: OfCamera = None,
    baseline: OfCamera = None,
    variance: OfCamera = None,
    photons: bool = False,
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
    steps, outputs, pedestal, gain, baseline, variance, photons
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
    stored = Outputs.checked(outputs, pedestal)
    return plan_job(
        sources,
        steps,
        selection=selection,
        options=FilterOptions.checked(engine=engine, parallel=parallel, cuda=cuda),
        outputs=stored,
        camera=stored.camera(gain=gain, baseline=baseline, variance=variance, photons=photons),
        storage=Storage.checked(codec, keep_bits),
        overrides=overrides,
        memory_limit=memory_limit,
        workers=workers,
        measured=measured,
        destination=destination,
    )


def plan_job(
    sources: AnySource | DescribedMovie | Sequence[AnySource],
    steps: Any,
    *,
    selection: Selection,
    options: FilterOptions | None,
    storage: Storage,
    outputs: Outputs = BACKGROUND_ALONE,
    camera: CameraSettings | None = None,
    overrides: Overrides | None,
    memory_limit: int | str | None,
    workers: int | Workers | None,
    measured: bool,
    destination: Source | None,
) -> JobPlan:
    """Plan a job; see `prepare` and `plan_spatial_mean`."""
    count = None if isinstance(workers, Workers) else workers
    if count is not None and (isinstance(count, bool) or count < 1):
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
        camera=camera,
        overrides=overrides,
        memory_limit=memory_limit,
        planned=workers,
    )
    plan = JobPlan(
        job.plans,
        job.workers.threads,
        job.workers.memory_bytes,
        None if workers is None else job.workers.processes,
        on_cluster=workers is not None or active_client() is not None,
        processes=job.workers.processes,
        dtypes=job.dtypes,
    )
    if not measured or not any(prod(channel.shape) for channel in plan.channels):
        return plan
    if options is not None and options.cuda:
        device.require_device()
    from .glance import radius_warnings
    from .measure import measure  # imports dask.array

    plan = replace(plan, rates=measure(job, above), warnings=radius_warnings(job.channels))
    return replace(plan, warnings=(*plan.warnings, *_lack_of_room(plan, above)))


def _lack_of_room(plan: JobPlan, above: Path | None) -> list[str]:
    """Say where a store is larger than what is free in its folder; quotas are not seen."""
    stored = plan.stored_bytes or 0
    if above is None or (free := disk_usage(above).free) >= stored:
        return []
    return [
        f"the store takes about {as_size(stored)}, but only {as_size(free)} is free in {above}: "
        "make room, or choose another destination"
    ]


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if os.path.lexists(path))
