"""The page that tells of a store: what it says, that it stands alone, and that names do no harm."""

import base64
import io
import os
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import tifffile
import zarr
from matplotlib.text import Text

from smlmlp_dask import run_spatial_mean, simulate_movie
from smlmlp_dask.pictures.overview import plot_result, warnings_of
from smlmlp_dask.pictures.samples import sample_channels
from tests.commands import MOVIE, call

VOID = {"meta", "img", "link", "br", "hr", "input"}


class Page(HTMLParser):
    """What a reader sees, and whether the tags are nested as they should."""

    def __init__(self, path):
        super().__init__()
        self.text, self.images, self.links, self.open = "", [], [], []  # what is open: tags
        self.paragraphs = []  # (class, text)
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        if tag == "p":
            self.paragraphs.append((dict(attrs).get("class"), ""))
        for name, value in attrs:
            if name in ("src", "href"):
                (self.images if tag == "img" else self.links).append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += " "
        if self.open[-1:] != ["style"]:
            self.text += data
        if "p" in self.open:
            kind, text = self.paragraphs[-1]
            self.paragraphs[-1] = kind, text + data

    def of(self, kind):
        """Paragraphs of a class: good ones are green, bad ones red."""
        return [" ".join(text.split()) for found, text in self.paragraphs if found == kind]


report = partial(call, "report")


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
        "11 × 20 × 12",
        "Chunks compared with their checksums (CRC-32C): 2. All are as they were written.",
        str(folder / "movie.tif"),
        "Unchanged since the backgrounds were computed.",
        "movie.tif, columns 0\N{EN DASH}11, rows 0\N{EN DASH}19",
        "2 channels, 22 frames, 5,280 pixels in 2 blocks",
        "background (float32)",
        "begun ",
        " UTC finished ",
        "from begun to finished, any pauses included",
        "workers not recorded",
        "In a methods section: Background by local Gaussian mean: smlmlp-dask",
        "channel 1, along y: reaches 9 px 0.11435653, 0.1098133,",
        "numpy " + np.__version__,
    ):
        assert part in shown.text, part
    assert len(shown.images) == 2 * PICTURES
    for image in shown.images:
        png = base64.b64decode(image.removeprefix("data:image/png;base64,"), validate=True)
        assert matplotlib.image.imread(io.BytesIO(png)).std() > 0.03
    assert shown.links == []
    assert "http" not in Path("out.html").read_text()


def test_it_says_how_channels_were_recorded(folder):
    run_spatial_mean(
        "movie.tif", "out.zarr", pixel_size_um=0.1, frame_interval_s=0.05, channel_names="<b>Cy5"
    )
    shown = page()
    assert "channel 0: <b>Cy5, pixel 0.1 µm, a frame every 0.05 s" in shown.text


def test_what_is_not_known_is_not_said(folder):
    run_spatial_mean("movie.tif", "out.zarr")
    assert "How they were recorded" not in page().text


def test_an_unfinished_store(folder):
    run_spatial_mean("movie.tif", "out.zarr")
    unfinish()
    shown = page("-o", "later.html", path="later.html")
    assert "Not finished: 0 of 1 block stored so far." in shown.text
    assert "Not verified: only a finished store can be" in shown.text
    assert "No picture: the store is not finished" in shown.text
    assert shown.images == []


def two_channels():
    tifffile.imwrite("other.tif", MOVIE[:, :16], photometric="minisblack")
    run_spatial_mean(["movie.tif", "other.tif"], "out.zarr")


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda: Path("movie.tif").unlink(), "movie.tif does not exist"),
        (
            lambda: tifffile.imwrite("movie.tif", MOVIE[:5], photometric="minisblack"),
            "movie.tif has changed since its background was computed",
        ),
    ],
    ids=["gone", "changed"],
)
def test_without_a_movie_the_other_channels_are_drawn(folder, harm, reason):
    two_channels()
    harm()
    shown = page()
    assert f"Channel 0, no raw frame: {folder}/{reason}" in shown.text
    assert f"Channel 0: {folder}/{reason}" in shown.text.split(" Sources ")[1]
    assert "Unchanged since" not in shown.text
    assert "Channel 0, frame 5 of 0\N{EN DASH}10" in shown.text
    assert len(shown.images) == PICTURES + 3  # without raw and signal
    assert WHOLE in shown.of("good")


WHOLE = "Finished: every pixel is stored (2 of 2 blocks), and every chunk is as it was written."
PICTURES = len(("raw", "background", "signal", "level", "kernels"))
DAMAGED = "Damaged, though the store was finished:"
REPAIR = "Repair it by smlmlp-dask verify --repair out.zarr , or run the job once more"


AGAIN = "verify --repair computes it again"


def harmed(number, harm):
    harm(Path(f"out.zarr/channel_{number}/0/c/0/0/0"))


def spoil(chunk):
    chunk.write_bytes(b"x" + chunk.read_bytes()[1:])


@pytest.mark.parametrize(("harm", "state"), [(spoil, "damaged"), (Path.unlink, "missing")])
def test_damage_comes_first(folder, harm, state):
    two_channels()
    harmed(1, harm)
    shown = page()
    top = shown.text.split(" Report written ")[0]
    assert f"Background of out.zarr {DAMAGED} channel_1/0/c/0/0/0: {state}; {AGAIN} Repair" in top
    assert REPAIR in top
    assert DAMAGED in shown.of("bad")
    assert shown.of("good") == ["Unchanged since the backgrounds were computed."]
    assert "Channel 0, frame 5 of 0\N{EN DASH}10" in shown.text
    remedy = f"is {state}: repair it by smlmlp-dask verify --repair {folder}/out.zarr"
    assert any(line.startswith("Channel 1: chunk c/0/0/0") and line.endswith(remedy)
               for line in shown.of("bad"))  # fmt: skip
    assert len(shown.images) == PICTURES


def test_damage_that_needs_a_movie_that_is_gone(folder):
    two_channels()
    harmed(1, spoil)
    Path("other.tif").unlink()
    assert "both need the movies as they were" in page().text


def test_much_damage_is_summarized_first(folder):
    zarr.create_array("m.zarr", shape=(30, 8, 9), chunks=(1, 8, 9), dtype="u2", fill_value=7)
    run_spatial_mean("m.zarr", "out.zarr", bboxes=[[(0, 0, 4, 4)] * 30])
    for chunk in Path("out.zarr").glob("channel_*/0/c/0/0/0"):
        chunk.unlink()
    shown = page()
    top, below = shown.text.split(" Report written ")
    assert "Damaged, though the store was finished: 30 problems." in top
    assert top.count(": missing") == 20
    assert "and 10 more, listed below" in top
    assert below.count("c/0/0/0: missing") == 30
    assert shown.images == []


def test_what_was_not_checked_is_not_called_finished(folder):
    two_channels()
    shown = page("--no-verify")
    assert "Background of out.zarr Not checked. The store was finished (2 of" in shown.text
    assert shown.of("good") == ["Unchanged since the backgrounds were computed."]
    assert "Not verified." in shown.text


def test_damage_that_drawing_meets_is_shown_though_nothing_was_checked(folder):
    two_channels()
    harmed(0, spoil)
    top = page("--no-verify").text.split(" Report written ")[0]
    assert (
        "Not all of it can be read, though the store was finished: Channel 0: chunk c/0/0/0 "
        f"(frames 0-10) of {folder}/out.zarr/channel_0/0 is damaged: repair it by smlmlp-dask "
        f"verify --repair {folder}/out.zarr The other chunks were not checked ( --no-verify )."
    ) in top


def test_it_warns_as_the_picture_does(folder):
    """Counts of a camera of 12 bits pile up below the largest that the dtype holds."""
    options = {"photons": 3000, "events_per_frame": 4.0}
    movies = [simulate_movie(30, 60, 80, seed=i, **options).movie.compute() for i in range(2)]
    tifffile.imwrite("movie.tif", movies[0], photometric="minisblack")
    tifffile.imwrite("cut.tif", np.minimum(movies[1], 400), photometric="minisblack")
    result = run_spatial_mean(["movie.tif", "cut.tif"], "out.zarr", [(7, 7), (2, 2)])
    shown = page()
    expected = [" ".join(line.split()) for line in warnings_of(sample_channels(result)[1])]
    assert len(expected) == 2
    assert "stand at the largest count, 400" in expected[0]
    assert "Radius too small" in expected[1]
    assert shown.of("bad") == [f"Channel 1. {line}" for line in expected]
    assert shown.text.index("Channel 1. Saturated") < shown.text.index(" Report written ")
    drawn = {" ".join(text.get_text().split()) for text in plot_result(result).findobj(Text)}
    assert " ".join(expected) in drawn


def test_a_channel_without_frames(folder):
    zarr.create_array("empty.zarr", shape=(0, 20, 24), chunks=(1, 20, 24), dtype="u2")
    run_spatial_mean(["empty.zarr", "movie.tif"], "out.zarr")
    shown = page()
    assert "channel 0 has no frames: there is nothing to draw" in shown.text
    assert "Channel 1, frame 5 of 0\N{EN DASH}10" in shown.text


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
        (["out.zarr", "-o", "gone/a.html"], "gone is not a folder: choose one with --output"),
        (
            ["damaged.zarr"],
            "damaged.zarr has damaged metadata (zarr.json is not as it was written): repair",
        ),
        (["out.zarr", "-o", "out.zarr/page.html"], "the page out.zarr/page.html lies inside"),
        (["out.zarr", "-o", "out.zarr/channel_0/page.html"], "lies inside"),
        (["out.zarr", "-o", "link/page.html"], "the page link/page.html lies inside"),
        (["zarr.zarr", "-o", "movie.zarr/page.html"], "the page movie.zarr/page.html lies inside"),
        (["zarr.zarr", "-o", "movie.zarr/c/0/page.html"], "lies inside"),
    ],
)
def test_what_is_refused(folder, arguments, message):
    run_spatial_mean("movie.tif", "out.zarr")
    zarr.create_array("movie.zarr", data=MOVIE)
    run_spatial_mean("movie.zarr", "zarr.zarr")
    Path("link").symlink_to("out.zarr")
    run_spatial_mean("movie.tif", "damaged.zarr")
    file = Path("damaged.zarr/zarr.json")
    file.write_text(file.read_text().replace('"inputs"', '"outputs"'))
    before = sorted(folder.rglob("*"))
    result = report(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


def test_a_copy_without_its_times_says_so(folder):
    """Rather than the time that copying took."""
    run_spatial_mean("movie.tif", "out.zarr")
    os.utime("out.zarr/records/metadata.json")
    assert "time not known: the times of the store's files are not those of a run" in page().text


def test_it_is_legible_on_small_dark_screens_and_on_paper(folder):
    run_spatial_mean("movie.tif", "out.zarr")
    page()
    text = Path("out.html").read_text()
    for rule in ("@media (prefers-color-scheme: dark)", "@media (max-width:", "@media print"):
        assert rule in text
