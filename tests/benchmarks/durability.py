"""What it costs that a finished store is on the disk: whole jobs with and without syncing.

    python tests/benchmarks/durability.py [--rounds 7] [--frames 4096] [--size 512] [--work DIR]

Whole processes from Zarr to Zarr, in turns: as the package is, and with each function of
`smlmlp_dask.store.durable` whose name begins with ``sync_`` made one that does nothing. Ratios are
taken within a turn. They are those of one disk: --work says of which.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from job import (
    CHUNK_FRAMES,
    WARM_FRAMES,
    Movie,
    our_command,
    print_machine,
    print_table,
    ratios,
    run_process,
    size_on_disk,
    spread,
    workplace,
    write_zarr,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

RUN = """
import inspect, runpy, sys
from smlmlp_dask.store import durable

def left_out(*_, **__):
    LEFT_OUT.append(1)
    return True

durable.LEFT_OUT = []
syncs = {name for name, _ in inspect.getmembers(durable, inspect.isfunction) if name[:5] == "sync_"}
missing = {"sync_file", "sync_folder"} - syncs
if missing:
    sys.exit(f"smlmlp_dask.store.durable has no {missing}: what is left out here is not all")
leave_out = sys.argv.pop(1) == "without"
for name in syncs if leave_out else ():
    getattr(durable, name).__code__ = left_out.__code__  # wherever it was imported to
try:
    runpy.run_module("smlmlp_dask", run_name="__main__")
finally:
    if leave_out and not durable.LEFT_OUT:
        sys.exit("nothing was synced that could have been left out")
"""
"""A job in a process of its own; its first argument is "with" or "without"."""


def seconds_of(source: Path, out: Path, syncing: str) -> tuple[float, int]:
    """Run a job, and delete what it wrote; return its seconds and the bytes."""
    arguments = our_command(source, out)[3:]  # without the interpreter and -m smlmlp_dask
    ended = run_process([sys.executable, "-c", RUN, syncing, *arguments])
    if ended.error:
        sys.exit(f"a run {syncing} syncing failed: {ended.error}")
    size = size_on_disk(out)
    shutil.rmtree(out)
    return ended.seconds, size


def compare(source: Path, out: Path, rounds: int) -> list[tuple[float, float]]:
    """Run both in turns, and print each turn; return the seconds with and without syncing."""
    turns, rows, size = [], [], 0
    for turn in range(rounds):
        synced, size = seconds_of(source, out, "with")
        unsynced, _ = seconds_of(source, out, "without")
        turns.append((synced, unsynced))
        rows.append([f"{turn}", f"{synced:.2f}", f"{unsynced:.2f}", f"{synced / unsynced:.3f}"])
    print_table(["turn", "with", "without", "ratio"], rows)
    print(f"{size / 1e6:.0f} MB were written by each")
    return turns


def tell(turns: Sequence[tuple[float, float]]) -> None:
    """Print what syncing costs."""
    synced, unsynced = zip(*turns, strict=True)
    each = ratios(synced, unsynced)
    print(f"seconds with syncing {spread(synced)}, without {spread(unsynced)}")
    print(f"a job with syncing takes {spread(each, 3)} times what it takes without")
    print(f"median: {100 * (median(each) - 1):+.1f} %")


def main() -> None:
    """Parse the command line, run jobs in turns, and tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--frames", type=int, default=4096)
    parser.add_argument("--size", type=int, default=512, help="height and width of a frame")
    parser.add_argument("--work", type=Path, help="where to read and write (default: temporary)")
    options = parser.parse_args()
    print_machine()
    with workplace(options.work) as folder:
        warm, source, out = (folder / name for name in ("few.zarr", "movie.zarr", "out.zarr"))
        chunks = (CHUNK_FRAMES, options.size, options.size)
        write_zarr(warm, Movie(WARM_FRAMES, options.size), chunks)
        write_zarr(source, Movie(options.frames, options.size), chunks)
        for syncing in ("with", "without"):  # imports are cached by then
            seconds_of(warm, out, syncing)
        turns = compare(source, out, options.rounds)
    tell(turns)


if __name__ == "__main__":
    main()
