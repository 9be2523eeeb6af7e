"""What a job may use: the workers of Dask's active scheduler, and their memory."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import dask.config
from dask.system import CPU_COUNT

T = TypeVar("T")
R = TypeVar("R")

TASKS_PER_THREAD = 4
"""Tasks under way for each thread of the workers: one runs, the others wait their turn there."""


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


def active_client() -> Any:
    """Return the active `distributed.Client`, or None."""
    if "distributed.client" not in sys.modules:  # then there is none
        return None
    from distributed import default_client

    try:
        return default_client()
    except ValueError:
        return None


def run_on_cluster(
    client: Any,
    function: Callable[[T], R],
    arguments: Iterator[T],
    on_done: Callable[[T, R], None],
) -> None:
    """Call a function for each argument on a cluster's workers; see `jobs.run_tasks`.

    So many tasks are under way that no worker waits, and no more: scheduler and client hold a
    bounded number, however long the movie. A worker that is lost costs only its own tasks.

    Raises
    ------
    RuntimeError
        If the scheduler is lost.
    Exception
        The first that a task raised.
    """
    from distributed import CancelledError, as_completed

    threads = active_workers().threads
    under_way: dict[str, tuple[Any, T]] = {}

    def submit(count: int) -> list[Any]:
        futures = []
        for argument in islice(arguments, count):
            future = client.submit(function, argument, pure=False)
            under_way[future.key] = (future, argument)
            futures.append(future)
        return futures

    try:
        completed = as_completed(submit(TASKS_PER_THREAD * threads), with_results=True)
        for future, result in completed:
            if isinstance(result, CancelledError):  # which comes as if it were a result
                raise result
            _, argument = under_way.pop(future.key)
            on_done(argument, result)
            completed.update(submit(1))
    except Exception as error:
        if client.status == "running" and not isinstance(error, CancelledError):
            raise
        raise RuntimeError(
            "the Dask cluster was lost: its scheduler has ended, or dropped the blocks under way; "
            "start it again and go on with resume=True (--resume)"
        ) from error
    finally:
        if client.status == "running":
            client.cancel([future for future, _ in under_way.values()])


def on_every_worker(function: Callable[[], R]) -> list[R]:
    """Return what a function returns on each worker of the active client, else in this process.

    Raises
    ------
    Exception
        What it raised on one of them.
    """
    client = active_client()
    return [function()] if client is None else list(client.run(function).values())


def active_workers() -> Workers:
    """Return the workers of the active `distributed.Client`, else of this machine."""
    from distributed.system import MEMORY_LIMIT  # knows of cgroups and resource limits

    client = active_client()
    if client is not None and (info := client.scheduler_info(n_workers=-1)["workers"]):
        threads = sum(worker["nthreads"] for worker in info.values())
        each = min((w["memory_limit"] or MEMORY_LIMIT) / w["nthreads"] for w in info.values())
        return Workers(threads, int(threads * each))
    scheduler = dask.config.get("scheduler", None)
    if isinstance(scheduler, str) and scheduler.lower().startswith(("sync", "single")):
        return Workers(1, MEMORY_LIMIT)
    return Workers(dask.config.get("num_workers", None) or CPU_COUNT, MEMORY_LIMIT)
