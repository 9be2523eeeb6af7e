"""When a store was written: the times of its files, where they are those of a run."""

import os
import shutil

import numpy as np
import pytest
import tifffile

from smlmlp_dask import run_background
from smlmlp_dask.store.checking import stored_plans
from smlmlp_dask.store.outputs import arrays_of, stored_outputs
from smlmlp_dask.store.read import read_attributes
from smlmlp_dask.store.times import when_written

MOVIE = np.random.default_rng(0).poisson(100, (12, 20, 24)).astype("u2")
BEGUN, FINISHED = 1_000_000_000, 1_000_000_090


@pytest.fixture
def store(tmp_path):
    """A store whose files have times of our choice."""
    tifffile.imwrite(tmp_path / "m.tif", MOVIE, photometric="minisblack")
    path = run_background(
        tmp_path / "m.tif", tmp_path / "out.zarr", outputs=["background", "signal"]
    )
    path = path.path
    for file in path.rglob("*"):
        set_time(file, BEGUN + 30)
    set_time(path / "records/metadata.json", BEGUN)
    set_time(path / "zarr.json", FINISHED)
    return path


def set_time(file, seconds):
    os.utime(file, (seconds, seconds))


def written(path):
    attributes = read_attributes(path)
    plans, outputs = stored_plans(attributes), stored_outputs(attributes, 1)
    [placed] = arrays_of(path, outputs, plans)
    return when_written(path, placed)


def test_a_run_just_ended_has_times(tmp_path):
    tifffile.imwrite(tmp_path / "m.tif", MOVIE, photometric="minisblack")
    begun, finished = written(run_background(tmp_path / "m.tif", tmp_path / "out.zarr").path)
    assert 0 <= (finished - begun).total_seconds() < 300
    assert begun.tzinfo is not None


def test_it_is_from_the_first_file_to_the_last(store):
    assert [time.timestamp() for time in written(store)] == [BEGUN, FINISHED]


@pytest.mark.parametrize(
    ("file", "time"),
    [
        ("channel_0/0/c/0/0/0", BEGUN - 1),
        ("channel_0/0/c/0/0/0", FINISHED + 1),
        ("signal/channel_0/0/c/0/0/0", FINISHED + 1),
        ("records/metadata.json", FINISHED + 1),
    ],
)
def test_times_in_another_order_are_not_those_of_a_run(store, file, time):
    set_time(store / file, time)
    assert written(store) is None


def test_a_copy_that_keeps_times_keeps_them(store, tmp_path):
    shutil.copytree(store, tmp_path / "copy.zarr")
    assert written(tmp_path / "copy.zarr") == written(store)


def test_a_missing_chunk_has_no_time(store):
    (store / "channel_0/0/c/0/0/0").unlink()
    assert written(store) is None


def test_a_stack_without_chunks_is_left_out(tmp_path):
    np.save(tmp_path / "none.npy", MOVIE[:0])
    assert written(run_background(tmp_path / "none.npy", tmp_path / "out.zarr").path) is not None
