import json
import os
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import zarr
from ome_zarr_models import open_ome_zarr
from ome_zarr_models.v05 import Image

from smlmlp_dask import open_backgrounds
from smlmlp_dask.storage import Storage
from smlmlp_dask.store import ATTRIBUTE, ChannelSpec, check_destination, new_store

SPECS = [ChannelSpec((5, 6, 7), (2, 6, 7)), ChannelSpec((0, 3, 4), (1, 3, 4))]
STORAGE = Storage("fast", None)
ATTRIBUTES = {
    "channels_mean_radii_pix": [[1.0, 2.0], [3.0, 3.0]],
    "spatial_mean_sigmas": [[0.5, 1.0], [1.5, 1.5]],
    "spatial_mean_kernels_y": [[0.1], [0.25]],
    "spatial_mean_kernels_x": [[-0.5, 1.0, -0.5], [0.3]],
    "noise_corrections": [float(np.float32(0.1)), 2.0],
}


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "out.zarr"
    with new_store(path, SPECS, ATTRIBUTES, STORAGE) as arrays:
        arrays[0][:] = np.arange(5 * 6 * 7).reshape(5, 6, 7)
    return path


def test_reopened_as_it_was_written(store):
    result = open_backgrounds(store)
    assert result.path == store
    assert [bkgd.shape for bkgd in result.bkgds] == [(5, 6, 7), (0, 3, 4)]
    assert result.bkgds[0].chunks == ((2, 2, 1), (6,), (7,))
    assert result.bkgds[0].dtype == np.float32
    np.testing.assert_array_equal(result.bkgds[0].compute().ravel(), np.arange(5 * 6 * 7))
    assert result.noise_corrections == [np.float32(0.1), np.float32(2)]
    assert all(type(factor) is np.float32 for factor in result.noise_corrections)
    assert result.info["channels_mean_radii_pix"] == [(1.0, 2.0), (3.0, 3.0)]
    assert result.info["channels_mean_radius_pix"] == [(1.0, 2.0), (3.0, 3.0)]
    assert result.info["spatial_mean_sigmas"] == [(0.5, 1.0), (1.5, 1.5)]
    residual = result.info["spatial_mean_kernels_y"][0]
    assert residual.dtype == np.float32
    assert residual == np.float32([0.1])


@pytest.mark.parametrize("image", ["", "channel_0", "channel_1"])
def test_an_independent_validator_agrees(store, image):
    assert isinstance(open_ome_zarr(zarr.open_group(store / image, mode="r")), Image)


def test_plain_zarr_and_dask_read_it(store):
    group = zarr.open_group(store, mode="r")
    assert group.metadata.zarr_format == 3
    assert group.attrs[ATTRIBUTE]["finished"] is True
    assert group.attrs[ATTRIBUTE]["versions"]["smlmlp-dask"]
    array = group["channel_0/0"]
    assert array.dtype == np.float32
    assert array.metadata.dimension_names == ("t", "y", "x")
    lazy = da.from_zarr(str(store), component="channel_0/0")
    np.testing.assert_array_equal(lazy.compute(), array[:])


def test_a_chunk_of_one_value_is_written_too(tmp_path):
    with new_store(tmp_path / "out.zarr", SPECS, ATTRIBUTES, STORAGE) as arrays:
        arrays[0][:2] = np.nan  # the fill value
    assert (tmp_path / "out.zarr/channel_0/0/c/0/0/0").exists()


def is_unfinished(path):
    with pytest.raises(ValueError, match=r"out\.zarr is not finished"):
        open_backgrounds(path)
    return True


def test_unfinished_until_the_end(tmp_path):
    path = tmp_path / "out.zarr"
    with new_store(path, SPECS, ATTRIBUTES, STORAGE):
        assert is_unfinished(path)
    assert open_backgrounds(path).path == path


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_nothing_behind(tmp_path, error):
    def fail():
        with new_store(tmp_path / "a/b/out.zarr", SPECS, ATTRIBUTES, STORAGE) as arrays:
            arrays[0][:] = 1
            raise error

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_folders_that_others_use_by_now_stay(tmp_path):
    def fail():
        with new_store(tmp_path / "a/b/out.zarr", SPECS, ATTRIBUTES, STORAGE):
            (tmp_path / "a/other").touch()
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - it is ours
        fail()
    assert list(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "a/other"]


def test_a_quicker_run_is_not_touched(tmp_path):
    (tmp_path / "out.zarr").mkdir()
    (tmp_path / "out.zarr/precious").touch()
    with pytest.raises(FileExistsError, match=r"out\.zarr cannot be written"):
        new_store(tmp_path / "out.zarr", SPECS, ATTRIBUTES, STORAGE).__enter__()
    assert (tmp_path / "out.zarr/precious").exists()


def test_a_destination_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="cannot be written: .*file is a file"):
        new_store(tmp_path / "file/out.zarr", SPECS, ATTRIBUTES, STORAGE).__enter__()

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(zarr, "create_group", refuse)
    with pytest.raises(PermissionError, match=r"out\.zarr cannot be written \(Permission denied\)"):
        new_store(tmp_path / "out.zarr", SPECS, ATTRIBUTES, STORAGE).__enter__()
    assert not (tmp_path / "out.zarr").exists()


# ---- what is no finished store -----------------------------------------------------------------


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.zarr does not exist"):
        open_backgrounds(tmp_path / "nothing.zarr")


@pytest.mark.parametrize("kind", ["folder", "file", "array", "group", "damaged", "wrong attribute"])
def test_not_a_store(tmp_path, kind):
    path = tmp_path / "x.zarr"
    match kind:
        case "folder":
            path.mkdir()
        case "file":
            path.write_text("no store")
        case "array":
            zarr.create_array(path, shape=(1,), dtype="u1")
        case "group":
            zarr.create_group(path)
        case "wrong attribute":
            zarr.create_group(path, attributes={ATTRIBUTE: "finished"})
        case "damaged":
            path.mkdir()
            (path / "zarr.json").write_text('{"zarr_format": 3')
    with pytest.raises(ValueError, match=r"x\.zarr is not a store of backgrounds"):
        open_backgrounds(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.pop("noise_corrections"),
        lambda a: a.pop("spatial_mean_sigmas"),
        lambda a: a.update(noise_corrections=["a", "b"]),
        lambda a: a.update(noise_corrections=None),
        lambda a: a.update(noise_corrections=[1.0, 1.0, 1.0]),
        lambda a: a.update(channels_mean_radii_pix=[1, 2]),
    ],
)
def test_damaged_attributes(store, change):
    file = store / "zarr.json"
    metadata = json.loads(file.read_text())
    change(metadata["attributes"][ATTRIBUTE])
    file.write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match=r"out\.zarr is damaged"):
        open_backgrounds(store)


# ---- destinations ------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "movie").mkdir()
    (tmp_path / "movie/1.tif").touch()
    (tmp_path / "link").symlink_to(tmp_path / "movie")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    return tmp_path


@pytest.mark.parametrize(
    "spelling",
    ["movie", "movie/out.zarr", "movie/a/b/out.zarr", "link", "link/out.zarr", "x/../movie/o.zarr"],
)
def test_on_or_inside_an_input(folder, spelling, monkeypatch):
    (folder / "x").mkdir()
    monkeypatch.chdir(folder)
    for path in (folder / spelling, Path(spelling)):
        with pytest.raises(ValueError, match="is the input .* or lies inside it: write elsewhere"):
            check_destination(path, [folder / "movie"])


@pytest.mark.parametrize("existing", ["movie", "movie/1.tif", "link", "nowhere"])
def test_over_an_existing_path(folder, existing):
    with pytest.raises(FileExistsError, match=f"{existing} exists: choose another"):
        check_destination(folder / existing, [])


def test_beside_an_input(folder):
    check_destination(folder / "out.zarr", [folder / "movie"])
    check_destination(folder / "movie/out.zarr", [folder / "movie/1.tif"])
    os.link(folder / "movie/1.tif", folder / "hard.tif")
    with pytest.raises(ValueError, match="is the input"):
        check_destination(folder / "hard.tif", [folder / "movie/1.tif"])
