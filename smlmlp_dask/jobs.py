"""Run many independent tasks under whatever Dask scheduler is active, and tell as they end."""

from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from dask.base import compute
from dask.callbacks import Callback
from dask.delayed import delayed

T = TypeVar("T")

REGION_TASKS = 256
"""Tasks submitted at a time: bounds the graph, however long the movie; a worker that waits at the
end of a region loses half a task in that many."""


def run_tasks(
    function: Callable[[T], None], arguments: Iterable[T], on_done: Callable[[T], None]
) -> None:
    """Call a function for each argument, as Dask tasks.

    Parameters
    ----------
    function : callable
        Called with one argument; must pickle where the scheduler has other processes.
    arguments : iterable
        Taken as they are needed.
    on_done : callable
        Called in this process with each argument whose task has ended.

    Raises
    ------
    Exception
        The first that a task raised; tasks that did not start by then never do.
    """
    remaining = iter(arguments)
    while region := list(islice(remaining, REGION_TASKS)):
        _run_region(function, region, on_done)


def _run_region(
    function: Callable[[T], None], region: list[T], on_done: Callable[[T], None]
) -> None:
    # A partial hides the argument from Dask, which would search it for collections.
    tasks = [delayed(partial(function, arg), pure=False, traverse=False)() for arg in region]
    waiting = {task.key: argument for task, argument in zip(tasks, region, strict=True)}

    def after(key: Any, *_: Any) -> None:
        if key in waiting:
            on_done(waiting.pop(key))

    with Callback(posttask=after):
        compute(*tasks, optimize_graph=False)
    # Only Dask's local schedulers call back; for the others the region ends as a whole.
    for argument in waiting.values():
        on_done(argument)
