"""Jobs of every kind that are interrupted, killed or damaged: they end with the same bytes."""

import json
from functools import partial
from signal import SIGKILL

import numpy as np
import pytest
import zarr
from dask.distributed import Client

from smlmlp_dask import (
    SpatialMean,
    TemporalMedian,
    convert_movies,
    run_background,
    verify_backgrounds,
)
from tests.commands import call
from tests.interrupting import interrupted
from tests.processes import finish, journal, start, wait_for
from tests.stored import contents

RNG = np.random.default_rng(6)
MOVIE = RNG.poisson(90, (31, 16, 22)).astype(np.uint16)
MOVIE[3, 5, 6] = 65535  # far above any pedestal
MAP = RNG.uniform(0.2, 0.6, MOVIE.shape[1:])
CHAIN = (TemporalMedian(2), SpatialMean(3.0))
ALL = ("background", "signal", "snr", "mean_background")
of_chain = partial(run_background, steps=CHAIN)
JOBS = {  # each with the output whose chunks come last
    "chain": (of_chain, ""),
    "signal": (partial(of_chain, outputs=ALL[:2], pedestal=20), "signal"),
    "mean": (partial(of_chain, outputs="mean_background"), "mean_background"),
    "all": (
        partial(of_chain, outputs=ALL, pedestal=20, gain=0.25, baseline=20.0, variance=1.5),
        "mean_background",
    ),
    "photons": (
        partial(of_chain, outputs=ALL, gain="gain.npy", baseline=20.0, photons=True),
        "snr",
    ),
    "frames as they are": (convert_movies, ""),
}


@pytest.fixture(autouse=True)
def gain(tmp_path, monkeypatch):
    """A map of the camera's gain, named as from its folder."""
    np.save(tmp_path / "gain.npy", MAP)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("lost", [False, True], ids=["", "a chunk is lost"])
@pytest.mark.parametrize(("job", "last"), JOBS.values(), ids=JOBS)
def test_resumed_it_has_the_bytes_of_an_undisturbed_run(
    tif, tmp_path, small, monkeypatch, job, last, lost
):
    """Also if one of the outputs of a block is lost that was done."""
    path, whole = tmp_path / "out.zarr", tmp_path / "whole.zarr"
    job(tif, whole)
    interrupted(tif, path, 2, monkeypatch, job)
    assert 0 < len(journal(path)) < 4
    if lost:
        chunks = (path / last / "channel_0/0/c").rglob("*")
        next(file for file in chunks if file.is_file()).unlink()
    job(tif, path, resume=True)
    assert contents(path) == contents(whole)


@pytest.mark.parametrize(("job", "_"), JOBS.values(), ids=JOBS)
def test_what_fails_before_the_first_block_leaves_nothing(tif, tmp_path, monkeypatch, job, _):
    before = contents(tmp_path)
    interrupted(tif, tmp_path / "out.zarr", 0, monkeypatch, job)
    assert contents(tmp_path) == before
    assert not (tmp_path / "out.zarr").exists()


OF_ALL = (
    "channel_0/0/c/0/0/0",
    "signal/channel_0/0/c/0/0/0",
    "signal/channel_0/0/zarr.json",
    "signal/zarr.json",
    "snr/channel_0/0/c/0/0/0",
    "snr/channel_0/0/zarr.json",
    "mean_background/channel_0/0/c/1/0/0",
    "mean_background/zarr.json",
    "records/c/0",
    "records/metadata.json",
    "zarr.json",
)
AS_THEY_ARE = (OF_ALL[0], "channel_0/0/zarr.json", "records/c/0", "records/metadata.json")
DAMAGED = [
    *(("all", name, "overwrite") for name in OF_ALL),
    *(("photons", name, "delete") for name in (OF_ALL[4], OF_ALL[6])),
    *(("frames as they are", name, how) for name in AS_THEY_ARE for how in ("flip", "delete")),
]


@pytest.mark.parametrize(("kind", "name", "how"), DAMAGED)
def test_damage_is_found_and_repaired(tif, tmp_path, small, kind, name, how):
    path = tmp_path / "out.zarr"
    JOBS[kind][0](tif, path)
    before = contents(path)
    data = bytearray(before[name])
    data[len(data) // 2] ^= 1
    (path / name).unlink()
    if how != "delete":
        (path / name).write_bytes(data if how == "flip" else b"not what it was")
    problems = verify_backgrounds(path).problems
    assert any(line.startswith(name.removesuffix("/c/0")) for line in problems)
    if "channel_0/0/c" in name and how != "flip":  # whose size tells
        said = "missing" if how == "delete" else "damaged"
        assert said in call("info", path).stdout
    assert verify_backgrounds(path, repair=True).problems == []
    assert contents(path) == before


@pytest.mark.parametrize(
    ("kind", "processes"),
    [
        ("signal", False),
        ("photons", False),
        ("photons", True),
        pytest.param("signal", True, marks=pytest.mark.slow),
    ],
)
def test_on_workers(tif, tmp_path, small, kind, processes):
    job, _ = JOBS[kind]
    job(tif, tmp_path / "threads.zarr")
    with Client(
        n_workers=2, threads_per_worker=1, processes=processes, dashboard_address="127.0.0.1:0"
    ):
        job(tif, tmp_path / "workers.zarr")
    assert contents(tmp_path / "workers.zarr") == contents(tmp_path / "threads.zarr")


STEPS = ["run", "--step", "median:2", "--step", "mean:4"]
SIGNAL = [*STEPS, "--write", "background", "--write", "signal", "--pedestal", "25"]
CAMERA = ["--gain", "large.npy", "--baseline", "10", "--photons"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "memory"),
    [
        (SIGNAL, "390MB"),
        # each takes 315 MB for itself, and a quarter of what Dask allows them stays free
        ([*SIGNAL, "--workers", "2"], "930MB"),
        ([*STEPS, *(word for name in ALL for word in ("--write", name)), *CAMERA], "400MB"),
        (["convert", "--workers", "2"], "930MB"),
    ],
    ids=["threads", "processes", "photons", "frames as they are"],
)
def test_killed_again_and_again(tmp_path, options, memory):
    """A job in processes of its own, two blocks at a time."""
    movie = np.random.default_rng(3).poisson(90, (400, 256, 256)).astype(np.uint16)
    zarr.create_array("movie.zarr", data=movie, chunks=(8, 256, 256))
    np.save("large.npy", np.linspace(0.1, 0.9, 65536).reshape(256, 256))
    command = [*options, "--memory-limit", memory, "movie.zarr", "--resume", "-o"]
    whole, out = tmp_path / "whole.zarr", tmp_path / "out.zarr"
    assert finish(start(*command, whole))[0] == 0
    n_blocks = json.loads(call("info", whole, "--json").stdout)["blocks"]
    assert n_blocks >= 4
    kills = 0
    for least in (1, n_blocks // 2, n_blocks - 1):
        process = start(*command, out)
        wait_for(lambda least=least: len(journal(out)) >= least, process, may_end=True)
        process.kill()  # its workers live on for a while
        kills += finish(process)[0] == -SIGKILL
    assert kills >= 2
    assert finish(start(*command, out))[0] == 0
    assert contents(out) == contents(whole)
