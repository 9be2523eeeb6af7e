"""Movies of cameras: pixels, boxes, threads, aborted recordings, and what is refused.

The files are made by hand (`cameras.py`), after files that the cameras' own programs wrote.
"""

import re
from importlib.util import find_spec

import numpy as np
import pytest

from smlmlp_dask import open_channels
from smlmlp_dask.movies.formats.sif import read_header
from smlmlp_dask.movies.formats.spool import spool_name
from smlmlp_dask.movies.opening import open_recording, open_stacks, source_roots
from smlmlp_dask.movies.selection import Selection
from smlmlp_dask.movies.stack import SourceReadError
from tests.movies.formats.cameras import (
    put,
    write_cine,
    write_seq,
    write_sif,
    write_spe,
    write_spe3,
    write_spool,
)
from tests.movies.formats.contract import assert_reads

MOVIE = (np.arange(11 * 9 * 7) * 37 % 4099).astype(np.uint16).reshape(11, 9, 7)

needs_sif = pytest.mark.skipif(
    find_spec("sif_parser") is None, reason="sif_parser, which reads Andor's headers, is missing"
)


def sif(*values):
    return pytest.param(*values, marks=needs_sif)


CAMERAS = [
    # name of the file, its writer, the pixels, what the writer does
    ("a.spe", write_spe, MOVIE, {}),
    ("a.SPE", write_spe, MOVIE.astype("f4") / 7, {}),
    ("a.spe", write_spe, MOVIE.astype("i2") - 900, {}),
    ("a.spe", write_spe3, MOVIE, {}),
    ("a.spe", write_spe3, MOVIE.astype("u4") * 99, {"stamps": 24}),
    ("a.seq", write_seq, MOVIE, {}),
    ("a.seq", write_seq, MOVIE.astype("u1"), {"version": 4}),
    ("a.cine", write_cine, MOVIE, {}),
    ("a.cine", write_cine, MOVIE.astype("u1"), {"top_down": True, "gap": 3}),
    ("a.cine", write_cine, MOVIE, {"annotations": (8, 24, 9)}),
    sif("a.sif", write_sif, MOVIE.astype("f4"), {}),
    sif("spool", write_spool, MOVIE, {}),
    sif("spool", write_spool, MOVIE.astype("u4"), {"padding": 5, "in_file": 1}),
    sif("spool", write_spool, MOVIE.astype("u1"), {"footer": 0, "in_file": 20}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "write", "movie", "options"), CAMERAS)
def test_every_part_is_read_right(tmp_path, name, write, movie, options):
    path = write(tmp_path / name, movie, **options)
    assert_reads(path, movie)
    lines = open_recording(path).positions[0].movie(0, 0)
    np.testing.assert_array_equal(
        lines.read(range(3, 6), slice(1, 8, 3), slice(0, 7, 2)), movie[3:6, 1:8:3, ::2]
    )


ABORTED = [
    # of a file of 11 frames, bytes that are cut off its end, and the whole frames left
    ("a.spe", write_spe, {}, 1, 10),
    ("a.spe", write_spe, {}, 3 * 126, 8),
    ("a.spe", write_spe, {"frames": 12}, 0, 11),
    ("a.seq", write_seq, {}, 226 * 2 - 50, 9),
    ("a.cine", write_cine, {}, 4, 10),
    ("a.cine", write_cine, {"annotations": (8, 24, 9)}, 126 + 24 + 1, 9),
    sif("a.sif", write_sif, {}, 8 + 1, 10),
    sif("a.sif", write_sif, {}, 8 + 4 * 252, 7),
    sif("spool", write_spool, {"frames": 13}, 0, 11),
    sif("spool", write_spool, {}, -1, 8),  # without the last file
]


@pytest.mark.parametrize(("name", "write", "options", "cut", "whole"), ABORTED)
def test_an_aborted_recording(tmp_path, name, write, options, cut, whole):
    path = write(tmp_path / name, MOVIE, **options)
    if path.is_file():
        path.write_bytes(path.read_bytes()[: path.stat().st_size - cut])
    elif cut:
        (path / spool_name(2)).unlink()
    promised = options.get("frames", 11)
    expected = rf"is cut short: .*{promised} frames.*{whole} .*\(--frames 0:{whole}\).*--salvage"
    with pytest.raises(ValueError, match=expected):
        open_channels(path)
    [channel] = open_channels(path, frames=slice(1, whole))
    np.testing.assert_array_equal(channel.compute(), MOVIE[1:whole])
    with pytest.warns(UserWarning, match=f"{whole} of {promised} frames"):
        [channel] = open_channels(path, salvage=True)
    np.testing.assert_array_equal(channel.compute(), MOVIE[:whole])


METADATA = [
    ("a.spe", write_spe, {"exposure_s": 0.5}, {"exposure_s": 0.5}),
    ("a.spe", write_spe, {}, {}),
    ("a.spe", write_spe3, {}, {"exposure_s": 0.025, "frame_interval_s": 0.05}),
    # the sum of two exposures
    ("a.spe", write_spe3, {"combined": 2}, {"exposure_s": 0.05, "frame_interval_s": 0.1}),
    # frames come when an outer trigger says so, not at the rate of the camera
    ("a.spe", write_spe3, {"trigger": "ReadoutPerTrigger"}, {"exposure_s": 0.025}),
    ("a.seq", write_seq, {}, {"frame_interval_s": 0.05}),
    ("a.seq", write_seq, {"version": 4}, {"frame_interval_s": 0.05}),
    ("a.cine", write_cine, {}, {"exposure_s": 2**-10, "frame_interval_s": 0.002}),
    # three cycles of 10 ms are accumulated
    sif("a.sif", write_sif, {}, {"exposure_s": 0.03, "frame_interval_s": 0.0625}),
    sif("spool", write_spool, {}, {"exposure_s": 0.03, "frame_interval_s": 0.0625}),
    # the time of one cycle, not of the three
    sif("a.sif", write_sif, {"cycle": 0.02}, {"exposure_s": 0.03}),
]


@pytest.mark.parametrize(("name", "write", "options", "expected"), METADATA)
def test_how_it_was_recorded(tmp_path, name, write, options, expected):
    path = write(tmp_path / name, MOVIE, **options)
    [position] = open_recording(path).positions
    assert position.channels[0].to_attributes() == pytest.approx(expected, rel=1e-6)


def test_regions_of_lightfield_are_positions(tmp_path):
    small = MOVIE[:, :4, :3] + 5000
    path = write_spe3(tmp_path / "a.spe", MOVIE, small, stamps=16)
    with pytest.raises(ValueError, match=r"2 positions \(0: region 0, 1: region 1\)"):
        open_channels(path)
    for number, movie in enumerate((MOVIE, small)):
        [channel] = open_channels(path, position=number)
        np.testing.assert_array_equal(channel.compute(), movie)


@pytest.mark.parametrize(
    ("write", "name", "frames", "note"),
    [
        (write_spe, "a.spe", 0, "does not count its frames; 11 fit"),
        (write_spe, "a.spe", 4, "counts 4 frames, which are taken, and 11 fit"),
        (write_seq, "a.seq", 0, "does not count its frames; 11 fit"),
        (write_seq, "a.seq", 4, "counts 4 frames, which are taken, and 11 fit"),
        sif(write_spool, "spool", 4, "promises 4 frames, which are taken, in 1 files; 3 are"),
    ],
)
def test_a_header_that_counts_too_few_frames_is_told(tmp_path, write, name, frames, note):
    path = write(tmp_path / name, MOVIE, frames=frames)
    with pytest.warns(UserWarning, match=note):
        [channel] = open_channels(path)
    np.testing.assert_array_equal(channel.compute(), MOVIE[: frames or 11])


@needs_sif
def test_pixels_that_are_no_counts_are_told(tmp_path):
    path = write_sif(tmp_path / "a.sif", MOVIE, pixels="Counts (Bg corrected)")
    with pytest.warns(UserWarning, match=r"'Counts \(Bg corrected\)', not the camera's counts"):
        [channel] = open_channels(path)
    np.testing.assert_array_equal(channel.compute(), MOVIE)


def damaged(offset, form, *values):
    """Return a writer of SPE version 2 that then spoils its header."""

    def write(path, movie):
        content = bytearray(write_spe(path, movie).read_bytes())
        put(content, offset, form, *values)
        path.write_bytes(content)
        return path

    return write


def short(write, length):
    """Return a writer whose files are cut to a length."""

    def cut(path, movie):
        path.write_bytes(write(path, movie).read_bytes()[:length])
        return path

    return cut


REFUSED = [
    ("a.spe", short(write_spe, 4000), {}, "has 4000 bytes.* 4100 of header: copy the file again"),
    ("a.spe", damaged(108, "h", 77), {}, "9 x 7 pixels of type 77; copy the file again"),
    ("a.spe", damaged(42, "H", 0), {}, "9 x 0 pixels"),
    ("a.spe", write_spe, {"regions": 2}, "2 regions .* save each as a movie of its own"),
    ("a.spe", short(write_spe3, 5000), {}, "lacks the XML text .* export it from LightField"),
    ("a.spe", short(write_spe3, 6000), {}, "is not read .* export it from LightField as TIFF"),
    ("a.spe", write_spe3, {"blocks": 2}, "a region of .* export it from LightField as TIFF"),
    ("a.seq", short(write_seq, 900), {}, "ends within its header: copy the file again"),
    ("a.seq", write_seq, {"compression": 1}, "compression 1: export it from StreamPix"),
    ("a.seq", write_seq, {"pixels": 101}, "pixel format 101 .* export it from StreamPix"),
    ("a.seq", write_seq, {"origin": 3}, "begins at frame 3: save it .* in the order of time"),
    ("a.cine", short(write_cine, 30), {}, "does not begin as a CINE file does"),
    ("a.cine", short(write_cine, 400), {}, "ends within its header: copy the file again"),
    ("a.cine", write_cine, {"packing": 256}, "packing 256: save it .* as an unpacked gray cine"),
    ("a.cine", write_cine, {"compression": 2}, "compression 2 and packing 0: save it"),
    sif("a.sif", short(write_sif, 300), {}, "no header of a SIF .* copy the file again"),
    sif("a.sif", write_sif, {"tracks": 2}, "2 tracks in each frame: export each"),
    sif("spool", write_spool, {"encoding": "Mono12Packed"}, "Mono12Packed: record Mono16"),
    sif("spool", write_spool, {"width": "7 px"}, "acqui.*ini does not say how frames lie .*'7 px'"),
    sif("spool", write_spool, {"width": 6}, "9 x 7 pixels by .*sifx, 9 x 6 by acqui"),
]


@pytest.mark.parametrize(("name", "write", "options", "message"), REFUSED)
def test_what_cannot_be_read_right_is_refused_in_one_line(tmp_path, name, write, options, message):
    path = write(tmp_path / name, MOVIE, **options)
    with pytest.raises(ValueError, match=message) as error:
        open_channels(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    assert "raw_shape" not in str(error.value)


@needs_sif
def test_a_sif_whose_pixels_lie_elsewhere_is_refused(tmp_path):
    """A version that the library does not know would move all pixels by some bytes."""
    path = write_sif(tmp_path / "a.sif", MOVIE)
    content = path.read_bytes()
    start = read_header(path)["offset"]
    path.write_bytes(content[:start] + b"  42\n" + content[start:])
    with pytest.raises(ValueError, match="version 65564 whose frames do not end where"):
        open_channels(path)


@needs_sif
@pytest.mark.parametrize(
    ("lost", "message"),
    [
        (spool_name(1), "lacks 1000000000spool.dat, though it has 2 files of frames: copy"),
        ("Spooled files.sifx", "holds 0 .sifx headers, not one: copy the whole folder again"),
        ("acquisitionmetadata.ini", "lacks acquisitionmetadata.ini: copy the whole folder again"),
    ],
)
def test_a_spool_folder_that_lacks_a_file(tmp_path, lost, message):
    folder = write_spool(tmp_path / "spool", MOVIE)
    (folder / lost).unlink()
    with pytest.raises(ValueError, match=message):
        open_channels(folder)


@needs_sif
@pytest.mark.parametrize("size", [0, 663, 999])
def test_a_spool_file_within_that_is_not_whole_or_of_another_recording(tmp_path, size):
    folder = write_spool(tmp_path / "spool", MOVIE)
    (folder / spool_name(1)).write_bytes(bytes(size))
    with pytest.raises(ValueError, match=f"1000000000spool.dat has {size} bytes, and 664 are due"):
        open_channels(folder)


@needs_sif
def test_a_spool_folder_by_its_header(tmp_path):
    folder = write_spool(tmp_path / "spool", MOVIE)
    header = folder / "Spooled files.sifx"
    [channel] = open_channels(header)
    np.testing.assert_array_equal(channel.compute(), MOVIE)
    assert source_roots(header) == source_roots(folder) == [folder]


@needs_sif
def test_a_spool_file_that_has_gone_is_named(tmp_path):
    folder = write_spool(tmp_path / "spool", MOVIE)
    [stack] = open_stacks(folder, selection=Selection())
    (folder / spool_name(2)).unlink()
    with pytest.raises(SourceReadError, match=re.escape(spool_name(2))):
        stack.read()


@pytest.mark.parametrize(("name", "write"), [("a.sif", write_sif), ("spool", write_spool)])
def test_a_reader_that_is_not_installed_is_named(tmp_path, monkeypatch, name, write):
    monkeypatch.setattr("smlmlp_dask.movies.formats.table.find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r"pip install .*\[sif\]'"):
        open_channels(write(tmp_path / name, MOVIE))
