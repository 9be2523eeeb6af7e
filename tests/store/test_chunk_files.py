"""Chunks written by us are those that Zarr would write, byte for byte, or are not there."""

import errno
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from smlmlp_dask.store.chunk_files import (
    ChunkFiles,
    chunk_path,
    fill_value,
    is_whole,
    stored_checksum,
)
from smlmlp_dask.store.codecs import Codec, Storage

CHUNKS = (2, 3, 5)
BOX = (slice(2, 4), slice(3, 6), slice(0, 5))
CODECS = get_args(Codec)


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


@pytest.mark.parametrize(
    ("codec", "raw", "stands_for"),
    [
        ("fast", False, FAST),
        ("fast", True, ("lz4", 5, "bitshuffle", 2**18)),
        ("small", False, SMALL),
        ("small", True, SMALL),
        ("none", False, None),
        ("none", True, None),
    ],
)
def test_a_name_stands_for_what_it_always_did(codec, raw, stands_for):
    """Stores record only the name: another meaning would give resumed stores other bytes."""
    first = Storage(codec, None, raw).compressors()[0].to_dict()
    settings = first.get("configuration")
    keys = ("cname", "clevel", "shuffle", "blocksize")
    assert (settings and tuple(settings[key] for key in keys)) == stands_for


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


@pytest.mark.parametrize("step", ["writelines", "replace"])
def test_what_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch, step):
    writer = ChunkFiles(tmp_path / "a", CHUNKS, Storage.checked("fast", None))
    first = writer.write(BOX, np.zeros(CHUNKS, np.float32))
    before = files(tmp_path / "a")

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    if step == "replace":
        monkeypatch.setattr(Path, "replace", fail)
    else:
        opened = Path.open

        class Full:
            """A file that takes a few bytes and then no more."""

            def __init__(self, file):
                self.file = file

            def __enter__(self):
                return self

            def __exit__(self, *_):
                self.file.close()

            def writelines(self, parts):
                self.file.write(next(iter(parts))[:7])
                fail()

        monkeypatch.setattr(Path, "open", lambda self, *mode: Full(opened(self, *mode)))
    with pytest.raises(OSError, match="No space left"):
        writer.write(BOX, np.ones(CHUNKS, np.float32))
    monkeypatch.undo()
    assert files(tmp_path / "a") == before
    assert is_whole(chunk_path(tmp_path / "a", (1, 1, 0)), first)
