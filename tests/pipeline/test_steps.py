"""Jobs of steps that follow one another: the bits of `bkgd_combination`, however they are run."""

import json
from functools import partial

import numpy as np
import pytest
import zarr

from smlmlp_dask import (
    DescribedMovie,
    SpatialMean,
    SpatialOpening,
    TemporalMedian,
    bkgd_combination,
    blocks,
    open_backgrounds,
    plan_background,
    plan_spatial_mean,
    run_background,
    run_spatial_mean,
    verify_backgrounds,
)
from smlmlp_dask.store.metadata import ATTRIBUTE
from tests.commands import call
from tests.interrupting import interrupted
from tests.stored import contents

MOVIE = np.random.default_rng(5).poisson(200, (37, 20, 26)).astype(np.uint16)
CHAIN = (TemporalMedian(2), SpatialMean(3.0))
NO_STEPS = {"do_temporal_median": False, "do_spatial_mean": False}
CHAINS = {  # steps, and what bkgd_combination takes in their place
    "median": (TemporalMedian(3), {"median_window_fr": 3, "do_spatial_mean": False}),
    "median longer than the movie": (
        [TemporalMedian(99)],
        {"median_window_fr": 99, "do_spatial_mean": False},
    ),
    "median, mean": (CHAIN, {"median_window_fr": 2, "channels_mean_radii_pix": 3.0}),
    "all three": (
        [SpatialOpening((1.0, 2.0)), TemporalMedian(4), SpatialMean((2.0, 5.0))],
        {
            "do_spatial_opening": True,
            "channels_opening_radii_pix": (1.0, 2.0),
            "median_window_fr": 4,
            "channels_mean_radii_pix": (2.0, 5.0),
        },
    ),
    "opening": (SpatialOpening(2.0), {**NO_STEPS, "do_spatial_opening": True,
                                      "channels_opening_radii_pix": 2.0}),
}  # fmt: skip


# ---- what comes out ------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "given"), CHAINS.values(), ids=CHAINS)
def test_the_bits_of_the_lazy_call(tif, tmp_path, small, steps, given):
    result = run_background(tif, tmp_path / "out.zarr", steps, noise_corrections=[0.5])
    expected, factors, info = bkgd_combination([MOVIE], None, [np.float32(0.5)], **given)
    assert result.bkgds[0].compute().tobytes() == expected[0].compute().tobytes()
    assert result.noise_corrections == factors
    assert str(result.info) == str(info)
    assert result.steps == open_backgrounds(result.path).steps
    report = verify_backgrounds(result.path, sample=99)
    assert report.problems == []
    assert report.recomputed == plan_background(tif, steps).n_blocks


@pytest.mark.parametrize("engine", ["fused", "dask-image"])
@pytest.mark.parametrize(
    ("dtype", "memory_bytes"), [("u2", 80_000), ("f4", 150_000), (">f8", 260_000)]
)
def test_tiles_and_slabs_of_any_dtype(tmp_path, monkeypatch, dtype, memory_bytes, engine):
    """Tiles have halos in time and space; the movie's ends and edges are where they were."""
    movie = (MOVIE * 1.5).astype(dtype)
    zarr.create_array(tmp_path / "movie.zarr", data=movie, chunks=(5, 8, 8))
    small = partial(blocks.plan_blocks, block_bytes=4_000, memory_bytes=memory_bytes)
    monkeypatch.setattr(
        blocks, "plan_blocks", lambda *args, memory_bytes, **more: small(*args, **more)
    )
    source, steps = tmp_path / "movie.zarr", CHAINS["all three"][0]
    plan = plan_background(source, steps, engine=engine).channels[0]
    assert plan.block == (3, 4, 26)
    result = run_background(source, tmp_path / "out.zarr", steps, engine=engine)
    [expected], _, _ = bkgd_combination([movie], engine=engine, **CHAINS["all three"][1])
    assert result.bkgds[0].compute().tobytes() == expected.compute().tobytes()


def test_channels_with_radii_of_their_own(tif, tmp_path):
    boxes = [[(0, 0, 12, 20), (12, 0, 26, 20)]]
    steps = [TemporalMedian(3), SpatialMean([(2.0, 3.0), (4.0, 4.0)])]
    result = run_background(tif, tmp_path / "out.zarr", steps, bboxes=boxes)
    halves = [MOVIE[..., :12], MOVIE[..., 12:]]
    given = {"median_window_fr": 3, "channels_mean_radii_pix": [(2.0, 3.0), (4.0, 4.0)]}
    expected, factors, _ = bkgd_combination(halves, **given)
    for bkgd, wanted in zip(result.bkgds, expected, strict=True):
        assert bkgd.compute().tobytes() == wanted.compute().tobytes()
    assert result.noise_corrections == factors
    noted = json.loads((result.path / "zarr.json").read_text())["attributes"][ATTRIBUTE]
    assert noted["steps"] == [
        [{"step": "median", "window_fr": 3}, {"step": "mean", "radii_pix": radii}]
        for radii in ([2.0, 3.0], [4.0, 4.0])
    ]
    (result.path / "channel_1" / "0" / "c" / "0" / "0" / "0").unlink()
    assert verify_backgrounds(result.path, repair=True).problems == []


@pytest.mark.parametrize("frames", [slice(3, 30), slice(None, None, -2)])
def test_windows_are_of_the_frames_that_are_taken(tif, tmp_path, small, frames):
    result = run_background(tif, tmp_path / "out.zarr", CHAIN, frames=frames)
    given = {"median_window_fr": 2, "channels_mean_radii_pix": 3.0}
    [expected], _, _ = bkgd_combination([MOVIE[frames]], **given)
    assert result.bkgds[0].compute().tobytes() == expected.compute().tobytes()


def test_the_local_mean_alone_is_the_same_job(tif, tmp_path, small):
    by_radii = run_spatial_mean(tif, tmp_path / "radii.zarr", 4.0)
    by_steps = run_background(tif, tmp_path / "steps.zarr", SpatialMean(4.0), "background")
    assert contents(by_radii.path) == contents(by_steps.path)
    assert by_radii.steps == [(SpatialMean((4.0, 4.0)),)]
    assert b'"steps"' not in (by_radii.path / "zarr.json").read_bytes()


# ---- interrupted, damaged ------------------------------------------------------------------------


def test_cut_for_less_memory_it_goes_on(tif, tmp_path, small, monkeypatch):
    job = partial(run_background, steps=CHAIN)
    path = tmp_path / "out.zarr"
    interrupted(tif, path, 2, monkeypatch, job)
    whole = contents(job(tif, tmp_path / "whole.zarr").path)
    monkeypatch.setattr(blocks, "plan_blocks", partial(blocks.plan_blocks, block_bytes=9999))
    assert contents(job(tif, path, resume=True).path) == whole


# ---- refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "kind", "said"),
    [
        ((), ValueError, "steps is empty: pass SpatialMean, TemporalMedian or SpatialOpening"),
        (7.0, TypeError, "steps is 7.0: pass SpatialMean"),
        ("mean:7", TypeError, "steps is 'mean:7': pass SpatialMean"),
        ([7.0], TypeError, "steps holds 7.0: pass SpatialMean"),
        ([SpatialMean], TypeError, "steps holds <class"),
        (TemporalMedian(-1), ValueError, "median_window_fr is -1: pass the frames"),
        (TemporalMedian(2.5), ValueError, "median_window_fr is 2.5: pass the frames"),
        (SpatialMean(0), ValueError, "channels_mean_radii_pix holds 0: pass radii greater"),
        (SpatialOpening([(1, 2), (3, 4)]), ValueError, "channels_opening_radii_pix has 2 pairs"),
    ],
)
def test_wrong_steps_are_refused_before_anything_is_written(tif, tmp_path, steps, kind, said):
    before = contents(tmp_path)
    with pytest.raises(kind, match=said):
        run_background(tif, tmp_path / "out.zarr", steps)
    with pytest.raises(kind, match=said):
        plan_background(tif, steps)
    assert contents(tmp_path) == before


def test_a_window_too_long_for_the_memory(tmp_path):
    movie = DescribedMovie((100_000, 2048, 2048), "uint16", (1, 2048, 2048))
    with pytest.raises(ValueError, match="take fewer frames for the median"):
        plan_background(movie, TemporalMedian(30_000), workers=1, memory_limit="400MB")


# ---- planned -------------------------------------------------------------------------------------


def test_long_blocks_cost_little():
    movie = DescribedMovie((100_000, 512, 512), "uint16", (1, 512, 512))
    steps = [TemporalMedian(25), SpatialMean(7.0)]
    roomy = plan_background(movie, steps, workers=1, memory_limit="4GB").channels[0]
    assert roomy.block == (112, 512, 512)
    assert roomy.chunks == plan_spatial_mean(movie).channels[0].chunks
    assert roomy.read_amplification == pytest.approx((112 + 50) / 112, rel=1e-3)


@pytest.mark.parametrize("window", [5, 50, 500])
def test_blocks_fit_the_memory_and_read_as_little_as_they_can(window):
    movie = DescribedMovie((10_000, 2048, 2048), "uint16", (1, 2048, 2048))
    steps = [TemporalMedian(window), SpatialMean(7.0)]
    limits = (2, 4, 16, 64)
    plans = [
        plan_background(movie, steps, workers=1, memory_limit=f"{limit}GB") for limit in limits
    ]
    for limit, plan in zip(limits, plans, strict=True):
        assert plan.projected_bytes <= limit * 10**9
    costs = [plan.channels[0].read_amplification for plan in plans]
    assert costs == sorted(costs, reverse=True)


# ---- shown ---------------------------------------------------------------------------------------


def test_on_the_command_line(tif, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    steps = ["--step", "opening:1,2", "--step", "median:4", "--step", "mean:2,5"]
    done = call("run", "movie.tif", "-o", "out.zarr", *steps)
    assert done.exit_code == 0, done.stderr
    assert all(
        step in done.stdout for step in ("opening 1, 2 px", "median of 9 frames", "mean 2, 5 px")
    )
    expected = run_background("movie.tif", "expected.zarr", CHAINS["all three"][0])
    assert contents(tmp_path / "out.zarr") == contents(expected.path)
    [channel] = json.loads(call("info", "out.zarr", "--json").stdout)["channels"]
    assert [step["step"] for step in channel["steps"]] == ["opening", "median", "mean"]
    assert channel["radius_x_pix"] == 5.0
    assert "median of 9 frames" in call("info", "out.zarr").stdout
    assert call("verify", "out.zarr", "--deep").exit_code == 0
    assert "every pixel is decoded once" in call("run", "movie.tif", "--dry-run", *steps).stdout


def test_defaults_of_steps(tif, tmp_path):
    run_chain = ["run", tif, "-o", tmp_path / "out.zarr", "--step", "median", "--step", "mean"]
    assert call(*run_chain, "--save-job", tmp_path / "job.toml").exit_code == 0
    wanted = [(TemporalMedian(25), SpatialMean((7.0, 7.0)))]
    assert open_backgrounds(tmp_path / "out.zarr").steps == wanted
    assert call("run", tmp_path / "job.toml", "--resume").exit_code == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--step", "median:2.5"], "'median:2.5' is no step: give median:25"),
        (["--step", "mean:"], "'mean:' is no step"),
        (["--step", "gauss:3"], "'gauss:3' is no step"),
        (["--step", "mean:1,2,3"], "'mean:1,2,3' is no step"),
        (["--step", "mean:0"], "--step mean holds 0.0: pass radii greater than 0"),
        (["--step", "mean:7", "--radius", "7"], "give it as --step mean:7"),
    ],
)
def test_wrong_options(tif, tmp_path, options, said):
    failed = call("run", tif, "-o", tmp_path / "out.zarr", *options)
    assert failed.exit_code == 2
    assert said in failed.stderr
    assert not (tmp_path / "out.zarr").exists()


@pytest.mark.parametrize("name", ["median", "all three"])
def test_pictures_and_reports(tif, tmp_path, name):
    result = run_background(tif, tmp_path / "out.zarr", CHAINS[name][0])
    assert "median of" in result._repr_html_()
    figure = result.plot()
    titles = [axes.get_title() for axes in figure.axes]
    has_mean = any(isinstance(step, SpatialMean) for step in result.steps[0])
    assert any("kernel g" in title for title in titles) == has_mean
    assert any("background: " in title and "median of" in title for title in titles)
    assert call("report", result.path, "-o", tmp_path / "page.html").exit_code == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "The median of a pixel" in page
    assert ("The kernel is a Gaussian" in page) == has_mean
    assert ("erosion" in page) == (name == "all three")
