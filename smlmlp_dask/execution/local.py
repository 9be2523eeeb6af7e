"""Worker processes of this machine."""

import asyncio
import logging
import signal
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from multiprocessing import resource_tracker
from typing import Any

import dask.config
from dask.system import CPU_COUNT

from smlmlp_dask.messages import as_size, counted

from .workers import (
    USABLE,
    Workers,
    check_open_files,
    machine_memory_bytes,
    memory_limit_bytes,
    wait_for_workers,
)

log = logging.getLogger(__name__)

REPLACE_SECONDS = 5.0
"""Seconds between two checks for workers that will not come back."""

SCHEDULER_LOG = {"distributed.admin.low-level-log-length": 100}
"""Messages that our schedulers keep for debugging; Dask's 1000 take some 5 MB a worker."""


def local_processes(
    count: int, memory_limit: int | str | None, tell: Callable[[str], None], stack: ExitStack
) -> Any:
    """Start worker processes and return their client; closing `stack` ends them."""
    check_open_files(count)
    from distributed import Client, LocalCluster

    total = machine_memory_bytes() if memory_limit is None else memory_limit_bytes(memory_limit)
    threads = _threads_of(count)
    stack.enter_context(dask.config.set(SCHEDULER_LOG))
    workers = stack.enter_context(
        LocalCluster(
            n_workers=0,
            threads_per_worker=threads,
            memory_limit=total // count,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # any free port: another cluster may run here
            silence_logs=logging.CRITICAL,
        )
    )
    workers.sync(_leave_interrupts_to_us)
    workers.scale(count)
    replace_lost_workers(workers, stack)
    client = stack.enter_context(Client(workers))
    wait_for_workers(client, tell, count)
    each = f"{counted(threads, 'thread')} and {as_size(total // count)} each"
    # The dashboard works only with bokeh, an optional package.
    link = f"; dashboard: {workers.dashboard_link}" if find_spec("bokeh") else ""
    tell(f"{counted(count, 'worker process', 'worker processes')}, {each}{link}")
    return client


def planned_processes(count: int) -> Workers:
    """Return the workers that `local_processes` would start."""
    return Workers(count * _threads_of(count), machine_memory_bytes(), count, USABLE)


def _threads_of(count: int) -> int:
    return max(1, CPU_COUNT // count)


async def _leave_interrupts_to_us() -> None:
    """Block Ctrl-C in all processes that this thread starts, now or later.

    A terminal sends it to each of them: they would die in the middle of a block, with tracebacks.
    """
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        resource_tracker.ensure_running()  # starting it later would unblock the signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def replace_lost_workers(workers: Any, stack: ExitStack) -> None:
    """Replace workers that do not come back, such as those whose SLURM job reached its walltime.

    Dask starts new ones only when `scale` is called again (dask-jobqueue#611 and #122). This can
    go once it keeps the number by itself.
    """

    async def repeat() -> None:
        while True:
            await asyncio.sleep(REPLACE_SECONDS)
            workers.scale(len(workers.worker_spec))

    async def begin() -> "asyncio.Task[None]":
        return asyncio.create_task(repeat())

    task = workers.sync(begin)
    stack.callback(lambda: workers.loop.add_callback(task.cancel))
