"""The door to CuPy where it is closed: none, a damaged one, no driver, no device. No GPU code."""

import ctypes
import os
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from smlmlp_dask import bkgd_spatial_mean, run_spatial_mean
from smlmlp_dask.filters import device


@pytest.fixture
def cupy(monkeypatch):
    """Stand in for the module `cupy`, with a device; tests take something away."""
    module = ModuleType("cupy")
    module.__version__ = "13.6.0"
    module.cuda = SimpleNamespace(
        runtime=SimpleNamespace(getDeviceCount=lambda: 1),
        nvrtc=SimpleNamespace(getVersion=lambda: (12, 8)),
    )
    monkeypatch.setitem(sys.modules, "cupy", module)
    device._cupy.cache_clear()
    yield module
    device._cupy.cache_clear()


def fail(*_):
    raise RuntimeError("cudaErrorInsufficientDriver: no\ndriver")


def test_the_version_of_cupy_is_returned(cupy):
    assert device.require_device() == "13.6.0"


@pytest.mark.parametrize(
    ("driver", "remedy"),
    [
        (
            (12, 4),
            r"the NVIDIA driver supports CUDA 12\.4: install the extra cuda12 .*cupy-cuda12x",
        ),
        (
            (13, 0),
            r"the NVIDIA driver supports CUDA 13\.0: install the extra cuda13 .*cupy-cuda13x",
        ),
        ((14, 1), r"the NVIDIA driver supports CUDA 14\.1: install the extra cuda13"),
        ((11, 8), r"the NVIDIA driver supports CUDA 11\.8: update it to one for CUDA 12 or later"),
        (None, r"no NVIDIA driver.*cuda12 \(cupy-cuda12x\) or cuda13 \(cupy-cuda13x\)"),
    ],
)
@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no cupy", "needs CuPy, which cannot be imported"),
        ("no driver", r"cannot use a device here \(cudaErrorInsufficientDriver: no driver\)"),
        ("no device", "sees no CUDA device here"),
    ],
)
def test_the_extra_for_the_driver_is_named(cupy, monkeypatch, what, message, driver, remedy):
    monkeypatch.setattr(device, "driver_cuda_version", lambda: driver)
    if what == "no cupy":
        monkeypatch.setitem(sys.modules, "cupy", None)
    else:
        count = fail if what == "no driver" else lambda: 0
        monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", count)
    noise = [1.0]
    with pytest.raises(RuntimeError, match=f"{message}.*{remedy}") as caught:
        bkgd_spatial_mean([np.zeros((1, 2, 3))], noise_corrections=noise, cuda=True)
    assert "cuda=False (no --cuda)" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert noise == [1.0]


def test_a_cupy_without_its_compiler_is_refused_at_the_call(cupy):
    cupy.cuda.nvrtc.getVersion = fail
    with pytest.raises(RuntimeError, match=r"cannot load NVRTC.*cupy-cuda12x\[ctk\]"):
        bkgd_spatial_mean([np.zeros((1, 2, 3))], cuda=True)


@pytest.mark.parametrize(("status", "expected"), [(0, (12, 8)), (3, None)])
def test_the_driver_is_asked_for_its_version(monkeypatch, status, expected):
    def answer(pointer):
        pointer._obj.value = 12080
        return status

    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(cuDriverGetVersion=answer))
    assert device.driver_cuda_version() == expected


def test_there_may_be_no_driver_to_ask(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert device.driver_cuda_version() is None


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


@pytest.mark.slow
@pytest.mark.parametrize(
    "broken",
    [
        "raise ModuleNotFoundError('No module named cupy')",
        "raise ImportError('libnvrtc.so: cannot open')",
        "raise OSError('libcuda.so: cannot open')",  # which Dask's own import does not survive
        "raise AssertionError",
    ],
)
def test_a_cupy_that_cannot_be_imported_leaves_the_cpu_alone(tmp_path, broken):
    (tmp_path / "cupy.py").write_text(broken)
    np.ones((2, 3, 4), "u1").tofile(tmp_path / "m.raw")
    (tmp_path / "run.py").write_text(
        "import numpy, smlmlp_dask\n"
        "frames = numpy.ones((2, 3, 4))\n"
        "[b], _, _ = smlmlp_dask.bkgd_spatial_mean([frames])\n"
        "assert b.compute().shape == (2, 3, 4)\n"
        "smlmlp_dask.run_spatial_mean('m.raw', 'a.zarr', raw_shape=(2, 3, 4), raw_dtype='u1')\n"
        "try:\n"
        "    smlmlp_dask.bkgd_spatial_mean([frames], cuda=True)\n"
        "except RuntimeError as error:\n"
        "    print(error)\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])

    def python(*arguments):
        return subprocess.run(
            [sys.executable, "-W", "error", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
        )

    done = python("run.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert "cuda=True needs CuPy, which cannot be imported" in done.stdout
    command = "run m.raw -o b.zarr --raw-shape 2,3,4 --raw-dtype u1 --cuda"
    refused = python("-m", "smlmlp_dask", *command.split())
    assert refused.returncode == 2
    assert "needs CuPy, which cannot be imported" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "b.zarr").exists()
