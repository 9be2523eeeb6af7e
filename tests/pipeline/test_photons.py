"""Jobs in photons: frames become photoelectrons before the steps; maps of a camera's pixels."""

import json
import os
from functools import partial

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from matplotlib.text import Text

from smlmlp_dask import (
    DescribedMovie,
    SpatialMean,
    SpatialOpening,
    TemporalMedian,
    bkgd_combination,
    export_movie,
    plan_background,
    run_background,
    verify_backgrounds,
)
from smlmlp_dask.napari_reader import read_store
from smlmlp_dask.pictures.layers import viewed_layers
from smlmlp_dask.pictures.samples import sample_channels
from tests import duck
from tests.commands import call
from tests.stored import contents

RNG = np.random.default_rng(6)
FRAME = (16, 22)
MOVIE = RNG.poisson(190, (31, *FRAME)).astype(np.uint16)
MAPS = {
    "gain": RNG.uniform(0.2, 0.6, FRAME).astype(np.float32),
    "baseline": RNG.uniform(90, 110, FRAME).astype(np.float32),
    "variance": RNG.uniform(1, 9, FRAME).astype(np.float32),
}
CHAIN = (TemporalMedian(2), SpatialMean(3.0))
ALL = ("background", "signal", "snr", "mean_background")


@pytest.fixture
def maps(tmp_path):
    """Files of the maps, of three kinds."""
    tifffile.imwrite(tmp_path / "gain.tif", MAPS["gain"])
    np.save(tmp_path / "baseline.npy", MAPS["baseline"])
    tifffile.imwrite(tmp_path / "variance.tif", MAPS["variance"][np.newaxis].astype(np.float64))
    return {"gain": tmp_path / "gain.tif", "baseline": str(tmp_path / "baseline.npy"),
            "variance": tmp_path / "variance.tif"}  # fmt: skip


def photons(movie, gain, baseline):
    """The definition, in float32."""
    return (movie.astype(np.float32) - np.float32(baseline)) * np.float32(gain)


def filtered(frames):
    """The background of frames in memory, and its noise correction."""
    [bkgd], [factor], _ = bkgd_combination(
        [frames], median_window_fr=2, channels_mean_radii_pix=3.0
    )
    return bkgd.compute(), factor


# ---- the numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mapped", [False, True], ids=["numbers", "maps"])
def test_photons(tif, tmp_path, small, maps, mapped):
    values = MAPS if mapped else {"gain": 0.25, "baseline": 101.5, "variance": 3.0}
    given = maps if mapped else values
    result = run_background(tif, tmp_path / "out.zarr", CHAIN, ALL, photons=True, **given)
    frames = photons(MOVIE, values["gain"], values["baseline"])
    background, factor = filtered(frames)
    gain, variance = np.float32(values["gain"]), np.float32(values["variance"])
    assert result.bkgds[0].compute().tobytes() == background.tobytes()
    assert result.signals[0].compute().tobytes() == (frames - background).tobytes()
    noise = np.sqrt(background + variance * gain * gain)
    expected = (frames - background) / factor / noise
    assert result.snrs[0].compute().tobytes() == expected.tobytes()
    mean = background.mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(result.mean_bkgds[0].compute(), mean, rtol=2.0**-22)
    assert result.unit == "photons"
    assert verify_backgrounds(result.path, sample=9).problems == []


@pytest.mark.parametrize("in_photons", [False, True])
@pytest.mark.parametrize("chunks", [(31, 16, 22), (3, 5, 4)])
def test_maps_get_the_box_and_the_flip_of_their_channel(tmp_path, small, maps, in_photons, chunks):
    zarr.create_array(tmp_path / "movie.zarr", data=MOVIE, chunks=chunks)
    bboxes, flips = (
        [[(0, 0, 22, 16), (3, 1, 19, 12), (3, 1, 19, 12)]],
        [None, (True, False), (True, True)],
    )
    result = run_background(
        tmp_path / "movie.zarr",
        tmp_path / "out.zarr",
        SpatialMean(3.0),
        ALL,
        bboxes=bboxes,
        flips=flips,
        photons=in_photons,
        **maps,
    )
    for i, ((x0, y0, x1, y1), flip) in enumerate(zip(bboxes[0], flips, strict=True)):
        turn = tuple(slice(None, None, -1 if turned else 1) for turned in flip or (False, False))
        cut = {name: values[y0:y1, x0:x1][turn] for name, values in MAPS.items()}
        movie = MOVIE[:, y0:y1, x0:x1][(slice(None), *turn)]
        background = result.bkgds[i].compute()
        if in_photons:
            movie = photons(movie, cut["gain"], cut["baseline"])
            square = background + cut["variance"] * cut["gain"] * cut["gain"]
        else:
            square = (background - cut["baseline"]) / cut["gain"] + cut["variance"]
        signal = movie.astype(np.float32) - background
        assert result.signals[i].compute().tobytes() == signal.tobytes()
        expected = signal / result.noise_corrections[i] / np.sqrt(square)
        assert result.snrs[i].compute().tobytes() == expected.tobytes()
    assert verify_backgrounds(result.path, sample=99).problems == []


@pytest.mark.parametrize("dtype", ["u1", "i2", ">u2", "u4", "i8", "f2", ">f4", "f8"])
def test_movies_of_any_dtype(tmp_path, dtype):
    movie = (MOVIE[:5] - 100).clip(0, 200).astype(dtype)
    np.save(tmp_path / "movie.npy", movie)
    result = run_background(
        tmp_path / "movie.npy", tmp_path / "out.zarr", SpatialMean(3.0), ALL, gain=2, baseline=-3,
        photons=True,
    )  # fmt: skip
    frames = photons(movie, 2, -3)
    total = result.bkgds[0].compute() + result.signals[0].compute()
    np.testing.assert_allclose(total, frames, rtol=1e-6)


def test_by_default_everything_is_as_it_was(tif, tmp_path):
    result = run_background(tif, tmp_path / "out.zarr", CHAIN)
    assert result.unit == "counts"
    noted = zarr.open_group(result.path).attrs["smlmlp_dask"]
    assert not noted.keys() & {"photons", "gain", "baseline", "variance", "maps", "outputs"}
    assert result.bkgds[0].compute().tobytes() == filtered(MOVIE)[0].tobytes()


def test_a_pedestal_is_in_photons(tif, tmp_path):
    given = {"gain": 0.25, "baseline": 100, "photons": True}
    result = run_background(tif, tmp_path / "out.zarr", CHAIN, ALL, pedestal=50, **given)
    frames = photons(MOVIE, 0.25, 100)
    counts = np.round(frames - result.bkgds[0].compute() + np.float32(50))
    assert result.signals[0].compute().tobytes() == counts.astype(np.uint16).tobytes()
    export_movie(result, tmp_path / "signal.raw")
    about = (tmp_path / "signal.yaml").read_text()
    assert "Baseline: 50\nSensitivity: 1\nGain: 1\n" in about


def test_gain_and_baseline_of_the_file(tmp_path):
    movie = tmp_path / "movie.raw"
    MOVIE.tofile(movie)
    about = "Byte Order: <\nData Type: uint16\nFrames: 31\nHeight: 16\nWidth: 22\n"
    movie.with_suffix(".yaml").write_text(about + "Sensitivity: 0.5\nGain: 1\nBaseline: 10\n")
    result = run_background(movie, tmp_path / "out.zarr", CHAIN, ("background",), photons=True)
    expected, _ = filtered(photons(MOVIE, 0.5, 10))
    assert result.bkgds[0].compute().tobytes() == expected.tobytes()
    raw = export_movie(result, tmp_path / "raw.raw", what="raw")
    assert raw.read_bytes() == MOVIE.tobytes()  # what a fit by maximum likelihood needs
    assert "Baseline: 10\nSensitivity: 0.5\n" in raw.with_suffix(".yaml").read_text()
    export_movie(result, tmp_path / "bkgd.raw", what="background")
    assert "Baseline: 0\nSensitivity: 1\n" in (tmp_path / "bkgd.yaml").read_text()


TOLD = {  # photons, baseline given, what: Baseline and Sensitivity of the description
    "the job's, not the file's": (False, 90, "raw", "Baseline: 90\nSensitivity: 0.25\nGain: 1\n"),
    "of a background": (False, 90, "background", "Baseline: 90\nSensitivity: 0.25\nGain: 1\n"),
    "of a signal": (False, 90, "signal", "Baseline: 0\nSensitivity: 0.25\nGain: 1\n"),
    "left to the file": (False, 0, "raw", "Baseline: 10\nSensitivity: 0.25\nGain: 1\n"),
    "in counts, though filtered in photons": (
        *(True, 90, "raw"),
        "Baseline: 90\nSensitivity: 0.25\nGain: 1\n",
    ),
    "a map is no number": (False, "map", "raw", "Sensitivity: 0.25\nGain: 1\n"),
}


@pytest.mark.parametrize(("in_photons", "baseline", "what", "said"), TOLD.values(), ids=TOLD)
def test_a_camera_that_the_job_was_told_of_is_handed_on(
    tmp_path, maps, in_photons, baseline, what, said
):
    movie = tmp_path / "movie.raw"
    MOVIE.tofile(movie)
    about = "Byte Order: <\nData Type: uint16\nFrames: 31\nHeight: 16\nWidth: 22\n"
    movie.with_suffix(".yaml").write_text(about + "Sensitivity: 0.5\nGain: 1\nBaseline: 10\n")
    given = {"gain": 0.25, "baseline": maps["baseline"] if baseline == "map" else baseline}
    outputs = ("background", "signal", "snr")
    result = run_background(
        movie, tmp_path / "out.zarr", CHAIN, outputs, photons=in_photons, **given
    )
    export_movie(result, tmp_path / "out.raw", what=what)
    beside = (tmp_path / "out.yaml").read_text()
    assert beside.partition("Generated by: smlmlp-dask export\n")[2] == said


def test_on_a_device(tif, tmp_path, maps):
    with duck.installed(10**8):
        result = run_background(
            tif, tmp_path / "out.zarr", CHAIN, ALL, cuda=True, photons=True, **maps
        )
    frames = photons(MOVIE, MAPS["gain"], MAPS["baseline"])
    background = result.bkgds[0].compute()
    assert abs(background - filtered(frames)[0]).max() <= 2e-6 * frames.max()
    assert result.signals[0].compute().tobytes() == (frames - background).tobytes()


@pytest.mark.parametrize("wrapped", [np.asarray, da.from_array], ids=["NumPy", "Dask"])
def test_arrays_as_sources(tif, tmp_path, small, maps, wrapped):
    job = partial(run_background, steps=CHAIN, outputs=ALL, photons=True, **maps)
    result = job(wrapped(MOVIE), tmp_path / "array.zarr", bboxes=[[(3, 1, 19, 12)]])
    by_path = job(tif, tmp_path / "path.zarr", bboxes=[[(3, 1, 19, 12)]])
    assert result.snrs[0].compute().tobytes() == by_path.snrs[0].compute().tobytes()
    assert verify_backgrounds(result.path).problems == []


# ---- interrupted, changed ------------------------------------------------------------------------


@pytest.mark.parametrize("in_photons", [False, True])
def test_another_map_is_noticed(tif, tmp_path, small, maps, in_photons):
    """Refused as another movie is, by a run that goes on, a repair and a comparison."""
    job = partial(run_background, steps=CHAIN, outputs=ALL, photons=in_photons, **maps)
    path = job(tif, tmp_path / "out.zarr").path
    later = maps["gain"].stat().st_mtime_ns + 10**9
    tifffile.imwrite(maps["gain"], MAPS["gain"] + np.float32(0.1))
    os.utime(maps["gain"], ns=(later, later))
    before = contents(path)
    with pytest.raises(ValueError, match="begun differently: maps was"):
        job(tif, path, resume=True)
    [problem] = verify_backgrounds(path, sample=1).not_compared
    assert f"channel_0: not compared: {maps['gain']} has changed since" in problem
    (path / "snr/channel_0/0/c/0/0/0").unlink()
    with pytest.raises(ValueError, match="cannot be repaired, nothing was changed: maps was"):
        verify_backgrounds(path, repair=True)
    before.pop("snr/channel_0/0/c/0/0/0")
    assert contents(path) == before
    # and a job of its own, in the same process, does not see the old map
    again = job(tif, tmp_path / "again.zarr")
    assert (
        again.snrs[0].compute().tobytes()
        != job(tif, tmp_path / "x.zarr", gain=0.3).snrs[0].compute().tobytes()
    )
    gain = MAPS["gain"] + np.float32(0.1)
    if in_photons:
        expected = filtered(photons(MOVIE, gain, MAPS["baseline"]))[0]
        assert again.bkgds[0].compute().tobytes() == expected.tobytes()


def test_a_map_that_changes_during_the_job(tif, tmp_path, small, monkeypatch, maps):
    from smlmlp_dask.pipeline import running

    work = running.filter_and_store

    def meddling(task, **options):
        os.utime(maps["gain"], ns=(1, 1))
        return work(task, **options)

    monkeypatch.setattr(running, "filter_and_store", meddling)
    with pytest.raises(OSError, match="gain.tif has changed while its background was computed"):
        run_background(tif, tmp_path / "out.zarr", CHAIN, ALL, **maps)


# ---- refused -------------------------------------------------------------------------------------


BAD = {
    "no gain": ({"outputs": "snr"}, ValueError, "does not say its gain, which snr needs: pass"),
    "no gain for photons": ({"photons": True}, ValueError, "which photons needs: pass gain=0.25"),
    "a gain without a use": ({"gain": 1}, ValueError, "gain is 1, and nothing that is stored"),
    "a baseline without": ({"baseline": 0}, ValueError, "baseline is 0, and nothing that is"),
    "a variance without": (
        {"variance": 1, "photons": True, "gain": 1}, ValueError,
        r"variance is 1, and nothing that is stored depends on it: add snr to outputs \(--write "
        r"snr\), or leave"),
    "zero": ({"outputs": "snr", "gain": 0}, ValueError, "gain is 0: pass photoelectrons per count"),
    "negative": ({"outputs": "snr", "gain": -1.5}, ValueError, "gain is -1.5: pass photoelectrons"),
    "NaN": ({"outputs": "snr", "gain": np.nan}, ValueError, "gain is nan: pass"),
    "too small": ({"outputs": "snr", "gain": 1e-60}, ValueError, "gain is 1e-60: pass"),
    "infinite": ({"outputs": "snr", "gain": 1, "baseline": np.inf}, ValueError, "baseline is inf"),
    "below": ({"outputs": "snr", "gain": 1, "variance": -1}, ValueError, "variance is -1: pass"),
    "a truth": ({"outputs": "snr", "gain": True}, TypeError, "gain=True: pass a number such as"),
    "none at all": ({"outputs": "snr", "gain": []}, ValueError, r"gain=\[\] is empty"),
    "too many": ({"outputs": "snr", "gain": [1, 2]}, ValueError, "gain has 2 values for 1 channel"),
    "an array": ({"outputs": "snr", "gain": MAPS["gain"]}, TypeError, "save it as a TIFF, or by"),
    "no truth": ({"photons": 1, "gain": 1}, TypeError, "photons=1 is not a boolean"),
    "a URL": ({"outputs": "snr", "gain": "s3://a/b.tif"}, ValueError, "looks like a URL"),
    "no factor": (
        {"outputs": "snr", "gain": 1, "noise_corrections": [0]}, ValueError,
        "noise correction of channel 0 is 0, by which the SNR divides"),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_wrong_values_are_refused_before_anything_is_written(tif, tmp_path, bad):
    given, kind, said = BAD[bad]
    before = contents(tmp_path)
    with pytest.raises(kind, match=said):
        run_background(tif, tmp_path / "out.zarr", CHAIN, **given)
    if "noise_corrections" not in given:
        with pytest.raises(kind, match=said):
            plan_background(tif, CHAIN, **given)
    assert contents(tmp_path) == before


BAD_MAPS = {
    "shape": (lambda m: m[:15], r"has shape \(15, 22\), and frames of .* have \(16, 22\): pass"),
    "turned": (lambda m: m.T, r"has shape \(22, 16\), and frames"),
    "frames": (lambda m: np.stack([m, m]), r"has shape \(2, 16, 22\) and dtype float32: pass one"),
    "NaN": (lambda m: np.where(m == m[3, 4], np.nan, m), "has nan at y=3, x=4 and 1 such pixel"),
    "zero": (lambda m: np.where(m < 0.3, 0, m), "has 0 at y=.* such pixels in all: photoelectrons"),
    "complex": (lambda m: m.astype(complex), "dtype complex128: pass one frame"),
    "objects": (lambda m: np.array([None, {}]), "cannot be read"),
}


@pytest.mark.parametrize("bad", BAD_MAPS)
def test_wrong_maps_are_refused_before_anything_is_written(tif, tmp_path, bad):
    change, said = BAD_MAPS[bad]
    np.save(tmp_path / "map.npy", change(MAPS["gain"].copy()))
    before = contents(tmp_path)
    for options in ({"outputs": "snr"}, {"photons": True}):
        with pytest.raises(ValueError, match=said):
            run_background(tif, tmp_path / "out.zarr", CHAIN, gain=tmp_path / "map.npy", **options)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "content", "kind", "said"),
    [
        ("none.tif", None, FileNotFoundError, "none.tif is no file: pass the TIFF or .npy"),
        ("torn.tif", b"II*\0", ValueError, "torn.tif cannot be read"),
        ("torn.npy", b"\x93NUMPY", ValueError, "torn.npy cannot be read"),
        ("notes.txt", b"0.25", ValueError, "notes.txt cannot be read"),
    ],
)
def test_files_that_are_no_maps(tif, tmp_path, name, content, kind, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(kind, match=said) as caught:
        run_background(tif, tmp_path / "out.zarr", CHAIN, "snr", gain=tmp_path / name)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "out.zarr").exists()


# ---- planned, shown ------------------------------------------------------------------------------


def test_the_plan_holds_photons_and_maps(tif, maps):
    movie = DescribedMovie((10_000, 512, 512), "uint16", (1, 512, 512))
    few = plan_background(movie, CHAIN, memory_limit="2GB")
    plan = plan_background(movie, CHAIN, photons=True, gain=0.25, memory_limit="2GB")
    assert plan.projected_bytes <= 2e9
    [channel] = plan.channels
    read = channel.block[0] + 2 * channel.halo_fr
    assert channel.held["in photons"] == 4 * read * 512 * 512
    assert channel.held["frames read"] == 2 * read * 512 * 512
    assert channel.chunks == few.channels[0].chunks
    with_maps = plan_background(tif, SpatialOpening(2.0), "snr", **maps)
    assert with_maps.channels[0].held["maps"] >= 3 * 4 * MAPS["gain"].size
    done = call("run", "--dry-run", "--shape", "100,64,64", "--photons", "--gain", "0.5", "-v")
    assert "in photons" in done.stdout, done.stderr


def test_on_the_command_line(tif, tmp_path, maps):
    out, page, saved = tmp_path / "out.zarr", tmp_path / "page.html", tmp_path / "job.toml"
    steps = ["--step", "median:2", "--step", "mean:3", "--write", "background", "--write", "snr"]
    camera = [word for name in maps for word in (f"--{name}", maps[name])]
    done = call("run", tif, "-o", out, *steps, *camera, "--photons", "--save-job", saved)
    assert done.exit_code == 0, done.stderr
    outputs = ("background", "snr")
    by_hand = run_background(tif, tmp_path / "hand.zarr", CHAIN, outputs, photons=True, **maps)
    whole = contents(by_hand.path)
    assert contents(out) == whole
    for text in (done.stdout, call("info", out).stdout):
        assert "background (float32), snr (float32), in photons" in text
    assert f"gain: {maps['gain']}" in call("info", out).stdout
    document = json.loads(call("info", out, "--json").stdout)
    assert document["photons"] is True
    assert document["channels"][0]["used"]["variance"] == str(maps["variance"])
    assert call("report", out, "-o", page).exit_code == 0
    assert "turned into photons" in page.read_text(encoding="utf-8")
    # a job file, moved with its maps, names them relative to itself
    text = saved.read_text().replace(f"{tmp_path}/gain.tif", "gain.tif")
    assert 'gain = ["gain.tif"]' in text
    saved.write_text(text)
    again = call("run", saved, "-o", tmp_path / "again.zarr")
    assert again.exit_code == 0, again.stderr
    assert contents(tmp_path / "again.zarr") == whole


def test_a_number_in_a_job_file(tif, tmp_path):
    job = tmp_path / "job.toml"
    job.write_text(
        f'output = "{tmp_path}/out.zarr"\nwrite = "snr"\ngain = 0.25\nbaseline = ["7.5"]\n'
        '[[source]]\npath = "movie.tif"\n'
    )
    done = call("run", job)
    assert done.exit_code == 0, done.stderr
    noted = zarr.open_group(tmp_path / "out.zarr").attrs["smlmlp_dask"]
    assert (noted["gain"], noted["baseline"]) == ([0.25], [7.5])


def test_pictures_and_viewers_say_photons(tif, tmp_path):
    steps, given = SpatialMean(4.0), {"gain": 0.25, "baseline": 100}
    result = run_background(tif, tmp_path / "out.zarr", steps, photons=True, **given)
    [sample] = sample_channels(result)
    assert sample.raw.frame.tobytes() == photons(MOVIE, 0.25, 100)[15].tobytes()
    texts = {text.get_text() for text in result.plot().findobj(Text)}
    assert "photons" in texts
    assert not any("counts" in text for text in texts)
    layers, _ = viewed_layers(result)
    assert [layer.name for layer in layers] == [
        f"channel_0 {kind} (photons)" for kind in ("raw", "background", "signal")
    ]
    assert all("(photons)" in layer[1]["name"] for layer in read_store(result.path))
    stack = next(layer.stack for layer in layers if layer.kind == "signal")
    signal = photons(MOVIE, 0.25, 100) - result.bkgds[0].compute()
    assert stack.read().tobytes() == signal.tobytes()
    assert "in photons" in result._repr_html_()
    array = json.loads((result.path / "channel_0/0/zarr.json").read_text())
    assert array["attributes"] == {"units": "photons"}


def test_saturation_is_found_in_counts(tmp_path, maps):
    """A map of gains spreads the largest count over many numbers of photons."""
    movie = MOVIE.copy()
    movie[:, 2:6, 3:9] = 65535
    tifffile.imwrite(tmp_path / "movie.tif", movie, photometric="minisblack")
    maps.pop("variance")
    result = run_background(
        tmp_path / "movie.tif", tmp_path / "out.zarr", SpatialMean(4.0), photons=True, **maps
    )
    [sample] = sample_channels(result)
    assert sample.raw.saturation.level == 65535
