"""Time the compiled filter against SciPy, OpenCV and smlmlp, in turns and in one process.

    python tests/benchmarks/filter_peers.py [--radii 1 7 50] [--cores 1|2]

Needs the package installed; OpenCV and smlmlp take part where they are, and smlmlp only with as
many cores as there are, since it takes them all. The first table is for radius 7 on
64 x 512 x 512 uint16; the second runs over the radii, to show that no kernel length falls off a
cliff. Machines are noisy: compare the ratios, which come from runs that took turns, not the speeds.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from smlmlp_dask.filters.compiled.engine import correlate_frames
from smlmlp_dask.filters.kernels import gaussian_kernel, without_zero_ends

if TYPE_CHECKING:
    from collections.abc import Callable

RADII = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 100, 200)
SHAPE = (64, 512, 512)


def in_shares(fill: Callable[[np.ndarray, np.ndarray], None], cores: int) -> Callable[..., None]:
    """Let each core fill its share of the frames."""

    def run(frames: np.ndarray, out: np.ndarray) -> None:
        shares = zip(np.array_split(frames, cores), np.array_split(out, cores), strict=True)
        with ThreadPoolExecutor(cores) as pool:
            list(pool.map(lambda share: fill(*share), shares))

    return run


def filters(radius: float, cores: int) -> dict[str, Callable[[np.ndarray, np.ndarray], None]]:
    """Return what is compared; each casts frames to float32 and fills `out` with backgrounds."""
    padded = gaussian_kernel(radius / 2)
    kernel = without_zero_ends(padded)

    def ours(frames: np.ndarray, out: np.ndarray) -> None:
        correlate_frames(frames, padded, padded, out=out, threads=cores)

    def scipy(frames: np.ndarray, out: np.ndarray) -> None:
        along_y = ndimage.correlate1d(frames.astype(np.float32), kernel, 1, mode="nearest")
        ndimage.correlate1d(along_y, kernel, 2, output=out, mode="nearest")

    found = {"fused": ours, "scipy": in_shares(scipy, cores)}
    with suppress(ImportError):
        found["opencv"] = in_shares(_opencv(kernel), cores)
    if cores == os.cpu_count():  # of which it takes all
        with suppress(ImportError):
            found["smlmlp"] = _smlmlp(radius)
    return found


def _opencv(kernel: np.ndarray) -> Callable[[np.ndarray, np.ndarray], None]:
    import cv2

    cv2.setNumThreads(1)

    def opencv(frames: np.ndarray, out: np.ndarray) -> None:
        edge = cv2.BORDER_REPLICATE
        for frame, result in zip(frames, out, strict=True):
            cv2.sepFilter2D(
                frame.astype(np.float32), -1, kernel, kernel, dst=result, borderType=edge
            )

    return opencv


def _smlmlp(radius: float) -> Callable[[np.ndarray, np.ndarray], None]:
    from smlmlp import bkgd_spatial_mean

    def smlmlp(frames: np.ndarray, out: np.ndarray) -> None:
        bkgd_spatial_mean([frames], radius, [out], parallel=True)

    return smlmlp


def times(runs: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Run all in turns, once to warm up and then `rounds` times; return seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratios(peer: list[float], ours: list[float]) -> str:
    """Format how many times slower the peer was: median, and range over the rounds."""
    shares = [a / b for a, b in zip(peer, ours, strict=True)]
    return f"{median(shares):6.2f} ({min(shares):.2f}-{max(shares):.2f})"


def compare(cores: int, rounds: int) -> None:
    """Print the table of radius 7."""
    frames = np.random.default_rng(0).integers(90, 4000, SHAPE, dtype=np.uint16)
    out = np.empty(SHAPE, np.float32)
    runs = {name: partial(fill, frames, out) for name, fill in filters(7, cores).items()}
    seconds = times(runs, rounds)
    print(f"radius 7, {' x '.join(map(str, SHAPE))} uint16, {cores} core(s), {rounds} rounds")
    print(f"{'':8}{'Mpx/s median (range)':>26}   times fused's speed: median (range)")
    for name, spent in seconds.items():
        speeds = sorted(frames.size / 1e6 / second for second in spent)
        speed = f"{median(speeds):.0f} ({speeds[0]:.0f}-{speeds[-1]:.0f})"
        print(f"{name:8}{speed:>26}   1 / {ratios(spent, seconds['fused'])}")
    if "opencv" not in seconds:
        print("opencv is not installed: pip install opencv-python-headless to compare")


def sweep(radii: list[float], cores: int, rounds: int) -> None:
    """Print the table over the radii, against OpenCV, the fastest of the others."""
    frames = np.random.default_rng(0).integers(90, 4000, (16, 512, 512), dtype=np.uint16)
    out = np.empty(frames.shape, np.float32)
    rows = {}
    for radius in sorted({7, *radii}):
        fills = filters(radius, cores)
        runs = {
            name: partial(fill, frames, out)
            for name, fill in fills.items()
            if name in ("fused", "opencv")
        }
        rows[radius] = times(runs, rounds if radius <= 30 else 3)

    def rate(radius: float) -> float:
        taps = without_zero_ends(gaussian_kernel(radius / 2)).size
        return frames.size / 1e6 / median(rows[radius]["fused"]) * taps

    print(f"\n{' x '.join(map(str, frames.shape))} uint16, {cores} core(s)")
    print("radius  taps   Mpx/s  Mpx/s x taps  of radius 7   opencv's time / fused's (range)")
    for radius, seconds in rows.items():
        taps = without_zero_ends(gaussian_kernel(radius / 2)).size
        peer = ratios(seconds["opencv"], seconds["fused"]) if "opencv" in seconds else "     -"
        print(
            f"{radius:6g}{taps:6}{rate(radius) / taps:8.0f}{rate(radius):14.0f}"
            f"{rate(radius) / rate(7):12.2f}  {peer}"
        )


def main() -> None:
    """Parse the command line and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--radii", type=float, nargs="*", default=RADII, help="second table")
    parser.add_argument("--cores", type=int, choices=(1, 2), default=1)
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds")
    options = parser.parse_args()
    compare(options.cores, options.rounds)
    if options.radii:
        sweep(options.radii, options.cores, options.rounds)


if __name__ == "__main__":
    main()
