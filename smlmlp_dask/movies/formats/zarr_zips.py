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
from typing import Any

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


@lru_cache(maxsize=4)
def _entries(path: str, size: int, changed: int) -> dict[str, zipfile.ZipInfo]:  # noqa: ARG001 - of the key
    """Return what a zip holds. Tasks of one process share it: long lists take seconds to read."""
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: info for info in archive.infolist() if not info.is_dir()}
    for name, entry in entries.items():
        if not 0 <= entry.header_offset <= size - entry.compress_size:
            raise zipfile.BadZipFile(f"{name} lies beyond the end of the file")
    return entries


class ZippedStore(Store):
    """What a zip file holds, as a store of Zarr: it only reads.

    Zarr's own `ZipStore` keeps the file open, and its threads read one after another. This one
    opens the file for each read, so it pickles as a path, and threads and forks share no handle.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = False

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
    def entries(self) -> dict[str, zipfile.ZipInfo]:
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
        method, is_encrypted = entry.compress_type, entry.flag_bits & 1
        if is_encrypted or method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            how = "is encrypted" if is_encrypted else f"has compression {method}"
            raise ValueError(f"{key} {how}: zip it again without")
        stop = entry.file_size if stop is None else min(stop, entry.file_size)
        try:
            return self._read(entry, start, stop)
        except (zipfile.BadZipFile, zlib.error, struct.error) as error:
            raise ValueError(f"{key} is damaged in the zip: {error}") from error

    def _read(self, entry: zipfile.ZipInfo, start: int, stop: int) -> bytes:
        whole = (start, stop) == (0, entry.file_size)
        with Path(self.path).open("rb") as file:
            file.seek(entry.header_offset)
            signature, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
            if signature != b"PK\x03\x04":
                raise zipfile.BadZipFile("it is not where the list of files says")
            file.seek(name + extra, os.SEEK_CUR)
            if entry.compress_type == zipfile.ZIP_STORED and not whole:
                file.seek(start, os.SEEK_CUR)
                return file.read(max(0, stop - start))
            content = file.read(entry.compress_size)
        if entry.compress_type == zipfile.ZIP_DEFLATED:
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, entry.file_size + 1)
        if len(content) != entry.file_size or zlib.crc32(content) != entry.CRC:
            raise zipfile.BadZipFile("it does not have its checksum")
        return content if whole else content[start:stop]

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
        size = self.entries[key].file_size
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

    def list(self) -> AsyncIterator[str]:
        """Raise: a `ZipNode` finds what is in a zip."""
        raise NotImplementedError

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Raise, as `list` does."""
        raise NotImplementedError

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Raise, as `list` does."""
        raise NotImplementedError

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
        return any(self.iterdir())

    def read_bytes(self) -> bytes:
        """Return the bytes of a file."""
        return self.store.read(str(self.place))

    def iterdir(self) -> Iterator["ZipNode"]:
        """Yield the files and folders in this one, each once."""
        inside = f"{self.place}/" if self.place.parts else ""
        keys = (key for key in self.store.entries if key.startswith(inside))
        names = dict.fromkeys(key.removeprefix(inside).partition("/")[0] for key in keys)
        return (self / name for name in names)
