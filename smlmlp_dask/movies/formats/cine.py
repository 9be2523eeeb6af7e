"""CINE, the format of Phantom cameras: uncompressed gray frames of 8 or 16 bits.

Frames of 10 packed bits hold numbers on a curve, and colour ones a mosaic: both are refused.
"""

from pathlib import Path
from struct import calcsize, unpack_from
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.movies.acquisition import Acquisition
from smlmlp_dask.movies.recording import Recording

from .plain import mean_interval_s, plain_position

_HEADER = "<2sHHHiIiIIII"
_BITMAP = "<IiiHHI"
_TIMES, _EXPOSURES = 1002, 1003  # numbers of tagged blocks


def open(path: Path) -> Recording:
    """Read the headers, and the times of the frames."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(calcsize(_HEADER))
        if len(header) < calcsize(_HEADER) or header[:2] != b"CI":
            raise ValueError(f"{path} does not begin as a CINE file does: copy the file again")
        _, _, compression, _, _, _, _, count, bitmap_at, setup_at, places_at = unpack_from(
            _HEADER, header
        )
        file.seek(bitmap_at)
        bitmap = file.read(calcsize(_BITMAP))
        if places_at + 8 * count > size or len(bitmap) < calcsize(_BITMAP):
            raise ValueError(f"{path} ends within its header: copy the file again")
        _, width, height, _, bits, packing = unpack_from(_BITMAP, bitmap)
        if compression or packing or bits not in (8, 16) or width < 1 or not height:
            raise ValueError(
                f"{path} has {height} x {width} frames of {bits} bits, compression {compression} "
                f"and packing {packing}: save it from Phantom's program as an unpacked gray cine"
            )
        file.seek(places_at)
        places = np.frombuffer(file.read(8 * count), "<i8").astype(np.int64)
        file.seek(setup_at)
        tags = _tags(file.read(places_at - setup_at)) if places_at > setup_at else {}
    dtype = np.dtype(f"<u{bits // 8}")
    frame_bytes = width * abs(height) * dtype.itemsize
    position = plain_position(
        path,
        places + _annotations(path, places, frame_bytes, size),
        (abs(height), width),
        dtype,
        bottom_up=height > 0,
        acquisition=_acquisition(tags, count),
    )
    return Recording(path=str(path), format="CINE", positions=(position,))


def _annotations(
    path: Path, places: NDArray[np.int64], frame_bytes: int, size: int
) -> NDArray[np.int64]:
    """Return the bytes before the pixels of each frame.

    Where frames lie side by side at equal distances, the first tells for all.
    """
    lengths = np.zeros(len(places), np.int64)
    with path.open("rb") as file:
        for number, place in enumerate(places.tolist()):
            if not 0 < place <= size - 4:
                continue
            file.seek(place)
            (lengths[number],) = unpack_from("<I", file.read(4))
            if number == 0 and (np.diff(places) == lengths[0] + frame_bytes).all():
                lengths[:] = lengths[0]
                break
    return lengths


def _tags(setup: bytes) -> dict[int, NDArray[Any]]:
    """Return the tagged blocks that lie behind the camera's settings."""
    tags: dict[int, NDArray[Any]] = {}
    if len(setup) < 144:
        return tags
    (at,) = unpack_from("<H", setup, 142)  # the length of the settings
    more = True
    while more and at + 8 <= len(setup):
        length, kind, more = unpack_from("<IHH", setup, at)
        if length < 8 or at + length > len(setup):
            break
        if kind in (_TIMES, _EXPOSURES):
            dtype = np.dtype("<u8" if kind == _TIMES else "<u4")
            numbers = (length - 8) // dtype.itemsize
            tags[kind] = np.frombuffer(setup, dtype, numbers, at + 8)
        at += length
    return tags


def _acquisition(tags: dict[int, NDArray[Any]], count: int) -> Acquisition:
    """Return the mean interval of the frames, and the exposure if all have the same."""
    times, exposures = tags.get(_TIMES), tags.get(_EXPOSURES)
    interval_s = exposure_s = None
    if times is not None and len(times) == count > 1:
        # 32 bits of seconds and 32 of their fraction
        elapsed = int(times[-1]) - int(times[0])
        interval_s = mean_interval_s(0, elapsed / 2**32, count)
    if exposures is not None and len(exposures) and (exposures == exposures[0]).all():
        exposure_s = int(exposures[0]) / 2**32 or None
    return Acquisition(frame_interval_s=interval_s, exposure_s=exposure_s)
