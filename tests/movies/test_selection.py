"""What a store notes of its selection: the same JSON as ever, from which the same is opened."""

import json

import numpy as np
import pytest

from smlmlp_dask.movies.selection import Selection

NOTHING = dict.fromkeys(
    ("bboxes", "flips", "frames", "raw_shape", "raw_dtype", "channels", "position", "z")
) | {"raw_header": 0, "raw_footer": 0, "salvage": False}


@pytest.mark.parametrize(
    ("given", "noted"),
    [
        ({}, {}),
        ({"bboxes": [[(0, 1, 2, 3), np.array([4, 5, 6, 7])], None]},
         {"bboxes": [[[0, 1, 2, 3], [4, 5, 6, 7]], None]}),
        ({"flips": [None, (np.True_, False)]}, {"flips": [None, [True, False]]}),
        ({"frames": slice(None)}, {"frames": [None, None, None]}),
        ({"frames": slice(np.int64(8), None, -2)}, {"frames": [8, None, -2]}),
        ({"raw_shape": np.array([9, 8, 7]), "raw_dtype": ">u2"},
         {"raw_shape": [9, 8, 7], "raw_dtype": ">u2"}),
    ],
)  # fmt: skip
def test_what_a_store_notes(given, noted):
    selection = Selection.checked(**given)
    attributes = json.loads(json.dumps(selection.to_attributes()))
    assert attributes == {**NOTHING, **noted}
    assert Selection.from_attributes(attributes) == selection
