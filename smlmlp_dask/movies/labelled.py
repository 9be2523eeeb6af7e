"""Checks of arrays as stacks, and xarray's DataArrays: which axis is which, how it was recorded."""

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from smlmlp_dask.messages import printable

from .acquisition import UNKNOWN, Acquisition
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
    if array.dtype.kind not in "iuf":
        raise TypeError(
            f"{name} has dtype {array.dtype}: pass real integers or floats, "
            "such as the camera's uint16"
        )
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
    sides = _micrometres(y), _micrometres(x)
    return ordered.data, Acquisition(
        pixel_size_um=sides if all(sides) else None,  # type: ignore[arg-type]
        frame_interval_s=_seconds(frame),
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


def _micrometres(coordinate: Any) -> float | None:
    if coordinate is None or not isinstance(unit := coordinate.attrs.get("units"), str):
        return None
    return _known(abs(_step(coordinate.values)) * in_micrometres(unit))


def _seconds(coordinate: Any) -> float | None:
    if coordinate is None:
        return None
    values = coordinate.values
    if values.dtype.kind in "mM":
        unit, counted = "ns", values.astype(f"{values.dtype.kind}8[ns]").astype(np.int64)
        return _known(_step(counted - counted[:1]) * in_seconds(unit))
    if not isinstance(unit := coordinate.attrs.get("units"), str):
        return None
    return _known(_step(values) * in_seconds(unit))


def _step(values: Any) -> float:
    """Return the step between evenly spaced numbers; 0 if they are not."""
    if values.ndim != 1 or len(values) < 2 or values.dtype.kind not in "iuf":
        return 0.0
    numbers = values.astype(np.float64)
    steps = np.diff(numbers)
    mean = float(numbers[-1] - numbers[0]) / len(steps)
    even = np.abs(steps - mean).max() <= UNEVEN * abs(mean)
    return mean if even else 0.0


def _known(length: float) -> float | None:
    return length if math.isfinite(length) and length > 0 else None
