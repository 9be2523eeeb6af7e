"""The range of counts in which viewers show a channel, known before a job writes anything."""

import numpy as np
import pytest
import tifffile
import zarr

from smlmlp_dask import run_background, run_spatial_mean, simulate_movie
from smlmlp_dask.filters.spatial_mean import SpatialMean
from smlmlp_dask.filters.steps import FilterOptions
from smlmlp_dask.movies.selection import Selection
from smlmlp_dask.movies.stack import SourceReadError, Stack
from smlmlp_dask.pipeline import display
from smlmlp_dask.pipeline.display import display_ranges
from smlmlp_dask.pipeline.job import prepare
from smlmlp_dask.store.codecs import Storage
from smlmlp_dask.store.metadata import RANGES
from tests.stored import contents


def ranges_of(path, radii=7.0, **selection):
    job = prepare(
        [path], SpatialMean(radii), selection=Selection.checked(**selection),
        options=FilterOptions("fused"), storage=Storage("fast", None),
    )  # fmt: skip
    return display_ranges(job)[RANGES]


def saved(path, movie):
    tifffile.imwrite(path, movie, photometric="minisblack")
    return path


def movie_of(kind):
    rng = np.random.default_rng(3)
    flat = np.full((5, 40, 50), 7, np.float32)
    return {
        "simulated": lambda: simulate_movie(30, 64, 96).movie.compute(),
        "noise": lambda: rng.poisson(100, (9, 40, 50)).astype("u2"),
        "constant": lambda: flat,
        "signed": lambda: rng.normal(0, 5, (4, 30, 30)).astype("f4"),
        "small": lambda: rng.poisson(100, (1, 2, 3)).astype("u2"),
        "a pixel": lambda: np.full((1, 1, 1), 3, "u2"),
        "half nan": lambda: np.where(np.arange(50) < 25, np.float32(np.nan), flat),
        "infinite": lambda: np.where(np.arange(50) < 5, np.float32(np.inf), flat),
    }[kind]()


KINDS = ("simulated", "noise", "constant", "signed", "small", "a pixel", "half nan", "infinite")


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_near_that_of_the_backgrounds(tmp_path, kind):
    source = saved(tmp_path / "movie.tif", movie_of(kind))
    path = run_spatial_mean(source, tmp_path / "out.zarr", 3.0).path
    window = zarr.open_group(path / "channel_0", mode="r").attrs["ome"]["omero"]["channels"][0][
        "window"
    ]
    background = zarr.open_array(path / "channel_0/0", mode="r")[:]
    finite = background[np.isfinite(background)]
    assert window["min"] <= window["start"] < window["end"] <= window["max"]
    assert window["min"] <= finite.min()
    assert finite.max() <= window["max"]
    low, high = np.percentile(finite, (25, 75))
    assert window["start"] <= low + 1e-3
    assert high - 1e-3 <= window["end"]
    if kind != "small":  # where single pixels stand for the background
        # A viewer's grey levels are not wasted on what only raw pixels reach.
        spread = max(1.0, 2 * float(finite.max() - finite.min()))
        assert window["end"] - window["start"] <= spread


@pytest.mark.parametrize("photons", [False, True])
@pytest.mark.parametrize("mapped", [False, True])
def test_it_is_near_that_of_the_signals_and_snrs(tmp_path, photons, mapped):
    movie = movie_of("simulated")
    source = saved(tmp_path / "movie.tif", movie)
    gain = 0.4
    if mapped:
        np.save(tmp_path / "gain.npy", np.full(movie.shape[1:], gain))
        gain = tmp_path / "gain.npy"
    outputs = ["signal", "snr"]
    path = run_background(
        source, tmp_path / "out.zarr", outputs=outputs, gain=gain, variance=2.0, photons=photons
    ).path
    for output in outputs:
        group = zarr.open_group(path / output / "channel_0", mode="r")
        (channel,) = group.attrs["ome"]["omero"]["channels"]
        window, pixels = channel["window"], group["0"][:]
        low, high = np.percentile(pixels, display.PERCENTILES)
        spread = high - low
        assert window["start"] == pytest.approx(low, abs=0.15 * spread)
        assert window["end"] == pytest.approx(high, abs=0.15 * spread)
        assert window["min"] <= window["start"] < window["end"] <= window["max"]
        in_photons = photons and output == "signal"
        assert channel["label"] == f"channel_0 {output}{' (photons)' if in_photons else ''}"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_without_numbers_there_is_none(tmp_path, value):
    movie = np.full((3, 8, 8), value, np.float32)
    assert ranges_of(saved(tmp_path / "movie.tif", movie)) == [None]


def test_without_frames_there_is_none(tmp_path):
    zarr.create_array(tmp_path / "m.zarr", shape=(0, 8, 8), chunks=(1, 8, 8), dtype="u2")
    assert ranges_of(tmp_path / "m.zarr") == [None]


def test_a_frame_that_cannot_be_read_is_left_to_the_job(tmp_path, monkeypatch):
    source = saved(tmp_path / "movie.tif", movie_of("noise"))
    read, failures = Stack.read, []

    def fail_once(self):
        if not failures:
            failures.append(self)
            raise SourceReadError("the disk is away")
        return read(self)

    monkeypatch.setattr(Stack, "read", fail_once)
    path = run_spatial_mean(source, tmp_path / "out.zarr").path
    assert len(failures[0].frames) == 1
    assert "omero" not in zarr.open_group(path / "channel_0", mode="r").attrs["ome"]


@pytest.mark.parametrize(
    ("chunk_frames", "cheap", "read"),
    [(1, 10**6, [0, 4, 8]), (9, 10**6, [0, 4, 8]), (9, 9 * 40 * 50 * 2 - 1, [4])],
)
def test_few_frames_are_read(tmp_path, monkeypatch, chunk_frames, cheap, read):
    stored = zarr.create_array(
        tmp_path / "m.zarr", shape=(9, 40, 50), chunks=(chunk_frames, 40, 50), dtype="u2"
    )
    stored[:] = movie_of("noise")
    numbers = []
    frame = display._frame
    monkeypatch.setattr(display, "CHEAP_BYTES", cheap)
    monkeypatch.setattr(
        display, "_frame", lambda source, number: (numbers.append(number), frame(source, number))[1]
    )
    assert ranges_of(tmp_path / "m.zarr") != [None]
    assert numbers == read


def test_of_large_frames_the_middle_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(display, "LARGEST_SIDE", 20)
    movie = np.full((3, 40, 50), 1000, "u2")
    movie[:, 10:30, 15:35] = movie_of("noise")[:3, :20, :20]
    (window,) = ranges_of(saved(tmp_path / "movie.tif", movie))
    assert window["max"] < 200


def test_it_is_that_of_the_box_and_the_frames(tmp_path):
    movie = movie_of("noise")
    movie[:, :, 25:] += 1000
    movie[5:] += 5000
    source = saved(tmp_path / "movie.tif", movie)
    dark, bright = ranges_of(source, bboxes=[[(0, 0, 25, 40), (25, 0, 50, 40)]], frames=slice(0, 5))
    assert dark["end"] < 200 < 1000 < bright["start"] < bright["end"] < 1200


def test_how_the_movie_is_stored_does_not_matter(tmp_path):
    """Blocks, threads and order are others, the range is the same."""
    movie = movie_of("simulated")
    found = [ranges_of(saved(tmp_path / "movie.tif", movie))]
    for chunks in ((1, 64, 96), (7, 20, 30)):
        path = tmp_path / f"m{chunks[0]}.zarr"
        stored = zarr.create_array(path, shape=movie.shape, chunks=chunks, dtype="u2")
        stored[:] = movie
        found.append(ranges_of(path))
    assert found[0] == found[1] == found[2]


def test_it_is_measured_when_a_store_is_begun_and_never_again(tmp_path, monkeypatch):
    source = saved(tmp_path / "movie.tif", movie_of("noise"))
    path = run_spatial_mean(source, tmp_path / "out.zarr").path
    before = contents(path)
    (path / "channel_0/0/c/0/0/0").unlink()
    monkeypatch.setattr("smlmlp_dask.pipeline.running.display_ranges", lambda *_: {RANGES: [None]})
    run_spatial_mean(source, path, resume=True)
    assert contents(path) == before
