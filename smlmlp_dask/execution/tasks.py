"""Run many independent tasks under whatever Dask scheduler is active, and tell as they end."""

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
"""Tasks submitted at a time: bounds the graph, however long the movie; a worker that waits at the
end of a region loses half a task in that many."""

BLOCKS_PER_TASK = 64
"""Of a large cluster: even 1000 threads then ask for a new task but every other millisecond."""

MOST_TASKS = 10_000
"""Tasks of a job on a cluster, about, at most: of each, its scheduler keeps the name."""


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
        Called with one argument; must pickle where the scheduler has other processes.
    arguments : iterable
        Taken as they are needed.
    on_done : callable
        Called in this process with each argument, and what the function returned for it, as soon
        as that task has ended.
    count : int
        How many arguments there are, if that is known: on a large cluster, one task then calls the
        function for several of them, but for ever fewer towards the end.
    side_by_side : int, optional
        Tasks that may run at a time where they run on threads of ours.

    Raises
    ------
    Exception
        The first that a task raised; tasks that did not start by then never do, and none runs any
        longer.
    """
    remaining = iter(arguments)
    client = active_client()
    if client is not None:
        groups = _groups(remaining, count, active_workers().threads)

        def tell(group: _Group[T], ended: _Ended[R]) -> None:
            for argument, result in zip(group.arguments, ended.results, strict=False):
                on_done(argument, result)
            if ended.error is not None:
                raise ended.error

        run_on_cluster(client, partial(_call_each, function), groups, tell)
        return
    while region := list(islice(remaining, REGION_TASKS)):
        _run_region(function, region, on_done, side_by_side)


def blocks_per_task(threads: int, count: int) -> int:
    """Return how many of `count` blocks a task takes at most, on a cluster of so many threads.

    The scheduler and the client spend a millisecond on a task. If each block were one, many threads
    would wait for them: so a task has as many blocks as there are threads, within limits.
    """
    most = max(min(threads, BLOCKS_PER_TASK), -(-count // MOST_TASKS))
    return min(most, _half_share(threads, count))


def _half_share(threads: int, count: int) -> int:
    """Return half of what is each thread's share of `count` blocks, but at least one."""
    return max(1, count // (2 * threads))


@dataclass(frozen=True)
class _Ended(Generic[R]):
    """What a function returned for the arguments of a group, up to an error."""

    results: list[R]
    error: Exception | None = None


def _call_each(function: Callable[[T], R], group: "_Group[T]") -> _Ended[R]:
    results: list[R] = []
    try:
        for argument in group.arguments:
            results.append(function(argument))  # noqa: PERF401 - those before an error count
    except Exception as error:
        if not results:
            raise
        return _Ended(results, error)
    return _Ended(results)


@dataclass(frozen=True)
class _Group(Generic[T]):
    """Arguments of one task, named as such in messages.

    No list: Dask would look into that, and send each argument by itself.
    """

    arguments: tuple[T, ...]

    def __str__(self) -> str:
        if len(self.arguments) > 4:
            first, last = self.arguments[0], self.arguments[-1]
            return f"{len(self.arguments)} blocks from {first} to {last}"
        return ", ".join(map(str, self.arguments))


def _groups(arguments: Iterator[T], count: int, threads: int) -> Iterator[_Group[T]]:
    """Go through the arguments in groups, small ones in the end: all threads end at once."""
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
    # what is ready from the last name to the first: so neighbours in the movie are read in turn.
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

    with Callback(posttask=after), _threads(side_by_side) as pool:
        compute(*tasks, optimize_graph=False, **pool)


@contextmanager
def _threads(side_by_side: int | None) -> Iterator[dict[str, Any]]:
    """Give Dask's threaded scheduler threads that have ended, too, when the ``with`` block has.

    Dask raises as soon as one task fails, or Ctrl-C is pressed, while others still write.
    """
    if not runs_own_threads():
        yield {}
        return
    with ThreadPoolExecutor(side_by_side or local_threads()) as pool:
        # To find out by itself, Dask would import distributed, which takes a sixth of a second.
        yield {"scheduler": threaded_get, "pool": pool}
