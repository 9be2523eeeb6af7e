"""Time whole jobs from every format against the same job from Zarr, and its reader's bare loop.

    python tests/benchmarks/formats.py [--formats HDF5 ND2 ...] [--frames 2048] [--size 512]
        [--rounds 3] [--work DIR]

Writes one movie in each format, in turns: a job from Zarr, a job from the format, and, where there
is one, the loop over all frames that the format's own library offers, on one thread and with the
pixels thrown away. A format is fast enough if its job reaches 70 % of the rate from Zarr, or the
rate of that loop, whichever is less. Ratios are taken within a turn. Exits with 1 if a format is
too slow. Movies are deleted one by one; a machine's load during each format's turns is printed.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
import zarr
from measuring import (
    camera_movie,
    in_turns,
    job_seconds,
    print_machine,
    print_table,
    ratios,
    spread,
    timed,
    workplace,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

sys.path.append(str(Path(__file__).parents[2]))  # behind the package that is tested

from tests.movies.formats.written import WRITTEN, write

ENOUGH = 0.7
"""Of the rate from Zarr."""


# The loop that each library offers; each yields frames


def tiff_frames(path: Path) -> Iterator[np.ndarray]:
    """Read page by page; a folder file by file."""
    for file in sorted(path.glob("*.tif")) if path.is_dir() else [path]:
        with tifffile.TiffFile(file) as tiff:
            series = tiff.series[0]
            if len(series.pages) == 1:
                yield from series.asarray(out="memmap")  # one run of pixels
            else:
                for page in series.pages:
                    yield page.asarray()


def zarr_frames(path: Path) -> Iterator[np.ndarray]:
    """Read chunk by chunk."""
    source: Any = zarr.storage.ZipStore(path, mode="r") if path.suffix == ".zip" else path
    node = zarr.open(source, mode="r")
    array: Any = node if isinstance(node, zarr.Array) else node["0"]
    for start in range(0, array.shape[0], array.chunks[0]):
        yield array[start : start + array.chunks[0]]


def npy_frames(path: Path) -> Iterator[np.ndarray]:
    """Copy frames out of a memory map."""
    yield from map(np.copy, np.load(path, mmap_mode="r"))


def hdf5_frames(path: Path, name: str = "data") -> Iterator[np.ndarray]:
    """Read frame by frame."""
    import h5py

    with h5py.File(path) as file:
        for number in range(len(file[name])):
            yield file[name][number]


def ims_frames(path: Path) -> Iterator[np.ndarray]:
    """Read each time point."""
    import h5py

    with h5py.File(path) as file:
        level = file["DataSet/ResolutionLevel 0"]
        for number in range(len(level)):
            yield level[f"TimePoint {number}/Channel 0/Data"][0]


def nd2_frames(path: Path) -> Iterator[np.ndarray]:
    """Read frame by frame."""
    import nd2

    with nd2.ND2File(path) as file:
        for number in range(file.attributes.sequenceCount):
            yield file.read_frame(number).copy()


def czi_frames(path: Path) -> Iterator[np.ndarray]:
    """Read sub-block by sub-block."""
    import czifile

    with czifile.CziFile(path) as czi:
        for block in czi.subblocks():
            yield block.data()


def lif_frames(path: Path) -> Iterator[np.ndarray]:
    """Read frame by frame."""
    import liffile

    with liffile.LifFile(path) as lif:
        yield from lif.images[0].frames()


def oif_frames(path: Path) -> Iterator[np.ndarray]:
    """Read the movie, which the library does at once."""
    import oiffile

    with oiffile.OifFile(path) as oif:
        yield oif.asarray()


def sif_frames(path: Path) -> Iterator[np.ndarray]:
    """Copy frames out of the memory map that the library makes."""
    import sif_parser

    frames, _ = sif_parser.np_open(str(path), lazy="memmap")
    yield from map(np.copy, frames)


def spool_frames(path: Path) -> Iterator[np.ndarray]:
    """Read the folder, which the library does at once."""
    import sif_parser

    frames, _ = sif_parser.np_spool_open(str(path))
    yield from frames


def dcimg_frames(path: Path) -> Iterator[np.ndarray]:
    """Read frame by frame."""
    import openreadout

    count = openreadout.info(path)["images"][0]["size_t"]
    with openreadout.File(path) as file:
        for number in range(count):
            yield file.read_plane(image=0, c=0, z=0, t=number)


def spe_frames(path: Path) -> Iterator[np.ndarray]:
    """Read frame by frame."""
    import imageio.v3

    yield from imageio.v3.imiter(path, plugin="SPE")


def seq_frames(path: Path) -> Iterator[np.ndarray]:
    """Read frame by frame."""
    import pims

    with pims.NorpixSeq(str(path)) as frames:
        for number in range(len(frames)):
            yield np.asarray(frames[number])


LOOPS: dict[str, Callable[[Path], Iterator[Any]]] = {
    "Zarr": zarr_frames,
    "TIFF": tiff_frames,
    "NumPy": npy_frames,
    "HDF5": hdf5_frames,
    "Imaris": ims_frames,
    "ND2": nd2_frames,
    "CZI": czi_frames,
    "LIF": lif_frames,
    "OIF": oif_frames,
    "SIF": sif_frames,
    "Andor spool": spool_frames,
    "DCIMG": dcimg_frames,
    "SPE": spe_frames,
    "SEQ": seq_frames,
}


def loop_seconds(loop: Callable[[Path], Iterator[Any]], path: Path, count: int) -> float:
    """Time a loop that goes through all frames."""

    def go() -> None:
        pixels = sum(int(np.prod(frame.shape)) for frame in loop(path))
        if pixels != count:
            raise RuntimeError(f"the loop went through {pixels} pixels of {count}")

    return timed(go)


def compare(name: str, movie: np.ndarray, zarr_path: Path, options: Any) -> tuple[list[str], bool]:
    """Take turns of a format, Zarr and the loop; return a row, and whether it is fast enough."""
    written = WRITTEN[name]
    loop = LOOPS.get(written.format)
    with workplace(options.work) as folder:
        [source], given = write(name, folder, movie)
        runs = {
            "Zarr": partial(job_seconds, zarr_path, folder),
            "format": partial(job_seconds, source, folder, **given),
        }
        if loop is not None:
            try:
                loop_seconds(loop, source, movie.size)
                runs["loop"] = partial(loop_seconds, loop, source, movie.size)
            except Exception as error:
                print(f"{name}: its library's loop fails: {error}")
        seconds = in_turns(runs, options.rounds)
    of_zarr = ratios(seconds["Zarr"], seconds["format"])
    rate = movie.nbytes / 1e6
    row = [name, spread(of_zarr), f"{rate / median(seconds['format']):.0f}"]
    enough = median(of_zarr) >= ENOUGH
    if "loop" in seconds:
        of_loop = ratios(seconds["loop"], seconds["format"])
        enough = enough or median(of_loop) >= 1
        row += [f"{rate / median(seconds['loop']):.0f}", spread(of_loop)]
    else:
        row += ["", ""]
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return [*row, load, "yes" if enough else "NO"], enough


def main() -> None:
    """Parse the command line, measure each format, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--formats",
        nargs="+",
        choices=[*WRITTEN],
        metavar="NAME",
        default=None,
        help=f"of {', '.join(WRITTEN)} (default: all that can be read here)",
    )
    parser.add_argument("--frames", type=int, default=2048)
    parser.add_argument("--size", type=int, default=512, help="rows, and columns, of a frame")
    parser.add_argument("--rounds", type=int, default=3, help="timed turns")
    parser.add_argument("--work", type=Path, help="where to put movies (default: temporary)")
    options = parser.parse_args()
    print_machine()
    movie = camera_movie(options.frames, options.size)
    names = options.formats or [name for name in WRITTEN if WRITTEN[name].is_installed]
    rows, all_enough = [], True
    with workplace(options.work) as folder:
        [zarr_path], _ = write("Zarr", folder, movie)
        for name in names:
            row, enough = compare(name, movie, zarr_path, options)
            print("  ".join(row), file=sys.stderr, flush=True)
            rows.append(row)
            all_enough &= enough
    shape = " x ".join(map(str, movie.shape))
    print(f"\nformats: radius 7, {shape} uint16, one process in turns, {options.rounds} rounds")
    titles = ["", "rate / Zarr's (range)", "MB/s", "loop MB/s", "rate / loop's (range)", "load"]
    print_table([*titles, "enough"], rows)
    sys.exit(not all_enough)


if __name__ == "__main__":
    main()
