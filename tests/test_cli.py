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
    assert "tasks:  2" in result.stdout
    assert "memory: " in result.stdout
    assert "output: 41.25 kiB before compression" in result.stdout
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


# ---- errors: one line, exit code 2, nothing written --------------------------------------------


def truncated_tif():
    Path("truncated.tif").write_bytes(Path("movie.tif").read_bytes()[:-2000])


def frame_by_frame_tif():
    with tifffile.TiffWriter("frames.tif") as writer:
        for frame in MOVIE:
            writer.write(frame, photometric="minisblack", contiguous=False)


def corrupt_zarr():
    Path("movie.zarr/c/1/0/0").write_bytes(b"nothing that decodes")


def make_array(shape, dtype):
    def make():
        zarr.create_array("bad.zarr", shape=shape, dtype=dtype)

    return make


BAD = [
    ("run", "Missing argument 'SOURCES...'"),
    ("run movie.tif", "Missing option '-o'"),
    ("run movie.tif -o out.zarr --nope", "No such option"),
    ("nope", "No such command 'nope'. Commands: demo, info, run, verify."),
    ("run gone.tif -o out.zarr", "gone.tif does not exist"),
    ("run empty -o out.zarr", "empty"),
    ("run gone*.tif -o out.zarr", "gone*.tif"),
    ("run truncated.tif -o out.zarr", "truncated.tif"),
    ("run frames.tif -o out.zarr", "frames.tif"),
    ("run movie.zarr -o out.zarr", "c/1/0/0"),
    ("run bad.zarr -o out.zarr", "(20, 24)"),
    ("run bad.zarr -o out.zarr", "(2, 2, 2, 20, 24)"),
    ("run bad.zarr -o out.zarr", "complex"),
    ("run bad.zarr -o out.zarr", "bool"),
    ("run movie.tif -o out.zarr --bbox 0:0,0,25,20", "box (0, 0, 25, 20)"),
    ("run movie.tif -o out.zarr --bbox 0:5,5,5,9", "box (5, 5, 5, 9)"),
    ("run movie.tif -o out.zarr --bbox 0:-1,0,5,9", "box (-1, 0, 5, 9)"),
    ("run movie.tif -o out.zarr --bbox 1:0,0,5,9", "--bbox names source 1, but there is only"),
    ("run movie.tif movie.zarr -o out.zarr --bbox 2:0,0,5,9", "there are sources 0 to 1"),
    ("run movie.tif -o out.zarr --bbox 0:1,2,3", "'0:1,2,3' is not SOURCE_INDEX:x0,y0,x1,y1"),
    ("run movie.tif -o out.zarr --flip y --flip x", "flips"),
    ("run movie.tif -o out.zarr --flip z", "'z' is not one of"),
    ("run movie.tif -o out.zarr --frames 11:", "11 frames"),
    ("run movie.tif -o out.zarr --frames 5", "'5' is not a range of frames"),
    ("run movie.tif -o out.zarr --frames ::0", "step"),
    ("run movie.tif -o out.zarr --radius 0", "holds 0.0"),
    ("run movie.tif -o out.zarr --radius -7", "holds -7.0"),
    ("run movie.tif -o out.zarr --radius nan", "holds nan"),
    ("run movie.tif -o out.zarr --radius 10001", "at most 10000 px"),
    ("run movie.tif -o out.zarr --radius a", "'a' is neither a radius like 7"),
    ("run movie.tif -o out.zarr --radius 1,2,3", "'1,2,3' is neither a radius like 7"),
    ("run movie.tif -o out.zarr --radius 6 --radius 7", "2 pairs for 1 channel:"),
    ("run movie.raw -o out.zarr", "raw_shape"),
    ("run movie.raw -o out.zarr --raw-shape 11,20,25 --raw-dtype >u2", "10560 bytes"),
    ("run movie.raw -o out.zarr --raw-shape 11,20 --raw-dtype >u2", "'11,20' is not frames,height"),
    ("run movie.raw -o out.zarr --raw-shape 11,20,24", "raw_dtype"),
    ("run movie.raw -o out.zarr --raw-shape 11,20,24 --raw-dtype nope", "nope"),
    ("run movie.tif -o out.zarr --raw-shape 11,20,24 --raw-dtype >u2", "raw_shape"),
    ("run movie.tif -o movie.tif", "is the input"),
    ("run empty/.. -o out.zarr", "lies inside it"),
    ("run movie.tif -o there", "there exists"),
    ("run movie.tif -o movie.raw/out.zarr", "movie.raw is a file"),
    ("run movie.tif -o out.zarr --engine scipy", "'scipy' is not one of"),
    ("run movie.tif -o out.zarr --cuda --engine fused", "NumPy chunks only"),
    ("run movie.tif -o out.zarr --codec gzip", "'gzip' is not one of"),
    ("run movie.tif -o out.zarr --keep-bits 24", "keep_bits is 24: pass 1 to 23"),
    ("run movie.tif -o out.zarr --memory-limit much", "memory_limit is 'much'"),
    ("run movie.tif -o out.zarr --memory-limit 1MB", "memory_limit is 1MB: pass more than 300"),
    ("run gone.tif -o out.zarr --dry-run", "gone.tif does not exist"),
    ("info gone.zarr", "gone.zarr does not exist"),
    ("info movie.tif", "not a store of backgrounds"),
    ("info movie.zarr", "not a store of backgrounds"),
    ("demo -o there", "there exists: delete it"),
    ("demo --frames 0", "0 is not in the range"),
]  # fmt: skip

PREPARE = {
    "truncated.tif": truncated_tif,
    "frames.tif": frame_by_frame_tif,
    "c/1/0/0": corrupt_zarr,
    "(20, 24)": make_array((20, 24), "u2"),
    "(2, 2, 2, 20, 24)": make_array((2, 2, 2, 20, 24), "u2"),
    "complex": make_array((2, 3, 4), "c8"),
    "bool": make_array((2, 3, 4), "?"),
}


@pytest.mark.parametrize(("line", "message"), BAD, ids=[f"{line} {m}" for line, m in BAD])
def test_bad_input(folder, line, message):
    Path("there").mkdir()
    Path("empty").mkdir()
    PREPARE.get(message, lambda: None)()
    before = sorted(folder.rglob("*"))
    result = call(*line.split())
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert sorted(folder.rglob("*")) == before


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
