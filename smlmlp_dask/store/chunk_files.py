"""The file of a chunk: encoded, ended by a checksum, written whole or not at all.

Its bytes are those that Zarr writes for the codecs of `Storage` (the tests compare them) and reads
again. Written through an array of Zarr, the blocks of a job took 1.06 times as long: it copies each
encoded chunk once more, and hands it from thread to thread to thread.
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
    """The chunks of one float32 array (frame, y, x) on disk, to be written.

    Attributes
    ----------
    array : pathlib.Path
        Absolute folder of the Zarr array.
    chunks : tuple of int
        Shape of a chunk.
    storage : Storage
        How chunks are kept.
    synced : bool
        Bring each chunk to the disk before `write` returns: for workers of a cluster, whose
        machine may lose power by itself.
    """

    array: Path
    chunks: tuple[int, int, int]
    storage: Storage
    synced: bool = False

    def write(self, box: Box, pixels: np.ndarray[Any, Any]) -> int:
        """Write one chunk and return its checksum.

        Parameters
        ----------
        box : Box
            Where the pixels lie in the array: from the beginning of a chunk to its end, or to that
            of the array. As in Zarr, what a chunk has beyond the array is NaN.
        pixels : numpy.ndarray
            Float32, of the shape of `box`.

        Raises
        ------
        OSError
            If it cannot be written. What was there before is there still.
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
        if pixels.shape == self.chunks:
            return np.ascontiguousarray(pixels, "<f4")
        chunk = np.full(self.chunks, np.nan, "<f4")
        chunk[tuple(map(slice, pixels.shape))] = pixels
        return chunk


def chunk_path(array: Path, place: Sequence[int]) -> Path:
    """Return the file of a chunk, in a Zarr v3 array with the default chunk keys."""
    return array.joinpath("c", *map(str, place))


def ends_in(path: Path, checksum: int) -> bool:
    """Say whether a chunk's file ends in the checksum that was recorded: a look at four bytes."""
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
    """Say whether a chunk's file has the bytes that were recorded."""
    return own_checksum(path) == checksum


def own_checksum(path: Path) -> int | None:
    """Return the checksum of all bytes of a chunk's file, if it ends in that; else None."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    end = len(data) - CHECKSUM_BYTES
    if end < 0:
        return None
    checksum = int.from_bytes(data[end:], "little")
    return checksum if google_crc32c.value(data[:end]) == checksum else None
