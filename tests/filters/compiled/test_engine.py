"""The compiled filter: its accuracy, and that its bits depend on nothing but the data."""

import json
import os
import re
import subprocess
import sys
import textwrap
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from smlmlp_dask.filters.compiled import engine, loops
from smlmlp_dask.filters.kernels import fold, gaussian_kernel, without_zero_ends
from tests import strategies

ROOT = Path(__file__).parents[3]
COUNTS = np.random.default_rng(7).integers(90, 4000, (3, 70, 300), dtype=np.uint16)


def kernels(*radii):
    return tuple(gaussian_kernel(radius / 2) for radius in radii)


def correlate_frames(frames, kernel_y, kernel_x, **options):
    """With kernels as they come, which a step shortens for its frames."""
    shortened = (
        fold(without_zero_ends(kernel), length)
        for kernel, length in zip((kernel_y, kernel_x), frames.shape[1:], strict=True)
    )
    return engine.correlate_frames(frames, *shortened, **options)


def exact(frames, kernel_y, kernel_x):
    """Sum in float64 and store each pass as float32, as SPEC says."""
    result = frames.astype(np.float32)
    for axis, kernel in ((1, kernel_y), (2, kernel_x)):
        # Folded in float64: it spares SciPy the 25 000 taps of large radii on small frames.
        weights = without_zero_ends(kernel).astype(np.float64)
        excess = weights.size // 2 - (frames.shape[axis] - 1)
        if excess > 0:
            end = weights[: excess + 1].sum()
            weights = weights[excess : weights.size - excess]
            weights[0] = weights[-1] = end
        summed = ndimage.correlate1d(result.astype(np.float64), weights, axis, mode="nearest")
        result = summed.astype(np.float32)
    return result


def assert_same_bits(actual, expected):
    __tracebackhide__ = True
    assert actual.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(actual.view(np.uint32), expected.view(np.uint32))


def run(loop, frames, kernel_y, kernel_x):
    """Correlate by one of the loops, compiled or as the plain Python that it also is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_compiled", lambda *_, **__: loop)
        return correlate_frames(frames, kernel_y, kernel_x)


# Accuracy


@pytest.mark.parametrize(
    ("shape", "radii"),
    [
        ((1, 64, 64), (1, 7, 20, 21, 50, 200, 1000, 2000, 5000, 10_000)),
        ((1, 200, 700), (20, 200, 10_000)),
        ((1, 40, 2048), (200, 500, 1000, 2000, 10_000)),
        ((1, 2, 27_000), (10_000,)),  # not folded: 12 900 pairs of taps
    ],
)
def test_long_kernels_stay_accurate(shape, radii):
    rng = np.random.default_rng(3)
    ramp = np.linspace(100, 5000, shape[2], dtype=np.float32) * np.ones(shape, np.float32)
    stacks = {
        "counts": rng.integers(100, 4000, shape).astype(np.float32),
        "constant": np.full(shape, np.float32(1.37)),  # rounds the same way again and again
        "ramp": ramp,
        "signed": rng.normal(0, 1, shape).astype(np.float32),
        "spots": np.where(rng.random(shape) < 0.003, 5000, 100).astype(np.float32),
    }
    for radius in radii:
        limit = 1e-6 if radius <= 20 else 4e-6
        kernel = gaussian_kernel(radius / 2)
        for name, stack in stacks.items():
            error = np.abs(
                correlate_frames(stack, kernel, kernel) - exact(stack, kernel, kernel)
            ).max()
            assert error <= limit * np.abs(stack).max(), (radius, name)


# The same bits


@strategies.examples(12)
@given(
    frames=strategies.stacks(dtypes=["u1", "u2", "f4"], max_frames=2, max_side=70),
    radii=strategies.radius_pairs,
)
def test_compiled_code_has_the_bits_of_its_definition(frames, radii):
    defined = run(loops.filter_in_tiles, frames, *kernels(*radii))
    assert_same_bits(correlate_frames(frames, *kernels(*radii)), defined)


# of every reach that a short kernel may have
SHORT_RADII = st.integers(0, loops.SHORT).map(lambda reach: 2 * (reach + 0.5) / 2.5758)


@strategies.examples(30)
@given(
    frames=strategies.stacks(dtypes=["u1", "u2", "f4"], max_frames=2, max_side=150),
    radii=st.tuples(SHORT_RADII, SHORT_RADII),
)
def test_rows_and_tiles_have_the_same_bits(frames, radii):
    frames = np.pad(frames, ((0, 0), (0, 0), (0, loops.RUN)), mode="wrap")
    expected = correlate_frames(frames, *kernels(*radii))
    for in_rows, loop in ((True, loops.filter_in_rows), (False, loops.filter_in_tiles)):
        for each in (loop, engine._compiled(frames.dtype.name, in_rows=in_rows)):
            assert_same_bits(run(each, frames, *kernels(*radii)), expected)


@strategies.examples(60)
@given(data=st.data(), radii=st.tuples(st.floats(0.3, 45), st.floats(0.3, 45)))
def test_a_tile_with_its_halo_has_the_bits_of_the_whole(data, radii):
    kernel_y, kernel_x = kernels(*radii)
    whole = correlate_frames(COUNTS, kernel_y, kernel_x)
    cut, inner, result = [], [], []
    for kernel, length in ((kernel_y, 70), (kernel_x, 300)):
        reach = without_zero_ends(kernel).size // 2
        start = data.draw(st.integers(0, length - 1))
        stop = data.draw(st.integers(start + 1, length))
        if reach >= length - 1:  # folded: such an axis is never tiled
            start, stop = 0, length
        low, high = max(start - reach, 0), min(stop + reach, length)
        cut.append(slice(low, high))
        inner.append(slice(start - low, stop - low))
        result.append(slice(start, stop))
    tile = correlate_frames(COUNTS[:, *cut], kernel_y, kernel_x)
    assert_same_bits(tile[:, *inner].copy(), whole[:, *result].copy())


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 9])
def test_threads_share_the_frames(threads):
    kernel_y, kernel_x = kernels(7, 30)
    expected = correlate_frames(COUNTS, kernel_y, kernel_x)
    assert_same_bits(correlate_frames(COUNTS, kernel_y, kernel_x, threads=threads), expected)


@pytest.mark.parametrize(
    "dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]
)
def test_dtypes_byte_orders_and_strides(dtype):
    kernel_y, kernel_x = kernels(3, 7)
    counts = (COUNTS % 120).astype(dtype)
    expected = correlate_frames(counts.astype(np.float32), kernel_y, kernel_x)
    read_only = counts.copy()
    read_only.flags.writeable = False
    wide = np.zeros((3, 140, 600), dtype)
    wide[:, ::2, ::2] = counts
    unaligned = np.frombuffer(b"!" + counts.tobytes(), dtype, offset=1).reshape(counts.shape)
    layouts = {
        "native": counts,
        "read only": read_only,
        "big endian": counts.astype(np.dtype(dtype).newbyteorder(">")),
        "every other pixel": wide[:, ::2, ::2],
        "reversed": np.ascontiguousarray(counts[:, ::-1, ::-1])[:, ::-1, ::-1],
        "x before y": np.asfortranarray(counts),
        "broadcast": np.broadcast_to(counts[:1], counts.shape),
        "unaligned": unaligned,
    }
    for name, stack in layouts.items():
        actual = correlate_frames(stack, kernel_y, kernel_x, threads=2)
        wanted = expected if name != "broadcast" else expected[[0, 0, 0]]
        np.testing.assert_array_equal(actual, wanted, name)


@pytest.mark.parametrize(
    "dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]
)
def test_casts_are_those_of_numpy(dtype):
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(5)
    values = np.frombuffer(rng.bytes(40 * 50 * dtype.itemsize), dtype).copy()
    if dtype.kind == "f":
        values[:6] = [0.0, -0.0, np.inf, -np.inf, np.nan, 1 / 3]
        if dtype.itemsize == 8:
            values[6:10] = [3.5e38, -3.5e38, 1e-46, 16777217.0]
    else:
        ends = np.iinfo(dtype)
        ties = [2**24 + 1, 2**24 + 3, 2**40 + 2**16, 2**62 + 2**38, 2**63 + 2**39, 2**53 + 1]
        edges = [ends.min, ends.max, ends.max - 1] + [tie for tie in ties if tie <= ends.max]
        values[: len(edges)] = edges
    stack = values.reshape(1, 40, 50)
    one = np.ones(1, np.float32)
    actual = correlate_frames(stack, one, one)
    with np.errstate(all="ignore"):
        expected = stack.astype(np.float32)
    np.testing.assert_array_equal(actual, expected)
    number = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(actual[number]), np.signbit(expected[number]))


def test_long_doubles_too_large_for_float32_are_infinite():
    stack = np.full((1, 4, 16), np.longdouble(3e38) * 10)
    one = np.ones(1, np.float32)
    np.testing.assert_array_equal(correlate_frames(stack, one, one), np.inf)


def test_byte_swapped_stacks_are_not_copied_whole():
    stack = np.zeros((64, 256, 256), ">u2")
    out = np.empty(stack.shape, np.float32)
    kernel = gaussian_kernel(3.5)
    correlate_frames(stack[:1], kernel, kernel, out=out[:1])
    tracemalloc.start()
    try:
        correlate_frames(stack, kernel, kernel, out=out)
        assert tracemalloc.get_traced_memory()[1] < stack.nbytes / 4
    finally:
        tracemalloc.stop()


# Compilation: each case in a process of its own, with a cache folder of its own

PROGRAM = """
import hashlib, json, sys
import numpy as np
from smlmlp_dask.filters.compiled import engine as fused
from smlmlp_dask.filters.kernels import gaussian_kernel
{before}
assert "numba" not in sys.modules or {patched}
digest = hashlib.sha256()
rng = np.random.default_rng(7)
for radius in (1, 7, 20, 60):
    for dtype in ("u2", "f4"):
        stack = rng.integers(90, 4000, (2, 70, 90)).astype(dtype)
        kernel = gaussian_kernel(radius / 2)
        digest.update(fused.correlate_frames(stack, kernel, kernel).tobytes())
stats = [
    fused._compiled(name, in_rows=in_rows).stats
    for name in ("uint16", "float32") for in_rows in (False, True)
]
print(json.dumps(dict(
    digest=digest.hexdigest(),
    hits=sum(sum(s.cache_hits.values()) for s in stats),
    misses=sum(sum(s.cache_misses.values()) for s in stats),
)))
"""


def start(cache, before="", **environment):
    program = PROGRAM.format(before=textwrap.dedent(before), patched=bool(before))
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), **environment}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(process):
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return json.loads(printed)


@pytest.fixture(scope="module")
def first_process(tmp_path_factory):
    """Two processes that fill one empty cache at the same time."""
    cache = tmp_path_factory.mktemp("numba")
    processes = [start(cache), start(cache)]
    results = [finish(process) for process in processes]
    assert results[0]["digest"] == results[1]["digest"]
    return cache, results[0]


@pytest.mark.slow
def test_a_second_process_compiles_nothing(first_process):
    cache, first = first_process
    second = finish(start(cache))
    assert (second["hits"], second["misses"]) == (4, 0)
    assert second["digest"] == first["digest"]


@pytest.mark.slow
def test_any_cpu_gives_the_same_bits(first_process, tmp_path):
    _, first = first_process
    generic = finish(start(tmp_path, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES=""))
    assert generic["misses"] == 4
    assert generic["digest"] == first["digest"]


@pytest.mark.slow
@pytest.mark.parametrize("in_rows", [False, True])
def test_no_multiplication_is_fused_with_an_addition(monkeypatch, tmp_path, in_rows):
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    kernel = engine._compiled.__wrapped__("uint16", in_rows=in_rows)
    (code,) = kernel.inspect_asm().values()
    assert "mulps" in code
    assert not re.search(r"\bv?fn?m(add|sub)|\bfml", code)


@pytest.mark.slow
@pytest.mark.parametrize(
    "before",
    [
        """
        # No folder can be written: Numba raises where the function is decorated.
        from numba.core import caching
        def refuse(self):
            raise PermissionError(13, "read-only")
        caching._CacheLocator.ensure_cache_path = refuse
        """,
        """
        # The folder is there, but the disk is full: Numba raises after compiling.
        from numba.core import caching
        def refuse(self, key, data):
            raise OSError(28, "no space left on device")
        caching.IndexDataCacheFile.save = refuse
        """,
    ],
    ids=["read only", "disk full"],
)
def test_without_a_cache_folder_each_process_compiles(first_process, tmp_path, before):
    result = finish(start(tmp_path, before))
    assert result["hits"] == 0
    assert result["digest"] == first_process[1]["digest"]
    assert not list(tmp_path.rglob("*.nbc"))


@pytest.mark.slow
def test_unusual_homes_do_not_matter(first_process):
    result = finish(start("/proc/nowhere", HOME="/proc/nonexistent", XDG_CACHE_HOME="/proc/none"))
    assert result["digest"] == first_process[1]["digest"]


@pytest.mark.slow
def test_torn_cache_files_are_not_trusted(first_process, tmp_path):
    cache, first = first_process
    for path in cache.rglob("*.nb*"):
        copy = tmp_path / path.relative_to(cache)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(path.read_bytes()[: 100 if path.suffix == ".nbc" else None])
    assert finish(start(tmp_path))["digest"] == first["digest"]


@pytest.mark.slow
def test_many_threads_compile_once(tmp_path):
    before = """
        import numba
        from concurrent.futures import ThreadPoolExecutor
        kernel, stack = gaussian_kernel(3.5), np.ones((1, 20, 20), np.uint16)
        def call(_):
            return fused.correlate_frames(stack, kernel, kernel)
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(call, range(8)))
        assert all(np.array_equal(result, results[0]) for result in results)
        assert fused._compiled.cache_info().misses == 1
        """
    assert finish(start(tmp_path, before))["misses"] == 4


def test_threads_of_a_scheduler_may_overlap():
    kernel_y, kernel_x = kernels(7, 3)
    expected = correlate_frames(COUNTS, kernel_y, kernel_x)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(
            lambda _: correlate_frames(COUNTS, kernel_y, kernel_x, threads=2), range(12)
        ):
            assert_same_bits(result, expected)


def test_without_jit_the_definition_runs():
    program = """
import numpy as np
from smlmlp_dask.filters.compiled import engine as fused, loops as passes
stack, kernel = np.full((1, 5, 5), 3, np.uint8), np.array([0.25, 0.5, 0.25], np.float32)
assert (fused.correlate_frames(stack, kernel, kernel) == 3).all()
assert fused._compiled("uint8", in_rows=False).__code__ is passes.filter_in_tiles.__code__
"""
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=True)


# ---- up to the end of float32's range ------------------------------------------------------------

LARGEST = float(np.finfo(np.float32).max)


@pytest.mark.parametrize("dtype", ["f4", ">f4", "f8", "longdouble"])
@pytest.mark.parametrize("value", [1.8e38, 2.5e38, -2.5e38, 3.4e38])
@pytest.mark.parametrize("radii", [(1, 1), (7, 3), (12, 40)])
def test_a_large_constant_stays_itself(dtype, value, radii):
    stack = np.full((3, 40, 90), value).astype(dtype)
    np.testing.assert_allclose(correlate_frames(stack, *kernels(*radii)), value, rtol=2e-6)


@pytest.mark.parametrize("radii", [(7, 7), (3, 20)])
def test_large_pixels_as_the_plain_engine_has_them(radii):
    rng = np.random.default_rng(3)
    stack = (rng.uniform(-1, 1, (3, 60, 130)) * LARGEST).astype(np.float32)
    stack[1] = COUNTS[0, :60, :130]
    actual = correlate_frames(stack, *kernels(*radii))
    expected = stack.astype(np.float64)
    for axis, kernel in zip((1, 2), kernels(*radii), strict=True):
        expected = ndimage.correlate1d(expected, kernel.astype(float), axis, mode="nearest")
    assert np.isfinite(actual).all()
    np.testing.assert_allclose(actual[[0, 2]], expected[[0, 2]], atol=1e-6 * LARGEST)
    np.testing.assert_array_equal(actual[1], correlate_frames(stack[1:2], *kernels(*radii))[0])


def test_a_large_pixel_changes_no_bit_far_from_it():
    """Tiny numbers in the frame of a huge one: a scaled frame would lose their last bits."""
    stack = np.full((2, 60, 130), 1e-44, np.float32)
    near_by = kernels(7, 7)
    clean = correlate_frames(stack, *near_by)
    stack[:, :9] = 3e38
    actual = correlate_frames(stack, *near_by)
    assert np.isfinite(actual).all()
    np.testing.assert_array_equal(actual[:, 20:], clean[:, 20:])
    for cut in (slice(0, 30), slice(0, 42)):  # a block sees a part of the frame
        part = correlate_frames(np.ascontiguousarray(stack[:, cut]), *near_by)
        whole = cut.stop - 10
        np.testing.assert_array_equal(part[:, :whole], actual[:, :whole])


def test_infinite_pixels_stay_infinite_beside_large_ones():
    stack = np.full((1, 40, 90), 2.5e38, np.float64)
    stack[0, 20, 45] = 1e39  # infinite, once it is float32
    stack[0, 20, 5] = np.nan
    actual = correlate_frames(stack, *kernels(7, 7))[0]
    assert np.isposinf(actual[20, 45])
    assert np.isnan(actual[20, 5])
    np.testing.assert_allclose(actual[:5], 2.5e38, rtol=2e-6)
