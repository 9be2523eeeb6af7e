"""The only door to CuPy: is there a device, and arrays to and from it."""

from functools import cache
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np

if TYPE_CHECKING:
    from types import ModuleType

INSTALL_HINT = (
    "install CuPy for your driver's CUDA version (pip install cupy-cuda12x or cupy-cuda13x) on a "
    "machine with an NVIDIA device, or leave cuda=False"
)


@cache
def _cupy() -> "ModuleType":
    """Import CuPy; nothing else in the package does."""
    import cupy

    module: ModuleType = cupy
    return module


def require_device() -> None:
    """Raise `RuntimeError` unless CuPy can be imported and sees a device."""
    try:
        cupy = _cupy()
        # CuPy imports without a driver and fails at first use: asking for the count is that use.
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        raise RuntimeError(f"cuda=True cannot be used here ({error}): {INSTALL_HINT}") from error
    if count < 1:
        raise RuntimeError(f"cuda=True cannot be used here (no CUDA device): {INSTALL_HINT}")


def on_host(stack: da.Array) -> bool:
    """Say whether a dask array's chunks are NumPy arrays."""
    return isinstance(stack._meta, np.ndarray)


def to_device(stack: da.Array) -> da.Array:
    """Move NumPy chunks to the current CUDA device, in their dtype and native byte order."""
    if not on_host(stack):
        return stack
    dtype = stack.dtype.newbyteorder("=")  # devices know no other
    meta = _cupy().empty((0,) * stack.ndim, dtype=dtype)
    moved: da.Array = da.map_blocks(_chunk_to_device, stack, dtype=dtype, meta=meta)
    return moved


def to_host(stack: da.Array) -> da.Array:
    """Move device chunks to NumPy arrays."""
    if on_host(stack):
        return stack
    meta = np.empty((0,) * stack.ndim, dtype=stack.dtype)
    moved: da.Array = da.map_blocks(_chunk_to_host, stack, dtype=stack.dtype, meta=meta)
    return moved


def like(stack: da.Array, array: np.ndarray[Any, Any]) -> Any:
    """Return a small NumPy array as the kind of array that the stack's chunks are."""
    if on_host(stack):
        return array
    return np.asarray(array, like=stack._meta)


def _chunk_to_device(chunk: np.ndarray[Any, Any]) -> Any:
    native = chunk.astype(chunk.dtype.newbyteorder("="), copy=False)
    return _cupy().asarray(native)


def _chunk_to_host(chunk: Any) -> np.ndarray[Any, Any]:
    return np.asarray(chunk.get())
