"""What the OME-XML of a TIFF says: images, the files and pages of their planes, and metadata."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any
from xml.etree import ElementTree

import numpy as np

from smlmlp_dask.movies.acquisition import Acquisition

MICROMETRES = {"m": 1e6, "cm": 1e4, "mm": 1e3, "µm": 1.0, "um": 1.0, "nm": 1e-3, "pm": 1e-6}
"""Units of length, as OME spells them; others, such as pixel, say nothing."""

SECONDS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0}
"""Units of time, as OME spells them."""


@dataclass(frozen=True, kw_only=True)
class Plane:
    """Where a plane is: its place in the image, its file (empty: this one) and page."""

    t: int
    c: int
    z: int
    file: str
    page: int


@dataclass(frozen=True, kw_only=True)
class OmeImage:
    """An image of OME-XML.

    Attributes
    ----------
    sizes : (int, int, int)
        Frames, channels, slices in z.
    samples : int
        Colour samples of a pixel.
    planes : callable
        ``planes(count)`` yields all planes; ``count(file)`` returns the pages of a file.
    files : dict
        Names of the files, and their UUIDs; the name is empty for the file with this XML.
    vague : bool
        Whether planes are only said to be all pages of a file, in the order of dimensions.
    """

    name: str
    sizes: tuple[int, int, int]
    samples: int
    channels: tuple[Acquisition, ...]
    planes: Callable[[Callable[[str], int]], Iterator[Plane]]
    files: dict[str, str] = field(default_factory=dict)
    vague: bool = False


@dataclass(frozen=True, kw_only=True)
class Ome:
    """What OME-XML says.

    Attributes
    ----------
    uuid : str
        Of the file that holds it.
    metadata_file : str
        The file of the set that holds the metadata, if this one does not.
    images : tuple of OmeImage
        Those with planes.
    """

    uuid: str
    metadata_file: str
    images: tuple[OmeImage, ...]


def read_ome(xml: str, own_name: str) -> Ome | None:
    """Read OME-XML; None if it is none.

    Raises
    ------
    ValueError
        If it has no number where one is due.
    """
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None
    if root.tag.rpartition("}")[2] != "OME":
        return None
    uuid = _plain(root.get("UUID"))
    named = {element.get("FileName", "") for element in root.iterfind(".//{*}UUID")}
    if not uuid and len(named) == 1 and not own_name.endswith((".ome", ".xml")):
        own_name = named.pop()  # the only file of its set, which was renamed
    only = root.find("{*}BinaryOnly")
    images = [
        _image(image, pixels, uuid, own_name)
        for image in root.iterfind("{*}Image")
        for pixels in image.iterfind("{*}Pixels")
    ]
    metadata_file = "" if only is None else only.get("MetadataFile", "")
    return Ome(uuid=uuid, metadata_file=metadata_file, images=tuple(images))


def _image(image: Any, pixels: Any, own_uuid: str, own_name: str) -> OmeImage:
    order = pixels.get("DimensionOrder", "XYZCT")[2:]
    channels = pixels.findall("{*}Channel")
    samples = max([_count(c, "SamplesPerPixel", 1, 1) for c in channels], default=1)
    size = {axis: _count(pixels, f"Size{axis}", 1, 1) for axis in "TCZ"}
    size["C"] = max(1, size["C"] // samples)
    data = [_data(element, own_uuid, own_name) for element in pixels.iterfind("{*}TiffData")]
    files = {file: uuid for _, _, _, file, uuid in data}

    def planes(count: Callable[[str], int]) -> Iterator[Plane]:
        lengths = [size[axis] for axis in reversed(order)]
        for first, page, n, file, _ in data or [({}, None, None, "", "")]:
            begin = [first.get(axis, 0) for axis in reversed(order)]
            if any(at >= length for at, length in zip(begin, lengths, strict=True)):
                continue  # beyond the sizes: written by programs that crop
            start = int(np.ravel_multi_index(begin, lengths))
            if n is None:
                n = 1 if page is not None else count(file)
            for at in range(min(n, prod(lengths) - start)):
                place = (int(number) for number in np.unravel_index(start + at, lengths))
                where = dict(zip(reversed(order), place, strict=True))
                yield Plane(
                    t=where["T"], c=where["C"], z=where["Z"], file=file, page=(page or 0) + at
                )

    return OmeImage(
        name=image.get("Name") or image.get("ID", ""),
        sizes=(size["T"], size["C"], size["Z"]),
        samples=samples,
        channels=tuple(_acquisitions(pixels, channels, size["C"])),
        planes=planes,
        files=files,
        vague=not data or any(page is n is None for _, page, n, _, _ in data),
    )


def _data(
    element: Any, own_uuid: str, own_name: str
) -> tuple[dict[str, int], int | None, int | None, str, str]:
    """Return the first place, the first page, the number of pages, and the file of a TiffData."""
    first = {axis: _count(element, f"First{axis}", 0, 0) for axis in "TCZ"}
    page, count = element.get("IFD"), element.get("PlaneCount", element.get("NumPlanes"))
    file = uuid = ""
    child = element.find("{*}UUID")
    if child is not None:
        uuid, file = _plain(child.text), child.get("FileName", "")
        if (own_uuid and uuid == own_uuid) or (not own_uuid and file == own_name):
            file = ""  # also where it was renamed
        elif not file:
            file = uuid
    return first, _number(page), _number(count), file, uuid


def _acquisitions(pixels: Any, channels: list[Any], count: int) -> Iterator[Acquisition]:
    sides = [_in_unit(pixels, f"PhysicalSize{axis}", MICROMETRES, "µm") for axis in "YX"]
    size = (sides[0], sides[1]) if sides[0] and sides[1] else None
    interval = _in_unit(pixels, "TimeIncrement", SECONDS, "s") or _interval(pixels)
    exposures: dict[int, float | None] = {}
    for plane in pixels.iterfind("{*}Plane"):
        exposure = _in_unit(plane, "ExposureTime", SECONDS, "s")
        exposures.setdefault(_count(plane, "TheC", 0, 0), exposure)
    for number in range(count):
        channel = channels[number] if number < len(channels) else None
        yield Acquisition(
            channel=channel.get("Name") if channel is not None else None,
            pixel_size_um=size,
            frame_interval_s=interval,
            exposure_s=exposures.get(number),
            colour=_colour(channel.get("Color")) if channel is not None else None,
        )


def _interval(pixels: Any) -> float | None:
    """Return the median time between frames of the first channel and slice."""
    times = {}
    for plane in pixels.iterfind("{*}Plane"):
        if plane.get("TheC", "0") == plane.get("TheZ", "0") == "0":
            time = _in_unit(plane, "DeltaT", SECONDS, "s", zero=True)
            if time is not None:
                times[_count(plane, "TheT", 0, 0)] = time
    ordered = [times[t] for t in sorted(times)]
    if len(ordered) < 2:
        return None
    frames = np.diff(sorted(times))
    between = float(np.median(np.diff(ordered) / frames))
    return between if between > 0 else None


def _in_unit(
    element: Any, name: str, units: dict[str, float], default: str, *, zero: bool = False
) -> float | None:
    """Return a positive quantity in micrometres or seconds; None where it is not given."""
    try:
        value = float(element.get(name, "nan")) * units[element.get(f"{name}Unit", default)]
    except (ValueError, KeyError):
        return None
    return value if np.isfinite(value) and (value > 0 or (zero and value == 0)) else None


def _colour(number: str | None) -> str | None:
    """Return red, green and blue of OME's signed integer RGBA."""
    value = _number(number)
    return None if value is None else f"{(value & 0xFFFFFFFF) >> 8:06X}"


def _plain(uuid: str | None) -> str:
    return (uuid or "").strip().lower()


def _count(element: Any, name: str, default: int, least: int) -> int:
    text = element.get(name)
    number = default if text is None else _number(text)
    if number is None or number < least:
        raise ValueError(f"its OME-XML has {name}={text!r}: export the file again")
    return number


def _number(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return None
