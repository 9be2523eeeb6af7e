"""Damage a finished store again and again: is all of it named, and all of it repaired?

    python -m tests.benchmarks.damage [--damages 300] [--seed 0] [--work DIR]

Runs from the checkout's folder. Flips bits, cuts files short, overwrites and appends bytes, and
deletes files: chunks, records and every zarr.json, one at a time and, once in a while, three.
``verify`` must name each with a remedy; ``run --resume`` and ``verify --repair`` must each end
with the bytes of the undisturbed store; where the source is gone, both must say so and change
nothing. Exits with 1 if anything is not as it should be.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.benchmarks.measuring import print_table
from tests.damaging import CHECKS, KINDS, TARGETS, make_store, target_of

SEVERAL = 0.1
"""Share of stores with three damages."""


def draw(whole, rng):
    """Draw the damages of one store: names of different files, and kinds."""
    chosen = {}
    targets = [target for target in TARGETS if whole.names(target)]
    for _ in range(3 if rng.random() < SEVERAL else 1):
        chosen[rng.choice(whole.names(rng.choice(targets)))] = rng.choice([*KINDS])
    return list(chosen.items())


def rows(seen, wrong):
    """Yield a row for each kind and target: how many, and in how many each check failed."""
    for title, keys in [*((", ".join(key), [key]) for key in sorted(seen)), ("in all", seen)]:
        yield [
            title,
            *(str(sum(counts[key] for key in keys)) for counts in (seen, *wrong.values())),
        ]


def main() -> None:
    """Parse the command line, damage stores, and tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--damages", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="where to put stores (default: temporary)")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    seen: Counter[tuple[str, str]] = Counter()
    wrong: dict[str, Counter[tuple[str, str]]] = {check: Counter() for check in CHECKS}
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        whole = make_store(Path(work))
        while seen.total() < options.damages:
            harms = draw(whole, rng)
            keys = [(target_of(name), kind) for name, kind in harms]
            seen.update(keys)
            same = rng.getrandbits(64)
            for check, function in CHECKS.items():
                with tempfile.TemporaryDirectory(dir=options.work) as folder:
                    copy = whole.copy(Path(folder), harms, random.Random(same))
                    failures = function(whole, copy, harms)
                if failures:
                    wrong[check].update(keys)
                for failure in failures:
                    print(f"FAILED: {harms}: {check}: {failure}", flush=True)
    print_table(["", "damages", *(f"not {check}" for check in CHECKS)], list(rows(seen, wrong)))
    sys.exit(any(wrong.values()))


if __name__ == "__main__":
    main()
