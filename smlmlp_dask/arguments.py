"""What callers may pass to `bkgd_spatial_mean`: checked before anything is built or written."""

import math
import numbers
import uuid
from collections.abc import MutableSequence, Sequence
from decimal import Decimal
from itertools import combinations
from typing import Any, TypeAlias

import dask.array as da
import numpy as np
import zarr

from . import backend, chunks
from .kernels import MAX_RADIUS_PIX
from .stack import shown

Pair: TypeAlias = tuple[float, float]

RADII_FORMS = "pass one radius, one (ry, rx) pair, or one (ry, rx) pair per channel"


def as_stack(channel: Any, name: str = "channels[0]") -> da.Array:
    """Return one channel as a lazy stack.

    Parameters
    ----------
    channel : dask.array.Array, zarr.Array, numpy.ndarray or cupy.ndarray
        Shape (frame, y, x), any real integer or floating dtype. A dask array keeps its chunks;
        the others are cut into blocks of whole frames near 16 MiB of float32, a Zarr array at
        multiples of its chunks. Nothing is read or copied.
    name : str
        What error messages call it.

    Raises
    ------
    TypeError
        If it is none of these arrays, or its dtype is not real (bool, complex, object ...).
    ValueError
        If it is not 3-D, has no pixels, or has unknown chunk sizes.
    """
    array = channel
    if not _is_array(array):
        raise TypeError(
            f"{name} is a {type(array).__name__}: pass a dask, Zarr, NumPy or CuPy array of shape "
            "(frame, y, x)"
        )
    if array.dtype.kind not in "iuf":
        raise TypeError(
            f"{name} has dtype {array.dtype}: pass real integers or floats, "
            "such as the camera's uint16"
        )
    if array.ndim != 3:
        raise ValueError(
            f"{name} has shape {_shape(array)}: pass stacks of shape (frame, y, x); "
            "a single frame is array[None]"
        )
    if any(math.isnan(length) for length in array.shape):
        raise ValueError(
            f"{name} has unknown chunk sizes {_shape(array)}: "
            "call its compute_chunk_sizes() method first"
        )
    if array.shape[1] == 0 or array.shape[2] == 0:
        raise ValueError(f"{name} has shape {_shape(array)}: its frames have no pixels")
    if isinstance(array, da.Array):
        if isinstance(array._meta, np.ma.MaskedArray | np.matrix):
            raise TypeError(
                f"{name} has {type(array._meta).__name__} chunks, whose masks would be ignored: "
                "fill the masked pixels first, for example with dask.array.ma.filled"
            )
        return array
    if isinstance(array, zarr.Array):
        return _lazy_zarr(array)
    return view_stack(array)


def as_stacks(channels: Any) -> list[da.Array]:
    """Return all channels as lazy stacks; see `as_stack`.

    Raises
    ------
    ValueError
        If a single array is passed in place of the sequence, or the sequence is empty.
    TypeError
        If `channels` is not a sequence.
    """
    if hasattr(channels, "ndim") and hasattr(channels, "dtype"):
        remedy = "list(array)" if channels.ndim > 3 else "[array]"
        raise ValueError(
            f"channels is a single array of shape {_shape(channels)}: "
            f"pass a sequence of stacks, one per channel: {remedy}"
        )
    if not isinstance(channels, Sequence) or isinstance(channels, str | bytes):
        raise TypeError(
            f"channels is a {type(channels).__name__}: "
            "pass a sequence of (frame, y, x) stacks, one per channel"
        )
    if not channels:
        raise ValueError("channels is empty: pass at least one (frame, y, x) stack")
    return [as_stack(channel, f"channels[{i}]") for i, channel in enumerate(channels)]


def as_radii(radii: Any, n_channels: int) -> list[Pair]:
    """Return one (ry, rx) pair of float radii per channel.

    Parameters
    ----------
    radii : float, sequence or array
        One radius for everything; a pair (ry, rx) for all channels, also when there are exactly
        two; or one (ry, rx) pair per channel. In pixels.
    n_channels : int
        Number of channels.

    Raises
    ------
    ValueError
        If the form is another, the number of pairs is not `n_channels`, or a radius is not
        greater than 0 and at most 10 000.
    """
    plain = _plain(radii)
    if not isinstance(plain, list):
        radius = _radius(plain)
        return [(radius, radius)] * n_channels
    nested = [isinstance(entry, list) for entry in plain]
    if any(nested) and not all(nested):
        raise ValueError(
            f"channels_mean_radii_pix mixes radii and sequences: {shown(radii)}: {RADII_FORMS}"
        )
    if not any(nested):
        if len(plain) != 2:
            raise ValueError(
                f"channels_mean_radii_pix is a sequence of {len(plain)} radii: {RADII_FORMS}"
            )
        return [_pair(plain)] * n_channels
    if len(plain) != n_channels:
        raise ValueError(
            f"channels_mean_radii_pix has {len(plain)} pairs for {n_channels} "
            f"channel{'s' if n_channels != 1 else ''}: {RADII_FORMS}"
        )
    return [_pair(entry) for entry in plain]


def check_corrections(corrections: Any, n_channels: int) -> MutableSequence[Any]:
    """Return the noise corrections to be multiplied in place: the caller's own, or new ones.

    Parameters
    ----------
    corrections : None, mutable sequence, one-dimensional array, or tuple
        Factors so far, one per channel. None gives float32 ones, a tuple a new list.
    n_channels : int
        Number of channels.

    Raises
    ------
    ValueError
        If the length is not `n_channels`, an entry is not a finite number of at least 0, or an
        array cannot be updated (read-only, or of integers).
    TypeError
        If it is not a sequence.
    """
    if corrections is None:
        return [np.float32(1)] * n_channels
    is_array = isinstance(corrections, np.ndarray)
    if not is_array and (
        not isinstance(corrections, MutableSequence | tuple) or isinstance(corrections, bytearray)
    ):
        raise TypeError(
            f"noise_corrections is a {type(corrections).__name__}: "
            "pass a list, tuple or one-dimensional NumPy array with one factor per channel"
        )
    if is_array and corrections.ndim != 1:
        raise ValueError(
            f"noise_corrections has shape {corrections.shape}: pass one factor per channel"
        )
    if len(corrections) != n_channels:
        raise ValueError(
            f"noise_corrections has {len(corrections)} entries for {n_channels} "
            f"channel{'s' if n_channels != 1 else ''}: pass one factor per channel"
        )
    for i, entry in enumerate(corrections):
        value = _number(entry)
        if value is None or not (math.isfinite(value) and value >= 0):
            raise ValueError(
                f"noise_corrections[{i}] is {shown(entry)}: "
                "pass finite factors of at least 0 (1 where nothing was filtered yet)"
            )
    typecode = getattr(corrections, "typecode", None)
    if (is_array and corrections.dtype.kind != "f") or typecode not in (None, "f", "d"):
        raise ValueError(
            f"noise_corrections holds {corrections.dtype if is_array else 'integers'}, in which "
            "the factors cannot be updated: pass a floating array or a list"
        )
    if is_array and not corrections.flags.writeable:
        raise ValueError(
            "noise_corrections is read-only and is updated in place: pass a copy or a list"
        )
    return list(corrections) if isinstance(corrections, tuple) else corrections


def check_targets(targets: Any, channels: Sequence[Any], stacks: Sequence[da.Array]) -> list[Any]:
    """Return the preallocated outputs, if every one can take its channel's background.

    Parameters
    ----------
    targets : sequence of numpy.ndarray, cupy.ndarray or zarr.Array
        One per channel, float32, with at least as many frames as the channel and the same y and x.
    channels : sequence
        The channels as passed, which no target may share memory or storage with.
    stacks : sequence of dask.array.Array
        The same channels as lazy stacks.

    Raises
    ------
    ValueError
        If one does not fit, cannot be written, or overlaps a channel or another target.
    TypeError
        If it is not a sequence of NumPy, CuPy or Zarr arrays.
    """
    if hasattr(targets, "ndim") or not isinstance(targets, Sequence):
        raise TypeError(
            f"bkgds is a {type(targets).__name__}: "
            "pass a sequence of float32 NumPy, CuPy or Zarr arrays, one per channel"
        )
    if len(targets) != len(stacks):
        raise ValueError(
            f"bkgds has {len(targets)} arrays for {len(stacks)} "
            f"channel{'s' if len(stacks) != 1 else ''}: pass one per channel"
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
            else not getattr(target, "read_only", False)  # CuPy's arrays never are
        )
        if not writeable:
            raise ValueError(f"bkgds[{i}] is read-only: pass an array that can be written")
        for j, channel in enumerate(channels):
            if _overlap(target, channel):
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


def check_parallel(parallel: Any) -> int:
    """Return the threads a block may use: 1 for False, 0 (all of the worker's) for True, or n."""
    if isinstance(parallel, bool | np.bool_):
        return 0 if parallel else 1
    if isinstance(parallel, numbers.Integral) and int(parallel) >= 1:
        return int(parallel)
    raise ValueError(
        f"parallel is {shown(parallel)}: pass True, False, or a number of threads from 1"
    )


def _is_array(array: Any) -> bool:
    if isinstance(array, da.Array | zarr.Array):
        return True
    if isinstance(array, np.ma.MaskedArray | np.matrix):
        return False
    if isinstance(array, np.ndarray):
        return True
    return is_cupy(array)


def is_cupy(array: Any) -> bool:
    """Say whether it is CuPy's array, without importing CuPy."""
    return (
        hasattr(array, "__array_function__")  # as other arrays of devices have not
        and hasattr(array, "__cuda_array_interface__")
        and hasattr(array, "dtype")
    )


def _shape(array: Any) -> tuple[Any, ...]:
    return tuple("?" if math.isnan(length) else length for length in array.shape)


def _lazy_zarr(array: "zarr.Array[Any]") -> da.Array:
    unit = array.chunks
    frames, height, width = array.shape
    step = chunks.frames_per_block(height * width, unit[0])
    blocks = (
        chunks.split(frames, step),
        chunks.split(height, unit[1]),
        chunks.split(width, unit[2]),
    )
    lazy: da.Array = da.from_array(array, chunks=blocks, name=False, inline_array=True)
    return lazy


def view_stack(array: Any) -> da.Array:
    """Cut an array in memory into views; `da.from_array` would copy all of it."""
    frames, height, width = array.shape
    runs = chunks.split(frames, chunks.frames_per_block(height * width))
    name = f"stack-{uuid.uuid4().hex}"  # hashing the pixels would read them all
    graph = {}
    start = 0
    for i, run in enumerate(runs):
        graph[name, i, 0, 0] = array[start : start + run]
        start += run
    return da.Array(graph, name, (runs, (height,), (width,)), meta=array[:0, :0, :0])


def _plain(value: Any, depth: int = 3) -> Any:
    """Turn arrays and sequences of any kind into nested lists; leave the rest as it is."""
    if hasattr(value, "tolist"):  # NumPy and CuPy arrays and scalars
        return value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        # pairs lie two deep: what is nested deeper is wrong already, and may be endless
        return [_plain(entry, depth - 1) for entry in value] if depth else list(value)
    return value


def _number(value: Any) -> float | None:
    """Return a real number as float, and None for anything else."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real | Decimal):
        return None
    try:
        return float(value)
    except (OverflowError, ValueError):
        return math.inf


def _radius(value: Any) -> float:
    radius = _number(value)
    # Half of it is the sigma, which must not vanish either.
    if radius is None or not (radius / 2 > 0 and radius <= MAX_RADIUS_PIX):
        raise ValueError(
            f"channels_mean_radii_pix holds {shown(value)}: pass radii greater than 0 and "
            f"at most {MAX_RADIUS_PIX:g} px"
        )
    return radius


def _pair(entries: list[Any]) -> Pair:
    if len(entries) != 2 or any(isinstance(entry, list) for entry in entries):
        raise ValueError(
            f"channels_mean_radii_pix holds {shown(entries)} in place of a pair: {RADII_FORMS}"
        )
    return _radius(entries[0]), _radius(entries[1])


def _overlap(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        try:
            return np.shares_memory(one, other, max_work=100_000)  # type: ignore[call-overload, arg-type, unused-ignore]
        except np.exceptions.TooHardError:
            return True
    if is_cupy(one) and is_cupy(other):
        return backend.share_memory(one, other)
    if isinstance(one, zarr.Array) and isinstance(other, zarr.Array):
        return bool(one.store_path == other.store_path)
    return False
