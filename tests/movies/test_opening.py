"""What `open_channels` opens is what is on disk, lazily, and what it refuses it names."""

import json
import pickle
from pathlib import Path

import cloudpickle
import dask
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from smlmlp_dask.lazy import reads as lazy
from smlmlp_dask.lazy.channels import open_channels
from smlmlp_dask.movies import stack
from smlmlp_dask.movies.formats import zarr_movie
from smlmlp_dask.movies.opening import open_stacks, source_roots
from smlmlp_dask.movies.selection import Selection
from smlmlp_dask.movies.stack import SourceReadError
from tests import strategies

MOVIE = (np.arange(11 * 9 * 7) * 37 % 4099).astype(np.uint16).reshape(11, 9, 7)
RAW = {"raw_shape": MOVIE.shape, "raw_dtype": ">u2"}
DATA = Path(__file__).parents[3] / "shared" / "data"

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no example movies at {DATA}")


def write_raw(path, movie=MOVIE):
    movie.astype(">u2").tofile(path)
    return path


def write_zarr(path, movie=MOVIE, chunks=(3, 9, 7), **options):
    array = zarr.create_array(path, data=movie, chunks=chunks, **options)
    assert array.shape == movie.shape
    return path


def write_ome(path, movie, axes, *, version="0.5", dataset="0", **options):
    """An OME-Zarr image, with a smaller level beside the full resolution."""
    entry = [
        {"path": name, "coordinateTransformations": [{"type": "scale", "scale": [1.0] * len(axes)}]}
        for name in (dataset, "small")
    ]
    multiscales = [{"axes": [{"name": name} for name in axes], "datasets": entry}]
    image = {"multiscales": multiscales, "version": version}
    attributes = {"ome": image} if version == "0.5" else image
    zarr_format = 3 if version == "0.5" else 2
    group = zarr.create_group(path, attributes=attributes, zarr_format=zarr_format)
    options = {"chunks": (*(1,) * (movie.ndim - 2), *movie.shape[-2:]), **options}
    if ".." not in dataset and not dataset.startswith("/"):
        group.create_array(dataset, data=movie, **options)
    group.create_array("small", data=movie[..., ::2, ::2])
    return path


def open_one(*args, **kwargs):
    (channel,) = open_channels(*args, **kwargs)
    assert channel._meta.dtype == channel.dtype
    return channel


def assert_reads(channel, expected):
    """The stack computes to these pixels, block by block as it says."""
    assert channel.shape == expected.shape
    assert channel.dtype.isnative
    with dask.config.set(scheduler="synchronous"):
        computed = channel.compute()
        assert computed.dtype == channel.dtype
        np.testing.assert_array_equal(computed, expected)
        shapes = [block.shape for block in dask.compute(*channel.to_delayed().ravel())]
    assert shapes == [tuple(map(len, place)) for place in _places(channel.chunks)]


def _places(chunks):
    return [(range(t), range(y), range(x)) for t in chunks[0] for y in chunks[1] for x in chunks[2]]


# Formats


ZARRS = {
    "v3": {},
    "v2": {"zarr_format": 2},
    "v2 big-endian": {"movie": MOVIE.astype(">u2"), "zarr_format": 2},
    "v3 big-endian": {"serializer": zarr.codecs.BytesCodec(endian="big")},
    "sharded": {"chunks": (1, 9, 7), "shards": (4, 9, 7)},
    "tiled": {"chunks": (2, 4, 3)},
    "sharded tiles": {"chunks": (1, 2, 7), "shards": (2, 4, 7)},
    "one chunk": {"chunks": (50, 90, 70)},
}


@pytest.mark.parametrize("layout", ZARRS)
def test_zarr_arrays(tmp_path, layout):
    write_zarr(tmp_path / "movie.zarr", **ZARRS[layout])
    assert_reads(open_one(tmp_path / "movie.zarr"), MOVIE)


def test_missing_chunks_are_the_fill_value(tmp_path):
    zarr.create_array(
        tmp_path / "movie.zarr", shape=(5, 4, 4), chunks=(2, 4, 4), dtype="u2", fill_value=7
    )
    with pytest.warns(UserWarning, match="3 of 3 chunks of .* have no file, and are read as 7"):
        opened = open_one(tmp_path / "movie.zarr")
    assert_reads(opened, np.full((5, 4, 4), 7))


def test_a_movie_without_frames(tmp_path):
    zarr.create_array(tmp_path / "movie.zarr", shape=(0, 4, 5), chunks=(2, 4, 5), dtype="u2")
    channel = open_one(
        tmp_path / "movie.zarr",
        frames=slice(2, None),
        bboxes=[[(0, 0, 3, 2)]],
        flips=[(True, False)],
    )
    assert_reads(channel, np.empty((0, 2, 3), "u2"))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ("tyx", (11, 9, 7)),
        ("zyx", (11, 9, 7)),
        ("tczyx", (11, 1, 1, 9, 7)),
        ("tczyx", (1, 1, 11, 9, 7)),
        ("czyx", (1, 11, 9, 7)),
        ("tcyx", (11, 1, 9, 7)),
        ("cyx", (11, 9, 7)),
        ("tczyx", (1, 1, 1, 9, 7)),
        ("czyx", (1, 1, 9, 7)),
    ],
)
def test_ome_zarr(tmp_path, version, axes, shape):
    movie = MOVIE[: np.prod(shape[:-2])]
    path = write_ome(tmp_path / "movie.zarr", movie.reshape(shape), axes, version=version)
    assert_reads(open_one(path), movie)
    assert_reads(open_one(path / "0"), movie)


AXES = [
    # dimension_names of a 3-D array, and whether it is taken as (frame, y, x)
    (["t", "y", "x"], True),
    (["z", "y", "x"], True),  # as an OME-Zarr image of these axes is
    (["time", "Y", "X"], True),
    (["frame", "row", "column"], True),
    (["dim_0", "dim_1", "dim_2"], True),  # they say nothing
    ([None, "y", "x"], True),
    (["y", "x", "t"], False),
    (["t", "x", "y"], False),
    (["rows", "cols", "frames"], False),
    (["y", "dim_1", "dim_2"], False),
]


@pytest.mark.parametrize(("names", "taken"), AXES)
@pytest.mark.parametrize("where", ["array", "group", "xarray"])
def test_axes_of_three_are_checked(tmp_path, names, taken, where):
    path = tmp_path / "store.zarr"
    group = zarr.create_group(path, zarr_format=2 if where == "xarray" else 3)
    if where == "xarray":
        group.create_array("movie", data=MOVIE).attrs["_ARRAY_DIMENSIONS"] = names
    else:
        group.create_array("movie", data=MOVIE, dimension_names=names)
    source = path if where == "group" else path / "movie"
    if taken:
        assert_reads(open_one(source), MOVIE)
        return
    with pytest.raises(ValueError, match=r"axes .* not \(frame, y, x\): save it with its axes in"):
        open_channels(source)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["yxt", "txy", "yxc", "xyz"])
def test_axes_of_an_image_are_those_of_its_array(tmp_path, version, axes):
    path = write_ome(tmp_path / "movie.zarr", MOVIE, axes, version=version)
    (tmp_path / "link").symlink_to(path / "0")
    for source in (path, path / "0", tmp_path / "link"):
        with pytest.raises(ValueError, match=rf"axes {axes}\), not \(frame, y, x\)"):
            open_channels(source)


def test_an_array_beside_an_image_is_none_of_it(tmp_path):
    path = write_ome(tmp_path / "movie.zarr", MOVIE, "yxt")
    zarr.create_array(path / "other", data=MOVIE)
    assert_reads(open_one(path / "other"), MOVIE)


def test_a_group_with_one_stack(tmp_path):
    group = zarr.create_group(tmp_path / "store.zarr")
    group.create_array("inner/movie", data=MOVIE)
    group.create_array("times", data=np.arange(11))
    (tmp_path / "store.zarr" / "notes.txt").write_text("not Zarr")
    assert_reads(open_one(tmp_path / "store.zarr"), MOVIE)
    assert_reads(open_one(tmp_path / "store.zarr" / "inner" / "movie"), MOVIE)


def test_tiff_and_raw(tmp_path):
    tifffile.imwrite(tmp_path / "movie.tif", MOVIE, byteorder=">")
    tifffile.imwrite(tmp_path / "movie.dat", MOVIE, bigtiff=True)
    write_raw(tmp_path / "movie.raw")
    channels = open_channels(
        *(tmp_path / name for name in ("movie.tif", "movie.dat", "movie.raw")), **RAW
    )
    assert len({channel.name for channel in channels}) == 3
    for channel in channels:
        assert_reads(channel, MOVIE)


@pytest.fixture
def folder(tmp_path):
    """Single-page TIFFs, numbered without leading zeros, among other things."""
    folder = tmp_path / "run [1]"
    folder.mkdir()
    for index, frame in enumerate(MOVIE):
        tifffile.imwrite(folder / f"img_{index}.TIF", frame)
    (folder / ".hidden.tif").write_bytes(b"")
    (folder / "notes.txt").write_text("notes")
    (folder / "sub.tif").mkdir()
    return folder


def write_numbered(folder, *names):
    for at, name in enumerate(names):
        tifffile.imwrite(folder / name, MOVIE[at : at + 2], photometric="minisblack")
    return [folder / name for name in names]


def test_numbered_files_given_one_by_one_are_said_to_be_channels(tmp_path):
    """A shell makes them of a pattern without quotes."""
    files = write_numbered(tmp_path, "m_9.tif", "m_10.tif", "m_11.tif")
    hint = "3 files with running numbers become 3 channels: .* in quotes, such as '.*/m_[*].tif'$"
    with pytest.warns(UserWarning, match=hint):
        assert len(open_channels(*files)) == 3
    assert len(open_channels(tmp_path / "m_*.tif")) == 1


@pytest.mark.parametrize(
    "names",
    [
        ("m_1.tif", "m_2.tif"),  # two cameras, more often than not
        ("m_c1.tif", "m_c2.tif", "m_c3.tif"),
        ("m_488.tif", "m_561.tif", "m_640.tif"),
        ("cell1.tif", "cell2.tif", "cell3.tif"),
        ("red.tif", "green.tif", "blue.tif"),
        ("m_1.tif", "m_7.tif", "m_500.tif"),
    ],
)
def test_files_that_are_channels_need_no_hint(tmp_path, names):
    assert len(open_channels(*write_numbered(tmp_path, *names))) == len(names)


def test_a_page_alone_says_how_pages_become_frames(tmp_path):
    files = [tmp_path / f"page_{number}.tif" for number in range(3)]
    for at, file in enumerate(files):
        tifffile.imwrite(file, MOVIE[at], photometric="minisblack")
    with pytest.raises(ValueError, match=r"pass its folder, or a pattern in quotes such as 'fol"):
        open_channels(*files)
    assert open_channels(tmp_path / "page_*.tif")[0].shape == (3, 9, 7)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("movie.dax", "if it is a DAX movie, copy movie.inf beside it; for a headerless movie"),
        ("movie.RAW", "if it is a movie of Picasso's, copy movie.yaml beside it; for a headerl"),
        ("movie.bin", "movie.bin is of no known format: for a headerless movie pass raw_shape"),
    ],
)
def test_a_missing_description_is_named(tmp_path, name, said):
    with pytest.raises(ValueError, match=said):
        open_channels(write_raw(tmp_path / name))


def test_folders_and_globs(folder):
    assert_reads(open_one(folder), MOVIE)
    assert_reads(open_one(folder.parent / "r*" / "*"), MOVIE)
    assert_reads(open_one(str(folder.parent / "*" / "img_1*.TIF")), MOVIE[[1, 10]])
    assert_reads(open_one(folder.parent / "**" / "img_?.TIF"), MOVIE[:10])
    assert_reads(open_one(folder / "img_?.TIF"), MOVIE[:10])


@needs_data
def test_real_movies():
    tetrapod = open_one(DATA / "deepstorm3d_tetrapod")
    assert (tetrapod.shape, tetrapod.dtype) == ((12, 332, 492), np.uint16)
    last = tifffile.imread(DATA / "deepstorm3d_tetrapod" / "12.tif")
    np.testing.assert_array_equal(tetrapod[11].compute(), last)
    assert_reads(
        open_one(DATA / "stuck_particles.tif"), tifffile.imread(DATA / "stuck_particles.tif")
    )
    paint = DATA / "dnapaint_3C_30px.ome.raw"
    channel = open_one(paint, raw_shape=(100, 30, 30), raw_dtype=">u2")
    assert_reads(channel, np.fromfile(paint, ">u2").reshape(100, 30, 30))
    assert (channel.min().compute(), channel.max().compute()) == (488, 4385)


# What makes a channel


@given(data=st.data())
@strategies.examples(60, suppress_health_check=[HealthCheck.too_slow])
def test_frames_boxes_and_flips_are_numpy_slicing(tmp_path_factory, data):
    shape = data.draw(st.tuples(*[st.integers(1, 9)] * 3))
    movie = np.arange(np.prod(shape), dtype="u2").reshape(shape)
    path = tmp_path_factory.mktemp("movie") / "movie"
    options = {}
    kind = data.draw(st.sampled_from(["raw", "zarr", "pages"]))
    if kind == "raw":
        write_raw(path, movie)
        options = {"raw_shape": shape, "raw_dtype": ">u2"}
    elif kind == "pages":
        path.mkdir()
        for index, frame in enumerate(movie):
            tifffile.imwrite(path / f"{index}.tif", frame, photometric="minisblack")
    else:
        write_zarr(path, movie, chunks=data.draw(st.tuples(*[st.integers(1, n) for n in shape])))
    frames = data.draw(st.slices(shape[0]).filter(lambda s: len(movie[s])))
    x0, y0 = (data.draw(st.integers(0, n - 1)) for n in shape[:0:-1])
    x1, y1 = (
        data.draw(st.integers(low + 1, n)) for low, n in zip((x0, y0), shape[:0:-1], strict=True)
    )
    flip = data.draw(st.tuples(st.booleans(), st.booleans()))
    expected = movie[frames, y0:y1, x0:x1]
    expected = expected[:, :: -1 if flip[0] else 1, :: -1 if flip[1] else 1]
    given = {"frames": frames, "bboxes": [[(x0, y0, x1, y1)]], "flips": [flip], **options}
    assert_reads(open_one(path, **given), expected)

    (stack,) = open_stacks(path, selection=Selection.checked(**given))
    assert (stack.shape, stack.dtype) == (expected.shape, expected.dtype)
    cut = tuple(data.draw(st.slices(n)) for n in stack.shape)
    part = pickle.loads(pickle.dumps(stack.part(cut))).read()
    np.testing.assert_array_equal(part, expected[cut])
    assert part.flags.c_contiguous


def test_channels_in_order(tmp_path):
    raw, stored = write_raw(tmp_path / "a.raw"), write_zarr(tmp_path / "b.zarr")
    boxes = [(0, 0, 3, 9), np.array([3, 1, 7, 4])]
    channels = open_channels(
        raw,
        stored,
        bboxes=[boxes, None],
        flips=[None, (False, True), np.array([True, False])],
        frames=slice(2, 9),
        **RAW,
    )
    expected = [MOVIE[2:9, :, :3], MOVIE[2:9, 1:4, 3:][..., ::-1], MOVIE[2:9, ::-1]]
    for channel, pixels in zip(channels, expected, strict=True):
        assert_reads(channel, pixels)


def test_channels_of_one_source_share_their_reads(tmp_path):
    """Two boxes of one frame: a frame is decoded once when they are computed together."""
    left, right = open_channels(
        write_zarr(tmp_path / "a.zarr"), bboxes=[[(0, 0, 3, 9), (3, 0, 7, 9)]]
    )
    reads = [
        {name for name in channel.__dask_graph__().layers if name.startswith("open-channels")}
        for channel in (left, right)
    ]
    assert reads[0] == reads[1]
    assert len(reads[0]) == 1


def test_a_box_of_tiles_reads_only_its_tiles(tmp_path):
    path = write_zarr(tmp_path / "a.zarr", chunks=(2, 4, 3))
    (path / "c" / "0" / "2" / "2").write_bytes(b"corrupt")
    channel = open_one(path, bboxes=[[(0, 0, 4, 5)]])
    assert_reads(channel, MOVIE[:, :5, :4])


# Blocks


@pytest.mark.parametrize(
    ("shape", "chunks", "shards", "expected"),
    [
        # 256 frames of 64 KiB of float32 are 16 MiB
        ((1000, 128, 128), (10, 128, 128), None, (250, 128, 128)),
        ((1000, 128, 128), (300, 128, 128), None, (300, 128, 128)),
        ((1000, 128, 128), (3, 128, 128), (30, 128, 128), (255, 128, 128)),
        ((100, 128, 128), (10, 64, 32), None, (100, 64, 32)),
        ((3000, 128, 128), (8, 64, 128), None, (512, 64, 128)),
    ],
)
def test_blocks_are_whole_storage_chunks(tmp_path, shape, chunks, shards, expected):
    zarr.create_array(tmp_path / "a.zarr", shape=shape, chunks=chunks, shards=shards, dtype="u1")
    channel = open_one(tmp_path / "a.zarr")
    assert channel.chunksize == expected
    starts = np.cumsum(channel.chunks[0])[:-1]
    assert not np.any(starts % chunks[0])


@pytest.mark.parametrize(
    ("frame", "expected"), [((256, 256), 64), ((2048, 2048), 1), ((4096, 4096), 1)]
)
def test_blocks_of_raw_frames(tmp_path, frame, expected):
    path = tmp_path / "a.raw"
    with path.open("wb") as file:
        file.truncate(70 * frame[0] * frame[1] * 2)
    channel = open_one(path, raw_shape=(70, *frame), raw_dtype="u2")
    assert channel.chunksize == (expected, *frame)


@given(
    selection=st.builds(range, st.integers(0, 40), st.integers(0, 40), st.sampled_from([1, 2, 7])),
    falling=st.booleans(),
    run=st.integers(1, 9),
)
def test_selected_frames_in_runs(selection, falling, run):
    selection = selection[::-1] if falling else selection
    counts = {}
    for frame in selection:
        counts[frame // run] = counts.get(frame // run, 0) + 1
    assert lazy._frames_in_runs(selection, run) == (tuple(counts.values()) or (0,))


# Laziness, size, processes


def test_large_movies_open_without_reading_pixels(tmp_path, monkeypatch):
    """100 000 frames of nothing: sparse files, and a Zarr array without chunks."""
    raw = tmp_path / "large.raw"
    with raw.open("wb") as file:
        file.truncate(100_000 * 2048 * 2048 * 2)
    stored = tmp_path / "large.zarr"
    zarr.create_array(stored, shape=(100_000, 512, 512), chunks=(1, 512, 512), dtype="u2")
    tiff = tmp_path / "large.tif"
    tifffile.imwrite(tiff, shape=(100_000, 8, 8), dtype="u2")

    def no_reads(*args):
        raise AssertionError("pixels were read")

    monkeypatch.setattr(stack.Stack, "read", no_reads)
    monkeypatch.setattr(zarr_movie.ZarrMovie, "read", no_reads)
    options = {"raw_shape": (100_000, 2048, 2048), "raw_dtype": "<u2"}
    bboxes = [[(0, 0, 9, 9), (9, 9, 99, 99)], None, None]
    channels = open_channels(raw, stored, tiff, bboxes=bboxes, **options)
    assert channels[0].npartitions == 100_000  # a block is one frame of this size
    assert [len(cloudpickle.dumps(channel)) < 1_000_000 for channel in channels] == [True] * 4


def test_relative_paths_are_of_the_folder_they_were_given_in(folder, monkeypatch):
    write_raw(folder / "a.raw")
    monkeypatch.chdir(folder)
    channels = open_channels("a.raw", "img_?.TIF", ".", **RAW)
    monkeypatch.chdir(folder.parent)
    for channel, pixels in zip(channels, (MOVIE, MOVIE[:10], MOVIE), strict=True):
        assert_reads(channel, pixels)


def test_a_task_carries_only_its_own_places(folder):
    (stack,) = open_stacks(folder)
    few = stack.part((slice(2, 4), slice(None), slice(None)))
    assert len(pickle.dumps(few)) < len(pickle.dumps(stack)) / 2
    np.testing.assert_array_equal(few.read(), MOVIE[2:4])


def test_other_processes_read_for_themselves(tmp_path, folder):
    paths = [write_raw(tmp_path / "a.raw"), write_zarr(tmp_path / "b.zarr"), folder]
    channels = open_channels(*paths, bboxes=[[(1, 2, 6, 8)]] * 3, **RAW)
    channels = cloudpickle.loads(cloudpickle.dumps(channels))
    with dask.config.set(scheduler="processes", num_workers=2):
        for pixels in dask.compute(*channels):
            np.testing.assert_array_equal(pixels, MOVIE[:, 2:8, 1:6])


# Pixels that cannot be read


CORRUPT = {
    "v3": ({}, "c/1/0/0", r"chunk c/1/0/0 \(frames 3-5\)"),
    "v2": ({"zarr_format": 2}, "1.0.0", r"chunk 1\.0\.0 \(frames 3-5\)"),
    "tiled": ({"chunks": (2, 4, 3)}, "c/5/2/1", r"chunk c/5/2/1 \(frame 10\)"),
    "sharded": (
        {"chunks": (1, 9, 7), "shards": (4, 9, 7)},
        "c/2/0/0",
        r"chunk c/2/0/0 \(frames 8-10\)",
    ),
}


@pytest.mark.parametrize("layout", CORRUPT)
def test_a_corrupt_chunk_is_named(tmp_path, layout):
    options, key, match = CORRUPT[layout]
    path = write_zarr(tmp_path / "movie.zarr", **options)
    (path / key).write_bytes(b"corrupt")
    channel = open_one(path)
    with pytest.raises(SourceReadError, match=match) as error:
        channel.compute(scheduler="threads", num_workers=2)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_corrupt_chunk_of_five_axes_is_named(tmp_path):
    path = write_ome(tmp_path / "a.zarr", MOVIE.reshape(11, 1, 1, 9, 7), "tczyx")
    (path / "0" / "c" / "4" / "0" / "0" / "0" / "0").write_bytes(b"corrupt")
    with pytest.raises(SourceReadError, match=r"a\.zarr/0: chunk c/4/0/0/0/0 \(frame 4\)"):
        open_one(path, frames=slice(None, None, -2)).compute()


def test_a_failure_that_passes_is_reported_with_its_frames(tmp_path, monkeypatch):
    (stack,) = open_stacks(write_zarr(tmp_path / "a.zarr"))
    read = zarr_movie.ZarrMovie._read
    failures = iter([OSError("the network\nis gone")])

    def fail_once(self, *box):
        for failure in failures:
            raise failure
        return read(self, *box)

    monkeypatch.setattr(zarr_movie.ZarrMovie, "_read", fail_once)
    with pytest.raises(SourceReadError, match="frames 0-10 cannot be read: the network is gone"):
        stack.read()
    np.testing.assert_array_equal(stack.read(), MOVIE)


def test_a_raw_movie_that_shrank(tmp_path):
    path = write_raw(tmp_path / "a.raw")
    channel = open_one(path, **RAW)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        SourceReadError, match=r"a\.raw: frames 0-10 cannot be read: .* at byte 1385;"
    ):
        channel.compute()


# Arguments and sources that are refused


def store_of_two(path):
    group = zarr.create_group(path)
    for name in ("a", "b"):
        group.create_array(name, data=MOVIE)
    return path


def many_arrays(path):
    group = zarr.create_group(path)
    for index in range(12):
        group.create_array(f"a{index}", data=MOVIE[0])
    return path


def folder_of(names):
    def write(path):
        path.mkdir()
        for name in names:
            (path / name).write_bytes(b"")
        return path

    return write


def inside(build, *parts):
    return lambda path: build(path).joinpath(*parts)


BAD_SOURCES = {
    # what is on disk, the error, and what its message says beside the path
    "empty folder": (folder_of([]), FileNotFoundError, "has no file ending in .*tif"),
    "folder of others": (folder_of(["a.txt", ".b.tif"]), FileNotFoundError, "no file ending in"),
    "glob of others": (
        inside(folder_of(["a.txt", "b.txt"]), "*"),
        FileNotFoundError,
        "matches 2 files and folders, none of them a visible file ending in",
    ),
    "array not in the store": (
        inside(store_of_two, "c"),
        FileNotFoundError,
        r"does not exist: pass one array, such as .*/a; it has a \(11, 9, 7\), b",
    ),
    "folder in a store": (
        inside(store_of_two, "a", "c"),
        FileNotFoundError,
        "is no array or group of .*: pass one array",
    ),
    "group of two": (store_of_two, ValueError, r"with 2 arrays of shape .* such as .*/a; it has"),
    "group of images": (many_arrays, ValueError, r"with 0 arrays .* and 2 more"),
    "OME image": (lambda p: write_ome(p, MOVIE[0], "yx"), ValueError, r"axes yx"),
    "axes in another order": (
        lambda p: write_ome(p, MOVIE, ["y", "x", "time"]),
        ValueError,
        "axes y, x, time",
    ),
    "axes of another number": (lambda p: write_ome(p, MOVIE, "tczyx"), ValueError, "axes tczyx"),
}


@pytest.mark.parametrize("case", BAD_SOURCES)
def test_bad_sources_are_named_on_one_line(tmp_path, case):
    build, kind, match = BAD_SOURCES[case]
    path = build(tmp_path / "source")
    with pytest.raises(kind, match=match) as error:
        open_channels(path)
    assert str(tmp_path / "source") in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"raw_shape": (10, 9, 7)}, r"has 1386 bytes.* takes 1260: pass raw_shape=\(11, 9, 7\)"),
        ({"raw_shape": (10, 9, 8)}, "has 1386 bytes.* takes 1440: check the frame's sizes"),
        ({"raw_dtype": "u4"}, "takes 2772: check the frame's sizes and the dtype"),
        ({"raw_shape": None}, "raw_dtype is given without raw_shape"),
        ({"raw_dtype": None}, "raw_shape is given without raw_dtype"),
        ({"raw_shape": (10, 9)}, r"raw_shape=\(10, 9\): pass three positive integers"),
        ({"raw_shape": (10, 9, 0)}, "three positive integers"),
        ({"raw_shape": "abc"}, "three positive integers"),
        ({"raw_shape": np.array(7)}, r"raw_shape=array\(7\)"),
        ({"raw_shape": (10.0, 9, 7)}, "three positive integers"),
    ],
)
def test_raw_layouts_that_do_not_fit(tmp_path, options, match):
    with pytest.raises(ValueError, match=match):
        open_channels(write_raw(tmp_path / "a.raw"), **{**RAW, **options})


BAD_ARGUMENTS = [
    ({"frames": slice(None, True)}, TypeError, "not an integer"),
    ({"bboxes": np.ones((1, 4), int)}, ValueError, "flat list of boxes"),
    ({"bboxes": "0,0,2,2"}, TypeError, "bboxes is of type str"),
    ({"bboxes": [[]]}, ValueError, r"bboxes\[0\]=\[\] is not a list of boxes"),
    ({"bboxes": [3]}, ValueError, r"bboxes\[0\]=3 is not a list of boxes"),
    ({"bboxes": [[(0, 0, 2, 2.0)]]}, ValueError, "a box is four integers"),
    ({"bboxes": [["0002"]]}, ValueError, "a box is four integers"),
    ({"bboxes": [[(0, 0, 2, 10)]]}, ValueError, "y1 <= 9"),
    ({"bboxes": [[(0, 0, 0, 0)]]}, ValueError, "does not fit"),
    ({"flips": True}, TypeError, "flips is of type bool"),
    # arrays without an axis
    ({"bboxes": np.array(5)}, TypeError, "bboxes is of type ndarray"),
    ({"bboxes": [np.array(5)]}, ValueError, r"bboxes\[0\]=array\(5\) is not a list of boxes"),
    ({"bboxes": [[np.array(5)]]}, ValueError, r"has array\(5\): a box is four integers"),
    ({"flips": np.array(True)}, TypeError, "flips is of type ndarray"),
    ({"flips": [np.array(True)]}, ValueError, r"flips\[0\]=array\(True\)"),
    ({"flips": [True]}, ValueError, r"flips\[0\]=True: pass one \(flip_y, flip_x\)"),
    ({"flips": [(True,)]}, ValueError, r"flips\[0\]=\(True,\)"),
    ({"flips": [np.arange(400)]}, ValueError, r"flips\[0\]=array.*\.\.\.: pass"),
]


@pytest.mark.parametrize(("options", "kind", "match"), BAD_ARGUMENTS)
def test_bad_arguments(tmp_path, options, kind, match):
    path = write_raw(tmp_path / "a.raw")
    with pytest.raises(kind, match=match) as error:
        open_channels(path, **RAW, **options)
    assert "\n" not in str(error.value)


# What a source stands for on disk


def test_source_roots(tmp_path, folder):
    raw = write_raw(tmp_path / "a.raw")
    group = zarr.create_group(tmp_path / "store.zarr")
    group.create_array("a/b/movie", data=MOVIE)
    link = tmp_path / "link.zarr"
    link.symlink_to(tmp_path / "store.zarr")
    assert source_roots(raw) == [raw]
    assert source_roots(str(folder)) == [folder]
    for part in ("", "a", "a/b/movie", "a/b/movie/c"):
        assert source_roots(tmp_path / "store.zarr" / part) == [tmp_path / "store.zarr"]
    assert source_roots(link / "a") == [tmp_path / "store.zarr"]
    matches = source_roots(folder.parent / "r*" / "img_1*")
    assert matches == [folder / "img_1.TIF", folder / "img_10.TIF"]
    for path in (tmp_path / "typo", folder / "typo"):
        with pytest.raises(FileNotFoundError, match="typo does not exist: check the path"):
            source_roots(path)


def test_the_error_travels():
    error = pickle.loads(pickle.dumps(SourceReadError("a.zarr: chunk c/0")))
    assert isinstance(error, OSError)
    assert str(error) == "a.zarr: chunk c/0"


def test_damaged_metadata_of_a_neighbour_are_named(tmp_path):
    group = zarr.create_group(tmp_path / "store.zarr")
    group.create_array("a", data=MOVIE)
    (tmp_path / "store.zarr" / "b").mkdir()
    (tmp_path / "store.zarr" / "b" / "zarr.json").write_text(json.dumps([]))
    with pytest.raises(ValueError, match=r"store\.zarr/b has damaged Zarr metadata"):
        open_channels(tmp_path / "store.zarr")


def test_a_store_that_links_to_itself(tmp_path):
    group = zarr.create_group(tmp_path / "store.zarr")
    group.create_array("a", data=MOVIE)
    (tmp_path / "store.zarr" / "self").symlink_to(tmp_path / "store.zarr")
    assert_reads(open_one(tmp_path / "store.zarr"), MOVIE)


def test_problems_of_permission_pass_through(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied", "zarr.json")

    path = write_zarr(tmp_path / "movie.zarr")
    monkeypatch.setattr(zarr, "open_array", refuse)
    with pytest.raises(PermissionError, match=r"zarr\.json"):
        open_channels(path)
