"""Time the filters in memory beside SciPy, OpenCV and smlmlp, in turns and in one process.

    python tests/benchmarks/filters.py [--cores 1|2] [--radii 1 7 50 100] [--rounds 7]

The first table is of the mean, by wall time: ours, SciPy and OpenCV on so many cores; smlmlp only
with as many as there are, since it takes them all. The second is of the median over 51 frames, the
opening of radius 3, and the combination of median and mean, on all cores and so by CPU time: other
work on a machine lengthens wall times. The second of two runs counts there. SciPy gets the first
rows of each frame, and its time is that of whole frames. OpenCV and smlmlp take part where they are
installed.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from measuring import in_turns, print_machine, print_table, ratios, spread, timed
from scipy import ndimage

import smlmlp_dask
from smlmlp_dask.filters.compiled.engine import correlate_frames
from smlmlp_dask.filters.kernels import gaussian_kernel, without_zero_ends

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW = 25
PART = 16
"""SciPy gets the first rows of each frame, one of so many."""


def reference() -> Any:
    """Return `smlmlp`, if it is installed."""
    try:
        import arrlp
        import stacklp

        stacklp.get_xp = arrlp.get_xp  # its releases do not have it
        import smlmlp
    except ImportError:
        return None
    return smlmlp


def print_rows(seconds: dict[str, list[float]], pixels: int, title: str) -> None:
    """Print the speed of each, and its time divided by ours, which is the first."""
    ours, *_ = seconds.values()
    rows = [
        [name, spread([pixels / 1e6 / second for second in spent], 1), spread(ratios(spent, ours))]
        for name, spent in seconds.items()
    ]
    print_table([title, "Mpx/s (range)", "time / ours (range)"], rows)


# The mean


def in_shares(fill: Callable[[np.ndarray, np.ndarray], None], cores: int) -> Callable[..., None]:
    """Let each core fill its share of the frames."""

    def run(frames: np.ndarray, out: np.ndarray) -> None:
        shares = zip(np.array_split(frames, cores), np.array_split(out, cores), strict=True)
        with ThreadPoolExecutor(cores) as pool:
            list(pool.map(lambda share: fill(*share), shares))

    return run


def means(radius: float, cores: int) -> dict[str, Callable[[np.ndarray, np.ndarray], None]]:
    """Return what is compared; each casts frames to float32 and fills `out` with backgrounds."""
    kernel = without_zero_ends(gaussian_kernel(radius / 2))

    def ours(frames: np.ndarray, out: np.ndarray) -> None:
        correlate_frames(frames, kernel, kernel, out=out, threads=cores)

    def scipy(frames: np.ndarray, out: np.ndarray) -> None:
        along_y = ndimage.correlate1d(frames.astype(np.float32), kernel, 1, mode="nearest")
        ndimage.correlate1d(along_y, kernel, 2, output=out, mode="nearest")

    found = {"ours": ours, "scipy": in_shares(scipy, cores)}
    with suppress(ImportError):
        found["opencv"] = in_shares(_opencv(kernel), cores)
    package = reference()
    if package is not None and cores == os.cpu_count():
        found["smlmlp"] = lambda frames, out: package.bkgd_spatial_mean(
            [frames], radius, [out], parallel=True
        )
    return found


def _opencv(kernel: np.ndarray) -> Callable[[np.ndarray, np.ndarray], None]:
    import cv2

    cv2.setNumThreads(1)
    edge = cv2.BORDER_REPLICATE

    def opencv(frames: np.ndarray, out: np.ndarray) -> None:
        for frame, result in zip(frames, out, strict=True):
            floats = frame.astype(np.float32)
            cv2.sepFilter2D(floats, -1, kernel, kernel, dst=result, borderType=edge)

    return opencv


def compare_means(movie: np.ndarray, radius: float, options: argparse.Namespace) -> None:
    """Print the table of one radius."""
    out = np.empty(movie.shape, np.float32)
    runs = {
        name: partial(timed, partial(fill, movie, out))
        for name, fill in means(radius, options.cores).items()
    }
    seconds = in_turns(runs, options.rounds)
    print_rows(seconds, movie.size, f"mean, radius {radius:g}, {options.cores} core(s)")


# The other steps


def second_time(run: Callable[[], object]) -> float:
    """Return the CPU time of the second of two runs.

    A virtual machine may lose freed memory to its host while others run: the first gets it back.
    """
    run()
    return timed(run, time.process_time)


def steps(movie: np.ndarray) -> dict[str, dict[str, Callable[[], object]]]:
    """Return what is compared, ours first, by step."""
    given = {
        "bkgd_temporal_median": {"median_window_fr": WINDOW},
        "bkgd_spatial_opening": {},
        "bkgd_combination": {"median_window_fr": WINDOW},
    }

    def ours(name: str) -> object:
        return getattr(smlmlp_dask, name)([movie], **given[name])[0][0].compute()

    found: dict[str, dict[str, Any]] = {name: {"ours": partial(ours, name)} for name in given}
    package = reference()
    if package is not None:
        for name, options in given.items():
            step = getattr(package, name)
            found[name]["smlmlp"] = partial(step, [movie], parallel=True, **options)
    part = movie[:, : movie.shape[1] // PART]
    size = (2 * WINDOW + 1, 1, 1)
    found["bkgd_temporal_median"]["scipy"] = lambda: ndimage.median_filter(part, size=size)
    disk = smlmlp_dask.bkgd_spatial_opening([movie])[2]["footprints"][0][None] > 0
    floats = part.astype(np.float32)
    found["bkgd_spatial_opening"]["scipy"] = lambda: ndimage.grey_opening(floats, footprint=disk)
    return found


def main() -> None:
    """Parse the command line and print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--radii", type=float, nargs="*", default=[1, 7, 50, 100], help="of means")
    parser.add_argument("--cores", type=int, choices=(1, 2), default=1, help="of means")
    parser.add_argument("--frames", type=int, nargs=2, default=[64, 256], help="of means, of steps")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds")
    options = parser.parse_args()
    print_machine()
    few, many = (
        np.random.default_rng(0).poisson(100, (count, 512, 512)).astype(np.uint16)
        for count in options.frames
    )
    for radius in options.radii:
        compare_means(few, radius, options)
    for step, runs in steps(many).items():
        by_cpu = {name: partial(second_time, run) for name, run in runs.items()}
        seconds = in_turns(by_cpu, min(3, options.rounds))
        if "scipy" in seconds:
            seconds["scipy"] = [PART * second for second in seconds["scipy"]]
        print_rows(seconds, many.size, f"{step}, CPU time")


if __name__ == "__main__":
    main()
