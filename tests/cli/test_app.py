import builtins
import fcntl
import json
import os
import platform
import pty
import re
import shlex
import shutil
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import pytest
import zarr

from smlmlp_dask import SpatialMean, __version__, cli, noise_correction, open_backgrounds
from smlmlp_dask.cli import documents, smlmlp
from smlmlp_dask.execution import progress
from smlmlp_dask.filters.steps import Engine
from smlmlp_dask.pipeline import run, verify
from smlmlp_dask.store.codecs import Codec
from tests.commands import MOVIE, call, called


@pytest.fixture
def folder(folder):
    zarr.create_array("movie.zarr", data=MOVIE, chunks=(4, 20, 24))
    return folder


# ---- what is passed on -------------------------------------------------------------------------

DEFAULTS = {
    "bboxes": None,
    "flips": None,
    "frames": None,
    "channels": None,
    "position": None,
    "z": None,
    "salvage": False,
    "raw_shape": None,
    "raw_dtype": None,
    "raw_header": 0,
    "raw_footer": 0,
    "pixel_size_um": None,
    "frame_interval_s": None,
    "channel_names": None,
    "codec": "fast",
    "memory_limit": None,
    "resume": False,
    "overwrite": False,
    "progress": False,
}

BACKGROUND = {
    "steps": [SpatialMean(7.0)],
    "outputs": ("background",),
    "pedestal": None,
    "gain": None,
    "baseline": None,
    "variance": None,
    "photons": False,
    "cuda": False,
    "parallel": False,
    "engine": "auto",
    "keep_bits": None,
}


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
        ("--pixel-size 0.1 --frame-interval 0.05", 7.0,
         {"pixel_size_um": (0.1, 0.1), "frame_interval_s": 0.05}),
        ("--pixel-size 0.1,0.2 --channel-name a --channel-name b", 7.0,
         {"pixel_size_um": (0.1, 0.2), "channel_names": ("a", "b")}),
        ("--engine dask-image --cuda --parallel --progress", 7.0,
         {"engine": "dask-image", "cuda": True, "parallel": True, "progress": True}),
        ("--codec small --keep-bits 12 --memory-limit 4GB", 7.0,
         {"codec": "small", "keep_bits": 12, "memory_limit": "4GB"}),
        ("--resume", 7.0, {"resume": True}),
        ("-r 5 --overwrite", (5.0, 5.0), {"overwrite": True}),
    ],
)  # fmt: skip
def test_run_passes_its_options_on(monkeypatch, options, radii, changed):
    command = ("run", "a.tif", "b.tif", "-o", "out.zarr", *options.split())
    (sources, output), keywords = called(monkeypatch, run, "run_background", *command)
    assert sources == ["a.tif", "b.tif"]
    assert str(output) == "out.zarr"
    assert keywords == {**DEFAULTS, **BACKGROUND, "steps": [SpatialMean(radii)], **changed}


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
    rows = [line.split() for line in shown.stdout.splitlines()]
    cells = ["11×20×24", "11×20×24", "6,", "10", "px", "0.861458"]  # frames, chunks, radii, factor
    heads = ["channel", "frames×y×x", "chunks", "radius", "(y,", "x)", "noise", "correction"]
    assert heads in rows
    assert ["0", *cells] in rows
    assert ["1", *cells] in rows
    for i, name in enumerate(("movie.tif", "movie.zarr")):
        assert f"source {i}: {folder / name}" in shown.stdout
    assert "smlmlp-dask" in shown.stdout


def test_info_says_how_channels_were_recorded(folder):
    options = ["--pixel-size", "0.1,0.11", "--frame-interval", "0.05"]
    names = ["--channel-name", "Cy5", "--channel-name", "a\nb"]
    result = call("run", "movie.tif", "movie.zarr", "-o", "out.zarr", *options, *names)
    assert result.exit_code == 0, result.output
    shown = call("info", "out.zarr").stdout
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "channel 0: Cy5, pixel 0.1×0.11 µm (y×x), a frame every 0.05 s" in lines
    assert "channel 1: a\\nb, pixel 0.1×0.11 µm (y×x), a frame every 0.05 s" in lines
    stored = json.loads(call("info", "out.zarr", "--json").stdout)
    expected = {
        "name": "Cy5",
        "pixel_size_y_um": 0.1,
        "pixel_size_x_um": 0.11,
        "frame_interval_s": 0.05,
        "exposure_s": None,
        "colour": None,
        "gain": None,
        "baseline_counts": None,
    }
    assert expected.items() <= stored["channels"][0].items()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--pixel-size 0", "pixel_size_um=(0.0, 0.0): pass micrometres above 0"),
        ("--pixel-size a", "'a' is neither a size like 0.1 nor a pair"),
        ("--pixel-size 1,2,3", "'1,2,3' is neither a size like 0.1 nor a pair"),
        ("--frame-interval nan", "frame_interval_s=nan: pass seconds above 0"),
        ("--channel-name a --channel-name b", "2 names for 1 channel"),
    ],
)
@pytest.mark.parametrize("dry", ["", "--dry-run"])
def test_how_channels_were_recorded_is_checked_first(folder, options, said, dry):
    result = call("run", "movie.tif", "-o", "out.zarr", *options.split(), *dry.split())
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not Path("out.zarr").exists()


def test_dry_run_shows_the_plan_and_writes_nothing(folder):
    result = call("run", "movie.zarr", "movie.tif", "-o", "out.zarr", "--dry-run")
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0] == "channel 0: 11×20×24, 10.6 kB, in 1 block of 11×20×24"
    assert "read: every pixel is decoded once" in lines
    assert any(line.startswith("memory: up to ") for line in lines)
    assert any(line.startswith("output: 42.2 kB before compression, about ") for line in lines)
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
    first, system, *packages = call("--version").stdout.splitlines()
    assert first == f"smlmlp-dask {__version__}"
    assert system.startswith(f"Python {platform.python_version()}, {platform.system()} ")
    for name in ("numpy", "scipy", "numba", "dask", "dask-image", "distributed", "zarr", "h5py"):
        assert f"{name} {version(name)}" in ", ".join(packages).split(", ")


@pytest.mark.parametrize("command", sorted(smlmlp.commands))
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
    assert result.stderr.endswith("gone.zarr does not exist: check the path\n")


def test_a_fault_of_our_own_is_not_hidden(folder, monkeypatch):
    def job(*arguments, **keywords):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(run, "run_background", job)
    assert isinstance(call("run", "a", "-o", "b").exception, ZeroDivisionError)


# ---- what scripts read ---------------------------------------------------------------------------


def test_json_of_a_job_from_plan_to_verify(folder):
    options = ["movie.tif", "movie.zarr", "--radius", "2,3", "--frames", "1:", "-o", "out.zarr"]
    plan = json.loads(call("run", *options, "--dry-run", "--json").stdout)
    assert not Path("out.zarr").exists()
    sizes = {"frames": 10, "height_pix": 20, "width_pix": 24}
    assert [sizes.items() <= channel.items() for channel in plan["channels"]] == [True, True]
    assert plan["tasks"] == sum(channel["blocks"] for channel in plan["channels"]) == 2
    assert plan["output_bytes"] == 2 * 4 * 10 * 20 * 24
    assert plan["projected_bytes"] > plan["channels"][0]["block_bytes"]

    result = call("run", *options, "--json")
    assert result.stderr == ""
    stored = json.loads(result.stdout)
    assert stored == json.loads(call("info", "out.zarr", "--json").stdout)
    assert stored["path"] == "out.zarr"
    assert stored["finished"] is True
    assert stored["blocks"] == stored["blocks_done"] == plan["tasks"]
    assert stored["sources"] == [str(folder / "movie.tif"), str(folder / "movie.zarr")]
    assert stored["selection"]["frames"] == [1, None, None]
    expected = {
        **sizes,
        "channel": 1,
        "radius_y_pix": 2.0,
        "radius_x_pix": 3.0,
        "sigma_y_pix": 1.0,
        "sigma_x_pix": 1.5,
        "noise_correction": float(noise_correction(1, 1.5)),
    }
    assert expected.items() <= stored["channels"][1].items()
    assert {k: stored["channels"][1][f"chunk_{k}"] for k in sizes} == sizes

    verified = json.loads(call("verify", "out.zarr", "--deep", "--json").stdout)
    assert verified == {
        "path": "out.zarr",
        "whole": True,
        "chunks_checked": 2,
        "blocks_recomputed": 2,
        "problems": [],
        "repaired": [],
        "not_compared": [],
    }
    Path("out.zarr/channel_1/0/c/0/0/0").unlink()
    broken = call("verify", "out.zarr", "--json")
    assert broken.exit_code == 1
    assert json.loads(broken.stdout) == {
        **verified,
        "whole": False,
        "blocks_recomputed": 0,
        "problems": ["channel_1/0/c/0/0/0: missing; verify --repair computes it again"],
    }


def test_json_of_the_demo(folder):
    shown = json.loads(call("demo", "--frames", "3", "--json").stdout)
    assert shown["store"]["finished"] is True
    assert [check["channel"] for check in shown["checks"]] == [0, 1]
    assert all(100 < check["known_background_counts"] < 400 for check in shown["checks"])
    assert shown["pixels_per_second"] > 0
    assert Path(shown["picture_path"]).exists()


def test_a_whole_store_whose_movie_has_gone(folder):
    call("run", "movie.tif", "-o", "out.zarr")
    Path("movie.tif").rename("elsewhere.tif")
    assert call("verify", "out.zarr").exit_code == 0
    deep = call("verify", "out.zarr", "--deep")
    assert deep.exit_code == 3
    assert deep.stdout.splitlines() == [
        f"channel_0: not compared: {folder / 'movie.tif'} does not exist: check the path",
        "1 chunk checked: no problems",
        "the store is whole; it was not compared with all of its movie",
    ]
    document = json.loads(call("verify", "out.zarr", "--deep", "--json").stdout)
    assert document["whole"] is True
    assert len(document["not_compared"]) == 1
    Path("out.zarr/channel_0/0/c/0/0/0").unlink()
    assert call("verify", "out.zarr", "--deep").exit_code == 1


def keys(document):
    if isinstance(document, dict):
        for key, value in document.items():
            yield key
            if key != "versions":  # those are packages
                yield from keys(value)
    elif isinstance(document, list):
        for value in document:
            yield from keys(value)


WORDS = {
    *("run", "convert", "info", "verify", "radius", "demo", "formats", "run --dry-run"),
    *("--json", "--deep", "--for-workers", "_pix", "_bytes", "_counts"),
    *("background", "signal", "snr", "mean_background", "raw", "mean", "median", "opening"),
    *("gain", "baseline", "variance", "window_fr"),  # of jobs that have more than the one below
}
"""In double backquotes where keys are documented, and no key of the documents below."""


def test_every_key_is_documented_and_there(folder):
    call("run", "movie.tif", "-o", "out.zarr")
    commands = ["info out.zarr", "verify out.zarr", "run movie.tif -o b.zarr --dry-run"]
    commands += ["demo --frames 1", "info movie.tif", "formats", "convert movie.tif -o c.zarr"]
    commands += ["radius movie.tif"]
    documented = set(re.findall("``(.*?)``", documents.__doc__.replace("\n", " ")))
    seen = set()
    for command in commands:
        shown = set(keys(json.loads(call(*command.split(), "--json").stdout)))
        assert shown <= documented, command
        seen |= shown
    assert documented - seen == WORDS - seen


def test_json_of_an_unfinished_store(folder):
    unfinished(folder)
    shown = json.loads(call("info", "out.zarr", "--json").stdout)
    assert shown["finished"] is False
    assert (shown["blocks_done"], shown["blocks"]) == (0, 1)
    assert shown["channels"][0]["frames"] == 11


@pytest.mark.parametrize("command", ["run gone.tif -o out.zarr", "info gone", "verify gone"])
def test_with_json_an_error_is_a_line_on_stderr(folder, command):
    result = call(*command.split(), "--json")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1


def unfinished(folder):
    call("run", "movie.tif", "-o", "out.zarr")
    attributes = folder / "out.zarr/zarr.json"
    attributes.write_text(attributes.read_text().replace('"finished": true', '"finished": false'))


# ---- terminals, logs, shells ---------------------------------------------------------------------


def start(*arguments, **environment):
    command = [sys.executable, "-m", "smlmlp_dask", *arguments]
    environment = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, check=False, env=environment)


def in_a_terminal(*arguments, columns=80, **environment):
    """Run a command whose three streams are a terminal; return all that it wrote there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    environment = {**kept, "TERM": "xterm-256color", **environment}
    command = [sys.executable, "-m", "smlmlp_dask", *arguments]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        written = b""
        with suppress(OSError):  # its end
            while piece := os.read(ours, 65536):
                written += piece
    os.close(ours)
    return process.returncode, written.decode()


@pytest.mark.parametrize("columns", [40, 80])
def test_in_a_terminal_an_error_breaks_between_words_and_stays_one_line(folder, columns):
    code, shown = in_a_terminal("info", "moive.tif", columns=columns, NO_COLOR="1")
    assert code == 2
    *lines, end = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).split("\r\n")
    assert (len(lines), end) == (1, "")
    rows = [lines[0][i : i + columns] for i in range(0, len(lines[0]), columns)]
    assert len(rows) > 1
    words = {word for row in rows for word in row.split()}
    assert {"exist:", "did", "you", "mean", "movie.tif?"} <= words
    logged = start("info", "moive.tif").stderr.decode()
    assert " ".join(lines[0].split()) == logged.rstrip("\n"), "a log has no more spaces"


def test_in_a_terminal_facts_of_a_store_break_between_words(folder):
    assert start("run", "movie.tif", "-o", "out.zarr").returncode == 0
    code, shown = in_a_terminal("info", "out.zarr", NO_COLOR="1")
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).splitlines()
    versions = next(i for i, line in enumerate(lines) if line.startswith("versions: "))
    assert code == 0
    assert max(map(len, lines[versions:-1])) <= 80
    piped = start("info", "out.zarr").stdout.decode()
    assert "".join(piped.split()) == "".join("".join(lines).split())


def test_a_bar_of_a_finished_job_has_no_unknown_speed(folder):
    assert start("run", "movie.tif", "-o", "out.zarr").returncode == 0
    code, shown = in_a_terminal("run", "movie.tif", "-o", "out.zarr", "--resume")
    assert code == 0, shown
    assert "100%" in shown
    assert "? Mpx/s" not in re.split("[\r\n]+", shown[shown.index("100%") :])[0]


COLOUR = re.compile(r"\x1b\[[0-9;]*[1-9][0-9;]*m")


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 120])
def test_in_a_terminal_a_bar_fits_its_line(folder, columns):
    code, shown = in_a_terminal("run", "movie.tif", "-o", "out.zarr", columns=columns)
    assert code == 0, shown
    assert COLOUR.search(shown)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    bars = [line for line in re.split("[\r\n]+", plain) if "/1 block" in line]
    assert re.search(r"100% 1/1 block (?:\d+ Mpx/s)? *in [\d.]+ s$", bars[-1].rstrip())
    # beside it there is room for the ^C that a terminal shows, which would wrap the line
    assert max(map(len, bars)) <= columns - 2


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_a_terminal_without_colour(folder, environment):
    code, shown = in_a_terminal("run", "movie.tif", "-o", "out.zarr", **environment)
    assert code == 0, shown
    assert "100" in shown
    assert "11×20×24" in shown
    assert not re.search(r"\x1b\[[0-9;]*3[0-9][0-9;]*m", shown)
    if "TERM" in environment:
        assert "\x1b" not in shown
    code, shown = in_a_terminal("run", "gone.tif", "-o", "b.zarr", **environment)
    assert code == 2
    assert "Error: " in re.sub(r"\x1b\[[0-9;]*m", "", shown)


@pytest.mark.slow
def test_what_is_piped_has_no_control_characters(folder):
    done = start("run", "movie.tif", "-o", "out.zarr", "--progress", PYTHONUTF8="1")
    assert done.returncode == 0
    assert b"\x1b" not in done.stdout + done.stderr
    assert b"\r" not in done.stdout + done.stderr
    assert re.fullmatch(rb"100%: 1/1 block after [\d.]+ s, [\d,]+ Mpx/s\n", done.stderr), (
        done.stderr
    )


@pytest.mark.slow
def test_no_locale_makes_it_fail(folder):
    done = start("run", "movie.tif", "-o", "out.zarr", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert rb"11\xd720\xd724" in done.stdout


def test_names_are_shown_as_they_are(folder):
    Path("movie.tif").rename("[bold] :smile:.tif")
    assert call("run", "[bold] :smile:.tif", "-o", "[red]out[1].zarr").exit_code == 0
    shown = call("info", "[red]out[1].zarr").stdout
    assert f"{folder}/[bold] :smile:.tif\n" in shown


def test_a_reader_that_leaves_is_no_error(folder):
    call("run", "movie.tif", "-o", "out.zarr")
    command = f"{shlex.quote(sys.executable)} -m smlmlp_dask info out.zarr --json"
    done = subprocess.run(f"{command} | true", shell=True, capture_output=True, check=False)
    assert done.stderr == b""


@pytest.mark.slow
def test_closed_streams_do_not_stop_a_job(folder):
    """The number of a closed stderr is that of the next file: no library may write there."""
    program = f"{shlex.quote(sys.executable)} -m smlmlp_dask"
    for name, closed in (("a", "2>&-"), ("b", ">&-"), ("c", ">&- 2>&-")):
        command = f"{program} run movie.tif -o {name}.zarr --progress -v {closed}"
        done = subprocess.run(command, shell=True, capture_output=True, check=False)
        assert done.returncode == 0, (closed, done)
        assert open_backgrounds(f"{name}.zarr").bkgds[0].shape == MOVIE.shape
    failing = f"{program} run gone.tif -o d.zarr 2>&-"
    assert subprocess.run(failing, shell=True, check=False).returncode == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("run movie.tif -o new.zarr", 0),
        ("run movie.tif -o new.zarr --json", 0),
        ("run movie.tif --dry-run -o new.zarr", 0),
        ("info out.zarr", 0),
        ("info out.zarr --json", 0),
        ("info movie.tif", 0),
        ("formats", 0),
        ("convert movie.tif -o new.zarr", 0),
        ("verify out.zarr", 0),
        ("verify damaged.zarr", 1),
        ("report out.zarr", 0),
        ("plot out.zarr", 0),
    ],
)
def test_the_job_succeeds_though_nobody_reads_its_output(folder, line, code):
    call("run", "movie.tif", "-o", "out.zarr")
    shutil.copytree("out.zarr", "damaged.zarr")
    Path("damaged.zarr/channel_0/0/c/0/0/0").unlink()
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "smlmlp_dask", *line.split()]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (code, b"")


def test_verbose_says_what_is_done(folder):
    said = start("run", "movie.tif", "-o", "out.zarr", "--no-progress", "-v").stderr.decode()
    for part in (
        f"channel 0: {folder / 'movie.tif'}, (11, 20, 24) uint16; 1 block of (11, 20, 24), up to",
        " at a time, memory for them ",
        "engine fused",
        "out.zarr: 0 of 1 block done",
        "out.zarr: finished",
    ):
        assert part in said
    assert all("INFO smlmlp_dask." in line for line in said.splitlines())


def test_the_log_of_a_long_job_is_short(monkeypatch, capsys):
    clock = iter(range(0, 10**6, 3))
    monkeypatch.setattr(progress, "monotonic", lambda: float(next(clock)))
    whole, before = progress.Amount(10_000, 10_000), progress.Amount(5_000, 5_000)
    with progress.progress_bar(whole, before, lambda: 3, shown=True) as advance:
        for _ in range(5_000):
            advance(1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 50  # a percent and more than ten seconds apart
    assert lines[0].startswith(
        "51%: 5,100/10,000 blocks after 5 min, 0 Mpx/s, 3 workers, 4 h 5 min"
    )
    assert lines[-1].startswith("100%: 10,000/10,000 blocks after 4 h 10 min, ")
    assert "left" not in lines[-1]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell):
    done = start(_SMLMLP_DASK_COMPLETE=f"{shell}_source")
    assert done.returncode == 0
    assert b"_SMLMLP_DASK_COMPLETE=" + shell.encode() + b"_complete" in done.stdout
    checker = shutil.which(shell)
    if checker:
        subprocess.run([checker, "-n"], input=done.stdout, check=True)


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("smlmlp-dask ", {"demo", "info", "run", "verify", "report"}),
        ("smlmlp-dask run --me", {"--memory-limit"}),
        ("smlmlp-dask run movie.tif --codec ", set(get_args(Codec))),
        ("smlmlp-dask run movie.tif --engine ", set(get_args(Engine))),
        ("smlmlp-dask verify --", {"--deep", "--sample", "--json", "--verbose", "--help"}),
    ],
)
def test_completion_of_commands_options_and_values(line, completions):
    environment = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    done = start(_SMLMLP_DASK_COMPLETE="bash_complete", **environment)
    offered = {entry.partition(",")[2] for entry in done.stdout.decode().splitlines()}
    assert completions <= offered


def test_completion_leaves_files_to_the_shell():
    environment = {"COMP_WORDS": "smlmlp-dask run mov", "COMP_CWORD": "2"}
    done = start(_SMLMLP_DASK_COMPLETE="bash_complete", **environment)
    assert done.stdout == b"file,mov\n"


@pytest.mark.parametrize(
    "command",
    [
        "--version",
        "run movie.tif -o out.zarr --no-progress --write background --write signal --pedestal 100",
    ],
)
def test_in_a_terminal_words_of_results_are_not_cut_in_two(folder, command):
    code, shown = in_a_terminal(*command.split(), NO_COLOR="1")
    assert code == 0
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).split("\r\n")
    edges = [line[at - 1 : at + 1] for line in lines for at in range(80, len(line), 80)]
    assert [edge for edge in edges if " " not in edge] == []


# ---- Ctrl-C --------------------------------------------------------------------------------------


def test_a_check_that_is_interrupted_is_no_damage(monkeypatch):
    """Which exit code 1 would say."""

    def end(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(verify, "verify_backgrounds", end)
    done = call("verify", "any.zarr")
    assert done.exit_code == 130
    assert done.stderr == "Error: interrupted by SIGINT\n"


def test_ctrl_c_while_python_imports(monkeypatch, capsys):
    imported = builtins.__import__

    def end(name, *arguments):
        if name == "app":
            raise KeyboardInterrupt
        return imported(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", end)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "Error: interrupted by SIGINT; nothing was done yet\n"
