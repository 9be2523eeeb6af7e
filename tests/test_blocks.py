from itertools import accumulate, product
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smlmlp_dask import blocks as chunks
from smlmlp_dask.lazy import chunking
from smlmlp_dask.pipeline.channels import interleave
from smlmlp_dask.units import COUNTED

from . import strategies

sizes = st.integers(1, 40)
shapes = st.tuples(st.integers(0, 60), sizes, sizes)
units = st.tuples(st.integers(1, 70), st.integers(1, 50), st.integers(1, 50))


@pytest.mark.parametrize(
    ("pixels", "unit", "expected", "reason"),
    [
        (512 * 512, 1, 16, "16 frames of 1 MiB are 16 MiB"),
        (512 * 512, 5, 15, "whole units only"),
        (512 * 512, 32, 32, "at least one unit, even if it is larger"),
        (8192 * 8192, 1, 1, "at least one frame, even if it is larger"),
        (64 * 64, 1000, 1000, "1024 frames would fit, but the unit is not split"),
        (1, 1, 4 * 2**20, "tiny frames"),
    ],
)
def test_frames_per_block(pixels, unit, expected, reason):
    assert chunks.frames_per_block(pixels, unit) == expected, reason


@given(st.integers(0, 100), st.integers(1, 30))
def test_split_covers_the_axis(length, step):
    runs = chunks.split(length, step)
    assert sum(runs) == length
    assert all(run == step for run in runs[:-1])
    assert 0 <= runs[-1] <= step
    assert length == 0 or runs[-1] > 0


@given(st.data())
def test_whole_frame_chunks(data):
    shape = data.draw(shapes)
    runs = tuple(data.draw(strategies.runs(n)) for n in shape)
    slab_bytes = data.draw(st.integers(0, 4000))
    block_bytes = data.draw(st.integers(1, 4000))
    planned = chunking.whole_frame_chunks(runs, 2, slab_bytes=slab_bytes, block_bytes=block_bytes)
    assert tuple(map(sum, planned)) == shape
    tiled = len(runs[1]) > 1 or len(runs[2]) > 1
    slab = max(runs[0]) * shape[1] * shape[2] * 2
    if not tiled or slab > slab_bytes:
        assert planned == runs
    else:
        assert planned[1:] == ((shape[1],), (shape[2],))
        edges = set(accumulate(planned[0], initial=0))
        assert edges >= set(accumulate(runs[0], initial=0)), "a block crosses two runs"
        most = max(1, block_bytes // (4 * shape[1] * shape[2]))
        assert max(planned[0]) <= most


@given(shapes, units, st.integers(1, 20_000))
def test_write_chunks_never_split_a_unit(shape, unit, block_bytes):
    planned = chunking.write_chunks(shape, unit, block_bytes)
    assert tuple(map(sum, planned)) == shape
    for runs, size in zip(planned, unit, strict=True):
        assert all(start % size == 0 for start in accumulate(runs[:-1], initial=0))
    largest = prod(map(max, planned)) * 4
    one_unit = prod(min(n, u) for n, u in zip(shape, unit, strict=True)) * 4
    assert largest <= max(block_bytes, one_unit)


@given(st.lists(st.integers(0, 9), min_size=1), st.integers(1, 30))
def test_join_keeps_the_borders(runs, most):
    joined = list(chunking.join(runs, most))
    assert sum(joined) == sum(runs)
    assert set(accumulate(joined)) <= set(accumulate(runs))
    assert all(run <= max(most, *runs) for run in joined)


@given(
    shapes,
    st.sampled_from([1, 2, 4]),
    units,
    st.tuples(st.integers(0, 50), st.integers(0, 50)),
    st.integers(1, 200_000),
    st.integers(1, 20_000),
    st.integers(1, 400_000),
    st.integers(0, 9),
)
def test_plan_against_brute_force(
    shape, itemsize, unit, halo, slab_bytes, block_bytes, memory_bytes, halo_fr
):
    plan = chunks.plan_blocks(
        *(shape, itemsize, unit, halo),
        halo_fr=halo_fr,
        slab_bytes=slab_bytes,
        block_bytes=block_bytes,
        memory_bytes=memory_bytes,
    )
    blocks = list(plan.blocks())
    assert len(blocks) == plan.n_blocks

    # every pixel is computed once
    count = np.zeros(shape, np.uint8)
    for block in blocks:
        assert count[block.inner].size
        count[block.inner] += 1
    assert (count == 1).all()

    # what is read is the block and its halo, cut off at the edges
    for block in blocks:
        for inner, read, margin, length in zip(
            block.inner, block.read, (halo_fr, *halo), shape, strict=True
        ):
            assert read == slice(max(0, inner.start - margin), min(length, inner.stop + margin))

    # no chunk of the output is written by two blocks
    for axis in range(3):
        for start in range(0, shape[axis], plan.block[axis]):
            assert start % plan.chunks[axis] == 0

    # whole frames are decoded once, unless they are cut to fit; nothing is decoded by two blocks
    # but for the halo
    tiled = plan.block[1:] != shape[1:]
    fits = plan.block[0] % unit[0] == 0 or plan.block[0] == max(1, shape[0])
    touched = [
        {
            index
            for index in product(
                *(
                    range(part.start // u, -(-part.stop // u))
                    for part, u in zip(block.inner, unit, strict=True)
                )
            )
        }
        for block in blocks
    ]
    if (fits and not tiled) or all(
        b % u == 0 or b == n for b, u, n in zip(plan.block, unit, shape, strict=True)
    ):
        assert sum(map(len, touched)) == len(set().union(*touched))

    # what a block holds is no more than was said
    for block in blocks:
        held = itemsize * prod(part.stop - part.start for part in block.read)
        assert held + 8 * prod(plan.chunks) <= plan.block_bytes
    roomy = chunks.plan_blocks(
        *(shape, itemsize, unit, halo),
        halo_fr=halo_fr,
        slab_bytes=slab_bytes,
        block_bytes=block_bytes,
    )
    if roomy.block_bytes <= memory_bytes and slab_bytes <= memory_bytes:
        assert plan == roomy


@pytest.mark.parametrize(
    ("shape", "unit", "expected_chunks", "expected_block", "reason"),
    [
        ((4096, 512, 512), (1, 512, 512), (16, 512, 512), (16, 512, 512), "one-frame chunks"),
        ((4096, 512, 512), (32, 512, 512), (16, 512, 512), (32, 512, 512), "half a source chunk"),
        ((4096, 512, 512), (8, 128, 128), (16, 512, 512), (16, 512, 512), "two slabs of tiles"),
        ((4096, 512, 512), (1000, 64, 64), (10, 512, 512), (1000, 512, 512), "a divisor of 1000"),
        ((4096, 512, 512), (997, 64, 64), (1, 512, 512), (997, 512, 512), "a prime: single frames"),
        ((4096, 128, 128), (997, 64, 64), (997, 128, 128), (997, 128, 128), "tiny frames: whole"),
        ((10, 512, 512), (32, 512, 512), (10, 512, 512), (10, 512, 512), "a short movie"),
        ((0, 512, 512), (32, 512, 512), (1, 512, 512), (1, 512, 512), "an empty movie"),
        ((4000, 2048, 2048), (1000, 256, 256), (10, 256, 1536), (1000, 256, 1536), "too large"),
    ],
)
def test_plans(shape, unit, expected_chunks, expected_block, reason):
    plan = chunks.plan_blocks(shape, 2, unit, (9, 9))
    assert plan.chunks == expected_chunks, reason
    assert plan.block == expected_block, reason


def test_wide_units_are_tiled_in_x_too():
    plan = chunks.plan_blocks((64, 1024, 4096), 2, (64, 64, 64), (9, 9), slab_bytes=2**20)
    assert plan.block == (64, 64, 64)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=5))
def test_channels_advance_together(lengths):
    plans = [chunks.plan_blocks((n, 3, 4), 2, (1, 3, 4), (1, 1), block_bytes=48) for n in lengths]
    done = [0] * len(plans)
    for channel, block in interleave(plans):
        assert block.inner[0].start == done[channel]
        done[channel] = block.inner[0].stop
        shares = [d / n for d, n in zip(done, lengths, strict=True)]
        widest = max(1 / n for n in lengths)
        assert max(shares) - min(shares) <= 2 * widest
    assert done == lengths


# ---- plans of movies that are far too long to go through ---------------------------------------


def units_decoded(plan):
    """Count, block by block, the storage units that are decoded; and those that there are."""
    decoded = sum(
        prod(
            -(-(origin + part.stop) // unit) - (origin + part.start) // unit
            for part, unit, origin in zip(block.read, plan.unit, plan.origin, strict=True)
        )
        for block in plan.blocks()
    )
    sides = zip(plan.shape, plan.unit, plan.origin, strict=True)
    return decoded, prod(-(-(origin + n) // unit) - origin // unit for n, unit, origin in sides)


@given(
    shapes,
    units,
    st.tuples(sizes, sizes, sizes),
    st.tuples(st.integers(0, 50), st.integers(0, 50)),
    st.tuples(st.integers(0, 80), st.integers(0, 60), st.integers(0, 60)),
    st.integers(0, 30),
)
def test_read_amplification_against_brute_force(shape, unit, block, halo, origin, halo_fr):
    plan = chunks.BlockPlan(shape, 2, unit, block, block, halo, origin, halo_fr=halo_fr)
    decoded, needed = units_decoded(plan)
    assert plan.read_amplification == (decoded / needed if needed else 1.0)


@pytest.mark.parametrize(
    ("frames", "unit", "block", "origin"),
    [
        (10**5, 32, 7, 5),  # blocks across the borders of units, again after 32 of them
        (10**5, 32, 5, 27),
        (10**5 + 3, 5, 3, 0),  # a last block that is shorter
        (10**5, 7919, 6, 11),  # units far longer than blocks
    ],
)
def test_read_amplification_of_more_blocks_than_are_counted(frames, unit, block, origin):
    shape, chunk = (frames, 1, 1), (block, 1, 1)
    plan = chunks.BlockPlan(shape, 2, (unit, 1, 1), chunk, chunk, (0, 0), (origin, 0, 0))
    assert plan.n_blocks > COUNTED
    decoded, needed = units_decoded(plan)
    assert plan.read_amplification == pytest.approx(decoded / needed, rel=1e-4)


@given(shapes, st.tuples(sizes, sizes, sizes), st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_blocks_by_their_numbers(shape, block, halo):
    plan = chunks.BlockPlan(shape, 2, (1, 1, 1), block, block, halo)
    assert [plan.nth_block(number) for number in range(plan.n_blocks)] == list(plan.blocks())


def test_a_movie_without_end_is_planned_by_arithmetic():
    # going through these blocks would take longer than the test may
    plan = chunks.plan_blocks((10**15, 2048, 2048), 2, (1000, 256, 256), (9, 9))
    assert plan.n_blocks > 10**12
    # 8 rows of tiles and 2 columns of them, 6 and 2 wide: each reads a row of tiles more at each
    # side that has a neighbour (14 more to 8), and a column more (1 and 1 to 8)
    assert plan.block == (1000, 256, 1536)
    assert plan.read_amplification == (8 + 14) / 8 * (8 + 2) / 8
    last = plan.nth_block(plan.n_blocks - 1)
    assert [part.stop for part in last.inner] == [10**15, 2048, 2048]
