"""How a channel was recorded: what is noted of it, and what a user says in place of the file."""

import json
import math

import numpy as np
import pytest

from smlmlp_dask import Acquisition
from smlmlp_dask.movies.acquisition import Overrides

FILE = Acquisition(
    channel="DAPI",
    pixel_size_um=(0.1, 0.11),
    frame_interval_s=0.05,
    exposure_s=0.03,
    colour="00FF00",
    gain=0.5,
    baseline=100.0,
)


def test_what_is_noted_comes_back():
    noted = json.loads(json.dumps(FILE.to_attributes()))
    assert Acquisition.from_attributes(noted) == FILE
    assert Acquisition.from_attributes({**noted, "of a later version": 1}) == FILE
    assert Acquisition().to_attributes() == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pixel_size_um", (0.0, 0.0)),  # as ImageJ's resolution where none is set
        ("pixel_size_um", (0.1, math.inf)),
        ("frame_interval_s", 0.0),
        ("frame_interval_s", math.nan),
        ("exposure_s", -1.0),
        ("gain", 0.0),
        ("baseline", math.nan),
        ("channel", ""),
    ],
)
def test_what_cannot_be_true_is_not_noted(name, value):
    assert Acquisition(**{name: value}).to_attributes() == {}


def test_a_baseline_may_be_0():
    assert Acquisition(baseline=0.0).to_attributes() == {"baseline": 0.0}


def applied(acquisition, step=1, **overrides):
    return Overrides.checked(**overrides).applied([acquisition], [step])[0]


@pytest.mark.parametrize(
    ("overrides", "step", "expected"),
    [
        ({}, 2, FILE),  # the selection has multiplied what the file says
        ({"pixel_size_um": 0.2}, 1, {"pixel_size_um": (0.2, 0.2)}),
        ({"pixel_size_um": np.array([1, 2])}, 1, {"pixel_size_um": (1.0, 2.0)}),
        ({"frame_interval_s": 2}, 1, {"frame_interval_s": 2.0}),
        ({"frame_interval_s": np.float32(0.5)}, 3, {"frame_interval_s": 1.5}),
        ({"channel_names": "Cy5"}, 1, {"channel": "Cy5"}),
        ({"channel_names": ("Cy5",)}, 1, {"channel": "Cy5"}),
    ],
)
def test_what_the_user_says_goes_before_what_the_file_says(overrides, step, expected):
    found = applied(FILE, step, **overrides)
    known = FILE.to_attributes()
    assert found == (FILE if expected is FILE else Acquisition(**{**known, **expected}))


def test_a_column_of_a_table_is_a_list():
    pandas = pytest.importorskip("pandas", reason="xarray, of the tests' extra, brings it")
    assert applied(FILE, pixel_size_um=pandas.Series([0.1, 0.2])).pixel_size_um == (0.1, 0.2)


def test_two_channels_may_have_one_name():
    names = Overrides.checked(channel_names=["a", "a"]).applied([FILE, FILE], [1, 1])
    assert [one.channel for one in names] == ["a", "a"]


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ({"pixel_size_um": 0}, ValueError, "pixel_size_um=0: pass micrometres above 0"),
        ({"pixel_size_um": -0.1}, ValueError, r"pixel_size_um=-0\.1: .*--pixel-size"),
        ({"pixel_size_um": (0.1, math.nan)}, ValueError, r"pixel_size_um=\(0\.1, nan\)"),
        ({"pixel_size_um": math.inf}, ValueError, "pixel_size_um=inf"),
        ({"pixel_size_um": (1, 2, 3)}, TypeError, r"\(1, 2, 3\): pass a number, or a pair"),
        ({"pixel_size_um": "0.1"}, TypeError, "pixel_size_um='0.1': pass a number"),
        ({"pixel_size_um": True}, TypeError, "pixel_size_um=True"),
        ({"frame_interval_s": 0}, ValueError, "frame_interval_s=0: pass seconds above 0"),
        ({"frame_interval_s": math.nan}, ValueError, "frame_interval_s=nan"),
        ({"frame_interval_s": [0.1]}, TypeError, r"frame_interval_s=\[0\.1\]: pass a number"),
        ({"channel_names": ""}, ValueError, "has an empty name"),
        ({"channel_names": ["a", " "]}, ValueError, "has an empty name"),
        ({"channel_names": [1]}, TypeError, r"channel_names=\[1\]: pass one name for each"),
        ({"channel_names": 1}, TypeError, "channel_names=1"),
        ({"channel_names": ["a", "b"]}, ValueError, "has 2 names for 1 channel: .*--channel-name"),
        ({"channel_names": []}, ValueError, "has 0 names for 1 channel"),
    ],
)
def test_what_is_refused(overrides, error, message):
    with pytest.raises(error, match=message) as raised:
        applied(FILE, **overrides)
    assert "\n" not in str(raised.value)
