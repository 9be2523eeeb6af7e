"""Count expressions of two and three lazy stacks that are wrong.

    python tests/benchmarks/algebra.py [--alike] [--every 1] [--triples 3000] [--seed 14]

All pairs of the kinds of `tests/handed_out.py` are computed in one thread, on threads, on
processes and on a client's workers; and in one thread in every way: not optimized, optimized
before, persisted, pickled ... Each pair meets one operation after the other. Triples are drawn at
random. `--alike` takes only the pairs that Dask might confuse, of equal chunks and read in one
way; `--every 5` takes a fifth of the pairs. It needs the package with the extra test;
`PYTHONPATH=elsewhere python ...` tries the package that is elsewhere.

Prints how many expressions there were and how many were wrong; ends with 1 if any was.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from itertools import combinations_with_replacement, cycle, islice
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
from dask.distributed import Client, LocalCluster

import smlmlp_dask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ROOT = Path(__file__).parents[2]
WORKERS = 2
AT_ONCE = 200


def tests_room(name: str) -> Any:
    """Import a module of these tests, whichever package is tested: ours need not be on the path."""
    sys.path.insert(0, str(ROOT))
    try:
        return import_module(f"tests.{name}")
    finally:
        sys.path.remove(str(ROOT))  # worker processes would find another package there


@contextmanager
def on_threads() -> Iterator[None]:
    with dask.config.set(scheduler="threads"):
        yield


@contextmanager
def on_processes() -> Iterator[None]:
    with (
        ProcessPoolExecutor(WORKERS, get_context("spawn")) as pool,
        dask.config.set(scheduler="processes", pool=pool),
    ):
        yield


@contextmanager
def on_a_client() -> Iterator[None]:
    with (
        LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            host="tcp://127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster),
    ):
        yield


@contextmanager
def in_one_thread() -> Iterator[None]:
    with dask.config.set(scheduler="sync"):
        yield


class Count:
    """Expressions, and those that were wrong, in groups."""

    def __init__(self, handed_out: Any) -> None:
        self.handed_out = handed_out
        self.made: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self.shown: list[str] = []

    def add(
        self, group: str, place: Callable[[], Any], cases: Iterable[tuple[Any, ...]], **options: Any
    ) -> None:
        """Compute each (operation's name, operation, stacks, way); print how many are wrong."""
        cases = iter(cases)
        with place():
            while several := list(islice(cases, AT_ONCE)):
                for case, result in zip(several, self.results(several, options), strict=True):
                    self.note(group, case, result)
        print(f"{group:<30} {self.made[group]:>7,} {self.wrong[group]:>7,}", flush=True)

    def results(self, cases: list[tuple[Any, ...]], options: dict[str, Any]) -> Iterator[Any]:
        """Yield results or errors; each expression is a graph of its own, as in a user's code."""
        for _, operation, stacks, way in cases:
            try:
                yield self.handed_out.compute(operation, stacks, way, **options)
            except Exception as error:
                yield error

    def note(self, group: str, case: tuple[Any, ...], result: Any) -> None:
        name, operation, stacks, _ = case
        self.made[group] += 1
        if isinstance(result, Exception):
            found = f"{type(result).__name__}: {result}"[:100]
        else:
            found = self.handed_out.fault(result, operation, stacks)
        if found:
            self.wrong[group] += 1
            if len(self.shown) < 10:
                self.shown.append(f"{name}: {' | '.join(map(str, stacks))}: {found}")


def main(arguments: list[str] | None = None) -> int:
    """Run the program; see the module's text."""
    parser = argparse.ArgumentParser(description="Count expressions of lazy stacks that are wrong.")
    parser.add_argument("--alike", action="store_true", help="only pairs that Dask may confuse")
    parser.add_argument("--every", type=int, default=1, help="take every n-th pair")
    parser.add_argument("--triples", type=int, default=3000, help="at random")
    parser.add_argument("--seed", type=int, default=14, help="of the triples")
    asked = parser.parse_args(arguments)

    handed_out = tests_room("handed_out")
    count = Count(handed_out)
    rng = np.random.default_rng(asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        stacks = handed_out.every_kind(Path(folder))
        groups = handed_out.alike(stacks) if asked.alike else [stacks]
        pairs = [pair for group in groups for pair in combinations_with_replacement(group, 2)]
        pairs = pairs[:: asked.every]
        print(f"{len(stacks)} kinds of stacks, {len(pairs):,} pairs, of {smlmlp_dask.__path__[0]}")
        print(f"\n{'':<30} {'made':>7} {'wrong':>7}")
        # goes on from one group to the next, so that a pair meets all operations in the end
        operations = cycle(handed_out.PAIRS.items())

        def in_turns(way: str = "as it is") -> Iterator[tuple[Any, ...]]:
            for pair in pairs:
                yield *next(operations), pair, way
            if len(pairs) % len(handed_out.PAIRS) == 0:
                next(operations)

        for place in (in_one_thread, on_threads, on_processes, on_a_client):
            count.add(place.__name__.replace("_", " "), place, in_turns())
        count.add("not optimized", in_one_thread, in_turns(), optimize_graph=False)
        for way in list(handed_out.WAYS)[1:]:
            count.add(way, in_one_thread, in_turns(way))
        for name, operation in handed_out.TRIPLES.items() if asked.triples else ():
            drawn = (rng.choice(len(stacks), 3) for _ in range(asked.triples // 3))
            cases = ((name, operation, [stacks[i] for i in d], "as it is") for d in drawn)
            count.add(f"{name} of three", in_one_thread, cases)
    made, wrong = count.made.total(), count.wrong.total()
    print(f"\n{made:,} expressions, {wrong:,} wrong")
    print(*count.shown, sep="\n")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
