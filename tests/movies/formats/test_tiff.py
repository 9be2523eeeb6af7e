"""TIFF files of every layout come back pixel by pixel; damaged ones are refused by name."""

import zlib
from itertools import pairwise

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from smlmlp_dask.movies.formats import frames as frames_module
from smlmlp_dask.movies.formats import tiff_folder
from smlmlp_dask.movies.formats.tiff import open as open_recording
from smlmlp_dask.movies.formats.tiff import open_tiffs
from smlmlp_dask.movies.selection import Selection
from smlmlp_dask.movies.stack import SourceReadError, within

from .sets import cut, edited

MOVIE = (np.arange(11 * 9 * 7) * 37 % 4099).astype(np.uint16).reshape(11, 9, 7)
WHOLE = (slice(0, 9), slice(0, 7))


def open_tiff(path, **selection):
    ((stack,),) = Selection.checked(**selection).stacks([open_recording(path)])
    return stack.movie


def write_pages(path, movie, **options):
    made = {key: options.pop(key) for key in ("bigtiff", "byteorder") if key in options}
    with tifffile.TiffWriter(path, **made) as writer:
        for index, frame in enumerate(movie):
            # texts of growing length, so that the pages do not lie at equal distances
            writer.write(frame, metadata=None, software="x" * (index + 5), **options)


LAYOUTS = {
    "little": lambda p: tifffile.imwrite(p, MOVIE, byteorder="<"),
    "big": lambda p: tifffile.imwrite(p, MOVIE, byteorder=">"),
    "bigtiff": lambda p: tifffile.imwrite(p, MOVIE, bigtiff=True, byteorder=">"),
    "imagej": lambda p: tifffile.imwrite(p, MOVIE, imagej=True),
    "imagej one IFD": lambda p: tifffile.imwrite(p, MOVIE, imagej=True, truncate=True),
    "imagej frames": lambda p: tifffile.imwrite(p, MOVIE, imagej=True, metadata={"axes": "TYX"}),
    "ome": lambda p: tifffile.imwrite(p, MOVIE, ome=True, metadata={"axes": "TYX"}),
    "ome z": lambda p: tifffile.imwrite(p, MOVIE, ome=True, metadata={"axes": "ZYX"}),
    "ome tcyx": lambda p: tifffile.imwrite(
        p, MOVIE[:, None], ome=True, metadata={"axes": "TCYX"}, compression="zlib"
    ),
    "5-D": lambda p: tifffile.imwrite(p, MOVIE[:, None, None]),
    "one IFD": lambda p: tifffile.imwrite(p, MOVIE, truncate=True),
    "zlib": lambda p: tifffile.imwrite(p, MOVIE, compression="zlib"),
    "lzw": lambda p: tifffile.imwrite(p, MOVIE, compression="lzw", predictor=True),
    "zstd strips": lambda p: tifffile.imwrite(p, MOVIE, compression="zstd", rowsperstrip=2),
    "tiles": lambda p: tifffile.imwrite(p, MOVIE, tile=(16, 16)),
    "strips": lambda p: tifffile.imwrite(p, MOVIE, rowsperstrip=2),
    "pages": lambda p: write_pages(p, MOVIE),
    "pages of strips": lambda p: write_pages(p, MOVIE, rowsperstrip=2, bigtiff=True),
    "pages of zlib": lambda p: write_pages(p, MOVIE, compression="zlib"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "frames", [range(11), range(3, 9), range(10, -1, -1), range(9, 0, -4), range(5, 6)]
)
def test_every_layout_reads_its_frames(tmp_path, layout, frames):
    path = tmp_path / "movie.tif"
    LAYOUTS[layout](path)
    movie = open_tiff(path)
    assert (movie.shape, movie.dtype, movie.unit) == (MOVIE.shape, np.dtype("u2"), (1, 9, 7))
    part = movie.narrow(min(frames), max(frames) + 1)
    np.testing.assert_array_equal(part.read(frames, *WHOLE), MOVIE[list(frames)])
    box = part.read(frames, slice(2, 5), slice(1, 7))
    np.testing.assert_array_equal(box, MOVIE[list(frames), 2:5, 1:7])
    assert box.dtype.isnative


@pytest.mark.parametrize("dtype", ["u1", ">i2", "<i4", ">u4", "f4", ">f4", "f8", "f2"])
def test_dtypes_in_both_byte_orders(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "movie.tif", MOVIE.astype(dtype), byteorder=">")
    movie = open_tiff(tmp_path / "movie.tif")
    assert movie.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(movie.read(range(11), *WHOLE), MOVIE.astype(dtype))


def test_a_movie_of_one_frame(tmp_path):
    tifffile.imwrite(tmp_path / "movie.tif", MOVIE[:1])
    assert open_tiff(tmp_path / "movie.tif").shape == (1, 9, 7)


def test_a_small_box_of_large_frames_is_read_a_few_frames_at_a_time(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "movie.tif", MOVIE)
    monkeypatch.setattr(frames_module, "BUFFER_BYTES", 3 * MOVIE[0].nbytes)
    box = open_tiff(tmp_path / "movie.tif").read(range(10, 0, -1), slice(0, 2), slice(3, 7))
    np.testing.assert_array_equal(box, MOVIE[10:0:-1, 0:2, 3:7])


@given(
    start=st.integers(0, 20),
    count=st.integers(0, 20),
    step=st.integers(1, 5),
    falling=st.booleans(),
    low=st.integers(-2, 30),
    high=st.integers(-2, 30),
)
def test_within_lists_what_a_loop_finds(start, count, step, falling, low, high):
    frames = range(start, start + count * step, step)
    frames = frames[::-1] if falling else frames
    assert list(within(frames, low, high)) == [n for n in frames if low <= n < high]


@given(data=st.data())
def test_joined_pieces_read_as_one_movie(data):
    counts = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))

    class Counting:
        path = "counting"

        def __init__(self, numbers):
            self.numbers = numbers

        def take(self, frames):
            return Counting([self.numbers[i] for i in frames])

        def read_into(self, out, rows, columns, frame):
            out[:] = np.reshape(self.numbers, (-1, 1, 1))

    edges = np.cumsum([0, *counts])
    movie = frames_module.FileMovie(
        path="joined",
        frame_shape=(1, 1),
        dtype=np.dtype("i8"),
        pieces=tuple(Counting(list(range(a, b))) for a, b in pairwise(edges)),
        counts=tuple(counts),
    )
    total = sum(counts)
    step = data.draw(st.sampled_from([-3, -1, 1, 2]))
    frames = range(total)[data.draw(st.slices(total))][::step] or range(total)
    cut = movie.narrow(min(frames), max(frames) + 1)
    read = cut.read(frames, slice(0, 1), slice(0, 1))
    assert read.ravel().tolist() == list(frames)


# Files that are not one movie of gray frames


def one_by_one(path):
    for frame in MOVIE:
        tifffile.imwrite(path, frame, append=True)


def changed(change, layout, *how):
    """Return what writes a layout, and cuts or edits the file."""

    def build(path):
        LAYOUTS[layout](path)
        change(path, *how)

    return build


def text(content):
    return lambda path: path.write_bytes(content)


REFUSED = {
    "RGB": (
        lambda p: tifffile.imwrite(p, np.zeros((4, 9, 7, 3), "u1"), photometric="rgb"),
        "colour samples",
    ),
    "planar RGB": (
        lambda p: tifffile.imwrite(
            p, np.zeros((3, 9, 7), "u1"), photometric="rgb", planarconfig="separate"
        ),
        "colour samples",
    ),
    "2-D": (lambda p: tifffile.imwrite(p, MOVIE[0]), "one 2-D page .*its folder, or a pattern"),
    "4-D": (
        lambda p: tifffile.imwrite(p, np.zeros((5, 2, 9, 7), "u2")),
        r"\(5, 2, 9, 7\) \(axes QQYX\), not frame, channel, z, y and x",
    ),
    "one by one": (one_by_one, "11 image series in 11 pages.*one stack"),
    "contiguous, cut in the pixels": (
        changed(cut, "one IFD", 0.8),
        "reach to byte .* the file ends at",
    ),
    "contiguous, cut in the pages": (changed(cut, "big", 0.8), "next page that is not in"),
    "compressed, cut": (changed(cut, "zlib", 0.5), "cut short|cannot be read as TIFF"),
    "compressed, end cut": (changed(cut, "zlib", 0.97), "cut short|cannot be read as TIFF"),
    "pages, cut": (changed(cut, "pages", 0.5), "cut short|cannot be read as TIFF"),
    "pages, end cut": (
        changed(cut, "pages", 0.999),
        "reach to byte .* the file ends at",
    ),
    "tiles, end cut": (changed(cut, "tiles", 0.9), "cut short|cannot be read as TIFF"),
    "ImageJ, one IFD, cut": (
        changed(cut, "imagej one IFD", 0.8),
        "cut short: its 11 frames reach to byte 1738, the file ends at 1390; .*--frames 0:8",
    ),
    "ImageJ, another count": (
        changed(edited, "imagej", b"=11\n", b"=10\n"),
        "11 pages.* ImageJ metadata describe 10 frames",
    ),
    "OME, fewer": (
        changed(edited, "ome", b'SizeT="11"', b'SizeT="10"'),
        "11 pages.* OME metadata describe 10 frames",
    ),
    "OME, more": (
        changed(edited, "ome", b'SizeT="11"', b'SizeT="12"'),
        "cut short: 11 of 12 frames .*--frames 0:11",
    ),
    "tifffile, another count": (
        changed(edited, "zlib", b"[11, 9, 7]", b"[10, 9, 7]"),
        "11 pages, but its tifffile metadata describe 10 frames",
    ),
    "not a TIFF": (text(b"hello, world" * 9), "cannot be read as TIFF"),
    "empty": (text(b""), "cannot be read as TIFF"),
    "no pages": (text(b"II*\0" + bytes(4)), "has no image"),
    "damaged page": (text(b"II*\0\x08\0\0\0\xff"), "cannot be read as TIFF|no image"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_path_on_one_line(tmp_path, case):
    build, match = REFUSED[case]
    path = tmp_path / "movie.tif"
    build(path)
    with pytest.raises(ValueError, match=match) as error:
        open_tiff(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_bits_without_a_dtype(tmp_path):
    path = tmp_path / "movie.tif"
    write_pages(path, MOVIE)
    with tifffile.TiffFile(path, mode="r+") as tif:
        for page in tif.pages:
            page.tags["BitsPerSample"].overwrite(128)
    with pytest.raises(ValueError, match="has 128 bits per pixel .*: save it as 16-bit"):
        open_tiff(path)


def test_metadata_that_do_not_tell_a_count(tmp_path):
    path = tmp_path / "movie.tif"
    changed(edited, "zlib", b'{"shape": [11, 9, 7]}', b"shape=(10, 9, 7)     ")(path)
    assert open_tiff(path).shape == MOVIE.shape


# Folders


def joined(*arguments):
    (position,) = open_tiffs(*arguments).positions
    return position.movie(0, 0)


def write_singles(folder, movie, **options):
    for index, frame in enumerate(movie):
        tifffile.imwrite(folder / f"img_{index}.tif", frame, **options)
    return [f"img_{index}.tif" for index in range(len(movie))]


@pytest.mark.parametrize("limit", [2000, 5])
def test_single_pages_are_frames(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(tiff_folder, "MAX_HEADERS", limit)
    names = write_singles(tmp_path, MOVIE, byteorder=">")
    movie = joined("label", tmp_path, names)
    assert (movie.path, movie.shape, movie.dtype) == ("label", MOVIE.shape, np.dtype("u2"))
    np.testing.assert_array_equal(movie.read(range(8, 2, -2), *WHOLE), MOVIE[8:2:-2])


@pytest.mark.parametrize("limit", [2000, 2])
def test_stacks_follow_one_another(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(tiff_folder, "MAX_HEADERS", limit)
    tifffile.imwrite(tmp_path / "m.tif", MOVIE[:4], photometric="minisblack")
    tifffile.imwrite(tmp_path / "m_1.tif", MOVIE[4], compression="zlib")
    write_pages(tmp_path / "m_2.tif", MOVIE[5:], byteorder=">")
    movie = joined("label", tmp_path, ["m.tif", "m_1.tif", "m_2.tif"])
    assert movie.counts == (4, 1, 6)
    np.testing.assert_array_equal(movie.read(range(11), *WHOLE), MOVIE)


@pytest.mark.parametrize(
    ("other", "match"),
    [
        (MOVIE[0, :5], r"img_3\.tif: it holds a page of shape \(5, 7\)"),
        (MOVIE[0].astype("f4"), r"img_3\.tif: it holds a page of .* float32"),
        (MOVIE[:2], r"img_3\.tif: it has more than one page"),
        (None, r"img_3\.tif: "),
    ],
)
def test_pages_that_were_not_looked_at_are_checked_when_read(tmp_path, monkeypatch, other, match):
    monkeypatch.setattr(tiff_folder, "MAX_HEADERS", 5)
    names = write_singles(tmp_path, MOVIE)
    if other is None:
        (tmp_path / "img_3.tif").unlink()
    else:
        tifffile.imwrite(tmp_path / "img_3.tif", other)
    movie = joined("label", tmp_path, names)
    np.testing.assert_array_equal(movie.read(range(4, 11), *WHOLE), MOVIE[4:])
    with pytest.raises(SourceReadError, match=match) as error:
        movie.read(range(2, 6), *WHOLE)
    assert "frames 2-5" in str(error.value)


# Files that change after they were opened


@pytest.mark.parametrize("layout", ["big", "pages", "zlib", "tiles"])
def test_shrunk_files_name_path_and_frames(tmp_path, layout):
    path = tmp_path / "movie.tif"
    LAYOUTS[layout](path)
    movie = open_tiff(path)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(SourceReadError, match=r"frames 4-10 cannot be read") as error:
        movie.read(range(4, 11), *WHOLE)
    assert str(path) in str(error.value)
    path.unlink()
    with pytest.raises(SourceReadError, match="frame 2 cannot be read: .*No such file"):
        movie.read(range(2, 3), *WHOLE)


def test_pixels_past_the_end_are_not_taken_as_zeros(tmp_path):
    path = tmp_path / "movie.tif"
    write_pages(path, MOVIE, predictor=True, compression="zlib")
    movie = open_tiff(path)
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[-1]
        end = page.dataoffsets[0] + page.databytecounts[0]
    content = path.read_bytes()
    if end == len(content):
        path.write_bytes(content[:-2])
    else:
        pytest.skip("the last page's pixels do not end the file in this version of tifffile")
    with pytest.raises(SourceReadError, match="its pixels reach to byte"):
        movie.read(range(11), *WHOLE)


# Pages of one stack that are not laid out as its first page


def change_page(path, index, pixels=b"", **tags):
    """Change what a page says of itself, and put other pixels of it to the end of the file."""
    with tifffile.TiffFile(path, mode="r+") as tif:
        page, end = tif.pages[index].aspage(), tif.filehandle.size
        tif.filehandle.seek(end)
        tif.filehandle.write(pixels)
        places = [end + place - page.dataoffsets[0] for place in page.dataoffsets]
        for name, value in (tags | ({"StripOffsets": places} if pixels else {})).items():
            page.tags[name].overwrite(value, dtype=page.tags[name].dtype)


OTHER = np.full_like(MOVIE[0], 5000)
PACKED = zlib.compress(OTHER.tobytes())
UNLIKE = {
    "compressed": ({}, PACKED, {"Compression": 8, "StripByteCounts": len(PACKED)}),
    "compressed, of as many bytes": ({}, PACKED.ljust(OTHER.nbytes), {"Compression": 8}),
    "elsewhere": ({}, OTHER.tobytes(), {}),
    "strips elsewhere": ({"rowsperstrip": 2}, OTHER.tobytes(), {}),
}


@pytest.mark.parametrize("kind", ["imagej", "ome", "shaped"])
@pytest.mark.parametrize("case", UNLIKE)
@pytest.mark.parametrize("index", [1, 5, 10])
def test_a_page_laid_out_unlike_the_first_is_decoded(tmp_path, kind, case, index):
    path, (options, pixels, tags) = tmp_path / "movie.tif", UNLIKE[case]
    said = {} if kind == "shaped" else {kind: True, "metadata": {"axes": "TYX"}}
    tifffile.imwrite(path, MOVIE, byteorder="<", **options, **said)
    change_page(path, index, pixels, **tags)
    found = open_tiff(path).read(range(11), *WHOLE)
    np.testing.assert_array_equal(found, [*MOVIE[:index], OTHER, *MOVIE[index + 1 :]])


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(
    ("tags", "match"),
    [
        ({"SampleFormat": 1}, r"page 5 has shape \(9, 7\) and dtype uint16, the first"),
        ({"BitsPerSample": 32}, r"page 5 has shape \(9, 7\) and dtype int32, the first"),
        ({"ImageLength": 8}, r"page 5 has shape \(8, 7\) and dtype int16, the first \(9, 7\)"),
    ],
)
def test_a_page_of_another_kind_is_named(tmp_path, compression, tags, match):
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, MOVIE.astype("i2"), byteorder="<", compression=compression)
    change_page(path, 5, **tags)
    with pytest.raises(ValueError, match=match):
        open_tiff(path)


def test_a_page_of_fewer_bytes_is_not_filled_up(tmp_path):
    path = tmp_path / "movie.tif"
    LAYOUTS["imagej"](path)
    change_page(path, 5, StripByteCounts=2)
    with pytest.raises(ValueError, match="page 5 has 2 bytes, a frame takes 126"):
        open_tiff(path)
