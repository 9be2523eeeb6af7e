"""NDTiff: a folder of TIFFs with an index of all images."""

import json
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tifffile import TiffFile, natural_sorted
from tifffile.tifffile import read_micromanager_metadata

from smlmlp_dask.messages import counted, one_line
from smlmlp_dask.movies.recording import Position, Recording

from .file_names import in_a_run
from .frames import FileMovie, PlainFrames, open_file
from .micromanager import summary_channels
from .tiff_file import beside, parsing
from .tiff_pages import Directory
from .tiff_planes import no_planes, position_of

NDTIFF_INDEX = "NDTiff.index"
"""File of an NDTiff folder that lists all images."""

_Entry = tuple[dict[str, Any], str, int, int, int, int, int]
"""Axes, file, offset of the pixels, width, height, type and compression of an image."""


def open_ndtiff(folder: Path) -> Recording:
    """Open a folder that NDTiff's index describes.

    Raises
    ------
    ValueError
        If the index is damaged, has axes beside time, channel, z and position, or names frames
        of several sizes or in files that are missing.
    """
    index = folder / NDTIFF_INDEX
    if not index.is_file():
        raise ValueError(
            f"{index} is missing, and only it says which images are of which channel and frame: "
            "copy the whole folder"
        )
    entries, whole = _ndtiff_index(index)
    if not entries:
        raise ValueError(f"{index} lists no image: nothing was recorded")
    values: dict[str, dict[Any, int]] = {axis: {} for axis in _ND_AXES}
    for axes, *_ in entries:
        for axis, value in axes.items():
            values.setdefault(axis, {}).setdefault(value, 0)
    other = [axis for axis in values if axis not in _ND_AXES and len(values[axis]) > 1]
    if other:
        raise ValueError(
            f"{folder} has an axis {other[0]!r} of {len(values[other[0]])} steps beside time, "
            "channel, z and position: save each of its steps as a movie of its own"
        )
    for axis in _ND_AXES:  # names keep their order, numbers are sorted
        found = list(values[axis])
        ordered = found if any(isinstance(v, str) for v in found) else sorted(found)
        values[axis] = {value: number for number, value in enumerate(ordered)}
    names = natural_sorted({beside(index, entry[1]).name for entry in entries})
    cut = "" if whole else f"{NDTIFF_INDEX} is cut short, after {len(entries)} images"
    cut = cut or _not_listed(folder, entries, names)
    positions = _ndtiff_positions(folder, entries, values, names, cut)
    times = [time for time in values["time"] if isinstance(time, int)]
    notes = in_a_run(times, "frame")[1]
    return Recording(path=str(folder), format="NDTiff", positions=tuple(positions), notes=notes)


def _not_listed(folder: Path, entries: Sequence[_Entry], names: Sequence[str]) -> str:
    """Say which images an index lacks at its end; empty if it has all."""
    for file in sorted(folder.glob("*.tif")):
        if file.name not in names and not file.name.startswith("."):
            with parsing(file), open_file(file) as tif:
                if is_ndtiff(tif):
                    return f"{NDTIFF_INDEX} does not list the images of {file.name}"
    last = folder / names[-1]
    if not last.is_file():
        return ""
    listed = sum(name == last.name for _, name, *_ in entries)
    with parsing(last), open_file(last) as tif:
        there = _images_in(tif)
    if there <= listed:
        return ""
    return f"{NDTIFF_INDEX} lists {counted(listed, 'image')} of {last.name}, which holds {there}"


def _images_in(tif: TiffFile) -> int:
    """Return the number of images of a file; a recording that was aborted ends in zeros."""
    count, place = 0, int(tif.pages.first.offset)
    with suppress(struct.error):  # no header is there
        while (directory := Directory.read(tif, place)).layout:
            count += 1
            if directory.link <= place:  # they follow one another
                break
            place = directory.link
    return count


def is_ndtiff(tif: TiffFile) -> bool:
    """Say whether a file is one of an NDTiff folder, by its header."""
    tif.filehandle.seek(8)
    return tif.filehandle.read(4) in (_NDTIFF, _NDTIFF[::-1])


_NDTIFF = (483729).to_bytes(4, "little")
"""What stands before the version in NDTiff's header."""


def _ndtiff_index(path: Path) -> tuple[list[_Entry], bool]:
    """Return all images of an index, and whether it ends with the last one."""
    content, at = path.read_bytes(), 0
    entries: list[_Entry] = []

    def text() -> str:
        nonlocal at
        (size,) = struct.unpack_from("<I", content, at)
        at += 4 + size
        if at > len(content):
            raise struct.error
        return content[at - size : at].decode()

    while at < len(content):
        try:
            axes, name = json.loads(text()), text()
            numbers = struct.unpack_from("<IiiiiIii", content, at)
        except struct.error:
            return entries, False
        except ValueError as error:
            raise ValueError(f"{path} cannot be read: {one_line(error)}; copy it again") from error
        entries.append((axes, name, *numbers[:5]))
        at += 32
    return entries, True


_ND_AXES = ("time", "channel", "z", "position")
_ND_TYPES = {0: "u1", 1: "u2", 3: "u2", 4: "u2", 5: "u2", 6: "u2"}


def _ndtiff_positions(
    folder: Path,
    entries: Sequence[_Entry],
    values: Mapping[str, Mapping[Any, int]],
    names: Sequence[str],
    missing: str,
) -> list[Position]:
    sizes = [max(1, len(values[axis])) for axis in _ND_AXES]
    sizes[0] += bool(missing)  # at least a frame more
    planes = no_planes(folder, sizes)
    offsets: dict[str, list[int]] = {name: [] for name in names}
    kinds = set()
    files = [folder / name for name in names]
    ends = {file.name: file.stat().st_size if file.is_file() else 0 for file in files}
    for axes, name, offset, width, height, kind, compression in entries:
        if kind not in _ND_TYPES or compression:
            what = "is compressed" if compression else f"has pixels of NDTiff's type {kind}"
            raise ValueError(f"{folder / name}: an image {what}: save it as gray, uncompressed")
        kinds.add((height, width, _ND_TYPES[kind]))
        if len(kinds) > 1:
            raise ValueError(f"{folder} has images of several sizes or types: {sorted(kinds)}")
        if offset + height * width * int(_ND_TYPES[kind][1]) > ends[name]:
            missing = missing or f"{name} is missing or cut short"
            continue
        place = tuple(values[axis].get(axes.get(axis), 0) for axis in _ND_AXES)
        planes[place] = (names.index(name), len(offsets[name]))
        offsets[name].append(offset)
    ((height, width, dtype),) = kinds
    order, summary = _ndtiff_head(files)
    stored = np.dtype(order + dtype)
    movies = []
    for file in files:
        places = np.array(offsets[file.name], np.int64)
        frames = PlainFrames(path=str(file), offsets=places, dtype=stored)
        movies.append(FileMovie.of(frames, len(places), (height, width), stored))
    channels = summary_channels(summary, {}, sizes[1])
    for number, value in enumerate(values["channel"]):
        if isinstance(value, str) and value:
            channels[number] = replace(channels[number], channel=value)
    return [
        position_of(
            str(folder),
            movies,
            planes[:, :, :, number],
            name=str(position),
            channels=channels,
            why=missing,
        )
        for number, position in enumerate(values["position"] or {"": 0})
    ]


def _ndtiff_head(files: Sequence[Path]) -> tuple[str, Mapping[str, Any]]:
    """Return the byte order of the first file that is there, and the summary of the recording."""
    for path in filter(Path.is_file, files):
        with path.open("rb") as file:
            order, found = ">" if file.read(2) == b"MM" else "<", {}
            with suppress(ValueError):
                found = read_micromanager_metadata(file, {"Summary"})
            return order, found.get("Summary") or {}
    return "<", {}
