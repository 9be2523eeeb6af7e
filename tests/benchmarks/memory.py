"""Measure the peak memory of whole jobs next to what was planned.

    python tests/benchmarks/memory.py [--only WORDS] [--work FOLDER]

Decoding takes most of some jobs, the windows of long medians most of others. Each case runs in a
fresh process on a movie made for it, small on disk. A limit that is refused is shown, and the job
is run again with the least limit that the message names. Exits with 1 if a peak exceeds its plan by
more than 250 MiB; of an export, "planned" is what Python and the libraries take, and two blocks.
Needs Linux, 8 GB of memory, 16 GB of disk, and some minutes of both CPUs for each long median.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
import zarr

from smlmlp_dask import convert_movies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 2**20
TOLERANCE = 250 * MIB
ROOT = Path(__file__).parents[2]

CHILD = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
import dask
from smlmlp_dask import SpatialMean, SpatialOpening, TemporalMedian, plan_background, run_background
STEPS = {"median": TemporalMedian, "mean": SpatialMean, "opening": SpatialOpening}
source, out, options = json.loads(sys.argv[1])
pool, threads = options.pop("pool", None), options.pop("threads", 2)
steps = [STEPS[name](value) for name, value in options.pop("steps", {"mean": 7.0}).items()]
if "frames" in options:
    options["frames"] = slice(*options["frames"])
shared = {k: v for k, v in options.items() if k not in ("resume", "keep_bits")}
with dask.config.set(num_workers=threads, pool=pool and ThreadPoolExecutor(pool)):
    try:
        run_background(source, out, steps, **options)
        plan = plan_background(source, steps, **shared)
        planned = plan.memory_limit_bytes if "resume" in options else plan.projected_bytes
    except ValueError as error:
        print(json.dumps({"refused": str(error)}))
        sys.exit()
sys.path.insert(0, sys.argv[2])
from tests.memory import peak_bytes
print(json.dumps({"planned": planned, "peak": peak_bytes()}))
"""

EXPORT = """
import json, sys
from smlmlp_dask import export_movie
from smlmlp_dask.execution.workers import BASE_BYTES
from smlmlp_dask.blocks import BLOCK_BYTES
store, file, options = json.loads(sys.argv[1])
export_movie(store, file, **options)
sys.path.insert(0, sys.argv[2])
from tests.memory import peak_bytes
print(json.dumps({"planned": BASE_BYTES + 2 * BLOCK_BYTES, "peak": peak_bytes()}))
"""


@dataclass(frozen=True)
class Case:
    """A job: how its movie is made, and the options of `run_background`."""

    name: str
    make: Callable[[Path], Path]
    options: dict[str, Any] = field(default_factory=dict)
    begun: bool = False  # a run without limit is killed first, and then resumed
    export: str = ""  # the movie is kept in a store, which is written as a file of this name


# Movies


def stored(
    chunks: tuple[int, int, int],
    shape: tuple[int, int, int],
    brightest: int = 2**16,
    **layout: Any,
) -> Any:
    """Return what writes a Zarr movie of noise below `brightest`, one chunk linked often.

    By default, the noise does not compress.
    """

    def make(folder: Path) -> Path:
        path = folder / "m.zarr"
        array = zarr.create_array(path, shape=shape, chunks=chunks, dtype="u2", **layout)
        together = array.shards or array.chunks
        noise = np.random.default_rng(1).integers(0, brightest, together, "u2")
        array[tuple(map(slice, together))] = noise
        first = path / array.metadata.encode_chunk_key((0, 0, 0))
        for place in np.ndindex(*(-(-n // c) for n, c in zip(shape, together, strict=True))):
            file = path / array.metadata.encode_chunk_key(place)
            if file != first:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.hardlink_to(first)
        return path

    return make


def raw(shape: tuple[int, int, int], dtype: str = "u2") -> Any:
    """Return what makes a headerless movie of zeros without a byte on disk."""

    def make(folder: Path) -> Path:
        path = folder / "m.raw"
        with path.open("wb") as file:
            file.truncate(np.dtype(dtype).itemsize * prod(shape))
        return path

    return make


def tiff(shape: tuple[int, int, int], **layout: Any) -> Any:
    """Return what writes a TIFF, frame by frame."""

    def make(folder: Path) -> Path:
        path = folder / "m.tif"
        frame = np.zeros(shape[1:], "u2")
        frame[::7, ::3] = 100
        frames = (frame for _ in range(shape[0]))
        options = {"photometric": "minisblack", "bigtiff": True, **layout}
        tifffile.imwrite(path, frames, shape=shape, dtype="u2", **options)
        return path

    return make


def cases() -> Iterator[Case]:
    """List them: first those whose decoding takes most, then ordinary ones."""
    box = {"bboxes": [[(8, 8, 24, 24)]]}
    thick = stored((256, 1024, 1024), (512, 1024, 1024))
    yield Case("thick chunks, box", thick, {**box, "memory_limit": "600MB"})
    yield Case(
        "thick chunks, box, ::64", thick, {**box, "frames": [0, None, 64], "memory_limit": "600MB"}
    )
    large = (4, 20_000, 20_000)
    of_raw = {"raw_shape": large, "raw_dtype": "u2"}
    yield Case("raw 20 000², box", raw(large), {**box, **of_raw})
    deflated = tiff(large, compression="zlib", compressionargs={"level": 1})
    yield Case("deflated TIFF 20 000², box", deflated, box)
    strip = tiff((3, 12_000, 12_000), compression="zlib", rowsperstrip=12_000)
    yield Case("deflated in one strip, box", strip, box)
    square = {"raw_shape": (2, 16_384, 16_384), "raw_dtype": "u2", "threads": 1}
    yield Case("keep_bits, 16 384²", raw(square["raw_shape"]), {**square, "keep_bits": 12})
    tiles = stored((256, 128, 128), (1024, 1024, 1024))
    yield Case("resume under 600 MB", tiles, {"resume": True, "memory_limit": "600MB"}, begun=True)
    half = stored((64, 1024, 1024), (1024, 1024, 1024))
    yield Case("a user's pool of 8", half, {"pool": 8})
    yield Case("flipped, 64 frames", half, {"flips": [(True, True)]})
    for gigabytes in (1, 8):
        frames = gigabytes * 10**9 // (2 * 512 * 512)
        yield Case(f"Zarr, {gigabytes} GB", stored((32, 512, 512), (frames, 512, 512)))
    yield Case("Zarr, single frames", stored((1, 512, 512), (1024, 512, 512)))
    yield Case("Zarr, tiles", stored((1000, 64, 64), (4000, 512, 512)))
    shards = stored((32, 128, 128), (1024, 512, 512), shards=(256, 512, 512))
    yield Case("Zarr, shards", shards)
    yield Case("TIFF", tiff((512, 512, 512)))
    yield Case("deflated TIFF", tiff((512, 512, 512), compression="zlib"))
    yield from chains()
    yield from exports()


def chains() -> Iterator[Case]:
    """List jobs of other steps and outputs, on frames of 2048 x 2048."""

    def job(name: str, frames: int, limit: str, dtype: str = "u2", **options: Any) -> Case:
        shape = (frames, 2048, 2048)
        movie = {"raw_shape": shape, "raw_dtype": dtype, "memory_limit": limit}
        return Case(name, raw(shape, dtype), {**movie, **options})

    both = {"outputs": ["background", "signal"], "pedestal": 100}
    long = {"median": 500}
    for dtype, limit in (("u2", "2GB"), ("u2", "6GB"), ("f4", "4GB")):
        yield job(f"median 500, {dtype}, {limit}", 1100, limit, dtype, steps=long)
    constant = stored((8, 2048, 2048), (1100, 2048, 2048), brightest=2)
    yield Case("median 500, Zarr", constant, {"steps": long, "memory_limit": "6GB"})
    yield job("median 500, mean, both", 1100, "3GB", steps={**long, "mean": 7.0}, **both)
    yield job("median 25, mean", 128, "2GB", steps={"median": 25, "mean": 7.0})
    yield job("mean, both", 128, "2GB", **both)
    yield job("mean, signal as float32", 128, "2GB", outputs="signal")
    yield job("opening", 128, "2GB", steps={"opening": 3.0})
    three = {"opening": 3.0, "median": 25, "mean": 7.0}
    yield job("three steps, both", 128, "2GB", steps=three, **both)


def exports() -> Iterator[Case]:
    """List files that are written from stores of 1 GiB of frames."""
    movie = {"raw_shape": (2048, 512, 512), "raw_dtype": "u2"}
    for name in ("export.raw", "export.tif"):
        yield Case(name, raw(movie["raw_shape"]), movie, export=name)


# Runs


def child(*arguments: Any, code: str = CHILD) -> list[str]:
    """Return the command of a process that runs a job."""
    return [sys.executable, "-c", code, json.dumps(arguments, default=str), str(ROOT)]


def begin(source: Path, out: Path) -> None:
    """Run a job without limit until a chunk is there, and kill it."""
    running = subprocess.Popen(child(source, out, {}), stdout=subprocess.DEVNULL)
    while running.poll() is None and not any((out / "channel_0/0").glob("c/*/*/0")):
        time.sleep(0.01)
    running.kill()
    if running.wait() == 0:
        sys.exit("the job ended before it could be killed")


def run(source: Path, out: Path, options: dict[str, Any], code: str = CHILD) -> dict[str, Any]:
    """Run a job in a fresh process; return what it planned and held, or why it was refused."""
    command = child(source, out, options, code=code)
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(ended.stderr)
    return json.loads(ended.stdout)  # type: ignore[no-any-return]


def measure(case: Case, folder: Path) -> bool:
    """Run a case, print its line, and say whether it kept its plan."""
    source, out = case.make(folder), folder / "out.zarr"
    if case.begun:
        begin(source, out)
    if case.export:
        store = convert_movies(source, folder / "store.zarr", **case.options)
        result = run(store, folder / case.export, {}, EXPORT)
    else:
        result = run(source, out, case.options)
    if "refused" in result:
        print(f"{case.name}: refused: {result['refused']}")
        least = re.search(r"to (\d+MB)", result["refused"])
        if least is None:
            return False
        result = run(source, out, {**case.options, "memory_limit": least[1]})
        if "refused" in result:
            print(f"{case.name}: refused: {result['refused']}")
            return False
    planned, peak = result["planned"], result["peak"]
    kept = peak <= planned + TOLERANCE
    print(
        f"{case.name:32} {planned / MIB:8,.0f} {peak / MIB:8,.0f} {'' if kept else 'above plan'}",
        flush=True,
    )
    return bool(kept)


def main() -> None:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="cases whose names contain this")
    parser.add_argument("--work", type=Path, help="where to put movies (default: temporary)")
    options = parser.parse_args()
    print(f"{'MiB':32} {'planned':>8} {'peak':>8}")
    kept = True
    for case in cases():
        if options.only in case.name:
            with tempfile.TemporaryDirectory(dir=options.work) as folder:
                kept &= measure(case, Path(folder))
    sys.exit(not kept)


if __name__ == "__main__":
    main()
