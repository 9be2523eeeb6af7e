"""The workers that run the tasks, of the active client or of this machine, and their memory."""

import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path
from time import monotonic, sleep
from typing import Any, TypeVar

import dask.config
from dask.base import get_scheduler
from dask.system import CPU_COUNT
from dask.threaded import get as threaded_get
from dask.utils import parse_bytes, parse_timedelta

from smlmlp_dask.messages import as_size, counted

WAIT_SECONDS = 300.0
"""Longest time without workers, unless Dask's configuration sets
``distributed.scheduler.no-workers-timeout``."""

FOREVER_SECONDS = 1e9
"""Longest wait for SLURM jobs to start: 31 years, as a queue may take days."""

PATIENCE_SECONDS = 2.0
"""Seconds before a waiting message is shown."""

R = TypeVar("R")

BASE_BYTES = 300 * 2**20
"""Memory of Python and the libraries in each process before the first block."""

BASE_FILES, FILES_PER_WORKER = 32, 12
"""Open files of the process that starts local workers: its own, and more per worker (measured: 26
and 11)."""

USABLE = 0.75
"""Share of a worker's memory limit to plan with: Dask pauses workers at 80 %, kills at 95 %."""


def active_client() -> Any:
    """Return the `distributed.Client` that Dask would use, or None.

    Raises
    ------
    RuntimeError
        If we are in the event loop of that client.
    """
    if "distributed.client" not in sys.modules or not scheduler_left_to_dask():
        return None
    from distributed import default_client

    try:
        client = default_client()
    except ValueError:
        return None
    if client.asynchronous:  # its event loop would wait for us, and we for it
        raise RuntimeError(
            "the active Dask client is asynchronous, and this call would stop its event loop: make "
            "the call in a thread, as in await asyncio.to_thread(run_spatial_mean, ...)"
        )
    return client


def scheduler_left_to_dask() -> bool:
    """Say whether the user left the scheduler to Dask: ``dask.config.set`` names no other."""
    return dask.config.get("scheduler", None) in (None, "distributed", "dask.distributed")


@dataclass(frozen=True)
class Workers:
    """The workers that run the tasks, taken together.

    Attributes
    ----------
    threads : int
        Tasks that run side by side.
    memory_bytes : int
        Memory limit.
    processes : int
        Processes that share these threads.
    usable : float
        Share of the memory that we plan with.
    """

    threads: int
    memory_bytes: int
    processes: int = 1
    usable: float = 1.0

    @property
    def task_bytes(self) -> int:
        """Memory for each task that runs; negative if the libraries alone exceed the limit."""
        tasks = int(self.usable * self.memory_bytes) - self.processes * BASE_BYTES
        return tasks // self.threads

    def held(self, task_bytes: int) -> int:
        """Return how many tasks of `task_bytes` each fit into the memory."""
        return max(0, self.task_bytes * self.threads // max(1, task_bytes))

    def least_limit(self, task_bytes: int, tasks: int) -> int:
        """Return the smallest memory limit, in whole MB, for `tasks` tasks of `task_bytes` each."""
        needed = tasks * task_bytes + self.processes * BASE_BYTES
        return -int(-needed / self.usable // 10**6) * 10**6

    def limited(self, memory_bytes: int) -> "Workers":
        """Return the same workers with another memory limit; a cluster's can only be lowered."""
        if self.usable < 1:
            memory_bytes = min(memory_bytes, self.memory_bytes)
        return replace(self, memory_bytes=memory_bytes)


def count_workers() -> int | None:
    """Return how many workers the cluster had at its last heartbeat; None without a cluster."""
    client = active_client()
    return None if client is None else client._scheduler_identity.get("n_workers", 0)


def on_every_worker(function: Callable[[], R]) -> list[R]:
    """Return a function's results on each worker of the active client, else in this process."""
    client = active_client()
    return [function()] if client is None else list(client.run(function).values())


def active_workers() -> Workers:
    """Return the workers of the active `distributed.Client`, else of this machine."""
    machine = machine_memory_bytes()
    client = active_client()
    if client is not None and (info := client.scheduler_info(n_workers=-1)["workers"]):
        threads = sum(worker["nthreads"] for worker in info.values())
        each = min((w["memory_limit"] or machine) / w["nthreads"] for w in info.values())
        return Workers(threads, int(threads * each), len(info), USABLE)
    scheduler = dask.config.get("scheduler", None)
    if isinstance(scheduler, str) and scheduler.lower().startswith(("sync", "single")):
        return Workers(1, machine)
    return Workers(local_threads(), machine)


def local_threads() -> int:
    """Return how many tasks run side by side on threads of this process.

    The threads of the ``pool`` or executor given to Dask, else its ``num_workers`` if set, else
    one a core. One thread more took 0.93 to 1.00 of the time on 2 cores, but the memory of
    another block.
    """
    for chosen in (own_pool(), dask.config.get("scheduler", None)):
        # Attributes of concurrent.futures and of multiprocessing; Dask reads the same two.
        threads = getattr(chosen, "_max_workers", None) or getattr(chosen, "_processes", None)
        if isinstance(threads, int):
            return threads
    return dask.config.get("num_workers", None) or CPU_COUNT


def own_pool() -> Any:
    """Return the thread pool that the user gave to Dask, or None."""
    return dask.config.get("pool", None)


def runs_own_threads() -> bool:
    """Say whether we start the threads that tasks run on, and so choose their number."""
    if own_pool() is not None or active_client() is not None:
        return False
    return not dask.config.get("scheduler", None) or get_scheduler() is threaded_get


def machine_memory_bytes() -> int:
    """Return the memory limit of this machine and control group, from `distributed.system`.

    That file is run alone: to import all of distributed took 0.25 s, a fifth of a small job.
    """
    distributed = find_spec("distributed")
    if distributed is None or distributed.origin is None:
        raise ModuleNotFoundError("distributed is not installed: install smlmlp-dask again")
    return int(run_path(str(Path(distributed.origin).with_name("system.py")))["MEMORY_LIMIT"])


def memory_limit_bytes(
    memory_limit: int | str, processes: int = 1, name: str = "memory_limit"
) -> int:
    """Return the memory limit of all processes together, in bytes; `name` is that of the option.

    Raises
    ------
    ValueError
        If it is not a number of bytes, or not more than Python and the libraries take.
    """
    try:
        limit = int(parse_bytes(memory_limit))
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise ValueError(f"{name} is {memory_limit!r}: pass bytes, or text such as '4GB'") from None
    if limit <= processes * BASE_BYTES:
        each = f" in each of {processes:,} workers" if processes > 1 else ""
        raise ValueError(
            f"{name} is {memory_limit}: pass more than "
            f"{as_size(processes * BASE_BYTES)}, which Python and the libraries take{each}"
        )
    return limit


def check_open_files(count: int) -> None:
    """Refuse to start more processes than the limit of open files allows: Dask would hang."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = BASE_FILES + FILES_PER_WORKER * count
    if limit != resource.RLIM_INFINITY and limit < needed:
        raise RuntimeError(
            f"{counted(count, 'worker process', 'worker processes')} take some {needed} open "
            f"files, and the limit is {limit}: raise it (ulimit -n {max(1024, 2 * needed)}), or "
            "start fewer with --workers"
        )


def this_worker() -> str:
    """Return the name, for messages, of the process that runs a task."""
    from distributed import get_worker

    try:
        return f"worker {get_worker().address} ({socket.gethostname()})"
    except ValueError:
        return f"process {os.getpid()} ({socket.gethostname()})"


def no_workers_seconds() -> float:
    """Return how long a job waits, in seconds, for a scheduler without workers."""
    configured = dask.config.get("distributed.scheduler.no-workers-timeout", None)
    return WAIT_SECONDS if configured is None else float(parse_timedelta(configured))


def wait_for_workers(
    client: Any, tell: Callable[[str], None], count: int = 1, why: Callable[[], str] = str
) -> None:
    """Wait until a scheduler has `count` workers; `why` ends the message that we wait."""
    limit = no_workers_seconds()
    began, announced = monotonic(), False
    while len(client.scheduler_info(n_workers=count)["workers"]) < count:
        waited = monotonic() - began
        where = f"the scheduler {client.scheduler.address}"
        if client.status != "running":
            raise RuntimeError(f"{where} ended before it had a worker: start it again")
        if waited > limit:
            raise RuntimeError(
                f"{where} had {'no worker' if count == 1 else f'under {count} workers'} for "
                f"{limit:g} s: start some with dask worker {client.scheduler.address}, or raise "
                "distributed.scheduler.no-workers-timeout in Dask's configuration"
            )
        if waited > PATIENCE_SECONDS and not announced:
            bound = f"for {limit:g} s at most" if limit < FOREVER_SECONDS else "Ctrl-C gives up"
            tell(f"waiting for a worker of {where}, {bound}{why()}")
            announced = True
        sleep(0.1)
