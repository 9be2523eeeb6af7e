"""Folders that Andor Solis spools to: files of a few frames, a `.sifx` header and an `.ini`.

The names of the files count in reversed digits: 0000000000spool.dat, 1000000000spool.dat.
"""

from configparser import ConfigParser
from configparser import Error as IniError
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.messages import one_line
from smlmlp_dask.movies.recording import Position, Recording
from smlmlp_dask.movies.stack import as_slice

from .frames import FileMovie, Frame, PlainFrames
from .sif import acquisition_of, read_header, shape_of

LAYOUT = "acquisitionmetadata.ini"

_DTYPES = {"Mono8": "<u1", "Mono16": "<u2", "Mono32": "<u4"}


@dataclass(frozen=True, kw_only=True, eq=False)
class SpoolFrames:
    """Frames of a spool folder, each by its number."""

    path: str  # the folder
    layout: "_Layout"
    numbers: range

    def take(self, frames: range) -> Self:
        """Return only these frames, in this order."""
        return replace(self, numbers=self.numbers[as_slice(frames)])

    def held_bytes(self, frame_bytes: int, *, whole: bool) -> int:  # noqa: ARG002
        """Return the bytes of a stored frame: its unused columns are cut off, or a box cut out."""
        return max(frame_bytes, self.layout.frame_bytes)

    def read_into(self, out: NDArray[Any], rows: range, columns: range, frame: Frame) -> None:
        """Fill `out` with a box of each frame."""
        layout = self.layout
        stored = (frame[0], layout.line_bytes // layout.dtype.itemsize)
        for index, number in enumerate(self.numbers):
            name = spool_name(number // layout.in_file)
            offset = number % layout.in_file * layout.frame_bytes
            plain = PlainFrames(
                path=str(Path(self.path, name)),
                offsets=range(offset, offset + 1),
                dtype=layout.dtype,
            )
            try:
                plain.read_into(out[index : index + 1], rows, columns, stored)
            except (OSError, EOFError) as error:
                raise ValueError(f"{name}: {one_line(error)}") from error


def spool_name(number: int) -> str:
    """Return the name of a file: its number has ten digits, the last one first."""
    return f"{number:010d}"[::-1] + "spool.dat"


def recognises(path: Path) -> bool:
    """Say whether a path is a spool folder, or its `.sifx` header."""
    if path.is_file():
        return path.name.lower().endswith(".sifx")
    return (path / LAYOUT).is_file() or (path / spool_name(0)).is_file()


def files(path: Path) -> list[Path]:
    """Return the folder."""
    return [path if path.is_dir() else path.parent]


def open(path: Path) -> Recording:
    """Read the layout and the header, and see which files are there."""
    [folder] = files(path)
    layout = _layout(folder)
    headers = sorted(folder.glob("*.sifx"))
    if len(headers) != 1:
        raise ValueError(
            f"{folder} holds {len(headers)} .sifx headers, not one: copy the whole folder again"
        )
    info = read_header(headers[0])
    promised, height, width = shape_of(headers[0], info)
    if (height, width) != (layout.height, layout.width):
        raise ValueError(
            f"{folder} is of two minds: its frames are {height} x {width} pixels by "
            f"{headers[0].name}, {layout.height} x {layout.width} by {LAYOUT}; copy the whole "
            "folder again"
        )
    found = _files_in(folder, layout.in_file * layout.frame_bytes)
    due = -(-promised // layout.in_file)
    last = folder / spool_name(found - 1)
    whole = 0
    if found:
        in_last = min(layout.in_file, last.stat().st_size // layout.frame_bytes)
        whole = min(promised, (found - 1) * layout.in_file + in_last)
    frames = SpoolFrames(path=str(folder), layout=layout, numbers=range(whole))
    movie = FileMovie.of(frames, whole, (height, width), layout.dtype)
    position = Position(
        movie=lambda *_: movie,
        channels=(acquisition_of(info, promised),),
        promised=promised,
        cut_short=f"{headers[0].name} promises {promised} frames in {due} files, {whole} frames "
        f"in {found} files are there",
    )
    notes: tuple[str, ...] = ()
    if found > due:
        notes = (
            f"{headers[0].name} promises {promised} frames, which are taken, in {due} files; "
            f"{found} are there",
        )
    return Recording(path=str(folder), format="Andor spool", positions=(position,), notes=notes)


@dataclass(frozen=True)
class _Layout:
    height: int
    width: int
    line_bytes: int  # from one row to the next
    frame_bytes: int  # from one frame of a file to the next
    dtype: np.dtype[Any]
    in_file: int  # frames of each file


def _layout(folder: Path) -> _Layout:
    path = folder / LAYOUT
    if not path.is_file():
        raise ValueError(f"{folder} lacks {LAYOUT}: copy the whole folder again")
    parser = ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"), str(path))
        data = parser["data"]
        encoding = data["PixelEncoding"]
        names = ("AOIHeight", "AOIWidth", "AOIStride", "ImageSizeBytes")
        height, width, line_bytes, frame_bytes = (int(data[name]) for name in names)
        in_file = parser.getint("multiimage", "ImagesPerFile", fallback=1)
    except (IniError, LookupError, ValueError) as error:
        raise ValueError(
            f"{path} does not say how frames lie ({one_line(error)}): copy the file again"
        ) from error
    if encoding not in _DTYPES:
        raise ValueError(
            f"{folder} holds pixels of the encoding {encoding}: record Mono16, or export the "
            "movie from Andor Solis as TIFF"
        )
    dtype = np.dtype(_DTYPES[encoding])
    layout = _Layout(height, width, line_bytes, frame_bytes, dtype, in_file)
    itemsize = layout.dtype.itemsize
    if (
        min(layout.height, layout.width, layout.in_file) < 1
        or layout.line_bytes % itemsize
        or layout.line_bytes < layout.width * itemsize
        or layout.frame_bytes < layout.height * layout.line_bytes
    ):
        raise ValueError(f"{path} describes no frames that can be: {layout}; copy the file again")
    return layout


def _files_in(folder: Path, size: int) -> int:
    """Return how many files of frames there are; refuse a gap, and one within that is not whole."""
    names = {entry.name for entry in folder.iterdir() if entry.name.endswith("spool.dat")}
    first = 0
    for number in range(len(names)):
        name = spool_name(number)
        if name not in names:
            raise ValueError(
                f"{folder} lacks {name}, though it has {len(names)} files of frames: copy the "
                "whole folder again"
            )
        there = (folder / name).stat().st_size
        first = first or there
        if number < len(names) - 1 and (there < size or there != first):
            raise ValueError(
                f"{folder}: {name} has {there} bytes, and {max(size, first)} are due: copy it again"
            )
    return len(names)
