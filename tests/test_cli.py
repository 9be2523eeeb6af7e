import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from click.testing import CliRunner

from smlmlp_dask import cli, open_backgrounds
from smlmlp_dask.cli import smlmlp

MOVIE = np.random.default_rng(5).poisson(200, (11, 20, 24)).astype(np.uint16)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with one movie in many forms, good and bad."""
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("movie.tif", MOVIE, photometric="minisblack")
    MOVIE.astype(">u2").tofile("movie.raw")
    stored = zarr.create_array("movie.zarr", shape=MOVIE.shape, chunks=(4, 20, 24), dtype="u2")
    stored[:] = MOVIE
    return tmp_path


def call(*arguments):
    return CliRunner().invoke(smlmlp, [str(argument) for argument in arguments])


# ---- what is passed on -------------------------------------------------------------------------

DEFAULTS = {
    "bboxes": None,
    "flips": None,
    "frames": None,
    "raw_shape": None,
    "raw_dtype": None,
    "cuda": False,
    "parallel": False,
    "engine": "auto",
    "codec": "fast",
    "keep_bits": None,
    "memory_limit": None,
    "resume": False,
    "progress": False,
}


class Called(Exception):
    pass


@pytest.mark.parametrize(
    ("options", "radii", "changed"),
    [
        ("", 7.0, {}),
        ("--radius 5", (5.0, 5.0), {}),
        ("--radius 6,10", (6.0, 10.0), {}),
        ("--radius 6 --radius 8,10", [(6.0, 6.0), (8.0, 10.0)], {}),
        ("--bbox 1:0,1,2,3 --bbox 1:4,5,6,7", 7.0,
         {"bboxes": [None, [(0, 1, 2, 3), (4, 5, 6, 7)]]}),
        ("--flip y --flip none --flip yx", 7.0,
         {"flips": [(True, False), (False, False), (True, True)]}),
        ("--frames 0:1000", 7.0, {"frames": slice(0, 1000)}),
        ("--frames 5:", 7.0, {"frames": slice(5, None)}),
        ("--frames=-5:", 7.0, {"frames": slice(-5, None)}),
        ("--frames ::2", 7.0, {"frames": slice(None, None, 2)}),
        ("--raw-shape 100,30,30 --raw-dtype >u2", 7.0,
         {"raw_shape": (100, 30, 30), "raw_dtype": ">u2"}),
        ("--engine dask-image --cuda --parallel --progress", 7.0,
         {"engine": "dask-image", "cuda": True, "parallel": True, "progress": True}),
        ("--codec small --keep-bits 12 --memory-limit 4GB", 7.0,
         {"codec": "small", "keep_bits": 12, "memory_limit": "4GB"}),
        ("--resume", 7.0, {"resume": True}),
    ],
)  # fmt: skip
def test_run_passes_its_options_on(monkeypatch, options, radii, changed):
    seen = []

    def job(*arguments, **keywords):
        seen.append((arguments, keywords))
        raise Called

    monkeypatch.setattr(cli, "run_spatial_mean", job)
    result = call("run", "a.tif", "b.tif", "-o", "out.zarr", *options.split())
    assert isinstance(result.exception, Called), result.output
    ((sources, output, given_radii), keywords) = seen[0]
    assert sources == ["a.tif", "b.tif"]
    assert str(output) == "out.zarr"
    assert given_radii == radii
    assert keywords == {**DEFAULTS, **changed}


# ---- what it does ------------------------------------------------------------------------------


def test_run_and_info(folder):
    result = call("run", "movie.tif", "movie.zarr", "-o", "out.zarr", "--radius", "6,10")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert "11×20×24" in result.stdout
    assert "0.861458" in result.stdout
    one, two = open_backgrounds("out.zarr").bkgds
    assert one.compute().tobytes() == two.compute().tobytes()

    shown = call("info", "out.zarr")
    assert shown.exit_code == 0
    assert "6, 10 px" in shown.stdout
    assert f"sources: {folder / 'movie.tif'}, {folder / 'movie.zarr'}" in shown.stdout
    assert "smlmlp-dask" in shown.stdout


def test_dry_run_shows_the_plan_and_writes_nothing(folder):
    result = call("run", "movie.zarr", "movie.tif", "-o", "out.zarr", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "decoded 1.00 times" in result.stdout
    assert "tasks:     2 of 1 block" in result.stdout
    assert "memory:    " in result.stdout
    assert "output:    41.25 kiB before compression" in result.stdout
    assert not Path("out.zarr").exists()


@pytest.mark.parametrize(
    "command", [["-m", "smlmlp_dask"], ["-m", "dask", "smlmlp"]], ids=["module", "dask group"]
)
def test_other_ways_to_start_it(command, folder):
    shown = subprocess.run(
        [sys.executable, *command, "--help"], capture_output=True, text=True, check=True
    )
    assert "smlmlp-dask run movie.tif -o background.zarr" in shown.stdout


def test_version():
    assert call("--version").stdout.startswith("smlmlp-dask, version ")


@pytest.mark.parametrize("command", ["run", "info", "demo"])
def test_help_has_an_example(command):
    assert f"smlmlp-dask {command}" in call(command, "--help").stdout.split("Options:")[0]


# ---- errors: what is refused stands in test_bad_inputs.py --------------------------------------


def truncated_tif():
    Path("truncated.tif").write_bytes(Path("movie.tif").read_bytes()[:-2000])


def test_what_libraries_log_is_not_shown(folder):
    truncated_tif()
    command = [sys.executable, "-m", "smlmlp_dask", "run", "truncated.tif", "-o", "out.zarr"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    assert shown.returncode == 2
    assert shown.stderr.count("\n") == 1


def test_verbose_shows_the_traceback(folder):
    result = call("info", "gone.zarr", "-v")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("Error: gone.zarr does not exist\n")


def test_a_fault_of_our_own_is_not_hidden(folder, monkeypatch):
    def job(*arguments, **keywords):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(cli, "run_spatial_mean", job)
    assert isinstance(call("run", "a", "-o", "b").exception, ZeroDivisionError)
