"""Arguments of the background steps, checked before anything is built or written."""

import math
import numbers
import sys
import traceback
import warnings
from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import takewhile
from typing import Any, TypeAlias

import numpy as np

from smlmlp_dask.messages import shown

from .kernels import MAX_OPENING_RADIUS_PIX, MAX_RADIUS_PIX

Pair: TypeAlias = tuple[float, float]

RADII_FORMS = "pass one radius, one (ry, rx) pair, or one (ry, rx) pair per channel"


@dataclass(frozen=True)
class Radii:
    """What an argument of radii is called in errors, what None stands for, and how large they get.

    Attributes
    ----------
    name : str
        The argument's name.
    default : float
        The radius that None stands for, in pixels.
    largest : float
        The largest radius, in pixels.
    """

    name: str
    default: float
    largest: float


MEAN_RADII = Radii("channels_mean_radii_pix", 7.0, MAX_RADIUS_PIX)
OPENING_RADII = Radii("channels_opening_radii_pix", 3.0, MAX_OPENING_RADIUS_PIX)


def as_radii(radii: Any, n_channels: int, kind: Radii = MEAN_RADII) -> list[Pair]:
    """Return one (ry, rx) pair of float radii per channel.

    Parameters
    ----------
    radii : float, sequence, array or None
        In pixels: one radius for everything; a pair (ry, rx) for all channels, even if there are
        exactly two; or one (ry, rx) pair per channel. None is the default.
    n_channels : int
        Number of channels.
    kind : Radii
        Which argument it is.

    Raises
    ------
    ValueError
        If the form is none of these, the number of pairs is not `n_channels`, or a radius is not
        greater than 0 and at most the largest.

    Warns
    -----
    UserWarning
        If two channels get a list of two radii: the caller may have meant one per channel.
    """
    plain = _plain(kind.default if radii is None else radii)
    if not isinstance(plain, list):
        radius = _radius(plain, kind)
        return [(radius, radius)] * n_channels
    nested = [isinstance(entry, list) for entry in plain]
    if any(nested) and not all(nested):
        raise ValueError(f"{kind.name} mixes radii and sequences: {shown(radii)}: {RADII_FORMS}")
    if not any(nested):
        if len(plain) != 2:
            raise ValueError(f"{kind.name} is a sequence of {len(plain)} radii: {RADII_FORMS}")
        pair = _pair(plain, kind)
        if n_channels == 2 and isinstance(radii, list):
            _warn_of_list(pair, kind)
        return [pair] * n_channels
    if len(plain) != n_channels:
        raise ValueError(
            f"{kind.name} has {len(plain)} pairs for {n_channels} "
            f"channel{'s' if n_channels != 1 else ''}: {RADII_FORMS}"
        )
    return [_pair(entry, kind) for entry in plain]


def check_corrections(corrections: Any, n_channels: int) -> MutableSequence[Any]:
    """Return the noise corrections to multiply in place: the caller's own, or new ones.

    Parameters
    ----------
    corrections : None, mutable sequence, one-dimensional array, or tuple
        Factors so far, one per channel. None gives float32 ones, a tuple a new list.
    n_channels : int
        Number of channels.

    Raises
    ------
    ValueError
        If the length is not `n_channels`, an entry is not a finite number of at least 0 that a
        float32 can multiply, or an array cannot be updated (read-only, or of integers).
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
        if not _is_factor(entry):
            raise ValueError(
                f"noise_corrections[{i}] is {shown(entry)}: pass finite floats of at least 0 that "
                "float32 can hold (1 where nothing was filtered yet)"
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


def replace(entries: MutableSequence[Any], values: Sequence[Any]) -> list[Any]:
    """Replace all entries, or none if one cannot be stored; return the old ones."""
    before = list(entries)
    try:
        for i, value in enumerate(values):
            entries[i] = value
    except BaseException:
        for i, entry in enumerate(before):
            entries[i] = entry
        raise
    return before


def check_parallel(parallel: Any) -> int:
    """Return how many threads a block may use; 0 means as many as its worker has."""
    if isinstance(parallel, bool | np.bool_):
        return 0 if parallel else 1
    if parallel is None:
        return 1
    if isinstance(parallel, numbers.Integral) and int(parallel) >= -1:
        return {-1: 0, 0: 1}.get(int(parallel), int(parallel))
    raise ValueError(
        f"parallel is {shown(parallel)}: pass True or -1 for as many threads as the worker has, "
        "False, 0 or None for one, or a number of threads from 1"
    )


def check_window(window_fr: Any) -> int:
    """Return the frames on each side of a temporal window; None is 25.

    Raises
    ------
    ValueError
        If it is not a whole number of at least 0.
    """
    if window_fr is None:
        return 25
    is_whole = isinstance(window_fr, numbers.Integral) and not isinstance(window_fr, bool)
    if not is_whole or window_fr < 0:
        raise ValueError(
            f"median_window_fr is {shown(window_fr)}: pass the frames on each side of a frame, "
            "a whole number of at least 0"
        )
    return int(window_fr)


def _plain(value: Any, depth: int = 3) -> Any:
    """Turn arrays and sequences of any kind into nested lists; leave the rest as it is."""
    if hasattr(value, "tolist"):  # NumPy and CuPy arrays and scalars
        return value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        # Pairs lie two deep. Anything nested deeper is wrong, and may be endless.
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


def _is_factor(entry: Any) -> bool:
    """Say whether an entry is finite and at least 0, and stays so when float32 multiplies it."""
    value = _number(entry)
    if value is None or not (math.isfinite(value) and value >= 0):
        return False
    try:
        with np.errstate(all="ignore"):
            product = float(entry * np.float32(1))
    except (TypeError, OverflowError):  # Decimal; an integer of 400 digits
        return False
    return math.isfinite(product) and (product > 0) == (value > 0)


def _warn_of_list(pair: Pair, kind: Radii) -> None:
    """Warn, at the caller's line, that we took a list of two numbers as one pair."""
    ry, rx = (f"{radius:g}" for radius in pair)
    frames = (frame.f_globals for frame, _ in traceback.walk_stack(sys._getframe()))
    ours = {__name__.partition(".")[0], "contextlib"}  # which wraps `run_spatial_mean`
    inside = takewhile(lambda names: names.get("__name__", "").partition(".")[0] in ours, frames)
    level = 1 + sum(1 for _ in inside)
    warnings.warn(
        f"{kind.name} is a list of two numbers for two channels, taken as "
        f"(ry, rx) = ({ry}, {rx}) for both: pass the tuple ({ry}, {rx}) if that is meant, or "
        f"[({ry}, {ry}), ({rx}, {rx})] for one radius per channel",
        UserWarning,
        stacklevel=level,
    )


def _radius(value: Any, kind: Radii) -> float:
    radius = _number(value)
    # The sigma, half the radius, must not underflow to 0 either.
    if radius is None or not (radius / 2 > 0 and radius <= kind.largest):
        raise ValueError(
            f"{kind.name} holds {shown(value)}: pass radii greater than 0 and "
            f"at most {kind.largest:g} px"
        )
    return radius


def _pair(entries: list[Any], kind: Radii) -> Pair:
    if len(entries) != 2 or any(isinstance(entry, list) for entry in entries):
        raise ValueError(f"{kind.name} holds {shown(entries)} instead of a pair: {RADII_FORMS}")
    return _radius(entries[0], kind), _radius(entries[1], kind)
