"""What `info` shows of a movie before any run, and `formats` of all."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from smlmlp_dask import run_spatial_mean
from smlmlp_dask.cli import sources
from smlmlp_dask.cli.sources import describe, print_source
from smlmlp_dask.cli.tables import console
from smlmlp_dask.installing import install_command
from smlmlp_dask.movies.acquisition import Acquisition
from smlmlp_dask.movies.described import DescribedMovie
from smlmlp_dask.movies.formats.table import FORMATS
from smlmlp_dask.movies.recording import Position, Recording
from tests.commands import MOVIE, call

TWO = np.stack([MOVIE, MOVIE + 1], axis=1)


def lines(*arguments):
    """What is printed, as a name → text for each line."""
    shown = call("info", *arguments)
    assert (shown.exit_code, shown.stderr) == (0, "")
    facts = [line.partition(":") for line in shown.stdout.splitlines()[1:]]
    return {name.strip(): text.strip() for name, _, text in facts}


def ome(axes="TCYX", pixels=TWO, **metadata):
    metadata = {"axes": axes, **metadata}
    tifffile.imwrite("m.ome.tif", pixels, photometric="minisblack", metadata=metadata)
    return "m.ome.tif"


def positions():
    with tifffile.TiffWriter("m.ome.tif", ome=True) as file:
        for name in ("A1", "A2", "B1"):
            metadata = {"axes": "TYX", "Name": name}
            file.write(MOVIE, photometric="minisblack", metadata=metadata)
    return "m.ome.tif"


def numbered(*numbers):
    Path("run").mkdir()
    for number in numbers:
        name = f"run/img_{number:03}.tif"
        tifffile.imwrite(name, MOVIE[number], photometric="minisblack")
    return "run"


def zarr_array():
    zarr.create_array("m.zarr", data=MOVIE, chunks=(4, 20, 24))
    return "m.zarr"


def headerless():
    MOVIE.astype(">u2").tofile("movie.raw")
    return "movie.raw --raw-shape 11,20,24 --raw-dtype >u2"


def camera():
    return ome(
        PhysicalSizeX=0.1,
        PhysicalSizeY=0.12,
        PhysicalSizeXUnit="µm",
        PhysicalSizeYUnit="µm",
        TimeIncrement=0.05,
        TimeIncrementUnit="s",
        Channel={"Name": ["561 nm", "640 nm"]},
    )


SIZE = "11×20×24 uint16, 10.6 kB"
SEEN = [
    # the source, and lines that are shown of it
    (lambda: "movie.tif", {"frames×y×x": SIZE, "stored in": "units of 1×20×24"}),
    (zarr_array, {"frames×y×x": SIZE, "stored in": "units of 4×20×24"}),
    (headerless, {"format": "headerless, 10.6 kB on disk", "frames×y×x": SIZE}),
    (ome, {"channels": "2", "frames×y×x": SIZE}),
    (camera, {"channel 0": "561 nm, pixel 0.12×0.1 µm (y×x), a frame every 0.05 s"}),
    (camera, {"channel 1": "640 nm, pixel 0.12×0.1 µm (y×x), a frame every 0.05 s"}),
    (lambda: ome("TZYX"), {"z slices": "2", "to run it, choose by --z": ""}),
    (positions, {"positions": "3", "positions 0-2": "A1, A2, B1"}),
    (positions, {"to run it, choose by --position": ""}),
    (lambda: numbered(0, 1, 2), {"frames×y×x": "3×20×24 uint16, 2.88 kB"}),
]


@pytest.mark.parametrize(("make", "expected"), SEEN)
def test_what_is_seen_of_a_source(folder, make, expected):
    shown = lines(*make().split())
    assert expected.items() <= shown.items(), shown
    assert "note" not in shown


@pytest.mark.parametrize("source", ["run", "run/*.tif"])
def test_a_missing_number_is_said(folder, source):
    numbered(1, 2, 4)
    assert "1 file is missing in the run of numbers, the first after 2" in call(
        "info", source
    ).stdout.replace("\n", " ")
    (note,) = json.loads(call("info", source, "--json").stdout)["notes"]
    assert "after 2" in note


def test_the_document_of_a_source(folder):
    document = json.loads(call("info", camera(), "--json").stdout)
    assert document.keys() == {
        *("path", "format", "disk_bytes", "default_position", "positions", "notes")
    }
    assert document["disk_bytes"] == (folder / "m.ome.tif").stat().st_size
    (position,) = document["positions"]
    assert (position["position"], position["z_slices"], position["cut_short"]) == (0, 1, None)
    assert position["channels"][1] == {
        "channel": 1,
        "name": "640 nm",
        "colour": None,
        "frames": 11,
        "height_pix": 20,
        "width_pix": 24,
        "dtype": "uint16",
        "unit_frames": 1,
        "unit_height_pix": 20,
        "unit_width_pix": 24,
        "pixel_size_y_um": 0.12,
        "pixel_size_x_um": 0.1,
        "frame_interval_s": 0.05,
        "exposure_s": None,
        "gain": None,
        "baseline_counts": None,
    }


def seen(position, disk_bytes=10**6, **recording):
    whole = Recording(path="m", format="Camera", positions=(position,))
    return describe("m", replace(whole, **recording), disk_bytes)


def test_all_that_a_camera_may_say(capsys):
    known = Acquisition(exposure_s=0.03, gain=0.24, baseline=100.0, colour="FF0000")
    movie = DescribedMovie((5, 6, 7), "uint8")
    source = seen(Position(movie=lambda *_: movie, channels=(known,)), disk_bytes=None)
    print_source(console(), source)
    shown = capsys.readouterr().out
    assert "over 100,000 files on disk" in shown
    assert (
        "exposure 0.03 s, 0.24 photoelectrons per count, baseline 100 counts, colour FF0000"
    ) in " ".join(shown.split())


def test_an_aborted_recording_says_what_is_missing(capsys):
    movie = DescribedMovie((5, 6, 7))
    position = Position(movie=lambda *_: movie, promised=8, cut_short="the power went")
    print_source(console(), seen(position))
    shown = capsys.readouterr().out
    assert "cut short:  5 of 8 frames: the power went" in shown
    assert "choose by --salvage or --frames" in shown
    (described,) = seen(position)["positions"]
    assert (described["promised_frames"], described["cut_short"]) == (8, "the power went")


def test_positions_that_differ_stand_apart(capsys):
    movies = [DescribedMovie((5, 6, 7)), DescribedMovie((5, 6, 7)), DescribedMovie((9, 6, 7))]
    places = tuple(
        Position(name=f"A{i}", movie=lambda *_, movie=movie: movie)
        for i, movie in enumerate(movies)
    )
    print_source(console(), seen(places[0], positions=places))
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert shown[2:6:3] == ["positions: 3", "stored in: units of 1×6×7"]
    assert shown[3:5] == ["positions 0-1: A0, A1", "frames×y×x: 5×6×7 uint16, 420 bytes"]
    assert shown[6:8] == ["position 2: A2", "frames×y×x: 9×6×7 uint16, 756 bytes"]


def test_channels_of_different_sizes(capsys):
    movies = [DescribedMovie((5, 6, 7)), DescribedMovie((5, 3, 7), "uint8")]
    known = (Acquisition(channel="a"), Acquisition(channel="b"))
    print_source(console(), seen(Position(movie=lambda c, _: movies[c], channels=known)))
    shown = capsys.readouterr().out
    assert "channel 1: b, 5×3×7 uint8, 105 bytes, units of 1×3×7" in " ".join(shown.split())


def test_a_source_of_very_many_files_is_not_counted(folder, monkeypatch):
    numbered(0, 1, 2)
    monkeypatch.setattr(sources, "COUNTED_FILES", 2)
    assert json.loads(call("info", "run", "--json").stdout)["disk_bytes"] is None


def test_only_metadata_are_read(folder, monkeypatch):
    """A movie of terabytes answers at once."""
    zarr.create_array("m.zarr", shape=(10**9, 512, 512), chunks=(32, 512, 512), dtype="u2")
    assert "1,000,000,000×512×512 uint16" in lines("m.zarr")["frames×y×x"]


def test_a_store_is_shown_as_a_store_and_its_channel_as_a_movie(folder):
    run_spatial_mean("movie.tif", "out.zarr")
    assert "noise correction" in call("info", "out.zarr").stdout
    assert "frames×y×x" in lines("out.zarr/channel_0")
    # damaged, but its copy says what it is
    Path("out.zarr/zarr.json").write_text("{}")
    refused = call("info", "out.zarr")
    assert refused.exit_code == 2
    assert "verify --repair" in refused.stderr


def test_formats_are_listed(monkeypatch):
    """A reader that is not installed is named with the command that installs it."""
    named = FORMATS[-1]
    monkeypatch.setattr(
        sources,
        "FORMATS",
        (
            *FORMATS,
            replace(named, name="A", suffixes=(".aa",), usual=(), library="no_such", extra="aa"),
            replace(named, name="B", library="no_such", extra="bb", python=(9, 1)),
        ),
    )
    document = json.loads(call("formats", "--json").stdout)
    known = {entry["name"]: entry for entry in document["formats"]}
    assert known["TIFF"]["installed"] is True
    assert ".tif" in known["TIFF"]["endings"]
    assert known["A"] == {
        "name": "A",
        "endings": [".aa"],
        "library": "no_such",
        "installed": False,
        "install": install_command("aa"),
        "python": "3.11",
        "python_suits": True,
    }
    assert known["B"]["python_suits"] is False
    assert install_command("aa") in " ".join(call("formats").stdout.split())
    monkeypatch.setenv("COLUMNS", "120")
    shown = call("formats").stdout
    assert "no_such (Python 9.1+)" in shown
    assert f"all readers: {install_command('formats')}" in shown
    assert sys.version_info < (9, 1)


@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
def test_every_format_names_its_endings(known):
    endings = known.usual or known.suffixes
    assert endings
    assert all(endings)
