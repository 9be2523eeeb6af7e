"""What a job will do and need, known before it runs."""

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

from smlmlp_dask import blocks
from smlmlp_dask.execution.tasks import REGION_TASKS, blocks_per_task
from smlmlp_dask.execution.window import MOST_AHEAD, TASKS_PER_THREAD
from smlmlp_dask.execution.workers import BASE_BYTES
from smlmlp_dask.messages import as_size, as_time, counted

if TYPE_CHECKING:
    from .measure import Rates

SCHEDULER_BYTES = 100 * 2**20
"""Memory of a scheduler process, measured by `tests/benchmarks/cluster.py`."""

SCHEDULER_BYTES_PER_THREAD = 6 * 2**20
"""Most memory of the scheduler for each thread of the workers: its submitted tasks and, with one
thread per worker, the last 1000 messages to that worker, which Dask keeps by default."""


@dataclass(frozen=True, repr=False)
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
        Number of processes to plan for; None for Dask's active scheduler.
    on_cluster : bool
        Whether distributed's scheduler runs the tasks.
    rates : Rates or None
        Rates measured on this machine, if any.
    processes : int
        Processes that run the tasks.
    dtypes : list of str
        Of each channel's outputs.
    warnings : tuple of str
        A line for each channel whose radius is far from what a measurement suggests.
    """

    channels: list[blocks.BlockPlan]
    threads: int
    memory_limit_bytes: int
    workers: int | None = None
    on_cluster: bool = False
    rates: "Rates | None" = None
    processes: int = 1
    dtypes: list[str] = field(default_factory=list)
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        first = self.channels[0]
        count = len(self.channels)
        of = f", {count} channels" if count > 1 else ""
        time = "" if self.seconds is None else f", {as_time(self.seconds)}"
        return (
            f"{type(self).__name__}({' x '.join(map(str, first.shape))} pixels{of}: "
            f"{counted(self.n_blocks, 'block')} of up to "
            f"{' x '.join(map(str, first.block))}, {self.threads} at a time; memory "
            f"{as_size(self.projected_bytes)} of {as_size(self.memory_limit_bytes)}, "
            f"output {as_size(self.output_bytes)}{time})"
        )

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
        """Peak memory of a process with a task on each thread, Python and libraries included."""
        tasks = -(-self.threads // self.workers) if self.workers else 1
        return BASE_BYTES + tasks * max(plan.block_bytes for plan in self.channels)

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
        frames = sum(plan.stored_itemsize * prod(plan.shape) for plan in self.channels)
        means = sum(4 * prod(plan.planes.shape) for plan in self.channels if plan.stores.mean)
        return frames + means

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
