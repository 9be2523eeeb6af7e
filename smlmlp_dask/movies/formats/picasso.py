"""Picasso's movies: plain frames in `movie.raw`, described by `movie.yaml`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from smlmlp_dask.messages import one_line, shown
from smlmlp_dask.movies.acquisition import Acquisition
from smlmlp_dask.movies.arguments import RawLayout, check_dtype
from smlmlp_dask.movies.recording import Recording

from .plain import plain_recording

_KEYS = ("Byte Order", "Data Type", "Frames", "Height", "Width")
_MARK = re.compile(rf"^['\"]?({'|'.join(_KEYS[:2])})['\"]?:", re.MULTILINE)


# Reads plain values only: Picasso also writes Python objects, which are read as None.
_Loader: Any = type("_Loader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {})
_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def recognises(path: Path) -> bool:
    """Say whether a description by Picasso lies beside the file; other YAML may lie there, too."""
    beside = _beside(path)
    return beside.is_file() and bool(_MARK.search(beside.read_text("utf-8", "replace")))


def files(path: Path) -> list[Path]:
    """Return the movie and its description."""
    return [path, _beside(path)]


def open(path: Path) -> Recording:
    """Read the description of a movie.

    Raises
    ------
    ValueError, TypeError
        If the description is damaged, or does not fit the movie.
    """
    beside = _beside(path)
    info = _read(beside)
    missing = [key for key in _KEYS if key not in info]
    if missing:
        raise ValueError(
            f"{beside} does not give {', '.join(missing)}: add what it lacks, or move it away and "
            "describe the movie by raw_shape and raw_dtype (--raw-shape, --raw-dtype)"
        )
    frames, height, width = (_length(beside, info, key) for key in _KEYS[2:])
    layout = RawLayout((frames, height, width), _dtype(beside, info))
    return plain_recording(
        path,
        "Picasso",
        layout,
        by=str(beside),
        remedy="correct the description, or copy the file that belongs to it",
        acquisition=_acquisition(info),
    )


def _beside(path: Path) -> Path:
    return path.with_suffix(".yaml")


def _read(beside: Path) -> Mapping[str, Any]:
    """Return the first document: those of the steps that made the movie follow."""
    try:
        with beside.open(encoding="utf-8") as file:
            info = next(iter(yaml.load_all(file, _Loader)), None)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{beside} is damaged: {one_line(error)}; restore it from a copy"
        ) from error
    if not isinstance(info, Mapping):
        raise ValueError(f"{beside} begins with {shown(info)}, not with a list of keys and values")
    return info


def _length(beside: Path, info: Mapping[str, Any], key: str) -> int:
    value = info[key]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(
            f"{beside} gives {key}: {shown(value)}, not a positive integer; correct it"
        )
    return value


def _dtype(beside: Path, info: Mapping[str, Any]) -> np.dtype[Any]:
    name, order = info["Data Type"], info["Byte Order"]
    if order not in ("<", ">"):
        raise ValueError(f"{beside} gives Byte Order: {shown(order)}, not < or >; correct it")
    try:
        dtype = np.dtype(name) if isinstance(name, str) else None
    except (TypeError, ValueError, SyntaxError):
        dtype = None
    if dtype is None:
        raise TypeError(
            f"{beside} gives Data Type: {shown(name)}, which is no NumPy dtype; correct it"
        )
    check_dtype(str(beside), dtype)
    if name[0] in "<>" and name[0] != order:
        raise ValueError(f"{beside} gives Data Type: {name}, but Byte Order: {order}; correct it")
    return dtype.newbyteorder(order)


def _acquisition(info: Mapping[str, Any]) -> Acquisition:
    """Return what is noted under the names of Picasso's localization and of its simulation."""
    pixel_nm = _number(info, "Pixelsize") or _number(info, "Camera.Pixelsize")
    exposure_ms = _number(info, "Camera.Integration Time")
    sensitivity, em_gain = _number(info, "Sensitivity"), _number(info, "Gain")
    return Acquisition(
        pixel_size_um=(pixel_nm / 1000, pixel_nm / 1000) if pixel_nm else None,
        exposure_s=exposure_ms / 1000 if exposure_ms else None,
        # Sensitivity is in photoelectrons a count, after they were multiplied by the EM gain.
        gain=sensitivity / em_gain if sensitivity and em_gain else None,
        baseline=_number(info, "Baseline"),
    )


def _number(info: Mapping[str, Any], key: str) -> float | None:
    """Return a finite number from 0, or None."""
    value = info.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if 0 <= value < float("inf") else None
