"""Each command opens each of its movies once: on a remote disk that takes long."""

from collections import Counter

import numpy as np
import pytest
import tifffile

from smlmlp_dask.movies.formats.table import Format
from tests.commands import call

MOVIES = ("a.tif", "b.tif")


@pytest.mark.parametrize(
    "line",
    [
        "run a.tif b.tif -o new.zarr",
        "run a.tif b.tif -o out.zarr --resume",
        "run a.tif b.tif --dry-run",
        "convert a.tif b.tif -o new.zarr",
        "radius a.tif b.tif",
        "verify out.zarr --deep",
        "verify damaged.zarr --repair",
        "report out.zarr",
        "plot out.zarr",
        "export out.zarr -o raw.raw --what raw --channel 1",
    ],
)
def test_each_movie_is_opened_once(tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    for name in MOVIES:
        pixels = np.random.default_rng(5).poisson(200, (11, 20, 24)).astype(np.uint16)
        tifffile.imwrite(name, pixels, photometric="minisblack")
    for store in ("out.zarr", "damaged.zarr"):
        assert call("run", *MOVIES, "-o", store).exit_code == 0
    (tmp_path / "damaged.zarr/channel_0/0/c/0/0/0").unlink()
    opened, inner = Counter(), Format.open

    def counted(self, path, inside=""):
        opened[path.name] += 1
        return inner(self, path, inside)

    monkeypatch.setattr(Format, "open", counted)
    ended = call(*line.split())
    assert ended.exit_code == 0, ended.output
    assert opened == dict.fromkeys(MOVIES, 1)
