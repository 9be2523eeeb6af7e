"""`smlmlp-dask radius`: table, picture, JSON, and the options of movies."""

import json
from functools import partial

import numpy as np
import pytest

from smlmlp_dask import simulate_movie, suggest_radius
from smlmlp_dask.pipeline import suggest
from tests import commands


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("movie")
    movie = simulate_movie(24, 64, 160, seed=3, photons=3000, events_per_frame=4).movie.compute()
    np.save(folder / "movie.npy", movie)
    movie.tofile(folder / "movie.raw")
    return folder


@pytest.fixture
def folder(shared, monkeypatch):
    monkeypatch.chdir(shared)


call = partial(commands.call, "radius")


BOXES = ["--bbox", "0:0,0,80,64", "--bbox", "0:80,0,160,64"]


def test_it_prints_a_table_a_reason_and_what_to_pass(folder):
    shown = call("movie.npy")
    assert (shown.exit_code, shown.stderr) == (0, "")
    (channel,) = suggest_radius("movie.npy").channels
    lines = [line.strip() for line in shown.stdout.splitlines()]
    assert lines[0].startswith("channel 0, by 24 frames; spots have a sigma of 1.")
    (marked,) = [line.split() for line in lines if line.endswith("suggested")]
    (row,) = [row for row in channel.table if row.radius_pix == channel.radius_pix]
    counts = (row.taken_counts, row.uneven_counts, row.error_counts)
    assert marked == [
        f"{row.radius_pix:g}", "px", f"{row.share_of_peak:.0%}",
        *(f"{each:.3g}" for each in counts), "suggested",
    ]  # fmt: skip
    assert channel.reason in lines
    assert lines[-1] == f"for run: --radius {channel.radius_pix:g}"


def test_channels_are_those_of_run(folder):
    options = [*BOXES, "--flip", "none", "--flip", "x", "--frames", "0:16"]
    shown = json.loads(call("movie.npy", *options, "--json").stdout)
    expected = suggest_radius(
        "movie.npy",
        bboxes=[[(0, 0, 80, 64), (80, 0, 160, 64)]],
        flips=[None, (False, True)],
        frames=slice(0, 16),
    ).channels
    assert len(expected) == 2
    for given, channel in zip(shown["channels"], expected, strict=True):
        assert given["channel"] == channel.channel
        assert given["radius_pix"] == channel.radius_pix
        assert given["reason"] == channel.reason
        assert given["frames_looked_at"] == list(range(16))
        assert [row["error_counts"] for row in given["radii"]] == [
            row.error_counts for row in channel.table
        ]
    printed = call("movie.npy", *options).stdout.splitlines()
    first, second = (channel.radius_pix for channel in expected)
    assert printed[-1] == f"for run: --radius {first:g} --radius {second:g}"


def test_headerless_movies_too(folder):
    raw = call("movie.raw", "--raw-shape", "24,64,160", "--raw-dtype", "<u2", "--json")
    assert json.loads(raw.stdout) == json.loads(call("movie.npy", "--json").stdout)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_picture(folder, tmp_path, suffix):
    picture = tmp_path / f"radius.{suffix}"
    shown = call("movie.npy", *BOXES, "-o", picture)
    assert shown.exit_code == 0
    assert shown.stdout.splitlines()[-1] == f"picture: {picture}"
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix]
    assert picture.read_bytes().startswith(start)
    document = json.loads(call("movie.npy", "-o", picture, "--overwrite", "--json").stdout)
    assert document["picture_path"] == str(picture)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'SOURCES...'."),
        (["gone.npy"], "gone.npy does not exist: check the path"),
        (["movie.npy", "-o", "radius.jpg"], "ends in .jpg: choose a name that ends in .png"),
        (["movie.npy", "-o", "movie.raw/r.png"], "does not exist: make it first"),
        (["movie.npy", "-o", "there.png"], "there.png exists: "),
        (["movie.npy", "--channel", "3"], "channel '3' is not in "),
        (["movie.npy", "--frames", "90:"], "selects none of the 24 frames"),
    ],
)
def test_errors_are_one_line(folder, shared, monkeypatch, arguments, message):
    (shared / "there.png").write_bytes(b"mine")
    monkeypatch.setattr(suggest, "find_background", None)  # refused before anything is computed
    shown = call(*arguments)
    assert shown.exit_code == 2
    assert shown.stdout == ""
    assert message in shown.stderr
    assert shown.stderr.count("\n") == 1
    assert (shared / "there.png").read_bytes() == b"mine"


def test_a_dry_run_says_it_too(folder, tmp_path):
    arguments = ["run", "movie.npy", "-o", tmp_path / "o.zarr", "--dry-run", "--radius", "1.5"]
    shown = commands.call(*arguments)
    (line,) = [line for line in shown.stdout.splitlines() if "smlmlp-dask radius" in line]
    assert line.startswith("channel 0: the background of radius 1.5 px takes ")
    document = json.loads(commands.call(*arguments, "--json").stdout)
    assert document["warnings"] == [line]
