"""What distributing costs: seconds over the blocks' own work, the scheduler's memory, scaling.

    python tests/benchmarks/cluster.py overhead|scaling [options]

- overhead: blocks without work on 4 workers of one thread, 1 000 to 100 000 of them: time a block,
  and what the scheduler's process holds;
- scaling: blocks of 16 MB, their work replaced by sleeping for the time that it takes here, on 1 to
  64 worker threads.

Blocks go through `smlmlp_dask.execution.tasks.run_tasks`, with arguments as large as a job's.
Scheduler, workers and client are processes of their own on 127.0.0.1; nothing is left behind.
Sleeping leaves the cores to distributed: what is measured is its cost, not how cores are shared.
Machines are noisy: sizes take turns, and the table gives the range.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import dask
import zarr
from distributed import Client
from measuring import camera_movie, print_machine, print_table, spread, write_zarr
from measuring import job_seconds as whole_job_seconds

from smlmlp_dask.blocks import plan_blocks
from smlmlp_dask.execution.local import SCHEDULER_LOG
from smlmlp_dask.execution.tasks import run_tasks
from smlmlp_dask.filters.spatial_mean import SpatialMean
from smlmlp_dask.movies.opening import open_stacks
from smlmlp_dask.movies.selection import Selection
from smlmlp_dask.pipeline.block import Task
from smlmlp_dask.store.chunk_files import ChunkFiles
from smlmlp_dask.store.codecs import Storage

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK_SHAPE = (16, 512, 512)
"""16 MiB of float32."""

HERE = str(Path(__file__).parent)

LOG_LENGTH = str(*SCHEDULER_LOG.values())
"""As in clusters that `smlmlp-dask run` starts."""


# A cluster of processes


class Cluster(NamedTuple):
    """A scheduler in a process of its own, and a client of it in this one."""

    scheduler: subprocess.Popen[bytes]
    client: Client

    def scheduler_bytes(self) -> int | None:
        """Return what the scheduler's process holds at most so far; None if it is unknown."""
        status = Path(f"/proc/{self.scheduler.pid}/status")
        if not status.exists():
            return None
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) * 1024


@contextmanager
def cluster(processes: int, threads: int) -> Iterator[Cluster]:
    """Start a scheduler and workers, and end them by their ids."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="smlmlp-dask-cluster-"))
        file = Path(folder, "scheduler.json")
        ports = ["--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0"]
        scheduler = ["scheduler", *ports, "--scheduler-file", file, "--no-dashboard"]
        worker = ["worker", "--scheduler-file", file, "--nthreads", threads, "--no-nanny"]
        worker += ["--host", "127.0.0.1", "--no-dashboard", "--local-directory", folder]
        worker += ["--memory-limit", "0"]
        started = [_start(stack, scheduler)]
        while not file.exists():
            if started[0].poll() is not None:
                sys.exit("the scheduler did not start")
            time.sleep(0.05)
        started += [_start(stack, worker) for _ in range(processes)]
        client = stack.enter_context(Client(scheduler_file=str(file), set_as_default=True))
        client.wait_for_workers(processes, timeout=120)
        yield Cluster(started[0], client)


def _start(stack: ExitStack, command: list[Any]) -> subprocess.Popen[bytes]:
    started = subprocess.Popen(
        [sys.executable, "-m", "dask", *map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([HERE, *sys.path]),
            "DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH": LOG_LENGTH,
        },
    )

    def end() -> None:
        started.terminate()
        try:
            started.wait(20)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()

    stack.callback(end)
    return started


# Blocks


class Sleep:
    """A block whose work is to sleep; its result is as large as a job's."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, task: Task) -> list[int]:
        if self.seconds:
            time.sleep(self.seconds)
        return [task.block.number]


def tasks(folder: Path, count: int) -> Iterator[Task]:
    """Describe the tasks of a movie of so many blocks, on files that need not exist."""
    frames = count * BLOCK_SHAPE[0]
    path = folder / "movie.zarr"
    if not path.exists():
        shape = (10**9, *BLOCK_SHAPE[1:])
        zarr.create_array(path, shape=shape, chunks=BLOCK_SHAPE, dtype="uint16")
    with warnings.catch_warnings(action="ignore"):  # its chunks have no files
        (stack,) = open_stacks(path, selection=Selection(frames=slice(frames)))
    target = ChunkFiles(folder / "out.zarr", BLOCK_SHAPE, Storage.checked("fast", None))
    steps = (SpatialMean((7.0, 7.0)),)
    plan = plan_blocks(stack.shape, 2, stack.unit, (9, 9))
    for block in plan.blocks():
        yield Task(0, stack.part(block.read), (target,), block, steps, BLOCK_SHAPE[0])


def job_seconds(count: int, work: Sleep) -> float:
    """Time a job of so many blocks on the active cluster; every block must be reported once."""
    reported = bytearray(count)

    def note(task: Task, result: list[int]) -> None:
        reported[task.block.number] += 1
        if result != [task.block.number]:
            raise RuntimeError(f"block {task.block.number} gave {result}")

    with tempfile.TemporaryDirectory(prefix="smlmlp-dask-cluster-") as folder:
        start = time.perf_counter()
        run_tasks(work, tasks(Path(folder), count), note, count=count)
        seconds = time.perf_counter() - start
    if reported != bytes([1]) * count:
        sys.exit(f"{reported.count(0)} of {count} blocks were not reported once")
    return seconds


def block_seconds(blocks: int = 32) -> float:
    """Measure what reading, filtering and writing a 16 MB block takes one thread, alone."""
    with (
        tempfile.TemporaryDirectory(prefix="smlmlp-dask-cluster-") as name,
        dask.config.set(scheduler="threads", num_workers=1),
    ):
        folder, frames = Path(name), BLOCK_SHAPE[0]
        movie = camera_movie(blocks * frames, BLOCK_SHAPE[1])
        job = partial(whole_job_seconds, write_zarr(folder / "movie.zarr", movie, frames), folder)
        return min(job(), job()) / blocks


# Tables


def measure_overhead(options: argparse.Namespace) -> None:
    """Time blocks without work, and look at the scheduler's memory."""
    seconds: dict[int, list[float]] = {count: [] for count in options.counts}
    peaks: dict[int, list[float]] = {count: [] for count in options.counts}
    for _ in range(options.rounds):
        for count in options.counts:
            with cluster(4, 1) as running:
                job_seconds(200, Sleep(0))
                seconds[count].append(1e3 * job_seconds(count, Sleep(0)) / count)
                peaks[count].append((running.scheduler_bytes() or 0) / 1e6)
    print("overhead: blocks without work, 4 workers of one thread, a new cluster each time,")
    print(f"{options.rounds} rounds in turns")
    rows = [
        [f"{count:,}", spread(seconds[count]), spread(peaks[count], 0)] for count in options.counts
    ]
    print_table(["blocks", "ms a block (range)", "scheduler's peak MB (range)"], rows)
    for name, measured in (("time a block", seconds), ("scheduler's memory", peaks)):
        middles = [median(values) for values in measured.values()]
        print(f"{name}, largest / smallest: {max(middles) / max(min(middles), 1e-9):.3f}")
    print(flush=True)


def measure_scaling(options: argparse.Namespace) -> None:
    """Time 16 MB blocks on more and more worker threads."""
    work = block_seconds()
    rows = []
    for threads in options.threads:
        processes = max(1, threads // 16)
        count = max(20, round(options.seconds * threads / work))
        with cluster(processes, threads // processes):
            job_seconds(10 * threads, Sleep(work))
            spent = [job_seconds(count, Sleep(work)) for _ in range(options.rounds)]
        efficiency = [100 * count * work / threads / seconds for seconds in spent]
        rate = [count / seconds for seconds in spent]
        rows.append([str(threads), f"{count:,}", spread(rate, 0), spread(efficiency, 1)])
    print(f"scaling: blocks of 16 MB, {1e3 * work:.0f} ms each, slept; up to 16 threads a worker,")
    print(f"{options.rounds} rounds")
    print_table(["threads", "blocks", "blocks/s (range)", "efficiency % (range)"], rows)


# Command line


def main() -> None:
    """Parse the command line, and run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    added = commands.add_parser("overhead", help=measure_overhead.__doc__)
    added.set_defaults(run=measure_overhead)
    added.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000, 100_000])
    added.add_argument("--rounds", type=int, default=3)
    added = commands.add_parser("scaling", help=measure_scaling.__doc__)
    added.set_defaults(run=measure_scaling)
    added.add_argument("--threads", type=int, nargs="+", default=[1, 4, 16, 64])
    added.add_argument("--seconds", type=float, default=10.0, help="of each job")
    added.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print_machine()
    options.run(options)


if __name__ == "__main__":
    # by its name: what is defined in __main__ goes to the workers by value, every time
    import cluster as this

    this.main()
