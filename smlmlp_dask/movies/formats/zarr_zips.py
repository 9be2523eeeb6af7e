"""Zarr stores in zip files, read without unpacking."""

import asyncio
import os
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.buffer import default_buffer_prototype
from zarr.core.buffer import Buffer, BufferPrototype

SUFFIXES = (".zip", ".ozx")
"""Endings of zip files; ``.ozx`` is a zipped OME-Zarr."""

_LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Signature, length of the name, length of the extra field."""


class _Entry(NamedTuple):
    header: int  # byte of the file where it begins
    stored: int  # bytes in the file
    size: int
    crc: int
    method: int
    is_encrypted: bool


@lru_cache(maxsize=4)
def _entries(path: str, size: int, changed: int) -> dict[str, _Entry]:  # noqa: ARG001 - of the key
    """Return what a zip holds. Tasks of one process share it: long lists take seconds to read."""
    entries = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            if not 0 <= info.header_offset <= size - info.compress_size:
                raise zipfile.BadZipFile(f"{info.filename} lies beyond the end of the file")
            entries[info.filename] = _Entry(
                info.header_offset,
                info.compress_size,
                info.file_size,
                info.CRC,
                info.compress_type,
                bool(info.flag_bits & 1),
            )
    return entries


class ZippedStore(Store):
    """What a zip file holds, as a store of Zarr: it only reads.

    Zarr's own `ZipStore` keeps the file open, and its threads read one after another. This one
    opens the file for each read, so it pickles as a path, and threads and forks share no handle.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(read_only=True)
        self.path = os.fspath(path)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ZippedStore) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "entries"}

    def __str__(self) -> str:
        return self.path

    @cached_property
    def entries(self) -> dict[str, _Entry]:
        """Places of all files in the zip, by their names."""
        status = Path(self.path).stat()
        return _entries(self.path, status.st_size, status.st_mtime_ns)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return bytes of a file in the zip; only whole files are checked by their checksum.

        Raises
        ------
        ValueError
            If the zip is damaged there, or cannot be read by us.
        """
        entry = self.entries[key]
        if entry.is_encrypted or entry.method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            how = "is encrypted" if entry.is_encrypted else f"has compression {entry.method}"
            raise ValueError(f"{key} {how}: zip it again without")
        stop = entry.size if stop is None else min(stop, entry.size)
        try:
            return self._read(entry, start, stop)
        except (zipfile.BadZipFile, zlib.error, struct.error) as error:
            raise ValueError(f"{key} is damaged in the zip: {error}") from error

    def _read(self, entry: _Entry, start: int, stop: int) -> bytes:
        with Path(self.path).open("rb") as file:
            file.seek(entry.header)
            signature, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
            if signature != b"PK\x03\x04":
                raise zipfile.BadZipFile("it is not where the list of files says")
            file.seek(name + extra, os.SEEK_CUR)
            if entry.method == zipfile.ZIP_STORED and (start, stop) != (0, entry.size):
                file.seek(start, os.SEEK_CUR)
                return file.read(max(0, stop - start))
            content = file.read(entry.stored)
        if entry.method == zipfile.ZIP_DEFLATED:
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, entry.size + 1)
        if len(content) != entry.size or zlib.crc32(content) != entry.crc:
            raise zipfile.BadZipFile("it does not have its checksum")
        return content if (start, stop) == (0, entry.size) else content[start:stop]

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return the bytes of a key, None if it is missing; zarr 3.4 calls it in its threads."""
        if key not in self.entries:
            return None
        size = self.entries[key].size
        match byte_range:
            case RangeByteRequest(start, stop):
                content = self.read(key, start, stop)
            case OffsetByteRequest(start):
                content = self.read(key, start)
            case SuffixByteRequest(count):
                content = self.read(key, max(0, size - count))
            case _:
                content = self.read(key)
        return (prototype or default_buffer_prototype()).buffer.from_bytes(content)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the bytes of a key, None if it is missing."""
        return await asyncio.to_thread(
            self.get_sync, key, prototype=prototype, byte_range=byte_range
        )

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return parts of several keys."""
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def exists(self, key: str) -> bool:
        """Say whether a key is in the zip."""
        return key in self.entries

    async def list(self) -> AsyncIterator[str]:
        """List all keys."""
        for key in self.entries:
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """List the keys that begin so."""
        for key in self.entries:
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """List the names in a folder."""
        for name in ZipNode(self, PurePosixPath(prefix)).names():
            yield name

    async def set(self, key: str, value: Buffer) -> None:  # noqa: ARG002
        """Raise: it only reads."""
        self._check_writable()

    async def delete(self, key: str) -> None:  # noqa: ARG002
        """Raise: it only reads."""
        self._check_writable()

    def set_sync(self, key: str, value: Buffer) -> None:  # noqa: ARG002
        """Raise: it only reads."""
        self._check_writable()

    def delete_sync(self, key: str) -> None:  # noqa: ARG002
        """Raise: it only reads."""
        self._check_writable()


@dataclass(frozen=True)
class ZipNode:
    """A file or folder in a zip, with the methods of `pathlib.Path` that finding nodes needs."""

    store: ZippedStore
    place: PurePosixPath

    def __truediv__(self, name: str | PurePosixPath) -> "ZipNode":
        return ZipNode(self.store, self.place / name)

    def __str__(self) -> str:
        return f"{self.store}::{self.place}" if self.place.parts else str(self.store)

    @property
    def name(self) -> str:
        """Last part of its place."""
        return self.place.name

    @property
    def parents(self) -> list["ZipNode"]:
        """The folders around it, from the innermost."""
        return [ZipNode(self.store, above) for above in self.place.parents]

    def relative_to(self, other: "ZipNode") -> PurePosixPath:
        """Return its place within a folder."""
        return self.place.relative_to(other.place)

    def resolve(self) -> "ZipNode":
        """Return itself: a zip has no links."""
        return self

    def is_symlink(self) -> bool:
        """Return False."""
        return False

    def is_file(self) -> bool:
        """Say whether there is such a file."""
        return str(self.place) in self.store.entries

    def is_dir(self) -> bool:
        """Say whether anything lies below."""
        return any(True for _ in self.names())

    def read_bytes(self) -> bytes:
        """Return the bytes of a file."""
        return self.store.read(str(self.place))

    def names(self) -> Iterator[str]:
        """Yield the names of the files and folders in this one, each once."""
        inside = f"{self.place}/" if self.place.parts else ""
        keys = (key for key in self.store.entries if key.startswith(inside))
        yield from dict.fromkeys(key.removeprefix(inside).partition("/")[0] for key in keys)

    def iterdir(self) -> Iterator["ZipNode"]:
        """Yield the files and folders in this one."""
        return (self / name for name in self.names())
