"""A store is gone on with only by the job that began it: what differs is named, nothing changes."""

import os

import numpy as np
import pytest

from smlmlp_dask import SpatialMean, TemporalMedian, run_background
from smlmlp_dask.filters import chains, steps
from tests.stored import contents

MOVIE = np.random.default_rng(6).poisson(90, (31, 16, 22)).astype("<u2")
MEAN, MEDIAN = SpatialMean(3.0), TemporalMedian(2)
BOXES = {"bboxes": [[(0, 0, 12, 16), (10, 0, 22, 16)]], "noise_corrections": [1.0, 1.0]}
SIGNAL = {"steps": [MEDIAN, MEAN], "outputs": ("background", "signal"), "pedestal": 100}
SNR = {"outputs": "snr", "gain": 0.25, "baseline": 20.0, "variance": 1.5}
SAID = {"pixel_size_um": (0.1, 0.11), "frame_interval_s": 0.05, "channel_names": ["left"]}
RADII, STEPS = r"channels_mean_radii_pix \(--radius\)", r"steps \(--step\)"
RECORDED = r"acquisitions \(--pixel-size, --frame-interval, --channel-name\)"
ROWS = [
    ({}, {"steps": SpatialMean((3.0, 3.5))}, rf"{RADII} was \[\[3.0, 3.0\]\] and is"),
    (BOXES, {"steps": SpatialMean([(3.0, 4.0), (3.0, 3.0)])}, f"{RADII} was .* and is"),
    (
        SIGNAL,
        {"steps": [TemporalMedian(3), MEAN]},
        f"{STEPS} was median of 5 .* is median of 7",
    ),
    (SIGNAL, {"steps": [MEAN, MEDIAN]}, f"{STEPS} was median.*, then mean.* and is mean.*median"),
    (SIGNAL, {"steps": MEAN}, f"{STEPS} was median of 5 frames, then .* and is mean"),
    ({}, {"steps": [MEDIAN, MEAN]}, f"{STEPS} was mean 3, 3 px and is median of 5"),
    (BOXES, {"noise_corrections": [1.0, 0.5]}, "noise_corrections was .* and is"),
    (BOXES, {"bboxes": [[(0, 0, 12, 16), (9, 0, 21, 16)]]}, r"bboxes \(--bbox\) was .* and is"),
    (BOXES, {"bboxes": None, "noise_corrections": None}, r"bboxes \(--bbox\) was .* and is null"),
    (BOXES, {"flips": [(False, True), None]}, r"flips \(--flip\) was null and is"),
    ({}, {"frames": slice(0, 30)}, "frames was null and is"),
    ({}, {"frames": slice(None, None, 2)}, "frames was null and is"),
    ({}, {"raw_shape": (31, 22, 16)}, "raw_shape was .* and is"),
    ({}, {"raw_dtype": ">u2"}, "raw_dtype was .* and is"),
    ({}, {"raw_dtype": "<i2"}, "raw_dtype was .* and is"),
    ({}, {"engine": "dask-image"}, 'engine was "fused" and is "dask-image"'),
    ({}, {"codec": "small"}, 'codec was "fast" and is "small"'),
    ({}, {"keep_bits": 12}, "keep_bits was null and is 12"),
    (
        SIGNAL,
        {"outputs": "background", "pedestal": None},
        r"outputs \(--write\) was .*signal.*",
    ),
    (SIGNAL, {"outputs": "signal"}, r"outputs \(--write\) was"),
    (SIGNAL, {"pedestal": 101}, r"pedestal \(--pedestal\) was 100 and is 101"),
    (SIGNAL, {"pedestal": None}, r"pedestal \(--pedestal\) was 100 and is null"),
    (SNR, {"outputs": ("snr", "signal")}, r"outputs \(--write\) was \[\"snr\"\] and is"),
    (SNR, {"gain": 0.3}, r"gain \(--gain\) was \[0.25\] and is \[0.3\]"),
    (SNR, {"baseline": 0}, r"baseline \(--baseline\) was \[20.0\] and is"),
    (SNR, {"variance": 0}, r"variance \(--variance\) was \[1.5\] and is"),
    (SNR, {"photons": True}, r"photons \(--photons\) was false and is true"),
    (SAID, {"pixel_size_um": 0.1}, f"{RECORDED} was .* and is"),
    (SAID, {"frame_interval_s": 0.06}, f"{RECORDED} was .* and is"),
    (SAID, {"channel_names": None}, f"{RECORDED} was .* and is"),
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    MOVIE.tofile("movie.raw")
    return tmp_path


def job(source="movie.raw", **given):
    layout = {"raw_shape": MOVIE.shape, "raw_dtype": "<u2"}
    return run_background(source, "out.zarr", **{"steps": MEAN, **layout, **given})


def refused(folder, said, **given):
    before = contents(folder)
    with pytest.raises(ValueError, match=rf"out\.zarr was begun differently: (.*; )?{said}.*: run"):
        job(**given, resume=True)
    assert contents(folder) == before


@pytest.mark.parametrize(("begun", "changed", "said"), ROWS)
def test_another_setting_is_refused(folder, begun, changed, said):
    job(**begun)
    refused(folder, said, **begun | changed)
    job(**begun, resume=True)


def test_another_movie_is_refused(folder):
    job()
    MOVIE.tofile("other.raw")
    refused(folder, r"sources was .*movie\.raw.* and is .*other\.raw", source="other.raw")


@pytest.mark.parametrize("harm", ["a pixel", "the time"])
def test_a_changed_movie_is_refused(folder, harm):
    job()
    if harm == "a pixel":
        (MOVIE + 1).tofile("movie.raw")
    os.utime("movie.raw", (0, 0))
    refused(folder, r"the movie \S+movie\.raw has changed since \(it had ")


def test_another_version_of_the_engine_is_refused(folder, monkeypatch):
    job()
    with monkeypatch.context() as patch:
        patch.setattr(steps, "FILTER_VERSION", 0)
        refused(folder, 'engine_version was .* and is "0"')
    job(**SIGNAL, overwrite=True)
    monkeypatch.setitem(chains._LOOPS, TemporalMedian, 999)
    refused(folder, 'engine_version was "median 1, mean 1" and is "median 999, mean 1"', **SIGNAL)
