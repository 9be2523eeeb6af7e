"""A TIFF that stands alone: a movie, or channels and slices of one."""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from tifffile import TiffFile, TiffPage

from smlmlp_dask.movies.acquisition import UNKNOWN, Acquisition
from smlmlp_dask.movies.recording import Position

from .ome_xml import MICROMETRES, Ome, read_ome
from .tiff_file import (
    Pages,
    PageSeries,
    check_frame,
    check_pixels,
    found_pages,
    parsing,
    readable_pages,
)
from .tiff_planes import ABSENT, in_axes, no_planes, position_of

_REWRITE = (
    "write the frames as one stack, such as tifffile.imwrite(path, movie) with a movie of shape "
    "(frame, y, x)"
)

_FORMATS = {"ome": "OME-TIFF", "imagej": "ImageJ TIFF"}

_LENGTHS = MICROMETRES | {"micron": 1.0, "microns": 1.0, "\\u00B5m": 1.0, "micrometer": 1.0}
"""Units of ImageJ."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Single:
    """What one file holds.

    Attributes
    ----------
    position : Position
        Its channels and slices.
    format : str
        Name of the kind of TIFF.
    frame_shape : (int, int)
        Rows and columns.
    is_page : bool
        Whether it is one 2-D image, which a folder may hold as a frame.
    """

    position: Position
    format: str
    frame_shape: tuple[int, int]
    is_page: bool


def single(path: Path, tif: TiffFile, ome: Ome | None) -> Single:
    """Read the headers of an open file, as its metadata arrange its pages.

    Raises
    ------
    ValueError
        If it is damaged, without a whole frame, or not frames, channels and slices of gray images.
    """
    with parsing(path):
        pages, series = len(tif.pages), list(tif.series)
    if not series:
        raise ValueError(f"{path} has no image: it is empty or cut short; copy the file again")
    first = series[0]
    if len(series) > 1:
        raise ValueError(
            f"{path} holds {len(series)} image series in {pages} pages, the first of shape "
            f"{first.shape}, not one movie; {_REWRITE}"
        )
    check_pixels(path, first.keyframe)
    frame_shape = check_frame(path, first.shape, first.axes)
    kept = [
        (n, a) for n, a in zip(first.shape, first.axes, strict=True) if a not in "YX" and n != 1
    ]
    sizes, axes = [n for n, _ in kept], "".join(a for _, a in kept)
    with parsing(path):
        origin, lengths = _described(tif, first)
    lengths = tuple(sizes) if lengths is None else lengths
    described = prod(lengths)
    # One page may stand for a whole contiguous movie: ImageJ writes only one above 4 GiB.
    if (prod(sizes), pages) not in {(described, described), (described, 1)}:
        if described <= pages or sum(n > 1 for n in lengths) != 1:
            raise ValueError(
                f"{path} holds {pages} pages, but its {origin} metadata describe {described} "
                "frames; copy the file again, pass the folder or a glob of a multi-file set, or "
                f"{_REWRITE}"
            )
        found = _aborted(path, tif, first, described, frame_shape)
        sizes, axes = [found.movie.shape[0]], "T"
    else:
        found = found_pages(path, tif, first, described, frame_shape)
    planes = in_axes(path, sizes, axes, frame_shape)
    planes[planes[..., 1] >= found.movie.shape[0]] = ABSENT
    promised, why = max(described, found.promised), found.cut_short
    if promised > planes[..., 0].size:
        absent = promised - planes[..., 0].size
        planes = np.concatenate([planes, no_planes(path, (absent, *planes.shape[1:-1]))])
        more = f"{described} frames that its {origin} metadata describe"
        why = why or f"its {pages} pages hold fewer than the {more}"
    position = position_of(
        str(path),
        [found.movie],
        planes,
        channels=_acquisitions(tif, first, ome, planes.shape[1]),
        why=why,
    )
    return Single(
        position=position,
        format=_FORMATS.get(first.kind, "TIFF"),
        frame_shape=frame_shape,
        is_page=first.ndim == 2 and promised == 1,
    )


def _aborted(
    path: Path, tif: TiffFile, series: Any, described: int, frame_shape: tuple[int, int]
) -> Pages:
    """Find the whole frames of a file that has fewer than its metadata describe."""
    first = tif.pages.first
    if len(tif.pages) == 1 and tif.is_imagej and first.is_contiguous:
        one = PageSeries((), first, first.dtype, first.dataoffsets[0])
        return found_pages(path, tif, one, described, frame_shape)
    pages = readable_pages(tif)
    every = PageSeries(pages, first, series.dtype)
    return found_pages(path, tif, every, len(pages), frame_shape)


def _described(tif: TiffFile, series: Any) -> tuple[str, tuple[int, ...] | None]:
    """Return whose metadata count the frames, and their axes' lengths if the series ignores it."""
    if tif.is_ome:
        return "OME", None if series.kind == "ome" else _ome_sizes(tif.ome_metadata or "")
    if tif.is_shaped:
        return "tifffile", _shaped_sizes(tif.pages.first)
    if tif.is_imagej:
        if series.kind == "imagej":
            return "ImageJ", None
        said = tif.imagej_metadata or {}
        sizes = [int(said.get(name, 1)) for name in ("frames", "slices", "channels")]
        images = int(said.get("images", 1))
        return "ImageJ", tuple(sizes) if prod(sizes) == images else (images,)
    return series.kind, None


def _shaped_sizes(page: TiffPage) -> tuple[int, ...] | None:
    try:
        shape: list[int] = json.loads(page.shaped_description or "")["shape"]
    except ValueError:  # old versions wrote shape=(...)
        return None
    return tuple(shape[: len(shape) - page.ndim])


def _ome_sizes(xml: str) -> tuple[int, ...] | None:
    ome = read_ome(xml, "")
    return ome.images[0].sizes if ome is not None and ome.images else None


def _acquisitions(
    tif: TiffFile, series: Any, ome: Ome | None, count: int
) -> tuple[Acquisition, ...]:
    if ome is not None and ome.images and len(ome.images[0].channels) == count:
        return ome.images[0].channels
    if not tif.is_imagej:
        return (UNKNOWN,) * count
    said = tif.imagej_metadata or {}
    scale = _LENGTHS.get(str(said.get("unit", "")))
    sides = [_pixel_side(series.keyframe, f"{axis}Resolution") for axis in "YX"]
    size = None
    if scale and sides[0] and sides[1]:
        size = (sides[0] * scale, sides[1] * scale)
    interval = said.get("finterval")
    luts = said.get("LUTs") or []
    return tuple(
        Acquisition(
            pixel_size_um=size,
            frame_interval_s=float(interval) if interval else None,
            colour=_last_colour(luts[number]) if count == len(luts) > 1 else None,
        )
        for number in range(count)
    )


def _pixel_side(page: Any, tag: str) -> float | None:
    """Return the length of a pixel's side, in the file's unit."""
    found = page.tags.get(tag)
    if found is None or not found.value[0]:
        return None
    return float(found.value[1] / found.value[0])


def _last_colour(table: Any) -> str:
    return "".join(f"{int(level):02X}" for level in np.asarray(table)[:, -1])
