"""What a block holds: planned no less than it is, and never above a limit without a word."""

import re
from concurrent.futures import ThreadPoolExecutor
from math import prod
from multiprocessing.pool import ThreadPool
from threading import Lock

import dask
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st
from numcodecs import BitRound

from smlmlp_dask import (
    DescribedMovie,
    TemporalMedian,
    blocks,
    plan_background,
    plan_spatial_mean,
    run_spatial_mean,
    units,
)
from smlmlp_dask.execution import workers
from smlmlp_dask.execution.workers import BASE_BYTES, Workers
from smlmlp_dask.filters.spatial_mean import SpatialMean
from smlmlp_dask.movies.opening import open_stacks
from smlmlp_dask.movies.recording import Recording
from smlmlp_dask.movies.selection import Selection
from smlmlp_dask.movies.stack import Stack
from smlmlp_dask.pipeline import channels, running
from smlmlp_dask.store import codecs
from tests import strategies
from tests.memory import allocated

MIB = 2**20


# ---- what is held, counted otherwise -----------------------------------------------------------


def held_by(block, plan, stack):
    """Count the arrays of one block: what is read, units in decoding, one chunk on its way out."""
    part = stack.part(block.read)
    numbers = (part.frames, part.rows, part.columns)
    reached = prod(
        len({n // size for n in axis}) for axis, size in zip(numbers, stack.movie.unit, strict=True)
    )
    unit = stack.dtype.itemsize * prod(stack.movie.unit)
    together = max(1, units.DECODING_BYTES // (2 * unit))
    read = stack.dtype.itemsize * prod(map(len, numbers))
    frames = min(plan.chunks[0], len(part.frames))
    filtered = 0 if plan.kept else 4 * frames * len(part.rows) * len(part.columns)
    whole = (frames, len(part.rows), len(part.columns)) == tuple(plan.chunks)
    chunk = (stack.dtype.itemsize if plan.kept else 4) * prod(plan.chunks)
    return read + min(together, reached) * 2 * unit + filtered + chunk * (not whole)


lengths = st.integers(1, 40)


@st.composite
def parts_of_movies(draw):
    shape = draw(st.tuples(lengths, lengths, lengths))
    movie = DescribedMovie(shape, "u2", draw(st.tuples(lengths, lengths, lengths)))
    axes = []
    for axis, length in enumerate(shape):
        start = draw(st.integers(0, length - 1))
        stop = draw(st.integers(start + 1, length))
        step = draw(st.integers(1, 5)) if axis == 0 else 1
        taken = range(start, stop, step)
        axes.append(taken[::-1] if draw(st.booleans()) else taken)
    return Stack(movie=movie, frames=axes[0], rows=axes[1], columns=axes[2])


@given(
    parts_of_movies(),
    st.tuples(st.integers(0, 6), st.integers(0, 6)),
    st.integers(1, 100_000),
    st.integers(200, 20_000),
    st.sampled_from([1, 3000, 2**26]),
    st.booleans(),
)
@strategies.examples(200)
def test_no_block_holds_more_than_was_planned(
    stack, halo, memory_bytes, block_bytes, decoding, kept
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units, "DECODING_BYTES", decoding)
        plan = blocks.plan_blocks(
            *(stack.shape, 2, stack.unit, (0, 0) if kept else halo),
            origin=stack.origin,
            decoding=stack.decoding,
            kept=kept,
            memory_bytes=memory_bytes,
            block_bytes=block_bytes,
        )
        assert plan.block_bytes == sum(plan.held.values())
        for block in plan.blocks():
            assert held_by(block, plan, stack) <= plan.block_bytes


@given(parts_of_movies(), st.integers(1, 30))
def test_groups_of_units_are_read_once_each(stack, most):
    box = [slice(min(axis), max(axis) + 1) for axis in (stack.frames, stack.rows, stack.columns)]
    count = np.zeros(stack.movie.shape, np.uint8)
    seen = set()
    for group in units.in_groups(box, stack.movie.unit, most):
        count[group] += 1
        numbers = set(np.ndindex(*map(len, (u := units.touched(group, stack.movie.unit)))))
        numbers = {tuple(axis[i] for axis, i in zip(u, place, strict=True)) for place in numbers}
        assert len(numbers) <= most
        assert not seen & numbers
        seen |= numbers
    assert (count[tuple(box)] == 1).all()
    assert count.sum() == count[tuple(box)].size


@pytest.mark.parametrize(
    ("movie", "box", "decoding", "reason"),
    [
        (
            (512, 1024, 1024),
            (0, 0, 16, 16),
            2 * 2 * 256 * MIB,
            "a chunk is decoded whole, for 16 x 16",
        ),
        ((64, 1024, 1024), (0, 0, 16, 16), 2 * 2 * 256 * MIB, "one longer than the movie, too"),
        ((512, 1024, 1024), None, 2 * 2 * 256 * MIB, "never two large ones at a time"),
    ],
)
def test_what_is_decoded_counts(movie, box, decoding, reason):
    described = DescribedMovie(movie, "u2", (256, 1024, 1024))
    plan = plan_spatial_mean(
        described, bboxes=[None if box is None else [box]], memory_limit="64GB"
    )
    assert plan.channels[0].held["decoding"] == decoding, reason


# ---- limits ------------------------------------------------------------------------------------


@given(
    st.tuples(st.integers(1, 300), st.integers(1, 3000), st.integers(1, 3000)),
    st.tuples(st.integers(1, 300), st.integers(1, 3000), st.integers(1, 3000)),
    st.integers(1, 9),
    st.integers(1, 4),
    st.sampled_from([1.0, 0.75]),
)
@strategies.examples(60)
def test_the_least_limit_that_is_named_works(shape, unit, threads, processes, usable):
    described = Recording.of(DescribedMovie(shape, "f4", unit), "none")
    (stacks,) = Selection().stacks([described])
    there = Workers(threads, processes * BASE_BYTES, processes, usable)
    with pytest.raises(ValueError, match="raise memory_limit") as refused:
        channels.cut_into_blocks(stacks, SpatialMean(7.0), there)
    least = int(re.search(r"--memory-limit\) to (\d+)MB", str(refused.value))[1]) * 10**6
    enough = Workers(threads, least, processes, usable)
    (channel,) = channels.cut_into_blocks(stacks, SpatialMean(7.0), enough)
    tasks = 1 if processes == 1 and usable == 1 else threads  # our own threads, or others
    assert tasks * channel.plan.block_bytes + processes * BASE_BYTES <= usable * least
    # and it is not far from the least that there is; it is rounded up to MB
    above = processes * BASE_BYTES + (usable * least - processes * BASE_BYTES - 2 * 10**6) / 2
    too_little = Workers(threads, int(above / usable), processes, usable)
    with pytest.raises(ValueError, match="raise memory_limit"):
        channels.cut_into_blocks(stacks, SpatialMean(7.0), too_little)


def test_a_refusal_shows_its_sum():
    movie = DescribedMovie((512, 1024, 1024), "u2", (256, 1024, 1024))
    with (
        dask.config.set(num_workers=2),
        pytest.raises(ValueError, match="units of 256 x 1024") as no,
    ):
        plan_spatial_mean(movie, bboxes=[[(0, 0, 16, 16)]], memory_limit="600MB")
    for part in ("512 bytes frames read", "1.07 GB decoding", "filtered", "encoding",
                 "with 315 MB for Python and its libraries it exceeds 600 MB", "to 1389MB",
                 "or rechunk the movie"):  # fmt: skip
        assert part in str(no.value)


def test_fewer_blocks_run_at_a_time_before_a_limit_is_refused(tmp_path):
    """On our own threads: where one block fits, and not one for each thread."""
    movie = DescribedMovie((512, 1024, 1024), "u2", (256, 1024, 1024))
    with dask.config.set(num_workers=4):
        plan = plan_spatial_mean(movie, bboxes=[[(0, 0, 16, 16)]], memory_limit="3GB")
        assert plan.threads == 2
        assert plan.projected_bytes <= 3 * 10**9
        # workers that we do not start keep their threads
        with pytest.raises(ValueError, match="4 at a time exceed 3 GB"):
            plan_spatial_mean(movie, bboxes=[[(0, 0, 16, 16)]], memory_limit="3GB", workers=4)


def test_blocks_are_not_cut_to_shreds_to_keep_all_threads_busy():
    """Two blocks of a row each would fit, and decode each frame some 100 000 times."""
    movie = DescribedMovie((5000, 2048, 2048), "u2")
    with dask.config.set(num_workers=2):
        plan = plan_background(movie, [TemporalMedian(25), SpatialMean(7.0)], memory_limit="460MB")
    assert plan.threads == 1
    assert plan.projected_bytes <= 460 * 10**6
    assert plan.channels[0].read_amplification < 500


def test_a_block_is_cut_to_fewer_frames_before_it_is_refused():
    movie = DescribedMovie((512, 1024, 1024), "u2", (64, 1024, 1024))
    with dask.config.set(num_workers=2):
        roomy = plan_spatial_mean(movie, memory_limit="4GB").channels[0]
        # on workers whose threads are not ours; else one block at a time would decode less
        tight = plan_spatial_mean(movie, memory_limit="1400MB", workers=2)
    assert roomy.block == (64, 1024, 1024)
    assert tight.channels[0].block[0] < 64
    assert tight.channels[0].read_amplification > 1
    assert tight.projected_bytes <= 1.4 * 10**9


# ---- chunks that no codec takes ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "unit", "reason"),
    [
        ((10, 30_000, 30_000), None, "frames of 3.6 GB of float32"),
        ((10, 30_000, 30_000), (1, 256, 256), "tiled frames"),
        ((2, 3, 600_000_000), None, "a row is more than a codec takes"),
        ((100_003, 90, 90), (100_003, 90, 90), "a prime number of small frames in one unit"),
    ],
)
def test_no_chunk_is_more_than_a_codec_takes(shape, unit, reason):
    movie = DescribedMovie(shape, "u1", unit)
    (plan,) = plan_spatial_mean(movie, memory_limit="200GB").channels
    assert 4 * prod(plan.chunks) <= blocks.CODEC_BYTES, reason
    assert all(b % c == 0 or b == n for b, c, n in zip(plan.block, plan.chunks, shape, strict=True))


def test_the_largest_chunk_that_a_codec_takes_stays_whole():
    (plan,) = plan_spatial_mean(DescribedMovie((2, 23_000, 23_000)), memory_limit="99GB").channels
    assert plan.chunks == (1, 23_000, 23_000)


# ---- who runs the blocks -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "make"),
    [("pool", ThreadPoolExecutor), ("pool", ThreadPool), ("scheduler", ThreadPoolExecutor)],
)
def test_the_threads_of_a_users_pool_are_planned_for(kind, make):
    with make(7) as pool, dask.config.set({kind: pool, "num_workers": 2}):
        assert plan_spatial_mean(DescribedMovie((9, 20, 30))).threads == 7


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """A store of tiled frames that was begun with plenty of memory, and stopped after a block."""
    monkeypatch.setattr(workers, "BASE_BYTES", 0)
    monkeypatch.setattr(channels, "BASE_BYTES", 0)
    monkeypatch.setitem(blocks.plan_blocks.__kwdefaults__, "block_bytes", 4 * 4 * 40 * 36)
    movie = np.random.default_rng(5).integers(0, 999, (48, 40, 36), "u2")
    stored = zarr.create_array(
        tmp_path / "m.zarr", shape=movie.shape, chunks=(8, 5, 36), dtype="u2"
    )
    stored[:] = movie
    work, taking = running.filter_and_store, Lock()

    def once(task, **options):
        with taking:
            if task.block.number:
                raise OSError("the power is gone")
            return work(task, **options)

    with monkeypatch.context() as patch, dask.config.set(scheduler="synchronous"):
        patch.setattr(running, "filter_and_store", once)
        with pytest.raises(OSError, match="the power is gone"):
            run_spatial_mean(tmp_path / "m.zarr", tmp_path / "o.zarr")
    (plan,) = plan_spatial_mean(tmp_path / "m.zarr").channels
    assert plan.n_blocks > 4
    return tmp_path, plan.block_bytes


def test_fewer_blocks_run_at_a_time_under_a_smaller_limit(begun, monkeypatch):
    folder, block_bytes = begun
    under_way, most = [], []
    work = running.filter_and_store

    def counted(task, **options):
        under_way.append(task)
        most.append(len(under_way))
        try:
            return work(task, **options)
        finally:
            under_way.remove(task)

    monkeypatch.setattr(running, "filter_and_store", counted)
    pools = []
    monkeypatch.setattr(
        "smlmlp_dask.execution.tasks.ThreadPoolExecutor",
        lambda n: pools.append(n) or ThreadPoolExecutor(n),
    )
    with dask.config.set(num_workers=4):
        limit = block_bytes * 5 // 2
        result = run_spatial_mean(
            folder / "m.zarr", folder / "o.zarr", memory_limit=limit, resume=True
        )
        expected = run_spatial_mean(folder / "m.zarr", folder / "all.zarr")
    assert pools == [2, 4]
    assert max(most[: len(most) // 2]) <= 2
    assert result.bkgds[0].compute().tobytes() == expected.bkgds[0].compute().tobytes()


def test_a_limit_below_one_block_of_a_begun_store_is_refused(begun):
    folder, block_bytes = begun
    before = sorted(folder.rglob("*"))
    with pytest.raises(ValueError, match=r"was begun in blocks of 8 x 40 x 36 pixels; .*to \d+MB"):
        run_spatial_mean(
            folder / "m.zarr", folder / "o.zarr", memory_limit=block_bytes - 1, resume=True
        )
    assert sorted(folder.rglob("*")) == before


def test_a_users_pool_is_not_made_smaller(begun):
    folder, block_bytes = begun
    limit = 3 * block_bytes
    with (
        ThreadPoolExecutor(4) as pool,
        dask.config.set(pool=pool),
        pytest.raises(ValueError, match="4 at a time"),
    ):
        run_spatial_mean(folder / "m.zarr", folder / "o.zarr", memory_limit=limit, resume=True)


# ---- less is held ------------------------------------------------------------------------------


def large_raw(path):
    with path.open("wb") as file:
        file.truncate(2 * 4 * 3000 * 4000)
    return {"raw_shape": (4, 3000, 4000), "raw_dtype": ">u2"}, 12 * MIB


def deflated(path):
    tifffile.imwrite(path, np.ones((2, 2048, 2048), "u2"), compression="zlib", rowsperstrip=64)
    return {}, 3 * MIB


def deflated_tiles(path):
    frames = np.arange(2 * 1000 * 1300, dtype="u2").reshape(2, 1000, 1300)
    tifffile.imwrite(path, frames, compression="zlib", tile=(128, 128), bigtiff=True)
    return {}, MIB


def many_chunks(path):
    zarr.create_array(path, shape=(64, 512, 512), chunks=(8, 512, 512), dtype="u2")[:] = 7
    return {}, 3 * 8 * 512 * 512  # one and a half chunks


@pytest.mark.parametrize("make", [large_raw, deflated, deflated_tiles, many_chunks])
def test_a_small_box_is_read_without_whole_frames(make, tmp_path, monkeypatch):
    monkeypatch.setattr(units, "DECODING_BYTES", MIB)
    path = tmp_path / "movie"
    options, most = make(path)
    selection = Selection.checked(bboxes=[[(300, 200, 400, 400)]], **options)
    (stack,) = open_stacks(path, selection=selection)
    assert allocated(stack.read) < most + stack.dtype.itemsize * prod(stack.shape)


def test_a_flipped_stack_is_turned_in_place(tmp_path):
    movie = np.arange(4 * 1001 * 1003, dtype="u2").reshape(4, 1001, 1003)
    movie.tofile(tmp_path / "m.raw")
    options = {"raw_shape": movie.shape, "raw_dtype": "u2", "flips": [(True, True)]}
    (stack,) = open_stacks(tmp_path / "m.raw", selection=Selection.checked(**options))
    np.testing.assert_array_equal(stack.read(), movie[:, ::-1, ::-1])
    assert allocated(stack.read) < movie.nbytes + 4 * MIB


@pytest.mark.parametrize("keep_bits", [1, 12, 22])
@pytest.mark.parametrize("view", [np.s_[:], np.s_[:, 3:-2, 5:-1]])
def test_rounding_in_place_gives_the_same_bits(keep_bits, view, monkeypatch):
    monkeypatch.setattr(codecs, "ROUNDED_PIXELS", 100)
    bits = np.random.default_rng(2).integers(0, 2**32, (3, 40, 50), "u4")
    bits[1, 2] = 0x7FFFFFFF  # NaN whose mantissa would overflow
    background = bits.view("f4")[view]
    codec = BitRound(keep_bits)
    expected = codec.decode(codec.encode(background))
    expected[np.isnan(background)] = np.nan
    rounded = codecs.Storage("fast", keep_bits).rounded(background)
    assert np.array_equal(rounded, expected, equal_nan=True)
    assert rounded.tobytes() == expected.tobytes()


def test_rounding_takes_little_memory():
    background = np.ones((4, 1024, 1024), "f4")
    storage = codecs.Storage("fast", 12)
    assert allocated(lambda: storage.rounded(background)) < background.nbytes // 2
