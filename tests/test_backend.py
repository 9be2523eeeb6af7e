"""The door to CuPy, on machines without a device. No GPU code runs here."""

import sys
from types import ModuleType, SimpleNamespace

import dask.array as da
import numpy as np
import pytest

from smlmlp_dask import backend, bkgd_spatial_mean, run_spatial_mean


@pytest.fixture
def cupy(monkeypatch):
    """Stand in for the module `cupy`; tests set what it does."""
    module = ModuleType("cupy")
    module.cuda = SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=lambda: 1))
    monkeypatch.setitem(sys.modules, "cupy", module)
    backend._cupy.cache_clear()
    yield module
    backend._cupy.cache_clear()


def no_driver():
    raise RuntimeError("cudaErrorInsufficientDriver: no driver")


@pytest.mark.parametrize(
    ("count", "message"),
    [(lambda: 0, "no CUDA device"), (no_driver, "cudaErrorInsufficientDriver")],
)
def test_no_device(cupy, count, message):
    cupy.cuda.runtime.getDeviceCount = count
    with pytest.raises(RuntimeError, match=rf"{message}.*cupy-cuda12x or cupy-cuda13x"):
        bkgd_spatial_mean([np.zeros((1, 2, 3))], cuda=True)


@pytest.mark.parametrize("broken", [None, "not even a module"])
def test_no_cupy(cupy, monkeypatch, broken):
    monkeypatch.setitem(sys.modules, "cupy", broken)
    noise = [1.0]
    with pytest.raises(RuntimeError, match="cuda=True cannot be used here .*pip install cupy"):
        bkgd_spatial_mean([np.zeros((1, 2, 3))], noise_corrections=noise, cuda=True)
    assert noise == [1.0]


def test_a_job_without_a_device_writes_nothing(cupy, tmp_path):
    cupy.cuda.runtime.getDeviceCount = lambda: 0
    (tmp_path / "movie.raw").write_bytes(bytes(24))
    with pytest.raises(RuntimeError, match="no CUDA device"):
        run_spatial_mean(
            tmp_path / "movie.raw",
            tmp_path / "out.zarr",
            raw_shape=(2, 3, 4),
            raw_dtype="u1",
            cuda=True,
        )
    assert not (tmp_path / "out.zarr").exists()


def test_fused_is_for_numpy_only(cupy):
    with pytest.raises(ValueError, match="engine 'fused' filters NumPy chunks only"):
        bkgd_spatial_mean([np.zeros((1, 2, 3))], cuda=True, engine="fused")


def test_chunks_travel_in_their_own_dtype_and_native_order(cupy):
    sent = []

    class Device(np.ndarray):
        def get(self):
            return np.array(self)

    def asarray(chunk):
        sent.append(chunk.dtype)
        return chunk.view(Device)

    cupy.asarray = asarray
    cupy.empty = lambda shape, dtype: np.empty(shape, dtype).view(Device)
    stack = da.from_array(np.arange(24, dtype=">u2").reshape(4, 2, 3), chunks=(2, 2, 3))
    up = backend.to_device(stack)
    assert up.dtype == np.uint16
    assert up.compute(scheduler="synchronous").tolist() == stack.compute().tolist()
    assert sent == [np.dtype(np.uint16)] * 2
