"""A job on a cluster: a sliding window of submitted tasks, while workers come and go."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from time import monotonic, sleep
from typing import Any, TypeVar
from uuid import uuid4

from .workers import no_workers_seconds

T = TypeVar("T")
R = TypeVar("R")

TASKS_PER_THREAD = 4
"""Submitted tasks for each thread of the workers: one runs, the others wait their turn."""

AHEAD_SECONDS = 15.0
"""Smallest backlog, in seconds of work: adaptive clusters scale on it."""

MOST_AHEAD = 250
"""Most tasks submitted for that backlog: many short ones would fill the scheduler's memory."""

REFILLS = 4
"""The window is refilled once a quarter of it is done: every refill costs a message."""

POLL_SECONDS = 0.005
"""Seconds between two checks for finished tasks."""

LOOK_SECONDS = 0.25
"""Seconds between two counts of the workers."""

IDLE_SECONDS = 60.0
"""Longest wait for cancelled tasks to end; each may be in the middle of a block."""

MOST_TRIALS = 4
"""Most times that we submit a task. Each time, Dask gives up once four workers died with it."""


@dataclass
class _Submitted:
    """A submitted task whose result has not come back."""

    argument: Any
    future: Any
    order: int
    trial: int


class _Window:
    """How many tasks to keep submitted: no worker waits, and the scheduler's memory stays small."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.done = 0
        self._looked, self._done_then, self._rate = monotonic(), 0, 0.0
        self._threads = self._count()
        self._seen = self._looked

    def _count(self) -> int:
        return int(self.client.scheduler_info(n_workers=0)["total_threads"])

    def look(self) -> None:
        """Count the workers, and measure the rate, if the last count is not recent."""
        now = monotonic()
        if (passed := now - self._looked) < LOOK_SECONDS:
            return
        self._rate = (self.done - self._done_then) / passed
        self._looked, self._done_then = now, self.done
        self._threads = self._count()
        if self._threads:
            self._seen = now
        elif now - self._seen > (limit := no_workers_seconds()):
            raise RuntimeError(
                f"the scheduler {self.client.scheduler.address} lost its last worker {limit:g} s "
                "ago: start some, and resume with resume=True (--resume)"
            )

    def size(self) -> int:
        """Return how many tasks to keep submitted."""
        ahead = min(MOST_AHEAD, int(AHEAD_SECONDS * self._rate))
        return max(TASKS_PER_THREAD * max(1, self._threads), ahead)


def run_on_cluster(
    client: Any,
    function: Callable[[T], R],
    arguments: Iterator[T],
    on_done: Callable[[T, R], None],
) -> None:
    """Call a function for each argument on a cluster's workers; see `tasks.run_tasks`.

    Enough tasks are submitted that no worker waits, even one that joins later. Their number is
    bounded, however long the movie. A lost worker costs only its own tasks.

    Raises
    ------
    RuntimeError
        If the scheduler is lost, or a task has cost too many workers.
    Exception
        The first that a task raised. No task still runs.
    """
    from distributed import CancelledError, KilledWorker, as_completed
    from distributed.protocol import pickle

    token = f"block-{uuid4().hex[:8]}"
    numbers = count()
    submitted: dict[Any, _Submitted] = {}
    window = _Window(client)

    def submit(several: Sequence[tuple[T, int]], trial: int = 1) -> list[Any]:
        # Keys of one group: the scheduler then holds back tasks that cannot run yet, and a lost
        # worker takes few of them along. Many tasks a call, and their work as bytes: the scheduler
        # notes every call and the last messages to each worker, and would unpack and keep their
        # contents.
        if not several:
            return []
        keys = [(token, next(numbers)) for _ in several]
        work = [zlib.compress(pickle.dumps((function, argument)), 1) for argument, _ in several]
        futures: list[Any] = client.map(_call, work, key=keys, priority=-several[0][1])
        for key, future, (argument, order) in zip(keys, futures, several, strict=True):
            submitted[key] = _Submitted(argument, future, order, trial)
        return futures

    def more() -> list[Any]:
        size = window.size()
        missing = size - len(submitted)
        return submit(list(islice(ordered, missing))) if missing >= size / REFILLS else []

    def finished(future: Any, result: Any) -> None:
        if isinstance(result, CancelledError):  # Dask hands it over as a result
            raise result
        task = submitted[future.key]
        if future.status != "error":
            del submitted[future.key]
            window.done += 1
            on_done(task.argument, result)
            return
        error = result[1]
        if not isinstance(error, KilledWorker):
            raise error.with_traceback(result[2])
        if task.trial == MOST_TRIALS:
            deaths = MOST_TRIALS * (error.allowed_failures + 1)
            # A worker holds several tasks, so any task on its last trial may be the culprit.
            suspects = [other for other in submitted.values() if other.trial == MOST_TRIALS]
            suspects.sort(key=lambda suspect: suspect.order)
            had = " or ".join(str(suspect.argument) for suspect in suspects)
            raise RuntimeError(
                f"{deaths} workers died while they had {had}, the last one "
                f"{error.last_worker.address}: give them more memory, or look into their logs"
            ) from error
        del submitted[future.key]
        completed.update(submit([(task.argument, task.order)], task.trial + 1))

    ordered = zip(arguments, count(), strict=False)
    try:
        completed = as_completed(more(), loop=client.loop, with_results=True, raise_errors=False)
        while submitted:
            batch = completed.next_batch(block=False)
            window.look()
            if not batch:
                sleep(POLL_SECONDS)
            for future, result in batch:
                finished(future, result)
            completed.update(more())
    except Exception as error:
        if client.status == "running" and not isinstance(error, CancelledError):
            raise
        raise RuntimeError(
            "the Dask cluster was lost: its scheduler has ended, or dropped the blocks under way; "
            "start it again, and resume with resume=True (--resume)"
        ) from error
    finally:
        if submitted and client.status == "running":
            client.cancel([task.future for task in submitted.values()])
            _wait_until_idle(client, token)


def packed_bytes(argument: Any) -> int:
    """Return how many bytes an argument of a task takes to be sent, before it is compressed."""
    from distributed.protocol import pickle

    return len(pickle.dumps(argument))


def _call(work: bytes) -> Any:
    """Call a function with its argument, both pickled together and compressed."""
    from distributed.protocol import pickle

    function, argument = pickle.loads(zlib.decompress(work))
    return function(argument)


def _wait_until_idle(client: Any, token: str) -> None:
    """Wait until no worker runs a cancelled task: it might write into what we remove next."""
    until = monotonic() + IDLE_SECONDS
    while client.status == "running" and monotonic() < until:
        assigned = (key for keys in client.processing().values() for key in keys)
        if not any(_is_of(token, key) for key in assigned):
            held = client.run(_holds, token, on_error="ignore")
            if not any(held.values()):
                return
        sleep(0.05)


def _holds(token: str, dask_worker: Any = None) -> bool:
    """Say whether this worker runs tasks of a job, or is about to."""
    return any(
        _is_of(token, task.key) and task.state not in ("released", "memory", "error")
        for task in list(dask_worker.state.tasks.values())
    )


def _is_of(token: str, key: Any) -> bool:
    return isinstance(key, tuple) and key[0] == token
