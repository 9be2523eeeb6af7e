"""OIF and OIB: images of Olympus's FluoView; an OIB holds the files of an OIF.

Each frame is a TIFF of one page, named after its numbers. They are read one by one: the library's
array of them all has zeros for a frame that is not there. An image that was recorded as a stack in
z, with no axis of time, stays a stack in z.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile

from smlmlp_dask.movies.acquisition import Acquisition
from smlmlp_dask.movies.recording import Position, Recording

from .frames import FileMovie
from .planes import Planes, ReadPlane
from .reading import Unsuitable, reading_as, whole_frames

NAME = re.compile(r"(.*)_((?:[A-Z]\d+)+)\.tif", re.DOTALL)
"""Name of a frame's file: any text, then its number on each axis, from 1."""


def open(path: Path) -> Recording:
    """Read the metadata of a file."""
    from oiffile import OifFile

    remedy = "check that it was copied whole, an OIF with its folder of frames"
    with reading_as(path, "OIF", remedy), OifFile(path) as oif:
        return Recording(path=str(path), format="OIF", positions=(_position(path, oif),))


def files(path: Path) -> list[Path]:
    """Return the file, and the folder of an OIF's frames."""
    folder = path.with_name(path.name + ".files")
    return [path, folder] if folder.is_dir() else [path]


def _position(path: Path, oif: Any) -> Position:
    sizes = {axis: max(1, size) for axis, size in zip(oif.axes, oif.shape, strict=True)}
    others = [axis for axis in sizes if sizes[axis] > 1 and axis not in "TZCYX"]
    if others or not {"Y", "X"}.issubset(sizes):
        raise Unsuitable(f"has the axes {', '.join(sizes)}: save frames over T, Z, C as TIFF")
    shape = tuple(sizes.get(axis, 1) for axis in "TZC")
    count, depth, channels = shape
    names = _names(oif)
    places = np.array([*names])
    if (places < 0).any() or (places >= shape).any():
        raise Unsuitable(f"has {len(names)} frames, other ones than its axes say: {sizes}")
    there = np.zeros(shape, bool)
    there[tuple(places.T)] = True
    whole = whole_frames(there)
    dtype = _pixels(oif, next(iter(names.values()))).dtype

    def movie(channel: int, z: int) -> FileMovie:
        planes = Planes(
            path=str(path),
            frames=range(whole),
            open=_planes,
            place=(z, channel),
            copies=4 if oif.is_oib else 3,
        )
        return FileMovie.of(planes, whole, (sizes["Y"], sizes["X"]), dtype)

    return Position(
        movie=movie,
        channels=tuple(_acquisition(oif.mainfile, number) for number in range(channels)),
        depth=depth,
        promised=count,
        cut_short=f"it should hold {count} frames, {whole} are there",
    )


@contextmanager
def _planes(path: str) -> Iterator[ReadPlane]:
    """Open a file to read its frames."""
    from oiffile import OifFile

    with OifFile(path) as oif:
        names = _names(oif)
        yield lambda frame, z, channel: _pixels(oif, names[frame, z, channel])


def _names(oif: Any) -> dict[tuple[int, ...], str]:
    """Return the files of frames by their numbers in T, Z and C."""
    series: dict[str, dict[tuple[int, ...], str]] = defaultdict(dict)
    for name in oif.glob():
        if match := NAME.fullmatch(name):
            numbers = {axis: int(digits) - 1 for axis, digits in re.findall(r"(\D)(\d+)", match[2])}
            if not any(numbers.get(axis) for axis in set(numbers) - set("TZC")):
                series[match[1]][tuple(numbers.get(axis, 0) for axis in "TZC")] = name
    found = sorted(series.values(), key=len)  # others are reference images
    if not found or (len(found) > 1 and len(found[-1]) == len(found[-2])):
        raise Unsuitable(f"has {len(found)} series of frames (y, x) to choose from: save as TIFF")
    return found[-1]


def _pixels(oif: Any, name: str) -> NDArray[Any]:
    """Return a frame; refuse one cut short, which tifffile would fill with zeros."""
    with oif.open_file(name) as file, TiffFile(file, name=name) as tif:
        page = tif.pages.first
        end = max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True)))
        if tif.pages.is_multipage or end > tif.filehandle.size:
            raise ValueError(f"{name} is cut short, or has more than one page")
        pixels: NDArray[Any] = page.asarray()
        return pixels


def _acquisition(settings: Any, number: int) -> Acquisition:
    scale = settings.get("Reference Image Parameter", {})
    size = (scale.get("HeightConvertValue", 0), scale.get("WidthConvertValue", 0))
    known = {scale.get("HeightUnit"), scale.get("WidthUnit")} == {"um"} and min(size) > 0
    channel = settings.get(f"GUI Channel {number + 1} Parameters", {})
    return Acquisition(
        channel=channel.get("DyeName") or channel.get("CH Name") or None,
        pixel_size_um=(float(size[0]), float(size[1])) if known else None,
    )
