"""Check the stacks and targets that callers pass to `bkgd_spatial_mean`; make Dask arrays."""

import math
import os
import uuid
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import zarr
from zarr.storage import FsspecStore, LocalStore, ZipStore

from smlmlp_dask.blocks import frames_per_block, split
from smlmlp_dask.filters import device
from smlmlp_dask.messages import counted, shown
from smlmlp_dask.movies.labelled import check_stack, unlabelled


def as_stack(channel: Any, name: str = "channels[0]") -> da.Array:
    """Return one channel as a lazy stack.

    Parameters
    ----------
    channel : dask.array.Array, zarr.Array, numpy.ndarray, cupy.ndarray or xarray.DataArray
        Shape (frame, y, x), any real integer or floating dtype. A dask array keeps its chunks;
        the others are cut into blocks of whole frames near 16 MiB of float32, a Zarr array at
        multiples of its chunks. Of a DataArray, names of axes count. Nothing is read or copied.
    name : str
        Its name in messages.

    Raises
    ------
    TypeError
        If it is none of these arrays, or its dtype is not real (bool, complex, object ...).
    ValueError
        If it is not 3-D, has no pixels, or has unknown chunk sizes; if it is not certain which
        axis of a DataArray is which.
    FileNotFoundError
        If it is a Zarr array whose folder is gone.
    """
    array, _ = unlabelled(channel, name)
    if isinstance(array, str | os.PathLike):
        raise TypeError(
            f"{name} is {shown(array)}: a path is opened by open_channels, which returns stacks"
        )
    if not isinstance(array, da.Array | zarr.Array | np.ndarray) and not is_cupy(array):
        raise TypeError(
            f"{name} is a {type(array).__name__}: pass a dask, Zarr, NumPy, CuPy or xarray array "
            "of shape (frame, y, x)"
        )
    check_stack(array, name)
    if isinstance(array, da.Array):
        return array
    if isinstance(array, zarr.Array):
        _check_exists(array, name)
        return _lazy_zarr(array)
    return _view(array)


def as_stacks(channels: Any) -> list[da.Array]:
    """Return all channels as lazy stacks; see `as_stack`.

    Raises
    ------
    ValueError
        If a single array is passed instead of the sequence, or the sequence is empty.
    TypeError
        If `channels` is not a sequence.
    """
    if hasattr(channels, "ndim") and hasattr(channels, "dtype"):
        remedy = "list(array)" if channels.ndim > 3 else "[array]"
        raise ValueError(
            f"channels is a single array of shape {_shape(channels)}: "
            f"pass a sequence of stacks, one per channel: {remedy}"
        )
    if isinstance(channels, str | os.PathLike):
        raise TypeError(
            f"channels is {shown(channels)}: a path is opened by open_channels, which returns the "
            "sequence of stacks"
        )
    if not isinstance(channels, Sequence) or isinstance(channels, bytes):
        raise TypeError(
            f"channels is a {type(channels).__name__}: "
            "pass a sequence of (frame, y, x) stacks, one per channel"
        )
    if not channels:
        raise ValueError("channels is empty: pass at least one (frame, y, x) stack")
    return [as_stack(channel, f"channels[{i}]") for i, channel in enumerate(channels)]


def check_targets(targets: Any, channels: Sequence[Any], stacks: Sequence[da.Array]) -> list[Any]:
    """Return the preallocated outputs; refuse one that cannot take its channel's background.

    Parameters
    ----------
    targets : sequence of numpy.ndarray, cupy.ndarray or zarr.Array
        One per channel, float32, with at least as many frames as the channel and the same y and x.
    channels : sequence
        The channels as passed. No target may share memory or storage with them.
    stacks : sequence of dask.array.Array
        The same channels as lazy stacks.

    Raises
    ------
    ValueError
        If one does not fit, cannot be written, or overlaps a channel or another target.
    TypeError
        If it is not a sequence of NumPy, CuPy or Zarr arrays.
    FileNotFoundError
        If the folder of a Zarr array is gone.
    """
    if hasattr(targets, "ndim") or not isinstance(targets, Sequence):
        raise TypeError(
            f"bkgds is a {type(targets).__name__}: "
            "pass a sequence of float32 NumPy, CuPy or Zarr arrays, one per channel"
        )
    if len(targets) != len(stacks):
        raise ValueError(
            f"bkgds has {len(targets)} arrays for {counted(len(stacks), 'channel')}: "
            "pass one per channel"
        )
    for i, (target, stack) in enumerate(zip(targets, stacks, strict=True)):
        if not isinstance(target, np.ndarray | zarr.Array) and not is_cupy(target):
            raise TypeError(
                f"bkgds[{i}] is a {type(target).__name__}: pass a float32 NumPy, CuPy or Zarr array"
            )
        if target.dtype != np.float32:
            raise ValueError(f"bkgds[{i}] has dtype {target.dtype}: pass a float32 array")
        if target.ndim != 3 or target.shape[1:] != stack.shape[1:]:
            raise ValueError(
                f"bkgds[{i}] has shape {target.shape} for a channel of shape {stack.shape}: "
                "pass an array with the same y and x, and at least as many frames"
            )
        if target.shape[0] < stack.shape[0]:
            raise ValueError(
                f"bkgds[{i}] has {target.shape[0]} frames for a channel of {stack.shape[0]}: "
                "pass an array with at least as many"
            )
        writeable = (
            target.flags.writeable
            if isinstance(target, np.ndarray)
            else not getattr(target, "read_only", False)  # CuPy arrays are always writeable
        )
        if not writeable:
            raise ValueError(f"bkgds[{i}] is read-only: pass an array that can be written")
        if isinstance(target, zarr.Array):
            _check_exists(target, f"bkgds[{i}]")
        for j, channel in enumerate(channels):
            if _overlap(target, unlabelled(channel, f"channels[{j}]")[0]):
                raise ValueError(
                    f"bkgds[{i}] shares its memory or storage with channels[{j}], which would be "
                    "overwritten while it is read: pass another array"
                )
    for (i, one), (j, other) in combinations(enumerate(targets), 2):
        if _overlap(one, other):
            raise ValueError(
                f"bkgds[{i}] and bkgds[{j}] share their memory or storage: pass distinct arrays"
            )
    return list(targets)


def is_cupy(array: Any) -> bool:
    """Say whether this is a CuPy array, without importing CuPy."""
    return (
        hasattr(array, "__array_function__")  # arrays of other GPU libraries lack it
        and hasattr(array, "__cuda_array_interface__")
        and hasattr(array, "dtype")
    )


def _shape(array: Any) -> tuple[Any, ...]:
    return tuple("?" if math.isnan(length) else length for length in array.shape)


def _lazy_zarr(array: "zarr.Array[Any]") -> da.Array:
    unit = array.chunks
    frames, height, width = array.shape
    step = frames_per_block(height * width, unit[0])
    blocks = (
        split(frames, step),
        split(height, unit[1]),
        split(width, unit[2]),
    )
    lazy: da.Array = da.from_array(array, chunks=blocks, name=False, inline_array=True)
    return lazy


def _view(array: Any) -> da.Array:
    """Return a dask array of views of an array in memory; `da.from_array` would copy it."""
    frames, height, width = array.shape
    runs = split(frames, frames_per_block(height * width))
    name = f"stack-{uuid.uuid4().hex}"  # Dask's own name would hash all pixels
    graph = {}
    start = 0
    for i, run in enumerate(runs):
        graph[name, i, 0, 0] = array[start : start + run]
        start += run
    return da.Array(graph, name, (runs, (height,), (width,)), meta=array[:0, :0, :0])


def _overlap(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        try:
            return np.shares_memory(one, other, max_work=100_000)  # type: ignore[call-overload, arg-type, unused-ignore]
        except np.exceptions.TooHardError:
            return True
    if is_cupy(one) and is_cupy(other):
        return device.share_memory(one, other)
    if isinstance(one, zarr.Array) and isinstance(other, zarr.Array):
        place, place_of_other = _place(one), _place(other)
        if isinstance(place, Path) and isinstance(place_of_other, Path):
            return place.is_relative_to(place_of_other) or place_of_other.is_relative_to(place)
        return place == place_of_other
    return False


def is_shared(array: "zarr.Array[Any]") -> bool:
    """Say whether other processes can open this Zarr array and see the same bytes."""
    return isinstance(array.store, LocalStore | FsspecStore) and "memory" not in _protocols(array)


def _protocols(array: "zarr.Array[Any]") -> tuple[str, ...]:
    protocol = getattr(getattr(array.store, "fs", None), "protocol", ())
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _place(array: "zarr.Array[Any]") -> Path | str:
    """Return where a Zarr array lies: a path without links if local, else Zarr's name for it."""
    store = array.store
    if isinstance(store, LocalStore):
        return Path(store.root, array.path).resolve()
    if isinstance(store, ZipStore) or "file" in _protocols(array):
        return Path(store.path, array.path).resolve()  # type: ignore[attr-defined, unused-ignore]
    return str(array.store_path)


def _check_exists(array: "zarr.Array[Any]", name: str) -> None:
    """Refuse an array whose folder is gone: Zarr would read fill values, or write a new one."""
    place = _place(array)
    if isinstance(place, str) or isinstance(array.store, ZipStore):
        return
    if not any((place / metadata).is_file() for metadata in ("zarr.json", ".zarray")):
        raise FileNotFoundError(f"{name} is a Zarr array whose folder {place} is gone")
