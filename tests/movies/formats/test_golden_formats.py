"""The golden movies through every format that can be written: the same pixels, the same bits."""

import json
from functools import cache

import numpy as np
import pytest

from smlmlp_dask import bkgd_spatial_mean, open_channels, run_spatial_mean
from smlmlp_dask.movies.formats.table import FORMATS
from tests.test_golden import CASES

from .written import HEADERLESS, WRITTEN, write


@cache
def golden(path):
    """Return the channels of a case, its radii, and the bytes of their backgrounds from NumPy."""
    with np.load(path) as archive:
        case = json.loads(str(archive["case"]))
        channels = [archive[f"channel_{number}"] for number in range(case["n"])]
    radii = case["radii"]
    return channels, radii, background_bytes(channels, radii)


def background_bytes(channels, radii):
    bkgds, _, _ = bkgd_spatial_mean(channels, radii)
    return [bkgd.compute(scheduler="sync").tobytes() for bkgd in bkgds]


def fits(written, path):
    return {str(channel.dtype) for channel in golden(path)[0]} <= {*written.dtypes}


GIVEN = [
    pytest.param(name, path, id=f"{name}-{path.stem}")
    for name, written in WRITTEN.items()
    for path in CASES
    if fits(written, path)
]


def written_at(tmp_path, name, channels):
    if not WRITTEN[name].is_installed:
        pytest.skip(f"the reader of {WRITTEN[name].format} is not installed")
    return write(name, tmp_path, *channels)


@pytest.mark.parametrize(("name", "path"), GIVEN)
def test_golden_movies(tmp_path, name, path):
    channels, radii, expected = golden(path)
    sources, options = written_at(tmp_path, name, channels)
    if options:  # each headerless movie is described alone
        opened = [
            stack
            for source, channel in zip(sources, channels, strict=True)
            for stack in open_channels(source, **options | {"raw_shape": channel.shape})
        ]
    else:
        opened = open_channels(*sources)
    for stack, channel in zip(opened, channels, strict=True):
        assert stack.dtype == (WRITTEN[name].reads_as or channel.dtype)
        np.testing.assert_array_equal(stack.compute(scheduler="sync"), channel)
    assert background_bytes(opened, radii) == expected


@pytest.mark.parametrize("name", WRITTEN)
def test_a_golden_job(tmp_path, name):
    path = next(path for path in CASES if path.stem == "three_channels_shared_pair")
    channels, radii, expected = golden(path)
    sources, options = written_at(tmp_path, name, channels)
    result = run_spatial_mean(sources, tmp_path / "out.zarr", radii, **options)
    assert [bkgd.compute().tobytes() for bkgd in result.bkgds] == expected


def test_every_format_is_written():
    assert {written.format for written in WRITTEN.values()} == {
        HEADERLESS,
        *(known.name for known in FORMATS),
    }
