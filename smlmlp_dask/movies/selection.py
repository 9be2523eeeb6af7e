"""Which part of the sources makes which channel: boxes, flips, frames, raw layouts, checked."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Self, TypeAlias, TypeGuard, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from smlmlp_dask.messages import printable_errors, shown

from .stack import Movie, Stack

_BBOXES_FORM = "pass one list of boxes per source, such as bboxes=[[(0, 0, 64, 64)], None]"
_FLIPS_FORM = "pass one (flip_y, flip_x) pair of booleans per channel, or None for neither"

_Boxes: TypeAlias = tuple[tuple[int, ...], ...] | None
"""Boxes (x0, y0, x1, y1) of one source, each a channel; None for one channel of whole frames."""


@dataclass(frozen=True)
class RawLayout:
    """Shape (frame, y, x) and dtype, byte order included, of headerless movies."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Selection:
    """What is taken of movies, as `open_channels` describes it; all of them by default.

    Attributes
    ----------
    bboxes : tuple or None
        For each source its boxes, or None for the whole frame.
    flips : tuple or None
        For each channel (flip_y, flip_x), or None for neither.
    frames : slice or None
        Frames of every source.
    raw : RawLayout or None
        Layout of the headerless movies.
    """

    bboxes: tuple[_Boxes, ...] | None = None
    flips: tuple[tuple[bool, bool] | None, ...] | None = None
    frames: slice | None = None
    raw: RawLayout | None = None

    @classmethod
    @printable_errors()
    def checked(
        cls,
        *,
        bboxes: Any = None,
        flips: Any = None,
        frames: Any = None,
        raw_shape: Any = None,
        raw_dtype: Any = None,
    ) -> Self:
        """Check arguments of `open_channels`, as far as they can be without the movies."""
        return cls(
            frames=_checked_slice(frames),
            bboxes=_checked_boxes(bboxes),
            flips=_checked_flips(flips),
            raw=_checked_raw(raw_shape, raw_dtype),
        )

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> Self:
        """Return the selection that a store of backgrounds notes."""
        given = {key: attributes[key] for key in ("bboxes", "flips", "raw_shape", "raw_dtype")}
        frames = attributes["frames"]
        return cls.checked(frames=None if frames is None else slice(*frames), **given)

    def to_attributes(self) -> dict[str, Any]:
        """Return what a store notes, ready for JSON."""
        frames, raw = self.frames, self.raw
        return {
            "bboxes": self.bboxes,
            "flips": self.flips,
            "frames": None if frames is None else (frames.start, frames.stop, frames.step),
            "raw_shape": None if raw is None else raw.shape,
            "raw_dtype": None if raw is None else raw.dtype.str,
        }

    def by_source(self, count: int) -> list["Selection"]:
        """Return what is taken of each of so many sources; its channels have one flip each."""
        bboxes = (None,) * count if self.bboxes is None else self.bboxes
        if len(bboxes) != count:
            raise ValueError(
                f"bboxes has {len(bboxes)} entries for {count} sources: {_BBOXES_FORM}"
            )
        counts = [1 if boxes is None else len(boxes) for boxes in bboxes]
        flips = (None,) * sum(counts) if self.flips is None else self.flips
        if len(flips) != sum(counts):
            raise ValueError(
                f"flips has {len(flips)} entries for {sum(counts)} channels: {_FLIPS_FORM}"
            )
        turns = iter(flips)
        return [
            replace(self, bboxes=(boxes,), flips=tuple(islice(turns, n)))
            for boxes, n in zip(bboxes, counts, strict=True)
        ]

    def channels(self, movie: Movie) -> list[Stack]:
        """Return the channels of a movie, by a selection of its source alone."""
        frames = _selected(movie, self.frames or slice(None))
        ((boxes,), flips) = self.bboxes or (None,), self.flips or (None,)
        whole = (0, 0, *movie.shape[:0:-1])
        return [
            _channel(movie, frames, box, flip or (False, False))
            for box, flip in zip(boxes or (whole,), flips, strict=True)
        ]


def _channel(movie: Movie, frames: range, box: tuple[int, ...], flip: tuple[bool, bool]) -> Stack:
    _, height, width = movie.shape
    x0, y0, x1, y1 = box
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(
            f"box {box} does not fit {movie.path}: pass (x0, y0, x1, y1) with "
            f"0 <= x0 < x1 <= {width} and 0 <= y0 < y1 <= {height}"
        )
    step_y, step_x = (-1 if turned else 1 for turned in flip)
    rows, columns = range(y0, y1)[::step_y], range(x0, x1)[::step_x]
    return Stack(movie=movie, frames=frames, rows=rows, columns=columns)


def _selected(movie: Movie, frames: slice) -> range:
    """Return the numbers of a movie's frames that a slice takes; at least one of any."""
    count = movie.shape[0]
    selection = range(count)[frames]
    if count and not selection:
        raise ValueError(
            f"{frames=} selects none of the {count} frames of {movie.path}: pass bounds "
            f"within 0 and {count}"
        )
    return selection


def check_dtype(name: str, dtype: np.dtype[Any]) -> None:
    """Raise `TypeError` unless a dtype is a real integer or float."""
    if dtype.kind not in "iuf":
        raise TypeError(
            f"{name} has dtype {dtype}: only real integers and floats are movies, such as the "
            "camera's uint16"
        )


# Arguments


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


def _integers(values: object, count: int) -> tuple[int, ...] | None:
    if not _is_list(values):
        return None
    numbers = [_integer(value) for value in values]
    whole = tuple(number for number in numbers if number is not None)
    return whole if len(whole) == len(numbers) == count else None


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


def _checked_boxes(bboxes: object) -> tuple[_Boxes, ...] | None:
    if bboxes is None:
        return None
    if not _is_list(bboxes):
        raise TypeError(f"bboxes is of type {type(bboxes).__name__}: {_BBOXES_FORM}")
    if any(_integers(boxes, 4) for boxes in bboxes):
        raise ValueError(f"bboxes={shown(bboxes)} is a flat list of boxes: {_BBOXES_FORM}")
    return tuple(
        None if boxes is None else _checked_list(f"bboxes[{i}]", boxes)
        for i, boxes in enumerate(bboxes)
    )


def _checked_list(name: str, boxes: object) -> tuple[tuple[int, ...], ...]:
    if not _is_list(boxes) or len(boxes) == 0:
        raise ValueError(
            f"{name}={shown(boxes)} is not a list of boxes: {_BBOXES_FORM}; None is the whole frame"
        )
    whole = []
    for box in boxes:
        if (numbers := _integers(box, 4)) is None:
            raise ValueError(f"{name} has {shown(box)}: a box is four integers (x0, y0, x1, y1)")
        whole.append(numbers)
    return tuple(whole)


def _checked_flips(flips: object) -> tuple[tuple[bool, bool] | None, ...] | None:
    if flips is None:
        return None
    if not _is_list(flips):
        raise TypeError(f"flips is of type {type(flips).__name__}: {_FLIPS_FORM}")
    for index, flip in enumerate(flips):
        if flip is not None and not (
            _is_list(flip)
            and len(flip) == 2
            and all(isinstance(turned, bool | np.bool_) for turned in flip)
        ):
            raise ValueError(f"flips[{index}]={shown(flip)}: {_FLIPS_FORM}")
    return tuple(None if flip is None else (bool(flip[0]), bool(flip[1])) for flip in flips)


def _checked_raw(raw_shape: object, raw_dtype: DTypeLike | None) -> RawLayout | None:
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
