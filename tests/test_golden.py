"""The reference's own results, for every kind of chunking."""

import json
from pathlib import Path

import dask.array as da
import numpy as np
import pytest

from smlmlp_dask import bkgd_spatial_mean

from . import reference

CASES = sorted((Path(__file__).parent / "golden").glob("*.npz"))
CHUNKINGS = {
    "array": None,
    "whole": (-1, -1, -1),
    "one-frame": (1, -1, -1),
    "irregular": "irregular",
    "tiled": (2, 11, 7),
    "tiles smaller than the kernel": (3, 5, 4),
}


def irregular(length):
    first = max(1, length // 3)
    return (1, first, length - first - 1) if length > first + 1 else (length,)


def chunk(stack, how):
    if how is None:
        return stack
    if how == "irregular":
        how = tuple(irregular(n) for n in stack.shape)
    return da.from_array(stack, chunks=how)


@pytest.mark.parametrize("how", CHUNKINGS.values(), ids=CHUNKINGS)
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
@pytest.mark.parametrize("engine", ["auto", "dask-image"])
def test_golden(path, how, engine):
    golden = np.load(path)
    case = json.loads(str(golden["case"]))
    channels = [golden[f"channel_{i}"] for i in range(case["n"])]
    noise = case["noise_in"] and [np.float32(factor) for factor in case["noise_in"]]

    bkgds, corrections, info = bkgd_spatial_mean(
        [chunk(channel, how) for channel in channels], case["radii"], None, noise, engine=engine
    )

    assert np.array(corrections).tobytes() == golden["noise"].tobytes()
    assert info["spatial_mean_sigmas"] == [tuple(pair) for pair in case["sigmas"]]
    for i, channel in enumerate(channels):
        for axis in "yx":
            residual = info[f"spatial_mean_kernels_{axis}"][i]
            assert residual.tobytes() == golden[f"kernel_{axis}_{i}"].tobytes()
        error = np.abs(bkgds[i].compute() - golden[f"bkgd_{i}"]).max()
        limit = reference.tolerance(*info["channels_mean_radii_pix"][i])
        assert error <= limit * np.abs(channel).max()
