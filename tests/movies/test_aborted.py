"""Recordings that were cut short are refused, but for the frames that are whole.

These are taken if they, or what there is, are asked for; whatever is missing behind them.
"""

import warnings

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

from smlmlp_dask.cli import smlmlp
from smlmlp_dask.lazy.channels import open_channels
from smlmlp_dask.movies.formats import tiff_folder

from .formats.sets import (
    cut,
    edited,
    grid,
    number_of,
    planes,
    write,
    write_mmstack,
    write_ndtiff,
    write_ome,
    write_page,
    write_pages,
)


def plain(folder, keep=-300, **options):
    return cut(write(folder / "a.tif", range(9), **options), keep)


def one_header(folder, keep=-200, sizes=(9, 1), axes="TYX"):
    """ImageJ's file of one header for all images, as it writes above 4 GiB."""
    path = folder / "a.tif"
    folder.mkdir()
    numbers = [number_of(t, c) for t in range(sizes[0]) for c in range(sizes[1])]
    movie = planes(numbers).reshape(*sizes, 6, 5)
    movie = movie[:, 0] if sizes[1] == 1 else movie
    tifffile.imwrite(path, movie, imagej=True, truncate=True, metadata={"axes": axes})
    return cut(path, keep)


def ome(folder, *damage, source="m_0.ome.tif", **options):
    write_ome(folder, "m_{}.ome.tif", **options)
    for change in damage:
        change(folder)
    return folder / source


def gone(name):
    return lambda folder: (folder / name).unlink()


def shorter(name, keep):
    return lambda folder: cut(folder / name, keep)


def mm(folder, *files, change=None, **options):
    for name, places, index in files:
        write_mmstack(folder / name, places, summary={"Frames": 8, **options}, index=index)
    if change:
        change(folder)
    return folder / files[0][0]


def page_files(folder, *damage):
    write_pages(folder, [f"img_{n:03d}.tif" for n in range(5)])
    for change in damage:
        change(folder)
    return folder


def stacks(folder, keep):
    write(folder / "m_1.tif", range(4))
    cut(write(folder / "m_2.tif", range(4, 13)), keep)
    return folder


def preallocated(folder):
    """A crash leaves zeros where the next images were to be."""
    path = folder / "x_MMStack.ome.tif"
    mm(folder, (path.name, grid(range(3)), False))
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        link = tif.pages.next_page_offset
    content[link : link + 4] = len(content).to_bytes(4, "little")
    path.write_bytes(bytes(content) + bytes(4096))
    return path


FIRST, SECOND = "x_MMStack.ome.tif", "x_MMStack_1.ome.tif"

# How the set is made, and how many frames of each channel are whole.

ABORTED = {
    "plain, the last pages' headers lost": (plain, 7),
    "plain, one by one": (lambda f: plain(f, metadata=None), 7),
    "BigTIFF": (lambda f: plain(f, bigtiff=True), 7),
    "compressed": (lambda f: plain(f, -200, compression="zlib"), 8),
    "ImageJ, one header": (one_header, 5),
    "ImageJ, one header, two channels": (lambda f: one_header(f, -200, (5, 2), "TCYX"), 3),
    "OME that promises more": (
        lambda f: edited(write_ome(f, "m.ome.tif", split=""), b'SizeT="4"', b'SizeT="9"'),
        4,
    ),
    "OME, cut": (lambda f: ome(f, shorter("m_0.ome.tif", -99), split="", t=8), 7),
    "OME, two channels in one file, cut": (
        lambda f: ome(f, shorter("m_0.ome.tif", -99), split="", c=2, order="XYCZT"),
        3,
    ),
    "OME set, last file missing": (lambda f: ome(f, gone("m_3.ome.tif")), 3),
    "OME set, last two files missing, two channels": (
        lambda f: ome(f, gone("m_3.ome.tif"), gone("m_2.ome.tif"), c=2),
        2,
    ),
    "OME set, the last file of a channel cut": (
        lambda f: ome(f, shorter("m_1.ome.tif", -99), c=2, split="c"),
        3,
    ),
    "OME set, last file empty": (lambda f: ome(f, shorter("m_3.ome.tif", 0)), 3),
    "Micro-Manager, stopped early": (lambda f: mm(f, (FIRST, grid(range(5)), True)), 5),
    "Micro-Manager, crashed": (lambda f: mm(f, (FIRST, grid(range(5)), False)), 5),
    "Micro-Manager, crashed between channels": (
        lambda f: mm(f, (FIRST, grid(range(5), c=2)[:-1], False), Channels=2),
        4,
    ),
    "Micro-Manager, crashed in its second file": (
        lambda f: mm(f, (FIRST, grid(range(3)), True), (SECOND, grid(range(3, 6)), False)),
        6,
    ),
    "Micro-Manager, crashed while it wrote": (
        lambda f: mm(f, (FIRST, grid(range(5)), False), change=shorter(FIRST, -120)),
        4,
    ),
    "Micro-Manager, crashed, space reserved": (preallocated, 3),
    "Micro-Manager, its last file is missing": (lambda f: mm(f, (FIRST, grid(range(3)), True)), 3),
    "NDTiff, index cut": (
        lambda f: write_ndtiff(f, [{"time": t} for t in range(7)], keep=-30),
        6,
    ),
    "NDTiff, last file missing": (
        lambda f: [write_ndtiff(f, [{"time": t} for t in range(7)]),
                   (f / "run_NDTiffStack_2.tif").unlink()][0],
        6,
    ),
    "pages, the last cut": (lambda f: page_files(f, shorter("img_004.tif", -9)), 4),
    "pages, the last empty": (lambda f: page_files(f, shorter("img_004.tif", 0)), 4),
    "stacks, the last cut": (lambda f: stacks(f, -300), 11),
    "stacks, the last empty": (lambda f: stacks(f, 0), 4),
}  # fmt: skip


def channels(case):
    return range(2 if "two channels" in case or "channel cut" in case or "between" in case else 1)


@pytest.mark.parametrize("case", ABORTED)
def test_aborted_recordings(tmp_path, case):
    build, whole = ABORTED[case]
    source = build(tmp_path / "set")
    with pytest.raises(ValueError, match=rf"--frames 0:{whole}\).*--salvage") as error:
        open_channels(source)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="cut short"):
        open_channels(source, frames=slice(0, whole + 1))
    taken = open_channels(source, frames=slice(0, whole))
    with pytest.warns(UserWarning, match=rf"; {whole} of \d+ frames are taken, at") as said:
        salvaged = open_channels(source, salvage=True)
    assert len(said) == 1
    for found in (taken, salvaged):
        assert len(found) == len(channels(case))
        for c, channel in zip(channels(case), found, strict=True):
            expected = planes([number_of(t, c) for t in range(whole)])
            np.testing.assert_array_equal(channel.compute(scheduler="sync"), expected)
    with pytest.raises(ValueError, match="selects none of"):
        open_channels(source, salvage=True, frames=slice(whole, None))


@pytest.mark.parametrize(
    ("build", "match"),
    [
        # OME-XML at the end of the file is lost, and with it which pages are channels
        (lambda f: cut(write(f / "a.tif", range(8), ome=True), -9), "its description reaches to"),
        # Bio-Formats writes the count of all channels in each file of one
        (
            lambda f: write(
                f / "a.tif",
                range(4),
                metadata=None,
                description="ImageJ=\nimages=8\nchannels=2\nframes=4\nhyperstack=true\n",
            ),
            "nothing says which channel",
        ),
        (lambda f: cut(write_page(f / "a.tif", 0), -9), "cut short"),
    ],
)
def test_what_cannot_be_salvaged(tmp_path, build, match):
    source = build(tmp_path / "set")
    with pytest.raises(ValueError, match=match):
        open_channels(source, salvage=True)


def test_a_long_folder_whose_last_page_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff_folder, "MAX_HEADERS", 3)
    source = page_files(tmp_path / "set", shorter("img_004.tif", -9))
    (taken,) = open_channels(source, frames=slice(0, 4))
    np.testing.assert_array_equal(taken.compute(), planes(range(4)))


def test_a_salvaged_job(tmp_path, monkeypatch):
    """It is said on one line, and the store is resumed, verified, mended and plotted."""
    source = plain(tmp_path)
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # as in a process of its own
            return CliRunner().invoke(smlmlp, arguments)

    refused = command("run", source.name, "-o", "o.zarr")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("Error: ")
    assert not (tmp_path / "o.zarr").exists()
    done = command("run", source.name, "-o", "o.zarr", "--salvage")
    warning = f"Warning: {source} is cut short: its page"
    assert done.exit_code == 0
    assert done.stderr.startswith(warning)
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("7 of 9 frames are taken, at least 2 missing\n")
    (chunk,) = (tmp_path / "o.zarr" / "channel_0" / "0" / "c").rglob("0/0/0")
    content = chunk.read_bytes()
    chunk.unlink()
    assert command("verify", "o.zarr").exit_code != 0
    assert command("verify", "o.zarr", "--repair").exit_code == 0
    assert chunk.read_bytes() == content
    chunk.unlink()
    assert command("run", source.name, "-o", "o.zarr", "--salvage", "--resume").exit_code == 0
    assert chunk.read_bytes() == content
    plotted = command("plot", "o.zarr", "-o", "p.png")
    assert plotted.exit_code == 0
    assert plotted.stderr.startswith(warning)
