"""The only door to CuPy: is there a device, blocks to and from it, streams and free memory."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from queue import LifoQueue
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from smlmlp_dask.messages import one_line

if TYPE_CHECKING:
    from types import ModuleType

    import cupy
    import dask.array as da

BLOCKS_AT_ONCE = 3
"""Blocks that are on a device side by side: one on its way up, one filtered, one on its way down.

More would wait for one another there, and take memory."""

# Dask and Zarr import CuPy where they find it, and a damaged one may raise anything there, which
# they do not survive: without it, the CPU still works. So this comes before them.
DAMAGE: Exception | None = None
try:
    import cupy  # noqa: TC002 - to see whether it can be
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
        # CuPy imports without a driver and fails at first use: asking for the count is that use.
        count = xp.cuda.runtime.getDeviceCount()
    except Exception as error:
        raise RuntimeError(
            f"cuda=True: CuPy cannot use a device here ({one_line(error)}): {_remedy()}"
        ) from error
    if count < 1:
        raise RuntimeError(f"cuda=True: CuPy sees no CUDA device here: {_remedy()}")
    try:
        # CuPy compiles its filters when they are first used: better here than in the first block.
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


def empty(shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    """Return an array on the current device, not filled; without pixels, a dask array's `meta`."""
    xp = _cupy()
    return xp.empty(shape, dtype=dtype)


def to_device(array: Any) -> Any:
    """Return an array on the current device, in its dtype and native byte order; one transfer.

    CuPy arrays stay where they are.
    """
    xp = _cupy()
    if not isinstance(array, np.ndarray):
        return array
    if array.dtype.char == np.dtype(np.longdouble).char:  # which no device has
        array = array.astype(np.float32)
    return xp.asarray(array.astype(array.dtype.newbyteorder("="), copy=False))


def as_float32(array: "cupy.ndarray") -> "cupy.ndarray":
    """Return a device's array cast there, or itself."""
    return array.astype(np.float32, copy=False)


def to_host(array: "cupy.ndarray") -> np.ndarray[Any, Any]:
    """Return a device's array as a NumPy array, once it has been computed; one transfer."""
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
    """Say whether two arrays on devices overlap; views that interleave count as if they did."""
    xp = _cupy()
    return bool(xp.may_share_memory(one, other))


@contextmanager
def working_on(array: "np.ndarray[Any, Any] | cupy.ndarray") -> Iterator[None]:
    """Let CuPy work on a stream of its own in the ``with`` block, and end when its work has.

    The stream is on the array's device; for a NumPy array on the thread's current one, which is
    the worker's own under dask-cuda (it hides the others), and the first elsewhere.

    So one block's transfers overlap another's filter. The streams wait for the default stream and
    it for them, so what a user computes there is in order with ours; a ``non_blocking`` one would
    not be. They are few and shared by all threads, since CuPy's memory pool keeps what a stream
    has freed for that stream alone: with one for each thread, or CUDA's per-thread default
    streams, memory would stay behind in every thread that ends.
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
                    # Another thread may be next to use, or to free, what was computed.
                    stream.synchronize()
        finally:
            streams.put(stream)


def free_bytes() -> int:
    """Return the memory of the current device that one of the blocks side by side may take."""
    xp = _cupy()
    pool: cupy.cuda.MemoryPool = xp.get_default_memory_pool()
    free, _ = xp.cuda.runtime.memGetInfo()
    free += pool.free_bytes()  # held by CuPy, and ready to be used again
    if limit := pool.get_limit():  # CUPY_GPU_MEMORY_LIMIT
        free = min(free, max(0, limit - pool.used_bytes()))
    return int(free) // BLOCKS_AT_ONCE


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether it was the device, not the host, whose memory was not enough."""
    xp = _cupy()
    return isinstance(error, xp.cuda.memory.OutOfMemoryError)


@cache
def _cupy() -> "ModuleType":
    """Import CuPy; nothing else in the package does."""
    if DAMAGE is not None:
        raise DAMAGE
    import cupy

    return cupy  # type: ignore[no-any-return, unused-ignore]


@cache
def _streams(device: int) -> "LifoQueue[cupy.cuda.Stream]":
    """Return the streams of a device, of which each block takes one for as long as it is there.

    The last one put back is taken first: a single thread uses a single one, and its memory.
    """
    xp = _cupy()
    streams: LifoQueue[Any] = LifoQueue()
    with xp.cuda.Device(device):
        for _ in range(BLOCKS_AT_ONCE):
            streams.put(xp.cuda.Stream())
    return streams


def _remedy() -> str:
    """Return what would help here: which extra, or which driver."""
    version = driver_cuda_version()
    otherwise = "or leave cuda=False (no --cuda)"
    if version is None:
        return (
            "there is no NVIDIA driver; where there is one, install the extra for the CUDA version "
            "it supports, cuda12 (cupy-cuda12x) or cuda13 (cupy-cuda13x), " + otherwise
        )
    has = f"the NVIDIA driver supports CUDA {version[0]}.{version[1]}"
    if version[0] < 12:
        return f"{has}: update it to one for CUDA 12 or later, {otherwise}"
    major = min(version[0], 13)
    return f"{has}: install the extra cuda{major} (pip install cupy-cuda{major}x), {otherwise}"


def driver_cuda_version() -> tuple[int, int] | None:
    """Return the CUDA version, (12, 8) say, that this machine's driver supports; None without."""
    version = ctypes.c_int()
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        if driver.cuDriverGetVersion(ctypes.byref(version)) != 0:
            return None
    except (OSError, AttributeError):
        return None
    return version.value // 1000, version.value % 1000 // 10
