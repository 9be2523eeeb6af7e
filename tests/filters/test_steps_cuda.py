"""The median, the opening and steps that follow one another on a device, or on its stand-in.

See `test_cuda.py`: without a device no GPU code runs here.
"""

import dask.array as da
import numpy as np
import pytest

from smlmlp_dask import bkgd_combination, bkgd_spatial_opening, bkgd_temporal_median
from smlmlp_dask.filters import device as backend
from tests import duck
from tests.test_combination import CALLS, join_nothing, keep_tiles
from tests.test_golden import CHUNKINGS, chunk

from .test_cuda import device, xp  # noqa: F401 - fixtures

MOVIE = np.random.default_rng(7).integers(0, 900, (12, 20, 24)).astype(np.uint16)
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


def bits(call, stack, scheduler="threads"):
    [bkgd], _, _ = call([stack], cuda=True)
    return bkgd.compute(scheduler=scheduler).get().tobytes()


@each_call
def test_same_bits_for_every_chunking(call, xp, monkeypatch):  # noqa: F811
    expected = bits(call, MOVIE)
    [on_cpu], _, _ = call([MOVIE], engine="dask-image")
    error = np.abs(np.frombuffer(expected, np.float32) - on_cpu.compute().ravel()).max()
    assert error <= 1e-6 * MOVIE.max()
    for how in CHUNKINGS.values():
        assert bits(call, chunk(MOVIE, how)) == expected
    assert bits(call, xp.asarray(MOVIE)) == expected
    join_nothing(monkeypatch)
    keep_tiles(monkeypatch)
    for how in ("irregular", (2, 11, 7)):
        assert bits(call, chunk(MOVIE, how), "sync") == expected


@pytest.mark.parametrize("dtype", ["u1", ">u2", "i4", "f2", ">f4", "f8", np.longdouble])
@pytest.mark.parametrize("call", [CALLS["median"], CALLS["opening"]])
def test_medians_and_openings_are_those_of_the_cpu(call, dtype, xp):  # noqa: F811
    frames = (MOVIE[:5] % 200).astype(dtype)
    if frames.dtype.kind == "f":
        frames[2, 3, 4] = np.nan
    [bkgd], _, _ = call([frames], cuda=True)
    result = bkgd.compute()
    assert isinstance(result, xp.ndarray)
    np.testing.assert_array_equal(result.get(), call([frames])[0][0].compute())


@each_call
@pytest.mark.parametrize("tile", [(4, -1, -1), (4, 7, 9)])
def test_declared_is_what_is_computed(call, tile, xp):  # noqa: F811
    [bkgd], _, _ = call([da.from_array(MOVIE, chunks=tile)], cuda=True)
    assert isinstance(bkgd._meta, xp.ndarray)
    for place in np.ndindex(bkgd.numblocks):
        block = bkgd.blocks[place].compute()
        assert isinstance(block, xp.ndarray)
        assert (block.dtype, block.shape) == (np.float32, bkgd.blocks[place].shape)


@each_call
def test_targets_of_both_kinds(call, xp):  # noqa: F811
    expected = bits(call, MOVIE)
    targets = [np.empty(MOVIE.shape, np.float32), xp.asarray(np.empty(MOVIE.shape, np.float32))]
    bkgds, _, _ = call([MOVIE, MOVIE], bkgds=targets, cuda=True)
    assert bkgds[0].tobytes() == expected
    assert bkgds[1].get().tobytes() == expected


def test_no_step_is_no_background(xp):  # noqa: F811
    none = {"do_temporal_median": False, "do_spatial_mean": False}
    [bkgd], _, _ = bkgd_combination([MOVIE], **none, cuda=True)
    assert isinstance(bkgd._meta, xp.ndarray)
    assert not bkgd.compute().get().any()


def test_no_frames(xp):  # noqa: F811
    for call in CALLS.values():
        assert call([MOVIE[:0]], cuda=True)[0][0].compute().shape == (0, 20, 24)


def test_frames_go_up_in_the_cameras_dtype_once_a_block(device):  # noqa: F811
    """Each block with its halo in time; nothing comes down but the result."""
    lazy = da.from_array(MOVIE, chunks=(6, -1, -1))
    [bkgd], _, _ = bkgd_combination([lazy], median_window_fr=1, cuda=True)
    host = backend.stack_to_host(bkgd)
    device.up.clear()
    host.compute(scheduler="sync")
    frames = [shape[0] for shape, dtype in device.frames_up if dtype == np.uint16]
    assert frames == [7, 7]
    assert device.down == [((6, 20, 24), np.float32)] * 2


def test_cupy_chunks_stay_where_they_are(device):  # noqa: F811
    stack = duck.asarray(MOVIE)
    device.up.clear()
    for call in (bkgd_temporal_median, bkgd_spatial_opening):
        [bkgd], _, _ = call([stack])
        assert isinstance(bkgd._meta, duck.ndarray)
        assert isinstance(bkgd.compute(), duck.ndarray)
    assert device.frames_up == []
    assert device.down == []


def test_memory_that_is_short_gives_an_error_with_the_block_size(monkeypatch):
    with duck.installed(memory_bytes=MOVIE.nbytes * 3):
        [bkgd], _, _ = bkgd_combination([MOVIE], median_window_fr=2, cuda=True)
        with pytest.raises(RuntimeError, match=r"out of memory on a block of 12 x 20 x 24 pixels"):
            bkgd.compute(scheduler="sync")
