"""Where the frames of a channel come from, in words."""

import numpy as np
import pytest
import tifffile

from smlmlp_dask import run_spatial_mean
from smlmlp_dask.pictures.origins import origins
from smlmlp_dask.store.read import read_attributes
from tests.pictures.conftest import MOVIE


@pytest.fixture(autouse=True)
def folder(folder):
    tifffile.imwrite("b.ome.tif", np.stack([MOVIE, MOVIE], 1), metadata={"axes": "TCYX"},
                     photometric="minisblack")  # fmt: skip


def words(*sources, **selection):
    path = run_spatial_mean(list(sources), "out.zarr", 2.0, **selection).path
    return [text.replace("\N{EN DASH}", "-") for text in origins(read_attributes(path))]


BOXES = [[(0, 0, 12, 20), (12, 3, 24, 20)]]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({}, ["a.tif"]),
        (
            {"bboxes": BOXES},
            ["a.tif, columns 0-11, rows 0-19", "a.tif, columns 12-23, rows 3-19"],
        ),
        ({"channels": 0, "salvage": True}, ["a.tif, channel 0, salvaged"]),
        ({"flips": [(True, False)]}, ["a.tif, flipped upside down (y)"]),
        ({"flips": [(False, True)]}, ["a.tif, flipped left to right (x)"]),
        ({"flips": [(True, True)]}, ["a.tif, flipped in y and x"]),
        ({"flips": [(False, False)]}, ["a.tif"]),
        ({"frames": slice(None)}, ["a.tif"]),
        ({"frames": slice(2, 9)}, ["a.tif, frames 2-8 of the movie"]),
        ({"frames": slice(2, None, 3)}, ["a.tif, frames 2-11, one in 3 of the movie"]),
        ({"frames": slice(5, 6)}, ["a.tif, frame 5 of the movie"]),
        ({"frames": slice(9, 2, -3)}, ["a.tif, frames 9:2:-3"]),
        ({"frames": slice(-4, None)}, ["a.tif, frames -4::"]),
    ],
)
def test_of_one_source(selection, expected):
    assert words("a.tif", **selection) == expected


def test_of_several_channels_in_a_file():
    assert words("a.tif", "b.ome.tif") == [
        "a.tif",
        "b.ome.tif, image 1 of 2",
        "b.ome.tif, image 2 of 2",
    ]


def test_each_source_has_its_own_boxes_and_frames():
    assert words(
        "a.tif", "b.ome.tif",
        bboxes=[None, [(0, 0, 4, 5), (4, 0, 8, 5)]],
        frames=[slice(0, 3), None],
        flips=[None, None, (True, False), None, None],
    ) == [
        "a.tif, frames 0-2 of the movie",
        "b.ome.tif, image 1 of 2, columns 0-3, rows 0-4",
        "b.ome.tif, image 1 of 2, columns 4-7, rows 0-4, flipped upside down (y)",
        "b.ome.tif, image 2 of 2, columns 0-3, rows 0-4",
        "b.ome.tif, image 2 of 2, columns 4-7, rows 0-4",
    ]  # fmt: skip


def test_the_words_are_those_of_the_frames_that_were_taken():
    """The last frame, row and column that are named exist, and are in."""
    result = run_spatial_mean("a.tif", "o.zarr", 2.0, frames=slice(1, 12, 4), bboxes=BOXES)
    [first, _] = [
        text.replace("\N{EN DASH}", "-") for text in origins(read_attributes(result.path))
    ]
    assert first == "a.tif, columns 0-11, rows 0-19, frames 1-9, one in 4 of the movie"
    assert result.bkgds[0].shape == (len(range(1, 9 + 1, 4)), 19 + 1, 11 + 1)
