"""A TIFF that stands alone: a movie, or channels and slices of one."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Self

import numpy as np
from tifffile import TiffFile, TiffFileError, TiffPageSeries

from smlmlp_dask.movies.acquisition import UNKNOWN, Acquisition
from smlmlp_dask.movies.recording import Position

from .frames import check_frame
from .ome_xml import MICROMETRES, Ome
from .tiff_file import (
    Pages,
    check_pixels,
    found_pages,
    is_whole,
    pages_of,
    parsing,
    readable_pages,
)
from .tiff_planes import ABSENT, in_axes, position_of

_REWRITE = (
    "write the frames as one stack, such as tifffile.imwrite(path, movie) with a movie of shape "
    "(frame, y, x)"
)

_FORMATS = {"ome": "OME-TIFF", "imagej": "ImageJ TIFF"}

_ORIGINS = {"ome": "OME", "imagej": "ImageJ", "shaped": "tifffile"}
"""Whose metadata describe a file, by the kinds of tifffile."""

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
        whole = is_whole(tif)
        first, pages = tif.pages.first, len(tif.pages)
    check_pixels(path, first)
    image = TiffPageSeries([first], first.shape, first.dtype, first.axes)
    if whole:
        with parsing(path):
            series = list(tif.series)
        if len(series) > 1:
            raise ValueError(
                f"{path} holds {len(series)} image series in {pages} pages, the first of shape "
                f"{series[0].shape}, not one movie; {_REWRITE}"
            )
        image = series[0]
    frame_shape = check_frame(path, image.shape, image.axes)
    here = _Frames.of(image.kind, image.shape, image.axes)
    with parsing(path):
        said = _described(tif, image.kind) or here
    count, origin = said.count, _ORIGINS.get(said.origin, said.origin)
    # One page may stand for a whole contiguous movie: ImageJ writes only one above 4 GiB.
    if whole and here.count == count and pages in (count, 1):
        found = found_pages(path, tif, image, count, frame_shape)
    elif not whole or count > pages:
        found = _cut(path, tif, said, frame_shape)
    else:
        raise ValueError(
            f"{path} holds {pages} pages, but its {origin} metadata describe {count} frames; "
            f"copy the file again, pass the folder or a glob of a multi-file set, or {_REWRITE}"
        )
    promised, why = max(count, found.promised), found.cut_short
    if not why and found.movie.shape[0] < promised:
        more = f"{promised} frames that its {origin} metadata describe"
        why = f"its {pages} pages hold fewer than the {more}"
    if said.count < promised:
        said = _Frames(said.origin, (promised,), "T")
    planes = in_axes(path, said.sizes, said.axes, frame_shape)
    planes[planes[..., 1] >= found.movie.shape[0]] = ABSENT
    position = position_of(
        str(path),
        [found.movie],
        planes,
        channels=_acquisitions(tif, first, ome, planes.shape[1]),
        why=why,
    )
    return Single(
        position=position,
        format=_FORMATS.get(said.origin, "TIFF"),
        frame_shape=frame_shape,
        is_page=image.ndim == 2 and promised == 1,
    )


@dataclass(frozen=True)
class _Frames:
    """Frames that metadata describe: their origin, and their sizes along some axes."""

    origin: str
    sizes: tuple[int, ...]
    axes: str

    @property
    def count(self) -> int:
        return prod(self.sizes)

    @classmethod
    def of(cls, origin: str, sizes: Sequence[int], axes: str) -> Self:
        """Return the frames of an image of this shape, its last two axes or more included."""
        kept = [
            (int(n), axis)
            for n, axis in zip(sizes, axes, strict=True)
            if axis not in "YXS" and n != 1
        ]
        return cls(origin, tuple(n for n, _ in kept), "".join(axis for _, axis in kept))


def _cut(path: Path, tif: TiffFile, said: _Frames, frame_shape: tuple[int, int]) -> Pages:
    """Find the whole frames of a file that has fewer than its metadata describe."""
    first, pages = tif.pages.first, readable_pages(tif)
    if said.origin == "imagej" and first.is_contiguous:
        # ImageJ writes all pixels in one piece, and then the headers of the other pages.
        start, size = first.dataoffsets[0], first.nbytes
        follow = all(p.dataoffsets[0] == start + n * size for n, p in enumerate(pages))
        end = pages[1].offset if len(pages) > 1 else tif.filehandle.size
        lone = len(tif.pages) == 1 or not is_whole(tif)
        if follow and lone and (len(pages) == 1 or start + said.count * size <= end):
            sizes = (said.count, *frame_shape)
            one = TiffPageSeries([first], sizes, first.dtype, "QYX", truncated=True)
            return found_pages(path, tif, one, said.count, frame_shape)
        if len(said.sizes) > 1:  # Bio-Formats writes so in each file of one channel
            raise ValueError(
                f"{path} holds {len(pages)} pages, but its ImageJ metadata describe {said.count} "
                f"images ({said.axes} {said.sizes}), so nothing says which channel or slice they "
                "are: save all channels as one OME-TIFF"
            )
    return pages_of(path, tif)


def _described(tif: TiffFile, kind: str) -> _Frames | None:
    """Return what metadata say of the frames; None if a series of this kind says it already."""
    if tif.is_ome and kind != "ome":
        raise TiffFileError("its OME metadata do not fit its pages")
    if kind in _ORIGINS:
        return None
    page = tif.pages.first
    if tif.is_shaped:
        try:
            said = json.loads(page.shaped_description or "")
        except ValueError:  # old versions wrote shape=(...)
            return None
        sizes = said["shape"][: len(said["shape"]) - page.ndim]
        axes = str(said.get("axes", ""))[: len(sizes)]
        return _Frames.of("shaped", sizes, axes if len(axes) == len(sizes) else "Q" * len(sizes))
    if tif.is_imagej:
        text = tif.imagej_metadata or {}
        sizes = [int(text.get(name, 1)) for name in ("frames", "slices", "channels")]
        rest, left = divmod(int(text.get("images", 1)), prod(sizes))
        if left:
            return _Frames.of("imagej", [rest * prod(sizes) + left], "T")
        return _Frames.of("imagej", [rest, *sizes], "ITZC")
    return None


def _acquisitions(tif: TiffFile, page: Any, ome: Ome | None, count: int) -> tuple[Acquisition, ...]:
    if ome is not None and ome.images and len(ome.images[0].channels) == count:
        return ome.images[0].channels
    if not tif.is_imagej:
        return (UNKNOWN,) * count
    said = tif.imagej_metadata or {}
    scale = _LENGTHS.get(str(said.get("unit", "")))
    sides = [_pixel_side(page, f"{axis}Resolution") for axis in "YX"]
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
    pixels, length = page.tags.valueof(tag, (0, 1))
    return float(length / pixels) if pixels else None


def _last_colour(table: Any) -> str:
    return "".join(f"{int(level):02X}" for level in np.asarray(table)[:, -1])
