"""A result whose store another one replaced: its factors and pedestal are not the pixels'."""

import os
import pickle

import numpy as np
import pytest
import tifffile

from smlmlp_dask import (
    SourceReadError,
    SpatialMean,
    export_movie,
    open_backgrounds,
    run_background,
    verify_backgrounds,
)
from smlmlp_dask.store.metadata import COPY

MOVIE = np.random.default_rng(26).poisson(100, (6, 8, 9)).astype(np.uint16)
ALL = ("background", "signal", "mean_background")


@pytest.fixture
def job(tmp_path):
    tifffile.imwrite(tmp_path / "movie.tif", MOVIE, photometric="minisblack")

    def run(radius, **options):
        steps = SpatialMean(radius)
        given = {"pedestal": 100, **options}
        return run_background(
            tmp_path / "movie.tif", tmp_path / "out.zarr", steps, ALL, overwrite=True, **given
        )

    return run


READS = {
    "background": lambda result: result.bkgds[0].compute(),
    "signal": lambda result: result.signals[0][2:4].compute(),
    "mean_background": lambda result: result.mean_bkgds[0].compute(),
    "frame": lambda result: result.frames("signal")[0],
    "raw frame": lambda result: result.frames("raw")[0],
    "pickled": lambda result: pickle.loads(pickle.dumps(result.frames("signal")))[0],
    "export": lambda result: export_movie(result, result.path.with_name("signal.raw")),
    "difference, which was 0": lambda result: (
        result.bkgds[0] - open_backgrounds(result.path).bkgds[0]
    ).compute(),
}
OTHERS = {
    "pedestal": {"radius": 2.0, "pedestal": 500},
    "dtype": {"radius": 2.0, "pedestal": None},
    "boxes": {"radius": 2.0, "bboxes": [[(1, 1, 8, 7)]]},
    "frames": {"radius": 2.0, "frames": slice(None, None, -1)},
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_it_is_refused(job, read):
    result = job(2.0)
    job(3.0)
    with pytest.raises(SourceReadError, match="has been replaced by another store since"):
        read(result)


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_whatever_differs(job, other):
    result = job(2.0)
    job(**other)
    with pytest.raises(SourceReadError, match="has been replaced by another store since"):
        result.signals[0].compute()


def test_a_graph_made_before(job):
    result = job(2.0)
    lazy = MOVIE - result.bkgds[0]
    job(3.0)
    with pytest.raises(SourceReadError, match="has been replaced"):
        lazy.compute()


def test_the_same_store_again(job):
    """Written again with the same settings, copied, repaired: its pixels are what they were."""
    result = job(2.0)
    before = result.signals[0].compute()
    job(2.0)
    assert (result.signals[0].compute() == before).all()
    os.utime(result.path / COPY, ns=(1, 1))
    assert (result.signals[0].compute() == before).all()
    (result.path / COPY).unlink()
    assert (result.signals[0].compute() == before).all()
    assert verify_backgrounds(result.path, repair=True).problems == []
    assert (result.signals[0].compute() == before).all()
