"""LIF: images of Leica's LAS AF and LAS X.

The library reads the file's tree of images; each image's description says at which byte its frames
begin, and so they are read without it. An image that was recorded as a stack in z, with no axis of
time, stays a stack in z.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from smlmlp_dask.messages import one_line
from smlmlp_dask.movies.acquisition import Acquisition
from smlmlp_dask.movies.recording import Position, Recording

from .frames import FileMovie, PlainFrames
from .reading import Unsuitable, reading_as, recording_of, whole_frames

AXES = {1: "X", 2: "Y", 3: "Z", 4: "T", 10: "M"}
"""Axes by their number in a file; M are the tiles of a mosaic."""

COLOURS = {
    "gray": "FFFFFF",
    "red": "FF0000",
    "green": "00FF00",
    "blue": "0000FF",
    "yellow": "FFFF00",
    "magenta": "FF00FF",
    "cyan": "00FFFF",
}
"""Display colours by the names of Leica's look-up tables."""

TICKS = 10**7
"""Of Leica's clock, a second."""


@dataclass(frozen=True)
class _Axis:
    size: int
    step: int  # in bytes
    spacing: float | None  # in metres or seconds


def open(path: Path) -> Recording:
    """Read the metadata of a file. Images that are no movies are left out, and said."""
    from liffile import LifFile

    positions, others = [], []
    with reading_as(path, "LIF", "check that the file was copied whole"), LifFile(path) as lif:
        for image in lif.images:
            try:
                positions.append(_position(path, image, path.stat().st_size))
            except Unsuitable as error:
                others.append(f"image {image.path!r} {error}")
            except (AttributeError, LookupError, TypeError, ValueError) as error:
                others.append(f"image {image.path!r} cannot be read: {one_line(error)}")
        return recording_of(path, "LIF", positions, others, "images")


def _position(path: Path, image: Any, file_bytes: int) -> Position:
    if image.is_flim:
        raise Unsuitable("holds photon arrival times, no frames")
    description = image.xml_element.find("./Data/Image/ImageDescription")
    axes = _axes(description.findall("./Dimensions/DimensionDescription"))
    found = description.findall("./Channels/ChannelDescription")
    channels = sorted(found, key=lambda channel: int(channel.get("BytesInc")))
    starts = [int(channel.get("BytesInc")) for channel in channels]
    dtype = image.dtype
    shape = (axes["T"].size, axes["Y"].size, axes["X"].size)
    if axes["X"].step != dtype.itemsize:
        raise Unsuitable("has colour samples: save its channels apart")
    if axes["Y"].step != shape[2] * dtype.itemsize:
        raise Unsuitable("does not hold frame (y, x) after frame: save it as TIFF")
    depth, count = axes["Z"].size, shape[0]
    names = [None] * len(channels)
    try:
        block = image.memory_block
        start, stop = block.offset, min(block.offset + block.size, file_bytes)
        names = image.coords.get("C", names)
    except LookupError:  # the file ends before the block
        start = stop = file_bytes
    frames = start + axes["T"].step * np.arange(count)
    ends = frames + max(starts) + (depth - 1) * axes["Z"].step + shape[1] * axes["Y"].step
    whole = whole_frames(ends <= stop)

    def movie(channel: int, z: int) -> FileMovie:
        places = frames[:whole] + starts[channel] + z * axes["Z"].step
        plain = PlainFrames(path=str(path), offsets=places, dtype=dtype)
        return FileMovie.of(plain, whole, shape[1:], dtype)

    interval = _interval(image, count) or axes["T"].spacing
    return Position(
        name=image.path,
        movie=movie,
        channels=tuple(
            replace(_acquisition(channel, name, axes), frame_interval_s=interval)
            for channel, name in zip(channels, names, strict=True)
        ),
        depth=depth,
        promised=count,
        cut_short=f"image {image.path!r} should hold {count} frames, the file holds {whole}",
    )


def _axes(found: Sequence[Any]) -> dict[str, _Axis]:
    """Return the axes T, Z, Y, X; refuse an image that has others."""
    axes = {"T": _Axis(1, 0, None), "Z": _Axis(1, 0, None)}
    for axis in found:
        size, number = int(axis.get("NumberOfElements")), int(axis.get("DimID"))
        name = AXES.get(number, f"of kind {number}")
        if size < 2 and name not in ("X", "Y"):
            continue
        length = abs(float(axis.get("Length")))
        known = length > 0 and size > 1 and axis.get("Unit") == ("s" if name == "T" else "m")
        spacing = length / (size - 1) if known else None
        axes[name] = _Axis(size, int(axis.get("BytesInc")), spacing)
    if axes.pop("M", None):
        raise Unsuitable("is a mosaic of tiles: save each tile as an image of its own")
    if set(axes) != set("TZYX"):
        raise Unsuitable(f"has the axes {', '.join(axes)}, and must have T, Y, X or Z, Y, X")
    return axes


def _acquisition(channel: Any, name: Any, axes: dict[str, _Axis]) -> Acquisition:
    y, x = axes["Y"].spacing, axes["X"].spacing
    return Acquisition(
        channel=None if name is None or str(name).startswith("Ch") else str(name),
        pixel_size_um=None if y is None or x is None else (y * 1e6, x * 1e6),
        colour=COLOURS.get((channel.get("LUTName") or "").lower()),
    )


def _interval(image: Any, count: int) -> float | None:
    """Return the median of seconds from frame to frame; a file lists when each was recorded."""
    listed = (image.xml_element.findtext("./Data/Image/TimeStampList") or "").split()
    if count < 2 or len(listed) < count or len(listed) % count:
        return None
    ticks = np.array([int(time, 16) for time in listed], np.int64).reshape(count, -1)
    return float(np.median(np.diff(ticks[:, 0]))) / TICKS or None
