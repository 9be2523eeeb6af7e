"""Run many independent tasks on the active Dask scheduler, and report each as it ends."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Generic, TypeVar
from uuid import uuid4

from dask.base import compute
from dask.callbacks import Callback
from dask.delayed import delayed
from dask.threaded import get as threaded_get

from .window import run_on_cluster
from .workers import active_client, active_workers, local_threads, runs_own_threads

T = TypeVar("T")
R = TypeVar("R")

REGION_TASKS = 256
"""Tasks in one graph on this machine: it stays small, however long the movie. At the end of each
region, a worker waits for half a task on average."""

BLOCKS_PER_TASK = 64
"""Most blocks in one task, for load's sake: 1000 threads then ask for a task every 2 ms or so."""

MOST_TASKS = 10_000
"""Rough upper limit of a job's tasks on a cluster: the scheduler keeps the name of each."""


def run_tasks(
    function: Callable[[T], R],
    arguments: Iterable[T],
    on_done: Callable[[T, R], None],
    *,
    count: int = 0,
    side_by_side: int | None = None,
) -> None:
    """Call a function for each argument, as Dask tasks.

    Parameters
    ----------
    function : callable
        Called with one argument; must pickle if tasks run in other processes.
    arguments : iterable
        Consumed as needed.
    on_done : callable
        Called in this process with each argument and its result, as soon as the task has ended.
    count : int
        Number of arguments, if known. On a large cluster, one task then calls the function for
        several of them, and for fewer towards the end.
    side_by_side : int, optional
        Tasks that run at a time, if they run on our own threads.

    Raises
    ------
    Exception
        The first that a task raised. No further task starts, and none still runs.
    """
    remaining = iter(arguments)
    client = active_client()
    if client is not None:
        groups = _groups(remaining, count, active_workers().threads)

        def report(group: _Group[T], ended: _Ended[R]) -> None:
            for argument, result in zip(group.arguments, ended.results, strict=False):
                on_done(argument, result)
            if ended.error is not None:
                raise ended.error

        run_on_cluster(client, partial(_call_each, function), groups, report)
        return
    while region := list(islice(remaining, REGION_TASKS)):
        _run_region(function, region, on_done, side_by_side)


def blocks_per_task(threads: int, count: int) -> int:
    """Return the most blocks, of `count`, that one task on a cluster takes.

    Scheduler and client spend a millisecond on a task. With one block a task, many threads would
    wait for them; so a task has as many blocks as the cluster has threads, within limits.
    """
    most = max(min(threads, BLOCKS_PER_TASK), -(-count // MOST_TASKS))
    return min(most, _half_share(threads, count))


def _half_share(threads: int, count: int) -> int:
    """Return half of each thread's share of `count` blocks, but at least one."""
    return max(1, count // (2 * threads))


@dataclass(frozen=True)
class _Ended(Generic[R]):
    """Results for the arguments of a group until the first error, and that error."""

    results: list[R]
    error: Exception | None = None


def _call_each(function: Callable[[T], R], group: "_Group[T]") -> _Ended[R]:
    results: list[R] = []
    try:
        for argument in group.arguments:
            results.append(function(argument))  # noqa: PERF401 - keeps results before an error
    except Exception as error:
        if not results:
            raise
        return _Ended(results, error)
    return _Ended(results)


@dataclass(frozen=True)
class _Group(Generic[T]):
    """Arguments of one task, and their name in messages.

    Not a list: Dask would unpack it and send each argument separately.
    """

    arguments: tuple[T, ...]

    def __str__(self) -> str:
        if len(self.arguments) > 4:
            first, last = self.arguments[0], self.arguments[-1]
            return f"{len(self.arguments)} blocks from {first} to {last}"
        return ", ".join(map(str, self.arguments))


def _groups(arguments: Iterator[T], count: int, threads: int) -> Iterator[_Group[T]]:
    """Yield the arguments in groups, smaller towards the end so that all threads end together."""
    most = blocks_per_task(threads, count)
    while group := tuple(islice(arguments, min(most, _half_share(threads, count)))):
        count -= len(group)
        yield _Group(group)


def _run_region(
    function: Callable[[T], R],
    region: list[T],
    on_done: Callable[[T, R], None],
    side_by_side: int | None,
) -> None:
    # A partial hides the argument from Dask, which would search it for collections. Dask runs
    # ready tasks from the last name to the first: reversed names keep the order of the movie.
    token = uuid4().hex
    names = [f"block-{token}-{number:06}" for number in reversed(range(len(region)))]
    tasks = [
        delayed(partial(function, argument), traverse=False)(dask_key_name=name)
        for argument, name in zip(region, names, strict=True)
    ]
    arguments = dict(zip(names, region, strict=True))

    def after(key: Any, result: R, *_: Any) -> None:
        if key in arguments:
            on_done(arguments[key], result)

    # Given to this call: the active ones are those of the process, and while another thread
    # computes anything, Dask takes them from us.
    callbacks = [*Callback.active, (None, None, None, after, None)]  # the fourth is posttask
    with _threads(side_by_side) as pool:
        compute(*tasks, optimize_graph=False, callbacks=callbacks, **pool)


@contextmanager
def _threads(side_by_side: int | None) -> Iterator[dict[str, Any]]:
    """Give Dask's threaded scheduler our own threads, and wait for them when the block ends.

    Dask raises as soon as one task fails or Ctrl-C is pressed, while other tasks still write.
    """
    if not runs_own_threads():
        yield {}
        return
    with ThreadPoolExecutor(side_by_side or local_threads()) as pool:
        # Naming the scheduler saves Dask the import of distributed, a sixth of a second.
        yield {"scheduler": threaded_get, "pool": pool}
