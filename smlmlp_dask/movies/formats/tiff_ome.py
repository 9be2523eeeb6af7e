"""OME-TIFF in several files, opened by any of them, or by the file that only describes them.

What the metadata say of the place of each page is followed; names of files elsewhere are not.
"""

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile, natural_sorted

from smlmlp_dask.movies.recording import Position, Recording

from .frames import FileMovie, open_file
from .ome_xml import Ome, OmeImage, Plane, read_ome
from .tiff_file import Pages, all_pages, beside, parsing
from .tiff_planes import ABSENT, no_planes, position_of


def ome_of(path: Path, tif: TiffFile) -> tuple[Ome | None, str]:
    """Return the OME-XML of a file's set, and the name of the file that holds it.

    Raises
    ------
    ValueError
        If it is damaged or its file is missing.
    """
    text = tif.pages.first.description
    if not tif.is_ome and not ("<OME" in text and "openmicroscopy.org" in text):
        return None, path.name
    ome = _read_ome(path, text)
    if not ome.metadata_file or ome.images:
        return ome, path.name
    other = beside(path, ome.metadata_file)
    if not other.is_file():
        raise ValueError(
            f"{path} is one file of a set, whose metadata are in {other.name}, which is missing: "
            "copy the whole set into one folder"
        )
    return ome_in(other), other.name


def ome_in(path: Path) -> Ome:
    """Return the OME-XML that is in a file, which may be a companion file without pixels."""
    if is_companion(path):
        return _read_ome(path, path.read_text(encoding="utf-8", errors="replace"))
    with parsing(path), open_file(path) as tif:
        text = tif.pages.first.description
    return _read_ome(path, text)


def is_companion(path: Path) -> bool:
    """Say whether a file holds OME-XML alone."""
    return path.name.lower().endswith((".ome", ".ome.xml"))


def _read_ome(path: Path, text: str) -> Ome:
    try:
        ome = read_ome(text, path.name)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if ome is None:
        raise ValueError(
            f"{path} has OME-XML that is cut short or damaged, so nothing says which pages are "
            "channels: export the file again"
        )
    return ome


def is_ome_set(ome: Ome, pages: int) -> bool:
    """Say whether images lie in several files, or in other pages than one for each frame."""
    if len(ome.images) != 1:
        return len(ome.images) > 1
    (image,) = ome.images
    others = any(uuid != ome.uuid for uuid in image.files.values() if uuid)
    return others or bool(set(image.files) - {""}) or 1 < pages < prod(image.sizes)


def ome_files(path: Path, ome: Ome, holder: str) -> list[Path]:
    """Return the existing files of a set, and the one with its metadata."""
    names = {name or holder for image in ome.images for name in image.files} | {holder}
    return [file for name in natural_sorted(names) if (file := beside(path, name)).is_file()]


def open_ome_set(path: Path, ome: Ome, holder: str) -> Recording:
    """Open all images of OME-XML that is in the file `holder` of a folder.

    Raises
    ------
    ValueError
        If a file or a plane is missing, or a file is not the one that is meant.
    """
    if not ome.images:
        raise ValueError(f"{path}: its OME-XML describes no image: export the file again")
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
            why = why or f"its file {plane.file} is missing or empty"
            continue
        if plane.page >= found.movie.shape[0]:
            why = why or found.why(plane.page)
            continue
        if plane.file not in numbers:
            numbers[plane.file] = len(files)
            files.append(found.movie)
        _place(path, planes, plane, (numbers[plane.file], plane.page))
    if image.vague and (planes[..., 0] == ABSENT).any() and prod(image.sizes[1:]) > 1:
        raise ValueError(
            f"{path}: its OME-XML describes {prod(image.sizes)} planes, and does not say which of "
            "them its fewer pages are: export the file again"
        )
    return position_of(str(path), files, planes, name=image.name, channels=image.channels, why=why)


def _place(path: Path, planes: NDArray[np.int64], plane: Plane, where: tuple[int, int]) -> None:
    if planes[plane.t, plane.c, plane.z, 0] != ABSENT:
        raise ValueError(
            f"{path}: two pages are named for frame {plane.t} of channel {plane.c}: the metadata "
            "are damaged, or a file is there twice"
        )
    planes[plane.t, plane.c, plane.z] = where


def _member(path: Path, name: str, holder: str, uuid: str) -> Pages | None:
    """Open a file of a set; None if it is missing or empty."""
    file = beside(path, name or holder)
    if not file.is_file() or not file.stat().st_size:
        return None
    found = all_pages(file)
    own = read_ome(found.description, file.name) if name and uuid else None
    if own is not None and own.uuid and own.uuid != uuid:
        raise ValueError(
            f"{file} is not the file of this name that the metadata of {path.name} mean (UUID "
            f"{own.uuid}, not {uuid}): it was renamed or replaced; restore the set"
        )
    return found
