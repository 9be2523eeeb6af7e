"""SPE, the format of WinSpec (version 2) and LightField (version 3).

The binary header is 4100 bytes long; an XML text behind the frames describes those of version 3.
"""

from pathlib import Path
from struct import unpack_from
from xml.etree import ElementTree

import numpy as np

from smlmlp_dask.messages import one_line
from smlmlp_dask.movies.acquisition import UNKNOWN, Acquisition
from smlmlp_dask.movies.recording import Position, Recording

from .plain import frames_of, plain_position

HEADER_BYTES = 4100

_DTYPES = {0: "<f4", 1: "<i4", 2: "<i2", 3: "<u2", 8: "<u4"}
_PIXELS = {
    "MonochromeUnsigned16": "<u2",
    "MonochromeUnsigned32": "<u4",
    "MonochromeFloating32": "<f4",
}


def open(path: Path) -> Recording:
    """Read the header, and the XML text of version 3."""
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
    if len(header) < HEADER_BYTES:
        raise ValueError(
            f"{path} has {len(header)} bytes, an SPE file begins with {HEADER_BYTES} of header: "
            "copy the file again"
        )
    (version,) = unpack_from("<f", header, 1992)
    if version < 3:
        position, notes = _winspec(path, header)
        return Recording(path=str(path), format="SPE", positions=(position,), notes=notes)
    return Recording(path=str(path), format="SPE", positions=_lightfield(path, header))


def _winspec(path: Path, header: bytes) -> tuple[Position, tuple[str, ...]]:
    (exposure_s,) = unpack_from("<f", header, 10)
    (width,) = unpack_from("<H", header, 42)
    (height,) = unpack_from("<H", header, 656)
    (kind,) = unpack_from("<h", header, 108)
    (promised,) = unpack_from("<i", header, 1446)
    (regions,) = unpack_from("<h", header, 1510)
    if kind not in _DTYPES or not width or not height:
        raise ValueError(
            f"{path} has no header of an SPE movie: it says {height} x {width} pixels of type "
            f"{kind}; copy the file again"
        )
    if regions > 1:
        raise ValueError(
            f"{path} holds {regions} regions of the camera in each frame: save each as a movie of "
            "its own in the program that wrote it"
        )
    dtype = np.dtype(_DTYPES[kind])
    stride = width * height * dtype.itemsize
    room = (path.stat().st_size - HEADER_BYTES) // stride
    promised, notes = frames_of(promised, room)
    acquisition = Acquisition(exposure_s=float(exposure_s)) if 0 < exposure_s < 1e6 else UNKNOWN
    offsets = range(HEADER_BYTES, HEADER_BYTES + promised * stride, stride)
    return plain_position(path, offsets, (height, width), dtype, acquisition=acquisition), notes


def _lightfield(path: Path, header: bytes) -> tuple[Position, ...]:
    (kind,) = unpack_from("<h", header, 108)
    (footer,) = unpack_from("<Q", header, 678)
    size = path.stat().st_size
    if not HEADER_BYTES <= footer < size:
        raise ValueError(
            f"{path} lacks the XML text at its end that says how its frames lie: copy the file "
            "again, or export it from LightField as TIFF"
        )
    with path.open("rb") as file:
        file.seek(footer)
        text = file.read()
    try:
        root = ElementTree.fromstring(text)
        [block] = root.findall("{*}DataFormat/{*}DataBlock")
        frames, stride, used = (int(block.attrib[key]) for key in ("count", "stride", "size"))
        dtype = np.dtype(_PIXELS[block.attrib["pixelFormat"]])
        regions = [
            {key: int(region.attrib[key]) for key in ("count", "width", "height", "size", "stride")}
            for region in block.findall("{*}DataBlock")
        ]
        acquisition = _settings(root)
        if dtype != _DTYPES.get(kind):
            raise ValueError(f"pixels are {dtype} in the XML text, type {kind} in the header")
        for region in regions:
            if region["count"] != 1 or region["width"] < 1 or region["height"] < 1:
                raise ValueError(f"a region of {region}")
            if region["size"] != region["width"] * region["height"] * dtype.itemsize:
                raise ValueError(f"a region of {region}, {dtype}")
            if region["stride"] < region["size"]:
                raise ValueError(f"a region of {region}")
        if not regions or frames < 0 or not sum(r["stride"] for r in regions) <= used <= stride:
            raise ValueError(f"{len(regions)} regions in frames of {used} bytes every {stride}")
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise ValueError(
            f"{path} describes its frames in a way that is not read ({one_line(error)}): export it "
            "from LightField as TIFF"
        ) from error
    positions = []
    start = HEADER_BYTES
    for number, region in enumerate(regions):
        position = plain_position(
            path,
            range(start, start + frames * stride, stride),
            (region["height"], region["width"]),
            dtype,
            end=footer,
            name=f"region {number}" if len(regions) > 1 else "",
            acquisition=acquisition,
        )
        positions.append(position)
        start += region["stride"]
    return tuple(positions)


def _settings(root: ElementTree.Element) -> Acquisition:
    """Return exposure and frame rate, for all the exposures that LightField combines to a frame."""
    combined = _number(root, ".//{*}FrameCombination/{*}FramesCombined") or 1
    exposure_ms = _number(root, ".//{*}ShutterTiming/{*}ExposureTime")
    rate = _number(root, ".//{*}Camera/{*}Acquisition/{*}FrameRate")
    # Frames that wait for an outer trigger come at its pace, not at the camera's.
    trigger = root.findtext(".//{*}HardwareIO/{*}Trigger/{*}Response")
    own = trigger in (None, "NoResponse")
    return Acquisition(
        exposure_s=exposure_ms * combined / 1000 if exposure_ms else None,
        frame_interval_s=combined / rate if rate and own else None,
    )


def _number(root: ElementTree.Element, place: str) -> float | None:
    text = root.findtext(place)
    return float(text) if text else None
