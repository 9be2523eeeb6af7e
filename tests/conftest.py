from pathlib import Path

import dask
import hypothesis
import pytest
import tifffile

from tests.commands import MOVIE

# The gate takes the second one, by --hypothesis-profile.
hypothesis.settings.register_profile("quick", deadline=None, max_examples=10)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=40)
hypothesis.settings.load_profile("quick")

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(autouse=True, scope="session")
def short_samples():
    """A plan's sample of a job takes less than the second and a half that a user's takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("smlmlp_dask.pipeline.measure.SECONDS", 0.1)
        yield


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with a movie."""
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("movie.tif", MOVIE, photometric="minisblack")
    return tmp_path


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
