"""Time whole jobs, path to path: against what users run today, and against the machine's floor.

    python tests/benchmarks/job.py peers|floor|layouts|memory|frames|all [options]

- peers: whole processes from Zarr to Zarr, ours and every peer of `peers.py` in turns;
- floor: a job against reading and decoding its input plus encoding and writing its output;
- layouts: the same movie in several chunkings, as BigTIFF and headerless;
- memory: the peak of a whole process for movies of several sizes, next to its projection;
- frames: the time of a frame in short and long movies.

Needs the package installed; makes its own movies in a temporary folder and deletes them. Machines
are noisy: what is compared takes turns, and ratios are taken within a turn. Reads come from the
page cache where a movie fits it. To use two cores of many: `taskset -c 0,1 python ...`.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import dask
import numpy as np
import tifffile
import zarr
from peers import PACKAGES, PEERS
from zarr.codecs import BloscCodec

from smlmlp_dask import plan_spatial_mean, run_spatial_mean
from smlmlp_dask.movies.formats.zarr_movie import bulk_codecs
from smlmlp_dask.result import open_backgrounds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CHUNK_FRAMES = 32
POOL = 64
WARM_FRAMES = 64
SETTLE_SECONDS = 3.0
"""Before each measurement: what the last one left is written, and the memory that it freed is, on a
virtual machine, taken back by the host. To get it again costs seconds a gigabyte, which runs that
follow at once would be spared."""
PEAK_OF_CHILD = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
"""A process of its own: a child counts its parent's pages as its own until it has started."""


# Movies


class Movie:
    """A camera movie: Poisson frames of a small pool in random order, bright spots on each."""

    def __init__(self, frames: int, size: int) -> None:
        rng = np.random.default_rng(7)
        y, x = np.mgrid[:size, :size]
        smooth = 100 + 50 * np.sin(y / 90) * np.cos(x / 120)
        self.shape = (frames, size, size)
        self.pool = rng.poisson(smooth, (min(POOL, frames), size, size)).astype(np.uint16)
        self.order = rng.integers(len(self.pool), size=frames)
        spots = max(1, size * size // 6500)
        self.corners = rng.integers(0, size - 5, (frames, spots, 2))

    def part(self, start: int, stop: int) -> np.ndarray:
        """Return these frames, the same ones whatever the parts."""
        frames = self.pool[self.order[start:stop]]
        for frame, corners in zip(frames, self.corners[start:stop].tolist(), strict=True):
            for y, x in corners:
                frame[y : y + 5, x : x + 5] += 200
        return frames

    def parts(self, step: int) -> Iterator[tuple[int, np.ndarray]]:
        """Go through the movie in runs of frames: where each begins, and its pixels."""
        for start in range(0, self.shape[0], step):
            yield start, self.part(start, min(start + step, self.shape[0]))


def write_zarr(
    path: Path,
    movie: Movie,
    chunks: tuple[int, int, int],
    shards: tuple[int, int, int] | None = None,
) -> zarr.Array:
    """Write a movie as cameras' movies are kept: Zarr v3, Blosc with Zstandard."""
    array = zarr.create_array(
        path,
        shape=movie.shape,
        chunks=chunks,
        shards=shards,
        dtype="uint16",
        compressors=BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"),
    )
    together = (shards or chunks)[0]
    for start, frames in movie.parts(together * max(1, CHUNK_FRAMES // together)):
        array[start : start + len(frames)] = frames
    return array


def write_tiff(path: Path, movie: Movie) -> None:
    """Write one uncompressed BigTIFF of a page a frame, the pixels of all pages in one run."""
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for _, frames in movie.parts(CHUNK_FRAMES):
            for frame in frames:
                tiff.write(frame, contiguous=True, photometric="minisblack")


def write_raw(path: Path, movie: Movie) -> None:
    """Write a headerless movie, big-endian as many cameras do."""
    with path.open("wb") as file:
        for _, frames in movie.parts(CHUNK_FRAMES):
            file.write(frames.astype(">u2").tobytes())


def lengthen(array: zarr.Array, path: Path, frames: int) -> None:
    """Make a movie longer by linking the files of its first chunks again and again."""
    step = array.chunks[0]
    written = array.shape[0] // step

    def file_of(number: int) -> Path:
        return path / array.metadata.encode_chunk_key((number, 0, 0))

    array.resize((frames, *array.shape[1:]))
    for number in range(written, -(-frames // step)):
        copy = file_of(number)
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file_of(number % written), copy)
        except OSError:  # a file system without links, or with too few of them
            shutil.copyfile(file_of(number % written), copy)


# Measurements


def settle() -> None:
    """Let all runs begin in the same state."""
    os.sync()
    time.sleep(SETTLE_SECONDS)


class Child(NamedTuple):
    """A process that has ended."""

    seconds: float
    output: str
    error: str
    """The last line of its stderr, if it failed."""


def run_process(command: Sequence[Any]) -> Child:
    """Run a process and time it."""
    settle()
    start = time.perf_counter()
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return Child(seconds, done.stdout, lines[-1] if done.returncode else "")


def timed(function: Callable[[], Any]) -> float:
    """Call a function and return its seconds."""
    settle()
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def in_turns(runs: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run all in turns, once to warm up and then `rounds` times; return their seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            spent = run()
            if turn:
                seconds[name].append(spent)
    return seconds


def job_seconds(source: Path, folder: Path, **options: Any) -> float:
    """Time one job in this process, and delete what it wrote."""
    out = folder / "out.zarr"
    seconds = timed(lambda: run_spatial_mean(source, out, 7.0, **options))
    shutil.rmtree(out)
    return seconds


def size_on_disk(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def megapixels(shape: Sequence[int]) -> float:
    """Return the pixels of a stack in millions."""
    return float(np.prod(shape, dtype=float)) / 1e6


# Tables


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
    packages = ", ".join(f"{name} {version(name)}" for name in ("zarr", "numba"))
    print(f"{model}, {cores} cores, Python {platform.python_version()}, {packages}\n", flush=True)


@contextmanager
def workplace(above: Path | None) -> Iterator[Path]:
    """Provide a new folder, and delete it in the end."""
    if above is not None:
        above.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="smlmlp-dask-job-", dir=above) as folder:
        yield Path(folder)


# peers


def make_venv(folder: Path) -> str:
    """Make a virtual environment with what the peers need; return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(folder / ("Scripts" if os.name == "nt" else "bin") / "python")
    packages = [name for name, since in PACKAGES.items() if sys.version_info >= since]
    subprocess.run([python, "-m", "pip", "install", "-qq", *packages], check=True)
    return python


def peer_commands(python: str, scripts: Path | None) -> dict[str, list[Any]]:
    """Return the command of each peer; the paths of input and output are appended to it."""
    if scripts is not None:
        found = {path.stem.removeprefix("peer_"): path for path in scripts.glob("peer_*.py")}
        return {name: [python, found[name]] for name in sorted(found)}
    program = Path(__file__).with_name("peers.py")
    return {name: [python, program, name] for name in PEERS}


def our_command(source: Path, out: Path) -> list[Any]:
    """Return the command of a whole job."""
    job = [sys.executable, "-m", "smlmlp_dask", "run", source, "-o", out]
    return [*job, "--radius", "7", "--no-progress"]


class PeerRuns:
    """One peer and ours in turns: the seconds of both, and how the outputs compare."""

    def __init__(self, command: list[Any]) -> None:
        self.command = command
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self.size = 0
        self.difference = 0.0
        self.error = ""

    def warm_up(self, source: Path, folder: Path, ours: np.ndarray) -> None:
        """Filter a few frames, so that imports are cached, and compare them with ours."""
        out = folder / "warm.zarr"
        self.error = run_process([*self.command, source, out]).error
        if not self.error:
            try:
                theirs = zarr.open_array(out, mode="r")[:]
                self.difference = float(abs(theirs - ours).max())
            except Exception as error:
                self.error = f"its output cannot be compared: {error}"
        shutil.rmtree(out, ignore_errors=True)

    def take_turn(self, source: Path, folder: Path) -> int:
        """Run ours, then the peer; return the size of our output."""
        out = folder / "out.zarr"
        ours = run_process(our_command(source, out))
        if ours.error:
            sys.exit(f"our own run failed: {ours.error}")
        size = size_on_disk(out)
        shutil.rmtree(out)
        theirs = run_process([*self.command, source, out])
        self.error = theirs.error
        if not self.error:
            self.ours.append(ours.seconds)
            self.theirs.append(theirs.seconds)
            self.size = size_on_disk(out)
        shutil.rmtree(out, ignore_errors=True)
        return size

    def row(self, name: str, our_size: int) -> list[str]:
        """Return its row of the table."""
        if self.error:
            missing = self.error.startswith(("ModuleNotFoundError", "ImportError"))
            state = "not installed" if missing else "failed"
            return [name, state, "", "", ""]
        return [
            name,
            spread(self.theirs),
            spread(ratios(self.theirs, self.ours)),
            f"{self.size / our_size:.3f}",
            f"{self.difference:.2g}",
        ]


def compare_peers(options: argparse.Namespace) -> None:
    """Time whole processes from Zarr to Zarr, a peer and ours in turns."""
    with workplace(options.work) as folder:
        python = make_venv(folder / "venv") if options.make_venv else options.peer_python
        runs = {
            name: PeerRuns(command)
            for name, command in peer_commands(python, options.peers_from).items()
        }
        chunks = (CHUNK_FRAMES, options.size, options.size)
        warm, source = folder / "few.zarr", folder / "movie.zarr"
        write_zarr(warm, Movie(WARM_FRAMES, options.size), chunks)
        movie = Movie(options.frames, options.size)
        write_zarr(source, movie, chunks)

        failed = run_process(our_command(warm, folder / "ours.zarr")).error
        if failed:
            sys.exit(f"our own run failed: {failed}")
        ours = open_backgrounds(folder / "ours.zarr").bkgds[0].compute()
        for run in runs.values():
            run.warm_up(warm, folder, ours)
        our_size = 0
        for _ in range(options.rounds):
            for run in runs.values():
                if not run.error:
                    our_size = run.take_turn(source, folder)

    print(f"peers: radius 7, {' x '.join(map(str, movie.shape))} uint16, Zarr to Zarr, whole")
    print(f"processes in turns, {options.rounds} rounds; peers on {python}")
    mine = [seconds for run in runs.values() for seconds in run.ours]
    rows = [["smlmlp-dask", spread(mine), "1", "1", ""]] if mine else []
    rows += [run.row(name, our_size) for name, run in runs.items()]
    print_table(["", "seconds (range)", "times ours (range)", "disk / ours", "differs by"], rows)
    for name, run in runs.items():
        if run.error:
            print(f"{name}: {run.error}")


# floor


def read_all(path: Path, threads: int) -> None:
    """Read and decode an array, chunk by chunk."""
    with bulk_codecs():
        array = zarr.open_array(path, mode="r")
    step = array.chunks[0]
    with ThreadPoolExecutor(threads) as pool:
        starts = range(0, array.shape[0], step)
        for _ in pool.map(lambda start: array[start : start + step].shape, starts):
            pass


def write_all(path: Path, like: zarr.Array, background: np.ndarray, threads: int) -> None:
    """Encode and write a background that is in memory, chunk by chunk, stored as the other one."""
    with bulk_codecs():
        target = zarr.create_array(
            path,
            shape=like.shape,
            chunks=like.chunks,
            dtype=like.dtype,
            compressors=like.compressors,
            config={"write_empty_chunks": True},
        )
    step = like.chunks[0]

    def write(start: int) -> None:
        target[start : start + step] = background[start : start + step]

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(write, range(0, like.shape[0], step)):
            pass


def compare_floor(options: argparse.Namespace) -> None:
    """Time a job against reading its input and writing its output, which it cannot do without."""
    threads = options.threads
    config = dask.config.set(scheduler="threads", num_workers=threads)
    with workplace(options.work) as folder, config:
        source, first, out = (folder / name for name in ("movie.zarr", "first.zarr", "out.zarr"))
        movie = Movie(options.frames, options.size)
        write_zarr(source, movie, (CHUNK_FRAMES, options.size, options.size))
        run_spatial_mean(source, first, 7.0, codec=options.codec)
        stored = zarr.open_array(first / "channel_0" / "0", mode="r")
        background = stored[:]

        def write() -> float:
            seconds = timed(lambda: write_all(out, stored, background, threads))
            shutil.rmtree(out)
            return seconds

        seconds = in_turns(
            {
                "read and decode": lambda: timed(lambda: read_all(source, threads)),
                "encode and write": write,
                "whole job": lambda: job_seconds(source, folder, codec=options.codec),
            },
            options.rounds,
        )
    read, written, _ = seconds.values()
    least = [a + b for a, b in zip(read, written, strict=True)]
    print(f"floor: radius 7, {' x '.join(map(str, movie.shape))} uint16, codec {options.codec},")
    print(f"{threads} threads, one process in turns, {options.rounds} rounds")
    rows = [
        [
            name,
            spread(spent),
            spread([megapixels(movie.shape) / second for second in spent], 0),
            spread(ratios(spent, least)),
        ]
        for name, spent in seconds.items()
    ]
    print_table(["", "seconds (range)", "Mpx/s (range)", "of read + write (range)"], rows)


# layouts


def compare_layouts(options: argparse.Namespace) -> None:
    """Time the same job from several layouts of the same movie."""
    frames, size = options.frames, options.size
    movie = Movie(frames, size)
    tile, shard_tile = min(64, size), min(128, size)
    with workplace(options.work) as folder:
        arrays: dict[str, tuple[tuple[int, int, int], tuple[int, int, int] | None]] = {
            "(32, Y, X)": ((32, size, size), None),
            "(1, Y, X)": ((1, size, size), None),
            "(1000, 64, 64)": ((1000, tile, tile), None),
            "(32, 128, 128) in (256, Y, X)": ((32, shard_tile, shard_tile), (256, size, size)),
        }
        runs: dict[str, Callable[[], float]] = {}
        for number, (name, (chunks, shards)) in enumerate(arrays.items()):
            path = folder / f"{number}.zarr"
            write_zarr(path, movie, chunks, shards)
            runs[f"Zarr {name}"] = partial(job_seconds, path, folder)
        tiff, raw = folder / "movie.tif", folder / "movie.raw"
        write_tiff(tiff, movie)
        write_raw(raw, movie)
        runs["BigTIFF"] = partial(job_seconds, tiff, folder)
        runs["raw, big-endian"] = partial(
            job_seconds, raw, folder, raw_shape=movie.shape, raw_dtype=">u2"
        )
        seconds = in_turns(runs, options.rounds)
    plain = seconds["Zarr (32, Y, X)"]
    zarrs = [spent for name, spent in seconds.items() if name.startswith("Zarr")]
    best = [min(turn) for turn in zip(*zarrs, strict=True)]
    print(f"layouts: radius 7, {' x '.join(map(str, movie.shape))} uint16, one process in turns,")
    print(f"{options.rounds} rounds; the best is that of the Zarr arrays in each turn")
    rows = [
        [
            name,
            spread([megapixels(movie.shape) / second for second in spent], 0),
            spread(ratios(best, spent)),
            spread(ratios(spent, plain)),
        ]
        for name, spent in seconds.items()
    ]
    titles = ["", "Mpx/s (range)", "speed / best's (range)", "time / (32, Y, X)'s (range)"]
    print_table(titles, rows)


# memory


def linked_movie(path: Path, frames: int, size: int, chunk_frames: int, chunks: int) -> None:
    """Write a movie of a few real chunks, the same files again and again."""
    written = min(chunks, -(-frames // chunk_frames)) * chunk_frames
    array = write_zarr(path, Movie(written, size), (chunk_frames, size, size))
    lengthen(array, path, frames)


def measure_memory(options: argparse.Namespace) -> None:
    """Measure the peak of a whole process for movies of several sizes."""
    rows, peaks = [], []
    for gigabytes in options.gigabytes:
        chunk_bytes = 2 * CHUNK_FRAMES * options.size**2
        frames = CHUNK_FRAMES * max(1, round(gigabytes * 1e9 / chunk_bytes))
        with workplace(options.work) as folder:
            needed, free = 4 * frames * options.size**2, shutil.disk_usage(folder).free
            if free < needed:
                need = f"needs {needed / 1e9:.1f} GB of disk, {free / 1e9:.1f} are free"
                rows.append([f"{gigabytes:g}", str(frames), need, "", "", ""])
                continue
            source, out = folder / "movie.zarr", folder / "out.zarr"
            linked_movie(source, frames, options.size, CHUNK_FRAMES, 8)
            plan = plan_spatial_mean(source, 7.0)
            child = run_process([sys.executable, "-c", PEAK_OF_CHILD, *our_command(source, out)])
        if child.error:
            rows.append([f"{gigabytes:g}", str(frames), f"failed: {child.error}", "", "", ""])
            continue
        unit = 1 if sys.platform == "darwin" else 1024
        peaks.append(int(child.output.split()[-1]) * unit)
        measured = [peaks[-1], plan.projected_bytes, peaks[-1] - plan.projected_bytes]
        in_mb = [f"{count / 1e6:.0f}" for count in measured]
        rows.append([f"{gigabytes:g}", str(frames), *in_mb, f"{child.seconds:.1f}"])
    print(f"memory: whole processes, radius 7, frames of {options.size} x {options.size} uint16")
    titles = ["GB of input", "frames", "peak MB", "projected MB", "peak - projected", "seconds"]
    print_table(titles, rows)
    if len(peaks) > 1:
        print(f"largest peak / smallest: {max(peaks) / min(peaks):.3f}\n", flush=True)


# frames


def measure_frames(options: argparse.Namespace) -> None:
    """Time a frame of 64 x 64 in movies of several lengths."""
    reference = 5000 if 5000 in options.lengths else options.lengths[0]
    with workplace(options.work) as folder:
        runs: dict[str, Callable[[], float]] = {}
        for count in options.lengths:
            path = folder / f"{count}.zarr"
            linked_movie(path, count, 64, 250, 20)
            runs[str(count)] = partial(job_seconds, path, folder)
        seconds = in_turns(runs, options.rounds)
    micros = {name: [1e6 * s / int(name) for s in spent] for name, spent in seconds.items()}
    print(
        f"frames: radius 7, 64 x 64 uint16, chunks of 250 frames, one process in turns, "
        f"{options.rounds} rounds"
    )
    rows = [
        [name, spread(spent, 1), spread(ratios(spent, micros[str(reference)]))]
        for name, spent in micros.items()
    ]
    print_table(["frames", "µs a frame (range)", f"of {reference}'s (range)"], rows)


# Command line


def arguments() -> argparse.ArgumentParser:
    """Describe the commands and their options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, run: Callable[..., None], rounds: int) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=run.__doc__.splitlines()[0])
        added.set_defaults(run=run)
        added.add_argument("--work", type=Path, help="where to put movies (default: temporary)")
        if rounds:
            added.add_argument("--rounds", type=int, default=rounds, help="timed turns")
        return added

    def movie_size(added: argparse.ArgumentParser, frames: int) -> None:
        added.add_argument("--frames", type=int, default=frames)
        added.add_argument("--size", type=int, default=512, help="rows, and columns, of a frame")

    added = command("peers", compare_peers, 3)
    movie_size(added, 4096)
    added.add_argument("--peer-python", default=sys.executable, help="runs the peers")
    added.add_argument("--make-venv", action="store_true", help="install the peers in one")
    added.add_argument("--peers-from", type=Path, help="folder of peer_*.py to run instead")

    added = command("floor", compare_floor, 5)
    movie_size(added, 2048)
    added.add_argument("--threads", type=int, default=2)
    added.add_argument("--codec", choices=("fast", "small", "none"), default="fast")

    added = command("layouts", compare_layouts, 5)
    movie_size(added, 4000)

    added = command("memory", measure_memory, 0)
    added.add_argument("--gigabytes", type=float, nargs="+", default=[1, 4, 16])
    added.add_argument("--size", type=int, default=512, help="rows, and columns, of a frame")

    added = command("frames", measure_frames, 3)
    added.add_argument("--lengths", type=int, nargs="+", default=[500, 5000, 50_000, 500_000])

    command("all", run_all, 0)
    return parser


def run_all(options: argparse.Namespace) -> None:
    """Run all commands as they are by default."""
    where = [] if options.work is None else ["--work", str(options.work)]
    for name in ("peers", "floor", "layouts", "memory", "frames"):
        chosen = arguments().parse_args([name, *where])
        chosen.run(chosen)


def main() -> None:
    """Parse the command line, and run the command."""
    options = arguments().parse_args()
    print_machine()
    options.run(options)


if __name__ == "__main__":
    main()
