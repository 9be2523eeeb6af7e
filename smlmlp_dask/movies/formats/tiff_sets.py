"""Movies in sets of TIFF files: OME-TIFF, Micro-Manager's stacks, NDTiff.

A set is opened by any of its files. What its metadata say of the place of each page is followed;
the names of files outside the set's folder are not.
"""

import glob
import json
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile, natural_sorted, read_ndtiff_index
from tifffile.tifffile import read_micromanager_metadata

from smlmlp_dask.messages import one_line
from smlmlp_dask.movies.acquisition import Acquisition
from smlmlp_dask.movies.recording import Position, Recording

from .frames import FileMovie, PlainFrames
from .ome_xml import Ome, OmeImage, Plane, read_ome
from .tiff_file import Pages, all_pages
from .tiff_planes import ABSENT, no_planes, position_of

NDTIFF_INDEX = "NDTiff.index"
"""File of an NDTiff folder that lists all images."""

_STACK = "_MMStack"


# OME-TIFF


def ome_of(path: Path, tif: TiffFile) -> tuple[Ome | None, str]:
    """Return the OME-XML of a file's set, and the name of the file that holds it."""
    ome = read_ome(tif.ome_metadata or "", path.name) if tif.is_ome else None
    if ome is None or not ome.metadata_file or ome.images:
        return ome, path.name
    other = _beside(path, ome.metadata_file)
    if not other.is_file():
        raise ValueError(
            f"{path} is one file of a set, whose metadata are in {other.name}, which is missing: "
            "copy the whole set into one folder"
        )
    return read_ome(_ome_text(other), other.name), other.name


def is_ome_set(ome: Ome, pages: int) -> bool:
    """Say whether images lie in several files, or in other pages than one for each frame."""
    if len(ome.images) != 1:
        return len(ome.images) > 1
    (image,) = ome.images
    return bool(set(image.files) - {""}) or 1 < pages < prod(image.sizes)


def ome_files(path: Path, ome: Ome, holder: str) -> list[Path]:
    """Return the existing files of a set."""
    names = {name or holder for image in ome.images for name in image.files} | {holder}
    return [file for name in natural_sorted(names) if (file := _beside(path, name)).is_file()]


def open_ome_set(path: Path, ome: Ome, holder: str) -> Recording:
    """Open all images of OME-XML that is in the file `holder` of a folder.

    Raises
    ------
    ValueError
        If a file or a plane is missing, or a file is not the one that is meant.
    """
    opened: dict[str, Pages | None] = {}

    def pages(name: str) -> Pages | None:
        if name not in opened:
            opened[name] = _member(path, name, holder, uuids.get(name, ""))
        return opened[name]

    uuids = {name: uuid for image in ome.images for name, uuid in image.files.items()}
    positions = [_ome_position(path, image, pages) for image in ome.images]
    return Recording(path=str(path), format="OME-TIFF", positions=tuple(positions))


def _ome_position(path: Path, image: OmeImage, pages: Any) -> Position:
    if image.samples > 1:
        raise ValueError(
            f"{path}: the image {image.name!r} has {image.samples} colour samples: save one gray "
            "channel"
        )
    files: list[FileMovie] = []
    numbers: dict[str, int] = {}
    planes = no_planes(path, image.sizes)
    why = ""
    for plane in image.planes(lambda name: pages(name).promised if pages(name) else 0):
        found = pages(plane.file)
        if found is None:
            why = why or f"its file {plane.file} is missing"
            continue
        if plane.page >= found.movie.shape[0]:
            why = why or found.why(plane.page)
            continue
        if plane.file not in numbers:
            numbers[plane.file] = len(files)
            files.append(found.movie)
        _place(path, planes, plane, (numbers[plane.file], plane.page))
    return position_of(str(path), files, planes, name=image.name, channels=image.channels, why=why)


def _place(path: Path, planes: NDArray[np.int64], plane: Plane, where: tuple[int, int]) -> None:
    if planes[plane.t, plane.c, plane.z, 0] != ABSENT:
        raise ValueError(
            f"{path}: two pages are named for frame {plane.t} of channel {plane.c}: the metadata "
            "are damaged, or a file is there twice"
        )
    planes[plane.t, plane.c, plane.z] = where


def _member(path: Path, name: str, holder: str, uuid: str) -> Pages | None:
    """Open a file of a set; None if it is missing."""
    file = _beside(path, name or holder)
    if not file.is_file():
        return None
    found = all_pages(file)
    own = read_ome(found.description, file.name) if name and uuid else None
    if own is not None and own.uuid and own.uuid != uuid:
        raise ValueError(
            f"{file} is not the file of this name that the metadata of {path.name} mean (UUID "
            f"{own.uuid}, not {uuid}): it was renamed or replaced; restore the set"
        )
    return found


def _beside(path: Path, name: str) -> Path:
    if not name or Path(name).name != name:
        raise ValueError(
            f"{path}: its metadata name the file {name!r}, which is not in the same folder: put "
            "all files of the set into one folder"
        )
    return path.parent / name


def _ome_text(path: Path) -> str:
    if path.suffix.lower() in {".ome", ".xml"}:
        return path.read_text(encoding="utf-8", errors="replace")
    with TiffFile(path, _multifile=False, is_mmstack=False) as tif:
        return tif.ome_metadata or ""


# Micro-Manager's stacks


def is_mmstack(tif: TiffFile) -> bool:
    """Say whether a file is one of Micro-Manager's image stacks."""
    if not tif.is_micromanager:
        return False
    found = read_micromanager_metadata(tif.filehandle, {"Summary"})
    return found.get("MajorVersion", 1) == 0 and "Frames" in found.get("Summary", {})


def mmstack_files(path: Path) -> list[Path]:
    """Return the files of a stack: those of one name up to ``_MMStack``."""
    prefix, found, _ = path.name.partition(_STACK)
    if not found:
        return [path]
    pattern = f"{glob.escape(prefix + _STACK)}*"
    names = [f.name for f in path.parent.glob(pattern) if f.suffix.lower() in {".tif", ".tiff"}]
    return [path.parent / name for name in natural_sorted(names)]


def open_mmstack(path: Path) -> Recording:
    """Open all positions of a Micro-Manager stack.

    Raises
    ------
    ValueError
        If a file is of another acquisition, or two have the same frames.
    """
    paths = mmstack_files(path)
    files = [all_pages(file) for file in paths]
    summaries, indices = zip(*map(_mm_index, paths), strict=True)
    summary = summaries[paths.index(path)]
    for file, other in zip(paths, summaries, strict=True):
        if any(other.get(key) != summary.get(key) for key in _SAME):
            raise ValueError(
                f"{file} and {path} have names of one set, but are of two acquisitions: keep "
                "them in folders of their own"
            )
    sizes = [max(int(summary.get(key) or 1), 1) for key in ("Frames", "Channels", "Slices")]
    rows = np.concatenate(indices)
    shape = np.maximum(sizes, rows[:, :3].max(axis=0) + 1)
    numbers = np.unique(rows[:, 3])
    planes = no_planes(path, (len(numbers), *shape.tolist()))
    why = ""
    for at, (opened, index) in enumerate(zip(files, indices, strict=True)):
        there = index[:, 4] < opened.movie.shape[0]
        if not there.all():
            why = why or opened.why(int(index[~there, 4].min()))
        t, c, z, position, page = index[there].T
        places = np.stack([np.searchsorted(numbers, position), t, c, z], axis=1)
        taken = planes[(*places.T, 0)] != ABSENT
        if taken.any() or len(np.unique(places, axis=0)) < len(places):
            raise ValueError(
                f"{paths[at]} holds frames that are in the set already: a file is there twice; "
                "keep copies elsewhere"
            )
        planes[(*places.T,)] = np.stack([np.full_like(page, at), page], axis=1)
    why = why or f"it was to have {shape[0]} frames, its files hold fewer"
    channels = _mm_channels(summary, files[0].first_tags, int(shape[1]))
    positions = [
        position_of(
            str(path),
            [file.movie for file in files],
            planes[at],
            name=_position_name(summary, paths, indices, int(number)),
            channels=channels,
            why=why,
        )
        for at, number in enumerate(numbers)
    ]
    own = np.unique(indices[paths.index(path)][:, 3])
    return Recording(
        path=str(path),
        format="Micro-Manager",
        positions=tuple(positions),
        # a file of one position stands for it
        default=int(np.searchsorted(numbers, own[0])) if len(own) == 1 else None,
    )


_SAME = ("Width", "Height", "PixelType", "Channels", "Slices", "Frames", "Positions", "StartTime")


def _mm_index(path: Path) -> tuple[dict[str, Any], NDArray[np.int64]]:
    """Return the summary of a file, and for each page its frame, channel, slice and position."""
    with TiffFile(path, _multifile=False, is_ome=False, is_mmstack=False) as tif:
        found = read_micromanager_metadata(tif.filehandle, {"Summary", "IndexMap"})
        summary: dict[str, Any] = found.get("Summary", {})
        index = found.get("IndexMap")
        offsets = [page.offset for page in _frames_of(tif)]
    if index is None or not len(index):
        raise ValueError(
            f"{path} has no index of its images, since its recording was not ended: open it in "
            "Micro-Manager, which mends it, or save it as a new TIFF"
        )
    number = {offset: n for n, offset in enumerate(offsets)}
    pages = [number.get(int(offset), len(offsets)) for offset in index[:, 4]]
    channel, z, t, position = (index[:, n].astype(np.int64) for n in range(4))
    return summary, np.stack([t, channel, z, position, np.array(pages)], axis=1)


def _frames_of(tif: TiffFile) -> Any:
    tif.pages.useframes = True
    tif.pages.set_keyframe(0)
    return tif.pages


def _position_name(
    summary: Mapping[str, Any],
    paths: Sequence[Path],
    indices: Sequence[NDArray[np.int64]],
    number: int,
) -> str:
    stage = summary.get("StagePositions") or summary.get("InitialPositionList") or []
    if isinstance(stage, list) and number < len(stage) and isinstance(stage[number], dict):
        label = stage[number].get("Label") or stage[number].get("label")
        if label:
            return str(label)
    for path, index in zip(paths, indices, strict=True):
        if set(index[:, 3].tolist()) == {number}:
            rest = path.name.partition(_STACK)[2].removeprefix("_")
            return rest.partition(".")[0]
    return f"Pos{number}"


def _mm_channels(
    summary: Mapping[str, Any], first: Mapping[str, Any], count: int
) -> list[Acquisition]:
    names, colours = summary.get("ChNames") or [], summary.get("ChColors") or []
    size = _positive(summary.get("PixelSize_um")) or _positive(first.get("PixelSizeUm"))
    interval = _positive(summary.get("Interval_ms"))
    exposure = _positive(first.get("Exposure-ms"))
    channels = []
    for number in range(count):
        colour = colours[number] if number < len(colours) else None
        channels.append(
            Acquisition(
                channel=str(names[number]) if number < len(names) else None,
                pixel_size_um=(size, size) if size else None,
                frame_interval_s=interval / 1000 if interval else None,
                exposure_s=exposure / 1000 if exposure and count == 1 else None,
                colour=f"{colour & 0xFFFFFF:06X}" if isinstance(colour, int) else None,
            )
        )
    return channels


def _positive(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) and number > 0 else None


# NDTiff


def open_ndtiff(folder: Path) -> Recording:
    """Open a folder that NDTiff's index describes.

    Raises
    ------
    ValueError
        If the index is damaged, has axes beside time, channel, z and position, or names frames
        of several sizes or in files that are missing.
    """
    index = folder / NDTIFF_INDEX
    try:
        entries = list(read_ndtiff_index(index))
    except Exception as error:
        raise ValueError(f"{index} cannot be read: {one_line(error)}; copy it again") from error
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
    names = natural_sorted({_beside(index, entry[1]).name for entry in entries})
    summary = _ndtiff_summary(folder / entries[0][1])
    return _ndtiff_recording(folder, entries, values, summary, names)


_ND_AXES = ("time", "channel", "z", "position")
_ND_TYPES = {0: "u1", 1: "u2", 3: "u2", 4: "u2", 5: "u2", 6: "u2"}


def _ndtiff_recording(
    folder: Path,
    entries: Sequence[Any],
    values: Mapping[str, Mapping[Any, int]],
    summary: Mapping[str, Any],
    names: Sequence[str],
) -> Recording:
    sizes = [max(1, len(values[axis])) for axis in _ND_AXES]
    planes = no_planes(folder, sizes)
    offsets: dict[str, list[int]] = {name: [] for name in names}
    kinds = set()
    missing = ""
    for axes, name, offset, width, height, kind, compression, *_ in entries:
        if kind not in _ND_TYPES or compression:
            what = "is compressed" if compression else f"has pixels of NDTiff's type {kind}"
            raise ValueError(f"{folder / name}: an image {what}: save it as gray, uncompressed")
        kinds.add((height, width, _ND_TYPES[kind]))
        if len(kinds) > 1:
            raise ValueError(f"{folder} has images of several sizes or types: {sorted(kinds)}")
        file = folder / name
        size = height * width * int(_ND_TYPES[kind][1])
        if not file.is_file() or offset + size > file.stat().st_size:
            missing = missing or f"{name} is missing or cut short"
            continue
        place = tuple(values[axis].get(axes.get(axis), 0) for axis in _ND_AXES)
        planes[place] = (names.index(name), len(offsets[name]))
        offsets[name].append(offset)
    ((height, width, dtype),) = kinds
    with (folder / names[0]).open("rb") as file:
        order = {b"II": "<", b"MM": ">"}.get(file.read(2), "<")
    files = [
        FileMovie(
            path=str(folder / name),
            frame_shape=(height, width),
            dtype=np.dtype(dtype),
            pieces=(
                PlainFrames(
                    path=str(folder / name),
                    offsets=np.array(offsets[name], np.int64),
                    dtype=np.dtype(order + dtype),
                ),
            ),
            counts=(len(offsets[name]),),
        )
        for name in names
    ]
    channels = _mm_channels(summary, {}, sizes[1])
    named = [str(value) if isinstance(value, str) else None for value in values["channel"]]
    positions = []
    for number, position in enumerate(values["position"] or {"": 0}):
        positions.append(
            position_of(
                str(folder),
                files,
                planes[:, :, :, number],
                name=str(position),
                channels=[
                    Acquisition(**{**vars(known), "channel": name or known.channel})
                    for known, name in zip(channels, named or [None], strict=True)
                ],
                why=missing,
            )
        )
    return Recording(path=str(folder), format="NDTiff", positions=tuple(positions))


def _ndtiff_summary(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            found: dict[str, Any] = read_micromanager_metadata(file, {"Summary"})
            return found.get("Summary") or {}
    except (OSError, ValueError, json.JSONDecodeError):
        return {}
