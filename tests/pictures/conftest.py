"""What tests of pictures and viewers begin with."""

import numpy as np
import pytest
import tifffile

from smlmlp_dask.movies.stack import Stack

MOVIE = np.random.default_rng(0).poisson(np.linspace(100, 200, 40), (12, 30, 40)).astype("u2")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with two movies."""
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("a.tif", MOVIE, photometric="minisblack")
    tifffile.imwrite("b.tif", MOVIE[:7, :, :20], photometric="minisblack")
    return tmp_path


@pytest.fixture
def reads(monkeypatch):
    """Shapes of all that is read from any disk."""
    shapes = []
    original = Stack.read

    def counted(self):
        shapes.append(self.shape)
        return original(self)

    monkeypatch.setattr(Stack, "read", counted)
    return shapes
