"""Each command opens each of its movies once: on a remote disk that takes long."""

import shutil
from collections import Counter

import pytest

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
def test_each_movie_is_opened_once(folder, monkeypatch, line):
    for name in MOVIES:
        shutil.copy("movie.tif", name)
    for store in ("out.zarr", "damaged.zarr"):
        assert call("run", *MOVIES, "-o", store).exit_code == 0
    (folder / "damaged.zarr/channel_0/0/c/0/0/0").unlink()
    opened, inner = Counter(), Format.open

    def counted(self, path, inside=""):
        opened[path.name] += 1
        return inner(self, path, inside)

    monkeypatch.setattr(Format, "open", counted)
    ended = call(*line.split())
    assert ended.exit_code == 0, ended.output
    assert opened == dict.fromkeys(MOVIES, 1)
