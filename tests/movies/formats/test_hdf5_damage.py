"""HDF5 files that are cut short, damaged or half written name what is lost; the rest is read."""

import numpy as np
import pytest

from smlmlp_dask.lazy.channels import open_channels
from smlmlp_dask.movies.stack import SourceReadError

from .contract import stacks

h5py = pytest.importorskip("h5py", reason="the extra hdf5 is not installed")

MOVIE = (np.arange(11 * 9 * 6) * 37 % 4099).astype(np.uint16).reshape(11, 9, 6)
LAYOUTS = {
    "contiguous": {},
    "gzip tiles": {"chunks": (3, 4, 4), "compression": 9, "shuffle": True},
    "checksums": {"chunks": (2, 5, 6), "compression": 1, "fletcher32": True},
}


def write(path, movie=MOVIE, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=movie, **options)
    return path


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("chunk", [(1, 9, 6), (3, 9, 6), (3, 5, 6)])
def test_frames_that_were_never_written(tmp_path, compression, chunk):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("a", MOVIE.shape, "u2", chunks=chunk, compression=compression)
        dataset[:6] = MOVIE[:6]
        dataset[9:] = MOVIE[9:]
    with pytest.raises(ValueError, match="cut short: only the first 6 of its 11 frames were ever"):
        open_channels(path)
    (stack,) = stacks(path, frames=slice(0, 6))
    np.testing.assert_array_equal(stack.read(), MOVIE[:6])


def test_a_dataset_without_pixels(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", MOVIE.shape, "u2")
    with pytest.raises(ValueError, match="only the first 0 of its 11 frames were ever written"):
        open_channels(tmp_path / "a.h5")


def test_a_movie_without_frames(tmp_path):
    path = write(tmp_path / "a.h5", MOVIE[:0], chunks=(1, 9, 6), maxshape=(None, 9, 6))
    (channel,) = open_channels(path)
    assert channel.compute().shape == (0, 9, 6)


@pytest.mark.parametrize("content", [b"", b"CDF\x01 some other format", b"\x0e\x03\x13\x01"])
def test_files_of_another_kind(tmp_path, content):
    (tmp_path / "a.hdf").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"a\.hdf cannot be read as HDF5: .*; copy the file again, or"
    ):
        open_channels(tmp_path / "a.hdf")


def test_a_file_cut_short(tmp_path):
    path = write(tmp_path / "a.h5")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"a\.h5 cannot be read as HDF5: .*truncated"):
        open_channels(path)


@pytest.mark.parametrize("layout", ["contiguous", "gzip tiles", "checksums"])
def test_a_file_cut_short_after_it_was_opened(tmp_path, layout):
    path = write(tmp_path / "a.h5", **LAYOUTS[layout])
    (stack,) = stacks(path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(SourceReadError, match=r"a\.h5.*: frames 0-10 cannot be read: .*changed"):
        stack.read()


def test_a_damaged_chunk_names_its_frames(tmp_path):
    path = write(tmp_path / "a.h5", chunks=(2, 9, 6), compression="gzip")
    with h5py.File(path) as file:
        chunk = file["data"].id.get_chunk_info(2)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + 4 : chunk.byte_offset + 40] = b"\xff" * 36
    path.write_bytes(content)
    (stack,) = stacks(path, frames=slice(4, 6))
    with pytest.raises(SourceReadError, match=r"a\.h5::/data: frames 4-5 cannot be read"):
        stack.read()
    (stack,) = stacks(path, frames=slice(0, 4))
    np.testing.assert_array_equal(stack.read(), MOVIE[:4])


def test_a_dataset_that_was_replaced(tmp_path):
    path = write(tmp_path / "a.h5", chunks=(2, 9, 6), compression="gzip")
    (stack,) = stacks(path)
    path.unlink()
    write(path, MOVIE.astype("i4"), chunks=(2, 9, 6), compression="gzip")
    with pytest.raises(SourceReadError, match="dtype int32 where .* uint16 are due"):
        stack.read()
