"""Whatever is handed out lazily, used next to something else: any two or three, in one expression.

A stack that is right alone may be taken for another one beside it, where Dask fuses their tasks.
Here each kind meets all others of its chunks at once, and some of all in twos and threes.
"""

import operator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import combinations
from multiprocessing import get_context

import dask
import dask.array as da
import numpy as np
import pytest
from dask.distributed import Client, LocalCluster
from hypothesis import given
from hypothesis import strategies as st

from smlmlp_dask import bkgd_spatial_mean, open_channels

from . import duck, reference, strategies
from .handed_out import (
    OTHER_RADIUS,
    PAIRS,
    RADIUS,
    SHAPE,
    TRIPLES,
    WAYS,
    Stack,
    alike,
    every_kind,
    fault,
    faults,
)


@pytest.fixture(scope="module")
def stacks(tmp_path_factory):
    return every_kind(tmp_path_factory.mktemp("sources"))


def some(stacks, count, number=1000):
    """Return sets of stacks: each kind with others like it, then as many at random."""
    rng = np.random.default_rng(count)
    sets = []
    for group in (*alike(stacks), stacks):
        order = [group[place] for place in rng.permutation(len(group))]
        sets += [(order[i:] + order)[:count] for i in range(0, len(order), count)]
    return sets[:: -(-len(sets) // number)]


# ---- expressions of all kinds --------------------------------------------------------------------


def test_each_alone(stacks):
    assert faults(lambda m, a: a, [[stack] for stack in stacks], scheduler="sync") == []


def side_by_side(*blocks):
    return np.stack(blocks, axis=-1)


@pytest.mark.parametrize("optimize_graph", [True, False])
def test_all_of_equal_chunks_at_once(stacks, optimize_graph):
    for group in alike(stacks, roots=False):
        arrays = [stack.array.astype("f8") for stack in group]
        together = da.map_blocks(
            side_by_side, *arrays, new_axis=3, chunks=(*arrays[0].chunks, len(group)), dtype="f8"
        )
        results = together.compute(scheduler="sync", optimize_graph=optimize_graph)
        for i, stack in enumerate(group):
            found = fault(results[..., i], lambda m, a: a.astype("f8"), [stack])
            assert not found, stack.name


@pytest.mark.parametrize("operation", PAIRS.values(), ids=PAIRS)
def test_two(stacks, operation):
    assert faults(operation, some(stacks, 2, 60), scheduler="sync") == []


@pytest.mark.parametrize("operation", TRIPLES.values(), ids=TRIPLES)
def test_three(stacks, operation):
    assert faults(operation, some(stacks, 3, 60), scheduler="sync") == []


@pytest.mark.parametrize("way", WAYS)
def test_optimized_persisted_pickled(stacks, way):
    assert faults(PAIRS["minus"], some(stacks, 2, 60), way, scheduler="sync") == []


def test_not_optimized(stacks):
    sets = some(stacks, 2, 60)
    assert faults(PAIRS["minus"], sets, scheduler="sync", optimize_graph=False) == []


# ---- wherever they are computed ------------------------------------------------------------------


@contextmanager
def on_threads():
    with dask.config.set(scheduler="threads"):
        yield


@contextmanager
def on_processes():
    with (
        ProcessPoolExecutor(1, get_context("spawn")) as pool,
        dask.config.set(scheduler="processes", pool=pool),
    ):
        yield


@contextmanager
def on_a_client():
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            host="tcp://127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as workers,
        Client(workers),
    ):
        yield


@pytest.mark.parametrize(
    "place",
    [
        on_threads,
        *(pytest.param(place, marks=pytest.mark.slow) for place in (on_processes, on_a_client)),
    ],
)
def test_places(stacks, place):
    with place():
        wrong = {
            (name, way): faults(PAIRS[name], some(stacks, 2, 30), way)
            for name, way in [("minus", "as it is"), ("where", "operands persisted")]
        }
    assert not any(wrong.values()), wrong


def test_on_a_device(stacks):
    """With CuPy's chunks: its stand-in knows no more than these operations."""
    opened = [
        stack
        for stack in stacks
        if stack.name in ("one.tif in blocks of 2", "two.tif in blocks of 2")
    ]
    rng = np.random.default_rng(3)
    counts = [rng.integers(0, 200, SHAPE).astype(np.uint16) for _ in range(6)]
    with duck.installed():
        channels = [
            *counts[:2],
            *(da.from_array(values, chunks=(2, 8, 10)) for values in counts[2:4]),
            *map(duck.asarray, counts[4:]),
            *(stack.array for stack in opened),
        ]
        values = [*counts, *(stack.values for stack in opened)]
        means = [reference.background(array, RADIUS / 2, RADIUS / 2) for array in values]
        bkgds, _, _ = bkgd_spatial_mean(channels, RADIUS, cuda=True)
        # another radius, whose kernel has the same length
        narrower, _, _ = bkgd_spatial_mean(channels[:1], OTHER_RADIUS, cuda=True)
        means.append(reference.background(values[0], OTHER_RADIUS / 2, OTHER_RADIUS / 2))
        targets = [duck.empty(SHAPE, np.float32) for _ in range(2)]
        written, _, _ = bkgd_spatial_mean(channels[:2], RADIUS, targets, cuda=True)
        on_device = [
            Stack(f"{number}", da.asarray(array), mean)
            for number, (array, mean) in enumerate(
                zip([*bkgds, *narrower, *written], [*means, *means[:2]], strict=True)
            )
        ]
        operations = [PAIRS[name] for name in ("minus", "maximum", "concatenate")]
        for i, (one, other) in enumerate(combinations(on_device, 2)):
            operation = operations[i % 3]
            lazy = operation(da, one.array, other.array)
            found = fault(lazy.compute(scheduler="sync").get(), operation, [one, other])
            assert not found, (one, other, found)


# ---- at random -----------------------------------------------------------------------------------

number = st.integers(0, 10**6)  # of a stack, modulo how many there are
plans = st.recursive(
    number,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["minus", "maximum"]), inner, inner),
        st.tuples(st.just("where"), inner, inner, number),
        st.tuples(st.just("chunks"), inner, st.integers(1, 6), st.integers(1, 10)),
        st.tuples(st.sampled_from(["turned", "mapped"]), inner),
    ),
    max_leaves=6,
)


def follow(plan, stacks):
    """Return a lazy expression, its value, and the error that its inputs allow."""
    if isinstance(plan, int):
        stack = stacks[plan % len(stacks)]
        exact = stack.values.dtype.kind in "iu"
        allowed = 0 if exact else reference.TOLERANCE * float(stack.values.max())
        return stack.array, stack.values, allowed
    kind, inner, *rest = plan
    lazy, values, allowed = follow(inner, stacks)
    if kind == "chunks":
        return lazy.rechunk((rest[0], 8, rest[1])), values, allowed
    if kind == "turned":
        return lazy[::-1, :, ::-1], values[::-1, :, ::-1], allowed
    if kind == "mapped":
        return lazy.map_blocks(operator.neg, dtype=lazy.dtype), -values, allowed
    other, other_values, other_allowed = follow(rest[0], stacks)
    if kind == "minus":
        lazy, values, allowed = lazy - other, values - other_values, allowed + other_allowed
    elif kind == "maximum":
        lazy, values = da.maximum(lazy, other), np.maximum(values, other_values)
        allowed = max(allowed, other_allowed)
    else:
        # whole counts, so that a rounding error decides nothing
        masks = [stack for stack in stacks if stack.values.dtype.kind in "iu"]
        mask = masks[rest[1] % len(masks)]
        lazy = da.where(mask.array > 90, lazy, other)
        values = np.where(mask.values > 90, values, other_values)
        allowed = max(allowed, other_allowed)
    if values.dtype.kind == "f":
        allowed += 2**-23 * float(np.abs(values).max())  # each may be rounded the other way
    return lazy, values, allowed


@given(plan=plans, optimize_graph=st.booleans())
@strategies.examples(150, derandomize=True)
def test_at_random(stacks, plan, optimize_graph):
    lazy, values, allowed = follow(plan, stacks)
    result = lazy.compute(scheduler="sync", optimize_graph=optimize_graph)
    assert (result.shape, result.dtype) == (values.shape, values.dtype)
    assert (np.abs(result.astype("f8") - values.astype("f8")) <= allowed).all()


def test_a_movie_that_was_opened_twice_may_have_changed(tmp_path):
    path, raw = tmp_path / "m.raw", {"raw_shape": SHAPE, "raw_dtype": "u1"}
    np.full(SHAPE, 3, "u1").tofile(path)
    [before] = open_channels(path, **raw)
    np.full(SHAPE, 5, "u1").tofile(path)
    [after] = open_channels(path, **raw)
    assert before.name != after.name
