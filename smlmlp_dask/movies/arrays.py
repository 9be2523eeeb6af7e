"""Sources that are arrays, beside paths: NumPy, Dask and Zarr arrays, DataArrays of xarray."""

import math
import sys
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import zarr
from zarr.storage import LocalStore, ZipStore

from smlmlp_dask.messages import shown

from .acquisition import UNKNOWN, Acquisition
from .labelled import check_stack, unlabelled
from .memory import DaskMovie, NumpyMovie
from .recording import Recording


class Array(Protocol):
    """A NumPy, Dask or Zarr array, or a DataArray of xarray, of shape (frame, y, x)."""

    @property
    def shape(self) -> Any:
        """Frames, rows and columns."""

    @property
    def ndim(self) -> int:
        """Three."""

    @property
    def dtype(self) -> Any:
        """A real integer or float."""


@dataclass(frozen=True, eq=False)
class ArraySource:
    """A source that no path stands for."""

    movie: NumpyMovie | DaskMovie
    acquisition: Acquisition = UNKNOWN

    def __str__(self) -> str:
        """Return what a store records in place of a path; see `in_memory`."""
        return self.movie.path

    @property
    def recording(self) -> Recording:
        """What it holds."""
        return Recording.of(self.movie, "array", self.acquisition)

    def identity(self) -> dict[str, Any]:
        """Return what tells it from another, in the form of `source_identity`; reads NumPy's."""
        movie = self.movie
        size = movie.dtype.itemsize * math.prod(movie.shape)
        return {
            "path": str(self),
            "files": 0,
            "bytes": size,
            "newest": 0,
            "digest": movie.digest(),
        }


def in_memory(source: str) -> bool:
    """Say whether a recorded source was an array, not a path: recorded paths are absolute."""
    return source.startswith("<")


def not_kept(source: str) -> str:
    """Say why frames of such a source cannot be read again, and what to do."""
    return (
        f"{source} was an array in memory, which the store does not keep: call the function that "
        "wrote the store with the same array and resume=True, which also repairs it"
    )


def is_array(value: Any) -> bool:
    """Say whether a value is an array of numbers; lists of paths may be arrays of text."""
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    return isinstance(kind, str) and kind not in "OUST" and hasattr(value, "ndim")


def as_source(value: Any, name: str) -> str | PathLike[str] | ArraySource:
    """Return a path as it is, a stored Zarr array as its path, and another array as a source.

    Parameters
    ----------
    value : path, numpy.ndarray, dask.array.Array, zarr.Array or xarray.DataArray
        What the caller passed.
    name : str
        Its name in messages.

    Raises
    ------
    TypeError, ValueError
        If it is neither a path nor an array (frame, y, x) of real numbers.
    """
    if isinstance(value, str | bytes | PathLike):
        return value  # type: ignore[return-value]  # whoever opens it refuses bytes
    if isinstance(value, zarr.Array):
        return _place(value, name)
    array, acquisition = unlabelled(value, name)
    if isinstance(array, np.ndarray):
        check_stack(array, name)
        movie = NumpyMovie(path=f"<NumPy array {name}>", array=array.view(np.ndarray))
        return ArraySource(movie, acquisition)
    if _is_dask(array):
        check_stack(array, name)
        if not isinstance(array._meta, np.ndarray):
            raise TypeError(
                f"{name} has chunks of type {type(array._meta).__name__}: pass one with NumPy's, "
                "as array.map_blocks(cupy.asnumpy) makes them"
            )
        return ArraySource(DaskMovie.of(array, f"<Dask array {name}>"), acquisition)
    remedy = "cupy.asnumpy(array)" if hasattr(array, "__cuda_array_interface__") else "a path"
    raise TypeError(
        f"{name} is {shown(value)}, of type {type(value).__name__}: pass {remedy}, or a NumPy, "
        "Dask, Zarr or xarray array of shape (frame, y, x)"
    )


def _is_dask(value: Any) -> bool:
    dask_array = sys.modules.get("dask.array")
    return dask_array is not None and isinstance(value, dask_array.Array)


def _place(array: "zarr.Array[Any]", name: str) -> str:
    """Return the path of a Zarr array on this machine, so that it is read as others are."""
    store = array.store
    if isinstance(store, LocalStore):
        return str(Path(store.root, array.path).absolute())
    if isinstance(store, ZipStore):
        return "::".join(filter(None, (str(Path(str(store.path)).absolute()), array.path)))
    raise ValueError(
        f"{name} is a Zarr array in a {type(store).__name__}, not on this machine's disks: copy it "
        "to a local folder, or pass array[:] if it fits into memory"
    )
