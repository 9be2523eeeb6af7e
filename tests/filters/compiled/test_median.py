"""The compiled median and opening: the bits of their plain definition, whatever the cut."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smlmlp_dask.filters.compiled import median, median_loops, opening
from smlmlp_dask.filters.compiled.median import median_frames
from smlmlp_dask.filters.compiled.opening import grey_opening
from tests import reference, strategies

REACH = np.array([3, 2, 2, 0], np.int64)


@strategies.examples(15)
@given(
    frames=strategies.stacks(dtypes=["u1", "i1", "i2", "u2", "f4"], max_frames=6, max_side=9),
    window=st.integers(0, 4),
    data=st.data(),
)
def test_the_compiled_median_has_the_bits_of_its_definition(frames, window, data):
    """Both for any pixels, not numbers alone."""
    frames = np.frombuffer(
        data.draw(st.binary(min_size=frames.nbytes, max_size=frames.nbytes)), frames.dtype
    ).reshape(frames.shape)
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        patch.setattr(median, "_compiled", lambda dtype: median_loops.slide_median)
        defined = median_frames([frames], window)
    assert median_frames([frames], window).tobytes() == defined.tobytes()
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(defined, reference.median(frames, window))


@strategies.examples(10)
@given(data=st.data(), dtype=st.sampled_from(["u2", "f4"]))
def test_the_compiled_opening_has_the_bits_of_its_definition(data, dtype):
    size = 2 * 5 * 7 * np.dtype(dtype).itemsize
    frames = np.frombuffer(data.draw(st.binary(min_size=size, max_size=size)), dtype)
    frames = frames.reshape(2, 5, 7)
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        patch.setattr(opening, "_compiled", lambda dtype: opening.open_frames)
        defined = grey_opening(frames, REACH)
    assert grey_opening(frames, REACH).tobytes() == defined.tobytes()


@strategies.examples(40)
@given(data=st.data(), frames=strategies.stacks(max_frames=12, max_side=9))
def test_parts_threads_and_the_frames_asked_for_change_nothing(data, frames):
    window, threads = data.draw(st.integers(0, 8)), data.draw(st.integers(1, 4))
    cuts = np.cumsum(data.draw(strategies.runs(len(frames))))[:-1]
    start = data.draw(st.integers(0, len(frames)))
    stop = data.draw(st.integers(start, len(frames)))
    whole = median_frames([frames], window)
    parts = np.split(frames, cuts)
    some = median_frames(parts, window, start, stop, threads=threads)
    assert some.tobytes() == whole[start:stop].tobytes()


@pytest.mark.parametrize("turned", [(0, 2, 1), (2, 1, 0)])
def test_frames_need_not_be_contiguous(turned):
    frames = np.random.default_rng(2).integers(0, 999, (9, 8, 7)).astype(np.uint16)
    other = np.ascontiguousarray(frames.transpose(turned)).transpose(turned)
    assert median_frames([other], 2).tobytes() == median_frames([frames], 2).tobytes()
    assert grey_opening(other, REACH).tobytes() == grey_opening(frames, REACH).tobytes()


def test_windows_that_fill_a_cache_have_the_same_medians(monkeypatch):
    frames = np.random.default_rng(2).integers(0, 999, (90, 3, 71)).astype(np.uint16)
    expected = median_frames([frames], 40).tobytes()
    for cache_bytes in (1, 2**20):
        monkeypatch.setattr(median, "_CACHE_BYTES", cache_bytes)
        assert median_frames([frames], 40, threads=2).tobytes() == expected


def test_zeros_of_both_signs_are_in_order():
    """So that the bits of a median do not depend on the order in which they came."""
    frames = np.array([0.0, -0.0, -0.0, 0.0, -0.0], np.float32)[:, None, None]
    signs = [np.signbit(median_frames([np.roll(frames, n, axis=0)], 5)).ravel() for n in range(5)]
    assert np.all(signs)


@pytest.mark.parametrize("parts", [1, 3])
def test_counts_are_read_in_place(parts):
    """Nothing is allocated but the result, the windows, and the frames under them."""
    frames = np.ones((90, 64, 256), np.uint16)
    cut = np.split(frames, parts)
    median_frames(cut, 10, 30, 40)
    tracemalloc.start()
    out = median_frames(cut, 10, 30, 40)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < out.nbytes + 2**18 < frames.nbytes
