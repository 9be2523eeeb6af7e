"""What names of files say of frames, channels, slices and positions, or that they do not say."""

import pytest

from smlmlp_dask.movies.formats.file_names import arranged


def movie(*names, **more):
    """Return an arrangement of one movie."""
    return {"groups": {(0, 0, 0): names}, **more}


MM1 = [f"img_{t:09d}_{c}_{z:03d}" for t in range(2) for c in ("Cy5", "DAPI") for z in range(2)]
MM2 = "img_channel{:03d}_position{:03d}_time{:09d}_z000"
META = ["a_w1CY5_s1_t1", "a_w1CY5_s1_t2", "a_w2GFP_s1_t1", "a_w2GFP_s1_t2"]
BOTH = ["a_t0001_c0001", "a_t0001_c0002", "a_t0002_c0001", "a_t0002_c0002"]

ARRANGED = {
    # one movie
    "one file": (["a"], movie("a")),
    "numbers": (["img_2", "img_10", "img_1"], movie("img_1", "img_2", "img_10", counts=False)),
    "leading zeros": (["a0009", "a0010"], movie("a0009", "a0010")),
    "zeros run out": (["a_9999", "a_10000"], movie("a_9999", "a_10000")),
    "t": (["a_t2", "a_t1"], movie("a_t1", "a_t2")),
    "frames of one channel": (["a_c1_t1", "a_c1_t2"], movie("a_c1_t1", "a_c1_t2")),
    "another number is the same": (["5nM_1", "5nM_2"], movie("5nM_1", "5nM_2")),
    "OME's ending": (["a_1.ome", "a_2.ome"], movie("a_1.ome", "a_2.ome")),
    "the first has no number": (["a", "a_1", "a_2"], movie("a", "a_1", "a_2")),
    "Andor's first has no number": (["a", "a_X2", "a_X3"], movie("a", "a_X2", "a_X3")),
    "Andor's, after an ending": (["a.ome", "a_X2.ome"], movie("a.ome", "a_X2.ome")),
    "the first has a date": (["20240105_a", "20240105_a_1"], movie("20240105_a", "20240105_a_1")),
    "Micro-Manager resaved": (
        ["a_MMStack_Pos0.ome", "a_MMStack_Pos0_1.ome"],
        movie("a_MMStack_Pos0.ome", "a_MMStack_Pos0_1.ome"),
    ),
    "a time beside the number": (["a_1_101500", "a_2_101501"], movie("a_1_101500", "a_2_101501")),
    "numbers that restart each hour, with a time": (
        ["a_100000_1", "a_110000_1", "a_110001_2"],
        movie("a_100000_1", "a_110000_1", "a_110001_2", counts=False),
    ),
    "dates and times": (
        ["20240131_235959", "20240201_000000"],
        movie("20240131_235959", "20240201_000000", counts=False),
    ),
    "dates and times with hyphens": (
        ["2024-02-01 00-00-00", "2024-01-31 23-59-59"],
        movie("2024-01-31 23-59-59", "2024-02-01 00-00-00", counts=False),
    ),
    "folders of parts": (["part1/a_1", "part1/a_2"], movie("part1/a_1", "part1/a_2")),
    "frames of a run, by their digits": (["run_0001", "run_0002"], movie("run_0001", "run_0002")),
    "a run of lasers' numbers": (["a_560", "a_561"], movie("a_560", "a_561")),
    "times": (["a_100", "a_350", "a_720"], movie("a_100", "a_350", "a_720", counts=False)),
    "numbers by two": (["a_0", "a_2", "a_4"], movie("a_0", "a_2", "a_4")),
    "one is missing": (
        ["a_1", "a_2", "a_4"],
        movie("a_1", "a_2", "a_4", notes="1 file is missing in the run of numbers, the first af"),
    ),
    "two are missing": (
        ["a_1", "a_2", "a_4", "a_5", "a_7"],
        movie("a_1", "a_2", "a_4", "a_5", "a_7", notes="2 files are missing"),
    ),
    "the second is missing": (["a", "a_2", "a_4"], movie("a", "a_2", "a_4", notes="1 file is")),
    # channels
    "channels": (["a_c1", "a_c2"], {"groups": {(0, 0, 0): ("a_c1",), (0, 1, 0): ("a_c2",)},
                                    "channels": ("1", "2")}),
    "Leica's channels": (["a_ch00", "a_ch01"], {"channels": ("00", "01")}),
    "ImageJ's image sequence": (
        BOTH,
        {"groups": {(0, 0, 0): (BOTH[0], BOTH[2]), (0, 1, 0): (BOTH[1], BOTH[3])}},
    ),
    "MetaMorph": (
        META,
        {"groups": {(0, 0, 0): tuple(META[:2]), (0, 1, 0): tuple(META[2:])},
         "channels": ("CY5", "GFP")},
    ),
    "MetaMorph, one frame": (["a_w1CY5", "a_w2GFP"], {"channels": ("CY5", "GFP")}),
    "MetaMorph, no names": (["a_w1_t1", "a_w2_t1"], {"channels": ("1", "2")}),
    "nm": (["a_405nm", "a_641nm"], {"channels": ("405", "641")}),
    "nm before a number": (
        ["a_405nm_1", "a_405nm_2", "a_641nm_1", "a_641nm_2"],
        {"groups": {(0, 0, 0): ("a_405nm_1", "a_405nm_2"),
                    (0, 1, 0): ("a_641nm_1", "a_641nm_2")}},
    ),
    "dyes": (["Cy3", "Cy5"], {"channels": ("Cy3", "Cy5")}),
    "dyes of frames": (["a_Alexa568_1", "a_Alexa647_1"], {"channels": ("Alexa568", "Alexa647")}),
    "lasers": (["a_488", "a_561", "a_640"], {"channels": ("488", "561", "640")}),
    "Micro-Manager 1.4": (
        MM1,
        {"groups": {(0, c, z): (MM1[2 * c + z], MM1[4 + 2 * c + z])
                    for c in range(2) for z in range(2)},
         "channels": ("Cy5", "DAPI"), "depth": 2},
    ),
    "Micro-Manager 1.4, two positions": (
        [f"Pos{p}/img_{0:09d}_{c}_000" for p in range(2) for c in ("Cy5", "DAPI")],
        {"positions": ("Pos0", "Pos1"), "channels": ("Cy5", "DAPI")},
    ),
    "Micro-Manager 2": (
        [MM2.format(c, 0, t) for c in range(2) for t in range(2)],
        {"groups": {(0, c, 0): tuple(MM2.format(c, 0, t) for t in range(2)) for c in range(2)}},
    ),
    "Micro-Manager 2, two positions": (
        [MM2.format(0, p, t) for p in range(2) for t in range(2)],
        {"positions": ("position000", "position001")},
    ),
    # positions and slices
    "positions": (["a_Pos0", "a_Pos1"], {"positions": ("Pos0", "Pos1")}),
    "stage": (["a_s1_t1", "a_s1_t2", "a_s2_t1", "a_s2_t2"], {"positions": ("s1", "s2")}),
    "cells": (["cell1", "cell2", "cell10"], {"positions": ("cell1", "cell2", "cell10")}),
    "wells": (["well_1", "well_2"], {"positions": ("well1", "well2")}),
    "runs": (["run1/a_1", "run1/a_2", "run2/a_1", "run2/a_2"], {"positions": ("run1", "run2")}),
    "slices": (["a_z1", "a_z2"], {"depth": 2}),
}  # fmt: skip

REFUSED = {
    "exposures": (["a_10ms", "a_20ms"], "a number with a unit"),
    "concentrations": (["1nM", "2nM"], "a number with a unit"),
    "powers, and frames": (["5mW_1", "5mW_2", "9mW_1", "9mW_2"], "a number with a unit"),
    "words": (["a", "b"], "differ in more than a number"),
    "folders": (["a/1", "b/1"], "differ in more than a number"),
    "a thumbnail": (["a_1", "a_2", "a_2_thumb"], "differ in more than a number"),
    "MetaMorph's thumbnail": (["a_thumb_w1Cy5", "a_w1Cy5"], "differ in more than a number"),
    "a browser's copy": (["a", "a (1)"], "differ in more than a number"),
    "a copy among numbers": (["a_1", "a_2", "a_2 (1)"], "differ in more than a number"),
    "macOS's copy": (["a", "a copy"], "differ in more than a number"),
    "Windows' copy": (["a_1", "a_1 - Copy"], "differ in more than a number"),
    "a projection": (["MAX_a", "a"], "differ in more than a number"),
    "no number in two": (["a", "a_1", "b_1"], "differ in more than a number"),
    "another name, numbered on": (["a", "a_1", "b_2"], "differ in more than a number"),
    "two numbers": (
        ["a1_1", "a1_2", "a2_1", "a2_2"],
        "differ in 2 places, such as a1_1.tif and",
    ),
    "lasers and numbers": (["a_1_488", "a_2_561"], "lack channel 488, frame 2"),
    "one number twice": (["a_1", "a_01", "a_2"], "a_1.tif and a_01.tif have the same place"),
    "two endings": (["a_1", "a_1"], "have the same place"),
    "a channel's frame is missing": (BOTH[:3], "lack channel 0002, frame 0002.*restore"),
    "Micro-Manager's slice is missing": (MM1[:-1], "lack channel DAPI, slice 001, frame 000000001"),
    "MetaMorph's channel is missing": (META[:3], "lack channel 2GFP, frame 2"),
    "a position's frame is missing": (["s1_t1", "s1_t2", "s2_t1"], "lack position 2, frame 2"),
    "one axis twice": (["t1_frame1", "t1_frame2", "t2_frame1"], "differ in 2 places"),
}


@pytest.mark.parametrize("case", ARRANGED)
@pytest.mark.parametrize("turned", [False, True])
def test_names_that_tell(case, turned):
    names, expected = ARRANGED[case]
    files = [f"{name}.tif" for name in names]
    found = arranged(files[::-1] if turned else files)
    everything = [name for group in found.groups.values() for name in group]
    assert sorted(everything) == sorted(files)
    groups = expected.get("groups")
    if groups is not None:
        groups = {at: tuple(f"{name}.tif" for name in group) for at, group in groups.items()}
        assert found.groups == groups
    assert found.positions == expected.get("positions", ("",))
    assert found.counts == expected.get("counts", True)
    assert found.depth == expected.get("depth", 1)
    (note,) = found.notes or ("",)
    assert note.startswith(expected.get("notes", ""))
    assert bool(note) == ("notes" in expected)
    if "channels" in expected:
        assert found.channels == expected["channels"]


@pytest.mark.parametrize("case", REFUSED)
def test_names_that_do_not_tell(case):
    names, match = REFUSED[case]
    with pytest.raises(ValueError, match=match):
        arranged([f"{name}.tif" for name in names])
