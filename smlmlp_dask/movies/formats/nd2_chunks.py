"""The chunks of an ND2 file: its index, and the images in them."""

import re
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from struct import Struct
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.movies.stack import as_slice

MAGIC = 0x0ABECEDA

HEADER = Struct("<IIQ")
"""Before each chunk: `MAGIC`, and the bytes of its name and of its data."""

END = Struct("<32sQ")
"""The last bytes of a file: `SIGNATURE`, and where the index of its chunks is."""

SIGNATURE = b"ND2 CHUNK MAP SIGNATURE 0000001!"

IMAGE = b"ImageDataSeq|%d!"
"""Name of the chunk of an image."""

TIME = Struct("<d")
"""A time in milliseconds; one stands before the pixels of an image."""


def index_of(file: BinaryIO) -> dict[bytes, int]:
    """Return the names of all chunks, and where they are."""
    file.seek(-END.size, 2)
    signature, offset = END.unpack(file.read(END.size))
    if signature != SIGNATURE:
        raise ValueError("its index is missing")
    entries, end, _ = chunk(file, offset, b"ND2 FILEMAP SIGNATURE NAME 0001!").partition(SIGNATURE)
    if not end:
        raise ValueError("its index has no end")
    found = re.finditer(rb"([^!]*!)(.{8}).{8}", entries, re.DOTALL)
    return {entry[1]: int.from_bytes(entry[2], "little") for entry in found}


def chunk(file: BinaryIO, offset: int, name: bytes) -> bytes:
    """Return the data of a chunk."""
    return file.read(_go_to(file, offset, name))


def _go_to(file: BinaryIO, offset: int, name: bytes) -> int:
    """Go to the data of a chunk; return their length."""
    file.seek(offset)
    magic, name_bytes, data_bytes = HEADER.unpack(file.read(HEADER.size).ljust(HEADER.size))
    if magic != MAGIC or file.read(len(name)) != name:
        raise ValueError(f"{name[:-1].decode()} does not begin at byte {offset}")
    file.seek(offset + HEADER.size + name_bytes)
    return int(data_bytes)


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """One channel of images of a file; an image holds the pixels of all channels."""

    path: str
    numbers: NDArray[np.int64]  # of the images in the file
    offsets: NDArray[np.int64]  # of their chunks
    dtype: np.dtype[Any]
    line_bytes: int  # of all channels, and what fills up a line
    channels: int
    channel: int = 0
    packed: bool  # by zlib
    plain: bool  # stored as a frame is in memory

    def take(self, frames: range) -> Self:
        """Return only these frames, in this order."""
        return self.of(as_slice(frames), self.channel)

    def of(self, frames: Any, channel: int) -> Self:
        """Return a channel of what an index into the numbers takes."""
        return replace(
            self,
            numbers=self.numbers[frames],
            offsets=self.offsets[frames],
            channel=channel,
        )

    def held_bytes(self, frame_bytes: int, *, whole: bool) -> int:
        """Return the bytes of an image of all channels, unless it is read in place."""
        if self.plain and whole:
            return 0
        return frame_bytes * self.channels * (2 if self.packed else 1)

    def read_into(
        self, out: NDArray[Any], rows: range, columns: range, frame: tuple[int, int]
    ) -> None:
        """Fill `out` with a box of each frame."""
        box = (as_slice(rows), as_slice(columns), self.channel)
        in_place = self.plain and out.shape[1:] == frame
        size = frame[0] * self.line_bytes
        data = np.empty(0 if in_place or self.packed else size, np.uint8)
        with Path(self.path).open("rb") as file:
            for index, place in enumerate(zip(self.numbers, self.offsets, strict=True)):
                if in_place:
                    self._fill(file, *place, out[index].reshape(-1).view(np.uint8))
                elif self.packed:  # kept by no name, so that two are never in memory
                    out[index] = self._pixels(self._unpacked(file, *place, size), frame)[box]
                else:
                    self._fill(file, *place, data)
                    out[index] = self._pixels(data, frame)[box]
        if in_place and not self.dtype.isnative:
            out.byteswap(inplace=True)

    def _pixels(self, data: NDArray[np.uint8], frame: tuple[int, int]) -> NDArray[Any]:
        """Return the bytes of an image as pixels (y, x, channel)."""
        item = self.dtype.itemsize
        strides = (self.line_bytes, self.channels * item, item)
        return np.ndarray((*frame, self.channels), self.dtype, data, strides=strides)

    def _unpacked(self, file: BinaryIO, number: int, offset: int, due: int) -> NDArray[np.uint8]:
        """Return the bytes of an image that is packed."""
        size = _go_to(file, int(offset), IMAGE % number) - TIME.size
        file.seek(TIME.size, 1)
        data = zlib.decompress(file.read(size), bufsize=due)
        if len(data) != due:
            raise ValueError(f"image {number} has {len(data)} bytes where {due} are due")
        return np.frombuffer(data, np.uint8)

    def _fill(self, file: BinaryIO, number: int, offset: int, out: NDArray[np.uint8]) -> None:
        """Read the bytes of an image; refuse a chunk of another image or size."""
        size = _go_to(file, int(offset), IMAGE % number) - TIME.size
        if size != len(out):
            raise ValueError(f"image {number} has {size} bytes where {len(out)} are due")
        file.seek(TIME.size, 1)
        if file.readinto(out.data) != size:  # type: ignore[attr-defined]
            raise EOFError(f"the file ends in image {number}")
