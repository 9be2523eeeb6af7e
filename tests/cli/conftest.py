"""What tests of commands begin with."""

import pytest
import tifffile

from tests.commands import MOVIE


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with a movie."""
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("movie.tif", MOVIE, photometric="minisblack")
    return tmp_path
