"""IMS, the files of Imaris: HDF5 with one dataset for each time point and channel."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smlmlp_dask.movies.acquisition import Acquisition
from smlmlp_dask.movies.arguments import check_dtype
from smlmlp_dask.movies.recording import Position, Recording

from .hdf5_movie import HDF5_ERRORS, DatasetMovie, check_filters, chunk_shape, open_file
from .reading import reading_as

if TYPE_CHECKING:
    import h5py

_LEVEL = "DataSet/ResolutionLevel 0"
_UNITS_UM = {"um": 1.0, "µm": 1.0, "micron": 1.0, "nm": 1e-3, "mm": 1e3, "m": 1e6}
_UNNAMED = "(name not specified)"  # what Imaris writes for no name


def open(path: Path) -> Recording:
    """Read the metadata of a file.

    Raises
    ------
    ValueError
        If it is damaged, or holds no images of Imaris.
    """
    wrongly = reading_as(path, "an Imaris file", "copy the file again", HDF5_ERRORS)
    with wrongly, open_file(str(path)) as file:
        return _recording(path, file)


def _recording(path: Path, file: "h5py.File") -> Recording:
    count = np.ravel(file.attrs.get("NumberOfDataSets", 1))
    if count.size and int(count[0]) > 1:
        raise ValueError(
            f"{path} holds {count[0]} data sets, of which Imaris shows one image: save each as a "
            "file of its own"
        )
    level = file[_LEVEL]
    first = level["TimePoint 0"]
    channels = _consecutive(first, "Channel")
    data = first["Channel 0/Data"]
    check_dtype(str(path), data.dtype)
    if Path(data.file.filename) != path:
        raise ValueError(
            f"{path} only points to pixels in {data.file.filename}: pass that file instead"
        )
    image = _attributes(file, "DataSetInfo/Image")
    sizes = _sizes(path, first["Channel 0"].attrs, image, data.shape)
    for channel in range(channels):
        dataset = first[f"Channel {channel}/Data"]
        if (dataset.shape, dataset.dtype) != (data.shape, data.dtype):
            raise ValueError(
                f"{path} has channels of shapes {data.shape} and {dataset.shape} and dtypes "
                f"{data.dtype} and {dataset.dtype}: save each channel as a file of its own"
            )
        check_filters(str(path), dataset)
    frames = _consecutive(level, "TimePoint")
    # Only a few of its attributes: there is one for each time point.
    keys = ("FileTimePoints", "DatasetTimePoints", "TimePoint1", f"TimePoint{frames}")
    times = _attributes(file, "DataSetInfo/TimeInfo", *keys)
    promised = max(frames, len(level), _integer(times.get("FileTimePoints")) or 0)
    everywhere = _integer(times.get("DatasetTimePoints")) or 0
    pixel_size = _pixel_size(image, sizes)
    interval = _interval(times, frames)

    dtype, stored, chunk = data.dtype.newbyteorder("="), data.shape, chunk_shape(data)

    def movie(channel: int, z: int) -> DatasetMovie:
        return DatasetMovie(
            path=str(path),
            dataset=f"{_LEVEL}/TimePoint ",
            after=f"/Channel {channel}/Data",
            shape=(frames, *sizes[1:]),
            sizes=stored,
            dtype=dtype,
            chunk=chunk,
            axes=(None, 1, 2),
            place=(z, 0, 0),
        )

    position = Position(
        movie=movie,
        channels=tuple(
            Acquisition(
                channel=_name(about),
                colour=_colour(about),
                pixel_size_um=pixel_size,
                frame_interval_s=interval,
            )
            for about in (
                _attributes(file, f"DataSetInfo/Channel {channel}") for channel in range(channels)
            )
        ),
        depth=sizes[0],
        promised=promised,
        cut_short=f"it has {frames} consecutive time points of {promised}",
    )
    others = f"it has {promised} of the recording's {everywhere} time points; others are elsewhere"
    notes = (others,) if everywhere > promised else ()
    return Recording(path=str(path), format="Imaris", positions=(position,), notes=notes)


def _consecutive(group: "h5py.Group", name: str) -> int:
    """Return how many groups of this name are numbered from 0 on without a gap."""
    names = set(group)
    return next(n for n in range(len(names) + 1) if f"{name} {n}" not in names)


def _attributes(file: "h5py.File", name: str, *keys: str) -> Mapping[str, str]:
    """Return these texts of a group, by default all; Imaris writes arrays of single letters."""
    if name not in file:
        return {}
    attributes = file[name].attrs
    return {key: _text(attributes[key]) for key in keys or attributes if key in attributes}


def _text(value: Any) -> str:
    letters = np.ravel(value)
    if letters.dtype.kind == "S":
        text = b"".join(letters.tolist()).decode("utf-8", "replace")
    else:
        text = "".join(map(str, letters.tolist()))
    return text.split("\0")[0].strip()


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _sizes(
    path: Path, channel: Mapping[str, Any], image: Mapping[str, str], stored: tuple[int, ...]
) -> tuple[int, int, int]:
    """Return slices, rows and columns without the padding."""
    noted = [_text(channel[f"ImageSize{a}"]) if f"ImageSize{a}" in channel else None for a in "ZYX"]
    z, y, x = (
        _integer(size if size is not None else image.get(axis))
        for size, axis in zip(noted, "ZYX", strict=True)
    )
    if (
        z is None
        or y is None
        or x is None
        or not all(0 < n <= most for n, most in zip((z, y, x), stored, strict=True))
    ):
        raise ValueError(
            f"{path} notes the image size {(z, y, x)} (z, y, x) for datasets of shape {stored}: "
            "save it again from Imaris"
        )
    return (z, y, x)


def _numbers(texts: list[str | None]) -> list[float]:
    """Return finite numbers, or none at all."""
    with suppress(ValueError):
        numbers = [float(text or "") for text in texts]
        if all(map(isfinite, numbers)):
            return numbers
    return []


def _pixel_size(
    image: Mapping[str, str], sizes: tuple[int, int, int]
) -> tuple[float, float] | None:
    ends = [image.get(f"Ext{end}{axis}") for axis in (1, 0) for end in ("Max", "Min")]
    scale = _UNITS_UM.get(image.get("Unit", ""))
    numbers = _numbers(ends)
    if not numbers or scale is None:
        return None
    y, x = (numbers[0] - numbers[1]) / sizes[1], (numbers[2] - numbers[3]) / sizes[2]
    # The ends are 32-bit numbers: more digits are noise.
    return (round(y * scale, 6), round(x * scale, 6)) if min(y, x) > 0 else None


def _interval(times: Mapping[str, str], frames: int) -> float | None:
    """Return the mean interval from the first time point to the last."""
    with suppress(KeyError, ValueError):
        first, last = (
            datetime.fromisoformat(times[f"TimePoint{number}"]) for number in (1, frames)
        )
        seconds = (last - first).total_seconds()
        return round(seconds / (frames - 1), 6) if frames > 1 and seconds > 0 else None
    return None


def _name(channel: Mapping[str, str]) -> str | None:
    name = channel.get("Name", "")
    return None if name in ("", _UNNAMED) else name


def _colour(channel: Mapping[str, str]) -> str | None:
    parts = _numbers(list(channel.get("Color", "").split()))
    if len(parts) != 3 or not all(0 <= part <= 1 for part in parts):
        return None
    return "".join(f"{round(255 * part):02X}" for part in parts)
