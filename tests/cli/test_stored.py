"""What `info` says of a store."""

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

from smlmlp_dask.cli import smlmlp

MOVIE = np.random.default_rng(5).poisson(200, (11, 20, 24)).astype(np.uint16)


def call(*arguments):
    result = CliRunner().invoke(smlmlp, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    tifffile.imwrite("movie.tif", MOVIE, photometric="minisblack")
    return tmp_path


def lines(text):
    return [" ".join(line.split()) for line in text.splitlines()]


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
            ["source 0: {movie}, frames 1:",
             "source 1: {movie}, frames 0:10:2, boxes 0,0,9,8 and 9,0,18,8 (x0,y0,x1,y1)",
             "flips: channel 0 as it is, channel 1 mirrored along y and x, channel 2 mirrored "
             "along x"],
        ),
        (
            "run movie.tif --step median:2 --step mean:3 --write signal --pedestal 100 --channel 0",
            ["stored: signal (uint16), pedestal 100; no pixel of the signal was clipped",
             "source: {movie}, channel 0"],
        ),
        (
            "convert movie.tif --bbox 0:1,2,3,4",
            ["stored: raw frames (uint16)", "codec: fast, without loss",
             "source: {movie}, box 1,2,3,4 (x0,y0,x1,y1)"],
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
