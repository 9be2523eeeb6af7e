"""`cuda=True`, from call to store. Without a device **no GPU code runs here**.

On every machine these tests run on the stand-in of `duck.py`: the package's, Dask's and
dask-image's own code, on arrays as strict as CuPy's, with every transfer counted. What they show is
that the right arrays go to the right calls, in the right order; not that CUDA computes them. Where
CuPy sees a device, the tests marked `gpu` run the same assertions on it.
"""

import gc
import json
import math
import pickle
import threading
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import dask
import dask.array as da
import distributed
import numpy as np
import pytest
import tifffile
import zarr
from click.testing import CliRunner

from smlmlp_dask import bkgd_spatial_mean, open_channels, run_spatial_mean, verify_backgrounds
from smlmlp_dask.cli import smlmlp
from smlmlp_dask.filters import dask_image
from smlmlp_dask.filters import device as backend
from smlmlp_dask.lazy import chunking
from tests import duck, reference
from tests.benchmarks import device as benchmark
from tests.test_golden import CASES, CHUNKINGS, chunk

MOVIE = np.random.default_rng(7).integers(0, 60_000, (12, 20, 24)).astype(np.uint16)
PAIR = (3.0, 5.0)


@pytest.fixture
def device():
    """The make-believe device: what was transferred, which streams, how much memory."""
    with duck.installed() as record:
        yield record


@contextmanager
def real_device():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    try:
        backend.require_device()
    except RuntimeError as error:
        pytest.skip(str(error))
    yield cupy


@contextmanager
def stand_in():
    with duck.installed():
        yield duck.CUPY


@pytest.fixture(params=[stand_in, pytest.param(real_device, marks=pytest.mark.gpu)])
def xp(request):
    """CuPy: its stand-in, and where there is a device itself."""
    with request.param() as module:
        yield module


def on_cpu(channel, radii=PAIR):
    return bkgd_spatial_mean([channel], [radii], engine="dask-image")[0][0].compute()


def assert_close(result, expected, largest):
    error = np.abs(result - expected).max(initial=0)
    assert error <= reference.TOLERANCE * largest


def keep_tiles(monkeypatch):
    """Let tiles be filtered with a halo, as those are whose whole frames are over 1 GiB."""
    monkeypatch.setattr(chunking, "whole_frame_chunks", lambda chunks, itemsize: chunks)


# The numbers, on the stand-in and on CuPy


@pytest.mark.parametrize("how", CHUNKINGS.values(), ids=CHUNKINGS)
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_golden(xp, path, how):
    golden = np.load(path)
    case = json.loads(str(golden["case"]))
    channels = [golden[f"channel_{i}"] for i in range(case["n"])]
    noise = case["noise_in"] and [np.float32(factor) for factor in case["noise_in"]]

    bkgds, corrections, info = bkgd_spatial_mean(
        [chunk(channel, how) for channel in channels], case["radii"], None, noise, cuda=True
    )

    assert np.array(corrections).tobytes() == golden["noise"].tobytes()
    for i, channel in enumerate(channels):
        for axis in "yx":
            assert info[f"spatial_mean_kernels_{axis}"][i].tobytes() == (
                golden[f"kernel_{axis}_{i}"].tobytes()
            )
        result = bkgds[i].compute()
        assert isinstance(result, xp.ndarray)
        error = np.abs(result.get() - golden[f"bkgd_{i}"]).max()
        limit = reference.tolerance(*info["channels_mean_radii_pix"][i])
        assert error <= limit * np.abs(channel).max()


def test_same_bits_for_every_chunking_scheduler_and_memory(xp, monkeypatch):
    def bits(stack, scheduler="threads"):
        [background], _, _ = bkgd_spatial_mean([stack], [PAIR], cuda=True)
        return background.compute(scheduler=scheduler).get().tobytes()

    expected = bits(MOVIE)
    for how in CHUNKINGS.values():
        assert bits(chunk(MOVIE, how)) == expected
    assert bits(da.from_array(MOVIE, chunks=(5, -1, -1)), "sync") == expected
    assert bits(xp.asarray(MOVIE)) == expected
    keep_tiles(monkeypatch)
    assert bits(da.from_array(MOVIE, chunks=(5, 7, 9))) == expected
    monkeypatch.setattr(backend, "free_bytes", lambda: 5 * 20 * 24 * 42)
    assert bits(MOVIE) == expected


@pytest.mark.parametrize("shape", [(0, 4, 5), (1, 1, 1), (3, 1, 9), (2, 9, 1), (2, 2, 3)])
@pytest.mark.parametrize("radius", [0.3, 7, 40])
def test_no_frames_single_pixels_and_kernels_wider_than_the_frame(xp, shape, radius):
    frames = np.arange(np.prod(shape)).reshape(shape).astype(np.int16)
    [background], _, _ = bkgd_spatial_mean([frames], radius, cuda=True)
    result = background.compute()
    assert isinstance(result, xp.ndarray)
    assert (result.shape, result.dtype) == (shape, np.float32)
    expected = on_cpu(frames, (radius, radius))
    error = np.abs(result.get() - expected).max(initial=0)
    assert error <= reference.tolerance(radius) * np.abs(frames).max(initial=0)


@pytest.mark.parametrize(
    ("radius", "shape"),
    [(20, (2, 90, 96)), (100, (1, 130, 260)), (600, (1, 3, 1600)), (3000, (1, 2050, 2))],
)
@pytest.mark.parametrize("light", ["noise", "flat", "ramp"])
def test_sums_of_many_taps_keep_the_promise(xp, radius, shape, light):
    """cupyx sums float32 in float32, which would not do for thousands of taps."""
    frames = {
        "noise": lambda: np.random.default_rng(3).poisson(100, shape),
        "flat": lambda: np.full(shape, 1000 * math.pi),
        "ramp": lambda: np.linspace(0, 60_000, math.prod(shape)).reshape(shape),
    }[light]().astype(np.float32)
    [background], _, _ = bkgd_spatial_mean([frames], radius, cuda=True)
    # what is promised for radii up to 20; without float64 some of these would miss it
    assert_close(background.compute().get(), on_cpu(frames, (radius, radius)), frames.max())


REAL_DTYPES = ["u1", "i1", "<u2", ">u2", ">i4", "u8", ">i8", "f2", ">f4", "f8", np.longdouble]


@pytest.mark.parametrize("dtype", REAL_DTYPES)
def test_every_real_dtype(xp, dtype):
    frames = (np.arange(2 * 6 * 7) % 100).reshape(2, 6, 7).astype(dtype)
    [background], _, _ = bkgd_spatial_mean([frames], 3.0, cuda=True)
    assert_close(background.compute().get(), on_cpu(frames, (3.0, 3.0)), 100)


@pytest.mark.parametrize("tile", [(4, -1, -1), (4, 7, 9)])
@pytest.mark.parametrize("halo", [False, True])
def test_declared_is_what_is_computed(xp, tile, halo, monkeypatch):
    if halo:
        keep_tiles(monkeypatch)
    [background], _, _ = bkgd_spatial_mean([da.from_array(MOVIE, chunks=tile)], [PAIR], cuda=True)
    assert isinstance(background._meta, xp.ndarray)
    assert background.dtype == background._meta.dtype == np.float32
    assert background.shape == MOVIE.shape
    for place in np.ndindex(background.numblocks):
        block = background.blocks[place].compute()
        assert isinstance(block, xp.ndarray)
        assert (block.dtype, block.shape) == (np.float32, background.blocks[place].shape)


def test_device_memory_does_not_grow_with_the_movie(xp):
    """Peak of one block after the other, for 4 and for 40 blocks of 5 frames."""

    def peak(blocks):
        lazy = da.from_array(np.ones((5 * blocks, 64, 64), np.uint16), chunks=(5, -1, -1))
        target = np.empty(lazy.shape, np.float32)
        if xp is duck.CUPY:
            duck.DEVICE.peak_bytes = duck.DEVICE.live_bytes
        else:
            xp.get_default_memory_pool().free_all_blocks()
        with dask.config.set(scheduler="sync"):
            bkgd_spatial_mean([lazy], [PAIR], [target], cuda=True)
        if xp is duck.CUPY:
            return duck.DEVICE.peak_bytes
        return xp.get_default_memory_pool().total_bytes()

    # Building the graph that all blocks share, Dask catches errors that lie in a circle and hold
    # the first block's arrays until Python's collector runs: whenever that is.
    peak(1)
    gc.collect()
    few, many = peak(4), peak(40)
    assert 0 < many == few
    kernels = 1000
    assert few <= 5 * 64 * 64 * (2 + 20) + kernels + 2**20 * (xp is not duck.CUPY)


@pytest.mark.parametrize("kind", ["numpy", "cupy", "zarr"])
def test_targets_of_every_kind(xp, kind, tmp_path):
    shape = (15, *MOVIE.shape[1:])
    target = np.full(shape, 5, np.float32)
    if kind == "cupy":
        target = xp.asarray(target)
    if kind == "zarr":
        target = zarr.create_array(tmp_path / "t.zarr", shape=shape, chunks=(4, 20, 24), dtype="f4")
        target[:] = 5
    [background], _, _ = bkgd_spatial_mean(
        [da.from_array(MOVIE, chunks=(5, -1, -1))], [PAIR], [target], cuda=True
    )
    filled = target.get() if kind == "cupy" else target[:]
    assert_close(filled[:12], on_cpu(MOVIE), 60_000)
    assert (filled[12:] == 5).all()
    assert isinstance(background, {"numpy": np.ndarray, "cupy": xp.ndarray, "zarr": da.Array}[kind])
    result = background.get() if kind == "cupy" else np.asarray(background)
    assert np.array_equal(result, filled[:12])


def test_a_device_target_is_filled_from_the_cpu(xp):
    target = xp.asarray(np.empty(MOVIE.shape, np.float32))
    bkgd_spatial_mean([MOVIE], [PAIR], [target])
    assert np.array_equal(target.get(), bkgd_spatial_mean([MOVIE], [PAIR])[0][0].compute())


def test_a_device_target_must_not_be_a_channel(xp):
    channel = xp.asarray(MOVIE.astype(np.float32))
    with pytest.raises(ValueError, match=r"bkgds\[0\] shares its memory or storage with channels"):
        bkgd_spatial_mean([channel], [PAIR], [channel[:]], cuda=True)


def test_a_job_from_big_endian_raw_to_store(xp, tmp_path):
    MOVIE.astype(">u2").tofile(tmp_path / "movie.raw")
    options = {"raw_shape": MOVIE.shape, "raw_dtype": ">u2", "cuda": True}
    result = run_spatial_mean(tmp_path / "movie.raw", tmp_path / "b.zarr", [PAIR], **options)
    assert_close(result.bkgds[0].compute(), on_cpu(MOVIE), 60_000)
    attributes = dict(zarr.open_group(tmp_path / "b.zarr", mode="r").attrs["smlmlp_dask"])
    assert attributes["cuda"] is True
    assert attributes["engine"] == "dask-image"
    assert attributes["engine_version"].endswith(f", cupy {xp.__version__}")
    assert verify_backgrounds(tmp_path / "b.zarr", sample=1).problems == []


# What travels, on the stand-in


def test_nothing_travels_and_nothing_is_computed_by_the_call(device, no_compute):
    [background], _, _ = bkgd_spatial_mean([MOVIE], [PAIR], cuda=True)
    assert device.up == device.down == []
    assert "chunktype=cupy.ndarray" in repr(background)


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", ">i4", "f4", ">f8"])
@pytest.mark.parametrize("kind", ["numpy", "dask", "zarr", "tiled"])
def test_one_transfer_up_per_block_in_the_cameras_dtype(device, tmp_path, kind, dtype):
    frames = (MOVIE // 256).astype(dtype)
    stack = {
        "numpy": lambda: frames,
        "dask": lambda: da.from_array(frames, chunks=(4, -1, -1)),
        "tiled": lambda: da.from_array(frames, chunks=(4, 7, 9)),
        "zarr": lambda: zarr.create_array(tmp_path / "m.zarr", data=frames, chunks=(4, 20, 24)),
    }[kind]()
    [background], _, _ = bkgd_spatial_mean([stack], [PAIR], cuda=True)
    result = background.compute()
    native = np.dtype(dtype).newbyteorder("=")
    expected = [((n, 20, 24), native) for n in background.chunks[0]]
    assert sorted(device.frames_up) == sorted(expected)
    assert device.down == []  # the background stays
    kernels = [(shape, dtype) for shape, dtype in device.up if duck.is_kernel(shape)]
    assert len(kernels) == 2 * len(expected)  # some bytes each, beside a block's
    assert {dtype for _, dtype in kernels} == {np.dtype(np.float32)}
    assert isinstance(result, duck.ndarray)


@pytest.mark.parametrize("kind", ["numpy", "zarr"])
def test_one_transfer_down_per_block_of_float32(device, tmp_path, kind):
    target = np.empty(MOVIE.shape, np.float32)
    if kind == "zarr":
        target = zarr.create_array(
            tmp_path / "t.zarr", shape=MOVIE.shape, chunks=(3, 20, 24), dtype="f4"
        )
    stack = da.from_array(MOVIE, chunks=(5, -1, -1))
    bkgd_spatial_mean([stack], [PAIR], [target], cuda=True)
    blocks = [(5, 20, 24), (5, 20, 24), (2, 20, 24)]
    assert sorted(device.frames_up) == sorted((shape, np.dtype("u2")) for shape in blocks)
    assert sorted(device.down) == sorted((shape, np.dtype("f4")) for shape in blocks)


def test_a_jobs_blocks_go_up_once_and_come_down_once(device, tmp_path):
    tifffile.imwrite(
        tmp_path / "m.tif", MOVIE.astype(">u2"), byteorder=">", photometric="minisblack"
    )
    result = run_spatial_mean(tmp_path / "m.tif", tmp_path / "b.zarr", [PAIR], cuda=True)
    blocks = [(n, 20, 24) for n in result.bkgds[0].chunks[0]]
    assert device.frames_up == [(shape, np.dtype("u2")) for shape in blocks]
    assert device.down == [(shape, np.dtype("f4")) for shape in blocks]


def test_cupy_chunks_stay_where_they_are(device):
    stack = da.from_array(MOVIE, chunks=(5, -1, -1)).map_blocks(
        duck.asarray, dtype="u2", meta=duck.empty((0, 0, 0), "u2")
    )
    [background], _, _ = bkgd_spatial_mean([stack], [PAIR])  # nor do they need cuda=True
    with dask.config.set(scheduler="sync"):
        background.compute()
    assert len(device.frames_up) == 3  # as the stack itself was made
    assert device.down == []


def test_tiles_with_a_halo_go_up_once(device, monkeypatch):
    keep_tiles(monkeypatch)
    stack = da.from_array(MOVIE, chunks=(6, 10, 24))
    [background], _, _ = bkgd_spatial_mean([stack], [PAIR], cuda=True)
    background.compute()
    halo = 3  # of radius 3: 2.5758 times sigma 1.5
    assert device.frames_up == [((6, 10 + halo, 24), np.dtype("u2"))] * 4
    assert device.down == []


# Streams, memory, workers, on the stand-in


def test_blocks_are_on_the_device_side_by_side(device, monkeypatch):
    """Two threads meet inside the filter, which they can only if neither waits for the other."""
    meeting = threading.Barrier(2, timeout=60)
    inside, most = [], []

    def correlate(*args, **kwargs):
        inside.append(1)
        most.append(len(inside))
        meeting.wait()
        inside.pop()
        return duck.correlate(*args, **kwargs)

    monkeypatch.setattr(duck.MODULES["cupyx.scipy.ndimage"], "correlate", correlate)
    dask_image._graph.cache_clear()
    stack = da.from_array(MOVIE, chunks=(2, -1, -1))
    [background], _, _ = bkgd_spatial_mean([stack], [PAIR], cuda=True)
    background.compute(scheduler="threads", num_workers=2)
    assert len(device.streams) == 2
    assert max(most) == 2
    dask_image._graph.cache_clear()


def test_no_more_blocks_are_on_the_device_than_planned(device):
    stack = da.from_array(np.ones((40, 64, 64), np.uint16), chunks=(1, -1, -1))
    target = np.empty(stack.shape, np.float32)
    with dask.config.set(scheduler="threads", num_workers=8):
        bkgd_spatial_mean([stack], [PAIR], [target], cuda=True)
    assert len(device.streams) <= backend.BLOCKS_AT_ONCE
    block = 64 * 64 * (2 + 20)
    waiting = 8 * 64 * 64 * 4  # filtered, on their way to the store
    assert device.peak_bytes <= backend.BLOCKS_AT_ONCE * block + waiting


def test_threads_that_end_leave_no_streams_behind(device):
    for _ in range(5):  # each compute with num_workers has threads of its own
        [background], _, _ = bkgd_spatial_mean([MOVIE], [PAIR], cuda=True)
        background.compute(scheduler="threads", num_workers=2)
    assert len(device.streams) == 1


@pytest.mark.parametrize(("radius", "pixel_bytes"), [(3.0, 20), (500.0, backend.PIXEL_BYTES)])
def test_a_block_takes_no_more_memory_than_planned(device, radius, pixel_bytes):
    frames = np.ones((2, 10, 700), np.uint16)
    with dask.config.set(scheduler="sync"):
        bkgd_spatial_mean([frames], radius, [np.empty(frames.shape, np.float32)], cuda=True)
    kernels = 8 * 2 * 1400
    assert 2 * frames.size < device.peak_bytes <= frames.size * (2 + pixel_bytes) + kernels


def test_a_source_is_filtered_on_the_device_that_holds_it(device):
    def where(source):
        [background], _, _ = bkgd_spatial_mean([source], [PAIR], cuda=True)
        # compute() would copy the result to the thread's own device
        [chunk] = dict(background.persist(scheduler="sync").dask).values()
        return chunk.device.id

    with duck.CurrentDevice(1):
        there = duck.asarray(MOVIE)
    assert where(there) == 1
    assert where(MOVIE) == 0
    with duck.CurrentDevice(1):  # the thread's own: we choose none
        assert where(MOVIE) == 1


def test_short_memory_cuts_blocks_into_parts():
    memory = 3 * 4 * 20 * 24 * (2 + backend.PIXEL_BYTES)
    with duck.installed(memory) as device:
        target = np.empty(MOVIE.shape, np.float32)
        with dask.config.set(scheduler="sync"):
            bkgd_spatial_mean([MOVIE], [PAIR], [target], cuda=True)
        assert len(device.frames_up) > 1
        assert device.peak_bytes <= memory
    assert_close(target, on_cpu(MOVIE), 60_000)


def test_memory_that_others_take_gives_an_error_with_the_block_size(device, monkeypatch):
    monkeypatch.setattr(device, "memory_bytes", 12 * 20 * 24 * 10)
    monkeypatch.setattr(backend, "free_bytes", lambda: 12 * 20 * 24 * 42)
    [background], _, _ = bkgd_spatial_mean([MOVIE], [PAIR], cuda=True)
    message = (
        r"the GPU ran out of memory on a block of 12 x 20 x 24 pixels, which takes .* memory.*"
        r"at most 6 x 20 x 24 pixels \(stack.rechunk\(\{0: 6\}\); for a job a smaller memory_limit"
    )
    with pytest.raises(RuntimeError, match=message) as caught:
        background.compute(scheduler="sync")
    assert "\n" not in str(caught.value)


def test_a_frame_too_large_for_the_device(tmp_path):
    tifffile.imwrite(tmp_path / "m.tif", MOVIE, photometric="minisblack")
    with duck.installed(20 * 24 * 10):
        result = CliRunner().invoke(
            smlmlp, ["run", str(tmp_path / "m.tif"), "-o", str(tmp_path / "b.zarr"), "--cuda"]
        )
    assert result.exit_code == 2
    assert "ran out of memory on a block of 1 x 20 x 24 pixels" in result.stderr
    assert "take a part of each frame (bboxes)" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_host_without_memory_is_no_device_without(device, monkeypatch):
    def full(array):
        raise MemoryError("no host memory")

    monkeypatch.setattr(backend, "to_host", full)
    with pytest.raises(MemoryError, match="no host memory"):
        bkgd_spatial_mean([MOVIE], [PAIR], [np.empty(MOVIE.shape, np.float32)], cuda=True)


def test_the_command_line(device, tmp_path):
    MOVIE.astype(">u2").tofile(tmp_path / "movie.raw")
    command = f"run {tmp_path}/movie.raw -o {tmp_path}/b.zarr --raw-shape 12,20,24 --raw-dtype >u2"
    result = CliRunner().invoke(smlmlp, [*command.split(), "--radius", "3,5", "--cuda"])
    assert result.exit_code == 0, result.output
    [stored] = open_channels(tmp_path / "b.zarr" / "channel_0" / "0")
    assert_close(stored.compute(), on_cpu(MOVIE), 60_000)


def test_a_job_is_resumed_and_asks_for_the_same_cupy(device, tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "m.tif", MOVIE, photometric="minisblack")
    job = partial(run_spatial_mean, tmp_path / "m.tif", tmp_path / "b.zarr", [PAIR], cuda=True)
    with monkeypatch.context() as broken:
        broken.setattr(duck.ndarray, "get", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            job()
    job(resume=True)
    device.up.clear()
    job(resume=True)
    assert device.up == []
    monkeypatch.setattr(duck.CUPY, "__version__", "1 (another)")
    with pytest.raises(ValueError, match="engine_version"):
        job(resume=True)


def test_results_pickle(device):
    [background], _, _ = bkgd_spatial_mean([MOVIE], [PAIR], cuda=True)
    sent = pickle.dumps(background)
    assert device.up == device.down == []  # a scheduler without a device can read it
    again = pickle.loads(sent)
    assert_close(again.compute().get(), on_cpu(MOVIE), 60_000)


def test_a_clients_workers_are_asked(device, tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "m.tif", MOVIE, photometric="minisblack")
    job = partial(run_spatial_mean, tmp_path / "m.tif", cuda=True, channels_mean_radii_pix=[PAIR])
    with (
        dask.config.set({"distributed.admin.system-monitor.interval": "1h"}),
        distributed.Client(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ),
    ):
        result = job(tmp_path / "b.zarr")
        assert_close(result.bkgds[0].compute(), on_cpu(MOVIE), 60_000)
        [background], _, _ = bkgd_spatial_mean([MOVIE], [PAIR], cuda=True)
        assert_close(background.compute().get(), on_cpu(MOVIE), 60_000)
        monkeypatch.setattr(duck.CUPY.cuda.runtime, "getDeviceCount", lambda: 0)
        with pytest.raises(RuntimeError, match="sees no CUDA device"):
            job(tmp_path / "c.zarr")
    assert not (tmp_path / "c.zarr").exists()


@pytest.mark.slow
def test_only_the_workers_need_a_device(tmp_path):
    """Processes of their own, with the stand-in; this one has no CuPy that works."""
    with suppress(RuntimeError):
        pytest.skip(f"this process has a device, too, with CuPy {backend.require_device()}")
    preload = tmp_path / "preload.py"
    preload.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from tests import duck\n"
        "cupy = duck.installed()\n"
        "def dask_setup(worker): cupy.__enter__()\n"
    )
    tifffile.imwrite(tmp_path / "m.tif", MOVIE, photometric="minisblack")
    with (
        distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            dashboard_address="127.0.0.1:0",
            preload=[str(preload)],
        ) as cluster,
        distributed.Client(cluster),
    ):
        result = run_spatial_mean(tmp_path / "m.tif", tmp_path / "b.zarr", [PAIR], cuda=True)
    assert_close(result.bkgds[0].compute(), on_cpu(MOVIE), 60_000)


def test_the_benchmark_runs(device, capsys):
    """Its numbers mean nothing here: only a device has a speed."""
    benchmark.main(["--radii", "1", "7", "--shape", "2", "16", "16", "--repeats", "1"])
    table = capsys.readouterr().out.splitlines()
    assert "a stand-in" in table[0]
    assert len(table) == 2 + 7
    assert [len(line.split()[-2:]) for line in table[1:]] == [2] * 8


def test_the_benchmark_says_that_there_is_no_device(monkeypatch, capsys):
    with duck.installed():
        monkeypatch.setattr(duck.CUPY.cuda.runtime, "getDeviceCount", lambda: 0)
        benchmark.main([])
    assert capsys.readouterr().out.startswith("nothing to measure: cuda=True: CuPy sees no CUDA")
