"""The page that tells of a store: what it says, that it stands alone, and that names do no harm."""

import base64
import io
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import tifffile
import zarr
from click.testing import CliRunner

from smlmlp_dask import run_spatial_mean
from smlmlp_dask.cli import smlmlp

MOVIE = np.random.default_rng(3).poisson(200, (12, 20, 24)).astype(np.uint16)
VOID = {"meta", "img", "link", "br", "hr", "input"}


class Page(HTMLParser):
    """What a reader sees, and whether the tags are nested as they should."""

    def __init__(self, path):
        super().__init__()
        self.text, self.images, self.links, self.open = "", [], [], []  # what is open: tags
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href"):
                (self.images if tag == "img" else self.links).append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += " "
        if self.open[-1:] != ["style"]:
            self.text += data


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("movie.tif", MOVIE, photometric="minisblack")
    return tmp_path


def report(*arguments):
    return CliRunner().invoke(smlmlp, ["report", *arguments])


def page(*arguments, path="out.html"):
    result = report("out.zarr", *arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"report: {path}\n"
    return Page(Path(path))


def unfinish():
    file = Path("out.zarr/zarr.json")
    file.write_text(file.read_text().replace('"finished": true', '"finished": false'))


def test_it_says_what_a_reviewer_asks(folder):
    run_spatial_mean(
        "movie.tif", "out.zarr", [(6, 10), (7, 7)],
        bboxes=[[(0, 0, 12, 20), (12, 0, 24, 20)]], keep_bits=12,
    )  # fmt: skip
    shown = page()
    for part in (
        "Finished: every pixel is stored (2 of 2 blocks)",
        "channel 0: radius 6 × 10 px (y × x), noise correction 0.861458;",
        "channel 1: radius 7 × 7 px (y × x), noise correction 0.852681.",
        "(engine fused, version 1)",
        "rounded to 12 mantissa bits: a relative error of at most 0.00012",
        "12 × 20 × 12",
        "Chunks compared with their checksums (CRC-32C): 2. All are as they were written.",
        str(folder / "movie.tif"),
        "Unchanged since",
        "[[[0, 0, 12, 20], [12, 0, 24, 20]]]",
        "channel 1, along y: reaches 9 px 0.11435653, 0.1098133,",
        "numpy " + np.__version__,
    ):
        assert part in shown.text, part
    (image,) = shown.images
    png = base64.b64decode(image.removeprefix("data:image/png;base64,"), validate=True)
    assert matplotlib.image.imread(io.BytesIO(png)).std() > 0.05
    assert shown.links == []
    assert "http" not in Path("out.html").read_text()


def test_an_unfinished_store(folder):
    run_spatial_mean("movie.tif", "out.zarr")
    unfinish()
    shown = page("-o", "later.html", path="later.html")
    assert "Not finished: 0 of 1 blocks" in shown.text
    assert "Not verified: only a finished store can be" in shown.text
    assert "No picture: the store is not finished" in shown.text
    assert shown.images == []


def test_without_the_movie(folder):
    run_spatial_mean("movie.tif", "out.zarr")
    Path("movie.tif").unlink()
    shown = page()
    assert "sources cannot be compared:" in shown.text
    assert "No picture: sources cannot be compared:" in shown.text
    assert "All are as they were written" in shown.text


def test_with_another_movie(folder):
    run_spatial_mean("movie.tif", "out.zarr")
    tifffile.imwrite("movie.tif", MOVIE[:5], photometric="minisblack")
    shown = page("--no-verify")
    assert "sources have changed since" in shown.text
    assert "Not verified." in shown.text
    assert shown.images == []


def test_damage_is_told(folder):
    run_spatial_mean("movie.tif", "out.zarr")
    chunk = Path("out.zarr/channel_0/0/c/0/0/0")
    chunk.write_bytes(b"x" + chunk.read_bytes()[1:])
    shown = page()
    assert "Problems: 1. channel_0/0/c/0/0/0: damaged" in shown.text
    assert "No picture: " in shown.text


def test_a_channel_without_frames(folder):
    zarr.create_array("empty.zarr", shape=(0, 20, 24), chunks=(1, 20, 24), dtype="u2")
    run_spatial_mean("empty.zarr", "out.zarr")
    assert "No picture: there is a channel without frames" in page().text


def test_names_do_no_harm(folder):
    name = "<script>alert(1)</script>\u202e{{ 7 * 7 }}.tif".replace("/", "")
    Path("movie.tif").rename(name)
    run_spatial_mean(name, "out.zarr")
    shown = page()
    assert "<script>" not in Path("out.html").read_text()
    assert "<script>alert(1)<script>\\u202e{{ 7 * 7 }}.tif" in shown.text


def test_wide_kernels_are_cut_short(folder):
    run_spatial_mean("movie.tif", "out.zarr", 200.0)
    text = page().text
    assert "reaches 257 px" in text
    assert "and 198 more" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.zarr"], "gone.zarr does not exist"),
        (["out.zarr", "-o", "movie.tif"], "movie.tif exists: delete it, or choose another"),
        (["out.zarr", "-o", "gone/a.html"], "gone is no folder: choose one with --output"),
        (["damaged.zarr"], "damaged.zarr is damaged"),
    ],
)
def test_what_is_refused(folder, arguments, message):
    run_spatial_mean("movie.tif", "out.zarr")
    run_spatial_mean("movie.tif", "damaged.zarr")
    file = Path("damaged.zarr/zarr.json")
    file.write_text(file.read_text().replace('"inputs"', '"outputs"'))
    before = sorted(folder.rglob("*"))
    result = report(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert sorted(folder.rglob("*")) == before
