"""A file of a known format that nothing reads is called by its name, with what to do."""

import numpy as np
import pytest

from smlmlp_dask import open_channels
from smlmlp_dask.movies.formats.table import FORMATS
from smlmlp_dask.movies.formats.unread import UNREAD

KNOWN = [
    # a name, and what its error says
    ("a.vsi", "cellSens, which is not read: export it from cellSens as OME-TIFF"),
    ("A.OIR", "FluoView, which is not read: export it from FluoView as OME-TIFF"),
    ("a.sld", "SlideBook"),
    ("a.msr", "Imspector"),
    ("a.obf", "Imspector"),
    ("a.his", "HiPic"),
    ("a.cxd", "HCImage"),
    ("a.seq", "none of Norpix's"),
    ("1000000000spool.dat", "pass the whole folder"),
    ("a.lsm", "begins as TIFF does: copy it again"),
    ("a.stk", "begins as TIFF does: copy it again"),
    ("a.mrc", "an MRC file"),
    ("a.dm3", "DigitalMicrograph"),
    ("a.dm4", "DigitalMicrograph"),
    ("a.fits", "a FITS file.*save the frames as a TIFF stack"),
    ("a.mat", "a MATLAB file.*save the frames as a TIFF stack"),
    ("a.mov", "a video.*pass the movie that the camera's program recorded"),
    ("a.avi", "a video"),
    ("a.mp4", "a video"),
    ("a.gif", "a video"),
    ("a.jpg", "a picture.*save the frames as TIFF files in one folder"),
    ("a.png", "a picture"),
    ("a.bmp", "a picture"),
    ("a.xml", "holds no frames: pass the movie itself"),
    ("a.csv", "holds no frames: pass the movie itself"),
    ("movie.tif.gz", "an archive.*unpack it"),
]


@pytest.mark.parametrize(("name", "message"), KNOWN)
def test_a_known_file_is_called_by_its_name(tmp_path, name, message):
    path = tmp_path / name
    path.write_bytes(bytes(5000))
    with pytest.raises(ValueError, match=message) as error:
        open_channels(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("ending", UNREAD)
def test_no_known_file_is_offered_as_headerless(tmp_path, ending):
    path = tmp_path / f"movie{ending}"
    path.write_bytes(bytes(5000))
    with pytest.raises(ValueError, match=": ") as error:
        open_channels(path)
    assert "raw" not in str(error.value).replace(str(path), "")
    assert "\n" not in str(error.value)


def test_who_describes_the_frames_is_believed(tmp_path):
    path = tmp_path / "movie.his"
    movie = np.arange(60, dtype="u2").reshape(3, 4, 5)
    path.write_bytes(bytes(64) + movie.tobytes())
    [channel] = open_channels(path, raw_shape=movie.shape, raw_dtype="u2", raw_header=64)
    np.testing.assert_array_equal(channel.compute(), movie)


def test_a_name_that_says_nothing_may_be_headerless(tmp_path):
    path = tmp_path / "movie.bin"
    path.write_bytes(bytes(5000))
    with pytest.raises(ValueError, match="--raw-shape"):
        open_channels(path)


def test_what_is_read_is_not_listed_as_unread():
    """Formats that look into files leave some of their names to others: SEQ, TIFF."""
    read = {ending for known in FORMATS for ending in known.suffixes} - {"", ".seq"}
    assert not read & UNREAD.keys()
