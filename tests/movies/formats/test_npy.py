"""NumPy files are read as NumPy reads them, from their bytes; what is no movie is refused."""

import numpy as np
import pytest

from smlmlp_dask.lazy.channels import open_channels
from smlmlp_dask.movies.opening import source_roots

from .contract import assert_reads

MOVIE = (np.arange(11 * 9 * 6) * 37 % 4099).astype(np.uint16).reshape(11, 9, 6)


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "u1", ">i4", "<f4", ">f8", "<f2"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_pixels_in_both_byte_orders(tmp_path, dtype, version):
    path = tmp_path / "a movie.NPY"
    with path.open("wb") as file:
        np.lib.format.write_array(file, MOVIE.astype(dtype), version=version)
    with path.open("rb") as file:
        expected = np.lib.format.read_array(file)
    assert expected.dtype == np.dtype(dtype)
    assert_reads(path, expected)
    assert source_roots(path) == [path]


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("an object was unpickled",))


BAD = [
    (MOVIE[0], ValueError, r"has shape \(9, 6\), not \(frame, y, x\)"),
    (MOVIE[:, None], ValueError, r"has shape \(11, 1, 9, 6\), not"),
    (MOVIE[:, :0], ValueError, "without pixels"),
    (np.asfortranarray(MOVIE), ValueError, r"Fortran order.* np\.ascontiguousarray"),
    (np.full((1, 2, 2), Trap(), object), TypeError, "has dtype object"),
    (MOVIE > 5, TypeError, "has dtype bool"),
    (MOVIE.astype("c8"), TypeError, "has dtype complex64"),
    (MOVIE.view("u1,u1"), TypeError, r"has dtype \["),
]


@pytest.mark.parametrize(("array", "kind", "match"), BAD)
def test_arrays_that_are_no_movie(tmp_path, array, kind, match):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(kind, match=match):
        open_channels(tmp_path / "a.npy")


@pytest.mark.parametrize("size", [0, 5, 60])
def test_a_header_cut_short(tmp_path, size):
    np.save(tmp_path / "a.npy", MOVIE)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:size])
    with pytest.raises(ValueError, match=r"a\.npy has no header that NumPy can read: .*np\.save$"):
        open_channels(tmp_path / "a.npy")


@pytest.mark.parametrize("byte", [b"\x01", b"'", b"(", b"\xff", b"\\"])
@pytest.mark.parametrize("place", [10, 40, 70])
def test_a_damaged_header(tmp_path, byte, place):
    np.save(tmp_path / "a.npy", MOVIE)
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[:place] + byte + content[place + 1 :])
    with pytest.raises(ValueError, match=r"a\.npy has no header that NumPy can read: .*np\.save$"):
        open_channels(tmp_path / "a.npy")


def test_an_archive_names_the_remedy(tmp_path):
    np.savez(tmp_path / "a.npz", movie=MOVIE)
    with pytest.raises(ValueError, match=r"a\.npz is an archive of arrays: .*np\.load"):
        open_channels(tmp_path / "a.npz")


def test_a_movie_without_frames(tmp_path):
    np.save(tmp_path / "a.npy", MOVIE[:0])
    (channel,) = open_channels(tmp_path / "a.npy")
    assert channel.compute().shape == (0, 9, 6)
