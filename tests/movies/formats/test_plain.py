"""Headerless movies between a header and a footer: every byte of the file is accounted for."""

import numpy as np
import pytest

from smlmlp_dask.lazy.channels import open_channels

from .contract import assert_reads, stacks
from .written import write as written

MOVIE = (np.arange(11 * 9 * 6) * 37 % 4099).astype(np.uint16).reshape(11, 9, 6)
RAW = {"raw_shape": MOVIE.shape, "raw_dtype": ">u2"}


def write(path, header, footer, cut=0):
    pixels = MOVIE.astype(">u2").tobytes()
    path.write_bytes(b"\xff" * header + pixels[: len(pixels) - cut] + b"\xee" * footer)
    return path


@pytest.mark.parametrize(("header", "footer"), [(0, 0), (1, 0), (512, 0), (0, 7), (4100, 108)])
def test_a_header_and_a_footer(tmp_path, header, footer):
    path = write(tmp_path / "a movie.bin", header, footer)
    assert_reads(path, MOVIE, **RAW, raw_header=header, raw_footer=footer)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "has 1288 bytes, .* takes 1188: check the frame's sizes"),
        ({"raw_header": 64}, "takes 1252: check the frame's sizes"),
        ({"raw_footer": 36}, "takes 1224: check"),
        ({"raw_header": 64, "raw_footer": 37}, "takes 1289: check"),
        ({"raw_header": 1289}, "has 1288 bytes"),
        ({"raw_header": 64, "raw_footer": 36, "raw_shape": (10, 9, 6)}, r"pass raw_shape=\(11, 9"),
        ({"raw_header": -1}, "raw_header=-1"),
    ],
)
def test_sizes_that_do_not_fit(tmp_path, options, match):
    path = write(tmp_path / "a.bin", 64, 36)
    with pytest.raises(ValueError, match=match):
        open_channels(path, **RAW | options)


def test_a_movie_cut_short_behind_a_header(tmp_path):
    path = write(tmp_path / "a.bin", 64, 0, cut=2 * 108)
    with pytest.raises(ValueError, match=r"cut short: .* pass raw_shape=\(9, 9, 6\)"):
        open_channels(path, **RAW, raw_header=64)
    (stack,) = stacks(path, **RAW, raw_header=64, frames=slice(0, 9))
    np.testing.assert_array_equal(stack.read(), MOVIE[:9])


@pytest.mark.parametrize("name", ["NumPy", "DAX", "Picasso"])
def test_a_described_movie_cut_short(tmp_path, name):
    """And one that is longer than its description, such as a file of two arrays."""
    ((path,), _) = written(name, tmp_path, MOVIE)
    content = path.read_bytes()
    path.write_bytes(content[:-9])
    with pytest.raises(ValueError, match=rf"{path.name} is cut short: .* describes \(11, 9, 6\)"):
        open_channels(path)
    with pytest.warns(UserWarning, match="10 of 11 frames are taken"):
        (stack,) = stacks(path, salvage=True)
    np.testing.assert_array_equal(stack.read(), MOVIE[:10])
    path.write_bytes(content * 2)
    with pytest.raises(
        ValueError, match=rf"does not fit its description: it has {2 * len(content)}"
    ):
        open_channels(path)


def test_a_header_needs_a_layout(tmp_path):
    path = write(tmp_path / "a.bin", 64, 0)
    with pytest.raises(ValueError, match="raw_header or raw_footer is given without raw_shape"):
        open_channels(path, raw_header=64)
