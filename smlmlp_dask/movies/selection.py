"""Which part of the sources makes which channel: boxes, flips, frames, raw layouts, checked."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from smlmlp_dask.messages import shown

from .stack import Movie

_BBOXES_FORM = "pass one list of boxes per source, such as bboxes=[[(0, 0, 64, 64)], None]"


@dataclass(frozen=True)
class RawLayout:
    """Shape (frame, y, x) and dtype, byte order included, of headerless movies."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]


def _integer(value: object) -> int | None:
    """Return a Python or NumPy integer as int, anything else, also a bool, as None."""
    if isinstance(value, bool | np.bool_):
        return None
    try:
        return operator.index(cast("int", value))
    except TypeError:
        return None


def _is_list(values: object) -> TypeGuard["Sequence[Any] | NDArray[Any]"]:
    """Tell whether a value lists others: a sequence, or an array of one axis or more."""
    if isinstance(values, np.ndarray):
        return values.ndim > 0
    return isinstance(values, Sequence) and not isinstance(values, str | bytes | bytearray)


def as_plain(value: Any) -> Any:
    """Return what was checked here as lists of Python's own numbers, as JSON has them."""
    if _is_list(value):
        return [as_plain(entry) for entry in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    return None if value is None else operator.index(value)


def _integers(values: object, count: int) -> tuple[int, ...] | None:
    if not _is_list(values):
        return None
    numbers = [_integer(value) for value in values]
    whole = tuple(number for number in numbers if number is not None)
    return whole if len(whole) == len(numbers) == count else None


def check_slice(frames: object) -> slice:
    """Return the slice of frames, all of them for None, if its bounds are integers."""
    if frames is None:
        return slice(None)
    if not isinstance(frames, slice):
        raise TypeError(f"frames={shown(frames)} is not a slice: pass one, as slice(0, 1000)")
    parts = (frames.start, frames.stop, frames.step)
    if any(part is not None and _integer(part) is None for part in parts):
        raise TypeError(f"{frames=} has a bound that is not an integer: pass slice(0, 1000)")
    if frames.step == 0:
        raise ValueError(f"{frames=} has step 0: pass a step of 1 or more, or a negative one")
    return frames


def select(movie: Movie, frames: slice) -> range:
    """Return the numbers of a movie's frames that a slice takes; at least one of any."""
    count = movie.shape[0]
    selection = range(count)[frames]
    if count and not selection:
        raise ValueError(
            f"{frames=} selects none of the {count} frames of {movie.path}: pass bounds "
            f"within 0 and {count}"
        )
    return selection


def boxes_per_source(bboxes: object, count: int) -> list[Sequence[tuple[int, ...] | None]]:
    """Return for each source its boxes (x0, y0, x1, y1) as integers, None for the whole frame."""
    if bboxes is None:
        return [[None]] * count
    if not _is_list(bboxes):
        raise TypeError(f"bboxes is of type {type(bboxes).__name__}: {_BBOXES_FORM}")
    if any(_integers(boxes, 4) for boxes in bboxes):
        raise ValueError(f"bboxes={shown(bboxes)} is a flat list of boxes: {_BBOXES_FORM}")
    if len(bboxes) != count:
        raise ValueError(f"bboxes has {len(bboxes)} entries for {count} sources: {_BBOXES_FORM}")
    per_source: list[Sequence[tuple[int, ...] | None]] = []
    for index, boxes in enumerate(bboxes):
        if boxes is None:
            per_source.append([None])
            continue
        if not _is_list(boxes) or len(boxes) == 0:
            raise ValueError(
                f"bboxes[{index}]={shown(boxes)} is not a list of boxes: {_BBOXES_FORM}; None is "
                "the whole frame"
            )
        whole = [_integers(box, 4) for box in boxes]
        wrong = [box for box, numbers in zip(boxes, whole, strict=True) if numbers is None]
        if wrong:
            raise ValueError(
                f"bboxes[{index}] has {shown(wrong[0])}: a box is four integers (x0, y0, x1, y1)"
            )
        per_source.append([numbers for numbers in whole if numbers is not None])
    return per_source


def flips_per_channel(flips: object, count: int) -> list[tuple[bool, bool]]:
    """Return for each channel (flip_y, flip_x)."""
    form = "pass one (flip_y, flip_x) pair of booleans per channel, or None for neither"
    if flips is None:
        return [(False, False)] * count
    if not _is_list(flips):
        raise TypeError(f"flips is of type {type(flips).__name__}: {form}")
    if len(flips) != count:
        raise ValueError(f"flips has {len(flips)} entries for {count} channels: {form}")
    pairs = []
    for index, flip in enumerate(flips):
        pair = (False, False) if flip is None else flip
        if (
            not _is_list(pair)
            or len(pair) != 2
            or not all(isinstance(turned, bool | np.bool_) for turned in pair)
        ):
            raise ValueError(f"flips[{index}]={shown(flip)}: {form}")
        pairs.append((bool(pair[0]), bool(pair[1])))
    return pairs


def raw_layout(raw_shape: object, raw_dtype: DTypeLike | None) -> RawLayout | None:
    """Return the layout of headerless movies, or None where it is not described."""
    if raw_shape is None and raw_dtype is None:
        return None
    if raw_shape is None or raw_dtype is None:
        given, missing = (
            ("raw_dtype", "raw_shape") if raw_shape is None else ("raw_shape", "raw_dtype")
        )
        raise ValueError(f"{given} is given without {missing}: a headerless movie needs both")
    shape = _integers(raw_shape, 3)
    if shape is None or min(shape) < 1:
        raise ValueError(
            f"raw_shape={shown(raw_shape)}: pass three positive integers (frame, y, x)"
        )
    try:
        dtype = np.dtype(raw_dtype)
    except (TypeError, ValueError, SyntaxError):
        raise TypeError(
            f"raw_dtype={shown(raw_dtype)} is not a NumPy dtype: pass one such as '>u2'"
        ) from None
    check_dtype("raw_dtype", dtype)
    return RawLayout((shape[0], shape[1], shape[2]), dtype)


def check_dtype(name: str, dtype: np.dtype[Any]) -> None:
    """Raise `TypeError` unless a dtype is a real integer or float."""
    if dtype.kind not in "iuf":
        raise TypeError(
            f"{name} has dtype {dtype}: only real integers and floats are movies, such as the "
            "camera's uint16"
        )
