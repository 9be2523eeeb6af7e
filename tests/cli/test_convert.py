"""The command that copies movies: what it passes on, prints, and says of its store."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from smlmlp_dask import open_channels
from smlmlp_dask.pipeline import convert
from tests.cli.test_app import DEFAULTS
from tests.commands import MOVIE, call, called


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ("", {}),
        ("--codec small --memory-limit 4GB --resume --progress",
         {"codec": "small", "memory_limit": "4GB", "resume": True, "progress": True}),
        ("--bbox 1:0,1,2,3 --flip y --frames 0:1000 --channel red --position 1 --z 2 --salvage",
         {"bboxes": [None, [(0, 1, 2, 3)]], "flips": [(True, False)], "frames": slice(0, 1000),
          "channels": ("red",), "position": ("1",), "z": 2, "salvage": True}),
        ("--pixel-size 0.1 --frame-interval 0.05 --channel-name red",
         {"pixel_size_um": (0.1, 0.1), "frame_interval_s": 0.05, "channel_names": ("red",)}),
        ("--raw-shape 100,30,30 --raw-dtype >u2 --raw-header 4 --raw-footer 8",
         {"raw_shape": (100, 30, 30), "raw_dtype": ">u2", "raw_header": 4, "raw_footer": 8}),
    ],
)  # fmt: skip
def test_options_are_passed_on(monkeypatch, options, changed):
    command = ("convert", "a.tif", "b.tif", "-o", "out.zarr", *options.split())
    (sources, output), keywords = called(monkeypatch, convert, "convert_movies", *command)
    assert (sources, str(output)) == (["a.tif", "b.tif"], "out.zarr")
    assert keywords == {**DEFAULTS, **changed}


def test_convert_and_info(folder):
    result = call("convert", "movie.tif", "-o", "out.zarr")
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.search(r"0 +11×20×24 +uint16 +11×20×24", result.stdout)
    assert "finished: out.zarr" in result.stdout
    np.testing.assert_array_equal(open_channels("out.zarr")[0].compute(), MOVIE)
    shown = call("info", "out.zarr")
    assert re.search(r"0 +11×20×24 +uint16 +11×20×24", shown.stdout)
    assert f"source: {folder / 'movie.tif'}" in shown.stdout
    assert "verify out.zarr checks every byte" in shown.stdout
    assert call("verify", "out.zarr", "--deep").exit_code == 0


def test_the_document_of_a_converted_movie(folder):
    line = "movie.tif -o out.zarr --frames 1: --pixel-size 0.1 --frame-interval 0.05 --json"
    result = call("convert", *line.split())
    document = json.loads(result.stdout)
    assert document == json.loads(call("info", "out.zarr", "--json").stdout)
    assert document["outputs"] == ["raw"]
    assert (document["finished"], document["blocks"]) == (True, document["blocks_done"])
    assert document["selection"]["frames"] == [1, None, None]
    (channel,) = document["channels"]
    assert channel == {
        "channel": 0,
        "frames": 10,
        "height_pix": 20,
        "width_pix": 24,
        "chunk_frames": 10,
        "chunk_height_pix": 20,
        "chunk_width_pix": 24,
        "dtype": "uint16",
        "name": None,
        "pixel_size_y_um": 0.1,
        "pixel_size_x_um": 0.1,
        "frame_interval_s": 0.05,
        "exposure_s": None,
        "colour": None,
        "gain": None,
        "baseline_counts": None,
    }


def test_an_unfinished_one_shows_how_far_it_is(folder):
    call("convert", "movie.tif", "-o", "out.zarr")
    root = Path("out.zarr/zarr.json")
    root.write_text(root.read_text().replace('"finished": true', '"finished": false'))
    assert "unfinished: 0 of 1 block " in call("info", "out.zarr").stdout
    assert json.loads(call("info", "out.zarr", "--json").stdout)["finished"] is False


def test_dry_run_shows_the_plan_and_writes_nothing(folder):
    shown = call("convert", "movie.tif", "-o", "out.zarr", "--dry-run", "-v")
    assert shown.exit_code == 0, shown.output
    assert "uint16 chunks of 11×20×24" in shown.stdout
    assert "output:    10.6 kB before compression" in shown.stdout
    assert "to read and write" in shown.stdout
    assert "filter" not in shown.stdout
    assert not Path("out.zarr").exists()
    described = call("convert", "--dry-run", "--shape", "1000,64,64", "--json")
    assert json.loads(described.stdout)["output_bytes"] == 2 * 1000 * 64 * 64
