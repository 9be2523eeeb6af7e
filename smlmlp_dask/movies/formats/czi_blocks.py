"""The sub-blocks of a CZI file: one frame each."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from struct import Struct
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.movies.stack import as_slice

HEADER = Struct("<16s16xi4xq28xi")
"""A sub-block's kind, bytes of its metadata, bytes of its pixels, and number of its axes."""

KIND = b"ZISRAWSUBBLOCK"

ENTRY = 48
"""Where the description of a sub-block begins in it; pixels follow it, and the metadata."""


class _Fill(Protocol):
    def __call__(self, offset: int, out: NDArray[Any]) -> None: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class SubBlocks:
    """Frames of one channel, each in a sub-block; the library unpacks them where they are coded."""

    path: str
    offsets: NDArray[np.int64]
    dtype: np.dtype[Any]
    coded: bool

    def take(self, frames: range) -> Self:
        """Return only these frames, in this order."""
        return replace(self, offsets=self.offsets[as_slice(frames)])

    def held_bytes(self, frame_bytes: int, *, whole: bool) -> int:
        """Return the bytes of a frame, as stored and unpacked; none where it is read in place."""
        return frame_bytes * ((2 if self.coded else 0) + (0 if whole else 1))

    def read_into(
        self, out: NDArray[Any], rows: range, columns: range, frame: tuple[int, int]
    ) -> None:
        """Fill `out` with a box of each frame."""
        whole = out.shape[1:] == frame
        buffer = np.empty((0, 0) if whole else frame, out.dtype)
        with (_coded if self.coded else _plain)(self.path) as fill:
            for index, offset in enumerate(self.offsets.tolist()):
                if whole:
                    fill(offset, out[index])
                else:
                    fill(offset, buffer)
                    out[index] = buffer[as_slice(rows), as_slice(columns)]


@contextmanager
def _plain(path: str) -> Iterator[_Fill]:
    """Read pixels as they lie in the file."""
    with Path(path).open("rb") as file:

        def fill(offset: int, out: NDArray[Any]) -> None:
            file.seek(offset)
            kind, metadata_bytes, size, axes = HEADER.unpack(
                file.read(HEADER.size).ljust(HEADER.size)
            )
            if kind.rstrip(b"\0") != KIND:
                raise ValueError(f"no sub-block is at byte {offset}: it was deleted or never saved")
            if size != out.nbytes:
                raise ValueError(f"its sub-block has {size} bytes where {out.nbytes} are due")
            file.seek(offset + ENTRY + max(240, 32 + 20 * axes) + metadata_bytes)
            if file.readinto(out.reshape(-1).view(np.uint8).data) != size:
                raise EOFError("the file ends before its pixels do")
            if sys.byteorder == "big":
                out.byteswap(inplace=True)

        yield fill


@contextmanager
def _coded(path: str) -> Iterator[_Fill]:
    """Read pixels as the library decodes them; its directory of all frames is not read again."""
    from czifile import CziFile, CziSegment

    with CziFile(path) as czi:

        def fill(offset: int, out: NDArray[Any]) -> None:
            segment: Any = CziSegment(czi, offset)
            if segment.sid != KIND.decode():
                raise ValueError(f"no sub-block is at byte {offset}: it was deleted or never saved")
            pixels = segment.data().data()
            axes = tuple(size for size in pixels.shape if size != 1)
            if axes != tuple(size for size in out.shape if size != 1) or pixels.dtype != out.dtype:
                raise ValueError(
                    f"it has shape {axes} and dtype {pixels.dtype} where {out.shape} and "
                    f"{out.dtype} are due"
                )
            out[...] = pixels.reshape(out.shape)

        yield fill
