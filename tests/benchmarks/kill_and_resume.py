"""Kill jobs, and see whether what is left is good or known to be missing.

    python -m tests.benchmarks.kill_and_resume [--kills 60] [--seed 0] [--frames 960] [--work DIR]

Runs from the checkout's folder. It starts ``smlmlp-dask run --resume`` again and again and kills it
with SIGKILL at random moments: most are spread evenly over the time that a whole run takes, from
the start of Python to its end; some are when metadata are written, and when all blocks are done. A
store that is finished meanwhile is compared with one that nothing disturbed, and another is begun,
until so many kills have hit a living run.

Frames are real where `shared/data` stands beside the checkout, else simulated. Exits with 1 if
anything is not as it should be.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from smlmlp_dask.execution.workers import local_threads
from smlmlp_dask.store.chunk_files import chunk_path
from smlmlp_dask.store.journal import Journal
from smlmlp_dask.store.read import read_attributes
from tests.pipeline.test_faults import CHUNK, drafts, frames_of_a_camera, state, write_movie
from tests.stored import contents

Stamps: TypeAlias = dict[Path, tuple[int, int]]


def start(movie: Path, out: Path) -> subprocess.Popen[bytes]:
    """Begin a job, or resume one."""
    command = [sys.executable, "-m", "smlmlp_dask", "run", movie, "-o", out, "--resume"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def wait_for_a_moment(
    process: subprocess.Popen[bytes], out: Path, n_blocks: int, rng: random.Random, duration: float
) -> str:
    """Wait for some moment of a run, or for its end; return what kind of moment.

    Most moments are anywhere in its duration; but one in six is when metadata are written and one
    in six when all blocks are done, which take but milliseconds.
    """
    old = {*drafts(out)}
    conditions = {
        "metadata": lambda: bool({*drafts(out)} - old),
        "finishing": lambda: len(journalled(out)) == n_blocks,
    }
    aim = rng.choice(["metadata", "finishing", "any", "any", "any", "any"])
    if aim == "metadata" and out.exists():
        aim = "any"  # they are written already
    rest = rng.uniform(0, 1.1 * duration if aim == "any" else 0.03)
    if aim != "any":
        while process.poll() is None and not conditions[aim]():
            time.sleep(0.001)
    until = time.monotonic() + rest
    while process.poll() is None and time.monotonic() < until:
        time.sleep(0.001)
    return aim


@dataclass
class Tally:
    """What was seen so far.

    Attributes
    ----------
    kills : Counter
        How many runs were killed in which phase.
    drafts : int
        How many of them left metadata that were not written to the end.
    again : list of int
        For each kill: chunks that had been written, or begun, without being noted as done.
    whole : int
        Stores that were finished, and equal to the undisturbed one.
    failures : list of str
        What was wrong.
    """

    kills: Counter[str] = field(default_factory=Counter)
    drafts: int = 0
    again: list[int] = field(default_factory=list)
    whole: int = 0
    failures: list[str] = field(default_factory=list)


def phase_of(out: Path, n_blocks: int) -> str:
    """Say how far a run was when it was killed."""
    if not out.exists():
        return "before the store existed"
    if read_attributes(out)["finished"]:
        return "after the last step"
    done = len(journalled(out))
    if done == n_blocks:
        return "finishing"
    return "between blocks" if done else "before the first block was done"


def journalled(out: Path) -> set[Path]:
    """Return the chunk files of the blocks that are noted as done."""
    done = Journal.read(out / "records/journal").done
    return {chunk_path(out / "channel_0/0", (number, 0, 0)) for _, number in done}


def kill_and_resume(options: argparse.Namespace, folder: Path) -> list[str]:
    """Kill as often as asked; return what was wrong."""
    rng = random.Random(options.seed)
    pixels = frames_of_a_camera(options.frames, 512)
    movie = write_movie(folder / "movie.zarr", pixels, CHUNK)
    n_blocks = -(-options.frames // CHUNK)
    undisturbed, out = folder / "undisturbed.zarr", folder / "out.zarr"
    began = time.perf_counter()
    start(movie, undisturbed).communicate()
    duration = time.perf_counter() - began
    print(
        f"{options.frames} frames, {n_blocks} blocks, {local_threads()} threads: {duration:.1f} s"
    )
    wanted = contents(undisturbed)

    tally = Tally()
    there: Stamps = {}  # when a run was killed last
    kept: Stamps = {}  # of them, what was done

    def check_kept(now: Stamps) -> None:
        if lost := kept.items() - now.items():
            tally.failures.append(f"{len(lost)} blocks that were done were computed again")

    def check_whole() -> None:
        check_kept(state(out))
        if contents(out) == wanted:
            tally.whole += 1
        else:
            tally.failures.append("a finished store differs from the undisturbed one")
        shutil.rmtree(out)

    def go_on_to_the_end() -> None:
        nonlocal there, kept
        process = start(movie, out)
        _, said = process.communicate()
        if process.returncode:
            tally.failures.append(f"exit code {process.returncode}: {said.decode()}")
        else:
            check_whole()
        there, kept = {}, {}

    while tally.kills.total() < options.kills and not tally.failures:
        process = start(movie, out)
        aim = wait_for_a_moment(process, out, n_blocks, rng, duration)
        process.kill()
        process.communicate()
        if process.returncode != -signal.SIGKILL:
            if process.returncode:
                tally.failures.append(f"a run ended by itself with {process.returncode}")
            go_on_to_the_end()
            continue
        tally.kills[phase_of(out, n_blocks)] += 1
        before, there = there, state(out / "channel_0/0/c")
        check_kept(there)
        tally.drafts += aim == "metadata" and not out.exists()
        if out.exists() and read_attributes(out)["finished"]:
            kept = there
            go_on_to_the_end()
            continue
        done = journalled(out)
        kept = {path: stamp for path, stamp in there.items() if path in done}
        # one file may be there under two names: as it was, and as it is being written
        new = {path.parent for path in there.keys() - done if there[path] != before.get(path)}
        tally.again.append(len(new))
        if len(new) > local_threads():
            tally.failures.append(f"{len(new)} blocks computed again, {local_threads()} in flight")
    if not tally.failures:
        go_on_to_the_end()

    for phase, count in tally.kills.most_common():
        print(f"killed {phase}: {count}")
    print(f"killed in all: {tally.kills.total()}, {tally.drafts} while metadata were written")
    print(
        f"blocks computed again: {sum(tally.again)} in all, at most {max(tally.again, default=0)} "
        f"after a kill; {local_threads()} were in flight"
    )
    print(f"finished stores with the bytes of the undisturbed one, in every file: {tally.whole}")
    return tally.failures


def main() -> None:
    """Parse the command line, and run what it asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--frames", type=int, default=960)
    parser.add_argument("--work", type=Path, help="where to put movies (default: temporary)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        failures = kill_and_resume(options, Path(folder))
    for failure in failures:
        print(f"FAILED: {failure}")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
