"""Numbers, sizes and times as people say them."""

import pytest

from smlmlp_dask.messages import as_size, as_time, counted


@pytest.mark.parametrize(
    ("number", "noun", "said"),
    [
        (0, "block", "0 blocks"),
        (1, "block", "1 block"),
        (2, "block", "2 blocks"),
        (12_345, "frame", "12,345 frames"),
    ],
)
def test_counted(number, noun, said):
    assert counted(number, noun) == said


def test_counted_with_another_plural():
    assert counted(1, "process", "processes") == "1 process"
    assert counted(2, "process", "processes") == "2 processes"


@pytest.mark.parametrize(
    ("n_bytes", "said"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (42_240, "42.2 kB"),
        (999_499, "999 kB"),
        (999_600, "1 MB"),  # not 1e+03 kB
        (4e9, "4 GB"),
        (5.24e12, "5.24 TB"),
        (3e18, "3e+03 PB"),
    ],
)
def test_sizes(n_bytes, said):
    assert as_size(n_bytes) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0.1 s"),
        (0.31, "0.3 s"),
        (0.94, "0.9 s"),
        (0.96, "1 s"),
        (12.4, "12 s"),
        (99, "99 s"),
        (99.6, "2 min"),
        (7 * 60 + 20, "7 min"),
        (59 * 60 + 29, "59 min"),
        (59 * 60 + 31, "1 h"),
        (2 * 3600 + 600, "2 h 10 min"),
        (23 * 3600 + 59.8 * 60, "1 day"),
        (27 * 3600, "1 day 3 h"),
        (76 * 3600, "3 days 4 h"),
    ],
)
def test_times(seconds, said):
    assert as_time(seconds) == said
