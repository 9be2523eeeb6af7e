"""A camera's gain, baseline and read noise: one number, or one for each of its pixels."""

import functools
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from smlmlp_dask.messages import one_line, printable_errors, shown
from smlmlp_dask.paths import absolute_path

from .acquisition import Acquisition
from .arguments import checked_bool, is_list, is_number
from .identity import source_identity
from .stack import SourceReadError, Stack, as_slice

Values: TypeAlias = npt.NDArray[np.float32]
"""Of one for all pixels, an array without axes; else (y, x)."""

OfCamera: TypeAlias = (
    float | str | os.PathLike[str] | Sequence[float | str | os.PathLike[str]] | None
)
"""What a user says of a camera: a number or the path of a map, for all channels or one for each."""

_MEANINGS = {
    "gain": ("photoelectrons per count", "0.25", "above 0"),
    "baseline": ("counts that the camera adds to every pixel", "100", "finite"),
    "variance": ("read noise in counts squared", "2.5", "from 0 up"),
}


@dataclass(frozen=True)
class PixelMap:
    """A file with a number for each pixel of a camera; it pickles small, and is read once.

    Attributes
    ----------
    path : str
        A TIFF or ``.npy`` file.
    digest : str
        Of the file's size and time: a changed file is another map.
    """

    path: str
    digest: str

    @classmethod
    def of(cls, path: Any) -> Self:
        """Return the map in a file."""
        file = absolute_path(path, "map")
        if not file.is_file():
            raise FileNotFoundError(f"{file} is no file: pass the TIFF or .npy of a map")
        return cls(str(file), digest_of(file))

    @property
    def values(self) -> Values:
        """The numbers (y, x), read-only."""
        return _read(self.path, self.digest)


def digest_of(path: str | Path) -> str:
    """Return a fingerprint of a file's size and time."""
    return str(source_identity(Path(path))["digest"])


Value: TypeAlias = float | PixelMap


@dataclass(frozen=True)
class Camera:
    """What turns a channel's counts into photoelectrons and their noise.

    Attributes
    ----------
    gain : float or PixelMap
        Photoelectrons per count.
    baseline : float or PixelMap
        Counts that the camera adds to every pixel.
    variance : float or PixelMap
        Of the read noise, in counts squared.
    photons : bool
        Whether frames are filtered in photoelectrons.
    """

    gain: Value
    baseline: Value = 0.0
    variance: Value = 0.0
    photons: bool = False

    @property
    def maps(self) -> list[PixelMap]:
        """Those of its values that differ from pixel to pixel."""
        values = (self.gain, self.baseline, self.variance)
        return [value for value in values if isinstance(value, PixelMap)]

    def to_attributes(self) -> dict[str, Any]:
        """Return numbers, and paths of maps."""
        return {
            name: value.path if isinstance(value, PixelMap) else value
            for name in _MEANINGS
            for value in (getattr(self, name),)
        }

    def noise(self, rows: range, columns: range) -> tuple[Values, Values, Values]:
        """Return gain, baseline and variance of these pixels, for the unit of its frames.

        The noise of a background is then the root of (background - baseline) / gain + variance.
        """
        box = as_slice(rows), as_slice(columns)
        gain, variance = part_of(self.gain, box), part_of(self.variance, box)
        if not self.photons:
            return gain, part_of(self.baseline, box), variance
        return np.ones((), np.float32), np.zeros((), np.float32), variance * gain * gain


@dataclass(frozen=True)
class CameraSettings:
    """What a user says of the camera, in place of the files; see `run_background`.

    Attributes
    ----------
    gain, baseline, variance : tuple or None
        One number or path for all channels, or one for each; None leaves it to the files.
    photons : bool
        Filter frames in photoelectrons.
    """

    gain: tuple[float | str | None, ...] | None = None
    baseline: tuple[float | str | None, ...] | None = None
    variance: tuple[float | str | None, ...] | None = None
    photons: bool = False

    @classmethod
    @printable_errors()
    def checked(
        cls,
        *,
        gain: Any = None,
        baseline: Any = None,
        variance: Any = None,
        photons: Any,
        snr: bool,
    ) -> Self | None:
        """Check arguments of `run_background`; return None if nothing asks for a camera."""
        photons = checked_bool("photons", photons)
        given = {"gain": gain, "baseline": baseline, "variance": variance}
        for name, value in given.items():
            if value is None or snr or (photons and name != "variance"):
                continue
            other = "" if name == "variance" else ", or photons=True (--photons)"
            raise ValueError(
                f"{name} is {shown(value)}, and nothing that is stored depends on it: add snr to "
                f"outputs (--write snr){other}, or leave it out"
            )
        if not (snr or photons):
            return None
        values = {n: None if v is None else _as_given(n, v) for n, v in given.items()}
        return cls(**values, photons=photons)

    @classmethod
    def recorded(cls, attributes: Mapping[str, Any]) -> Self | None:
        """Return the settings of a store; None if it notes none."""
        if "photons" not in attributes:
            return None
        values = {name: tuple(attributes[name]) for name in _MEANINGS}
        return cls(**values, photons=attributes["photons"])

    @printable_errors()
    def of(self, stacks: Sequence[Stack]) -> list[Camera]:
        """Return the camera of each channel: what is given, or else what the file says.

        Raises
        ------
        ValueError, TypeError, OSError
            If a gain is missing, or a map is none or does not fit.
        """
        return [self.of_channel(i, stack, len(stacks)) for i, stack in enumerate(stacks)]

    def of_channel(self, i: int, stack: Stack, count: int) -> Camera:
        """Return the camera of one channel of so many; see `of`."""
        values = {name: self._given(name, i, count) for name in _MEANINGS}
        known = Acquisition.from_attributes(stack.acquisition.to_attributes())
        if values["gain"] is None:
            values["gain"] = known.gain
        if values["gain"] is None:
            raise ValueError(
                f"channel {i}, {stack.movie.path}, does not say its gain, which "
                f"{'photons' if self.photons else 'snr'} needs: pass gain=0.25 (--gain 0.25), "
                "photoelectrons per count"
            )
        if values["baseline"] is None and known.baseline:
            if self.photons:
                values["baseline"] = known.baseline
            else:
                warnings.warn(
                    f"channel {i}, {stack.movie.path}, says that its camera adds "
                    f"{known.baseline:g} counts to every pixel, and the SNR takes them for light: "
                    f"pass baseline={known.baseline:g} (--baseline) to take them off, or 0",
                    stacklevel=2,
                )
        made: dict[str, Any] = {
            name: _checked(name, value, stack)
            for name, value in values.items()
            if value is not None
        }
        return Camera(**made, photons=self.photons)

    def _given(self, name: str, i: int, count: int) -> float | str | None:
        given: tuple[float | str | None, ...] = getattr(self, name) or (None,)
        if len(given) not in (1, count):
            raise ValueError(
                f"{name} has {len(given)} values for {count} channels: pass one for all, or one "
                f"for each channel, in order (--{name})"
            )
        return given[i % len(given)]


def _as_given(name: str, value: Any) -> tuple[float | str | None, ...]:
    if getattr(value, "ndim", 0) > 1:
        raise TypeError(
            f"{name} is an array of shape {value.shape}, which a resumed or verified job could "
            f"not read again: save it as a TIFF, or by np.save('{name}.npy', ...), and pass its "
            "path"
        )
    listed = is_list(value)
    values = list(value) if listed else [value]
    checked: list[float | str | None] = []
    for each in values:
        if each is None and (listed and len(values) > 1):
            checked.append(None)
        elif is_number(each):
            checked.append(_number(name, float(each)))
        elif isinstance(each, str | os.PathLike):
            checked.append(str(absolute_path(each, f"map of the {name}")))
        else:
            meaning, example, _ = _MEANINGS[name]
            raise TypeError(
                f"{name}={shown(value)}: pass a number such as {example} ({meaning}), the path of "
                "a map, or one of them for each channel"
            )
    if not checked:
        raise ValueError(f"{name}={shown(value)} is empty: pass one value for each channel")
    return tuple(checked)


def _number(name: str, value: float) -> float:
    meaning, example, limit = _MEANINGS[name]
    if not _allowed(name, np.float32(value)).all():
        raise ValueError(
            f"{name} is {value:g}: pass {meaning}, {limit}, such as {example} (--{name})"
        )
    return value


def _allowed(name: str, values: Any) -> Any:
    if name == "gain":
        return np.isfinite(values) & (values > 0)
    return np.isfinite(values) & ((values >= 0) | (name == "baseline"))


def _checked(name: str, value: float | str, stack: Stack) -> Value:
    """Return a number, or a map that fits the camera's frames."""
    if not isinstance(value, str):
        return value
    found = PixelMap.of(value)
    try:
        values = found.values
    except SourceReadError as error:
        raise ValueError(f"{name}: {one_line(error)}") from error
    frame = stack.movie.shape[1:]
    if values.shape != frame:
        raise ValueError(
            f"{name}: the map {found.path} has shape {values.shape}, and frames of "
            f"{stack.movie.path} have {frame}: pass a map of the camera's whole frame, before "
            "boxes and flips"
        )
    allowed = _allowed(name, values)
    if not allowed.all():
        y, x = np.argwhere(~allowed)[0]
        raise ValueError(
            f"{name}: the map {found.path} has {values[y, x]:g} at y={y}, x={x} and "
            f"{np.count_nonzero(~allowed):,} such pixels in all: {_MEANINGS[name][0]} must be "
            f"{_MEANINGS[name][2]}; mend the map"
        )
    return found


def part_of(value: Value, box: tuple[slice, slice]) -> Values:
    """Return a number, or what a map has for some rows and columns of the camera."""
    if isinstance(value, PixelMap):
        return value.values[box]
    return np.array(value, np.float32)


@functools.lru_cache(maxsize=16)
def _read(path: str, digest: str) -> Values:
    """Return the one frame of a file."""
    try:
        if digest_of(path) != digest:
            raise ValueError("it has changed since the job began")
        if Path(path).suffix.lower() == ".npy":
            with Path(path).open("rb") as file:
                values = np.lib.format.read_array(file, allow_pickle=False)
        else:
            import tifffile

            values = tifffile.imread(path)
    except Exception as error:  # libraries raise anything on damaged files
        raise SourceReadError(
            f"the map {path} cannot be read ({one_line(error)}): pass a TIFF or .npy file"
        ) from error
    frame = (
        values.reshape(values.shape[-2:])
        if values.size and values.ndim > 2 and (values.size == math.prod(values.shape[-2:]))
        else values
    )
    if frame.ndim != 2 or frame.dtype.kind not in "iuf":
        raise SourceReadError(
            f"the map {path} has shape {values.shape} and dtype {values.dtype}: pass one frame "
            "(y, x) of real numbers"
        )
    with np.errstate(over="ignore"):
        numbers = np.ascontiguousarray(frame, np.float32)
    numbers.flags.writeable = False
    return numbers
