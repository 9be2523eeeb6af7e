"""What users run today for the background of a movie on disk, one program per way.

    python tests/benchmarks/peers.py NAME IN.zarr OUT.zarr

Each reads a Zarr array (frame, y, x), averages its frames with radius 7 (sigma 3.5, cut off at
2.5758 sigma, edges repeated) and writes float32 in the chunks of the input, as Blosc with LZ4 level
5 and bit shuffle. `job.py` times them as whole processes; hence the imports inside.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import zarr
from zarr.codecs import BloscCodec

if TYPE_CHECKING:
    import dask.array as da

RADIUS = 7.0
SIGMA = RADIUS / 2
CUT_OFF = 2.5758
"""In sigma; 99 % of the Gaussian's mass."""


def new_output(path: str, movie: zarr.Array) -> zarr.Array:
    """Create the float32 array that the background is written to."""
    return zarr.create_array(
        path,
        shape=movie.shape,
        chunks=movie.chunks,
        dtype="float32",
        compressors=BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"),
    )


def smlmlp_blocks(source: str, destination: str) -> None:
    """Run the reference over a stack that does not fit memory: one chunk of frames at a time."""
    from smlmlp import bkgd_spatial_mean

    movie = zarr.open_array(source, mode="r")
    background = new_output(destination, movie)
    step = movie.chunks[0]
    for start in range(0, movie.shape[0], step):
        block = movie[start : start + step]
        (filtered,), _, _ = bkgd_spatial_mean([block], RADIUS, parallel=True)
        background[start : start + step] = filtered


def smlmlp_chain(source: str, _: str) -> None:
    """Run the reference's default background, median and mean, in memory; nothing is written."""
    import arrlp
    import stacklp

    stacklp.get_xp = arrlp.get_xp  # its releases do not have it
    from smlmlp import bkgd_combination

    bkgd_combination([zarr.open_array(source, mode="r")[:]], parallel=True)


def lazy_floats(movie: zarr.Array) -> da.Array:
    """Return the movie as a Dask array of float32."""
    import dask.array as da

    return da.from_zarr(movie).astype("float32")


def dask_image_gaussian(source: str, destination: str) -> None:
    """Filter with dask-image's Gaussian, which samples the curve instead of integrating it."""
    from dask_image.ndfilters import gaussian_filter

    movie = zarr.open_array(source, mode="r")
    filtered = gaussian_filter(
        lazy_floats(movie), sigma=(0, SIGMA, SIGMA), mode="nearest", truncate=CUT_OFF
    )
    filtered.store(new_output(destination, movie), lock=False)


def dask_image_exact(source: str, destination: str) -> None:
    """Filter with dask-image's correlation and the reference's kernel, along y, then along x."""
    from dask_image.ndfilters import correlate
    from scipy.special import ndtr

    reach = int(CUT_OFF * SIGMA)
    borders = np.arange(-reach, reach + 2) - 0.5  # of the pixels
    kernel = np.diff(ndtr(borders / SIGMA)).astype("float32")
    kernel /= kernel.sum()

    movie = zarr.open_array(source, mode="r")
    along_y = correlate(lazy_floats(movie), kernel.reshape(1, -1, 1), mode="nearest")
    filtered = correlate(along_y, kernel.reshape(1, 1, -1), mode="nearest")
    filtered.store(new_output(destination, movie), lock=False)


def dyna_zarr(source: str, destination: str) -> None:
    """Filter with dyna-zarr's Gaussian and its own reader and writer."""
    from dyna_zarr import Codecs, io, operations

    movie = io.read(source)
    filtered = operations.gaussian_filter(
        movie.astype("float32"), (0, SIGMA, SIGMA), boundary="nearest", truncate=CUT_OFF
    )
    codec = Codecs("blosc", cname="lz4", clevel=5, shuffle=2)  # 2: by bits
    io.write(filtered, destination, chunks=tuple(movie.chunks), compressor=codec, zarr_format=3)


PEERS = {
    "smlmlp": smlmlp_blocks,
    "dask-image-gaussian": dask_image_gaussian,
    "dask-image-exact": dask_image_exact,
    "dyna-zarr": dyna_zarr,
}

IN_MEMORY = {"smlmlp-chain": smlmlp_chain}
"""Ways that write nothing."""

PACKAGES = {"smlmlp": (3, 12), "dyna-zarr": (3, 11), "dask-image": (3, 11), "zarr": (3, 11)}
"""What they need from PyPI, and the first Python that has it."""


def main() -> None:
    """Run the named peer."""
    ways = PEERS | IN_MEMORY
    if len(sys.argv) != 4 or sys.argv[1] not in ways:
        sys.exit(f"usage: python {sys.argv[0]} {'|'.join(ways)} IN.zarr OUT.zarr")
    ways[sys.argv[1]](*sys.argv[2:])


if __name__ == "__main__":
    main()
