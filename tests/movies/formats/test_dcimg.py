"""DCIMG: pixels, threads, what is missing, what is refused.

The files are made by hand (`hamamatsu.py`), after what is known of the format.
"""

import numpy as np
import pytest

from smlmlp_dask import open_channels
from smlmlp_dask.movies.opening import open_recording
from tests.movies.formats.contract import assert_reads
from tests.movies.formats.hamamatsu import write_dcimg, write_dcimg7

pytest.importorskip("openreadout", reason="openreadout, which reads DCIMG, is missing")

MOVIE = (100 + np.arange(11 * 12 * 16) * 37 % 4099).astype(np.uint16).reshape(11, 12, 16)

CASES = [
    ("a.dcimg", write_dcimg, {}),
    ("a.dcimg", write_dcimg, {"row": 7}),  # four pixels of this row lie elsewhere
    ("a.DCIMG", write_dcimg, {"row": 0}),
    ("a.dcimg", write_dcimg7, {}),
    ("a.dcimg", write_dcimg7, {"row": 7, "padding": 8}),
]


@pytest.mark.parametrize(("name", "write", "options"), CASES)
def test_every_part_is_read_right(tmp_path, name, write, options):
    assert_reads(write(tmp_path / name, MOVIE, **options), MOVIE)


@pytest.mark.parametrize("write", [write_dcimg, write_dcimg7])
def test_an_aborted_dcimg(tmp_path, write):
    path = write(tmp_path / "a.dcimg", MOVIE)
    start = path.read_bytes().index(MOVIE[8].tobytes())
    path.write_bytes(path.read_bytes()[: start + 200])
    with pytest.raises(ValueError, match=r"cut short: .* 11 frames, 8 .*--frames 0:8.*--salvage"):
        open_channels(path)
    [channel] = open_channels(path, frames=slice(2, 8))
    np.testing.assert_array_equal(channel.compute(), MOVIE[2:8])
    with pytest.warns(UserWarning, match="8 of 11 frames"):
        [channel] = open_channels(path, salvage=True)
    np.testing.assert_array_equal(channel.compute(), MOVIE[:8])


@pytest.mark.parametrize("write", [write_dcimg, write_dcimg7])
def test_a_dcimg_says_when_its_frames_were_taken(tmp_path, write):
    [position] = open_recording(write(tmp_path / "a.dcimg", MOVIE)).positions
    assert position.channels[0].to_attributes() == {"frame_interval_s": 0.25}


def test_frames_that_the_camera_dropped_are_told(tmp_path):
    path = write_dcimg(tmp_path / "a.dcimg", MOVIE, counters=[*range(10), 14])
    with pytest.warns(UserWarning, match="counted 15 frames, and 11 were written"):
        open_channels(path)


REFUSED = [
    # a row has been written over, and its pixels are nowhere
    ({"row": 7, "told": False}, "does not say where the pixels are kept .* export it .* as TIFF"),
    ({"stride": 0}, "a DCIMG of a kind that is not known .* export it .* as TIFF"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_a_dcimg_of_unknown_layout_is_refused(tmp_path, options, message):
    path = write_dcimg(tmp_path / "a.dcimg", MOVIE, **options)
    with pytest.raises(ValueError, match=message):
        open_channels(path)


def test_a_dcimg_of_8_bits_is_refused(tmp_path):
    path = write_dcimg(tmp_path / "a.dcimg", MOVIE.astype("u1"))
    with pytest.raises(ValueError, match="pixels of uint8, and DCIMG is read with 16 bits only"):
        open_channels(path)


def test_a_damaged_file_is_refused_in_one_line(tmp_path):
    path = tmp_path / "a.dcimg"
    path.write_bytes(b"DCIMG\0\0\0" + bytes(500))
    with pytest.raises(ValueError, match="cannot be read: .*; copy it again") as error:
        open_channels(path)
    assert "\n" not in str(error.value)
