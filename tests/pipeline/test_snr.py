"""SNR and mean background: outputs of the same pass, resumed, verified and repaired as others."""

import json
from functools import partial
from math import prod

import numpy as np
import pytest
import zarr

from smlmlp_dask import (
    DescribedMovie,
    SpatialMean,
    TemporalMedian,
    blocks,
    export_movie,
    open_channels,
    plan_background,
    run_background,
    verify_backgrounds,
)
from smlmlp_dask.filters.compiled.snr import Noise
from smlmlp_dask.pipeline.outputs import Outputs
from smlmlp_dask.store.codecs import Storage
from tests import duck
from tests.commands import call
from tests.memory import allocated
from tests.stored import contents

MOVIE = np.random.default_rng(6).poisson(90, (31, 16, 22)).astype(np.uint16)
CHAIN = (TemporalMedian(2), SpatialMean(3.0))
ALL = ("background", "signal", "snr", "mean_background")
GIVEN = {"gain": 0.25, "baseline": 20.0, "variance": 1.5}


def expected_snr(background, factor, gain=0.25, baseline=0.0, variance=0.0, movie=MOVIE):
    """The definition, in float32."""
    f4 = np.float32
    square = (background - f4(baseline)) / f4(gain) + f4(variance)
    return (movie.astype(f4) - background) / f4(factor) / np.sqrt(square)


# ---- what comes out ------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [SpatialMean(4.0), CHAIN], ids=["mean", "chain"])
@pytest.mark.parametrize("outputs", ["snr", "mean_background", ("mean_background", "snr"), ALL])
def test_outputs(tif, tmp_path, small, steps, outputs):
    alone = run_background(tif, tmp_path / "alone.zarr", steps)
    assert alone.snrs is None
    assert alone.mean_bkgds is None
    given = {"noise_corrections": [1.5], **({} if outputs == "mean_background" else GIVEN)}
    result = run_background(tif, tmp_path / "out.zarr", steps, outputs, **given)
    background = alone.bkgds[0].compute()
    if "snr" in outputs:
        expected = expected_snr(background, result.noise_corrections[0], **GIVEN)
        assert result.snrs[0].compute().tobytes() == expected.tobytes()
        assert result.noise_corrections[0] == np.float32(1.5) * alone.noise_corrections[0]
    else:
        assert result.snrs is None
    if "mean_background" in outputs:
        [mean] = result.mean_bkgds
        assert (mean.shape, mean.dtype) == ((16, 22), np.float32)
        exact = background.mean(axis=0, dtype=np.float64)
        np.testing.assert_allclose(mean.compute(), exact, rtol=2.0**-23)
        plan = zarr.open_array(result.path / "mean_background/channel_0/0", mode="r")
        assert 1 < plan.shape[0] <= 6  # one frame of each block, which are not many
    assert (result.bkgds is None) == (outputs != ALL)
    report = verify_backgrounds(result.path, sample=99)
    assert report.problems == []
    files = [f for f in result.path.rglob("c/*/*/*") if f.is_file()]
    assert report.chunks == len(files)


@pytest.mark.parametrize("pedestal", [None, 20])
def test_neither_pedestal_nor_kept_bits_change_what_it_is_of(tif, tmp_path, pedestal):
    exact = run_background(tif, tmp_path / "exact.zarr", CHAIN, ALL, gain=0.25)
    rounded = run_background(
        tif, tmp_path / "out.zarr", CHAIN, ALL, gain=0.25, pedestal=pedestal, keep_bits=6
    )
    one, other = exact.snrs[0].compute(), rounded.snrs[0].compute()
    assert (one != other).any()
    assert (abs(one - other) <= abs(one) * 2.0**-7).all()
    assert rounded.mean_bkgds[0].compute().tobytes() == exact.mean_bkgds[0].compute().tobytes()


@pytest.mark.parametrize("engine", ["fused", "dask-image"])
def test_same_bits_however_it_is_cut_and_run(tmp_path, monkeypatch, engine):
    """Six chunkings of the movie, few and many frames a block, threads in a block."""
    job = partial(run_background, steps=CHAIN, outputs=("snr", "mean_background"), **GIVEN)
    found, means = set(), []
    for number, chunks in enumerate(
        [(31, 16, 22), (1, 16, 22), (4, 5, 6), (7, 16, 3), (13, 1, 22), (2, 3, 22)]
    ):
        zarr.create_array(tmp_path / f"{number}.zarr", data=MOVIE, chunks=chunks)
        with monkeypatch.context() as patch:
            few = partial(blocks.plan_blocks, block_bytes=352 * 4 * (1 + number))
            patch.setattr(blocks, "plan_blocks", few)
            patch.setattr(blocks, "MEAN_FRAMES", 1 + 5 * number)
            out = tmp_path / f"out_{number}.zarr"
            result = job(tmp_path / f"{number}.zarr", out, engine=engine, parallel=number % 3)
        found.add(result.snrs[0].compute().tobytes())
        means.append(result.mean_bkgds[0].compute())
    assert len(found) == 1
    for mean in means:  # stored in float32, so that a rounding of each block may differ
        np.testing.assert_allclose(mean, means[0], rtol=2.0**-23)


def test_two_channels_with_a_gain_each(tif, tmp_path, small):
    boxes = [[(0, 0, 10, 16), (10, 2, 22, 14)]]
    given = {"bboxes": boxes, "flips": [None, (True, True)]}
    result = run_background(tif, tmp_path / "out.zarr", CHAIN, ALL, gain=[0.2, 3.0], **given)
    parts = [MOVIE[:, :, :10], MOVIE[:, 2:14, 10:][:, ::-1, ::-1]]
    for i, (movie, gain) in enumerate(zip(parts, (0.2, 3.0), strict=True)):
        background = result.bkgds[i].compute()
        expected = expected_snr(background, result.noise_corrections[i], gain, movie=movie)
        assert result.snrs[i].compute().tobytes() == expected.tobytes()
        mean = background.mean(axis=0, dtype=np.float64)
        np.testing.assert_allclose(result.mean_bkgds[i].compute(), mean, rtol=2.0**-23)


def test_the_gain_of_the_file(tmp_path):
    movie = tmp_path / "movie.raw"
    MOVIE.tofile(movie)
    about = "Byte Order: <\nData Type: uint16\nFrames: 31\nHeight: 16\nWidth: 22\n"
    movie.with_suffix(".yaml").write_text(about + "Sensitivity: 0.5\nGain: 1\nBaseline: 10\n")
    said = r"says that its camera adds 10 counts to every pixel.* pass baseline=10"
    with pytest.warns(UserWarning, match=said):
        result = run_background(movie, tmp_path / "out.zarr", CHAIN, ("background", "snr"))
    background = result.bkgds[0].compute()
    expected = expected_snr(background, result.noise_corrections[0], 0.5)
    assert result.snrs[0].compute().tobytes() == expected.tobytes()
    told = run_background(movie, tmp_path / "told.zarr", CHAIN, "snr", baseline=10)  # no warning
    expected = expected_snr(background, result.noise_corrections[0], 0.5, 10)
    assert told.snrs[0].compute().tobytes() == expected.tobytes()
    own = run_background(movie, tmp_path / "own.zarr", CHAIN, "snr", gain=0.4, baseline=0)
    expected = expected_snr(background, result.noise_corrections[0], 0.4)
    assert own.snrs[0].compute().tobytes() == expected.tobytes()
    assert verify_backgrounds(result.path, sample=9).problems == []  # says nothing again


def test_on_a_device(tif, tmp_path, small):
    given = {"outputs": ALL, **GIVEN}
    with duck.installed(10**8):
        result = run_background(tif, tmp_path / "out.zarr", CHAIN, cuda=True, **given)
    background = result.bkgds[0].compute()
    on_host = run_background(tif, tmp_path / "host.zarr", CHAIN, engine="dask-image")
    np.testing.assert_allclose(background, on_host.bkgds[0].compute(), rtol=1e-6)
    expected = expected_snr(background, result.noise_corrections[0], **GIVEN)
    assert result.snrs[0].compute().tobytes() == expected.tobytes()
    exact = background.mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(result.mean_bkgds[0].compute(), exact, rtol=2.0**-23)


# ---- interrupted, damaged ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "given"),
    [("signal", {"pedestal": 20}), ("snr", {"gain": 0.25}), ("mean_background", {})],
)
def test_an_output_that_is_not_what_the_movie_gives(tif, tmp_path, output, given):
    result = run_background(tif, tmp_path / "out.zarr", CHAIN, output, **given)
    other = run_background(tif, tmp_path / "other.zarr", TemporalMedian(1), output, **given)
    for name in (f"{output}/channel_0/0/c/0/0/0", "records/c/0"):
        (result.path / name).write_bytes((other.path / name).read_bytes())
    [problem] = verify_backgrounds(result.path, sample=1).problems
    assert "not what the source gives; run it again" in problem


def test_a_comparison_tells_of_another_version(tif, tmp_path, monkeypatch):
    from smlmlp_dask.filters import chains

    result = run_background(tif, tmp_path / "out.zarr", CHAIN)
    other = run_background(tif, tmp_path / "other.zarr", (TemporalMedian(3), CHAIN[1]))
    for name in ("channel_0/0/c/0/0/0", "records/c/0"):
        (result.path / name).write_bytes((other.path / name).read_bytes())
    monkeypatch.setitem(chains._LOOPS, TemporalMedian, 999)
    [problem] = verify_backgrounds(result.path, sample=1).problems
    assert "by engine version median 999, mean 1 in place of median 1, mean 1; install" in problem


# ---- planned, shown, handed over -----------------------------------------------------------------


def test_the_plan_holds_the_new_outputs():
    movie = DescribedMovie((10_000, 512, 512), "uint16", (1, 512, 512))
    few = plan_background(movie, SpatialMean(7.0), memory_limit="4GB")
    plan = plan_background(movie, SpatialMean(7.0), ALL, gain=0.25, memory_limit="4GB")
    [alone], [channel] = few.channels, plan.channels
    assert channel.chunks == alone.chunks
    assert channel.block[0] == 64  # frames of each mean, so that they take 1/64 of a background
    assert "mean" in channel.held
    means = 4 * 512 * 512 * -(-10_000 // 64)
    assert plan.output_bytes == 3 * few.output_bytes + means
    text = call(
        "run", "--dry-run", "--shape", "10000,512,512", "--write", "snr", "--gain", "1", "-v"
    )
    assert "float32 chunks" in text.stdout


@pytest.mark.parametrize(
    ("outputs", "keep_bits", "copies", "reason"),
    [
        ("snr", None, 0, "it takes the memory of its background"),
        ("snr", 12, 0, "and is rounded there"),
        (("background", "snr"), None, 0, "once that is written"),
        (("background", "snr"), 12, 1, "it is of the background before that is rounded"),
    ],
)
def test_the_plan_counts_the_memory_that_an_snr_takes(outputs, keep_bits, copies, reason):
    movie = DescribedMovie((100, 256, 256))
    given = {"gain": 0.25, "keep_bits": keep_bits, "memory_limit": "4GB"}
    [channel] = plan_background(movie, SpatialMean(7.0), outputs, **given).channels
    [alone] = plan_background(movie, SpatialMean(7.0), memory_limit="4GB").channels
    chunk = 4 * prod(channel.chunks)
    assert channel.chunks == alone.chunks
    assert channel.block_bytes - alone.block_bytes == copies * chunk, reason

    raw, background = np.full(channel.chunks, 100, "u2"), np.full(channel.chunks, 90, "f4")
    noise = Noise(np.float32(1), *map(np.float32, (0.25, 0, 0)))
    made = Outputs.checked(outputs).pixels

    def consume():
        for _ in made(raw, background, Storage("fast", keep_bits), noise):
            pass

    assert copies * chunk <= allocated(consume) < copies * chunk + chunk // 2


@pytest.mark.parametrize("frame", [(2048, 2048), (4096, 4096)])
@pytest.mark.parametrize("unit", [1, 16])
def test_means_of_large_frames_fit_the_memory(frame, unit):
    movie = DescribedMovie((2000, *frame), "uint16", (unit, *frame))
    plan = plan_background(movie, SpatialMean(7.0), "mean_background", memory_limit="6GB")
    assert plan.projected_bytes <= 6e9
    assert plan.channels[0].block[0] > 1


def test_on_the_command_line(tif, tmp_path):
    out, page = tmp_path / "out.zarr", tmp_path / "page.html"
    writes = [word for name in ALL for word in ("--write", name)]
    options = ["--radius", "4", *writes, "--pedestal", "20"]
    options += ["--gain", "0.25", "--baseline", "20", "--variance", "1.5"]
    done = call("run", tif, "-o", out, *options)
    assert done.exit_code == 0, done.stderr
    mean = SpatialMean(4.0)
    by_hand = run_background(tif, tmp_path / "hand.zarr", mean, ALL, pedestal=20, **GIVEN)
    assert contents(out) == contents(by_hand.path)
    signal = MOVIE.astype("f4") - by_hand.bkgds[0].compute()
    clipped = int((np.round(signal + np.float32(20)) < 0).sum())
    stored = "background (float32), signal (uint16), snr (float32), mean_background (float32)"
    for text in (done.stdout, call("info", out).stdout):
        assert f"stored: {stored}, pedestal 20" in text
        assert f"{clipped:,} pixels of the signal were clipped" in text
    assert "gain: 0.25\nbaseline: 20.0\n" in call("info", out).stdout
    document = json.loads(call("info", out, "--json").stdout)
    assert document["outputs"] == [*ALL]
    used = {"gain": 0.25, "baseline": 20.0, "variance": 1.5}
    assert (document["channels"][0]["used"], document["photons"]) == (used, False)
    assert call("verify", out, "--deep").exit_code == 0
    assert call("report", out, "-o", page).exit_code == 0
    html = page.read_text(encoding="utf-8")
    assert "√((background − baseline) / gain + variance)" in html
    assert "gain 0.25 photoelectrons per count, baseline 20.0 counts" in html
    assert f"({clipped:,} pixels were)" in html
    assert "signal-to-noise ratios and mean backgrounds</b>" in by_hand._repr_html_()
    assert "float32 and uint16 chunks" in call("run", tif, "--dry-run", *options).stdout
    for wrong in (["--write", "snr"], ["--pedestal", "20"]):
        failed = call("run", tif, "-o", tmp_path / "no.zarr", *wrong)
        assert (failed.exit_code, len(failed.stderr.splitlines())) == (2, 1)
        assert not (tmp_path / "no.zarr").exists()


def test_handed_over(tif, tmp_path):
    result = run_background(tif, tmp_path / "out.zarr", CHAIN, ("snr", "mean_background"), gain=0.5)
    for what, stored in (("snr", result.snrs[0]), ("mean_background", result.mean_bkgds[0])):
        path = export_movie(result, tmp_path / f"{what}.raw", what=what)
        assert path.read_bytes() == stored.compute().tobytes()
    assert "Frames: 1\n" in (tmp_path / "mean_background.yaml").read_text()
    assert "Sensitivity" not in (tmp_path / "snr.yaml").read_text()
    assert call("export", result.path, "-o", tmp_path / "a.raw", "--what", "snr").exit_code == 0
    assert result.plot().axes


def test_a_mean_is_an_image_of_its_own(tif, tmp_path, small):
    said = {"pixel_size_um": 0.1, "frame_interval_s": 0.05}
    result = run_background(tif, tmp_path / "out.zarr", CHAIN, "mean_background", **said)
    group = json.loads((result.path / "mean_background/channel_0/zarr.json").read_text())
    [image] = group["attributes"]["ome"]["multiscales"]
    [scale] = image["datasets"][0]["coordinateTransformations"]
    plan = zarr.open_group(result.path).attrs["smlmlp_dask"]["plan"][0]
    assert scale["scale"] == pytest.approx([0.05 * plan["block"][0], 0.1, 0.1])
    with pytest.warns(UserWarning, match="not the frames of a camera"):
        [planes] = open_channels(result.path / "mean_background" / "channel_0")
    first = run_background(tif, tmp_path / "b.zarr", CHAIN).bkgds[0][: plan["block"][0]].compute()
    exact = first.mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(planes[0].compute(), exact, rtol=2.0**-23)


def test_movies_without_frames(tmp_path):
    zarr.create_array(tmp_path / "movie.zarr", shape=(0, 4, 5), chunks=(1, 4, 5), dtype="u2")
    result = run_background(tmp_path / "movie.zarr", tmp_path / "out.zarr", CHAIN, ALL, gain=1)
    assert result.snrs[0].shape == (0, 4, 5)
    assert np.isnan(result.mean_bkgds[0].compute()).all()
    assert verify_backgrounds(result.path, sample=1).problems == []


@pytest.mark.parametrize("codec", ["fast", "small", "none"])
def test_zarr_reads_every_chunk(tif, tmp_path, codec):
    """Ratios are shuffled by bits, and backgrounds by bytes; both as their metadata say."""
    outputs = ("background", "snr", "mean_background")
    result = run_background(tif, tmp_path / "out.zarr", CHAIN, outputs, gain=0.5, codec=codec)
    found = {}
    for folder in ("channel_0", "snr/channel_0", "mean_background/channel_0"):
        array = zarr.open_array(result.path / folder / "0", mode="r")
        document = json.loads((result.path / folder / "0/zarr.json").read_text())
        blosc = [c["configuration"] for c in document["codecs"] if c["name"] == "blosc"]
        found[folder] = [one["shuffle"] for one in blosc], array[:].tobytes()
    bits = {"fast": ["bitshuffle"], "small": ["shuffle"], "none": []}[codec]
    assert found["snr/channel_0"] == (bits, result.snrs[0].compute().tobytes())
    own = ["shuffle"] if bits else []
    assert found["channel_0"] == (own, result.bkgds[0].compute().tobytes())
    assert found["mean_background/channel_0"][0] == own
