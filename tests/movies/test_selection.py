"""What a store notes of its selection: the same JSON as ever, from which the same is opened."""

import json

import numpy as np
import pytest

from smlmlp_dask.movies.acquisition import Acquisition
from smlmlp_dask.movies.described import DescribedMovie
from smlmlp_dask.movies.recording import Position, Recording
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
        ({"bboxes": np.array([[[0, 1, 2, 3], [4, 5, 6, 7]]])},
         {"bboxes": [[[0, 1, 2, 3], [4, 5, 6, 7]]]}),
        ({"bboxes": [np.array([[0, 1, 2, 3]], "u1")]}, {"bboxes": [[[0, 1, 2, 3]]]}),
        ({"flips": [None, (np.True_, False)]}, {"flips": [None, [True, False]]}),
        ({"flips": np.array([[True, False]])}, {"flips": [[True, False]]}),
        ({"frames": slice(None)}, {"frames": [None, None, None]}),
        ({"frames": slice(np.int64(8), None, -2)}, {"frames": [8, None, -2]}),
        ({"frames": slice(np.uint8(1), np.array(4))}, {"frames": [1, 4, None]}),
        ({"raw_shape": np.array([9, 8, 7]), "raw_dtype": ">u2"},
         {"raw_shape": [9, 8, 7], "raw_dtype": ">u2"}),
    ],
)  # fmt: skip
def test_what_a_store_notes(given, noted):
    selection = Selection.checked(**given)
    attributes = json.loads(json.dumps(selection.to_attributes()))
    assert attributes == {**NOTHING, **noted}
    assert Selection.from_attributes(attributes) == selection


# What is taken of a recording


def recording(*names, channels=("Cy3", "Cy5"), depth=1, frames=10, promised=None, default=None):
    """A recording whose movies have as many columns as their position, channel and slice say."""

    def position(number, name):
        return Position(
            name=name,
            movie=lambda c, z: DescribedMovie((frames, 4, 100 * number + 10 * c + z + 1)),
            channels=tuple(Acquisition(channel=name, frame_interval_s=0.5) for name in channels),
            depth=depth,
            promised=promised,
            cut_short="its file ends at byte 9",
        )

    positions = tuple(position(number, name) for number, name in enumerate(names or ("",)))
    return Recording(path="movie", format="made", positions=positions, default=default)


def taken(*recordings, **given):
    stacks = Selection.checked(**given).stacks(recordings)
    return [[stack.shape[2] - 1 for stack in source] for source in stacks]


@pytest.mark.parametrize(
    ("source", "given", "columns"),
    [
        (recording(), {}, [0, 10]),
        (recording(), {"channels": 1}, [10]),
        (recording(), {"channels": "Cy3"}, [0]),
        (recording(), {"channels": ["Cy5", 0]}, [10, 0]),
        (recording(), {"channels": ["1"]}, [10]),  # as text, from the command line
        (recording(channels=("1", "0")), {"channels": "1"}, [0]),  # a name goes before a number
        (recording(channels=("1", "0")), {"channels": 1}, [10]),
        (recording("a", "b"), {"position": "b"}, [100, 110]),
        (recording("a", "b"), {"position": [1, "a"], "channels": [0]}, [100, 0]),
        (recording("a", "b", default=1), {}, [100, 110]),
        (recording("a", "b", default=1), {"position": 0}, [0, 10]),
        (recording(depth=3), {"z": 2}, [2, 12]),
    ],
)
def test_channels_positions_and_slices(source, given, columns):
    assert taken(source, **given) == [columns]


@pytest.mark.parametrize(
    ("source", "given", "message"),
    [
        (recording("a", "b"), {}, r"holds 2 positions \(0: a, 1: b\): choose by position=0"),
        (recording("a", "b"), {"position": "c"}, r"position 'c' is not in movie.*0: a, 1: b"),
        (recording("a", "a"), {"position": "a"}, "several positions named 'a': choose by number"),
        (recording(), {"channels": 2}, r"channel 2 is not in movie, which has 2 \(0: Cy3, 1: Cy5"),
        (recording(), {"channels": -1}, "channel -1 is not in movie"),
        (recording(depth=3), {}, "has 3 slices in z: choose one by z=0"),
        (recording(depth=3), {"z": 3}, "z=3 is not in movie.*: pass a slice from 0 to 2"),
        (recording(), {"z": 1}, "z=1 is not in movie.*: pass a slice from 0 to 0"),
        (recording(), {"flips": [None]}, "flips has 1 entry for 2 channels"),
        (recording(), {"bboxes": [[(0, 0, 1, 4), (0, 0, 2, 4)]]}, r"box \(0, 0, 2, 4\) does not"),
        (recording(), {"frames": [None, slice(3)]}, "frames has 2 entries for 1 source"),
        (
            recording(promised=12),
            {},
            r"cut short: its file ends at byte 9; .*--frames 0:10.*--salv",
        ),
        (recording(promised=12), {"frames": slice(5, 11)}, "is cut short"),
        (recording(promised=12), {"frames": slice(None, None, -1)}, "is cut short"),
    ],
)
def test_refused(source, given, message):
    with pytest.raises(ValueError, match=message):
        taken(source, **given)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"channels": []}, TypeError),
        ({"channels": [1.5]}, TypeError),
        ({"channels": ""}, TypeError),
        ({"position": True}, TypeError),
        ({"channels": [1, "1"]}, ValueError),
        ({"z": "1"}, TypeError),
        ({"z": -1}, ValueError),
        ({"salvage": 1}, TypeError),
        ({"frames": [3]}, TypeError),
        ({"raw_header": 4}, ValueError),
        ({"raw_header": 0.5}, TypeError),
    ],
)
def test_wrong_arguments(given, error):
    with pytest.raises(error, match=next(iter(given))):
        Selection.checked(**given)


def test_each_channel_is_cut_into_the_boxes_of_its_source():
    boxes = [[(0, 0, 1, 4), (0, 1, 1, 3)], None]
    flips = [(True, False)] * 4 + [None] * 2
    first, second = Selection.checked(bboxes=boxes, flips=flips).stacks([recording()] * 2)
    assert [stack.shape for stack in first] == [(10, 4, 1), (10, 2, 1)] * 2
    assert [stack.movie.shape[2] for stack in first] == [1, 1, 11, 11]
    assert [stack.rows.step for stack in first + second] == [-1] * 4 + [1] * 2


def test_each_source_has_its_frames():
    first, second = Selection.checked(frames=[slice(0, 9, 3), None]).stacks([recording()] * 2)
    assert [stack.frames for stack in first + second] == [range(0, 9, 3)] * 2 + [range(10)] * 2
    assert [stack.acquisition.frame_interval_s for stack in first + second] == [1.5] * 2 + [0.5] * 2


def test_frames_of_an_aborted_recording_that_exist():
    ((stack, _),) = Selection.checked(frames=slice(2, 10)).stacks([recording(promised=12)])
    assert stack.frames == range(2, 10)


@pytest.mark.parametrize("frames", [None, slice(5, None), slice(None, None, 2)])
def test_salvage_takes_what_there_is_and_says_so(frames):
    with pytest.warns(UserWarning, match="10 of 12 frames are taken") as warned:
        ((stack, _),) = Selection.checked(salvage=True, frames=frames).stacks(
            [recording(promised=12)]
        )
    assert len(warned) == 1  # for both channels
    assert stack.frames == range(10)[frames or slice(None)]


def test_salvage_of_a_whole_recording_says_nothing():
    assert taken(recording(), salvage=True) == [[0, 10]]


def test_fewer_frames_than_were_asked_for_are_said():
    with pytest.warns(UserWarning, match="movie has 10 frames, fewer than frames=5:99 asks for"):
        ((stack,),) = Selection.checked(frames=slice(5, 99), channels=0).stacks([recording()])
    assert stack.frames == range(5, 10)
