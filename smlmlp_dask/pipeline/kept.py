"""Blocks that a resumed job keeps: whether the arrays they were computed from are still the same.

Files and NumPy arrays have a fingerprint. Of a Dask array there is only its name, which mostly says
where its pixels are read, not what they are: a Zarr array written anew has the name of the old one.
"""

from collections.abc import Collection
from pathlib import Path

from smlmlp_dask.movies.memory import DaskMovie
from smlmlp_dask.movies.photons import in_counts
from smlmlp_dask.movies.stack import SourceReadError, Stack
from smlmlp_dask.store.outputs import stored_outputs
from smlmlp_dask.store.read import stored_stacks

from .block import Task, computed
from .job import Job


def check_kept(job: Job, path: Path, done: Collection[tuple[int, int]]) -> None:
    """Compute the first and the last kept block of each Dask array again, and compare them.

    Parameters
    ----------
    job : Job
        What is resumed.
    path : pathlib.Path
        Its store, finished or not.
    done : collection of (int, int)
        (channel, number) of the blocks that are kept.

    Raises
    ------
    ValueError
        If the array gives other pixels than are stored.
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
