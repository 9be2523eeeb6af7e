"""Who runs the tasks: the workers of the active client, or this machine; and their memory."""

import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from time import monotonic, sleep
from typing import Any, TypeVar

import dask.config
from dask.base import get_scheduler
from dask.system import CPU_COUNT
from dask.threaded import get as threaded_get
from dask.utils import format_bytes, parse_bytes, parse_timedelta

WAIT_SECONDS = 300.0
"""How long a scheduler may be without workers, unless Dask's configuration says otherwise in
``distributed.scheduler.no-workers-timeout``."""

FOREVER_SECONDS = 1e9
"""How long jobs of SLURM are waited for: a queue takes the time it takes."""

PATIENCE_SECONDS = 2.0
"""After which it is said that one waits."""

R = TypeVar("R")

BASE_BYTES = 300 * 2**20
"""What Python and the libraries take, in each process, before the first block."""

BASE_FILES, FILES_PER_WORKER = 32, 12
"""Open files of a process that starts local workers, and of each: measured were 26 and 11."""

USABLE = 0.75
"""Share of a worker's memory limit that is planned for: at 80 % it pauses, at 95 % it is killed."""


def active_client() -> Any:
    """Return the `distributed.Client` that Dask would use, or None."""
    if "distributed.client" not in sys.modules or not leaves_it_to_dask():  # then there is none
        return None
    from distributed import default_client

    try:
        return default_client()
    except ValueError:
        return None


def leaves_it_to_dask() -> bool:
    """Say whether no scheduler of this process was chosen, as by ``dask.config.set``."""
    return dask.config.get("scheduler", None) in (None, "distributed", "dask.distributed")


@dataclass(frozen=True)
class Workers:
    """Who runs the tasks.

    Attributes
    ----------
    threads : int
        Tasks that run side by side, on all workers together.
    memory_bytes : int
        Memory that all of them may use together.
    processes : int
        Processes that have these threads.
    usable : float
        Share of the memory that may be planned for.
    """

    threads: int
    memory_bytes: int
    processes: int = 1
    usable: float = 1.0

    @property
    def task_bytes(self) -> int:
        """Memory for each of the tasks that run side by side; negative where there is none."""
        tasks = int(self.usable * self.memory_bytes) - self.processes * BASE_BYTES
        return tasks // self.threads

    def held(self, task_bytes: int) -> int:
        """Return how many tasks, each of which holds as much, the memory takes."""
        return max(0, self.task_bytes * self.threads // max(1, task_bytes))

    def least_limit(self, task_bytes: int, tasks: int) -> int:
        """Return the memory with which each of so many tasks has as much, in full MB."""
        needed = tasks * task_bytes + self.processes * BASE_BYTES
        return -int(-needed / self.usable // 10**6) * 10**6

    def limited(self, memory_bytes: int) -> "Workers":
        """Return the same with a memory limit that was asked for, if a cluster has as much."""
        if self.usable < 1:
            memory_bytes = min(memory_bytes, self.memory_bytes)
        return replace(self, memory_bytes=memory_bytes)


def count_workers() -> int | None:
    """Return how many workers a cluster has, by its last heartbeat; None where there is none."""
    client = active_client()
    return None if client is None else client._scheduler_identity.get("n_workers", 0)


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

    Those of the ``pool`` or the executor that Dask was given, else its ``num_workers``, if that is
    set, else as many as there are cores. One more took 0.93 to 1.00 of the time on 2 cores, but
    another block's memory, which a limit may not have.
    """
    for chosen in (own_pool(), dask.config.get("scheduler", None)):
        # of concurrent.futures, or of multiprocessing: Dask looks there, too
        threads = getattr(chosen, "_max_workers", None) or getattr(chosen, "_processes", None)
        if isinstance(threads, int):
            return threads
    return dask.config.get("num_workers", None) or CPU_COUNT


def own_pool() -> Any:
    """Return the pool of threads that Dask was told to use, or None."""
    return dask.config.get("pool", None)


def runs_own_threads() -> bool:
    """Say whether tasks run on threads that we start: as many as we like."""
    if own_pool() is not None or active_client() is not None:
        return False
    return not dask.config.get("scheduler", None) or get_scheduler() is threaded_get


def machine_memory_bytes() -> int:
    """Return what `distributed.system` says of this machine, its control group and its limits.

    That module is loaded by itself: all of distributed takes a sixth of a second, which a job on
    threads need not wait for.
    """
    package = find_spec("distributed")
    where = package.submodule_search_locations if package else None
    spec = PathFinder.find_spec("distributed.system", where)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError("distributed has no module system: install it again")
    system = module_from_spec(spec)
    spec.loader.exec_module(system)
    return int(system.MEMORY_LIMIT)


def memory_limit_bytes(memory_limit: int | str, processes: int = 1) -> int:
    """Return a memory limit, of so many processes together, in bytes.

    Raises
    ------
    ValueError
        If it is no number of bytes, or less than Python and the libraries take.
    """
    try:
        limit = int(parse_bytes(memory_limit))
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise ValueError(
            f"memory_limit is {memory_limit!r}: pass bytes, or text such as '4GB'"
        ) from None
    if limit <= processes * BASE_BYTES:
        each = f" in each of {processes} workers" if processes > 1 else ""
        raise ValueError(
            f"memory_limit is {memory_limit}: pass more than "
            f"{format_bytes(processes * BASE_BYTES)}, which Python and the libraries take{each}"
        )
    return limit


def check_open_files(count: int) -> None:
    """Refuse a limit of open files under which Dask would wait for its processes for ever."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = BASE_FILES + FILES_PER_WORKER * count
    if limit != resource.RLIM_INFINITY and limit < needed:
        raise RuntimeError(
            f"{count} worker process{'es' if count > 1 else ''} take some {needed} open files, and "
            f"the limit is {limit}: raise it, as by ulimit -n {max(1024, 2 * needed)}, or start "
            "fewer with --workers"
        )


def this_worker() -> str:
    """Return how messages name the process that runs a task."""
    from distributed import get_worker

    try:
        return f"worker {get_worker().address} ({socket.gethostname()})"
    except ValueError:
        return f"process {os.getpid()} ({socket.gethostname()})"


def no_workers_seconds() -> float:
    """Return how long a scheduler may be without workers before a job is given up."""
    configured = dask.config.get("distributed.scheduler.no-workers-timeout", None)
    return WAIT_SECONDS if configured is None else float(parse_timedelta(configured))


def wait_for_workers(client: Any, tell: Callable[[str], None], count: int = 1) -> None:
    """Wait until a scheduler has so many workers."""
    limit = no_workers_seconds()
    began, told = monotonic(), False
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
        if waited > PATIENCE_SECONDS and not told:
            bound = f"for {limit:g} s at most" if limit < FOREVER_SECONDS else "Ctrl-C gives up"
            tell(f"waiting for a worker of {where}, {bound}")
            told = True
        sleep(0.1)
