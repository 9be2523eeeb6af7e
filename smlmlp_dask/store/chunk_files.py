"""The file of a chunk: encoded, ended by a checksum, written whole or not at all.

It has the bytes that Zarr writes for the codecs of `Storage` (the tests compare them). Written
through a Zarr array, the blocks of a job took 1.06 times as long: Zarr copies each encoded chunk
once more (zarr-python#4243) and hands it across threads. Once it no longer does, arrays can write.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from smlmlp_dask.blocks import Box

from .codecs import Storage
from .durable import sync_files, write_whole

CHECKSUM_BYTES = 4
"""A CRC-32C, little-endian, at the end of every chunk: Zarr's codec ``crc32c``."""


@dataclass(frozen=True)
class ChunkFiles:
    """Writes the chunks of one Zarr array (frame, y, x).

    Attributes
    ----------
    array : pathlib.Path
        Absolute folder of the Zarr array.
    chunks : tuple of int
        Shape of a chunk.
    storage : Storage
        How chunks are encoded.
    synced : bool
        Bring each chunk to the disk before `write` returns. Workers of a cluster need this: their
        machine may lose power while ours does not.
    dtype : str
        The array's dtype.
    """

    array: Path
    chunks: tuple[int, int, int]
    storage: Storage
    synced: bool = False
    dtype: str = "float32"

    def write(self, box: Box, pixels: np.ndarray[Any, Any]) -> int:
        """Write one chunk and return its checksum.

        Parameters
        ----------
        box : Box
            Position of the pixels in the array: one chunk, cut at the array's end. The rest of
            such a chunk is filled with NaN, or zeros for integers, as Zarr does.
        pixels : numpy.ndarray
            Of the array's dtype and the shape of `box`.

        Raises
        ------
        OSError
            If it cannot be written; the file stays as it was.
        """
        place = [part.start // size for part, size in zip(box, self.chunks, strict=True)]
        encoded = self.storage.encoded(self._filled_up(pixels))
        checksum = int(google_crc32c.value(encoded))
        path = chunk_path(self.array, place)
        write_whole(path, encoded, checksum.to_bytes(CHECKSUM_BYTES, "little"), synced=False)
        if self.synced:
            sync_files([path], self.array)
        return checksum

    def _filled_up(self, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        dtype = np.dtype(self.dtype).newbyteorder("<")
        if pixels.shape == self.chunks:
            return np.ascontiguousarray(pixels, dtype)
        chunk = np.full(self.chunks, fill_value(dtype), dtype)
        chunk[tuple(map(slice, pixels.shape))] = pixels
        return chunk


def fill_value(dtype: np.dtype[Any]) -> float:
    """Return what an array holds where nothing was written: NaN, or zero for integers."""
    return float("nan") if dtype.kind == "f" else 0


def chunk_path(array: Path, place: Sequence[int]) -> Path:
    """Return the file of a chunk, in a Zarr v3 array with the default chunk keys."""
    return array.joinpath("c", *map(str, place))


def ends_in(path: Path, checksum: int) -> bool:
    """Say whether a chunk's file ends in the recorded checksum; this reads four bytes."""
    try:
        return stored_checksum(path) == checksum
    except OSError:
        return False


def stored_checksum(path: Path) -> int:
    """Return the checksum at the end of a chunk's file.

    Raises
    ------
    OSError
        If the file is missing or shorter than a checksum.
    """
    with path.open("rb") as file:
        file.seek(-CHECKSUM_BYTES, os.SEEK_END)
        return int.from_bytes(file.read(CHECKSUM_BYTES), "little")


def is_whole(path: Path, checksum: int) -> bool:
    """Say whether all bytes of a chunk's file fit the recorded checksum."""
    return own_checksum(path) == checksum


def own_checksum(path: Path) -> int | None:
    """Return the checksum of a chunk's file if its bytes fit it; else None."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    end = len(data) - CHECKSUM_BYTES
    if end < 0:
        return None
    checksum = int.from_bytes(data[end:], "little")
    return checksum if google_crc32c.value(data[:end]) == checksum else None
