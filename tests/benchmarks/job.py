"""Time whole jobs, path to path: against what users run today, and against the machine's floor.

    python tests/benchmarks/job.py peers|chain|floor|syncing|outputs [options]

- peers: whole processes from Zarr to Zarr, ours and every peer of `peers.py`;
- chain: the same with the median over 51 frames first; `smlmlp` keeps its result in memory;
- floor: a job against reading and decoding its input plus encoding and writing its output;
- syncing: whole processes as they are, and without waiting for the disk;
- outputs: jobs that store signal, SNR or mean against one that stores the background alone.

The last column is the time divided by that of the first row, turn by turn. Needs the package
installed; makes its own movies of 512 x 512 in a temporary folder and deletes them. Reads come from
the page cache where a movie fits it. To use two cores of many: `taskset -c 0,1 python ...`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import zarr
from measuring import (
    camera_movie,
    in_turns,
    job_seconds,
    our_command,
    print_machine,
    print_table,
    ratios,
    run_process,
    settle,
    size_on_disk,
    spread,
    timed,
    workplace,
    write_zarr,
)
from peers import PACKAGES, PEERS

from smlmlp_dask import run_background, run_spatial_mean
from smlmlp_dask.execution.workers import local_threads
from smlmlp_dask.movies.formats.zarr_movie import bulk_codecs
from smlmlp_dask.result import open_backgrounds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SIZE = 512
WARM_FRAMES = 64
PROGRAM = Path(__file__).with_name("peers.py")


def print_turns(
    seconds: dict[str, list[float]], known: Mapping[str, Mapping[str, str]] = MappingProxyType({})
) -> None:
    """Print the seconds of all, what else is known of each, and the ratios to the first."""
    first, *_ = seconds.values()
    rows = []
    for name, spent in seconds.items():
        others = [cells.get(name, "") for cells in known.values()]
        rows.append([name, spread(spent), *others, spread(ratios(spent, first))])
    print_table(["", "seconds (range)", *known, "time / first's (range)"], rows)


def processes_in_turns(
    commands: dict[str, list[Any]], out: Path, rounds: int
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Run commands in turns; return their seconds, and the bytes that each wrote to `out`."""
    sizes = {}

    def run(name: str) -> float:
        done = run_process(commands[name])
        if done.error:
            sys.exit(f"{name} failed: {done.error}")
        sizes[name] = size_on_disk(out)
        shutil.rmtree(out, ignore_errors=True)
        return done.seconds

    return in_turns({name: partial(run, name) for name in commands}, rounds), sizes


def shares(sizes: dict[str, int]) -> dict[str, str]:
    """Divide by the first."""
    first, *_ = sizes.values()
    return {name: f"{size / first:.2f}" for name, size in sizes.items()}


# peers, chain


def interpreter(options: argparse.Namespace, folder: Path) -> str:
    """Return the Python that runs the peers: the given one, or one of a new environment."""
    if options.python:
        return str(options.python)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(folder / ("Scripts" if os.name == "nt" else "bin") / "python")
    packages = [name for name, since in PACKAGES.items() if sys.version_info >= since]
    subprocess.run([python, "-m", "pip", "install", "-qq", *packages], check=True)
    return python


def compare_peers(options: argparse.Namespace) -> None:
    """Time whole processes from Zarr to Zarr, the peers and ours."""
    with workplace(options.work) as folder:
        python = interpreter(options, folder / "venv")
        few = write_zarr(folder / "few.zarr", camera_movie(WARM_FRAMES, SIZE))
        source = write_zarr(folder / "movie.zarr", camera_movie(options.frames, SIZE))
        run_spatial_mean(few, folder / "ours.zarr")
        ours = open_backgrounds(folder / "ours.zarr").bkgds[0].compute()
        out = folder / "out.zarr"
        commands = {"smlmlp-dask": our_command(source, out, "--codec", options.codec)}
        differs = {}
        for name in PEERS:
            result = folder / f"{name}.zarr"
            if error := run_process([python, PROGRAM, name, few, result]).error:
                print(f"{name} is left out: {error}")
                continue
            differs[name] = f"{abs(zarr.open_array(result, mode='r')[:] - ours).max():.2g}"
            commands[name] = [python, PROGRAM, name, source, out]
        seconds, sizes = processes_in_turns(commands, out, options.rounds)
    print(f"peers: radius 7, {options.frames} frames, codec {options.codec}")
    print_turns(seconds, {"disk": shares(sizes), "differs by": differs})


def compare_chain(options: argparse.Namespace) -> None:
    """Time whole processes of median and mean, from Zarr; smlmlp writes nothing."""
    with workplace(options.work) as folder:
        python = interpreter(options, folder / "venv")
        source = write_zarr(folder / "movie.zarr", camera_movie(options.frames, SIZE))
        out = folder / "out.zarr"
        ours = our_command(source, out, "--step", "median:25", "--step", "mean:7")
        commands = {
            "background": ours,
            "signal, uint16": [*ours, "--write", "signal", "--pedestal", "200"],
            "smlmlp": [python, PROGRAM, "smlmlp-chain", source, out],
        }
        seconds, _ = processes_in_turns(commands, out, options.rounds)
    print(f"chain: median over 51 frames, then radius 7, {options.frames} frames")
    print_turns(seconds)


# floor


def chunk_by_chunk(array: zarr.Array, work: Callable[[slice], Any]) -> None:
    """Do the work of each chunk of an array, on as many threads as a job has."""
    step = array.chunks[0]
    parts = [slice(start, start + step) for start in range(0, array.shape[0], step)]
    with ThreadPoolExecutor(local_threads()) as pool:
        list(pool.map(work, parts))


def compare_floor(options: argparse.Namespace) -> None:
    """Time a job against reading its input and writing its output, which it cannot do without."""
    with workplace(options.work) as folder:
        source = write_zarr(folder / "movie.zarr", camera_movie(options.frames, SIZE))
        first, out = folder / "first.zarr", folder / "out.zarr"
        run_spatial_mean(source, first, 7.0, codec=options.codec)
        like = zarr.open_array(first / "channel_0" / "0", mode="r")
        background = like[:]

        def read_and_write() -> None:
            with bulk_codecs():
                movie = zarr.open_array(source, mode="r")
                target = zarr.create_array(
                    out,
                    shape=like.shape,
                    chunks=like.chunks,
                    dtype=like.dtype,
                    compressors=like.compressors,
                    config={"write_empty_chunks": True},
                )
            chunk_by_chunk(movie, movie.__getitem__)
            chunk_by_chunk(target, lambda part: target.__setitem__(part, background[part]))

        def floor() -> float:
            settle()
            seconds = timed(read_and_write)
            shutil.rmtree(out)
            return seconds

        seconds = in_turns(
            {
                "read, decode, encode, write": floor,
                "whole job": partial(job_seconds, source, folder, codec=options.codec),
            },
            options.rounds,
        )
    print(f"floor: radius 7, {options.frames} frames, codec {options.codec}, one process")
    print_turns(seconds)


# syncing

WITHOUT = """
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
for name in syncs:
    getattr(durable, name).__code__ = left_out.__code__  # wherever it was imported to
try:
    runpy.run_module("smlmlp_dask", run_name="__main__")
finally:
    if not durable.LEFT_OUT:
        sys.exit("nothing was synced that could have been left out")
"""
"""A job whose functions that wait for the disk do nothing."""


def compare_syncing(options: argparse.Namespace) -> None:
    """Time whole processes without and with waiting for the disk; `--work` says which disk."""
    with workplace(options.work) as folder:
        source = write_zarr(folder / "movie.zarr", camera_movie(options.frames, SIZE))
        out = folder / "out.zarr"
        ours = our_command(source, out)
        python, _, _, *words = ours
        commands = {"without": [python, "-c", WITHOUT, *words], "with": ours}
        seconds, _ = processes_in_turns(commands, out, options.rounds)
    print(f"syncing: radius 7, {options.frames} frames")
    print_turns(seconds)


# outputs

WAYS: dict[str, dict[str, Any]] = {
    "background": {},
    "signal, uint16": {"outputs": "signal", "pedestal": 200},
    "background and signal": {"outputs": ("background", "signal"), "pedestal": 200},
    "background, signal and SNR": {
        "outputs": ("background", "signal", "snr"),
        "pedestal": 200,
        "gain": 0.25,
    },
    "mean background": {"outputs": "mean_background"},
}


def compare_outputs(options: argparse.Namespace) -> None:
    """Time jobs that store this or that."""
    with workplace(options.work) as folder:
        source = write_zarr(folder / "movie.zarr", camera_movie(options.frames, SIZE))
        out = folder / "out.zarr"
        sizes = {}

        def run(name: str) -> float:
            settle()
            seconds = timed(partial(run_background, source, out, **WAYS[name]))
            sizes[name] = size_on_disk(out)
            shutil.rmtree(out)
            return seconds

        seconds = in_turns({name: partial(run, name) for name in WAYS}, options.rounds)
    print(f"outputs: radius 7, {options.frames} frames, one process")
    print_turns(seconds, {"disk": shares(sizes)})


# Command line

COMMANDS: dict[str, tuple[Callable[[argparse.Namespace], None], int, int]] = {
    "peers": (compare_peers, 4096, 3),
    "chain": (compare_chain, 1024, 3),
    "floor": (compare_floor, 2048, 5),
    "syncing": (compare_syncing, 4096, 5),
    "outputs": (compare_outputs, 1024, 5),
}
"""What each runs, on how many frames, in how many turns."""


def main() -> None:
    """Parse the command line, and run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    for name, (run, frames, rounds) in COMMANDS.items():
        added = commands.add_parser(name, help=run.__doc__.splitlines()[0])
        added.set_defaults(run=run)
        added.add_argument("--frames", type=int, default=frames)
        added.add_argument("--rounds", type=int, default=rounds, help="timed turns")
        added.add_argument("--work", type=Path, help="where to put movies (default: temporary)")
        if name in ("peers", "floor"):
            added.add_argument("--codec", choices=("fast", "small", "none"), default="fast")
        if name in ("peers", "chain"):
            added.add_argument("--python", help="has the peers; else an environment is made")
    options = parser.parse_args()
    print_machine()
    options.run(options)


if __name__ == "__main__":
    main()
