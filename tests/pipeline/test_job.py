"""What a job knows before it runs."""

import pytest

from smlmlp_dask import DescribedMovie
from smlmlp_dask.filters.spatial_mean import SpatialMean
from smlmlp_dask.filters.steps import FilterOptions
from smlmlp_dask.movies.selection import Selection
from smlmlp_dask.pipeline.job import prepare, recorded_options
from smlmlp_dask.store.codecs import Storage


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({}, FilterOptions("fused", 1, cuda=False)),
        ({"cuda": True}, FilterOptions("dask-image", 1, cuda=True)),
        ({"engine": "dask-image", "parallel": True}, FilterOptions("dask-image", 0, cuda=False)),
        ({"engine": "fused", "parallel": 3}, FilterOptions("fused", 3, cuda=False)),
    ],
)
def test_the_engine_is_chosen_where_options_are_checked(given, options):
    assert FilterOptions.checked(**given) == options


def test_a_movie_that_does_not_exist_has_a_job_too():
    selection = Selection.checked(bboxes=[[(0, 0, 8, 6), (8, 0, 16, 6)]])
    options, storage = FilterOptions("fused"), Storage.checked("small", 12)
    job = prepare(
        DescribedMovie((10, 6, 16)),
        SpatialMean(3.0),
        selection=selection,
        options=options,
        storage=storage,
    )
    assert [channel.source.shape for channel in job.channels] == [(10, 6, 8)] * 2
    attributes = job.with_inputs().attributes
    assert (attributes["sources"], attributes["inputs"]) == ([], [])
    assert attributes["blocks"] == sum(plan.n_blocks for plan in job.plans) == 2
    assert Selection.from_attributes(attributes) == selection
    assert recorded_options(attributes) == (options, storage)
