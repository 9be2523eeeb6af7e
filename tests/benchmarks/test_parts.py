"""What the parts of a job cost; `pytest tests/benchmarks --benchmark-enable -n 0` prints all.

Run as plain tests they check that every part does its work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
import zarr

from smlmlp_dask.blocks import plan_blocks
from smlmlp_dask.filters.kernels import gaussian_kernel
from smlmlp_dask.filters.spatial_mean import FilterOptions, SpatialMean, filter_chunk
from smlmlp_dask.movies.opening import open_stacks
from smlmlp_dask.store.chunk_files import ChunkFiles
from smlmlp_dask.store.codecs import Storage

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("pytest_benchmark", reason="its fixture times the parts")

SHAPE = (32, 64, 64)
BLOCK = (slice(8, 24), slice(None), slice(None))


@pytest.fixture(scope="module")
def frames():
    """Camera counts."""
    return np.random.default_rng(3).poisson(100, SHAPE).astype(np.uint16)


@pytest.fixture(scope="module")
def background(frames):
    """Their background."""
    return filtered(frames, 7.0, "fused")


def filtered(frames: np.ndarray, radius: float, engine: str) -> np.ndarray:
    """Filter frames as a task does."""
    mean = SpatialMean.from_radii((radius, radius))
    return filter_chunk(frames, mean, FilterOptions(engine))


def write_zarr(path: Path, frames: np.ndarray) -> None:
    """Write a movie in chunks of 8 frames."""
    array = zarr.create_array(path, shape=SHAPE, chunks=(8, *SHAPE[1:]), dtype="uint16")
    array[:] = frames


def write_tiff(path: Path, frames: np.ndarray) -> None:
    """Write a movie as one page a frame, uncompressed."""
    tifffile.imwrite(path, frames, bigtiff=True, photometric="minisblack")


@pytest.mark.parametrize("radius", [7, 50])
def test_kernel(benchmark, radius):
    """The kernel of one axis."""
    kernel = benchmark(gaussian_kernel, radius / 2)
    assert kernel.sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("engine", ["fused", "dask-image"])
@pytest.mark.parametrize("radius", [7.0, 50.0])
def test_filter(benchmark, frames, radius, engine):
    """One block through an engine; dask-image's gets fewer frames, being slower."""
    block = frames if engine == "fused" else frames[:4]
    expected = filtered(block, radius, "fused")  # compiles, too, if this is the first
    found = benchmark(filtered, block, radius, engine)
    assert found.dtype == np.float32
    # both are within 1e-6 (4e-6 over radius 20) of the exact sums, relative to the input
    np.testing.assert_allclose(found, expected, rtol=0, atol=8e-6 * float(frames.max()))


@pytest.mark.parametrize(("name", "write"), [("movie.zarr", write_zarr), ("movie.tif", write_tiff)])
def test_read(benchmark, tmp_path, frames, name, write):
    """One block of a movie on disk, the file opened anew as tasks do."""
    write(tmp_path / name, frames)
    (stack,) = open_stacks(tmp_path / name)
    found = benchmark(lambda: stack.part(BLOCK).read())
    np.testing.assert_array_equal(found, frames[BLOCK])


@pytest.mark.parametrize("codec", ["fast", "small", "none"])
def test_write(benchmark, tmp_path, background, codec):
    """One chunk of a background, encoded and written."""
    target = zarr.create_array(
        tmp_path / "out.zarr",
        shape=SHAPE,
        chunks=SHAPE,
        dtype="float32",
        compressors=Storage.checked(codec, None).compressors(),
    )
    chunks = ChunkFiles(tmp_path / "out.zarr", SHAPE, Storage.checked(codec, None))
    benchmark(chunks.write, tuple(slice(0, n) for n in SHAPE), background)
    np.testing.assert_array_equal(target[:], background)


def test_rounding(benchmark, background):
    """One chunk rounded to 12 mantissa bits."""
    rounded = benchmark(Storage.checked("fast", 12).rounded, background)
    np.testing.assert_allclose(rounded, background, rtol=2.0**-13)


def test_plan(benchmark):
    """The plan of a long movie, all its blocks listed."""

    def blocks() -> int:
        plan = plan_blocks((500_000, 64, 64), 2, (250, 64, 64), (9, 9))
        return sum(block.inner[0].stop - block.inner[0].start for block in plan.blocks())

    assert benchmark(blocks) == 500_000
