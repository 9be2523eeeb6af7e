"""The temporal median, the opening and their combination with the mean beside other packages.

    python tests/benchmarks/median.py [FRAMES] [SIDE]

Frames of random counts, uint16, in memory; window 25 (51 frames), radii 3 and 7. All ways run in
turn, several rounds, on all CPUs of this machine; the table has the best wall time of each, and the
ratio to ours. It also has the CPU time, since other work on a machine lengthens wall times. SciPy
gets a part of each frame, and its time is that of whole frames. `smlmlp` 0.1.20 is left out where
it is not installed.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import dask
import numpy as np
from scipy import ndimage

import smlmlp_dask

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 3
WINDOW = 25
PART = 16
"""SciPy gets the first rows of each frame, one of so many."""


def reference() -> object | None:
    """Return `smlmlp`, if it is installed."""
    try:
        import arrlp
        import stacklp

        stacklp.get_xp = arrlp.get_xp  # its releases do not have it
        import smlmlp
    except ImportError:
        return None
    return smlmlp


def ways(movie: np.ndarray, package: object | None) -> dict[str, dict[str, Callable[[], object]]]:
    """Return what is compared, ours first, by step."""

    def lazy(name: str, **given: object) -> Callable[[], object]:
        return lambda: getattr(smlmlp_dask, name)([movie], **given)[0][0].compute()

    def theirs(name: str, **given: object) -> Callable[[], object]:
        return lambda: getattr(package, name)([movie], parallel=True, **given)

    part = movie[:, : movie.shape[1] // PART]
    steps = {
        "bkgd_temporal_median": {"median_window_fr": WINDOW},
        "bkgd_spatial_opening": {},
        "bkgd_combination": {"median_window_fr": WINDOW},
    }
    table = {name: {"smlmlp_dask": lazy(name, **given)} for name, given in steps.items()}
    if package is not None:
        for name, given in steps.items():
            table[name]["smlmlp, parallel=True"] = theirs(name, **given)
    scipy = f"scipy, 1 of {PART} rows"
    size = (2 * WINDOW + 1, 1, 1)
    table["bkgd_temporal_median"][scipy] = lambda: ndimage.median_filter(part, size=size)
    disk = smlmlp_dask.bkgd_spatial_opening([movie])[2]["footprints"][0][None] > 0
    floats = part.astype(np.float32)
    table["bkgd_spatial_opening"][scipy] = lambda: ndimage.grey_opening(floats, footprint=disk)
    return table


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Return wall and CPU seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Print the table."""
    frames, side = (int(number) for number in [*sys.argv[1:], 256, 512][:2])
    if len(sys.argv) == 2:
        side = 512
    movie = np.random.default_rng(0).poisson(100, (frames, side, side)).astype(np.uint16)
    cpus = len(os.sched_getaffinity(0))
    print(f"{frames} x {side} x {side} uint16, {cpus} CPUs, load {os.getloadavg()[0]:.1f}")
    with dask.config.set(scheduler="threads", num_workers=cpus):
        for step, runs in ways(movie, reference()).items():
            for run in runs.values():  # compiles what is compiled
                if run is not runs.get(f"scipy, 1 of {PART} rows"):
                    run()
            best = dict.fromkeys(runs, (np.inf, np.inf))
            for _ in range(ROUNDS):
                for name, run in runs.items():
                    scale = PART if name.startswith("scipy") else 1
                    seconds = [scale * spent for spent in timed(run)]
                    best[name] = tuple(map(min, best[name], seconds))
            wall, cpu = best["smlmlp_dask"]
            for name, (their_wall, their_cpu) in best.items():
                print(
                    f"{step:21} {name:22} {their_wall:8.2f} s, {their_wall / wall:6.1f} x"
                    f"   CPU {their_cpu:8.2f} s, {their_cpu / cpu:6.1f} x"
                    f"   {movie.size / their_wall / 1e6:7.1f} Mpx/s"
                )
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
