"""What a job stores of each block: background, signal, or both, in one pass."""

import json
import re
from functools import partial

import numpy as np
import pytest
import zarr

from smlmlp_dask import (
    SpatialMean,
    TemporalMedian,
    blocks,
    open_backgrounds,
    open_channels,
    plan_background,
    run_background,
    verify_backgrounds,
)
from smlmlp_dask.filters.compiled.pedestal import on_pedestal
from smlmlp_dask.pictures.layers import viewed_layers
from tests.commands import call
from tests.interrupting import interrupted
from tests.stored import contents

MOVIE = np.random.default_rng(6).poisson(90, (31, 16, 22)).astype(np.uint16)
MOVIE[3, 5, 6] = 65535  # far above any pedestal
CHAIN = (TemporalMedian(2), SpatialMean(3.0))
BOTH = ("background", "signal")


def expected_signal(background, pedestal=None, movie=MOVIE):
    """Return the signal of a background, and the clipped pixels, pixel by pixel."""
    signal = movie.astype(np.float32) - background
    if pedestal is None:
        return signal, None
    counts = np.round(signal + np.float32(pedestal))  # ties to even
    inside = (counts >= 0) & (counts <= 65535)
    whole = [int(min(max(count, 0), 65535)) for count in counts.ravel()]
    return np.array(whole, np.uint16).reshape(movie.shape), int((~inside).sum())


# ---- what comes out ------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [SpatialMean(4.0), CHAIN], ids=["mean", "chain"])
@pytest.mark.parametrize("outputs", ["signal", BOTH, BOTH[::-1]])
@pytest.mark.parametrize("pedestal", [None, 0, 20])
def test_signals(tif, tmp_path, small, steps, outputs, pedestal):
    alone = run_background(tif, tmp_path / "alone.zarr", steps)
    background = alone.bkgds[0].compute()
    result = run_background(tif, tmp_path / "out.zarr", steps, outputs, pedestal=pedestal)
    signal, clipped = expected_signal(background, pedestal)
    assert result.signals[0].dtype == signal.dtype
    assert result.signals[0].compute().tobytes() == signal.tobytes()
    assert result.pedestal == pedestal
    assert alone.signals is None
    if outputs == "signal":
        assert result.bkgds is None
        assert not (result.path / "channel_0").exists()
    else:
        assert result.bkgds[0].compute().tobytes() == background.tobytes()
    assert result.noise_corrections == alone.noise_corrections
    assert told(result.path) == ([clipped], pedestal)
    assert clipped is None or clipped > 0
    report = verify_backgrounds(result.path, sample=99)
    assert report.problems == []
    assert report.chunks == (1 if outputs == "signal" else 2) * len(chunks(alone.path))


def told(path):
    document = json.loads(call("info", path, "--json").stdout)
    return [channel["clipped_pixels"] for channel in document["channels"]], document[
        "pedestal_counts"
    ]


def chunks(path, output=""):
    return [file for file in (path / output / "channel_0/0/c").rglob("*") if file.is_file()]


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "i8", ">f4", "f8"])
def test_movies_of_any_dtype(tmp_path, dtype):
    movie = (MOVIE[:5].clip(0, 200) - (50 if np.dtype(dtype).kind != "u" else 0)).astype(dtype)
    zarr.create_array(tmp_path / "movie.zarr", data=movie)
    result = run_background(
        tmp_path / "movie.zarr", tmp_path / "out.zarr", SpatialMean(3.0), BOTH, pedestal=100
    )
    signal, _ = expected_signal(result.bkgds[0].compute(), 100, movie)
    assert result.signals[0].compute().tobytes() == signal.tobytes()


def test_rounding_and_clipping():
    raw = np.array([[[0, 0, 0, 0, 0, 0, 0, np.nan, np.inf, -np.inf]]], np.float32)
    background = np.zeros_like(raw)
    background[0, 0, :7] = -np.array([0.5, 1.5, -10.5, -10.6, 65524.5, 65525.5, 1e30])
    signal, clipped = on_pedestal(raw, background, 10)
    # 10.5, 11.5, -0.5, -0.6, 65534.5, 65535.5 ... to the even neighbour
    assert signal[0, 0].tolist() == [10, 12, 0, 0, 65534, 65535, 65535, 0, 65535, 0]
    assert clipped == 6  # -1, 65536, 1e30, and what is not finite


def test_kept_bits_round_floats_only(tif, tmp_path):
    exact = run_background(tif, tmp_path / "exact.zarr", CHAIN, BOTH, pedestal=100)
    rounded = run_background(tif, tmp_path / "rounded.zarr", CHAIN, BOTH, pedestal=100, keep_bits=6)
    floats = run_background(tif, tmp_path / "floats.zarr", CHAIN, "signal", keep_bits=6)
    assert rounded.signals[0].compute().tobytes() == exact.signals[0].compute().tobytes()
    assert (rounded.bkgds[0].compute() != exact.bkgds[0].compute()).any()
    signal, _ = expected_signal(exact.bkgds[0].compute())
    error = abs(floats.signals[0].compute() - signal)
    assert error.max() > 0
    assert (error <= abs(signal) * 2.0**-7).all()


def test_signals_are_images_of_their_own(tif, tmp_path):
    said = {"pixel_size_um": 0.1, "frame_interval_s": 0.05, "channel_names": ["Cy5"]}
    result = run_background(tif, tmp_path / "out.zarr", CHAIN, BOTH, pedestal=100, **said)
    found = {}
    for folder in ("channel_0", "signal/channel_0"):
        group = json.loads((result.path / folder / "zarr.json").read_text())
        [image] = group["attributes"]["ome"]["multiscales"]
        found[folder] = image["axes"], image["datasets"]
    assert found["channel_0"] == found["signal/channel_0"]
    with pytest.warns(UserWarning, match="holds signals"):
        [channel] = open_channels(result.path / "signal" / "channel_0")
    assert channel.compute().tobytes() == result.signals[0].compute().tobytes()


@pytest.mark.parametrize(
    ("outputs", "place", "held"),
    [
        (BOTH, "", "backgrounds"),  # the root lists the images of the first
        (BOTH, "channel_0", "backgrounds"),
        (BOTH, "signal", "signals"),
        ("signal", "", "signals"),
        ("signal", "signal/channel_0", "signals"),
    ],
)
def test_an_output_as_a_source_is_named_for_what_it_is(tif, tmp_path, outputs, place, held):
    path = run_background(tif, tmp_path / "out.zarr", SpatialMean(4.0), outputs).path
    with pytest.warns(UserWarning, match=f"it holds {held}, not the frames of a camera") as said:
        assert len(open_channels(path / place)) == 1
    assert len(said) == 1


LAYOUTS = [  # how a movie is stored, and the memory for its blocks
    ({"chunks": (1, 16, 22)}, "plenty"),
    ({"chunks": (1, 16, 22)}, "scarce"),
    ({"chunks": (8, 16, 22)}, "scarce"),
    ({"chunks": (31, 16, 22)}, "scarce"),
    ({"chunks": (5, 8, 8)}, "plenty"),
    ({"chunks": (31, 4, 5)}, "scarce"),
    ({"chunks": (3, 7, 9), "zarr_format": 2}, "scarce"),
    ({"chunks": (2, 8, 11), "shards": (6, 16, 22)}, "scarce"),
]


@pytest.mark.parametrize(("layout", "memory"), LAYOUTS, ids=str)
def test_same_bits_however_the_movie_is_stored(tif, tmp_path, monkeypatch, layout, memory):
    job = partial(run_background, steps=CHAIN, outputs=BOTH, pedestal=20)
    expected = job(tif, tmp_path / "expected.zarr")
    movie = zarr.create_array(tmp_path / "m.zarr", shape=MOVIE.shape, dtype="u2", **layout)
    movie[:] = MOVIE
    if memory == "scarce":  # blocks of a few frames, tiled with halos in time and space
        plan = blocks.plan_blocks
        scarce = {"block_bytes": 1_500, "memory_bytes": 20_000}
        monkeypatch.setattr(
            blocks, "plan_blocks", lambda *args, **options: plan(*args, **{**options, **scarce})
        )
    result = job(tmp_path / "m.zarr", tmp_path / "out.zarr")
    [channel] = plan_background(tmp_path / "m.zarr", CHAIN, BOTH, pedestal=20).channels
    assert (channel.block != MOVIE.shape) == (memory == "scarce")
    for made, wanted in ((result.bkgds, expected.bkgds), (result.signals, expected.signals)):
        assert made[0].compute().tobytes() == wanted[0].compute().tobytes()
    assert told(result.path) == told(expected.path)


# ---- interrupted, damaged ------------------------------------------------------------------------


def test_a_count_that_changed_in_the_journal_does_not_count(tif, tmp_path, small, monkeypatch):
    """Nothing but the journal knows it: its block is done again."""
    job = partial(run_background, steps=CHAIN, outputs=BOTH, pedestal=20)
    whole = job(tif, tmp_path / "whole.zarr").path
    path = tmp_path / "out.zarr"
    interrupted(tif, path, 2, monkeypatch, job)
    lines = path / "records/journal"
    text = lines.read_text()
    changed = re.sub(r"(?m)^(0 \d .* )(\d+)( #.*)?$", lambda m: f"{m[1]}9{m[2]}{m[3] or ''}", text)
    assert changed != text
    lines.write_text(changed)
    job(tif, path, resume=True)
    assert contents(path) == contents(whole)
    assert told(path) == told(whole)


# ---- refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outputs", "pedestal", "kind", "said"),
    [
        ("SNR", None, ValueError, "outputs holds 'SNR': pass background, signal, snr, mean_back"),
        ((), None, ValueError, r"outputs is \(\): pass background, signal"),
        (("signal", "signal"), None, ValueError, "each once"),
        (7, None, TypeError, "outputs is 7: pass background"),
        ([7], None, ValueError, "outputs holds 7: pass background"),
        ("signal", -1, ValueError, "pedestal is -1: pass a whole number of counts from 0 to 65535"),
        ("signal", 65536, ValueError, "pedestal is 65536: pass"),
        ("signal", 99.5, ValueError, "pedestal is 99.5: pass"),
        ("signal", True, ValueError, "pedestal is True: pass"),
        ("background", 100, ValueError, "pedestal is 100, and no signal is stored: add signal"),
    ],
)
def test_wrong_outputs_are_refused_before_anything_is_written(
    tif, tmp_path, outputs, pedestal, kind, said
):
    before = contents(tmp_path)
    with pytest.raises(kind, match=said):
        run_background(tif, tmp_path / "out.zarr", CHAIN, outputs, pedestal=pedestal)
    with pytest.raises(kind, match=said):
        plan_background(tif, CHAIN, outputs, pedestal=pedestal)
    assert contents(tmp_path) == before


# ---- shown ---------------------------------------------------------------------------------------


def test_a_signal_alone_is_shown_as_one(tif, tmp_path):
    result = run_background(tif, tmp_path / "out.zarr", CHAIN, "signal", pedestal=100)
    assert "<b>Signals (stored 100 counts higher)</b>" in result._repr_html_()
    assert result.plot().axes
    layers, _ = viewed_layers(result)
    assert [layer.name for layer in layers] == ["channel_0 raw", "channel_0 signal + 100"]
    assert call("plot", result.path).exit_code == 0
    assert call("report", result.path, "-o", tmp_path / "page.html").exit_code == 0
    assert open_backgrounds(result.path).steps == result.steps
