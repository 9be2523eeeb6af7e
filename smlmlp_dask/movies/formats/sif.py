"""SIF, the format of Andor Solis: frames of 32-bit floats behind a header of text.

`sif_parser` reads the header; the frames are read by their places.
"""

from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

import numpy as np

from smlmlp_dask.messages import one_line
from smlmlp_dask.movies.acquisition import Acquisition
from smlmlp_dask.movies.recording import Recording

from .plain import plain_position

MAX_LINE = 2**16
"""Most bytes of a line of the header: the library also tries to read pixels as one."""

MAX_HEADER = 2**28
"""Most bytes of the header, which lists a time for each frame."""

_DTYPE = np.dtype("<f4")


class _Header(BufferedReader):
    """A file for a parser that would wait forever at its end, and read all of a damaged one."""

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(min(size or 0, MAX_HEADER))
        if (size and not found) or self.tell() > MAX_HEADER:
            raise EOFError("the file ends within its header")
        return found

    def readline(self, size: int | None = -1, /) -> bytes:  # noqa: ARG002
        return super().readline(MAX_LINE)


def open(path: Path) -> Recording:
    """Read the header."""
    info = read_header(path)
    frames, height, width = shape_of(path, info)
    start, stride = info["offset"], height * width * _DTYPE.itemsize
    end = start + frames * stride
    with path.open("rb") as file:
        file.seek(end)
        following = file.read(1)
    # A version of the format that the library does not know would shift all pixels.
    if following not in (b"", b"0"):
        raise ValueError(
            f"{path} is a SIF of version {info['SifVersion']} whose frames do not end where its "
            "header says: export it from Andor Solis as TIFF"
        )
    position = plain_position(
        path,
        range(start, end, stride),
        (height, width),
        _DTYPE,
        acquisition=acquisition_of(info, frames),
    )
    return Recording(path=str(path), format="SIF", positions=(position,), notes=notes_of(info))


def read_header(path: Path) -> dict[str, Any]:
    """Return what a header says, in the library's words.

    Raises
    ------
    ValueError
        If it is damaged.
    """
    from sif_parser._sif_open import _open as parse

    try:
        with _Header(FileIO(path)) as file:
            *_, info = parse(file)
    except OSError:
        raise
    except Exception as error:
        raise ValueError(
            f"{path} has no header of a SIF that is understood ({one_line(error)}): copy the file "
            "again, or export it from Andor Solis as TIFF"
        ) from error
    return dict(info)


def shape_of(path: Path, info: dict[str, Any]) -> tuple[int, int, int]:
    """Return frames, rows and columns; refuse frames of several tracks."""
    width, height = info["size"]
    frames, parts = info["NumberOfFrames"], info["NumberOfSubImages"]
    if parts != 1:
        raise ValueError(
            f"{path} holds {parts} tracks in each frame: export each from Andor Solis as a TIFF"
        )
    if min(frames, width, height) < 1 or info["ImageLength"] != width * height:
        raise ValueError(
            f"{path} has a damaged header: {frames} frames of {height} x {width} pixels, "
            f"{info['ImageLength']} numbers in each; copy the file again"
        )
    return frames, height, width


def notes_of(info: dict[str, Any]) -> tuple[str, ...]:
    """Say what the pixels are if the program has turned the camera's counts into something else."""
    kind = info["DataType"].decode(errors="replace")
    return () if kind == "Counts" else (f"its pixels are {kind!r}, not the camera's counts",)


def acquisition_of(info: dict[str, Any], frames: int) -> Acquisition:
    """Return exposure and cycle time; a frame is the sum of so many accumulated cycles."""
    exposure_s = info["ExposureTime"] * max(1, info["AccumulatedCycles"])
    cycle_s = info["StackCycleTime"]
    # Some cameras note the time of one of the accumulated cycles.
    known = frames > 1 and cycle_s > 0 and cycle_s >= exposure_s
    return Acquisition(
        exposure_s=exposure_s if exposure_s > 0 else None,
        frame_interval_s=cycle_s if known else None,
    )
