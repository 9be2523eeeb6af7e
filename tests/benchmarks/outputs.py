"""What the outputs of a job cost: signal, SNR and mean beside the float32 background, or without.

    python tests/benchmarks/outputs.py [FRAMES] [ROUNDS]

A simulated movie of 512 x 512, kept as cameras' movies are (Blosc with Zstandard), Zarr to Zarr, on
all CPUs of this machine. The ways run in turn; the
table has the wall and CPU time of each round, the size on disk, and both divided by those of the
background alone. Other work on the machine lengthens wall times: the load is printed, too.
"""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import zarr
from zarr.codecs import BloscCodec

from smlmlp_dask import SpatialMean, TemporalMedian, run_background, simulate_movie

MEAN, CHAIN = [SpatialMean(7.0)], [TemporalMedian(25), SpatialMean(7.0)]
WAYS = {
    "background": (MEAN, "background", None),
    "signal, uint16": (MEAN, "signal", 100),
    "both": (MEAN, ("background", "signal"), 100),
    "with SNR": (MEAN, ("background", "signal", "snr"), 100),
    "all, with maps": (MEAN, ("background", "signal", "snr", "mean_background"), 100),
    "mean background": (MEAN, "mean_background", None),
    "in photons": (MEAN, "background", None),
    "chain, background": (CHAIN, "background", None),
    "chain, signal, uint16": (CHAIN, "signal", 100),
}


def measured(movie: Path, way: str) -> tuple[float, float, int]:
    """Run one way; return its wall and CPU seconds, and its bytes on disk."""
    steps, outputs, pedestal = WAYS[way]
    out = movie.with_name("out.zarr")
    os.sync()
    wall, cpu = time.perf_counter(), time.process_time()
    camera: dict[str, Any] = {"gain": 0.25} if "snr" in outputs else {}
    if "maps" in way:
        camera = {name: movie.with_name(f"{name}.npy") for name in ("gain", "baseline", "variance")}
    if "photons" in way:
        camera = {"gain": 0.25, "baseline": 100, "photons": True}
    run_background(movie, out, steps, outputs, pedestal=pedestal, **camera)
    spent = time.perf_counter() - wall, time.process_time() - cpu
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    shutil.rmtree(out)
    return *spent, size


def main() -> None:
    """Print the table."""
    frames, rounds = (int(word) for word in [*sys.argv[1:], "1024", "5"][:2])
    with tempfile.TemporaryDirectory(prefix="smlmlp-dask-outputs-") as folder:
        movie = Path(folder) / "movie.zarr"
        counts = simulate_movie(frames, 512, 512).movie
        stored = zarr.create_array(
            movie,
            shape=counts.shape,
            chunks=(32, 512, 512),
            dtype="u2",
            compressors=BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"),
        )
        da.store(counts, stored, lock=False)
        for name, value in (("gain", 0.25), ("baseline", 1.0), ("variance", 2.0)):
            np.save(movie.with_name(f"{name}.npy"), np.full((512, 512), value))
        for way in WAYS:  # compile, and open what is opened once
            measured(movie, way)
        found = [{way: measured(movie, way) for way in WAYS} for _ in range(rounds)]
    print(f"load {os.getloadavg()[0]:.1f}")
    for way in WAYS:
        walls, cpus = ([each[way][i] for each in found] for i in (0, 1))
        ratios = [
            sorted(each[way][i] / each["background"][i] for each in found)[rounds // 2]
            for i in range(3)
        ]
        print(
            f"{way:22} wall {' '.join(f'{s:.2f}' for s in walls)} s, "
            f"CPU {' '.join(f'{s:.2f}' for s in cpus)} s, {found[0][way][2] / 1e6:.0f} MB; "
            f"of the background's: {ratios[0]:.2f} wall, {ratios[1]:.2f} CPU, {ratios[2]:.2f} disk"
        )


if __name__ == "__main__":
    main()
