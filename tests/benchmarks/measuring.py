"""What these programs share: a movie as cameras take them, whole jobs, turns, tables.

Machines are noisy: what is compared takes turns, and ratios are taken within a turn.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from smlmlp_dask import run_background

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CHUNK_FRAMES = 32
POOL = 64
SETTLE_SECONDS = 3.0
"""Before each job: what the last one left is written, and the memory that it freed is, on a virtual
machine, taken back by the host. To get it again costs seconds a gigabyte, which runs that follow at
once would be spared."""


def camera_movie(frames: int, size: int) -> np.ndarray:
    """Return Poisson frames of a small pool in random order, with bright spots on each."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:size, :size]
    smooth = 100 + 50 * np.sin(y / 90) * np.cos(x / 120)
    pool = rng.poisson(smooth, (min(POOL, frames), size, size)).astype(np.uint16)
    movie = pool[rng.integers(len(pool), size=frames)]
    corners = rng.integers(0, size - 5, (frames, max(1, size * size // 6500), 2))
    for frame, places in zip(movie, corners.tolist(), strict=True):
        for y, x in places:
            frame[y : y + 5, x : x + 5] += 200
    return movie


def write_zarr(path: Path, movie: np.ndarray, chunk_frames: int = CHUNK_FRAMES) -> Path:
    """Write a movie as cameras' movies are kept: Zarr v3, Blosc with Zstandard."""
    zarr.create_array(
        path,
        data=movie,
        chunks=(chunk_frames, *movie.shape[1:]),
        compressors=BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"),
    )
    return path


@contextmanager
def workplace(above: Path | None) -> Iterator[Path]:
    """Provide a new folder, and delete it in the end."""
    if above is not None:
        above.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="smlmlp-dask-job-", dir=above) as folder:
        yield Path(folder)


def size_on_disk(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def settle() -> None:
    """Let all jobs begin in the same state."""
    os.sync()
    time.sleep(SETTLE_SECONDS)


class Child(NamedTuple):
    """A process that has ended, and the last line of its stderr, if it failed."""

    seconds: float
    error: str


def run_process(command: Sequence[Any]) -> Child:
    """Run a process and time it."""
    settle()
    start = time.perf_counter()
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return Child(seconds, lines[-1] if done.returncode else "")


def timed(function: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """Call a function and return its seconds."""
    start = clock()
    function()
    return clock() - start


def job_seconds(source: Path, folder: Path, *arguments: Any, **options: Any) -> float:
    """Time one job in this process, and delete what it wrote."""
    out = folder / "out.zarr"
    settle()
    seconds = timed(partial(run_background, source, out, *arguments, **options))
    shutil.rmtree(out)
    return seconds


def in_turns(runs: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run all in turns, once to warm up and then `rounds` times; return their seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            spent = run()
            if turn:
                seconds[name].append(spent)
    return seconds


def our_command(source: Path, out: Path, *options: str) -> list[Any]:
    """Return the command of a whole job."""
    return [sys.executable, "-m", "smlmlp_dask", "run", source, "-o", out, *options]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Format the median and the range."""
    low, middle, high = (f"{f(values):.{digits}f}" for f in (min, median, max))
    return f"{middle} ({low}-{high})"


def ratios(values: Sequence[float], to: Sequence[float]) -> list[float]:
    """Divide turn by turn."""
    return [a / b for a, b in zip(values, to, strict=True)]


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns: the first to the left, all others to the right."""
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    for row in (titles, *rows):
        first, *others = (
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join([first, *others]).rstrip())
    print(flush=True)


def print_machine() -> None:
    """Say what the numbers were measured on."""
    model = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), model)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    packages = ", ".join(f"{name} {version(name)}" for name in ("zarr", "numba", "distributed"))
    print(f"{model}, {cores} cores, Python {platform.python_version()}, {packages}\n", flush=True)
