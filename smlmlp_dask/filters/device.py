"""The only module that imports CuPy: device checks, transfers, streams and free memory."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from queue import LifoQueue
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from smlmlp_dask.messages import as_size, one_line

if TYPE_CHECKING:
    from types import ModuleType

    import cupy
    import dask.array as da

BLOCKS_AT_ONCE = 3
"""Blocks on a device at a time: one going up, one being filtered, one coming down.

More would only wait there and take memory."""

PIXEL_BYTES = 40
"""Bytes a pixel on a device, beyond the source's own: the float32 frames, the background, and
during a pass with float64 sums the frames, two copies that Dask makes for overlap, and the result.
"""

# Dask and Zarr import CuPy where they find it, and fail if a damaged installation raises. So we
# import it before them and hide a damaged one: then everything on the CPU still works.
DAMAGE: Exception | None = None
try:
    import cupy  # noqa: TC002 - to see whether it can be imported
except ImportError:
    pass
except Exception as error:
    sys.modules["cupy"] = None  # type: ignore[assignment]
    DAMAGE = error

_opening = Lock()


def require_device() -> str:
    """Return CuPy's version; raise `RuntimeError` unless it can compute on a device here."""
    try:
        xp = _cupy()
    except Exception as error:  # a damaged installation may raise anything
        raise RuntimeError(
            f"cuda=True needs CuPy, which cannot be imported ({one_line(error)}): {_remedy()}"
        ) from error
    try:
        # CuPy imports without a driver and fails at first use, so use it here.
        count = xp.cuda.runtime.getDeviceCount()
    except Exception as error:
        raise RuntimeError(
            f"cuda=True: CuPy cannot use a device here ({one_line(error)}): {_remedy()}"
        ) from error
    if count < 1:
        raise RuntimeError(f"cuda=True: CuPy sees no CUDA device here: {_remedy()}")
    try:
        # CuPy compiles its filters at first use: find a missing compiler now, not in a block.
        xp.cuda.nvrtc.getVersion()
    except Exception as error:
        raise RuntimeError(
            f"cuda=True: CuPy cannot load NVRTC, CUDA's compiler ({one_line(error)}): install the "
            "CUDA toolkit, or CuPy with it (pip install 'cupy-cuda12x[ctk]' or 'cupy-cuda13x[ctk]')"
        ) from error
    return str(xp.__version__)


def on_host(stack: "da.Array") -> bool:
    """Say whether a dask array's chunks are NumPy arrays."""
    return isinstance(stack._meta, np.ndarray)


def namespace(array: "np.ndarray[Any, Any] | cupy.ndarray") -> Any:
    """Return the module whose functions take this array: NumPy or CuPy."""
    return np if isinstance(array, np.ndarray) else _cupy()


def empty(shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    """Return an uninitialized array on the current device; of size 0, it is Dask's `meta`."""
    xp = _cupy()
    return xp.empty(shape, dtype=dtype)


def to_device(array: Any) -> Any:
    """Copy a NumPy array to the current device in one transfer, in native byte order.

    CuPy arrays stay where they are.
    """
    xp = _cupy()
    if not isinstance(array, np.ndarray):
        return array
    if array.dtype.char == np.dtype(np.longdouble).char:  # devices lack it
        array = array.astype(np.float32)
    return xp.asarray(array.astype(array.dtype.newbyteorder("="), copy=False))


def as_float32(array: "np.ndarray[Any, Any] | cupy.ndarray") -> Any:
    """Return an array cast to float32 where it is, or itself if it is float32.

    Values beyond the range of float32 become infinite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(np.float32, copy=False)


def to_host(array: "cupy.ndarray") -> np.ndarray[Any, Any]:
    """Wait for a device's array and copy it to a NumPy array in one transfer."""
    host: np.ndarray[Any, Any] = array.get()
    return host


def stack_to_host(stack: "da.Array") -> "da.Array":
    """Move a dask array's chunks to the host, if they are on a device."""
    if on_host(stack):
        return stack
    import dask.array as da

    meta = np.empty((0,) * stack.ndim, dtype=stack.dtype)
    moved: da.Array = da.map_blocks(_chunk_to_host, stack, dtype=stack.dtype, meta=meta)
    return moved


def _chunk_to_host(chunk: Any) -> np.ndarray[Any, Any]:
    with working_on(chunk):
        return to_host(chunk)


def share_memory(one: "cupy.ndarray", other: "cupy.ndarray") -> bool:
    """Say whether two arrays on devices may overlap; interleaving views count as overlapping."""
    xp = _cupy()
    return bool(xp.may_share_memory(one, other))


@contextmanager
def working_on(array: "np.ndarray[Any, Any] | cupy.ndarray") -> Iterator[None]:
    """Run CuPy on its own stream in the ``with`` block, and wait for its work at the end.

    The stream is on the array's device. For a NumPy array that is the thread's current device:
    the worker's own under dask-cuda (it hides the others), else the first.

    So one block's transfers overlap another's filter. Our streams and the default stream wait for
    each other, which keeps the user's own work in order with ours; ``non_blocking`` streams would
    not. All threads share a few streams, because CuPy's memory pool keeps the memory that a stream
    freed for that stream. With one stream a thread, each ended thread would leave memory behind.
    """
    xp = _cupy()
    device: cupy.cuda.Device = xp.cuda.Device() if isinstance(array, np.ndarray) else array.device
    with device:
        with _opening:
            streams = _streams(device.id)
        stream: cupy.cuda.Stream = streams.get()
        try:
            with stream:
                try:
                    yield
                finally:
                    # Another thread may use or free the results next.
                    stream.synchronize()
        finally:
            streams.put(stream)


def free_bytes() -> int:
    """Return the free memory of the current device for each of the blocks on it at a time."""
    xp = _cupy()
    pool: cupy.cuda.MemoryPool = xp.get_default_memory_pool()
    free, _ = xp.cuda.runtime.memGetInfo()
    free += pool.free_bytes()  # held by CuPy for reuse
    if limit := pool.get_limit():  # CUPY_GPU_MEMORY_LIMIT
        free = min(free, max(0, limit - pool.used_bytes()))
    return int(free) // BLOCKS_AT_ONCE


@contextmanager
def naming_a_size_that_fits(shape: tuple[int, int, int], frame_bytes: int) -> Iterator[None]:
    """Turn a device's out-of-memory error into one that names a block size that fits."""
    try:
        yield
    except MemoryError as error:
        if not isinstance(error, _cupy().cuda.memory.OutOfMemoryError):  # but the host's
            raise
        fitting = min(shape[0] // 2, free_bytes() // frame_bytes) or 1
        remedy = (
            f"ask for blocks of at most {fitting} x {shape[1]} x {shape[2]} pixels "
            f"(stack.rechunk({{0: {fitting}}}); for a job a smaller memory_limit)"
            if shape[0] > 1
            else "take a part of each frame (bboxes)"
        )
        raise RuntimeError(
            f"the GPU ran out of memory on a block of {' x '.join(map(str, shape))} pixels, which "
            f"takes {as_size(shape[0] * frame_bytes)} of its memory, with up to "
            f"{BLOCKS_AT_ONCE} blocks at a time ({one_line(error)}): {remedy}, "
            "or end what else uses the GPU"
        ) from error


@cache
def _cupy() -> "ModuleType":
    """Return CuPy, or raise the error of its import."""
    if DAMAGE is not None:
        raise DAMAGE
    import cupy

    return cupy  # type: ignore[no-any-return, unused-ignore]


@cache
def _streams(device: int) -> "LifoQueue[cupy.cuda.Stream]":
    """Return the streams of a device; each block uses one while it is on the device.

    Last in, first out: a single thread always gets the same stream, and so its memory.
    """
    xp = _cupy()
    streams: LifoQueue[Any] = LifoQueue()
    with xp.cuda.Device(device):
        for _ in range(BLOCKS_AT_ONCE):
            streams.put(xp.cuda.Stream())
    return streams


def _remedy() -> str:
    """Return the remedy on this machine: which extra to install, or which driver."""
    version = driver_cuda_version()
    otherwise = "or leave cuda=False (no --cuda)"
    if version is None:
        return (
            "there is no NVIDIA driver; on a machine with one, install the extra for the CUDA "
            "version it supports, cuda12 (cupy-cuda12x) or cuda13 (cupy-cuda13x), " + otherwise
        )
    has = f"the NVIDIA driver supports CUDA {version[0]}.{version[1]}"
    if version[0] < 12:
        return f"{has}: update it to one for CUDA 12 or later, {otherwise}"
    major = min(version[0], 13)
    return f"{has}: install the extra cuda{major} (pip install cupy-cuda{major}x), {otherwise}"


def driver_cuda_version() -> tuple[int, int] | None:
    """Return the CUDA version that this machine's driver supports, such as (12, 8), or None."""
    version = ctypes.c_int()
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        if driver.cuDriverGetVersion(ctypes.byref(version)) != 0:
            return None
    except (OSError, AttributeError):
        return None
    return version.value // 1000, version.value % 1000 // 10
