"""The command that exports: what it passes on, and what it says."""

import re
import shlex
import shutil
from pathlib import Path
from signal import SIGINT, SIGTERM

import pytest
import tifffile

from smlmlp_dask import convert_movies, open_channels, run_background
from smlmlp_dask.pipeline import export, filling
from tests.commands import MOVIE, called
from tests.commands import call_line as call


@pytest.fixture
def folder(folder):
    run_background("movie.tif", "s.zarr", outputs=["background", "signal"], pedestal=100)
    return folder


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ("", {}),
        ("--what raw --channel 1", {"what": "raw", "channel": "1"}),
        ("--channel Cy5", {"channel": "Cy5"}),
        ("--resume --progress", {"resume": True, "progress": True}),
        ("--no-progress", {"progress": False}),
    ],
)
def test_options_are_passed_on(monkeypatch, options, changed):
    command = f"export s.zarr -o out.raw {options}".split()
    paths, keywords = called(monkeypatch, export, "export_movie", *command)
    assert [*map(str, paths)] == ["s.zarr", "out.raw"]
    defaults = {
        "what": None,
        "channel": None,
        "resume": False,
        "overwrite": False,
        "progress": False,
    }
    assert keywords == {**defaults, **changed}


def test_it_writes_and_says_so(folder):
    done = call("export s.zarr -o out.raw --progress")
    assert (done.exit_code, done.stdout) == (0, "finished: out.raw\n")
    assert re.search(r"100%: 1/1 block after .* Mpx/s", done.stderr)
    assert (folder / "out.yaml").is_file()
    assert open_channels("out.raw")[0].shape == MOVIE.shape


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            "export s.zarr -o movie.tif",
            r"movie\.tif is /.*movie\.tif, which must stay as it is: write elsewhere",
        ),
        ("export s.zarr -o out.csv", r"ends in \.csv: name it NAME\.raw"),
        ("export s.zarr -o out.raw --channel 3", "channel is '3', and .* has 0 "),
        ("export two.zarr -o out.raw", "has 2 channels: choose one by --channel: 0, 1"),
        ("export s.zarr -o out.raw --what noise", "'noise' is not one of"),
        (
            "export s.zarr -o two.zarr/zarr.json/out.raw",
            r"out\.raw cannot be written \(.*\): choose",
        ),
        ("export s.zarr", "Missing option '-o'"),
        ("export gone.zarr -o out.raw", "does not exist"),
    ],
)
def test_errors_are_one_line(folder, line, says):
    convert_movies(["movie.tif", "movie.tif"], "two.zarr")
    before = sorted(folder.rglob("*"))
    done = call(line)
    assert done.exit_code == 2
    assert re.fullmatch(rf"Error: .*{says}.*\n", done.stderr), done.stderr
    assert sorted(folder.rglob("*")) == before


@pytest.mark.filterwarnings("default::UserWarning")  # as where no test runs
def test_a_warning_is_one_line(folder):
    done = call("export s.zarr -o b.tif --what background")
    assert done.exit_code == 0
    assert re.fullmatch(r"Warning: .*b\.tif: of float32 pixels.*\n", done.stderr)


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_interrupted_in_its_last_step_it_is_finished(folder, monkeypatch, number):
    remove = shutil.rmtree

    def end(path, **options):
        remove(path, **options)
        raise KeyboardInterrupt(number.name)

    Path("out.raw").write_bytes(b"earlier")
    monkeypatch.setattr(shutil, "rmtree", end)
    done = call("export s.zarr -o out.raw --overwrite")
    assert done.exit_code == 128 + number
    assert done.stderr == f"Error: interrupted by {number.name}; out.raw is finished\n"


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_an_interruption_says_how_to_go_on(folder, monkeypatch, number):
    def end(*_):
        raise KeyboardInterrupt(number.name)

    line = ["smlmlp-dask", "export", "s.zarr", "-o", "out.tif"]
    monkeypatch.setattr("sys.argv", line)
    with monkeypatch.context() as patch:
        patch.setattr(filling, "_write", end)
        done = call(shlex.join(line[1:]))
    assert done.exit_code == 128 + number
    says = rf"interrupted by {number.name}; 0 of 11 frames are kept; to resume: (.*)"
    match = re.fullmatch(rf"Error: {says}\n", done.stderr)
    assert match, done.stderr
    assert call(match[1].removeprefix("smlmlp-dask ")).exit_code == 0
    assert tifffile.imread("out.tif").shape == MOVIE.shape
