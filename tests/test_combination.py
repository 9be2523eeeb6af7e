"""The median over frames, the opening, and their combination with the mean, as lazy calls.

What they share with the mean alone is tested here, and the rest of it in `test_background.py`.
"""

import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import dask
import dask.array as da
import distributed
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

import smlmlp_dask
from smlmlp_dask import (
    bkgd_combination,
    bkgd_spatial_mean,
    bkgd_spatial_opening,
    bkgd_temporal_median,
    noise_correction,
)
from smlmlp_dask.lazy import chunking

from . import reference, step_cases, strategies
from .test_background import unreadable, zarr_target
from .test_golden import CHUNKINGS, chunk

ENGINES = ["fused", "dask-image"]
CALLS = {
    "median": lambda channels, **given: bkgd_temporal_median(channels, 2, **given),
    "opening": lambda channels, **given: bkgd_spatial_opening(channels, (1.4, 2.2), **given),
    "combination": lambda channels, **given: bkgd_combination(
        channels,
        do_spatial_opening=True,
        channels_opening_radii_pix=1.2,
        median_window_fr=2,
        channels_mean_radii_pix=(1.5, 2.5),
        **given,
    ),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
EVERY = {**CALLS, "mean": lambda channels, **given: bkgd_spatial_mean(channels, **given)}
every_call = pytest.mark.parametrize("call", EVERY.values(), ids=EVERY)
each_engine = pytest.mark.parametrize("engine", ENGINES)
MOVIE = np.random.default_rng(3).poisson(90, (11, 20, 24)).astype(np.uint16)


def bits(call, stack, scheduler="synchronous", **options):
    [bkgd], _, _ = call([stack], **options)
    return bkgd.compute(scheduler=scheduler).tobytes()


def keep_tiles(patch):
    """A slab of tiles may hold nothing: frames are never put together."""
    patch.setattr(
        chunking.whole_frame_chunks, "__kwdefaults__", {"slab_bytes": 0, "block_bytes": 1}
    )


def join_nothing(patch):
    """Blocks stay as short as the chunks."""
    patch.setattr(chunking, "join_runs", lambda runs, halo, most: tuple(runs))


# ---- the numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(step_cases.CASES)))
@each_engine
def test_golden(number, engine):
    """Median and opening bit for bit; the combination as close as its mean is promised to be."""
    case, golden = step_cases.CASES[number], np.load(step_cases.GOLDEN)
    stored = [golden[f"{number}_channel_{i}"] for i in range(len(case.channels))]
    channels = [chunk(channel, (4, 5, 6)) for channel in stored]
    bkgds, factors, _ = step_cases.run(smlmlp_dask, case, channels, engine=engine)
    assert np.array(factors, np.float32).tobytes() == golden[f"{number}_factors"].tobytes()
    for i, (bkgd, channel) in enumerate(zip(bkgds, stored, strict=True)):
        result, expected = bkgd.compute(), golden[f"{number}_bkgd_{i}"]
        if case.kind != "combination":
            assert result.tobytes() == expected.astype(np.float32).tobytes()
        error = np.abs(result.astype(float) - expected).max()
        assert error <= reference.TOLERANCE * np.abs(channel.astype(float)).max()


def test_the_golden_cases_are_what_they_say():
    golden = np.load(step_cases.GOLDEN)
    for number, case in enumerate(step_cases.CASES):
        for i, channel in enumerate(step_cases.channels_of(case)):
            assert channel.tobytes() == golden[f"{number}_channel_{i}"].tobytes()


@each_engine
@strategies.examples(25)
@given(stack=strategies.stacks(max_frames=9, max_side=6), window=st.integers(0, 12))
def test_the_median_is_that_of_the_slow_reference(engine, stack, window):
    [bkgd], _, _ = bkgd_temporal_median([stack], window, engine=engine)
    assert bkgd.compute().tobytes() == reference.median(stack, window).tobytes()


@each_engine
@strategies.examples(25)
@given(
    stack=strategies.stacks(max_frames=1, max_side=9),
    radii=st.tuples(st.floats(0.1, 12), st.floats(0.1, 12)),
)
def test_the_opening_is_that_of_the_slow_reference(engine, stack, radii):
    [bkgd], _, _ = bkgd_spatial_opening([stack], [radii], engine=engine)
    assert bkgd.compute().tobytes() == reference.opening(stack, *radii).tobytes()


@each_engine
def test_each_step_takes_what_those_before_have_left(engine):
    """Three calls, one after the other, on residuals in memory."""
    left = MOVIE.astype(np.float32)
    for call in (
        lambda stack: bkgd_spatial_opening([stack], 1.2, engine=engine),
        lambda stack: bkgd_temporal_median([stack], 2, engine=engine),
        lambda stack: bkgd_spatial_mean([stack], (1.5, 2.5), engine=engine),
    ):
        left = left - call(left)[0][0].compute()
    assert bits(CALLS["combination"], MOVIE, engine=engine) == (MOVIE - left).tobytes()


@each_engine
@pytest.mark.parametrize("number", range(3))
def test_a_step_alone_gives_what_its_own_function_gives(engine, number):
    names = ("do_spatial_opening", "do_temporal_median", "do_spatial_mean")
    taken = {name: i == number for i, name in enumerate(names)}
    stack = (MOVIE / 7).astype(np.float32)
    alone = (bkgd_spatial_opening, bkgd_temporal_median, bkgd_spatial_mean)[number]
    [expected], factors, info = alone([stack], engine=engine)
    [bkgd], same_factors, same_info = bkgd_combination([stack], **taken, engine=engine)
    assert bkgd.compute().tobytes() == expected.compute().tobytes()
    assert same_factors == factors
    assert same_info.keys() == info.keys()


def test_no_step_is_no_background():
    none = {"do_temporal_median": False, "do_spatial_mean": False}
    target = np.ones(MOVIE.shape, np.float32)
    factors = [np.float32(3)]
    (bkgd, filled), same, info = bkgd_combination(
        [MOVIE, MOVIE], [np.ones_like(target), target], factors * 2, **none
    )
    [lazy], ones, _ = bkgd_combination([MOVIE], **none)
    assert filled is target
    assert not bkgd.any()
    assert not target.any()
    assert (lazy.shape, lazy.dtype) == (MOVIE.shape, np.float32)
    assert not lazy.compute().any()
    assert (same, ones, info) == (factors * 2, [1], {})


@each_engine
def test_frames_that_are_far_away_do_not_count(engine):
    changed = MOVIE.copy()
    changed[7:] += 1000
    results = [
        bkgd_combination([stack], median_window_fr=2, engine=engine)[0][0].compute()
        for stack in (MOVIE, changed)
    ]
    same = [one.tobytes() == other.tobytes() for one, other in zip(*results, strict=True)]
    assert same == [True] * 5 + [False] * 6


# ---- pixels that are no numbers ------------------------------------------------------------------


@each_engine
def test_a_nan_makes_the_medians_nan_whose_windows_hold_it(engine):
    stack = MOVIE.astype(np.float32)
    stack[5, 3, 4] = np.nan
    [bkgd], _, _ = bkgd_temporal_median([da.from_array(stack, chunks=3)], 2, engine=engine)
    result = bkgd.compute()
    expected = np.zeros(stack.shape, bool)
    expected[3:8, 3, 4] = True
    assert np.array_equal(np.isnan(result), expected)
    whole = bkgd_temporal_median([MOVIE], 2)[0][0].compute()
    assert np.array_equal(result[~expected], whole[~expected])


@each_engine
def test_a_nan_spreads_as_far_as_an_opening_sees(engine):
    stack = MOVIE.astype(np.float32)
    stack[5, 10, 12] = np.nan
    [bkgd], _, _ = bkgd_spatial_opening([stack], 1.0, engine=engine)
    result = bkgd.compute()
    # the disk of radius 1 is a cross of five pixels: a cross around each of them
    reached = np.add.outer(np.abs(np.arange(20) - 10), np.abs(np.arange(24) - 12)) <= 2
    assert np.array_equal(np.isnan(result[5]), reached)
    whole = bkgd_spatial_opening([MOVIE], 1.0)[0][0].compute()
    assert np.array_equal(result[5][~reached], whole[5][~reached])
    assert np.array_equal(np.delete(result, 5, 0), np.delete(whole, 5, 0))


@each_engine
def test_infinite_pixels_are_the_smallest_and_largest(engine):
    stack = np.array([-np.inf, np.inf, 3, 3.4e38, 3.4e38, 1e300])[:, None, None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        [bkgd], _, _ = bkgd_temporal_median([stack], 1, engine=engine)
        result = bkgd.compute().ravel()
    inf, large = np.inf, np.float32(3.4e38)
    # the first mean is that of both infinities; the last of a number and what float32 cannot hold
    np.testing.assert_array_equal(result, [np.nan, 3, large, large, large, inf])


# ---- the same bits -------------------------------------------------------------------------------


@each_call
@each_engine
def test_same_bits_for_every_chunking(call, engine, monkeypatch):
    whole = bits(call, MOVIE, engine=engine)
    for how in (*CHUNKINGS.values(), ((3, 1, 7), (13, 7), (24,)), (2, 20, 24)):
        assert bits(call, chunk(MOVIE, how), engine=engine) == whole
    join_nothing(monkeypatch)  # which matters where chunks are short in time
    for how in ("irregular", ((3, 1, 7), (13, 7), (24,)), (2, 20, 24)):
        assert bits(call, chunk(MOVIE, how), engine=engine) == whole
    keep_tiles(monkeypatch)
    for how in ("irregular", (2, 11, 7), (3, 5, 4), (11, 1, 24)):
        assert bits(call, chunk(MOVIE, how), engine=engine) == whole


@strategies.examples(30)
@given(data=st.data())
def test_same_bits_for_any_movie_and_chunks(data):
    stack = data.draw(strategies.stacks(max_frames=12))
    lazy = data.draw(strategies.chunked(stack))
    call = data.draw(st.sampled_from([*CALLS.values()]))
    tiled, short = data.draw(st.booleans()), data.draw(st.booleans())
    whole = bits(call, stack)
    with pytest.MonkeyPatch.context() as patch:
        if tiled:
            keep_tiles(patch)
        if short:
            join_nothing(patch)
        assert bits(call, lazy) == whole


@every_call
@each_engine
@pytest.mark.parametrize("parallel", [True, -1, None, 0, 1, 3, np.int64(2)])
def test_same_bits_in_parallel(call, engine, parallel):
    lazy = da.from_array(MOVIE, chunks=(4, 20, 24))
    assert bits(call, lazy, engine=engine, parallel=parallel) == bits(call, lazy, engine=engine)


@pytest.mark.slow
@each_call
def test_same_bits_on_threads_processes_and_a_client(call):
    lazy = da.from_array(MOVIE, chunks=(4, 9, 24))
    expected = bits(call, MOVIE)
    assert bits(call, lazy, "threads") == expected
    [bkgd], _, _ = call([lazy])
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert bkgd.compute(scheduler="processes", pool=pool).tobytes() == expected
    with distributed.Client(processes=False, n_workers=2, dashboard_address=None):
        assert bkgd.compute().tobytes() == expected


# ---- laziness and declared form ------------------------------------------------------------------


@pytest.mark.usefixtures("no_compute")
@every_call
@each_engine
def test_nothing_is_computed_by_the_call(call, engine, tmp_path):
    stored = zarr.create_array(tmp_path / "m.zarr", shape=(64, 9, 9), chunks=(8, 9, 9), dtype="u2")
    stored.store.close()
    lazy = da.zeros((10_000, 32, 32), chunks=(16, 16, 16), dtype="u2")
    bkgds, _, _ = call([stored, lazy, MOVIE], engine=engine)
    assert [bkgd.shape for bkgd in bkgds] == [(64, 9, 9), (10_000, 32, 32), (11, 20, 24)]


@every_call
@each_engine
@pytest.mark.parametrize("tile", [(4, 20, 24), (4, 7, 9)])
def test_declared_is_what_is_computed(call, engine, tile):
    [bkgd], _, _ = call([da.from_array(MOVIE.astype(">u2"), chunks=tile)], engine=engine)
    assert bkgd.dtype == np.float32
    assert type(bkgd._meta) is np.ndarray
    for index in np.ndindex(*bkgd.numblocks):
        block = bkgd.blocks[index]
        computed = block.compute(scheduler="synchronous")
        assert type(computed) is np.ndarray
        assert (computed.shape, computed.dtype) == (block.shape, block.dtype)
        assert computed.flags.c_contiguous


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_each_block_is_one_task(call):
    """All steps of a block together, however many chunks it overlaps."""
    lazy = da.from_array(MOVIE, chunks=(2, 7, 9))
    [bkgd], _, _ = call([lazy])
    assert len(bkgd.dask) - len(lazy.dask) == bkgd.npartitions


def test_short_chunks_are_joined_in_time_and_long_ones_kept():
    def frames(chunks, window, shape=(400, 8, 8)):
        lazy = da.zeros(shape, chunks=(chunks, *shape[1:]), dtype="u2")
        return bkgd_temporal_median([lazy], window)[0][0].chunks[0]

    assert frames(16, 0) == (16,) * 25
    assert frames(16, 10) == (48,) * 8 + (16,)
    assert frames(150, 10) == (150, 150, 100)
    assert frames((200, 1, 199), 10) == (200, 200)
    # a frame of 2**23 pixels is 32 MiB of float32
    assert frames(1, 10, (9, 2048, 4096)) == (4, 4, 1)
    lazy = da.zeros((64, 8, 8), chunks=(4, 8, 8), dtype="u2")
    assert bkgd_spatial_opening([lazy])[0][0].chunks == lazy.chunks


def test_of_a_long_movie_a_frame_reads_its_neighbours_only():
    seen = []

    def read(block, block_info=None):
        seen.append(block_info[0]["chunk-location"][0])
        return block

    lazy = da.ones((90, 4, 5), chunks=(3, 4, 5), dtype="u2")
    lazy = lazy.map_blocks(read, dtype="u2", meta=np.empty((0, 0, 0), "u2"))
    [bkgd], _, _ = bkgd_temporal_median([lazy], 4)
    assert bkgd.chunks[0] == (18,) * 5
    bkgd[40].compute(scheduler="synchronous")
    # frames 36 to 53, and four on each side
    assert sorted(seen) == list(range(32 // 3, 57 // 3 + 1))


# ---- arguments, factors and info -----------------------------------------------------------------


def test_info_and_factors():
    two = [MOVIE, MOVIE[:4, :9, :8]]
    factors = [2.0, np.float32(3)]
    _, same, info = bkgd_combination(
        two,
        None,
        factors,
        do_spatial_opening=True,
        channels_opening_radii_pix=[(1, 2), (3, 3)],
        median_window_fr=np.int64(4),
        channels_mean_radii_pix=(6, 10),
    )
    assert same is factors
    assert same == [np.float32(2) * noise_correction(3, 5), np.float32(3) * noise_correction(3, 5)]
    assert all(isinstance(factor, np.float32) for factor in same)
    assert list(info) == [
        "channels_opening_radii_pix",
        "footprints",
        "median_window_fr",
        "channels_mean_radii_pix",
        "channels_mean_radius_pix",
        "spatial_mean_sigmas",
        "spatial_mean_kernels_y",
        "spatial_mean_kernels_x",
    ]
    assert info["channels_opening_radii_pix"] == [(1.0, 2.0), (3.0, 3.0)]
    assert [footprint.shape for footprint in info["footprints"]] == [(3, 5), (7, 7)]
    assert info["median_window_fr"] == 4
    assert type(info["median_window_fr"]) is int


@pytest.mark.parametrize("call", [CALLS["median"], CALLS["opening"]])
def test_median_and_opening_multiply_by_one(call):
    factors = (2.0, 0.0)
    _, made, _ = call([MOVIE, MOVIE], noise_corrections=factors)
    assert made == [2, 0]
    assert factors == (2.0, 0.0)
    assert call([MOVIE])[1] == [np.float32(1)]


def test_none_is_the_default():
    assert bkgd_temporal_median([MOVIE], None)[2] == {"median_window_fr": 25}
    assert bkgd_spatial_opening([MOVIE], None)[2]["channels_opening_radii_pix"] == [(3.0, 3.0)]
    given = dict.fromkeys(("channels_opening_radii_pix", "median_window_fr"))
    _, _, info = bkgd_combination([MOVIE], **given, do_spatial_opening=True)
    assert info["median_window_fr"] == 25
    assert info["channels_opening_radii_pix"] == [(3.0, 3.0)]


def test_a_list_of_two_radii_for_two_channels_says_what_it_is():
    with pytest.warns(UserWarning, match=r"channels_opening_radii_pix is a list") as caught:
        _, _, info = bkgd_spatial_opening([MOVIE, MOVIE], [2, 3])
    assert caught[0].filename == __file__
    assert info["channels_opening_radii_pix"] == [(2.0, 3.0)] * 2


# ---- preallocated outputs ------------------------------------------------------------------------


@each_call
@pytest.mark.parametrize("size", ["held", "by batches"])
def test_targets_are_filled_and_their_tails_left(call, size, tmp_path, monkeypatch):
    if size == "by batches":
        monkeypatch.setattr("smlmlp_dask.background.BATCH_BYTES", 4 * 20 * 24 * 5)
    lazy = da.from_array(MOVIE, chunks=((1, 4, 6), (9, 11), 24))
    shape = (14, 20, 24)
    targets = [
        np.full(MOVIE.shape, 7, np.float32),
        np.full(shape, 7, np.float32),
        zarr_target(shape, tmp_path / "a.zarr"),
        zarr_target(shape, tmp_path / "b.zarr", chunks=(2, 8, 8), shards=(4, 16, 32)),
    ]
    expected = bits(call, MOVIE)
    bkgds, _, _ = call([lazy] * 4, bkgds=targets)
    assert bkgds[0] is targets[0]
    assert np.shares_memory(bkgds[1], targets[1])
    for bkgd, target in zip(bkgds, targets, strict=True):
        assert np.asarray(bkgd).tobytes() == target[:11].tobytes() == expected
        assert (target[11:] == 7).all()


@each_call
def test_what_comes_back_is_the_next_calls_output_and_input(call):
    buffers = [np.zeros((8, 20, 24), np.float32)]
    for frames in (6, 4):  # a movie's chunks, of which the last is short
        buffers, _, _ = call([MOVIE[:frames]], bkgds=buffers)
    assert buffers[0].tobytes() == bits(call, MOVIE[:4])
    assert bits(call, buffers[0]) == bits(call, buffers[0].copy())


@each_call
def test_nothing_changes_when_a_channel_cannot_be_read(call):
    target, factors = np.full((11, 9, 8), 7, np.float32), [1.0, 1.0]
    with pytest.raises(OSError, match="the disk is gone"):
        call(
            [np.ones((11, 9, 8)), unreadable(5)],
            bkgds=[target, target.copy()],
            noise_corrections=factors,
        )
    assert factors == [1.0, 1.0]
    assert (target == 7).all()


@each_call
def test_no_frames(call):
    target = np.full((2, 20, 24), 7, np.float32)
    bkgds, _, _ = call([MOVIE[:0], MOVIE[:0]], bkgds=[target, zarr_target((2, 20, 24))])
    assert [bkgd.shape for bkgd in bkgds] == [(0, 20, 24)] * 2
    assert (target == 7).all()
    with dask.config.set(scheduler="synchronous"):
        assert call([MOVIE[:0]])[0][0].compute().shape == (0, 20, 24)
