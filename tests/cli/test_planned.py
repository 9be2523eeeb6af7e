"""The screen of a dry run: ten lines, and the rest with -v; for any workers."""

import re
import shutil

import dask.config
import pytest
import zarr

from smlmlp_dask.execution.local import planned_processes
from smlmlp_dask.execution.slurm import SlurmJobs, planned_jobs
from tests.commands import MOVIE, call

LONG = ("--shape", "10000000,512,512", "--chunks", "32,512,512")


@pytest.fixture(autouse=True)
def movie(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    zarr.create_array("movie.zarr", data=MOVIE, chunks=(4, 20, 24))


def dry_run(*options, code=0):
    result = call("run", "--dry-run", *options)
    assert result.exit_code == code, result.output
    return [" ".join(line.split()) for line in (result.stdout or result.stderr).splitlines()]


@pytest.mark.parametrize("command", ["run", "convert"])
@pytest.mark.parametrize("channels", [1, 3, 9])
def test_it_has_ten_lines(command, channels):
    sources = ["movie.zarr"] * channels
    result = call(command, "--dry-run", *sources)
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == min(7 + channels, 10)
    assert "-v shows how this is reckoned" in result.stdout
    assert ("and 7 channels more (-v)" in result.stdout) == (channels == 9)
    verbose = call(command, "--dry-run", *sources, "-v")
    assert "a block in work holds up to" in verbose.stdout
    assert "side by side, here and now" in " ".join(verbose.stdout.split())
    assert verbose.stdout.count("a block in work holds") == channels


def test_times_and_sizes_are_those_of_people():
    shown = dry_run(*LONG, "--for-workers", 64)
    assert shown[0].startswith("channel 0: 10,000,000×512×512, 5.24 TB, in 312,500 blocks of")
    assert "iB" not in "\n".join(shown)
    (time,) = [line for line in shown if line.startswith("time: about ")]
    assert time.endswith(" with 64 threads")
    assert time.split()[3] in ("min", "h", "day", "days")


def test_local_processes_are_planned_as_they_will_be(monkeypatch):
    monkeypatch.setattr("smlmlp_dask.execution.local.CPU_COUNT", 8)
    shown = dry_run(*LONG, "--workers", 2, "--memory-limit", "8GB")
    assert any(line.startswith("tasks: ") and ", 8 at a time" in line for line in shown)
    assert any(line.startswith("workers: 2 of 4 threads, ") for line in shown)
    assert any(line.endswith(" of 8 GB") for line in shown if line.startswith("memory:"))
    workers = planned_processes(2)
    assert (workers.threads, workers.processes) == (8, 2)


def test_a_store_larger_than_the_disk_is_announced(monkeypatch):
    sized = ("movie.zarr", "-o", "out.zarr")
    assert not any("make room" in line for line in dry_run(*sized))
    full = shutil.disk_usage(".")._replace(free=1000)
    monkeypatch.setattr("smlmlp_dask.pipeline.plan.disk_usage", lambda _: full)
    said = " ".join(dry_run(*sized))
    assert re.search(r"takes about [\d.]+ kB, but only 1 kB is free in \S+: make room", said)


def test_slurm_jobs_are_planned_as_they_may_be():
    size = ("--cores", 4, "--job-memory", "8GB")
    shown = dry_run(*LONG, "--slurm", "--jobs", "1:20", *size)
    assert any(line.endswith(", 80 at a time") for line in shown)
    assert any(line.startswith("workers: 40 of 2 threads, ") for line in shown)
    assert any(line.endswith(" of 160 GB") for line in shown if line.startswith("memory:"))


@pytest.mark.parametrize(
    ("cores", "configured", "processes", "threads"),
    [(1, None, 1, 1), (4, None, 2, 4), (24, None, 4, 24), (24, 1, 1, 24)],
)
def test_processes_of_a_slurm_job(cores, configured, processes, threads):
    with dask.config.set({"jobqueue.slurm.processes": configured}):
        workers = planned_jobs(SlurmJobs((1, 3), cores=cores, memory="16GB"))
    assert (workers.processes, workers.threads) == (3 * processes, 3 * threads)
    assert workers.memory_bytes == 48 * 10**9


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--slurm", "the size of a SLURM job is not set: pass --cores and --job-memory"),
        ("--slurm --cores 4 --job-memory much", "--job-memory is 'much': pass bytes, or text"),
        ("--slurm --cores 4 --job-memory 1MB", "--job-memory is 1MB: pass more than 315 MB"),
        ("--workers 2 --for-workers 3", "--for-workers and --workers contradict each other"),
        ("--workers 2 --slurm", "--workers and --slurm contradict each other"),
    ],
)
def test_what_cannot_be_planned_is_refused(options, said):
    (line,) = dry_run("movie.zarr", *options.split(), code=2)
    assert said in line
