"""What `info` says of a store."""

import pytest

from tests import commands


@pytest.fixture(autouse=True)
def folder(folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    return folder


def call(*arguments):
    result = commands.call(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def lines(text):
    return [" ".join(line.split()) for line in text.replace("\N{EN DASH}", "-").splitlines()]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            "run movie.tif",
            ["stored: background (float32)", "codec: fast, without loss", "source: {movie}"],
        ),
        (
            "run movie.tif --codec small --keep-bits 12",
            ["codec: small, after rounding to 12 of 23 mantissa bits (a relative error of at most "
             "0.012 %)"],
        ),
        (
            "run movie.tif movie.tif --bbox 1:0,0,9,8 --bbox 1:9,0,18,8 --flip none --flip yx "
            "--flip x --frames 1: --frames 0:10:2",
            ["source 0: {movie}", "source 1: {movie}",
             "channel 0: movie.tif, frames 1-10 of the movie",
             "channel 1: movie.tif, columns 0-8, rows 0-7, frames 0-8, one in 2 of the movie, "
             "flipped in y and x",
             "channel 2: movie.tif, columns 9-17, rows 0-7, frames 0-8, one in 2 of the movie, "
             "flipped left to right (x)"],
        ),
        (
            "run movie.tif --step median:2 --step mean:3 --write signal --pedestal 100 --channel 0",
            ["stored: signal (uint16), pedestal 100; no pixel of the signal was clipped",
             "source: {movie}", "channel: movie.tif, channel 0"],
        ),
        (
            "convert movie.tif --bbox 0:1,2,3,4",
            ["stored: raw frames (uint16)", "codec: fast, without loss",
             "source: {movie}", "channel: movie.tif, columns 1-2, rows 2-3"],
        ),
    ],
)  # fmt: skip
def test_how_a_store_was_made(folder, command, expected):
    call(*command.split(), "-o", "out.zarr")
    shown = call("info", "out.zarr")
    for line in expected:
        assert line.format(movie=folder / "movie.tif") in lines(shown)
    assert "versions: python" in shown
    assert ("engine: fused " in shown) == command.startswith("run")
    if "--step" in command:
        assert "median of 5 frames" in shown
        assert "mean 3, 3 px" in shown


def test_a_store_of_many_sources_is_still_short():
    call("run", *["movie.tif"] * 11, "-o", "out.zarr")
    shown = lines(call("info", "out.zarr"))
    assert sum(line.startswith("source ") for line in shown) == 8
    assert "more: 3 sources (--json lists them)" in shown
