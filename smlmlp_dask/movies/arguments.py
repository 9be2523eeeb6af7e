"""Arguments that say which part of the sources makes which channel, checked without the movies."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeAlias, TypeGuard, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from smlmlp_dask.messages import shown

BBOXES_FORM = "pass one list of boxes per source, such as bboxes=[[(0, 0, 64, 64)], None]"
FRAMES_FORM = "pass one slice for all sources, or a list with one slice, or None, per source"
FLIPS_FORM = "pass one (flip_y, flip_x) pair of booleans per channel, or None for neither"

Choice: TypeAlias = int | str | Sequence[int | str]
"""Channels or positions of a source, by number from 0 or by name."""

Boxes: TypeAlias = tuple[tuple[int, ...], ...] | None
"""Boxes (x0, y0, x1, y1) of one source, each a channel; None for one channel of whole frames."""


@dataclass(frozen=True)
class RawLayout:
    """Shape (frame, y, x) and dtype, byte order included, of headerless movies.

    Attributes
    ----------
    header, footer : int
        Bytes of the file before and after the frames.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    header: int = 0
    footer: int = 0


def check_dtype(name: str, dtype: np.dtype[Any]) -> None:
    """Raise `TypeError` unless a dtype is a real integer or float."""
    if dtype.kind not in "iuf":
        raise TypeError(
            f"{name} has dtype {dtype}: only real integers and floats are movies, such as the "
            "camera's uint16"
        )


def _integer(value: object) -> int | None:
    """Return a Python or NumPy integer as int, anything else, also a bool, as None."""
    if isinstance(value, bool | np.bool_):
        return None
    try:
        return operator.index(cast("int", value))
    except TypeError:
        return None


def is_list(values: object) -> TypeGuard["Sequence[Any] | NDArray[Any]"]:
    """Tell whether a value lists others: a sequence, or an array or table of an axis or more."""
    if hasattr(values, "ndim"):
        return bool(values.ndim > 0)
    return isinstance(values, Sequence) and not isinstance(values, str | bytes | bytearray)


def is_number(value: object) -> bool:
    """Say whether a value is a real number of Python or NumPy; no bool is."""
    return isinstance(value, Real) and not isinstance(value, bool)


def _integers(values: object, count: int) -> tuple[int, ...] | None:
    if not is_list(values):
        return None
    numbers = [_integer(value) for value in values]
    whole = tuple(number for number in numbers if number is not None)
    return whole if len(whole) == len(numbers) == count else None


def checked_number(name: str, value: object) -> int | None:
    """Return an integer from 0, or None."""
    if value is None:
        return None
    if (number := _integer(value)) is None:
        raise TypeError(f"{name}={shown(value)} is not an integer: pass a number from 0")
    if number < 0:
        raise ValueError(f"{name}={number} is negative: pass a number from 0")
    return number


def checked_bool(name: str, value: object) -> bool:
    """Return a boolean."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}={shown(value)} is not a boolean: pass True or False")
    return bool(value)


def checked_choice(name: str, value: Any) -> tuple[int | str, ...] | None:
    """Return numbers and names as a tuple; a single one may stand alone."""
    if value is None:
        return None
    choices = value if is_list(value) else [value]
    checked = [c if isinstance(c, str) else _integer(c) for c in choices]
    if not checked or any(c is None or c == "" for c in checked):
        raise TypeError(f"{name}={shown(value)}: pass a number from 0, a name, or a list of them")
    if len(set(map(str, checked))) < len(checked):
        raise ValueError(f"{name}={shown(value)} names one twice: leave one out")
    return tuple(checked)  # type: ignore[arg-type]


def checked_frames(frames: Any) -> slice | tuple[slice | None, ...] | None:
    """Return a slice for all sources, or one per source."""
    if isinstance(frames, list | tuple):
        slices = tuple(map(_checked_slice, frames))
        return slices if any(part is not None for part in slices) else None
    return _checked_slice(frames)


def _checked_slice(frames: object) -> slice | None:
    if frames is None:
        return None
    if not isinstance(frames, slice):
        raise TypeError(f"frames={shown(frames)} is not a slice: pass one, as slice(0, 1000)")
    bounds = (frames.start, frames.stop, frames.step)
    if any(bound is not None and _integer(bound) is None for bound in bounds):
        raise TypeError(f"{frames=} has a bound that is not an integer: pass slice(0, 1000)")
    if frames.step == 0:
        raise ValueError(f"{frames=} has step 0: pass a step of 1 or more, or a negative one")
    return slice(*map(_integer, bounds))


def checked_boxes(bboxes: object) -> tuple[Boxes, ...] | None:
    """Return the boxes of each source, as integers."""
    if bboxes is None:
        return None
    if not is_list(bboxes):
        raise TypeError(f"bboxes is of type {type(bboxes).__name__}: {BBOXES_FORM}")
    if any(_integers(boxes, 4) for boxes in bboxes):
        raise ValueError(f"bboxes={shown(bboxes)} is a flat list of boxes: {BBOXES_FORM}")
    return tuple(
        None if boxes is None else _checked_list(f"bboxes[{i}]", boxes)
        for i, boxes in enumerate(bboxes)
    )


def _checked_list(name: str, boxes: object) -> tuple[tuple[int, ...], ...]:
    if not is_list(boxes) or len(boxes) == 0:
        raise ValueError(
            f"{name}={shown(boxes)} is not a list of boxes: {BBOXES_FORM}; None is the whole frame"
        )
    whole = []
    for box in boxes:
        if (numbers := _integers(box, 4)) is None:
            raise ValueError(f"{name} has {shown(box)}: a box is four integers (x0, y0, x1, y1)")
        whole.append(numbers)
    return tuple(whole)


def checked_flips(flips: object) -> tuple[tuple[bool, bool] | None, ...] | None:
    """Return the flips of each channel."""
    if flips is None:
        return None
    if not is_list(flips):
        raise TypeError(f"flips is of type {type(flips).__name__}: {FLIPS_FORM}")
    for index, flip in enumerate(flips):
        if flip is not None and not (
            is_list(flip)
            and len(flip) == 2
            and all(isinstance(turned, bool | np.bool_) for turned in flip)
        ):
            raise ValueError(f"flips[{index}]={shown(flip)}: {FLIPS_FORM}")
    return tuple(None if flip is None else (bool(flip[0]), bool(flip[1])) for flip in flips)


def checked_raw(
    raw_shape: object, raw_dtype: DTypeLike | None, raw_header: object, raw_footer: object
) -> RawLayout | None:
    """Return the layout of headerless movies."""
    header = checked_number("raw_header", raw_header) or 0
    footer = checked_number("raw_footer", raw_footer) or 0
    if raw_shape is None and raw_dtype is None:
        if header or footer:
            raise ValueError(
                "raw_header or raw_footer is given without raw_shape and raw_dtype: a headerless "
                "movie needs both"
            )
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
    return RawLayout((shape[0], shape[1], shape[2]), dtype, header, footer)
