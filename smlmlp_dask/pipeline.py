"""`run_spatial_mean`: the whole job, path to path."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import arguments, backend, chunks
from .background import Engine, SpatialMean, check_engine, filter_chunk
from .jobs import run_tasks
from .kernels import noise_correction, residual_kernel
from .progress import progress_bar
from .sources import open_stacks, source_roots
from .stack import Stack
from .store import ChannelSpec, SpatialMeanResult, check_destination, new_store, open_backgrounds

if TYPE_CHECKING:
    import zarr

Source = str | os.PathLike[str]


@dataclass(frozen=True)
class Task:
    """One block of one channel: where its frames come from and where its background goes."""

    source: Stack
    target: "zarr.Array[Any]"
    block: chunks.Block
    mean: SpatialMean

    @property
    def pixels(self) -> int:
        """Pixels that the task filters."""
        return prod(part.stop - part.start for part in self.block.inner)


def run_spatial_mean(
    sources: Source | Sequence[Source],
    destination: Source,
    channels_mean_radii_pix: Any = 7.0,
    *,
    noise_corrections: Sequence[float] | None = None,
    bboxes: Any = None,
    flips: Any = None,
    frames: slice | None = None,
    raw_shape: Sequence[int] | None = None,
    raw_dtype: Any = None,
    cuda: bool = False,
    parallel: bool | int = False,
    engine: Engine = "auto",
    progress: bool = False,
) -> SpatialMeanResult:
    """Estimate the background of movies on disk and store it as OME-Zarr.

    Parameters
    ----------
    sources : path or sequence of paths
        Movies, as `open_channels` takes them.
    destination : path
        The store to be written, a folder whose name usually ends in ``.zarr``. It must not exist,
        and not lie on or inside a source; missing parent folders are made.
    channels_mean_radii_pix : float, pair, or sequence of pairs, default 7.0
        Averaging radii in pixels, as `bkgd_spatial_mean` takes them.
    noise_corrections : sequence of float, optional
        Factors so far, one per channel, taken as float32; ones by default. Not changed.
    bboxes, flips, frames, raw_shape, raw_dtype
        Which part of the sources makes which channel, as in `open_channels`.
    cuda, parallel, engine
        How blocks are filtered, as in `bkgd_spatial_mean`. With `cuda`, the store is written from
        host memory.
    progress : bool, default False
        Show a bar on stderr.

    Returns
    -------
    SpatialMeanResult
        What `open_backgrounds` reads back from `destination`: ``bkgds`` (lazy float32 stacks
        (frame, y, x), in camera counts), ``noise_corrections``, ``info``, ``path``.

    Raises
    ------
    ValueError, TypeError
        If an argument or a source is wrong; nothing has been written then.
    FileExistsError
        If the destination exists.
    OSError
        If a source cannot be read or the destination cannot be written. Nothing is left behind.
    RuntimeError
        If ``cuda=True`` and there is no usable CuPy or device.

    Notes
    -----
    The store is a Zarr v3 group with one OME-Zarr 0.5 image per channel, ``channel_0``,
    ``channel_1`` ..., each with its pixels in the array ``0``. The group's attribute
    ``smlmlp_dask`` holds the rest, and says ``finished: true`` only when all pixels are written.

    The job runs under Dask's active scheduler: an active `distributed.Client`, else local threads.
    Blocks go from source to store inside the tasks.
    """
    paths = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    destination = Path(destination)
    stacks = open_stacks(
        *paths,
        bboxes=bboxes,
        flips=flips,
        frames=frames,
        raw_shape=raw_shape,
        raw_dtype=raw_dtype,
    )
    radii = arguments.as_radii(channels_mean_radii_pix, len(stacks))
    given = None if noise_corrections is None else tuple(noise_corrections)
    corrections = arguments.check_corrections(given, len(stacks))
    threads = arguments.check_parallel(parallel)
    engine = check_engine(engine, on_host=not cuda)
    if cuda:
        backend.require_device()
    check_destination(destination, [root for path in paths for root in source_roots(path)])

    means = [SpatialMean.from_radii(pair) for pair in radii]
    plans = [
        chunks.plan_blocks(
            stack.shape, stack.dtype.itemsize, stack.unit, mean.halo(stack.shape[1:])
        )
        for stack, mean in zip(stacks, means, strict=True)
    ]
    factors = [
        np.float32(factor) * noise_correction(*mean.sigmas)
        for factor, mean in zip(corrections, means, strict=True)
    ]
    attributes = {
        "channels_mean_radii_pix": radii,
        "spatial_mean_sigmas": [mean.sigmas for mean in means],
        "spatial_mean_kernels_y": [residual_kernel(mean.kernel_y).tolist() for mean in means],
        "spatial_mean_kernels_x": [residual_kernel(mean.kernel_x).tolist() for mean in means],
        "noise_corrections": [float(factor) for factor in factors],
        "engine": "dask-image" if cuda else engine,
        "cuda": bool(cuda),
        "sources": [os.path.abspath(path) for path in paths],  # noqa: PTH100 - globs stay globs
        "bboxes": bboxes,
        "flips": flips,
        "frames": None if frames is None else [frames.start, frames.stop, frames.step],
        "raw_shape": raw_shape,
        "raw_dtype": None if raw_dtype is None else np.dtype(raw_dtype).str,
    }
    specs = [ChannelSpec(plan.shape, plan.chunks) for plan in plans]
    with (
        new_store(destination, specs, attributes) as targets,
        progress_bar(sum(prod(plan.shape) for plan in plans), shown=progress) as advance,
    ):
        tasks = (
            Task(stacks[i].part(block.read), targets[i], block, means[i])
            for i, block in chunks.interleave(plans)
        )
        work = partial(_filter_and_store, engine=engine, threads=threads, cuda=cuda)
        run_tasks(work, tasks, lambda task: advance(task.pixels))
    return open_backgrounds(destination)


def _filter_and_store(task: Task, *, engine: Engine, threads: int, cuda: bool) -> None:
    """Read a block, filter and write it one output chunk at a time."""
    inner = task.block.inner
    own = (slice(None), *_trim(task.block)[1:])
    raw = task.source.read()
    for first, stop in pairwise(_steps(inner[0], task.target.chunks[0])):
        frames = raw[first - inner[0].start : stop - inner[0].start]
        background = filter_chunk(frames, task.mean, engine=engine, threads=threads, cuda=cuda)
        task.target[slice(first, stop), inner[1], inner[2]] = background[own]


def _trim(block: chunks.Block) -> tuple[slice, ...]:
    """Return where a block's own pixels lie in what it read."""
    return tuple(
        slice(inner.start - read.start, inner.stop - read.start)
        for inner, read in zip(block.inner, block.read, strict=True)
    )


def _steps(part: slice, step: int) -> Iterator[int]:
    yield from range(part.start, part.stop, step)
    yield part.stop
