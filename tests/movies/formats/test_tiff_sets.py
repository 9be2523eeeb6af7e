"""Sets of TIFFs are read by any of their files, as their metadata put them together."""

import numpy as np
import pytest
import tifffile

from smlmlp_dask.movies.opening import open_recording, open_stacks, source_roots
from smlmlp_dask.movies.selection import Selection

from .sets import (
    HEIGHT,
    WIDTH,
    edited,
    grid,
    number_of,
    planes,
    write_mmstack,
    write_ndtiff,
    write_ome,
    write_page,
)


def read(source, **options):
    stacks = open_stacks(source, selection=Selection.checked(**options))
    return [stack.read() for stack in stacks]


def check(source, t, c=1, z=None, p=0, **options):
    """Compare the channels of one slice and position with the planes that are meant."""
    found = read(source, z=z, **options)
    assert len(found) == c
    for channel, pixels in enumerate(found):
        expected = planes([number_of(frame, channel, z or 0, p) for frame in range(t)])
        np.testing.assert_array_equal(pixels, expected)


def sources(folder):
    """Return all ways to name a set: each of its TIFFs, its folder, and a pattern."""
    return [*sorted(folder.glob("*.tif")), folder, folder / "*.tif"]


# OME-TIFF

ORDERS = ["XYZCT", "XYZTC", "XYCZT", "XYCTZ", "XYTCZ", "XYTZC"]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("split", ["", "t", "c", "z"])
@pytest.mark.parametrize("metadata", ["all", "first", "companion"])
def test_ome(tmp_path, order, split, metadata):
    write_ome(tmp_path, "m_{}.ome.tif", t=3, c=2, z=2, split=split, order=order, metadata=metadata)
    for source in sources(tmp_path):
        check(source, 3, c=2, z=1)


@pytest.mark.parametrize("metadata", ["all", "first", "companion"])
def test_positions_of_ome(tmp_path, metadata):
    write_ome(tmp_path, "m_{}.ome.tif", p=2, c=2, split="p", metadata=metadata)
    for source in sources(tmp_path):
        check(source, 4, c=2, p=1, position=1)
        check(source, 4, c=2, position="Pos0")
        with pytest.raises(ValueError, match="holds 2 positions"):
            read(source)


def test_ome_of_a_whole_file_in_one_element(tmp_path):
    """TiffData without places: all pages, in the order of dimensions."""
    path = write_ome(
        tmp_path, "m.ome.tif", c=2, split="", order="XYCTZ", uuids=False,
        change=lambda xml: xml[: xml.index("<TiffData")] + "<TiffData/></Pixels></Image></OME>",
    )  # fmt: skip
    check(path, 4, c=2)


@pytest.mark.parametrize("uuids", [True, False])
def test_one_ome_file_may_be_renamed(tmp_path, uuids):
    path = write_ome(tmp_path, "m.ome.tif", c=2, split="", uuids=uuids)
    path.rename(tmp_path / "b.tif")
    for source in sources(tmp_path):
        check(source, 4, c=2)


def test_a_renamed_file_whose_metadata_have_no_uuid_of_its_own(tmp_path):
    path = write_ome(
        tmp_path, "m.ome.tif", c=2, split="",
        change=lambda xml: xml.replace(' UUID="urn:uuid:m.ome.tif"', ""),
    )  # fmt: skip
    path.rename(tmp_path / "b.tif")
    check(tmp_path / "b.tif", 4, c=2)


def test_all_files_are_of_the_source(tmp_path):
    write_ome(tmp_path, "m_{}.ome.tif", metadata="companion")
    roots = source_roots(tmp_path / "m_2.ome.tif")
    assert sorted(root.name for root in roots) == sorted(file.name for file in tmp_path.iterdir())


# Micro-Manager: written by hand

STACKS = {
    "one file": [("x_MMStack_Pos0.ome.tif", grid(c=2))],
    "files along time": [
        ("x_MMStack_Pos0.ome.tif", grid(range(2), c=2)),
        ("x_MMStack_Pos0_1.ome.tif", grid(range(2, 3), c=2)),
        ("x_MMStack_Pos0_2.ome.tif", grid(range(3, 4), c=2)),
    ],
    "a frame in two files": [
        ("x_MMStack.ome.tif", grid(c=2)[:3]),
        ("x_MMStack_1.ome.tif", grid(c=2)[3:]),
    ],
    "channels one after the other": [
        ("x_MMStack.ome.tif", sorted(grid(c=2), key=lambda place: place[1])),
    ],
}


@pytest.mark.parametrize("case", STACKS)
@pytest.mark.parametrize("ended", [True, False])
def test_micro_manager(tmp_path, case, ended):
    for name, places in STACKS[case]:
        write_mmstack(tmp_path / name, places, summary={"Channels": 2}, index=ended)
    for source in sources(tmp_path):
        check(source, 4, c=2)
    recording = open_recording(tmp_path)
    assert recording.format == "Micro-Manager"
    assert [channel.channel for channel in recording.positions[0].channels] == ["C0", "C1"]


def test_ten_files_are_in_their_order(tmp_path):
    for n in range(12):
        name = f"x_MMStack{f'_{n}' if n else ''}.ome.tif"
        write_mmstack(tmp_path / name, grid(range(n, n + 1)), summary={"Frames": 12})
    check(tmp_path, 12)


def test_positions_of_micro_manager(tmp_path):
    for p in range(2):
        name = f"x_MMStack_Pos{p}.ome.tif"
        write_mmstack(tmp_path / name, grid(p=(p,)), summary={"Positions": 2})
    for p in range(2):
        check(tmp_path / f"x_MMStack_Pos{p}.ome.tif", 4, p=p)
        check(tmp_path, 4, p=p, position=f"Pos{p}")
    with pytest.raises(ValueError, match=r"holds 2 positions \(0: Pos0, 1: Pos1\)"):
        read(tmp_path)


def test_positions_of_micro_manager_in_one_file(tmp_path):
    path = write_mmstack(tmp_path / "x_MMStack.ome.tif", grid(p=(0, 1)), summary={"Positions": 2})
    with pytest.raises(ValueError, match="holds 2 positions"):
        read(path)
    check(path, 4, p=1, position=1)


def test_slices_of_micro_manager(tmp_path):
    path = write_mmstack(tmp_path / "x_MMStack.ome.tif", grid(z=3), summary={"Slices": 3})
    check(path, 4, z=2)


def test_a_crashed_file_without_places_is_refused(tmp_path):
    path = write_mmstack(tmp_path / "x_MMStack.ome.tif", grid(), index=False)
    edited(path, b'"FrameIndex"', b'"FrameNumbe"')
    with pytest.raises(ValueError, match="has no index of its images.*open it in Micro-Manager"):
        read(path)


# NDTiff: written by hand


@pytest.mark.parametrize("major", [2, 3])
@pytest.mark.parametrize("names", [("Cy3", "Cy5"), (0, 1)])
def test_ndtiff(tmp_path, major, names):
    places = [{"time": t, "channel": c} for t in range(4) for c in names]
    write_ndtiff(tmp_path, places, major=major)
    for source in sources(tmp_path):
        check(source, 4, c=2)
    said = [channel.channel for channel in open_recording(tmp_path).positions[0].channels]
    assert said == [name if isinstance(name, str) else None for name in names]


@pytest.mark.parametrize(
    ("places", "options", "match"),
    [
        ([{"time": t, "angle": a} for t in range(2) for a in range(3)], {}, "an axis 'angle' of 3"),
        ([{"time": t} for t in range(3)], {"kind": 2}, "pixels of NDTiff's type 2"),
        ([{"time": t} for t in (0, 1)], {"keep": 0}, "lists no image"),
        ([{"time": 0, "channel": "a"}, {"time": 0, "channel": "b"}, {"time": 1, "channel": "a"},
          {"time": 2, "channel": "a"}, {"time": 2, "channel": "b"}], {}, "misses frames"),
    ],
)  # fmt: skip
def test_ndtiff_that_is_refused(tmp_path, places, options, match):
    write_ndtiff(tmp_path, places, **options)
    with pytest.raises(ValueError, match=match):
        read(tmp_path)


def test_times_of_ndtiff_may_begin_anywhere(tmp_path):
    write_ndtiff(tmp_path, [{"time": t} for t in (7, 5, 6)])
    np.testing.assert_array_equal(read(tmp_path)[0], planes([5, 6, 7]))


# ImageJ


@pytest.mark.parametrize("truncate", [False, True])
@pytest.mark.parametrize(
    ("axes", "shape"), [("TCYX", (4, 2, 1)), ("TZCYX", (4, 2, 3)), ("TZYX", (4, 1, 3))]
)
def test_hyperstacks(tmp_path, axes, shape, truncate):
    t, c, z = shape
    numbers = [number_of(a, b, d) for a in range(t) for d in range(z) for b in range(c)]
    stack = planes(numbers).reshape(
        *(n for n, axis in ((t, "T"), (z, "Z"), (c, "C")) if axis in axes), HEIGHT, WIDTH
    )
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": axes}, truncate=truncate)
    check(path, t, c, z - 1)
    if z > 1:
        with pytest.raises(ValueError, match=f"has {z} slices in z"):
            read(path)


def test_slices_of_separate_files(tmp_path):
    for t in range(2):
        for z in range(2):
            write_page(tmp_path / f"a_t{t}_z{z}.tif", number_of(t, 0, z))
    check(tmp_path, 2, z=1)
