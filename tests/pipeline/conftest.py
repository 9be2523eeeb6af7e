"""A module's MOVIE as a TIFF, and blocks of a few of its frames."""

from functools import partial
from math import prod

import pytest
import tifffile

from smlmlp_dask import blocks


@pytest.fixture
def tif(tmp_path, request):
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, request.module.MOVIE, photometric="minisblack")
    return path


@pytest.fixture
def small(monkeypatch, request):
    two_frames = 2 * 4 * prod(request.module.MOVIE.shape[1:])
    plan = partial(blocks.plan_blocks, block_bytes=two_frames)
    monkeypatch.setattr(blocks, "plan_blocks", plan)
    monkeypatch.setattr(blocks, "MEAN_FRAMES", 6)
