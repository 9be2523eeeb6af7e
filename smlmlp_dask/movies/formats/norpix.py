"""SEQ, the format of StreamPix by Norpix: uncompressed gray frames with a time after each."""

from pathlib import Path
from struct import unpack_from

import numpy as np

from smlmlp_dask.movies.acquisition import Acquisition
from smlmlp_dask.movies.recording import Recording

from .plain import frames_of, mean_interval_s, plain_position

_MAGIC = b"\xed\xfe\0\0N\0o\0r\0p\0i\0x\0"
_GRAY = 100


def recognises(path: Path) -> bool:
    """Say whether a file is Norpix's: thermal cameras write another format of this ending."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def open(path: Path) -> Recording:
    """Read the header, and the times of the first and the last frame."""
    with path.open("rb") as file:
        header = file.read(1024)
    if len(header) < 1024:
        raise ValueError(f"{path} ends within its header: copy the file again")
    (version,) = unpack_from("<i", header, 28)
    width, height, bits = unpack_from("<3I", header, 548)
    frame_bytes, pixels, promised, origin, stride = unpack_from("<5I", header, 564)
    (compression,) = unpack_from("<I", header, 620)
    if compression or pixels != _GRAY or bits not in (8, 16):
        raise ValueError(
            f"{path} has {bits}-bit frames of Norpix's pixel format {pixels} and compression "
            f"{compression}: export it from StreamPix as uncompressed gray frames of 8 or 16 bits"
        )
    dtype = np.dtype(f"<u{bits // 8}")
    if not width or frame_bytes != width * height * dtype.itemsize or stride < frame_bytes:
        raise ValueError(
            f"{path} has a damaged header: {height} x {width} pixels of {bits} bits in "
            f"{frame_bytes} of {stride} bytes; copy the file again"
        )
    if origin:
        raise ValueError(
            f"{path} was recorded in a loop that begins at frame {origin}: save it from StreamPix "
            "in the order of time"
        )
    start = 8192 if version >= 5 else 1024
    room = max(0, path.stat().st_size - start) // stride
    promised, notes = frames_of(promised, room)
    offsets = range(start, start + promised * stride, stride)
    whole = offsets[: min(room, promised)]
    interval_s = None
    if len(whole) > 1:
        first_s, last_s = (_stamp(path, at + frame_bytes, version) for at in (whole[0], whole[-1]))
        interval_s = mean_interval_s(first_s, last_s, len(whole))
    position = plain_position(
        path,
        offsets,
        (height, width),
        dtype,
        acquisition=Acquisition(frame_interval_s=interval_s),
    )
    return Recording(path=str(path), format="SEQ", positions=(position,), notes=notes)


def _stamp(path: Path, offset: int, version: int) -> float:
    """Return seconds; version 5 and later add microseconds to the milliseconds."""
    with path.open("rb") as file:
        file.seek(offset)
        stamp = file.read(8).ljust(8, b"\0")
    seconds, milliseconds, microseconds = unpack_from("<IHH", stamp)
    return float(seconds + milliseconds / 1e3 + (microseconds / 1e6 if version >= 5 else 0))
