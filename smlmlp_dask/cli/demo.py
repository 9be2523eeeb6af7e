"""The demo: the main job on a simulated movie whose background is known."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import dask.array as da
import numpy as np
import zarr
from dask.base import compute
from rich.console import Console
from zarr.codecs import BloscCodec

from smlmlp_dask.background import bkgd_spatial_mean
from smlmlp_dask.paths import absolute_path
from smlmlp_dask.pictures.overview import plot_result, write_picture
from smlmlp_dask.pipeline.run import run_spatial_mean
from smlmlp_dask.result import SpatialMeanResult
from smlmlp_dask.simulation.movie import SimulatedMovie, simulate_movie
from smlmlp_dask.store.read import read_attributes
from smlmlp_dask.store.removing import remove_store

from .documents import Document, store_document
from .stored import channels_table
from .tables import table_of

FRAME_SIZES = ((256, 256), (192, 320))
"""(height, width) of the two channels in pixels, different to show that they may be."""

MOVIE, BACKGROUND, PICTURE = "movie.zarr", "background.zarr", "demo.png"
"""What the demo writes."""

CHECKED_FRAMES = 20
"""Frames, evenly spread, whose estimate is compared with the known background."""


@dataclass(frozen=True)
class Check:
    """Error of one channel's estimate against the known background, in camera counts.

    Attributes
    ----------
    known : float
        Mean of the known background.
    rms : float
        Root mean square of estimate - known.
    bias : float
        Mean of estimate - known: light of molecules that the local mean takes in.
    """

    known: float
    rms: float
    bias: float


@dataclass(frozen=True)
class DemoReport:
    """The demo's result, checks per channel, pixels per second, and files."""

    result: SpatialMeanResult
    checks: list[Check]
    rate: float
    movie: Path
    picture: Path


def run_demo(folder: Path, frames: int, *, progress: bool, overwrite: bool = False) -> DemoReport:
    """Simulate two channels, store them as Zarr, run the main job, compare and draw.

    The folder must not exist without `overwrite`, which replaces a demo's files in a folder that
    holds no others.

    Raises
    ------
    FileExistsError
        If the folder exists, or holds something else.
    """
    folder = absolute_path(folder)
    if os.path.lexists(folder):
        _clear(folder, overwrite=overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    simulated = [
        simulate_movie(frames, height, width, seed=seed)
        for seed, (height, width) in enumerate(FRAME_SIZES)
    ]
    movie = folder / MOVIE
    sources = _store_movies(movie, simulated)

    # Compile the filter of uint16 first, so that the rate does not include that second or two.
    bkgd_spatial_mean([simulated[0].movie[:1]])[0][0].compute()
    start = perf_counter()
    result = run_spatial_mean(sources, folder / BACKGROUND, progress=progress)
    seconds = perf_counter() - start

    checks = [
        _check(bkgd, channel.background)
        for bkgd, channel in zip(result.bkgds, simulated, strict=True)
    ]
    picture = folder / PICTURE
    write_picture(plot_result(result), picture)
    pixels = sum(bkgd.size for bkgd in result.bkgds)
    return DemoReport(result, checks, pixels / seconds, movie, picture)


def _clear(folder: Path, *, overwrite: bool) -> None:
    """Remove what an earlier demo wrote; refuse a folder that is not of a demo."""
    if not overwrite:
        raise FileExistsError(
            f"{folder} exists: replace it with --overwrite, or choose another with --output"
        )
    found = [] if folder.is_symlink() or not folder.is_dir() else [*folder.iterdir()]
    names = {child.name for child in found}
    movie, background = folder / MOVIE, folder / BACKGROUND
    if MOVIE not in names or names - {MOVIE, BACKGROUND, PICTURE} or not _is_simulated(movie):
        raise FileExistsError(
            f"{folder} is not, or not only, what a demo wrote, and --overwrite replaces nothing "
            "else: choose another with --output"
        )
    if BACKGROUND in names:
        remove_store(background)
    (folder / PICTURE).unlink(missing_ok=True)
    shutil.rmtree(movie)


def _is_simulated(movie: Path) -> bool:
    """Say whether a store was written by `_store_movies`, and nothing was added at its top."""
    try:
        marked = zarr.open_group(movie, mode="r").attrs.get("simulated_by")
        names = {child.name for child in movie.iterdir()}
    except (OSError, ValueError):
        return False
    cameras = {f"camera_{i}" for i in range(len(FRAME_SIZES))}
    return bool(marked == "smlmlp-dask demo" and names <= {"zarr.json", *cameras})


def _store_movies(path: Path, simulated: list[SimulatedMovie]) -> list[Path]:
    about = {"simulated_by": "smlmlp-dask demo"}
    group = zarr.create_group(path, zarr_format=3, attributes=about)
    targets: list[Any] = [
        group.create_array(
            f"camera_{i}",
            shape=channel.movie.shape,
            chunks=tuple(map(int, channel.movie.chunksize)),
            dtype=channel.movie.dtype,
            compressors=BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"),
            dimension_names=("t", "y", "x"),
        )
        for i, channel in enumerate(simulated)
    ]
    da.store([channel.movie for channel in simulated], targets, lock=False)
    return [path / target.basename for target in targets]


def _check(estimate: da.Array, known: da.Array) -> Check:
    chosen = np.unique(np.linspace(0, len(known) - 1, CHECKED_FRAMES).astype(int))
    known = known[chosen]
    difference = estimate[chosen] - known
    mean, square, bias = compute(known.mean(), (difference**2).mean(), difference.mean())
    return Check(float(mean), float(np.sqrt(square)), float(bias))


def print_demo(out: Console, report: DemoReport) -> None:
    """Print the results of the demo."""
    out.print(channels_table(read_attributes(report.result.path)))
    checks = report.checks
    columns = {
        "channel": [str(i) for i in range(len(checks))],
        "known background": [f"{c.known:.1f} counts" for c in checks],
        "error (RMS)": [f"{c.rms:.2f} counts ({c.rms / c.known:.1%})" for c in checks],
        "error (mean)": [f"{c.bias:+.2f} counts ({c.bias / c.known:+.1%})" for c in checks],
    }
    out.print(table_of(columns))
    out.print(f"rate: {report.rate / 1e6:,.0f} Mpx/s, from Zarr to Zarr")
    out.print(f"movie: {report.movie}")
    out.print(f"background: {report.result.path}")
    out.print(f"picture: {report.picture}")


def demo_document(report: DemoReport) -> Document:
    """Describe the results of the demo."""
    return {
        "store": store_document(report.result.path),
        "checks": [
            {
                "channel": i,
                "known_background_counts": check.known,
                "error_rms_counts": check.rms,
                "error_mean_counts": check.bias,
            }
            for i, check in enumerate(report.checks)
        ],
        "pixels_per_second": report.rate,
        "movie_path": str(report.movie),
        "picture_path": str(report.picture),
    }
