"""Checks of arrays as stacks, and xarray's DataArrays: which axis is which, how it was recorded."""

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from smlmlp_dask.messages import printable

from .acquisition import UNKNOWN, Acquisition
from .arguments import check_dtype
from .axes import in_micrometres, in_order, in_seconds, plain

UNEVEN = 1e-3
"""Largest share by which steps between coordinates may differ, as those of stage and clock do."""


def check_stack(array: Any, name: str) -> None:
    """Raise unless an array is a stack (frame, y, x) of real numbers, with pixels.

    Raises
    ------
    TypeError
        If its dtype is not real (bool, complex, object ...), or pixels are masked.
    ValueError
        If it is not 3-D, has no pixels, or has unknown chunk sizes.
    """
    check_dtype(name, array.dtype)
    shape = tuple("?" if math.isnan(length) else length for length in array.shape)
    if array.ndim != 3:
        raise ValueError(
            f"{name} has shape {shape}: pass stacks of shape (frame, y, x); "
            "a single frame is array[None]"
        )
    if "?" in shape:
        raise ValueError(
            f"{name} has unknown chunk sizes {shape}: call its compute_chunk_sizes() method first"
        )
    if array.shape[1] == 0 or array.shape[2] == 0:
        raise ValueError(f"{name} has shape {shape}: its frames have no pixels")
    chunk = getattr(array, "_meta", array)
    if isinstance(chunk, np.ma.MaskedArray | np.matrix):
        kind = type(chunk).__name__
        what, library = (
            (f"is a {kind}", "numpy") if chunk is array else (f"has {kind} chunks", "dask.array")
        )
        raise TypeError(
            f"{name} {what}, whose masks would be ignored: fill the masked pixels first, "
            f"for example with {library}.ma.filled"
        )


def unlabelled(array: Any, name: str) -> tuple[Any, Acquisition]:
    """Return the NumPy or Dask array (frame, y, x) in a DataArray, and how it was recorded.

    What a file holds and is not loaded yet stays so. Anything else is returned as it is.

    Raises
    ------
    ValueError
        If it is no stack, or it is not certain which axis is which.
    TypeError
        If its dtype is not real.
    """
    xarray = sys.modules.get("xarray")  # it is not imported for others
    if xarray is None or not isinstance(array, xarray.DataArray):
        return array, UNKNOWN
    check_stack(array, name)
    dims = _dims(array, name)
    ordered = array.transpose(*dims)
    if ordered.chunks is None and not getattr(ordered.variable, "_in_memory", True):
        ordered = ordered.chunk("auto")  # `data` would load all frames
    frame, y, x = (array.coords.get(dim) for dim in dims)
    height, width = abs(_step(y, in_micrometres)), abs(_step(x, in_micrometres))
    interval = _step(frame, in_seconds)
    return ordered.data, Acquisition(
        pixel_size_um=(height, width) if height and width else None,
        frame_interval_s=interval if interval > 0 else None,
    )


def _dims(array: Any, name: str) -> Sequence[Any]:
    """Return the names of the axes in the order frame, y, x."""
    called = plain(map(str, array.dims))
    if sorted(called) == ["t", "x", "y"]:
        by_name = dict(zip(called, array.dims, strict=True))
        return [by_name[letter] for letter in "tyx"]
    if in_order(called) != ["t", "y", "x"]:
        names = printable(", ".join(map(str, array.dims)))
        raise ValueError(
            f"{name} has the dims {names}, which are not t, y and x for certain: rename them, as "
            f"in array.rename({{{str(array.dims[0])!r}: 't'}})"
        )
    dims: Sequence[Any] = array.dims
    return dims


def _step(coordinate: Any, in_unit: Callable[[str], float]) -> float:
    """Return the step between evenly spaced numbers, or times; 0 if they or their unit are not."""
    if coordinate is None:
        return 0.0
    values, unit = coordinate.values, coordinate.attrs.get("units")
    if values.dtype.kind in "mM":
        counted = values.astype(f"{values.dtype.kind}8[ns]").astype(np.int64)
        values, unit = counted - counted[:1], "ns"
    listed = values.ndim == 1 and len(values) > 1 and values.dtype.kind in "iuf"
    if not listed or not isinstance(unit, str):
        return 0.0
    numbers = values.astype(np.float64)
    steps = np.diff(numbers)
    mean = float(numbers[-1] - numbers[0]) / len(steps)
    even = np.abs(steps - mean).max() <= UNEVEN * abs(mean)
    return mean * in_unit(unit) if even else 0.0
