from pathlib import Path

import dask
import hypothesis
import pytest

hypothesis.settings.register_profile("default", deadline=None, max_examples=40)
hypothesis.settings.load_profile("default")

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture
def real_data():
    """Real camera movies, which are not part of the project."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("the folder of real movies is not on this machine")
    return folder


@pytest.fixture
def no_compute():
    """Fail the test when Dask computes anything."""

    def refuse(*args, **kwargs):
        raise AssertionError("something was computed")

    with dask.config.set(scheduler=refuse):
        yield
