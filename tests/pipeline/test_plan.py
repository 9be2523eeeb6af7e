"""Plans: of movies that are there, and of movies that are only described."""

import os
import tracemalloc
from math import prod
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from dask.distributed import Client
from rich.console import Console

from smlmlp_dask import DescribedMovie, blocks, plan_spatial_mean, run_spatial_mean
from smlmlp_dask.cli import smlmlp
from smlmlp_dask.cli.planned import print_plan
from smlmlp_dask.execution.workers import BASE_BYTES
from smlmlp_dask.pipeline import block, measure
from smlmlp_dask.pipeline.job_plan import JobPlan
from smlmlp_dask.pipeline.measure import Rates
from smlmlp_dask.store.chunk_files import chunk_path
from smlmlp_dask.store.codecs import Codec

SHAPE, CHUNKS = (96, 120, 136), (16, 120, 136)
RNG = np.random.default_rng(3)


@pytest.fixture
def movie(tmp_path):
    """A movie of camera counts in Zarr."""
    array = zarr.create_array(tmp_path / "m.zarr", shape=SHAPE, chunks=CHUNKS, dtype="uint16")
    array[:] = RNG.poisson(np.linspace(80, 300, SHAPE[2]), SHAPE)
    return tmp_path / "m.zarr"


@pytest.fixture(autouse=True)
def briefly(monkeypatch):
    """Each thread runs one block to warm up and one that counts."""
    monkeypatch.setattr(measure, "SECONDS", 0.05)


def files_in(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


# ---- movies that do not exist --------------------------------------------------------------------


def test_a_movie_of_five_terabytes():
    plan_spatial_mean(DescribedMovie((10, 512, 512)))  # which imports what it needs
    tracemalloc.start()
    try:
        movie = DescribedMovie((10**7, 512, 512), "uint16", (32, 512, 512))
        plan = plan_spatial_mean(movie, workers=64)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2e6
    assert plan.n_blocks == 312_500
    assert plan.channels[0].read_amplification == 1
    assert plan.output_bytes == 4 * 10**7 * 512 * 512
    assert plan.threads == plan.workers == 64
    assert plan.tasks_under_way == 4 * 64
    assert plan.blocks_per_task == 64
    # a block as read, its chunk encoded and decoded, three times half a block of float32
    assert plan.worker_bytes == BASE_BYTES + 3 * (2 * 32 * 512 * 512) + 3 * (4 * 16 * 512 * 512)
    assert plan.projected_bytes == 64 * plan.worker_bytes
    assert plan.scheduler_bytes > 0
    assert plan.rates is plan.seconds is plan.stored_bytes is None


@pytest.mark.parametrize(
    "which",
    [
        {},
        {"bboxes": [[(0, 0, 68, 120), (68, 0, 136, 120)]], "flips": [None, (True, True)]},
        {"bboxes": [[(5, 7, 70, 90)]], "workers": 3, "memory_limit": "1GB"},
    ],
)
def test_a_described_movie_is_planned_like_a_real_one(movie, which):
    described = plan_spatial_mean(DescribedMovie(SHAPE, ">u2", CHUNKS), 5.0, **which)
    assert described == plan_spatial_mean(movie, 5.0, **which)


def test_nothing_is_gone_through():
    # a step for each frame, or block, of this one would outlast the test
    movie = DescribedMovie((10**14, 2048, 2048), "uint16", (1000, 256, 256))
    plan = plan_spatial_mean(movie, bboxes=[[(0, 0, 2048, 2048), (3, 5, 2000, 2040)]])
    assert plan.n_blocks > 10**11
    assert all(channel.read_amplification > 1 for channel in plan.channels)


def test_single_frames_by_default():
    movie = DescribedMovie((10, 20, 30))
    assert movie.unit == (1, 20, 30)
    assert movie.dtype == np.uint16


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: DescribedMovie((1, 2)), ValueError, r"shape=\(1, 2\): pass three positive"),
        (lambda: DescribedMovie(7), ValueError, "shape=7"),
        (lambda: DescribedMovie((1, 0, 2)), ValueError, r"shape=\(1, 0, 2\)"),
        (lambda: DescribedMovie((1, 2.5, 2)), ValueError, r"shape=\(1, 2.5, 2\)"),
        (lambda: DescribedMovie((10**30, 2, 2)), ValueError, "shape="),
        (lambda: DescribedMovie((1, 2, 3), chunks=(1, -2, 3)), ValueError, "chunks="),
        (lambda: DescribedMovie((1, 2, 3), "uint17"), TypeError, "dtype='uint17'"),
        (lambda: DescribedMovie((1, 2, 3), bool), TypeError, "has dtype bool"),
        (lambda: run_spatial_mean(DescribedMovie((1, 2, 3)), "o.zarr"), TypeError, "pass a path"),
        (lambda: plan_spatial_mean(DescribedMovie((9, 2, 3)), frames=slice(3)), ValueError,
         "--frames"),
        (lambda: plan_spatial_mean(DescribedMovie((9, 2, 3)), bboxes=[[(0, 0, 4, 2)]]), ValueError,
         r"box \(0, 0, 4, 2\) does not fit the described movie"),
        (lambda: plan_spatial_mean(DescribedMovie((9, 2, 3)), workers=0), ValueError,
         "workers is 0"),
        (lambda: plan_spatial_mean(DescribedMovie((9, 2, 3)), workers=64, memory_limit="4GB"),
         ValueError, "memory_limit is 4GB: pass more than 20.1 GB.* each of 64 workers"),
        (lambda: plan_spatial_mean(DescribedMovie((9, 2, 3)), engine="gpu"), ValueError, "gpu"),
        (lambda: plan_spatial_mean(DescribedMovie((9, 2, 3)), codec="zip"), ValueError, "zip"),
    ],
)  # fmt: skip
def test_what_is_no_plan(make, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        make()
    assert not list(tmp_path.iterdir())


# ---- what it takes -------------------------------------------------------------------------------


def plan_with(rates, workers=None):
    channels = [blocks.plan_blocks((n, 512, 512), 2, (32, 512, 512), (9, 9)) for n in (320, 640)]
    return JobPlan(channels, workers or 2, 2**34, workers, workers is not None, rates)


def test_time_and_size_follow_from_the_rates():
    pixels = np.array([320, 640]) * 512 * 512
    rates = Rates([1e-8, 3e-8], [5e-9, 1e-8], [2.5, 3.5], 1e9, 10, 2, True, Path())
    plan = plan_with(rates)
    assert plan.stored_bytes == (pixels * [2.5, 3.5]).sum()
    assert plan.work_seconds == pytest.approx((pixels * [1e-8, 3e-8]).sum() / 2)
    assert plan.seconds == plan.work_seconds
    # each worker has a core of its own, on storage that keeps up
    elsewhere = (pixels * [5e-9, 1e-8]).sum()
    assert plan_with(rates, workers=10).seconds == pytest.approx(elsewhere / 10)
    assert plan_with(rates, workers=30).seconds == plan_with(rates, workers=99).seconds
    slow = Rates([1e-8, 3e-8], [5e-9, 1e-8], [2.5, 3.5], 1e7, 10, 2, True, Path())
    assert plan_with(slow, workers=10).seconds == plan_with(rates, workers=10).seconds
    assert plan_with(slow).seconds == pytest.approx(plan.stored_bytes / 1e7)


@pytest.mark.parametrize("codec", get_args(Codec))
def test_the_predicted_size_of_a_movie_is_right(movie, tmp_path, codec):
    plan = plan_spatial_mean(
        movie, 5.0, measured=True, codec=codec, destination=tmp_path / "new" / "o.zarr"
    )
    assert plan.rates.folder == tmp_path
    assert not plan.rates.simulated
    before = files_in(tmp_path)
    result = run_spatial_mean(movie, tmp_path / "new" / "o.zarr", 5.0, codec=codec)
    chunk_files = files_in(result.path / "channel_0" / "0" / "c")
    stored = sum(path.stat().st_size for path in chunk_files)
    assert plan.stored_bytes == pytest.approx(stored, rel=0.02)
    assert before == files_in(movie), "the measurement left something behind"


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32"])
def test_a_described_movie_is_simulated(dtype, tmp_path):
    movie = DescribedMovie((10**6, 128, 160), dtype, (25, 128, 160))
    plan = plan_spatial_mean(movie, measured=True, destination=tmp_path / "o.zarr", codec="none")
    assert plan.rates.simulated
    assert plan.stored_bytes == pytest.approx(plan.output_bytes, rel=0.01)
    assert not list(tmp_path.iterdir())


def run_blocks(monkeypatch):
    """Collect the tasks that are run to measure."""
    tasks = []
    work = measure.filter_and_store

    def noted(task, **options):
        tasks.append(task)
        return work(task, **options)

    monkeypatch.setattr(measure, "filter_and_store", noted)
    return tasks


def test_two_channels_of_described_tiles(monkeypatch, tmp_path):
    monkeypatch.setattr(
        blocks.plan_blocks, "__kwdefaults__", {"slab_bytes": 9000, "block_bytes": 12_000}
    )
    tasks = run_blocks(monkeypatch)
    monkeypatch.setattr(measure, "SECONDS", 0.4)
    movie = DescribedMovie((50, 64, 130), "uint16", (10, 8, 8))
    boxes = [(0, 0, 65, 64), (65, 10, 130, 64)]
    plan = plan_spatial_mean(
        movie, bboxes=[boxes], flips=[None, (False, True)], workers=1,
        measured=True, destination=tmp_path / "o.zarr",
    )  # fmt: skip
    assert all(channel.block[1] < channel.shape[1] for channel in plan.channels)
    assert min(plan.rates.seconds_per_pixel) > 0
    for task in tasks:
        own = task.block.own
        assert task.source.shape[0] == own[0].stop
        assert all(
            part.start >= 0 and part.stop <= length
            for part, length in zip(own, task.source.shape, strict=True)
        )
    # some block of the sample has neighbours above and below, as most blocks of the movie have
    assert any(
        task.block.own[1].start > 0 and task.block.own[1].stop < task.source.shape[1]
        for task in tasks
    )


def test_blocks_of_a_movie_are_taken_from_all_over_it(movie, monkeypatch, tmp_path):
    monkeypatch.setitem(blocks.plan_blocks.__kwdefaults__, "block_bytes", 4 * prod(CHUNKS))
    tasks = run_blocks(monkeypatch)
    monkeypatch.setattr(measure, "SECONDS", 1.0)
    plan = plan_spatial_mean(movie, measured=True, destination=tmp_path / "o.zarr")
    assert plan.n_blocks == 6
    assert {task.block.number for task in tasks} == set(range(6))
    assert {task.source.frames[0] for task in tasks} == set(range(0, 96, 16))


def test_what_was_measured_is_what_a_run_computes(movie, monkeypatch, tmp_path):
    """A sample that wrote something else would take another time and another size."""
    monkeypatch.setitem(blocks.plan_blocks.__kwdefaults__, "block_bytes", 4 * prod(CHUNKS))
    expected = run_spatial_mean(movie, tmp_path / "o.zarr", 5.0).path / "channel_0/0"
    compared = []
    work = measure.filter_and_store

    def chunk(array, frame):
        return chunk_path(array, (frame // CHUNKS[0], 0, 0)).read_bytes()

    def checked(task, **options):
        work(task, **options)
        written = chunk(task.targets[0].array, task.block.inner[0].start)
        compared.append(written == chunk(expected, task.source.frames[0]))

    monkeypatch.setattr(measure, "filter_and_store", checked)
    plan_spatial_mean(movie, 5.0, measured=True)
    assert compared
    assert all(compared)


def test_a_damaged_movie_leaves_nothing_behind(movie, tmp_path, monkeypatch):
    monkeypatch.setattr(block, "RETRY_AFTER_SECONDS", ())
    for chunk in files_in(movie / "c"):
        chunk.write_bytes(b"nothing that decodes")
    before = files_in(tmp_path)
    with pytest.raises(OSError, match="cannot be read"):
        plan_spatial_mean(movie, measured=True, destination=tmp_path / "o.zarr")
    assert files_in(tmp_path) == before


def test_an_empty_movie_takes_nothing(tmp_path):
    zarr.create_array(tmp_path / "m.zarr", shape=(0, 20, 24), chunks=(4, 20, 24), dtype="u2")
    plan = plan_spatial_mean(tmp_path / "m.zarr", measured=True)
    assert plan.rates is None


# ---- the screen ----------------------------------------------------------------------------------


def dry_run(*options):
    return CliRunner().invoke(smlmlp, ["run", "--dry-run", *map(str, options)])


def test_the_screen_of_a_described_movie(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = dry_run(
        "--shape", "10000000,128,128", "--dtype", "uint16", "--chunks", "500,128,128",
        "--radius", "7", "--for-workers", "64", "-o", "out.zarr", "-v",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    told = [line for line in result.stdout.splitlines() if "make room" not in line]  # on our disk
    assert told[-1] == "nothing was run (--dry-run)"
    lines = [line.rstrip() for line in told]
    plain = [" ".join(line.split()) for line in lines]
    for fact in (
        "channel 0: 10,000,000×128×128, 328 GB, in 20,000 blocks of 500×128×128",
        "tasks: of up to 64 blocks, 64 at a time",
        "memory: a block in work holds up to 98.3 MB:",
        "16.4 MB frames read",
        "32.8 MB decoding",
        "workers: 64 of one thread, 413 MB of memory each",
    ):
        assert fact in plain
    assert any(line.startswith("output: 655 GB before compression, about ") for line in plain)
    text = "\n".join(lines)
    for name in ("scheduler:", "memory:", "  disk:", "time:", "  assumed:", "  sample:"):
        assert f"\n{name} " in text
    assert "simulated" in text
    assert str(tmp_path) in text.replace("\n", "").replace(" ", "")
    assert "\x1b" not in text
    assert max(map(len, told)) <= 80
    assert not list(tmp_path.iterdir())


def test_the_screen_on_a_cluster(movie):
    with Client(processes=False, dashboard_address=":0", n_workers=1, threads_per_worker=2):
        result = dry_run(movie, "-v")
    assert result.exit_code == 0, result.output
    assert "tasks:     of 1 block, 2 at a time" in result.stdout
    assert "scheduler: " in result.stdout
    assert "regions:" not in result.stdout


def test_the_screen_of_a_movie(movie):
    result = dry_run(movie, "-v")
    assert result.exit_code == 0, result.output
    assert "regions:   1 of up to 256 tasks" in result.stdout
    assert "blocks of this movie" in result.stdout
    assert "workers:" not in result.stdout


def test_a_plan_without_measurement_has_no_time(movie, capsys):
    print_plan(Console(), plan_spatial_mean(movie))
    shown = capsys.readouterr().out
    assert "output:" in shown
    assert "time:" not in shown


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("run --shape 5,6,7 -o o.zarr", "--shape describes a movie without pixels"),
        ("run --dry-run --shape 5,6,7 m.zarr", "instead of SOURCES, and m.zarr is given"),
        ("run --dry-run --shape 5,6", "'5,6' is not frames,height,width"),
        ("run --dry-run --shape 5,6,0", "shape=(5, 6, 0)"),
        ("run --dry-run --shape 5,6,7 --chunks 0,6,7", "chunks=(0, 6, 7)"),
        ("run --dry-run --shape 5,6,7 --dtype uint17", "dtype='uint17'"),
        ("run --dry-run --dtype uint16", "give its --shape"),
        ("run --dry-run --chunks 1,2,3 m.zarr", "give its --shape"),
        ("run --dry-run", "Missing argument 'SOURCES...'"),
        ("run --dry-run --shape 5,6,7 --for-workers 0", "--for-workers"),
        ("run --dry-run --shape 5,6,7 --frames 0:2", "--frames"),
        ("run --dry-run --shape 5,6,7 --cuda", "cuda"),
        ("run m.zarr -o o.zarr --for-workers 3", "--for-workers is only for plans"),
        ("run --dry-run m.zarr -o file/o.zarr", "file"),
    ],
)
def test_what_the_command_refuses(movie, command, message, monkeypatch):
    if command.endswith("--cuda") and os.path.exists("/dev/nvidiactl"):  # noqa: PTH110
        pytest.skip("there is a GPU")
    monkeypatch.chdir(movie.parent)
    Path("file").touch()
    result = CliRunner().invoke(smlmlp, command.split())
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert sorted(path.name for path in movie.parent.iterdir()) == ["file", "m.zarr"]
