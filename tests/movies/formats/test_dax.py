"""DAX with its `.inf`: x comes before y there; what the description lacks is not guessed."""

import re

import numpy as np
import pytest

from smlmlp_dask.lazy.channels import open_channels
from smlmlp_dask.movies.formats.table import format_of
from smlmlp_dask.movies.opening import source_roots

from .contract import assert_reads

MOVIE = (np.arange(11 * 9 * 6) * 37 % 4099).astype(np.uint16).reshape(11, 9, 6)
INF = """\
binning = 1 x 1
data type = 16 bit integers (binary, big endian)
frame dimensions = 6 x 9
number of frames = 11
Lock Target = 0.0
x_start = 1
x_end = 6
"""


def write(path, text=INF, order=">"):
    MOVIE.astype(f"{order}u2").tofile(path)
    path.with_suffix(".inf").write_text(text)
    return path


def read_as_storm_analysis(path):
    """Read as the reader of storm-analysis does, frame by frame."""
    text = path.with_suffix(".inf").read_text()
    width, height = map(int, re.search(r"frame dimensions = ([\d]+) x ([\d]+)", text).groups())
    frames = int(re.search(r"number of frames = ([\d]+)", text).group(1))
    movie = np.fromfile(path, "uint16").reshape(frames, height, width)
    return movie.byteswap() if " big endian" in text else movie


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_pixels_in_both_byte_orders(tmp_path, order, newline):
    text = INF.replace("big", order).replace("\n", newline)
    path = write(tmp_path / "a movie.dax", text, ">" if order == "big" else "<")
    expected = read_as_storm_analysis(path)
    np.testing.assert_array_equal(expected, MOVIE)
    assert_reads(path, expected)
    assert source_roots(path) == [path, tmp_path / "a movie.inf"]


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("frame dimensions = 6 x 9\n", "", "has 0 lines such as 'frame dimensions = 256 x 256'"),
        ("number of frames = 11\n", "", "has 0 lines such as 'number of frames"),
        ("number of frames = 11", "number of frames = 11\nnumber of frames = 12", "has 2 lines"),
        ("data type = 16 bit integers (binary, big endian)", "", "0 lines such as 'data type"),
        ("(binary, big endian)", "(binary)", r"has data type = '16 bit integers \(binary\)', not"),
        ("16 bit", "32 bit", "has data type = '32 bit integers"),
        ("= 11", "= 0", r"describes \(0, 9, 6\)"),
        ("6 x 9", "6 x 8", "does not fit its description"),
    ],
)
def test_descriptions_that_do_not_fit(tmp_path, old, new, match):
    assert old in INF
    path = write(tmp_path / "a.dax", INF.replace(old, new))
    with pytest.raises(ValueError, match=match) as error:
        open_channels(path)
    assert "\n" not in str(error.value)


def test_without_description_it_is_headerless(tmp_path):
    path = write(tmp_path / "a.dax")
    path.with_suffix(".inf").unlink()
    assert format_of(path) is None
    (channel,) = open_channels(path, raw_shape=MOVIE.shape, raw_dtype=">u2")
    np.testing.assert_array_equal(channel.compute(), MOVIE)
