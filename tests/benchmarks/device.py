"""Time what `cuda=True` does with a block on a device, beside cupyx and the device's limits.

    python tests/benchmarks/device.py [--radii 1 7 50] [--shape 16 512 512]

Needs the package with the extra cuda12 or cuda13; without a device it says so and ends. Times are
milliseconds for one block of uint16, the median of several runs. Of the rows

- `copy on the device` reads and writes the block's float32 once: no filter can be faster;
- `up`, `down` are one transfer each, as the package makes them;
- `cupyx, correlate1d twice` is the bare filter of float32 frames that are on the device;
- `ours, on the device` casts uint16 frames that are there, and filters them through dask-image;
- `ours, host to host` also takes them up and down;
- `ours, side by side` is the same per block, with as many threads as the package lets blocks be on
  the device: what overlap of transfers, filter and Python gains.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from smlmlp_dask.filters import device as backend
from smlmlp_dask.filters.kernels import without_zero_ends
from smlmlp_dask.filters.spatial_mean import SpatialMean
from smlmlp_dask.filters.steps import FilterOptions, background_of

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCKS = 32


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """Return the median time of a call and of what it left to the device; the first is for free."""
    import cupy

    device = cupy.cuda.Device()
    times = []
    for _ in range(repeats + 1):
        device.synchronize()
        start = time.perf_counter()
        work()
        device.synchronize()
        times.append(time.perf_counter() - start)
    return 1e3 * median(times[1:])


def measure(shape: tuple[int, int, int], radius: float, repeats: int) -> dict[str, float]:
    """Return the time of each row for one radius."""
    import cupy
    from cupyx.scipy.ndimage import correlate1d

    frames = np.random.default_rng(1).integers(0, 4000, shape).astype(np.uint16)
    mean, options = SpatialMean(radius), FilterOptions("dask-image", cuda=True)
    whole = tuple(slice(0, length) for length in shape)
    raw = cupy.asarray(frames)
    floats = raw.astype(np.float32)
    taps = cupy.asarray(without_zero_ends(mean.kernel_y))

    def cupyx_filter() -> object:
        along_y = correlate1d(floats, taps, axis=1, mode="nearest")
        return correlate1d(along_y, taps, axis=2, mode="nearest")

    def to_and_fro(_: int = 0) -> object:
        return background_of([frames], [mean], options, whole, to_host=True)

    def side_by_side() -> None:
        with ThreadPoolExecutor(backend.BLOCKS_AT_ONCE) as pool:
            list(pool.map(to_and_fro, range(BLOCKS)))

    difference = np.abs(to_and_fro() - cupyx_filter().get()).max()
    assert difference <= 4e-6 * frames.max(), f"cupyx gives something else: {difference}"
    return {
        "copy on the device": milliseconds(floats.copy, repeats),
        "up, uint16": milliseconds(lambda: backend.to_device(frames), repeats),
        "down, float32": milliseconds(lambda: backend.to_host(floats), repeats),
        "cupyx, correlate1d twice": milliseconds(cupyx_filter, repeats),
        "ours, on the device": milliseconds(
            lambda: background_of([raw], [mean], options, whole), repeats
        ),
        "ours, host to host": milliseconds(to_and_fro, repeats),
        "ours, side by side": milliseconds(side_by_side, max(1, repeats // 5)) / BLOCKS,
    }


def main(arguments: list[str] | None = None) -> None:
    """Print one table, a column for each radius."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--radii", type=float, nargs="+", default=[1, 7, 50])
    parser.add_argument("--shape", type=int, nargs=3, default=[16, 512, 512])
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args(arguments)
    try:
        version = backend.require_device()
    except RuntimeError as error:
        print(f"nothing to measure: {error}")
        return
    import cupy

    device = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    shape = tuple(options.shape)
    print(f"{device}, CuPy {version}, blocks of {' x '.join(map(str, shape))}, ms a block")
    columns = [measure(shape, radius, options.repeats) for radius in options.radii]
    print(f"{'radius':<26}", *(f"{radius:>10g}" for radius in options.radii))
    for row in columns[0]:
        print(f"{row:<26}", *(f"{column[row]:>10.3f}" for column in columns))


if __name__ == "__main__":
    main()
