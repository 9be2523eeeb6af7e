"""Cut the power of a run again and again, and see what is left of its store.

    python -m tests.benchmarks.power_loss [--losses 200] [--seed 0] [--after 10] [--work DIR]

Needs root and Linux, and runs from the checkout's folder. Each run writes into an ext4 file system
of its own, in a file, which is stopped at a random moment: half of them during the run, half up to
10 s after its end; half with the file system's journal flushed, half with it dropped. After each
loss the store must be unfinished, or finished and whole; after a quarter of them the run that goes
on loses power, too; and in the end it has the bytes of a run that nothing disturbed. Exits with 1
if anything is not as it should be.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.benchmarks.measuring import print_table
from tests.powerloss import FAILURES, FLAGS, PHASES, losses, tally, why_not

COLUMNS = ("losses", *FLAGS, "nothing", "unfinished", "finished", *FAILURES)


def rows(seen):
    """Yield a row a phase: its losses, what the stores said after them, and what was wrong."""
    for phase in (*PHASES, "in all"):
        some = [loss for loss in seen if phase in (loss.phase, "in all")]
        flags = Counter(loss.moment.flag for loss in some)
        states = Counter(loss.state for loss in some)
        counts = {"losses": len(some), **flags, **states, **tally(some)}
        yield [phase, *(str(counts.get(name, 0)) for name in COLUMNS)]


def main() -> None:
    """Parse the command line, lose power, and tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--losses", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--after", type=float, default=10.0, help="seconds after the end, at most")
    parser.add_argument("--work", type=Path, help="where to put file systems (default: temporary)")
    options = parser.parse_args()
    reason = why_not()
    if reason is not None:
        parser.error(reason)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # and unmount
    seen = []
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        rng = random.Random(options.seed)
        for number, loss in enumerate(losses(Path(folder), rng, options.losses, options.after)):
            seen.append(loss)
            for kind, what in loss.failures:
                said = " ".join(what.split())
                print(f"FAILED: loss {number} ({loss.phase}; {loss.moment}): {kind}: {said}")
            if number % 20 == 19:
                print(f"{number + 1} losses", flush=True)
    print_table(["", *COLUMNS], list(rows(seen)))
    lost = sum(loss.phase == "after the end" and loss.state != "finished" for loss in seen)
    print(f"finished before a loss, and not after it: {lost}")
    sys.exit(any(loss.failures for loss in seen))


if __name__ == "__main__":
    main()
