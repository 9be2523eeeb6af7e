"""What a job may use: the workers of Dask's active scheduler, and their memory."""

import sys
from dataclasses import dataclass

import dask.base
import dask.config
from dask.system import CPU_COUNT


@dataclass(frozen=True)
class Workers:
    """Who runs the tasks.

    Attributes
    ----------
    threads : int
        Tasks that run side by side, on all workers together.
    memory_bytes : int
        Memory that all of them may use together.
    """

    threads: int
    memory_bytes: int


def active_workers() -> Workers:
    """Return the workers of the active `distributed.Client`, else of this machine."""
    from distributed.system import MEMORY_LIMIT  # knows of cgroups and resource limits

    if "distributed.client" in sys.modules:  # else there is no client either
        from distributed import default_client

        try:
            workers = default_client().scheduler_info(n_workers=-1)["workers"].values()
        except ValueError:
            workers = []
        if workers:
            threads = sum(worker["nthreads"] for worker in workers)
            each = min((w["memory_limit"] or MEMORY_LIMIT) / w["nthreads"] for w in workers)
            return Workers(threads, int(threads * each))
    scheduler = dask.config.get("scheduler", None)
    if isinstance(scheduler, str) and scheduler.lower().startswith(("sync", "single")):
        return Workers(1, MEMORY_LIMIT)
    return Workers(dask.config.get("num_workers", None) or CPU_COUNT, MEMORY_LIMIT)
