"""Folders and sets as people have them, many of them wrong: they are refused, or read right.

None is ever joined to a movie that nobody recorded.
"""

import re
import shutil
import warnings

import numpy as np
import pytest
import tifffile
import zarr

from smlmlp_dask.movies.opening import open_stacks
from smlmlp_dask.movies.selection import Selection

from .formats.sets import (
    cut,
    edited,
    grid,
    plane,
    planes,
    write,
    write_mmstack,
    write_ndtiff,
    write_ome,
    write_page,
    write_pages,
)


def rename(*names):
    """Return what gives each file the name of the next one, and the last that of the first."""

    def change(folder):
        kept = [(folder / name).read_bytes() for name in names]
        for name, content in zip(names, [kept[-1], *kept[:-1]], strict=True):
            (folder / name).write_bytes(content)
        return folder

    return change


def builder(write, *args, then=None, source="", **options):
    """Return what writes a set, then changes it, and returns the source in its folder."""

    def build(folder):
        write(folder, *args, **options)
        if then is not None:
            then(folder)
        return folder / source

    return build


def ome(name="m_{}.ome.tif", **options):
    return builder(write_ome, name, **options)


def remove(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


def copy(name, other):
    return lambda folder: shutil.copyfile(folder / name, folder / other)


def pages(*names, **options):
    """A folder of single pages."""
    return builder(write_pages, names, **options)


def stacks(source="", then=None, **numbers):
    """Stacks: ``a_1=(0, 1)`` is the file ``a_1.tif`` of planes 0 and 1."""

    def each(folder):
        for name, part in numbers.items():
            write(folder / f"{name}.tif", part)

    return builder(each, then=then, source=source)


def mm(*files, **options):
    """A Micro-Manager set: (name, places, summary) of each file."""

    def each(folder):
        for name, places, summary, *other in files:
            write_mmstack(folder / name, places, summary=summary, **(other[0] if other else {}))

    return builder(each, **options)


def ndtiff(places, **options):
    return builder(write_ndtiff, places, **options)


def listed(count):
    """Return what keeps the first images of NDTiff's index, each one whole."""

    def change(folder):
        content, at = (folder / "NDTiff.index").read_bytes(), 0
        for _ in range(count):
            for _ in ("axes", "file"):
                at += 4 + int.from_bytes(content[at : at + 4], "little")
            at += 32
        assert at < len(content)
        (folder / "NDTiff.index").write_bytes(content[:at])

    return change


def many(pixels, *others, name="a.tif"):
    """Return a builder of a file of pages, each written with options of its own."""

    def build(folder):
        folder.mkdir()
        with tifffile.TiffWriter(folder / name) as writer:
            for page, options in [*((page, {}) for page in pixels), *others]:
                options = {"photometric": "minisblack", **options}
                writer.write(page, contiguous=False, metadata=None, **options)
        return folder / name

    return build


def imagej(axes, *sizes):
    def build(folder):
        folder.mkdir()
        pixels = planes(range(np.prod(sizes))).reshape(*sizes, *plane(0).shape)
        tifffile.imwrite(folder / "a.tif", pixels, imagej=True, metadata={"axes": axes})
        return folder / "a.tif"

    return build


NUMBERED = [f"img_{n:05d}.tif" for n in range(6)]
TWO_CHANNELS = {"Channels": 2}
TWO_POSITIONS = {"Positions": 2}
POS0, POS1 = "x_MMStack_Pos0.ome.tif", "x_MMStack_Pos1.ome.tif"
NEXT = "x_MMStack_Pos0_1.ome.tif"
TWO_FILES = [
    (POS0, grid(range(2)), {}),
    (NEXT, grid(range(2, 4)), {}),
]
TC = [{"time": t, "channel": c} for t in range(3) for c in ("A", "B")]
T = [{"time": t} for t in range(6)]

# What is right: the planes of each channel, and the warning, if there is one.

RIGHT = {
    "a long run of numbered pages": (pages(*NUMBERED), [range(6)]),
    "pages without leading zeros": (
        pages("a9.tif", "a10.tif", "a8.tif", numbers=[1, 2, 0]),
        [range(3)],
    ),
    "numbers that begin anywhere": (pages("im0998.tif", "im0999.tif", "im1000.tif"), [range(3)]),
    "hidden files of macOS": (
        pages(*NUMBERED, then=lambda f: (f / "._img_00001.tif").write_bytes(b"\0\5\26\7")),
        [range(6)],
    ),
    "notes and pictures beside": (
        pages(
            *NUMBERED,
            then=lambda f: [(f / n).write_bytes(b"x") for n in ("Thumbs.db", "a.txt", "a.png")],
        ),
        [range(6)],
    ),
    "a Zarr array beside": (
        pages(*NUMBERED, then=lambda f: zarr.create_array(f / "out.zarr", data=planes([9]))),
        [range(6)],
    ),
    "links to files": (
        pages(*NUMBERED[:5], then=lambda f: (f / NUMBERED[5]).symlink_to(f / NUMBERED[0])),
        [[0, 1, 2, 3, 4, 0]],
        "hold the same frame",
    ),
    "a gap in the numbers": (pages(*NUMBERED[:2], *NUMBERED[3:]), [range(5)], "1 file is missing"),
    "channels of an image sequence": (
        pages("t0001_c0001.tif", "t0001_c0002.tif", "t0002_c0001.tif", "t0002_c0002.tif"),
        [[0, 2], [1, 3]],
    ),
    "channels by laser": (
        stacks(cell_488nm=(0, 1), cell_561nm=(2, 3)),
        [[0, 1], [2, 3]],
    ),
    "channels by wavelength alone": (stacks(cell_488=(0, 1), cell_561=(2, 3)), [[0, 1], [2, 3]]),
    "channels by dye": (stacks(Cy3=(0, 1), Cy5=(2, 3)), [[0, 1], [2, 3]]),
    "channels by w of MetaMorph": (stacks(a_w1Cy5=(0, 1), a_w2GFP=(2, 3)), [[0, 1], [2, 3]]),
    "pages by date and time": (
        pages("20240101_100000.tif", "20240101_100001.tif", "20240102_090000.tif"),
        [range(3)],
    ),
    "stacks that follow": (stacks(movie=(0, 1), movie_1=(2, 3), movie_2=(4,)), [range(5)]),
    "stacks of Andor": (stacks(movie=(0, 1), movie_X2=(2, 3), movie_X3=(4,)), [range(5)]),
    "stacks with numbers": (stacks(m_09=(0, 1), m_10=(2, 3), m_11=(4, 5)), [range(6)]),
    "a pattern of one channel": (
        stacks("a_w1Cy5*", a_w1Cy5_t1=(0, 1), a_w1Cy5_t2=(2, 3), a_w2GFP_t1=(4, 5)),
        [range(4)],
    ),
    "files of OME along time": (ome(), [range(4)]),
    "files of OME along channels": (ome(c=2, split="c"), [range(4), range(20, 24)]),
    "the last file of an OME set": (
        ome(c=2, split="c", source="m_1.ome.tif"),
        [range(4), range(20, 24)],
    ),
    "a member that names the one with the metadata": (
        ome(c=2, split="t", metadata="first", source="m_3.ome.tif"),
        [range(4), range(20, 24)],
    ),
    "a companion file": (
        ome(c=2, split="c", metadata="companion", source="m_1.ome.tif"),
        [range(4), range(20, 24)],
    ),
    "the companion file itself": (
        ome(c=2, split="c", metadata="companion", source="set.companion.ome"),
        [range(4), range(20, 24)],
    ),
    "a folder of a companion file": (
        ome(c=2, split="c", metadata="companion"),
        [range(4), range(20, 24)],
    ),
    "one OME file that was renamed": (
        ome(split="", c=2, then=lambda f: (f / "m_0.ome.tif").rename(f / "b.tif"), source="b.tif"),
        [range(4), range(20, 24)],
    ),
    "two positions of OME, one chosen": (
        ome(p=2, split="p"),
        [range(100, 104)],
        "",
        {"position": [1]},
    ),
    "files of Micro-Manager": (mm(*TWO_FILES), [range(4)]),
    "the second file of Micro-Manager": (mm(*TWO_FILES, source=NEXT), [range(4)]),
    "a Micro-Manager file of two channels": (
        mm((POS0, grid(c=2), TWO_CHANNELS), source=POS0),
        [range(4), range(20, 24)],
    ),
    "its folder": (mm((POS0, grid(c=2), TWO_CHANNELS)), [range(4), range(20, 24)]),
    "a position of Micro-Manager by its file": (
        mm((POS0, grid(), TWO_POSITIONS), (POS1, grid(p=(1,)), TWO_POSITIONS), source=POS1),
        [range(100, 104)],
    ),
    "separate files of Micro-Manager": (
        pages(*(f"img_{t:09d}_{c}_000.tif" for t in range(2) for c in ("Cy3", "Cy5"))),
        [[0, 2], [1, 3]],
    ),
    "separate files of Micro-Manager 2": (
        pages(
            *(
                f"img_channel{c:03d}_position000_time{t:09d}_z000.tif"
                for t in range(2)
                for c in range(2)
            )
        ),
        [[0, 2], [1, 3]],
    ),
    "NDTiff of two channels": (ndtiff(TC), [range(3), range(20, 23)]),
    "NDTiff without a frame, of which nothing was recorded": (
        ndtiff([{"time": t} for t in (0, 1, 3)]),
        [[0, 1, 3]],
        "1 frame is missing in the run of numbers, the first after 1",
    ),
    "slices that are frames": (imagej("ZYX", 8), [range(8)]),
    "a name that shells and addresses read otherwise": (
        stacks(**{"cell ä#1 100% [a] {b} (2)": range(4)}, source="cell ä#1 100% [a] {b} (2).tif"),
        [range(4)],
    ),
    "a folder that holds a link to itself": (
        pages(*NUMBERED, then=lambda f: (f / "again").symlink_to(f)),
        [range(6)],
    ),
    "NDTiff by a file": (ndtiff(TC, source="run_NDTiffStack_1.tif"), [range(3), range(20, 23)]),
}

# What is wrong: a part of the one line that says so.

WRONG = {
    # channels, positions and acquisitions in one folder
    "two channels by words": (stacks(a_red=(0, 1), a_green=(2, 3)), "differ in more than a number"),
    "parts of another movie": (
        stacks(movie=(0, 1), movie_1=(2, 3), other_2=(4, 5)),
        "differ in more than a number",
    ),
    "two powers": (stacks(a_1mW=(0, 1), a_2mW=(2, 3)), "a number with a unit"),
    "two positions by name": (stacks(a_Pos0=(0, 1), a_Pos1=(2, 3)), "holds 2 positions"),
    "three cells": (stacks(cell1=(0, 1), cell2=(2, 3), cell3=(4, 5)), "holds 3 positions"),
    "two acquisitions of pages": (
        pages("run1_001.tif", "run1_002.tif", "run2_001.tif", "run2_002.tif"),
        "holds 2 positions",
    ),
    "two acquisitions by number": (
        pages("a1_001.tif", "a1_002.tif", "a2_001.tif", "a2_002.tif"),
        "differ in 2 places",
    ),
    "two acquisitions by time of day": (
        stacks(a_101500=(0, 1), a_113021=(2, 3)),
        "a_101500.tif, a_113021.tif do not follow one another",
    ),
    "a channel of alternate lasers": (
        stacks(a_0001_488=(0, 1), a_0002_561=(2, 3)),
        "lack channel 488, frame 0002",
    ),
    "two positions of a channel grid": (
        pages("s1_w1.tif", "s1_w2.tif", "s2_w1.tif", "s2_w2.tif"),
        "holds 2 positions",
    ),
    "slices of a volume": (
        pages("t1_z1.tif", "t1_z2.tif", "t2_z1.tif", "t2_z2.tif"),
        "2 slices in z",
    ),
    "two positions of OME": (ome(p=2, split="p"), "holds 2 positions"),
    "two positions of Micro-Manager": (
        mm((POS0, grid(), TWO_POSITIONS), (POS1, grid(p=(1,)), TWO_POSITIONS)),
        "holds 2 positions",
    ),
    "two acquisitions of Micro-Manager": (
        mm((POS0, grid(range(2)), {}), (NEXT, grid(range(2, 4)), {}, {"start": "11:00"})),
        "are of two acquisitions",
    ),
    "two stacks of Micro-Manager": (
        mm(("a_MMStack_Pos0.ome.tif", grid(), {}), ("b_MMStack_Pos0.ome.tif", grid(), {})),
        "b_MMStack_Pos0.ome.tif, which is not of the set",
    ),
    "a position of NDTiff": (
        ndtiff([{"time": t, "position": p} for t in range(3) for p in range(2)]),
        "holds 2 positions",
    ),
    "metadata of two channels under one name": (
        lambda folder: [
            write_ome(folder, f"m_{n}.ome.tif", split="", uuids=False, channel=f"Cy{n}").parent
            for n in (3, 4)
        ].pop(),
        "Cy3.*Cy4",
    ),
    # members that are missing
    "an OME set without its first file": (
        ome(then=remove("m_0.ome.tif")),
        "m_0.ome.tif is missing",
    ),
    "an OME set without one within": (ome(then=remove("m_1.ome.tif")), "m_1.ome.tif is missing"),
    "an OME set without its last": (
        ome(then=remove("m_3.ome.tif")),
        "m_3.ome.tif is missing.*--frames 0:3",
    ),
    "an OME set without a channel": (
        ome(c=2, split="c", then=remove("m_1.ome.tif"), source="m_0.ome.tif"),
        "m_1.ome.tif is missing",
    ),
    "one member of an OME set alone": (
        ome(metadata="first", then=remove("m_0.ome.tif"), source="m_1.ome.tif"),
        "m_0.ome.tif, which is missing",
    ),
    "members without their companion": (
        ome(metadata="companion", then=remove("set.companion.ome")),
        "set.companion.ome, which is missing",
    ),
    "Micro-Manager without its first file": (
        mm(*TWO_FILES, then=remove(POS0)),
        "misses frames: the plane t 0",
    ),
    "Micro-Manager without its last file": (
        mm(*TWO_FILES, then=remove(NEXT)),
        "cut short: .*4 frames.*--frames 0:2",
    ),
    "NDTiff without its index": (
        ndtiff(TC, then=remove("NDTiff.index")),
        "NDTiff.index is missing",
    ),
    "NDTiff without a file": (
        ndtiff(T, then=remove("run_NDTiffStack.tif")),
        "run_NDTiffStack.tif is missing",
    ),
    "a member of a grid": (
        pages("t1_c1.tif", "t1_c2.tif", "t2_c1.tif", "t3_c1.tif", "t3_c2.tif"),
        "lack channel 2, frame 2",
    ),
    "a source that is a link to nothing": (
        pages(then=lambda f: (f.mkdir(), (f / "a.tif").symlink_to(f / "gone.tif")), source="a.tif"),
        "a.tif does not exist: it is a link to a file that is gone",
    ),
    "a source that is a link to itself": (
        pages(then=lambda f: (f.mkdir(), (f / "a.tif").symlink_to("a.tif")), source="a.tif"),
        "a.tif does not exist: it is a link to a file that is gone",
    ),
    "Micro-Manager without a file within": (
        mm(
            (POS0, grid(range(2)), {"Frames": 6}),
            (NEXT, grid(range(2, 4)), {"Frames": 6}),
            ("x_MMStack_Pos0_2.ome.tif", grid(range(4, 6)), {"Frames": 6}),
            then=remove(NEXT),
        ),
        "misses frames: the plane t 2",
    ),
    "a file of Micro-Manager that was renamed": (
        mm(*TWO_FILES, then=lambda f: (f / NEXT).rename(f / "b.tif"), source="b.tif"),
        "misses frames: the plane t 0",
    ),
    "a position of OME that was renamed": (
        ome(p=2, split="p", then=lambda f: (f / "m_1.ome.tif").rename(f / "z.ome.tif")),
        "z.ome.tif, which is not of the set",
    ),
    "a page of the web in place of a frame": (
        pages(*NUMBERED, then=lambda f: (f / NUMBERED[3]).write_text("<!DOCTYPE html>" * 99)),
        "img_00003.tif cannot be read as TIFF",
    ),
    "a link to nothing": (
        pages(*NUMBERED, then=lambda f: (f / "img_00006.tif").symlink_to(f / "gone.tif")),
        "link to a file that does not exist",
    ),
    # order
    "swapped files of OME": (
        ome(then=rename("m_1.ome.tif", "m_2.ome.tif")),
        "it was renamed or replaced",
    ),
    "the file of another OME set": (
        ome(
            then=lambda f: (
                write_ome(f / "b", "n_{}.ome.tif")
                and shutil.copyfile(f / "b" / "n_2.ome.tif", f / "m_2.ome.tif")
            ),
            source="m_0.ome.tif",
        ),
        "it was renamed or replaced",
    ),
    "two numbers for one frame": (
        pages("a_1.tif", "a_01.tif", "a_2.tif"),
        "a_0?1.tif and a_0?1.tif",
    ),
    # images of another kind
    "another size": (
        pages(*NUMBERED, then=lambda f: write_page(f / NUMBERED[3], 3, plane(3)[:, :4])),
        r"img_00003.tif has frames of shape \(6, 4\)",
    ),
    "another dtype": (
        pages(*NUMBERED, then=lambda f: write_page(f / NUMBERED[3], 3, plane(3).astype("f4"))),
        "img_00003.tif has frames .* float32",
    ),
    "another size within an OME set": (
        ome(then=lambda f: edit_page(f / "m_2.ome.tif")),
        r"m_2.ome.tif has frames of shape \(6, 4\)",
    ),
    "a thumbnail": (
        pages(*NUMBERED, then=lambda f: write_page(f / "thumb.tif", 3)),
        "differ in more than a number",
    ),
    "a thumbnail of a page": (
        pages(*NUMBERED, then=lambda f: write_page(f / "img_00003_thumb.tif", 3)),
        "differ in more than a number",
    ),
    "a thumbnail at the end of a file": (
        many(planes(range(5)), (plane(5)[::2, ::2].copy(), {"subfiletype": 1})),
        r"2 image series in 6 pages, the first of shape \(5, 6, 5\)",
    ),
    "a thumbnail at the beginning of a file": (
        many(
            [],
            (plane(5)[::2, ::2].copy(), {"subfiletype": 1}),
            *((page, {}) for page in planes(range(5))),
        ),
        r"2 image series in 6 pages, the first of shape \(3, 3\)",
    ),
    "one page of 8 bits": (
        many(planes(range(3)), (plane(3).astype("u1"), {}), (plane(4), {})),
        "image series|page 3 has",
    ),
    "slices that are frames of two channels": (
        imagej("ZCYX", 8, 2),
        "8 slices in z: .*; if they are frames, save the movie with slices and frames swapped",
    ),
    "a projection": (stacks(MAX_movie=(9,), movie=(0, 1)), "differ in more than a number"),
    "a thumbnail in an OME set": (
        ome(then=lambda f: write_page(f / "thumb.tif", 3)),
        "thumb.tif, which is not of the set",
    ),
    "a colour page among gray": (
        pages(
            *NUMBERED,
            then=lambda f: write_page(
                f / NUMBERED[2], 0, np.zeros((6, 5, 3), "u1"), photometric="rgb"
            ),
        ),
        "img_00002.tif .*colour samples",
    ),
    "a colour page in a file": (
        lambda f: mixed(write(f / "a.tif", [0, 1]), np.zeros((6, 5, 3), "u1"), photometric="rgb"),
        "2 image series|colour samples|shape",
    ),
    "OME of colours": (
        ome(change=lambda xml: xml.replace('Name="C"', 'SamplesPerPixel="3"')),
        "colour samples",
    ),
    # doubled
    "a copy by Windows": (
        stacks(movie=(0, 1), then=copy("movie.tif", "movie - Copy.tif")),
        "differ in more than a number",
    ),
    "a copy by a browser": (
        stacks(movie=(0, 1), then=copy("movie.tif", "movie (1).tif")),
        "differ in more than a number",
    ),
    "a copied page": (
        pages(*NUMBERED, then=copy(NUMBERED[2], "img_00002(1).tif")),
        "differ in more than a number",
    ),
    "a stack twice": (
        stacks(movie_1=(0, 1), then=copy("movie_1.tif", "movie_2.tif")),
        "movie_1.tif and .*movie_2.tif hold the same",
    ),
    "a stack twice, once compressed": (
        stacks(movie_1=(0, 1), then=lambda f: write(f / "movie_2.tif", [0, 1], compression="zlib")),
        "movie_1.tif and movie_2.tif begin with the same frame",
    ),
    "a file of OME twice": (
        ome(then=copy("m_1.ome.tif", "m_1 (1).ome.tif")),
        r"m_1 \(1\).ome.tif, which is not of the set",
    ),
    "a file of Micro-Manager twice": (
        mm(*TWO_FILES, then=copy(NEXT, "x_MMStack_Pos0_2.ome.tif")),
        "in the set already",
    ),
    "a plane that OME places twice": (
        ome(then=lambda f: [edited(p, b'FirstT="1"', b'FirstT="0"') for p in f.iterdir()]),
        "two pages are named for frame 0",
    ),
    # patterns
    "a pattern of half an OME set": (ome(source="m_[01]*"), "matches 2 of the 4 files of a set"),
    "a pattern of half of Micro-Manager": (
        mm(*TWO_FILES, source="*Pos0.ome.tif"),
        "matches 1 of the 2 files",
    ),
    "a pattern of half of NDTiff": (ndtiff(TC, source="*Stack.tif"), "matches 1 of the 2 files"),
    "a pattern of two channels' first frames": (
        stacks("a*", a_w1Cy5_t1=(0, 1), a_w1Cy5_t2=(2, 3), a_w2GFP_t1=(4, 5)),
        "lack channel 2GFP, frame 2",
    ),
    # cut short, or more or less than metadata promise
    "a cut stack within": (
        stacks(m_1=range(9), m_2=range(9, 18), then=lambda f: cut(f / "m_1.tif", -30)),
        "m_1.tif.* is cut short",
    ),
    "a cut stack at the end": (
        stacks(m_1=range(9), m_2=range(9, 18), then=lambda f: cut(f / "m_2.tif", -30)),
        "cut short: its last file .*m_2.tif",
    ),
    "a cut page": (
        pages(*NUMBERED, then=lambda f: cut(f / NUMBERED[2], -9)),
        "img_00002.tif is cut",
    ),
    "a cut file of OME": (
        ome(then=lambda f: cut(f / "m_1.ome.tif", -9)),
        "m_1.ome.tif is cut short",
    ),
    "a cut file of Micro-Manager": (
        mm(
            (POS0, grid(range(2)), {}),
            (NEXT, grid(range(2, 4)), {}, {"index": False}),
            then=lambda f: cut(f / NEXT, -150),
        ),
        "cut short.*--frames 0:3",
    ),
    "an index of NDTiff cut short": (ndtiff(T, keep=-20), "NDTiff.index is cut short"),
    "an empty file": (
        pages(*NUMBERED, then=lambda f: (f / NUMBERED[2]).write_bytes(b"")),
        "img_00002.tif",
    ),
    "an index of NDTiff without the last image": (
        ndtiff(T, then=listed(5)),
        "lists 2 images of run_NDTiffStack_1.tif, which holds 3; .*--frames 0:5",
    ),
    "an index of NDTiff without the last file": (
        ndtiff(T, then=listed(3)),
        "does not list the images of run_NDTiffStack_1.tif; .*--frames 0:3",
    ),
    "a page full of text": (
        pages(*NUMBERED, then=lambda f: (f / NUMBERED[2]).write_text("moved to the archive")),
        "img_00002.tif cannot be read as TIFF",
    ),
    "OME that promises less": (
        ome(split="", then=lambda f: edited(f / "m_0.ome.tif", b'SizeT="4"', b'SizeT="3"')),
        "4 pages.* OME metadata describe 3 frames",
    ),
    "OME that promises more": (
        ome(split="", then=lambda f: edited(f / "m_0.ome.tif", b'SizeT="4"', b'SizeT="5"')),
        "cut short: .*--frames 0:4",
    ),
    "OME that names no planes, a file for each channel": (
        ome(
            c=2,
            split="c",
            source="m_0.ome.tif",
            change=lambda xml: re.sub("<TiffData.*</TiffData>", "", xml),
        ),
        "does not say which of them its fewer pages are",
    ),
    "OME of no frames": (
        ome(then=lambda f: [edited(p, b'SizeT="4"', b'SizeT="0"') for p in f.iterdir()]),
        "SizeT",
    ),
    "OME of a word as a number": (
        ome(then=lambda f: [edited(p, b'SizeT="4"', b'SizeT="x"') for p in f.iterdir()]),
        "SizeT",
    ),
    "OME-XML that is cut short": (
        ome(change=lambda xml: xml[: len(xml) // 2]),
        "OME-XML that is cut short or damaged",
    ),
    "OME of other folders": (
        ome(change=lambda xml: xml.replace('FileName="m_1', 'FileName="../m_1')),
        "'../m_1.ome.tif', which is not in the same folder",
    ),
    "a page of OME that is not there": (
        ome(then=lambda f: [edited(p, b'IFD="0"', b'IFD="5"') for p in f.iterdir()]),
        "misses frames|no whole|page 5",
    ),
    "an index of Micro-Manager to nowhere": (
        mm(*TWO_FILES, then=lambda f: point_nowhere(f / NEXT)),
        "x_MMStack_Pos0_1.ome.tif",
    ),
}


def edit_page(path):
    with tifffile.TiffFile(path) as tif:
        text = tif.pages.first.description
    tifffile.imwrite(
        path, plane(2)[None, :, :4], description=text, metadata=None, photometric="minisblack"
    )


def mixed(path, pixels, **options):
    tifffile.imwrite(path, pixels, append=True, metadata=None, **options)
    return path


def point_nowhere(path):
    content = bytearray(path.read_bytes())
    at = int.from_bytes(content[12:16], "little") + 8 + 16
    content[at : at + 4] = (2**31).to_bytes(4, "little")
    path.write_bytes(content)


def opened(source, **options):
    return [stack.read() for stack in open_stacks(source, selection=Selection.checked(**options))]


@pytest.mark.parametrize("case", RIGHT)
def test_right_sets_are_read_right(tmp_path, case):
    build, expected, *more = RIGHT[case]
    note, options = [*more, *["", {}][len(more) :]]
    source = build(tmp_path / "set")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = opened(source, **options)
    assert [str(w.message) for w in said if not note or note not in str(w.message)] == []
    assert bool(said) == bool(note)
    assert len(found) == len(expected)
    for pixels, numbers in zip(found, expected, strict=True):
        np.testing.assert_array_equal(pixels, planes(numbers))


@pytest.mark.parametrize("case", WRONG)
def test_wrong_sets_are_refused(tmp_path, case):
    build, match = WRONG[case]
    source = build(tmp_path / "set")
    with pytest.raises((ValueError, FileNotFoundError), match=match) as error:
        opened(source)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)
