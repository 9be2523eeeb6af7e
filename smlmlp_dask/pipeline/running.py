"""A prepared job is run: block after block, from its sources into its store."""

import logging
from collections.abc import Collection
from functools import partial
from math import prod
from pathlib import Path

from smlmlp_dask.execution.preflight import checking_workers
from smlmlp_dask.execution.progress import Amount, progress_bar
from smlmlp_dask.execution.tasks import run_tasks
from smlmlp_dask.execution.workers import active_client, count_workers
from smlmlp_dask.messages import as_size, counted
from smlmlp_dask.movies.memory import DaskMovie
from smlmlp_dask.movies.photons import in_counts
from smlmlp_dask.movies.stack import SourceReadError, Stack
from smlmlp_dask.store.checking import Findings, clipped_pixels
from smlmlp_dask.store.lock import this_owner
from smlmlp_dask.store.metadata import RECORDS, package_versions
from smlmlp_dask.store.outputs import stored_outputs
from smlmlp_dask.store.read import stored_stacks
from smlmlp_dask.store.write import check_destination, writing

from .block import Guard, Task, computed, filter_and_store
from .channels import interleave
from .display import display_ranges
from .job import Job
from .outputs import clipping

log = logging.getLogger(__name__)


def run_job(
    job: Job,
    destination: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    found: Findings | None = None,
) -> None:
    """Run a job, or what is missing or damaged of it; see `run_spatial_mean` and `writing`."""
    check_destination(destination, job.roots, resume=resume, overwrite=overwrite)
    if resume:
        job = job.as_begun(destination)
    at_a_time = job.workers.threads
    every, memory = counted(at_a_time, "task"), as_size(job.workers.memory_bytes)
    log.info("%s at a time, memory for them %s", every, memory)
    plans, attributes = job.plans, job.attributes
    guard = Guard(destination / RECORDS, this_owner(), tuple(job.roots[:8]))
    work = partial(filter_and_store, options=job.options, outputs=job.outputs, guard=guard)
    engine = "engine {engine} {engine_version}" if job.options else "frames as they are"
    log.info("%s, codec %s", engine.format(**attributes), job.storage.codec)
    with (
        checking_workers(job.roots, destination, package_versions()),
        writing(
            destination,
            plans,
            attributes,
            job.storage,
            resume=resume,
            overwrite=overwrite,
            elsewhere=active_client() is not None,
            found=found,
            check_inputs=job.check_inputs,
            ranges=lambda: display_ranges(job),
        ) as store,
    ):
        done = store.done
        _check_kept(job, destination, done)
        total = Amount(attributes["blocks"], sum(prod(plan.shape) for plan in plans))
        log.info("%s: %d of %s done", destination, len(done), counted(total.blocks, "block"))
        pixels = (block.pixels for i, block in interleave(plans) if (i, block.number) in done)
        kept = Amount(len(done), sum(pixels) if done else 0)
        due = ((i, one) for i, one in interleave(plans) if (i, one.number) not in done)
        tasks = (job.task(i, block, store.targets[i]) for i, block in due)
        with progress_bar(total, kept, count_workers, shown=progress) as advance:

            def record(task: Task, numbers: list[int]) -> None:
                store.add(task.channel, task.block.number, numbers)
                advance(task.block.pixels)

            left = total.blocks - kept.blocks
            run_tasks(work, tasks, record, count=left, side_by_side=at_a_time)
    if clipped := sum(clipped_pixels(destination, attributes) or ()):
        log.warning("%s: %s", destination, clipping(clipped, job.outputs.pedestal))
    log.info("%s: finished", destination)


def _check_kept(job: Job, path: Path, done: Collection[tuple[int, int]]) -> None:
    """Refuse to go on with a Dask array that gives other pixels than are stored.

    Files and NumPy arrays have a fingerprint. Of a Dask array there is only its name, which mostly
    says where its pixels are read, not what they are: a Zarr array written anew has the name of the
    old one. So we compute the first and the last of its blocks in `done` again, and compare them.
    """
    if job.options is not None and job.options.cuda:
        return  # this process may have no device, and the workers' array is no other
    for i, channel in enumerate(job.channels):
        movie = in_counts(channel.source).movie
        kept = [number for own, number in done if own == i]
        if not isinstance(movie, DaskMovie) or not kept:
            continue
        outputs = stored_outputs(job.attributes, len(job.channels))
        stored = [stored_stacks(path, output)[i] for output in outputs]
        for number in sorted({min(kept), max(kept)}):
            task = job.task(i, channel.plan.nth_block(number), ())
            if _differs(job, task, stored):
                raise ValueError(
                    f"{path} cannot be resumed: {movie.path} has the name of the array that it was "
                    f"begun with, but gives other pixels ({task}): what it is computed from has "
                    "changed, or is not the same each time; replace the store with overwrite=True, "
                    "or choose another destination"
                )


def _differs(job: Job, task: Task, stored: list[Stack]) -> bool:
    """Say whether a block, computed again, is not what is stored of it."""
    found = computed(
        task, task.source.read(), options=job.options, outputs=job.outputs, storage=job.storage
    )
    for output, box, pixels, _ in found:
        try:
            before = stored[output].part(box).read()
        except SourceReadError:  # a damaged chunk, which tells nothing of the array
            continue
        if before.tobytes() != pixels.tobytes():
            return True
    return False
