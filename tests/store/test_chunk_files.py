"""Chunks written by us are those that Zarr would write, byte for byte, or are not there."""

import ctypes
import errno
import mmap
import os
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from smlmlp_dask.store import durable
from smlmlp_dask.store.chunk_files import (
    ChunkFiles,
    chunk_path,
    fill_value,
    is_whole,
    stored_checksum,
)
from smlmlp_dask.store.codecs import Codec, Storage
from smlmlp_dask.store.durable import write_whole

CHUNKS = (2, 3, 5)
BOX = (slice(2, 4), slice(3, 6), slice(0, 5))
CODECS = get_args(Codec)
DONTCACHE = 0x80
"""RWF_DONTCACHE in Linux's <linux/fs.h>."""


def full(*_):
    """Answer as a full disk does."""
    raise OSError(errno.ENOSPC, "No space left on device")


class Full:
    """A file that takes a few bytes and then no more."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, part):
        self.file.write(part[:7])
        full()


def chunks_of(shape):
    """Go through the boxes of an array's chunks."""
    for corner in np.ndindex(*(-(-n // c) for n, c in zip(shape, CHUNKS, strict=True))):
        yield tuple(
            slice(at * c, min(at * c + c, n))
            for at, c, n in zip(corner, CHUNKS, shape, strict=True)
        )


def files(array):
    return {p.relative_to(array): p.read_bytes() for p in array.glob("c/*/*/*")}


def zarr_array(path, shape, storage):
    return zarr.create_array(
        path,
        shape=shape,
        chunks=CHUNKS,
        dtype="float32",
        compressors=storage.compressors(),
        fill_value=float("nan"),
        config={"write_empty_chunks": True},
    )


@pytest.mark.parametrize("codec", CODECS)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(1, 11)),
    kind=st.sampled_from(["counts", "constant", "nan"]),
    seed=st.integers(0, 99),
)
def test_the_bytes_are_those_of_zarr(tmp_path_factory, codec, shape, kind, seed):
    counts = np.random.default_rng(seed).normal(500, 3, shape).astype(np.float32)
    pixels = {"counts": counts, "constant": 0 * counts, "nan": np.nan * counts}[kind]
    storage = Storage.checked(codec, None)
    folder = tmp_path_factory.mktemp("arrays")
    theirs = zarr_array(folder / "theirs", shape, storage)
    theirs[:] = pixels
    ours = zarr_array(folder / "ours", shape, storage)
    writer = ChunkFiles(folder / "ours", CHUNKS, storage)
    for box in chunks_of(shape):
        checksum = writer.write(box, pixels[box])
        place = [part.start // size for part, size in zip(box, CHUNKS, strict=True)]
        file = chunk_path(folder / "ours", place)
        assert stored_checksum(file) == checksum
        assert is_whole(file, checksum)
    assert files(folder / "ours") == files(folder / "theirs")
    assert ours[:].tobytes() == pixels.tobytes()


@pytest.mark.parametrize("codec", CODECS)
def test_a_large_chunk_has_many_blocks_of_blosc(tmp_path, codec):
    """Larger than Blosc's own blocks, which are compressed one by one."""
    shape = (3, 512, 600)
    pixels = np.random.default_rng(1).normal(500, 3, shape).astype(np.float32)
    storage = Storage.checked(codec, None)
    array = {
        name: zarr.create_array(
            tmp_path / name,
            shape=shape,
            chunks=shape,
            dtype="float32",
            compressors=storage.compressors(),
        )
        for name in ("ours", "theirs")
    }
    array["theirs"][:] = pixels
    box = tuple(slice(0, n) for n in shape)
    ChunkFiles(tmp_path / "ours", shape, storage).write(box, pixels)
    assert files(tmp_path / "ours") == files(tmp_path / "theirs")
    assert array["ours"][:].tobytes() == pixels.tobytes()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "int32", "float64"])
def test_the_bytes_of_raw_frames_are_those_of_zarr(tmp_path, codec, dtype):
    shape = (5, 7, 11)
    pixels = np.random.default_rng(1).poisson(90, shape).astype(dtype)
    storage = Storage.checked(codec, raw=True)
    for name in ("ours", "theirs"):
        array = zarr.create_array(
            tmp_path / name,
            shape=shape,
            chunks=CHUNKS,
            dtype=dtype,
            compressors=storage.compressors(pixels.itemsize),
            fill_value=fill_value(pixels.dtype),
            config={"write_empty_chunks": True},
        )
    array[:] = pixels
    writer = ChunkFiles(tmp_path / "ours", CHUNKS, storage, dtype=dtype)
    for box in chunks_of(shape):
        writer.write(box, pixels[box])
    assert files(tmp_path / "ours") == files(tmp_path / "theirs")


FAST = ("lz4", 5, "shuffle", 2**18)
SMALL = ("zstd", 2, "shuffle", 2**20)


STANDS_FOR = {
    ("fast", False): FAST,
    ("fast", True): ("lz4", 5, "bitshuffle", 2**18),
    ("small", False): SMALL,
    ("small", True): SMALL,
    ("none", False): None,
    ("none", True): None,
}
"""(codec, raw) -> compressor, level, shuffle and bytes of a block."""


def test_it_is_known_what_every_name_stands_for():
    assert {*STANDS_FOR} == {(codec, raw) for codec in CODECS for raw in (False, True)}


@pytest.mark.parametrize(("codec", "raw"), STANDS_FOR)
def test_a_name_stands_for_what_it_always_did(codec, raw):
    """Stores record only the name: another meaning would give resumed stores other bytes."""
    first = Storage(codec, None, raw).compressors()[0].to_dict()
    settings = first.get("configuration")
    keys = ("cname", "clevel", "shuffle", "blocksize")
    assert (settings and tuple(settings[key] for key in keys)) == STANDS_FOR[codec, raw]


@pytest.mark.parametrize("layout", ["big-endian", "strided", "read-only"])
def test_pixels_in_any_layout(tmp_path, layout):
    pixels = np.random.default_rng(2).normal(500, 3, CHUNKS).astype(np.float32)
    passed = {
        "big-endian": pixels.astype(">f4"),
        "strided": np.repeat(pixels, 2, axis=2)[:, :, ::2],
        "read-only": np.frombuffer(pixels.tobytes(), np.float32).reshape(CHUNKS),
    }[layout]
    array = zarr_array(tmp_path / "a", (4, 6, 5), Storage.checked("fast", None))
    ChunkFiles(tmp_path / "a", CHUNKS, Storage.checked("fast", None)).write(BOX, passed)
    assert array[BOX].tobytes() == pixels.tobytes()


@pytest.mark.parametrize("step", ["past the cache", "write", "replace"])
def test_what_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch, step):
    writer = ChunkFiles(tmp_path / "a", CHUNKS, Storage.checked("fast", None))
    first = writer.write(BOX, np.zeros(CHUNKS, np.float32))
    before = files(tmp_path / "a")

    if step == "past the cache":
        monkeypatch.setattr(durable, "_UNCACHED", DONTCACHE)
        monkeypatch.setattr(os, "pwritev", full, raising=False)
    elif step == "write":
        monkeypatch.setattr(durable, "_UNCACHED", None)
        opened = Path.open
        monkeypatch.setattr(Path, "open", lambda self, *mode: Full(opened(self, *mode)))
    else:
        monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        writer.write(BOX, np.ones(CHUNKS, np.float32))
    monkeypatch.undo()
    assert files(tmp_path / "a") == before
    assert is_whole(chunk_path(tmp_path / "a", (1, 1, 0)), first)


# ---- past the page cache -------------------------------------------------------------------------


PARTS = (b"encoded pixels", b"CRC!")


NOT_HERE = (
    OSError(errno.EOPNOTSUPP, "this file system"),
    OSError(errno.EINVAL, "this system"),
    NotImplementedError("this Python"),
)


@pytest.mark.parametrize("taken", [None, *NOT_HERE, 0, 5, 14, 16, 18])
def test_whole_however_much_the_system_takes_past_the_cache(tmp_path, monkeypatch, taken):
    asked = []

    def some(descriptor, parts, offset, flags):
        asked.append((offset, flags))
        if isinstance(taken, Exception):
            raise taken
        return os.write(descriptor, b"".join(parts)[:taken])

    monkeypatch.setattr(durable, "_UNCACHED", None if taken is None else DONTCACHE)
    monkeypatch.setattr(os, "pwritev", some, raising=False)
    write_whole(tmp_path / "chunk", *PARTS, synced=False)
    assert asked == ([] if taken is None else [(0, DONTCACHE)])
    assert [path.name for path in tmp_path.iterdir()] == ["chunk"]
    assert (tmp_path / "chunk").read_bytes() == b"".join(PARTS)


def cached_share(path):
    """Return how much of a file is in the page cache."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        pages = (ctypes.c_ubyte * -(-len(mapped) // mmap.PAGESIZE))()
        start = ctypes.c_char.from_buffer(mapped)
        size = ctypes.c_size_t(len(mapped))
        assert ctypes.CDLL(None).mincore(ctypes.byref(start), size, pages) == 0
        del start  # or the file could not be unmapped
    return sum(page & 1 for page in pages) / len(pages)


def test_a_chunk_leaves_the_page_cache_and_what_is_read_again_stays(tmp_path):
    (tmp_path / "tried").touch()
    descriptor = os.open(tmp_path / "tried", os.O_WRONLY)
    try:
        if not durable._written_uncached(descriptor, [b"x"]):
            pytest.skip("this system writes only through its page cache")
    finally:
        os.close(descriptor)
    for name, synced in (("chunk", False), ("metadata", True)):
        write_whole(tmp_path / name, bytes(4 * 2**20), synced=synced)
        durable.sync_files([tmp_path / name], tmp_path)
    assert cached_share(tmp_path / "metadata") == 1
    assert cached_share(tmp_path / "chunk") < 0.5
