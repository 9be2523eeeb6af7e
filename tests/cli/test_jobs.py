"""Job files say what a command line says."""

import tomllib
from pathlib import Path

import pytest
import tifffile

from smlmlp_dask import SpatialMean
from smlmlp_dask.pipeline import convert, run
from tests.cli.test_app import BACKGROUND, DEFAULTS
from tests.commands import MOVIE, call, called
from tests.stored import contents


@pytest.fixture
def passed_on(tmp_path, monkeypatch):
    """Return what a command calls its job with, instead of running it."""
    monkeypatch.chdir(tmp_path)
    jobs = {"run": (run, "run_background"), "convert": (convert, "convert_movies")}
    return lambda *command: called(monkeypatch, *jobs[command[0]], *command)


SOURCE = '\n[[source]]\npath = "a.tif"\n'
TWO = SOURCE + '[[source]]\npath = "b.tif"\n'


@pytest.mark.parametrize(
    ("text", "radii", "changed"),
    [
        (SOURCE, 7.0, {}),
        ("radius = 5" + SOURCE, (5.0, 5.0), {}),
        ('radius = "6,10"' + SOURCE, (6.0, 10.0), {}),
        ("radius = [[6, 10]]" + SOURCE, (6.0, 10.0), {}),
        ('radius = [6, "8,10"]' + SOURCE, [(6.0, 6.0), (8.0, 10.0)], {}),
        ("raw-shape = [100, 30, 30]\nraw-dtype = '>u2'" + SOURCE, 7.0,
         {"raw_shape": (100, 30, 30), "raw_dtype": ">u2"}),
        ("resume = true\ncuda = false\nkeep-bits = 12" + SOURCE, 7.0,
         {"resume": True, "keep_bits": 12}),
        ("progress = false\noverwrite = true" + SOURCE, 7.0, {"overwrite": True}),
        ("progress = true" + SOURCE, 7.0, {"progress": True}),
        ("channel = ['red', 1]\nflip = ['y', 'none']" + SOURCE, 7.0,
         {"channels": ("red", "1"), "flips": [(True, False), (False, False)]}),
        (TWO + 'frames = "2:9"', 7.0, {"frames": (slice(None), slice(2, 9))}),
        ('frames = "2:9"' + TWO, 7.0, {"frames": slice(2, 9)}),
        (TWO + "boxes = [[0, 1, 2, 3], '4,5,6,7']", 7.0,
         {"bboxes": [None, [(0, 1, 2, 3), (4, 5, 6, 7)]]}),
    ],
)  # fmt: skip
def test_a_job_file_is_a_command_line(passed_on, tmp_path, text, radii, changed):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "job.toml").write_text('output = "out.zarr"\n' + text)
    (sources, output), keywords = passed_on("run", "elsewhere/job.toml")
    names = ["a.tif", "b.tif"] if "b.tif" in text else ["a.tif"]
    assert sources == [str(folder / name) for name in names]  # they lie beside the job file
    assert output == folder / "out.zarr"
    assert keywords == {**DEFAULTS, **BACKGROUND, "steps": [SpatialMean(radii)], **changed}


def test_options_on_the_line_go_before_those_of_the_file(passed_on):
    Path("job.toml").write_text(
        'output = "out.zarr"\nradius = [5, 6]\nmemory-limit = "1GB"\n'
        '[[source]]\npath = "a.tif"\nframes = "0:9"\nboxes = [[0, 0, 9, 9]]'
    )
    line = "-o b.zarr --radius 8 --frames 1:3 --bbox 0:1,2,3,4 --resume"
    (_, output), keywords = passed_on("run", "job.toml", *line.split())
    assert (output, keywords["steps"]) == (Path("b.zarr"), [SpatialMean((8.0, 8.0))])
    assert (keywords["frames"], keywords["bboxes"]) == (slice(1, 3), [[(1, 2, 3, 4)]])
    assert (keywords["memory_limit"], keywords["resume"]) == ("1GB", True)


@pytest.mark.parametrize(
    "line",
    [
        "run a.tif",
        "run a.tif --radius 6,10 --engine fused --codec small --keep-bits 9 --memory-limit 4GB",
        "run a.tif b.tif --radius 6 --radius 8,10 --radius 7 --frames 0:5 --frames 2:",
        "run a.tif b.tif --bbox 1:0,1,2,3 --bbox 0:4,5,6,7 --bbox 1:8,9,10,11 --flip x",
        "run a.raw --raw-shape 5,6,7 --raw-dtype >u2 --raw-header 9 --channel red --z 2 --salvage",
        "convert a.tif *.tif --codec none --position A1",
    ],
)
def test_a_saved_job_is_the_same_job(passed_on, line):
    before = passed_on(*line.split(), "-o", "out.zarr", "--progress", "--save-job", "job.toml")
    command = line.split()[0]
    (sources, output), keywords = passed_on(command, "job.toml", "--progress")
    assert sources == [str(Path(name).absolute()) for name in before[0][0]]
    assert output == Path("out.zarr").absolute()
    assert keywords == before[1]


@pytest.mark.parametrize("name", ["a \"b\" 'c'.tif", "Zelle-µ-🔬.tif", "back\\slash\t\x7f.tif"])
def test_any_name_can_be_saved(passed_on, name):
    (sources, _), _ = passed_on("run", name, "-o", "o.zarr", "--save-job", "job.toml")
    assert sources == [name]
    (saved,) = tomllib.loads(Path("job.toml").read_text())["source"]
    assert saved["path"] == str(Path(name).absolute())


def test_what_a_call_says_of_itself_is_not_saved(passed_on):
    options = ["--resume", "--no-progress", "-v", "--json", "--overwrite"]
    passed_on("run", "a.tif", "-o", "o.zarr", *options, "--save-job", "job.toml")
    assert tomllib.loads(Path("job.toml").read_text()).keys() == {"output", "source"}


def test_saved_and_run_again_it_gives_the_same_store(folder):
    line = "run movie.tif -o a.zarr --bbox 0:0,0,9,9 --bbox 0:9,9,20,20 --save-job job.toml"
    assert call(*line.split()).exit_code == 0
    assert call("run", "job.toml", "-o", "b.zarr").exit_code == 0
    assert contents(Path("a.zarr")) == contents(Path("b.zarr"))
    assert call("run", "job.toml", "--dry-run").exit_code == 0


def test_a_job_file_that_does_not_exist_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = call("run", "nojob.toml", "--resume")
    assert (refused.exit_code, refused.stderr) == (
        2,
        "Error: the job file nojob.toml does not exist: check the path\n",
    )


@pytest.mark.parametrize(
    ("key", "near"),
    [("radios", "radius"), ("memory_limit", "memory-limit"), ("ouput", "output"), ("x", "[[sour")],
)
def test_a_typo_in_a_job_file_is_told_what_it_may_be(tmp_path, monkeypatch, key, near):
    monkeypatch.chdir(tmp_path)
    Path("job.toml").write_text(f'{key} = "7"\n{SOURCE}')
    refused = call("run", "job.toml", "-o", "out.zarr")
    assert refused.exit_code == 2
    assert f"has the key '{key}', which is no option of run: is it {near}" in refused.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "job.toml"]


def test_a_saved_job_is_replaced_only_by_a_job_that_begins(folder):
    line = ["run", "movie.tif", "-o", "o.zarr", "--save-job", "job.toml"]
    assert call(*line, "-r", 3).exit_code == 0
    saved = Path("job.toml").read_text()
    assert call(*line, "-r", 0, "--overwrite").exit_code == 2
    assert Path("job.toml").read_text() == saved
    assert call(*line, "-r", 4, "--overwrite").exit_code == 0
    assert 'radius = ["4"]' in Path("job.toml").read_text()


def test_a_run_that_saved_its_job_is_resumed_as_it_is_told(folder):
    """By the same line and --resume; another job of that name stays."""
    line = ["run", "movie.tif", "-o", "o.zarr", "-r", 3, "--save-job", "job.toml"]
    assert call(*line).exit_code == 0
    saved = Path("job.toml").read_bytes()
    assert call(*line, "--resume").exit_code == 0
    assert Path("job.toml").read_bytes() == saved
    Path("job.toml").write_text("another")
    refused = call(*line, "--resume")
    assert refused.exit_code == 2
    assert "job.toml exists and holds another job, and --resume replaces nothing" in refused.stderr
    assert Path("job.toml").read_text() == "another"


def test_a_home_folder_is_found_everywhere(tmp_path, monkeypatch):
    """Also where no shell has expanded it: in quotes, after = and in a file."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir("/")
    tifffile.imwrite(tmp_path / "movie.tif", MOVIE, photometric="minisblack")
    (tmp_path / "job.toml").write_text(
        'output = "~/a.zarr"\nwrite = ["background", "signal"]\n[[source]]\npath = "~/movie.tif"\n'
    )
    for line in (
        "run ~/job.toml",
        "run ~/movie.tif --output=~/b.zarr --save-job=~/saved.toml",
        "info ~/movie.tif",
        "info ~/a.zarr",
        "verify ~/a.zarr",
        "plot ~/a.zarr --output=~/a.png",
        "report ~/a.zarr --output=~/a.html",
        "export ~/a.zarr --output=~/a.raw",
        "convert ~/movie.tif --output=~/c.zarr",
        "demo --output=~/demo --frames 1",
    ):
        result = call(*line.split())
        assert result.exit_code == 0, result.output
    names = {path.name for path in tmp_path.iterdir()}
    assert {"a.zarr", "b.zarr", "saved.toml", "a.png", "a.html", "a.raw", "c.zarr", "demo"} <= names
