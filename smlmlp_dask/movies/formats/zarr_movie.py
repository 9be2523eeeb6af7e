"""A movie in a Zarr array, in a folder or a zip."""

import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from random import Random
from typing import Any, Self, cast

import google_crc32c
import numpy as np
import zarr
import zarr.core.codec_pipeline
from numpy.typing import NDArray
from zarr.buffer.cpu import NDBuffer
from zarr.storage import LocalStore

from smlmlp_dask.messages import counted, one_line
from smlmlp_dask.movies.stack import Small, SourceReadError, as_rising, named
from smlmlp_dask.units import Decoding, at_a_time, in_groups, touched

from .reading import parts_of
from .zarr_nodes import Node
from .zarr_zips import ZipNode, ZippedStore

LOOKED_AT = 1000
"""Most chunks of a source that are looked for when it is opened: some 10 ms on a local disk."""

FUSED_PIPELINE = "FusedCodecPipeline"
"""Codec pipeline of zarr 3.4 and later: it decodes chunks without a coroutine for each."""


@dataclass(frozen=True)
class Seal:
    """A file that is written when a store is begun, and says what the store holds."""

    file: Path
    checksum: int

    @classmethod
    def of(cls, file: Path) -> Self | None:
        """Return the seal of a store; None without such a file, as stores of old versions are."""
        checksum = _checksum(file)
        return None if checksum is None else cls(file, checksum)


def check_seal(seal: Seal | None, store: object) -> None:
    """Raise `SourceReadError` if another store has taken the place of the one that was opened.

    A file that is gone tells nothing.
    """
    if seal is not None and _checksum(seal.file) not in (None, seal.checksum):
        raise SourceReadError(
            f"{store} has been replaced by another store since it was opened: open it again, by "
            "open_backgrounds, and write the next one to another destination to compare the two"
        )


def _checksum(file: Path) -> int | None:
    try:
        return int(google_crc32c.value(file.read_bytes()))
    except OSError:
        return None


@dataclass(frozen=True, kw_only=True, eq=False)
class ZarrMovie(Small):
    """A movie in a Zarr array."""

    path: str
    array: zarr.Array[Any]
    axes: tuple[int, int, int]  # of frame, y, x
    at: tuple[int, ...]  # place on each axis; it counts for all others, such as the channel
    store: str = ""  # the store of backgrounds that it belongs to: a missing chunk is an error then
    seal: Seal | None = None  # of that store

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows and columns."""
        return self._along(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Native byte order."""
        dtype = np.dtype(self.array.dtype)
        return dtype if dtype.isnative else dtype.newbyteorder("=")

    @property
    def unit(self) -> tuple[int, int, int]:
        """Shape of a chunk. A shard's chunks are decoded one by one, too."""
        return self._along(self.array.chunks)

    def decoding(self, *, whole: bool) -> Decoding:  # noqa: ARG002 - a chunk is decoded whole
        """Return how chunks are decoded, and the memory for it: encoded bytes, copies of codecs.

        Shards and filters take one more copy of each chunk. A chunk of several channels or slices
        is decoded with all of them.
        """
        chunk_bytes = self.dtype.itemsize * prod(self.array.chunks)
        decoding = Decoding.stored(self.unit, chunk_bytes)
        if self.array.shards or self.array.filters:
            each = decoding.unit_bytes * 3 // 2
            decoding = Decoding(self.unit, each, at_a_time(each))
        return decoding

    def _along(self, lengths: Sequence[int]) -> tuple[int, int, int]:
        frame, y, x = (int(lengths[axis]) for axis in self.axes)
        return (frame, y, x)

    def read(self, frames: range, rows: slice, columns: slice) -> NDArray[Any]:
        """Return a box of the frames with these numbers, in their order.

        Raises
        ------
        SourceReadError
            If a chunk cannot be decoded.
        """
        _, height, width = self.shape
        rising = frames if frames.step > 0 else frames[::-1]
        try:
            pixels = self._read(rising, range(height)[rows], range(width)[columns])
        except SourceReadError:  # the store has been replaced
            raise
        except Exception as error:
            raise SourceReadError(self._diagnosis(frames, rows, columns, error)) from error
        return pixels if frames.step > 0 else pixels[::-1]

    def _read(self, *box: range) -> NDArray[Any]:
        """Read a few units at a time: Zarr keeps everything it decodes for one selection."""
        groups = list(parts_of(box, self.unit, self.decoding(whole=False).together))
        if len(groups) == 1:  # Zarr's own array, which saves the job a tenth of its time
            pixels = np.asarray(self.array[self._selection(box)]).astype(self.dtype, copy=False)
        else:
            pixels = np.empty([len(part) for part in box], self.dtype)
            for parts, target in groups:
                out = NDBuffer.from_numpy_array(pixels[target])
                self.array.get_basic_selection(self._selection(parts), out=out)
        if self.store:
            self._refuse_missing([slice(part[0], part[-1] + 1) for part in box])
            check_seal(self.seal, self.store)  # after the read: chunks are written after the seal
        return pixels

    def _selection(self, parts: Sequence[range]) -> tuple[int | slice, ...]:
        selection: list[int | slice] = list(self.at)
        for axis, part in zip(self.axes, parts, strict=True):
            selection[axis] = as_rising(part)
        return tuple(selection)

    def empty_chunks(self, most: int) -> tuple[int, int]:
        """Return how many chunks have no file, and how many were looked at: `most`, or all."""
        stored = self.array.shards or self.array.chunks
        grid = [-(-length // unit) for length, unit in zip(self.array.shape, stored, strict=True)]
        count = prod(grid)
        if not count:
            return 0, 0
        # In steps, all might be of one channel.
        places = range(count) if count <= most else Random(0).sample(range(count), most)
        found = sum(
            self._is_stored(self.array.metadata.encode_chunk_key(tuple(map(int, at))))
            for at in zip(*np.unravel_index(places, grid), strict=True)
        )
        return len(places) - found, len(places)

    def _is_stored(self, key: str) -> bool:
        store, name = cast("Any", self.array.store), f"{self.array.path}/{key}".lstrip("/")
        if isinstance(store, ZippedStore):
            return name in store.entries
        return Path(store.root, name).is_file()

    def _refuse_missing(self, box: Sequence[slice]) -> None:
        for place in product(*touched(box, self._along(self.array.chunks))):
            key = self._key(place, self.array.chunks)
            if not Path(self.path, key).is_file():
                raise FileNotFoundError(f"chunk {key} is missing")

    def _key(self, place: Sequence[int], stored: Sequence[int]) -> str:
        """Return the name of the file at a place in the grid of chunks or shards."""
        grid = [at // length for at, length in zip(self.at, stored, strict=True)]
        for axis, number in zip(self.axes, place, strict=True):
            grid[axis] = number
        return self.array.metadata.encode_chunk_key(tuple(grid))

    def _diagnosis(self, frames: range, rows: slice, columns: slice, error: Exception) -> str:
        """Read the box again, chunk by chunk, to find and name the one that fails."""
        check_seal(self.seal, self.store)
        file = self.array.shards or self.array.chunks
        stored = self._along(file)
        box = (slice(min(frames), max(frames) + 1), rows, columns)
        what, reason = named(frames), error
        for part in in_groups(box, stored, 1):
            try:
                self._read(*(range(axis.start, axis.stop) for axis in part))
            except Exception as failure:
                place = [axis.start // unit for axis, unit in zip(part, stored, strict=True)]
                held = range(self.shape[0])[place[0] * stored[0] :][: stored[0]]
                what = f"chunk {self._key(place, file)} ({named(held)})"
                reason = failure
                break
        if self.store:
            return self._diagnosis_of_store(what, reason, found=reason is not error)
        return (
            f"{self.path}: {what} cannot be read: {_said(reason)}; restore the file from a copy, "
            "or run without these frames (frames=, --frames)"
        )

    def _diagnosis_of_store(self, what: str, reason: Exception, *, found: bool) -> str:
        if not Path(self.path).is_dir():
            return f"{self.path} is gone: check that the disk that holds it is mounted"
        missing = isinstance(reason, FileNotFoundError)
        if not found or (isinstance(reason, OSError) and not missing):
            # The bytes may be undamaged.
            return (
                f"{what} of {self.path} cannot be read: {one_line(reason)}; check the disk, and "
                "try again"
            )
        state = "missing" if missing else "damaged"
        return f"{what} of {self.path} is {state}: repair it by {repair_command(self.store)}"


def _said(error: Exception) -> str:
    """Return the text of an error of a codec, which may quote C's bytes: b'Data corruption'."""
    return re.sub(r"\bb'([^']*)'", r"\1", one_line(error))


def repair_command(store: str | os.PathLike[str]) -> str:
    """Return the command that repairs a store of backgrounds, ready to be typed."""
    return f"smlmlp-dask verify --repair {shlex.quote(os.fspath(store))}"


def open_stored(path: Path, store: Path, seal: Seal | None) -> ZarrMovie:
    """Open an array (frame, y, x) of a store of backgrounds; a missing chunk is an error."""
    return ZarrMovie(
        path=str(path),
        array=open_array(path),
        axes=(0, 1, 2),
        at=(0, 0, 0),
        store=str(store),
        seal=seal,
    )


def empty_chunks(movies: Sequence[ZarrMovie]) -> tuple[str, ...]:
    """Say in a line where chunks are missing: Zarr reads their fill value, as of empty frames."""
    most = max(1, LOOKED_AT // len(movies))
    for movie in movies:
        missing, among = movie.empty_chunks(most)
        if missing:
            seen = " looked at" if among == most else ""
            return (
                f"{missing} of {counted(among, 'chunk')}{seen} of {movie.path} have no file, and "
                f"are read as {movie.array.fill_value}: if other pixels were recorded there, copy "
                "the movie again",
            )
    return ()


@contextmanager
def parsing(path: Node) -> Iterator[None]:
    """Say in one line that metadata are damaged, whatever zarr raises."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, ValueError):
            raise
        if isinstance(error, NotImplementedError):  # chunks of different sizes, in zarr 3.4
            raise ValueError(
                f"{path} cannot be read: {one_line(error)} Copy it to an array with one chunk shape"
            ) from error
        # zarr fails on damaged metadata with KeyError, TypeError, its own NodeNotFoundError ...
        raise ValueError(
            f"{path} has damaged Zarr metadata: {one_line(error)}; restore it from a copy"
        ) from error


def open_array(node: Node) -> zarr.Array[Any]:
    """Read the metadata of an array."""
    with parsing(node), bulk_codecs():
        array = zarr.open_array(**place_of(node), mode="r")
        units = array.chunks + (array.shards or ())
        if max(array.shape + units, default=0) > sys.maxsize or 0 in units:
            raise ValueError(f"shape {array.shape} in chunks of {array.chunks}")
        return array


def place_of(node: Node) -> dict[str, Any]:
    """Return where a node is, as arguments of zarr's functions that open one."""
    if isinstance(node, ZipNode):
        return {"store": node.store, "path": "/".join(node.place.parts)}
    return {"store": LocalStore(node, read_only=True)}


def bulk_codecs() -> AbstractContextManager[Any]:
    """Let arrays opened in the ``with`` block use zarr's faster codec pipeline, if it has one.

    On 2 cores, it read tiled chunks 1.3 times as fast. Arrays keep the pipeline they were opened
    with, so the setting may end with the block.
    """
    has_it = hasattr(zarr.core.codec_pipeline, FUSED_PIPELINE)
    path = f"zarr.core.codec_pipeline.{FUSED_PIPELINE}"
    setting: AbstractContextManager[Any]
    setting = zarr.config.set({"codec_pipeline.path": path} if has_it else {})
    return setting
