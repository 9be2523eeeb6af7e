import array
import os
import shutil
from collections import UserList, deque
from concurrent.futures import ProcessPoolExecutor
from decimal import Decimal
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import correlate1d
from zarr.storage import FsspecStore, LocalStore, MemoryStore

from smlmlp_dask import (
    bkgd_spatial_mean,
    gaussian_kernel,
    noise_correction,
    plan_spatial_mean,
    run_spatial_mean,
)
from smlmlp_dask.filters.parameters import check_parallel
from smlmlp_dask.lazy import chunking

from . import reference, strategies

ENGINES = ["fused", "dask-image"]


def counts(shape=(6, 20, 24), dtype=np.uint16, seed=0):
    return np.random.default_rng(seed).poisson(100, shape).astype(dtype)


def background(channel, radii=7.0, **options):
    return bkgd_spatial_mean([channel], radii, **options)[0][0]


# ---- the numbers -------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@strategies.examples(25)
@given(data=st.data())
def test_agrees_with_the_slow_reference(engine, data):
    stack = data.draw(strategies.stacks(max_frames=2, max_side=14))
    ry, rx = data.draw(strategies.radius_pairs)
    lazy = data.draw(strategies.chunked(stack))
    result = background(lazy, (ry, rx), engine=engine).compute()
    expected = reference.background(stack, ry / 2, rx / 2)
    limit = reference.tolerance(ry, rx) * np.abs(stack.astype(np.float32)).max(initial=0)
    assert result.dtype == np.float32
    assert result.shape == stack.shape
    assert np.abs(result - expected).max(initial=0) <= limit


@pytest.mark.parametrize("engine", ENGINES)
@strategies.examples(30)
@given(data=st.data())
def test_same_bits_for_every_chunking(engine, data):
    stack = data.draw(strategies.stacks())
    radii = data.draw(strategies.radius_pairs)
    whole = background(stack, radii, engine=engine).compute()
    lazy = data.draw(strategies.chunked(stack))
    assert background(lazy, radii, engine=engine).compute().tobytes() == whole.tobytes()


@pytest.mark.parametrize("engine", ENGINES)
@strategies.examples(30)
@given(data=st.data())
def test_same_bits_where_tiles_are_filtered_with_a_halo(engine, data):
    stack = data.draw(strategies.stacks())
    radii = data.draw(strategies.radius_pairs)
    lazy = data.draw(strategies.chunked(stack))
    whole = background(stack, radii, engine=engine).compute()
    with pytest.MonkeyPatch.context() as patch:
        # a slab of tiles may hold nothing: frames are never put together
        patch.setattr(
            chunking.whole_frame_chunks, "__kwdefaults__", {"slab_bytes": 0, "block_bytes": 1}
        )
        tiled = background(lazy, radii, engine=engine)
    assert tiled.compute().tobytes() == whole.tobytes()


def test_parallel_splits_a_block_over_threads(monkeypatch):
    """They meet in the compiled loop, which they can only if they are three."""
    meeting = Barrier(3, timeout=30)
    monkeypatch.setattr(
        "smlmlp_dask.filters.compiled.engine._compiled", lambda *_, **__: lambda *_: meeting.wait()
    )
    lazy = background(counts((3, 9, 8)), engine="fused", parallel=3)
    assert lazy.compute(scheduler="synchronous").shape == (3, 9, 8)


@pytest.fixture(scope="module")
def processes():
    """Another process, which starts when it is first needed."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        yield pool


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
@pytest.mark.parametrize("engine", ENGINES)
def test_same_bits_under_every_scheduler(engine, scheduler, processes):
    pool = processes if scheduler == "processes" else None
    lazy = da.from_array(counts(), chunks=(2, 20, 24))
    expected = background(counts(), engine=engine).compute(scheduler="synchronous")
    result = background(lazy, engine=engine).compute(scheduler=scheduler, pool=pool)
    assert result.tobytes() == expected.tobytes()


@pytest.mark.parametrize("engine", ENGINES)
def test_frames_are_independent(engine):
    stack = counts()
    each = [background(frame[None], engine=engine).compute() for frame in stack]
    assert np.concatenate(each).tobytes() == background(stack, engine=engine).compute().tobytes()


@pytest.mark.parametrize("engine", ENGINES)
@given(level=st.integers(0, 65535), radius=strategies.radii)
@strategies.examples(20)
def test_a_constant_stays_itself(engine, level, radius):
    stack = np.full((1, 9, 11), level, np.uint16)
    limit = reference.tolerance(radius) * level
    assert np.abs(background(stack, radius, engine=engine).compute() - level).max() <= limit


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("radii", [(1, 1), (7, 7), (3, 12), (60, 40)])
def test_an_impulse_gives_the_kernels(engine, radii):
    kernel_y, kernel_x = (gaussian_kernel(radius / 2) for radius in radii)
    impulse = np.zeros((1, kernel_y.size + 4, kernel_x.size + 7), np.uint8)
    impulse[0, kernel_y.size // 2 + 2, kernel_x.size // 2 + 3] = 1
    expected = np.zeros(impulse.shape, np.float32)
    expected[0, 2:-2, 3:-4] = kernel_y[:, None] * kernel_x
    result = background(impulse, radii, engine=engine).compute()
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("radii", [(1, 1), (7, 3), (12, 40)])
@pytest.mark.parametrize("place", [(35, 150), (0, 0), (69, 299), (33, 15)])
def test_a_bad_pixel_stays_in_its_neighbourhood(engine, bad, radii, place):
    clean = counts((2, 70, 300)).astype(np.float32)
    stack = clean.copy()
    stack[0][place] = bad
    touched = np.zeros(stack.shape, bool)
    reaches = (int(2.5758 * radius / 2) for radius in radii)
    around = zip(place, reaches, strict=True)
    touched[0, *(slice(max(0, at - reach), at + reach + 1) for at, reach in around)] = True
    result = background(stack, radii, engine=engine).compute()
    np.testing.assert_array_equal(result[touched], np.float32(bad))
    expected = background(clean, radii, engine=engine).compute()
    assert result[~touched].tobytes() == expected[~touched].tobytes()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "shape", [(0, 5, 6), (1, 1, 1), (3, 1, 40), (3, 40, 1), (2, 3, 3), (1, 5, 65)]
)
@pytest.mark.parametrize("radius", [7.0, 600.0, 10_000.0])
def test_edges_and_kernels_wider_than_the_frame(engine, shape, radius):
    stack = counts(shape)
    kernel = gaussian_kernel(radius / 2)
    expected = stack.astype(np.float32)
    for axis in (1, 2):
        expected = correlate1d(expected, kernel, axis, mode="nearest")
    limit = reference.tolerance(radius) * stack.max(initial=0)
    tiled = da.from_array(stack, chunks=(1, 2, 2) if stack.size else -1)
    for channel in (stack, tiled):
        result = background(channel, radius, engine=engine).compute()
        assert result.shape == shape
        assert np.abs(result - expected).max(initial=0) <= limit


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", strategies.REAL_DTYPES)
def test_every_real_dtype_is_cast_to_float32(engine, dtype):
    stack = counts().astype(dtype)
    expected = background(stack.astype(np.float32), engine=engine).compute()
    result = background(stack, engine=engine)
    assert result.dtype == np.float32
    assert result.compute().tobytes() == expected.tobytes()


# ---- laziness and declared form ----------------------------------------------------------------


def test_stacks_of_whole_frames_keep_their_chunks():
    lazy = da.from_array(counts((7, 20, 24)), chunks=((1, 4, 2), 20, 24))
    assert background(lazy).chunks == lazy.chunks


def test_tiled_stacks_come_out_as_whole_frames():
    lazy = da.from_array(counts((7, 20, 24)), chunks=(3, 5, 24))
    assert background(lazy).chunks == ((3, 3, 1), (20,), (24,))


@pytest.mark.parametrize("make", [np.copy, lambda a: zarr.create_array({}, data=a)])
def test_pixels_are_read_when_they_are_needed(make):
    stack = make(counts())
    lazy = background(stack)
    stack[:] = 7
    assert np.allclose(lazy.compute(), 7)


# ---- radii, corrections and info ---------------------------------------------------------------

TWO = [counts((2, 9, 8)), counts((3, 7, 6))]


@pytest.mark.parametrize(
    ("radii", "expected"),
    [
        (None, [(7.0, 7.0), (7.0, 7.0)]),
        (7, [(7.0, 7.0), (7.0, 7.0)]),
        (np.float32(7), [(7.0, 7.0), (7.0, 7.0)]),
        (np.array(7), [(7.0, 7.0), (7.0, 7.0)]),
        ((6, 10), [(6.0, 10.0), (6.0, 10.0)]),
        (np.array([6, 10]), [(6.0, 10.0), (6.0, 10.0)]),
        (deque([6.0, 10.0]), [(6.0, 10.0), (6.0, 10.0)]),
        ([(6, 6), (8, 10)], [(6.0, 6.0), (8.0, 10.0)]),
        (np.array([[6, 6], [8, 10]]), [(6.0, 6.0), (8.0, 10.0)]),
        ([np.array([6, 6]), [8, 10]], [(6.0, 6.0), (8.0, 10.0)]),
        (((np.int8(6), 6), range(8, 10)), [(6.0, 6.0), (8.0, 9.0)]),
    ],
)
def test_forms_of_radii(radii, expected):
    _, _, info = bkgd_spatial_mean(TWO, radii)
    assert info["channels_mean_radii_pix"] == expected
    assert info["channels_mean_radius_pix"] is info["channels_mean_radii_pix"]
    assert info["spatial_mean_sigmas"] == [(ry / 2, rx / 2) for ry, rx in expected]
    for pair in info["channels_mean_radii_pix"]:
        assert type(pair) is tuple
        assert [type(radius) for radius in pair] == [float, float]


@pytest.mark.parametrize(
    ("radii", "message"),
    [
        (0, "holds 0:"),
        (-1.0, "holds -1.0:"),
        (float("nan"), "holds nan:"),
        (float("inf"), "holds inf:"),
        (10_000.1, "at most 10000 px"),
        (5e-324, "greater than 0"),
        (10**400, "at most 10000 px"),
        (True, "holds True:"),
        ("7", "holds '7':"),
        ([None, 7], "holds None:"),
        (7j, "holds 7j:"),
        ({6, 10}, "holds {"),
        ([], "sequence of 0 radii"),
        ([7.0], "sequence of 1 radii"),
        ([7.0, 8.0, 9.0], "sequence of 3 radii"),
        ([(6, 6)], "1 pairs for 2 channels"),
        ([(6, 6), (7, 7), (8, 8)], "3 pairs for 2 channels"),
        ([7.0, (6, 6)], "mixes radii and sequences"),
        ([(6, 6), (7, 7, 7)], "instead of a pair"),
        ([(6, 6), ()], "instead of a pair"),
        ([[(6, 6), (7, 7)], [(6, 6), (7, 7)]], "instead of a pair"),
        ([(6, 6), (7, 0)], "holds 0:"),
        (["6", "10"], "holds '6':"),
        (np.zeros((2, 2)), r"holds 0\.0:"),
    ],
)
def test_wrong_radii(radii, message):
    noise = [1.0, 2.0]
    with pytest.raises(ValueError, match=message):
        bkgd_spatial_mean(TWO, radii, noise_corrections=noise)
    assert noise == [1.0, 2.0]


def test_a_list_of_two_radii_for_two_channels_is_a_pair_and_says_so():
    both = r"the tuple \(7\.5, 9\) if that is meant, or \[\(7\.5, 7\.5\), \(9, 9\)\] for one"
    with pytest.warns(UserWarning, match=both) as caught:
        _, _, info = bkgd_spatial_mean(TWO, [7.5, 9])
    assert info["channels_mean_radii_pix"] == [(7.5, 9.0), (7.5, 9.0)]
    assert [warning.filename for warning in caught] == [__file__]


def test_a_job_says_so_too_where_it_was_called(tmp_path):
    for i in range(2):
        zarr.create_array(tmp_path / f"{i}.zarr", data=counts((2, 9, 8)), chunks=(2, 9, 8))
    sources = [tmp_path / "0.zarr", tmp_path / "1.zarr"]
    with pytest.warns(UserWarning, match="list of two numbers") as planned:
        plan_spatial_mean(sources, [7, 9])
    with pytest.warns(UserWarning, match="list of two numbers") as run:
        run_spatial_mean(sources, tmp_path / "out.zarr", [7, 9])
    assert [warning.filename for warning in [*planned, *run]] == [__file__] * 2


@pytest.mark.parametrize("count", [1, 3])
def test_a_list_of_two_radii_reads_one_way_for_other_numbers_of_channels(count):
    _, _, info = bkgd_spatial_mean([counts((2, 9, 8))] * count, [7, 9])
    assert info["channels_mean_radii_pix"] == [(7.0, 9.0)] * count


def test_corrections_default_to_float32_ones():
    _, corrections, _ = bkgd_spatial_mean(TWO, [(6, 6), (8, 10)])
    assert [type(factor) for factor in corrections] == [np.float32, np.float32]
    assert corrections == [noise_correction(3.0, 3.0), noise_correction(4.0, 5.0)]


@pytest.mark.parametrize(
    "given_corrections",
    [
        [np.float32(1), np.float32(2)],
        [1.0, 2],
        np.array([1, 2], np.float32),
        np.array([1.0, 2.0]),
        deque([1.0, 2.0]),
        array.array("d", [1.0, 2.0]),
        [1, Fraction(2)],
        UserList([1.0, 2.0]),
    ],
)
def test_mutable_corrections_are_updated_in_place(given_corrections):
    _, corrections, _ = bkgd_spatial_mean(TWO, noise_corrections=given_corrections)
    assert corrections is given_corrections
    factor = noise_correction(3.5, 3.5)
    assert list(corrections) == pytest.approx([factor, 2 * factor])


def test_a_tuple_of_corrections_gives_a_new_list():
    given_corrections = (1.0, 2.0)
    _, corrections, _ = bkgd_spatial_mean(TWO, noise_corrections=given_corrections)
    assert given_corrections == (1.0, 2.0)
    assert type(corrections) is list
    assert corrections[1] == 2 * noise_correction(3.5, 3.5)


def read_only(values):
    values = np.array(values)
    values.flags.writeable = False
    return values


@pytest.mark.parametrize(
    ("corrections", "error", "message"),
    [
        ([1.0], ValueError, "1 entries for 2 channels"),
        ([], ValueError, "0 entries for 2 channels"),
        ([1.0, float("nan")], ValueError, r"noise_corrections\[1\] is nan"),
        ([1.0, -1.0], ValueError, r"noise_corrections\[1\] is -1"),
        ([float("inf"), 1.0], ValueError, r"noise_corrections\[0\] is inf"),
        (["1", 1.0], ValueError, r"noise_corrections\[0\] is '1'"),
        ([None, 1.0], ValueError, r"noise_corrections\[0\] is None"),
        (
            [1.0, Decimal(2)],
            ValueError,
            r"noise_corrections\[1\] is Decimal\('2'\): pass finite flo",
        ),
        ([1.0, 1e39], ValueError, r"noise_corrections\[1\] is 1e\+39.*that float32 can hold"),
        ([1.0, 10**400], ValueError, r"noise_corrections\[1\] is 1000"),
        ([1.0, 1e-60], ValueError, r"noise_corrections\[1\] is 1e-60.*that float32 can hold"),
        (np.ones((2, 1)), ValueError, r"shape \(2, 1\)"),
        (np.ones(2, int), ValueError, "holds int64"),
        (array.array("i", [1, 1]), ValueError, "holds integers"),
        (read_only([1.0, 1.0]), ValueError, "read-only"),
        (1.0, TypeError, "is a float"),
        ("ab", TypeError, "is a str"),
        ({0: 1.0, 1: 1.0}, TypeError, "is a dict"),
        (bytearray(2), TypeError, "is a bytearray"),
    ],
)
def test_wrong_corrections(corrections, error, message):
    before = repr(corrections)
    with pytest.raises(error, match=message):
        bkgd_spatial_mean(TWO, noise_corrections=corrections)
    assert repr(corrections) == before


# ---- channels ----------------------------------------------------------------------------------


class NotAnArray:
    ndim = 3


@pytest.mark.parametrize(
    ("channels", "error", "message"),
    [
        (counts(), ValueError, r"single array of shape \(6, 20, 24\).*\[array\]"),
        (da.zeros((2, 3, 4)), ValueError, r"pass a sequence of stacks"),
        (np.zeros((2, 3, 4, 5)), ValueError, r"list\(array\)"),
        ([], ValueError, "channels is empty"),
        ((), ValueError, "channels is empty"),
        (None, TypeError, "channels is a NoneType"),
        ("movie.tif", TypeError, r"channels is 'movie\.tif': a path is opened by open_channels"),
        (Path("a.tif"), TypeError, r"channels is .*a\.tif.*: a path is opened by open_channels"),
        (
            ["movie.tif"],
            TypeError,
            r"channels\[0\] is 'movie\.tif': a path is opened by open_",
        ),
        (b"movie.tif", TypeError, "channels is a bytes"),
        (iter([counts()]), TypeError, "pass a sequence"),
        ([np.zeros((3, 4))], ValueError, r"channels\[0\] has shape \(3, 4\)"),
        ([counts(), np.zeros((1, 2, 3, 4))], ValueError, r"channels\[1\] has shape \(1, 2, 3, 4\)"),
        ([np.zeros((3, 0, 4))], ValueError, "no pixels"),
        ([da.zeros((3, 4, 0))], ValueError, "no pixels"),
        ([np.zeros((2, 3, 4), bool)], TypeError, "dtype bool"),
        ([np.zeros((2, 3, 4), complex)], TypeError, "dtype complex128"),
        ([np.zeros((2, 3, 4), object)], TypeError, "dtype object"),
        ([np.zeros((2, 3, 4), "M8[s]")], TypeError, "dtype datetime64"),
        ([da.zeros((2, 3, 4), dtype=bool)], TypeError, "dtype bool"),
        ([[[[1, 2], [3, 4]]]], TypeError, r"channels\[0\] is a list"),
        ([NotAnArray()], TypeError, r"channels\[0\] is a NotAnArray"),
        ([np.ma.zeros((2, 3, 4))], TypeError, "is a MaskedArray"),
        ([da.ma.masked_less(da.zeros((2, 3, 4)), 1)], TypeError, "masks would be ignored"),
    ],
)
def test_wrong_channels(channels, error, message):
    with pytest.raises(error, match=message):
        bkgd_spatial_mean(channels)


def test_unknown_chunk_sizes_are_refused():
    stack = da.from_array(counts(), chunks=(2, -1, -1))
    unknown = stack[stack[:, 0, 0] > 0]
    with pytest.raises(
        ValueError, match=r"unknown chunk sizes \('\?', 20, 24\).*compute_chunk_sizes"
    ):
        bkgd_spatial_mean([unknown])


@pytest.mark.parametrize("channels", [(counts(),), deque([counts()])])
def test_any_sequence_of_channels(channels):
    (bkgd,), _, _ = bkgd_spatial_mean(channels)
    assert bkgd.compute().tobytes() == background(channels[0]).compute().tobytes()


@pytest.mark.parametrize(
    "layout",
    [
        {"chunks": (4, 20, 24)},
        {"chunks": (1, 7, 5)},
        {"chunks": (2, 5, 8), "shards": (4, 10, 24)},
        {"chunks": (4, 9, 24), "zarr_format": 2},
    ],
)
def test_zarr_channels(layout, tmp_path):
    stack = counts()
    stored = zarr.create_array(tmp_path / "m.zarr", shape=stack.shape, dtype="u2", **layout)
    stored[:] = stack
    assert background(stored).compute().tobytes() == background(stack).compute().tobytes()


# ---- options -----------------------------------------------------------------------------------


@pytest.mark.parametrize("parallel", [-2, 1.5, 0.0, "2", np.nan, []])
def test_wrong_parallel(parallel):
    with pytest.raises(
        ValueError, match="parallel is .*: pass True or -1 .*, False, 0 or None for one"
    ):
        bkgd_spatial_mean(TWO, parallel=parallel)


@pytest.mark.parametrize(
    ("parallel", "threads"),
    [(True, 0), (-1, 0), (False, 1), (0, 1), (None, 1), (1, 1), (3, 3), (np.int8(-1), 0)],
)
def test_threads_of_parallel(parallel, threads):
    """0 stands for as many as the worker has."""
    assert check_parallel(parallel) == threads


@pytest.mark.parametrize("engine", ["scipy", "", None, 1])
def test_wrong_engine(engine):
    with pytest.raises(ValueError, match="engine is .*: pass one of auto, fused, dask-image"):
        bkgd_spatial_mean(TWO, engine=engine)


# ---- preallocated outputs ----------------------------------------------------------------------


def zarr_target(shape, store=None, fill=7, **layout):
    return zarr.create_array(
        MemoryStore() if store is None else store,
        shape=shape,
        dtype="f4",
        fill_value=fill,
        **{"chunks": (4, 16, 16), **layout},
    )


@pytest.fixture(params=["held", "by batches"])
def size(request, monkeypatch):
    """Whether the targets fit the memory that may be held before anything is written."""
    if request.param == "by batches":
        monkeypatch.setattr("smlmlp_dask.background.BATCH_BYTES", 4 * 40 * 30 * 5)


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize(("scheduler", "extra"), [("threads", 0), ("threads", 3), ("processes", 3)])
def test_targets_are_filled_and_their_tails_left(tmp_path, extra, scheduler, processes):
    stack = counts((6, 40, 30))
    lazy = da.from_array(stack, chunks=((1, 4, 1), (9, 31), 30))
    shape = (6 + extra, 40, 30)
    targets = [
        np.full(shape, 7, np.float32),
        zarr_target(shape),
        zarr_target(shape, tmp_path / "a.zarr"),
        zarr_target(shape, tmp_path / "b.zarr", chunks=(2, 8, 8), shards=(4, 16, 32)),
        zarr_target(shape, tmp_path / "c.zarr", zarr_format=2),
    ]
    expected = background(stack).compute()
    pool = processes if scheduler == "processes" else None
    with dask.config.set(scheduler=scheduler, num_workers=2, pool=pool):
        bkgds, _, _ = bkgd_spatial_mean([lazy] * len(targets), bkgds=targets)
    for bkgd, target in zip(bkgds, targets, strict=True):
        assert isinstance(bkgd, np.ndarray if isinstance(target, np.ndarray) else da.Array)
        assert bkgd.shape == stack.shape
        assert bkgd.dtype == np.float32
        assert target[:6].tobytes() == expected.tobytes()
        assert (target[6:] == 7).all()
        assert np.asarray(bkgd).tobytes() == expected.tobytes()


def test_a_numpy_target_comes_back_itself_or_as_a_view():
    exact, longer = np.zeros((6, 20, 24), np.float32), np.zeros((8, 20, 24), np.float32)
    bkgds, _, _ = bkgd_spatial_mean([counts(), counts()], bkgds=[exact, longer])
    assert bkgds[0] is exact
    assert bkgds[1].shape == (6, 20, 24)
    bkgds[1][:] = 5
    assert (longer[:6] == 5).all()
    assert (longer[6:] == 0).all()


def test_what_comes_back_is_the_next_calls_output_and_input():
    buffers = [np.zeros((8, 20, 24), np.float32)]
    for frames in (6, 4, 2):  # a movie's chunks, of which the last is short
        buffers, _, _ = bkgd_spatial_mean([counts((frames, 20, 24))], bkgds=buffers)
    twice, _, _ = bkgd_spatial_mean(buffers)
    once = background(counts((2, 20, 24))).compute()
    assert twice[0].compute().tobytes() == background(once).compute().tobytes()


def test_what_comes_back_for_zarr_reads_the_target():
    target = zarr_target((8, 20, 24))
    (bkgd,), _, _ = bkgd_spatial_mean([counts()], bkgds=[target])
    target[:] = 5
    assert (bkgd.compute() == 5).all()


def test_no_frames_leave_the_target_alone():
    target = np.full((2, 20, 24), 7, np.float32)
    stored = zarr_target((2, 20, 24))
    none = counts((0, 20, 24))
    bkgds, _, _ = bkgd_spatial_mean([none, none], bkgds=[target, stored])
    assert [np.asarray(bkgd).shape for bkgd in bkgds] == [none.shape, none.shape]
    assert (target == 7).all()
    assert (stored[:] == 7).all()


def frozen(shape):
    target = np.zeros(shape, np.float32)
    target.flags.writeable = False
    return target


ONE = counts((3, 9, 8)).astype(np.float32)
BUFFER = np.zeros((5, 9, 8), np.float32)


@pytest.mark.parametrize(
    ("channels", "targets", "error", "message"),
    [
        ([ONE], [], ValueError, "bkgds has 0 arrays for 1 channel"),
        ([ONE], [BUFFER, BUFFER], ValueError, "bkgds has 2 arrays for 1 channel"),
        ([ONE], BUFFER, TypeError, "bkgds is a ndarray"),
        ([ONE], {0: BUFFER}, TypeError, "bkgds is a dict"),
        ([ONE], [None], TypeError, r"bkgds\[0\] is a NoneType"),
        ([ONE], [da.zeros(ONE.shape, dtype="f4")], TypeError, r"bkgds\[0\] is a Array"),
        ([ONE], [np.zeros(ONE.shape)], ValueError, "has dtype float64"),
        ([ONE], [np.zeros(ONE.shape, ">f4")], ValueError, "has dtype >f4"),
        ([ONE], [np.zeros((3, 9, 9), "f4")], ValueError, r"shape \(3, 9, 9\) for a channel"),
        ([ONE], [np.zeros((3, 72), "f4")], ValueError, r"shape \(3, 72\) for a channel"),
        ([ONE], [np.zeros((2, 9, 8), "f4")], ValueError, "2 frames for a channel of 3"),
        ([ONE], [frozen((3, 9, 8))], ValueError, "read-only"),
        ([ONE], [ONE], ValueError, r"bkgds\[0\] shares its memory or storage with channels\[0\]"),
        ([ONE, ONE], [BUFFER, BUFFER[1:]], ValueError, r"bkgds\[0\] and bkgds\[1\] share"),
    ],
)
def test_wrong_targets(channels, targets, error, message):
    noise = [1.0] * len(channels)
    before = (ONE.tobytes(), BUFFER.tobytes())
    with pytest.raises(error, match=message):
        bkgd_spatial_mean(channels, bkgds=targets, noise_corrections=noise)
    assert (ONE.tobytes(), BUFFER.tobytes()) == before
    assert noise == [1.0] * len(channels)


def test_a_zarr_target_must_not_be_its_own_channel_or_read_only(tmp_path):
    stored = zarr_target((3, 9, 8), tmp_path / "a.zarr")
    with pytest.raises(ValueError, match="would be overwritten while it is read"):
        bkgd_spatial_mean([zarr.open_array(tmp_path / "a.zarr")], bkgds=[stored])
    with pytest.raises(ValueError, match="read-only"):
        bkgd_spatial_mean([ONE], bkgds=[zarr.open_array(tmp_path / "a.zarr", mode="r")])


def test_interleaved_views_do_not_count_as_shared():
    buffer = np.zeros((3, 9, 16), np.float32)
    bkgd_spatial_mean([ONE, ONE], bkgds=[buffer[..., ::2], buffer[..., 1::2]])
    assert buffer[..., ::2].tobytes() == buffer[..., 1::2].tobytes()


def unreadable(frame, frames=11):
    """A stack of one frame a block, of which one cannot be read."""

    def read(block, block_info=None):
        if block_info[0]["chunk-location"][0] == frame:
            raise OSError("the disk is gone")
        return block

    lazy = da.ones((frames, 9, 8), chunks=(1, 9, 8), dtype="u2")
    return da.map_blocks(read, lazy, dtype="u2", meta=np.empty((0, 0, 0), "u2"))


@pytest.mark.parametrize("frame", [0, 5, 10])
@pytest.mark.parametrize("kind", ["numpy", "memory", "files"])
def test_nothing_changes_when_the_second_channel_cannot_be_read(frame, kind, tmp_path):
    shape = (11, 9, 8)
    place = tmp_path / "a.zarr" if kind == "files" else None
    first = np.full(shape, 7, np.float32) if kind == "numpy" else zarr_target(shape, place)
    second = np.full(shape, 7, np.float32)
    noise = [1.0, 1.0]
    with pytest.raises(OSError, match="the disk is gone"):
        bkgd_spatial_mean(
            [np.ones(shape), unreadable(frame)], bkgds=[first, second], noise_corrections=noise
        )
    assert noise == [1.0, 1.0]
    assert (first[:] == 7).all()
    assert (second == 7).all()


@pytest.mark.parametrize(("frame", "untouched"), [(0, True), (10, True), (5, False)])
def test_of_large_targets_the_ends_are_tried_first(monkeypatch, frame, untouched):
    """What the docstring says of targets that cannot be held back."""
    monkeypatch.setattr("smlmlp_dask.background.BATCH_BYTES", 4 * 9 * 8)
    targets = [np.full((11, 9, 8), 7, np.float32) for _ in range(2)]
    noise = [1.0, 1.0]
    with pytest.raises(OSError, match="the disk is gone"):
        bkgd_spatial_mean(
            [np.ones((11, 9, 8)), unreadable(frame)], bkgds=targets, noise_corrections=noise
        )
    assert noise == [1.0, 1.0]
    assert bool((targets[0] == 7).all()) is untouched


class Particular(UserList):
    """A list that takes no 32-bit floats at its end."""

    def __setitem__(self, i, value):
        if i == 1 and isinstance(value, np.float32):
            raise TypeError("no float32 here")
        super().__setitem__(i, value)


def test_factors_that_cannot_be_stored_change_nothing():
    noise = Particular([1.0, 2.0])
    targets = [np.full(stack.shape, 7, np.float32) for stack in TWO]
    with pytest.raises(TypeError, match="no float32 here"):
        bkgd_spatial_mean(TWO, bkgds=targets, noise_corrections=noise)
    assert list(noise) == [1.0, 2.0]
    assert all((target == 7).all() for target in targets)


def spelled(place, spelling):
    """Another way to the same folder."""
    match spelling:
        case "relative":
            return os.path.relpath(place)
        case "dots":
            return str(place / ".." / place.name)
        case "link":
            (place.parent / "link").symlink_to(place)
            return place.parent / "link"
        case "linked parent":
            (place.parent / "up").symlink_to(place.parent)
            return place.parent / "up" / place.name
        case "store":
            return LocalStore(place)
        case "url":
            return f"file://{place}"
        case "fsspec":
            return FsspecStore.from_url(f"file://{place}")


SPELLINGS = ["relative", "dots", "link", "linked parent", "store", "url", "fsspec"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_two_spellings_of_one_zarr_array_are_one(spelling, tmp_path):
    target = zarr_target((3, 9, 8), tmp_path / "a.zarr")
    again = zarr.open_array(spelled(tmp_path / "a.zarr", spelling), mode="r+")
    noise = [1.0, 1.0]
    with pytest.raises(ValueError, match=r"bkgds\[0\] and bkgds\[1\] share"):
        bkgd_spatial_mean([ONE, ONE], bkgds=[target, again], noise_corrections=noise)
    with pytest.raises(ValueError, match=r"bkgds\[0\] shares .* with channels\[1\]"):
        bkgd_spatial_mean([ONE, again], bkgds=[target, ONE.copy()], noise_corrections=noise)
    assert (target[:] == 7).all()
    assert noise == [1.0, 1.0]


def test_an_array_by_its_group_and_one_inside_another_are_noticed(tmp_path):
    group = zarr.open_group(tmp_path / "g.zarr")
    member = group.create_array("a/b", shape=(3, 9, 8), dtype="f4")
    target = zarr.open_array(tmp_path / "g.zarr/a/b", mode="r+")
    inside = zarr_target((3, 9, 8), tmp_path / "g.zarr/a/b/c")
    for channel in (member, inside):
        with pytest.raises(ValueError, match=r"bkgds\[0\] shares its memory or storage"):
            bkgd_spatial_mean([channel], bkgds=[target])


def test_one_dictionary_in_memory_is_one_place_and_equal_ones_are_two():
    target = zarr_target((3, 9, 8))
    for mode in ("r", "r+"):
        channel = zarr.open_array(target.store.with_read_only(mode == "r"), mode=mode)
        with pytest.raises(ValueError, match=r"bkgds\[0\] shares its memory or storage"):
            bkgd_spatial_mean([channel], bkgds=[target])
    twins = [zarr_target((3, 9, 8)), zarr_target((3, 9, 8))]
    bkgd_spatial_mean([ONE, ONE], bkgds=twins)
    assert twins[0][:].tobytes() == twins[1][:].tobytes()


def test_neighbours_in_one_group_are_two_places(tmp_path):
    group = zarr.open_group(tmp_path / "g.zarr")
    channel, target = (
        group.create_array(name, shape=(3, 9, 8), dtype="f4") for name in ("a", "a_background")
    )
    channel[:] = ONE
    bkgd_spatial_mean([channel], bkgds=[target])
    assert target[:].tobytes() == background(ONE).compute().tobytes()


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_zarr_array_whose_folder_is_gone_is_refused(tmp_path, zarr_format):
    place = tmp_path / "gone.zarr"
    gone = zarr_target((3, 9, 8), place, zarr_format=zarr_format)
    gone[:] = 5
    assert (background(gone).compute() != 7).all()
    shutil.rmtree(place)
    with pytest.raises(FileNotFoundError, match=r"channels\[0\] is a Zarr array .*gone\.zarr"):
        background(gone)
    with pytest.raises(FileNotFoundError, match=r"bkgds\[0\] is a Zarr array .*gone\.zarr"):
        bkgd_spatial_mean([ONE], bkgds=[gone])
    assert not place.exists()
