"""Arrays in place of paths: what is taken, what is refused, and the pixels that blocks read."""

import pickle

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from zarr.storage import MemoryStore, ZipStore

from smlmlp_dask import SourceReadError, bkgd_spatial_mean
from smlmlp_dask.movies.arrays import ArraySource, as_source, in_memory
from smlmlp_dask.movies.opening import open_stacks
from smlmlp_dask.movies.stack import Stack

SHAPE = FRAMES, HEIGHT, WIDTH = (13, 10, 12)
MOVIE = np.random.default_rng(1).integers(0, 60_000, SHAPE, np.uint16)

PARTS = [  # frames, rows and columns of a stack, and the part of it that a block reads
    (range(13), range(10), range(12), (slice(0, 13), slice(0, 10), slice(0, 12))),
    (range(13), range(10), range(12), (slice(4, 9), slice(0, 10), slice(0, 12))),
    (range(13), range(9, -1, -1), range(12), (slice(4, 9), slice(0, 10), slice(0, 12))),
    (range(13), range(10), range(11, -1, -1), (slice(3, 4), slice(0, 10), slice(0, 12))),
    (range(12, -1, -1), range(2, 7), range(5, 6), (slice(1, 12), slice(1, 4), slice(0, 1))),
    (range(1, 13, 3), range(10), range(3, 12), (slice(1, 3), slice(0, 10), slice(0, 9))),
    (range(11, 0, -4), range(8, 2, -1), range(10, 4, -1), (slice(0, 3), slice(2, 5), slice(1, 4))),
    (range(13), range(10), range(12), (slice(5, 5), slice(0, 10), slice(0, 12))),
]


def check_parts(movie, values, name):
    """Compare what each part reads with NumPy's own indexing; whole and pickled."""
    for frames, rows, columns, box in PARTS:
        stack = Stack(movie=movie, frames=frames, rows=rows, columns=columns)
        expected = values[np.ix_(frames, rows, columns)][box]
        part = stack.part(box)
        for read in (part, part.part((slice(None),) * 3), pickle.loads(pickle.dumps(part))):
            pixels = read.read()
            assert pixels.dtype == values.dtype.newbyteorder("="), name
            assert pixels.flags.c_contiguous
            assert np.array_equal(pixels, expected), (name, frames, rows, columns, box)
        if 0 not in expected.shape:
            assert np.array_equal(stack.read()[box], expected)


# ---- NumPy ---------------------------------------------------------------------------------------


def unaligned(values):
    """Return a copy that begins between two items."""
    bytes_of_it = np.zeros(values.nbytes + 1, np.uint8)
    array = bytes_of_it[1:].view(values.dtype).reshape(values.shape)
    array[...] = values
    return array


LAYOUTS = {
    "plain": lambda values, _: values,
    "Fortran": lambda values, _: np.asfortranarray(values),
    "every other column of a wider array": lambda values, _: np.repeat(values, 2, axis=2)[..., ::2],
    "frames backwards": lambda values, _: values[::-1].copy()[::-1],
    "big-endian": lambda values, _: values.astype(values.dtype.newbyteorder(">")),
    "float64": lambda values, _: values.astype(np.float64),
    "unaligned": lambda values, _: unaligned(values),
    "a memory map": lambda values, folder: mapped(values, folder),
}


def mapped(values, folder):
    np.save(folder / "movie.npy", values)
    return np.load(folder / "movie.npy", mmap_mode="r")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_numpy_of_any_layout_is_read_as_numpy_indexes_it(layout, tmp_path):
    array = LAYOUTS[layout](MOVIE.copy(), tmp_path)
    before = np.array(array)
    source = as_source(array, "sources[0]")
    check_parts(source.movie, before, layout)
    assert np.array_equal(array, before)  # a flip must not turn the caller's array


def test_a_block_of_numpy_is_a_view_that_nobody_can_write_to():
    movie = as_source(MOVIE, "sources[0]").movie
    part = Stack.of(movie, range(FRAMES)).part((slice(2, 7), slice(None), slice(None)))
    pixels = part.read()
    assert np.shares_memory(pixels, MOVIE)
    assert not pixels.flags.writeable
    assert MOVIE.flags.writeable
    assert movie.decoding(whole=True).held(SHAPE, (5, 10, 12), (0, 0, 0), (0, 0, 0)) == 0


def digest(array):
    return as_source(array, "sources[0]").identity()["digest"]


def test_the_checksum_is_of_dtype_shape_and_every_byte(monkeypatch):
    monkeypatch.setattr("smlmlp_dask.movies.memory.CHECKED_BYTES", 3 * HEIGHT * WIDTH * 2)
    same = digest(MOVIE)
    assert digest(np.asfortranarray(MOVIE)) == digest(MOVIE.copy()) == same
    others = [MOVIE.view(np.int16), MOVIE.reshape(FRAMES, WIDTH, HEIGHT), MOVIE[::-1], MOVIE[:-1]]
    for frame in range(FRAMES):
        changed = MOVIE.copy()
        changed[frame, frame % HEIGHT, -1] ^= 1
        others.append(changed)
    assert same not in [digest(other) for other in others]


# ---- Dask ----------------------------------------------------------------------------------------

CHUNKS = {
    "one": (13, 10, 12),
    "frames": (1, 10, 12),
    "even runs": (4, 10, 12),
    "uneven runs": ((3, 6, 4), (10,), (12,)),
    "tiles": (5, 4, 5),
    "uneven tiles": ((1, 12), (7, 1, 2), (2, 10)),
}


@pytest.mark.parametrize("chunks", CHUNKS)
def test_dask_in_any_chunks_is_read_as_numpy_indexes_it(chunks):
    array = da.from_array(MOVIE, chunks=CHUNKS[chunks])
    before = MOVIE.copy()
    check_parts(as_source(array, "sources[0]").movie, MOVIE, chunks)
    derived = (array.astype(np.float32) - array.mean(axis=0)).astype(np.float32)
    expected = derived.compute(scheduler="synchronous")
    check_parts(as_source(derived, "sources[0]").movie, expected, chunks)
    assert np.array_equal(MOVIE, before)


def counting(count=10_000, seen=None):
    """Return a lazy movie of one-frame chunks that notes which it computes."""

    def frame(block_info=None):
        number = block_info[None]["array-location"][0][0]
        seen.append(number)
        return np.full((1, HEIGHT, WIDTH), number, np.int64)

    chunks = ((1,) * count, (HEIGHT,), (WIDTH,))
    return da.map_blocks(frame, chunks=chunks, dtype=np.int64, meta=np.empty((0, 0, 0), np.int64))


def test_a_read_computes_its_own_chunks_and_nothing_at_all_before():
    seen = []
    movie = as_source(counting(50, seen), "sources[0]").movie
    stack = Stack.of(movie, range(50))
    part = stack.part((slice(20, 23), slice(0, 4), slice(None)))
    assert seen == []
    with dask.config.set(scheduler="threads"):  # a task's own chunks are computed in its thread
        assert part.read()[:, 0, 0].tolist() == [20, 21, 22]
        assert sorted(seen) == [20, 21, 22]
        seen.clear()
        assert Stack.of(movie, range(9, 50, 20)).read()[:, 0, 0].tolist() == [9, 29, 49]
    assert sorted(seen) == [9, 29, 49]


def test_a_task_of_a_long_dask_array_pickles_small():
    array = da.random.default_rng(1).integers(0, 9, (10_000, 6, 7), chunks=(2, 6, 7))
    movie = as_source(array, "sources[0]").movie
    part = Stack.of(movie, range(10_000)).part((slice(5000, 5008), slice(None), slice(None)))
    assert len(pickle.dumps(part)) < 20_000
    expected = array[5000:5008].compute(scheduler="synchronous")
    assert np.array_equal(pickle.loads(pickle.dumps(part)).read(), expected)


@pytest.mark.parametrize(
    ("chunks", "block", "margins", "touched"),
    [
        ((4, 10, 12), (4, 10, 12), (0, 0, 0), 1),
        ((4, 10, 12), (3, 10, 12), (0, 0, 0), 2),
        ((4, 10, 12), (8, 10, 12), (1, 0, 0), 4),
        ((4, 5, 6), (4, 10, 12), (0, 0, 0), 4),
        (((3, 1, 4, 4, 1), (10,), (12,)), (4, 10, 12), (0, 0, 0), 2),  # no block fits their ends
    ],
)
def test_the_memory_of_a_block_counts_all_chunks_that_it_touches(chunks, block, margins, touched):
    array = da.from_array(MOVIE, chunks=chunks)
    stack = Stack.of(as_source(array, "sources[0]").movie, range(FRAMES))
    held = stack.decoding.held(SHAPE, block, margins, stack.origin)
    assert held == touched * 2 * np.prod([max(axis) for axis in array.chunks])


def boom(block):
    raise ZeroDivisionError("too\nmuch")


def lying(**wrong):
    """Return an array whose chunks are not what it promises."""
    chunk = np.ones(wrong.get("shape", (4, 10, 12)), wrong.get("dtype", np.uint16))
    chunk = wrong.get("made", lambda made: made)(chunk)
    return da.map_blocks(
        lambda: chunk,
        chunks=((4, 4), (10,), (12,)),
        dtype=np.uint16,
        meta=np.empty((0, 0, 0), np.uint16),
    )


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (da.from_array(MOVIE, chunks=(4, 10, 12)).map_blocks(boom, dtype=np.uint16),
         "ZeroDivisionError: too much"),
        (lying(dtype=np.float64), "dtype float64, and the array promises .* uint16"),
        (lying(shape=(3, 10, 12)), r"shape \(3, 10, 12\) .* promises \(4, 10, 12\)"),
        (lying(made=list), "a chunk is a list, not a NumPy array"),
        (lying(made=np.ma.masked_array), "a chunk is a MaskedArray, not a NumPy array"),
    ],
    ids=["error", "dtype", "shape", "list", "masks"],
)  # fmt: skip
def test_what_cannot_be_computed_names_array_and_frames(array, said):
    movie = as_source(array, "sources[2]").movie
    part = Stack.of(movie, range(8)).part((slice(4, 6), slice(None), slice(None)))
    with pytest.raises(SourceReadError, match=rf"<Dask array sources\[2\]>, frames 4-5, .*{said}"):
        part.read()


# ---- Zarr ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("inside", ["", "a/b"])
def test_a_zarr_array_on_disk_is_its_path(tmp_path, monkeypatch, inside, zarr_format):
    monkeypatch.chdir(tmp_path)
    array = zarr.create_array(
        "movie.zarr", name=inside or None, data=MOVIE, chunks=(4, 10, 12), zarr_format=zarr_format
    )
    path = as_source(array, "sources[0]")
    assert path == str(tmp_path / "movie.zarr" / inside)
    [stack] = open_stacks(path)
    assert np.array_equal(stack.read(), MOVIE)


def test_a_zarr_array_in_a_zip_is_its_path(tmp_path):
    with ZipStore(tmp_path / "movie.zip", mode="w") as store:
        zarr.create_array(store, name="a/b", data=MOVIE, chunks=(4, 10, 12))
    with ZipStore(tmp_path / "movie.zip", mode="r") as store:
        path = as_source(zarr.open_array(store, path="a/b"), "sources[0]")
    [stack] = open_stacks(path)
    assert np.array_equal(stack.read(), MOVIE)


# ---- refused -------------------------------------------------------------------------------------

REFUSED = [
    (MOVIE[0], ValueError, r"sources\[1\] has shape \(10, 12\): .* \(frame, y, x\)"),
    (MOVIE[None], ValueError, r"sources\[1\] has shape \(1, 13, 10, 12\)"),
    (MOVIE[:, :0], ValueError, "its frames have no pixels"),
    (MOVIE > 3, TypeError, "dtype bool"),
    (MOVIE.astype(complex), TypeError, "dtype complex128"),
    (MOVIE.astype(object), TypeError, "dtype object"),
    (np.ma.masked_array(MOVIE), TypeError, "MaskedArray, whose masks would be ignored"),
    (da.ma.masked_array(da.from_array(MOVIE)), TypeError, "MaskedArray chunks"),
    (da.from_array(MOVIE)[da.from_array(MOVIE).max(axis=(1, 2)) > 9], ValueError,
     r"unknown chunk sizes \('\?', 10, 12\): call its compute_chunk_sizes"),
    (da.from_array(MOVIE, chunks=4).astype(bool), TypeError, "dtype bool"),
    (zarr.create_array(MemoryStore(), data=MOVIE), ValueError, r"MemoryStore.*array\[:\]"),
    (3, TypeError, r"sources\[1\] is 3, of type int: pass a path, or a NumPy, Dask, Zarr or"),
    (MOVIE.tolist(), TypeError, "of type list"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "kind", "said"), REFUSED, ids=[row[2][:30] for row in REFUSED])
def test_refused(value, kind, said):
    with pytest.raises(kind, match=said):
        as_source(value, "sources[1]")


def test_paths_stay_as_they_are(tmp_path):
    assert as_source("~/movie.tif", "sources[0]") == "~/movie.tif"
    assert as_source(tmp_path, "sources[0]") is tmp_path
    assert not in_memory(str(tmp_path / "<NumPy array sources[0]>"))
    assert in_memory(str(as_source(MOVIE, "sources[0]")))
    assert in_memory(str(as_source(da.from_array(MOVIE), "sources[0]")))


# ---- xarray --------------------------------------------------------------------------------------


@pytest.fixture
def xr():
    return pytest.importorskip("xarray", reason="DataArrays need xarray")


@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
@pytest.mark.parametrize(
    ("dims", "order"),
    [
        (("t", "y", "x"), (0, 1, 2)),
        (("T", "Y", "X"), (0, 1, 2)),
        (("frame", "row", "col"), (0, 1, 2)),
        (("y", "x", "time"), (2, 0, 1)),
        (("x", "t", "y"), (1, 2, 0)),
        (("dim_0", "dim_1", "dim_2"), (0, 1, 2)),
        (("n", "y", "x"), (0, 1, 2)),
    ],
)
def test_axes_of_a_data_array_are_taken_by_name(xr, dims, order, lazy):
    values = da.from_array(MOVIE, chunks=(4, 5, 12)) if lazy else MOVIE
    source = as_source(xr.DataArray(values, dims=dims), "sources[0]")
    assert isinstance(source, ArraySource)
    expected = MOVIE.transpose(order)
    assert source.movie.shape == expected.shape
    assert np.array_equal(Stack.of(source.movie, range(len(expected))).read(), expected)
    [background], _, _ = bkgd_spatial_mean([xr.DataArray(values, dims=dims)], 3.0)
    [same], _, _ = bkgd_spatial_mean([expected], 3.0)
    assert isinstance(background, da.Array)
    assert np.array_equal(*dask.compute(background, same, scheduler="synchronous"))


@pytest.mark.parametrize(
    "dims", [("z", "y", "x"), ("c", "y", "x"), ("x", "y", "n"), ("y", "x", "n"), ("t", "x", "row2")]
)
def test_axes_that_are_not_certain_are_refused(xr, dims):
    array = xr.DataArray(MOVIE, dims=dims)
    for take in (lambda: as_source(array, "channels[0]"), lambda: bkgd_spatial_mean([array])):
        with pytest.raises(
            ValueError, match=rf"channels\[0\] has the dims {', '.join(dims)}.*rename"
        ):
            take()


def test_a_data_array_of_two_axes_or_without_numbers_is_refused(xr):
    with pytest.raises(ValueError, match=r"shape \(10, 12\)"):
        as_source(xr.DataArray(MOVIE[0]), "sources[0]")
    with pytest.raises(TypeError, match="dtype bool"):
        bkgd_spatial_mean([xr.DataArray(MOVIE > 3)])


COORDINATES = [  # of t and of y and x, their units, and what is certain
    (np.arange(13) * 0.5, "s", np.arange(12) * 100.0, "nm", 0.5, 0.1),
    (np.arange(13) * 20, "ms", np.arange(12) * 0.1 + 7, "µm", 0.02, 0.1),
    (np.arange(13) * 20, "milliseconds", -0.1 * np.arange(12), "micrometers", 0.02, 0.1),
    (np.arange(13), None, np.arange(12), None, None, None),
    (np.arange(13), "frames", np.arange(12), "pixel", None, None),
    (np.arange(13) ** 2, "s", np.arange(12) ** 2, "um", None, None),
    (np.arange(13)[::-1], "s", np.zeros(12), "um", None, None),
    (np.arange(13), "seconds since 2020-01-01", np.arange(12), "degrees", None, None),
    (np.arange(13) * np.timedelta64(30, "ms"), None, np.arange(12), "um", 0.03, 1.0),
    (np.datetime64("2026-01-01") + np.arange(13) * np.timedelta64(2, "s"), None, np.arange(12),
     None, 2.0, None),
]  # fmt: skip


@pytest.mark.parametrize("row", COORDINATES, ids=range(len(COORDINATES)))
def test_pixel_size_and_interval_are_taken_where_units_say_it(xr, row):
    times, of_time, places, of_place, interval, size = row

    def coordinate(dim, values, unit):
        return (dim, values, {} if unit is None else {"units": unit})

    coords = {
        "t": coordinate("t", times.astype("datetime64[ns]" if times.dtype.kind == "M" else
                                          "timedelta64[ns]" if times.dtype.kind == "m" else
                                          times.dtype), of_time),
        "y": coordinate("y", places[:10], of_place),
        "x": coordinate("x", places, of_place),
    }  # fmt: skip
    acquisition = as_source(xr.DataArray(MOVIE, coords, ("t", "y", "x")), "s").acquisition
    assert acquisition.frame_interval_s == (None if interval is None else pytest.approx(interval))
    expected = None if size is None else pytest.approx((size, size))
    assert acquisition.pixel_size_um == expected


def test_what_a_file_holds_is_not_loaded(xr, tmp_path):
    """An array that xarray reads on demand is computed block by block."""
    zarr.create_array(tmp_path / "g.zarr", name="movie", data=MOVIE, chunks=(4, 10, 12),
                      dimension_names=("t", "y", "x"))  # fmt: skip
    zarr.open_group(tmp_path / "g.zarr", mode="a")
    array = xr.open_zarr(tmp_path / "g.zarr", consolidated=False, chunks=None)["movie"]
    source = as_source(array, "sources[0]")
    assert str(source) == "<Dask array sources[0]>"
    assert np.array_equal(Stack.of(source.movie, range(FRAMES)).read(), MOVIE)
    again = xr.open_zarr(tmp_path / "g.zarr", consolidated=False, chunks=None)["movie"]
    assert as_source(again, "sources[0]").identity() == source.identity()
