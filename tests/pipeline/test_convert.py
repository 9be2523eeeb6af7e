"""Movies kept as they are: the same pixels in another file, with the rules of every store."""

import json
from dataclasses import replace

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from ome_zarr_models.v05.image import Image

from smlmlp_dask import (
    blocks,
    convert_movies,
    open_backgrounds,
    open_channels,
    run_spatial_mean,
    verify_backgrounds,
)
from smlmlp_dask.movies.opening import open_recording
from smlmlp_dask.movies.stack import SourceReadError
from smlmlp_dask.pipeline import running
from smlmlp_dask.pipeline.convert import plan_conversion
from smlmlp_dask.store.chunk_files import chunk_path
from smlmlp_dask.store.read import read_attributes
from tests.interrupting import interrupted
from tests.movies.formats.test_carried import RICH
from tests.processes import journal
from tests.stored import contents

RNG = np.random.default_rng(5)
MOVIE = RNG.poisson(200, (23, 40, 36)).astype(np.uint16)
OTHER = RNG.integers(0, 256, (9, 20, 30), np.uint8)


def stored(path, channel=0):
    return zarr.open_array(path / f"channel_{channel}/0", mode="r")


DTYPES = ["u1", "i1", ">u2", "<u2", "i2", "u4", ">i4", "u8", "f2", ">f4", "<f8"]


@pytest.mark.parametrize("codec", ["fast", "small", "none"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_pixels_and_dtype_stay(dtype, codec, tmp_path, small):
    movie = (MOVIE % 120).astype(dtype)
    if movie.dtype.kind == "f":
        movie[0, 0, :3] = np.nan, np.inf, -0.0
    movie.tofile(tmp_path / "m.raw")
    raw = {"raw_shape": movie.shape, "raw_dtype": dtype}
    path = convert_movies(tmp_path / "m.raw", tmp_path / "out.zarr", codec=codec, **raw)
    array = stored(path)
    native = movie.astype(movie.dtype.newbyteorder("="))
    assert array.dtype == native.dtype
    assert array.chunks[0] < len(movie)
    assert len(movie) % array.chunks[0]  # the last chunk is filled up
    assert array[:].tobytes() == native.tobytes()
    assert verify_backgrounds(path, sample=3).problems == []


@pytest.mark.parametrize(
    "layout",
    [
        {"chunks": (8, 16, 16)},
        {"chunks": (23, 5, 7)},
        {"chunks": (2, 8, 12), "shards": (4, 16, 36)},
        {"chunks": (8, 16, 16), "zarr_format": 2},
    ],
)
@pytest.mark.parametrize("memory", ["plenty", "scarce"])
def test_every_layout_gives_the_same_pixels(layout, memory, tmp_path, monkeypatch):
    if memory == "scarce":  # frames are tiled
        scarce = {"slab_bytes": 9000, "block_bytes": 12_000}
        monkeypatch.setattr(blocks.plan_blocks, "__kwdefaults__", scarce)
    movie = zarr.create_array(tmp_path / "m.zarr", shape=MOVIE.shape, dtype="u2", **layout)
    movie[:] = MOVIE
    path = convert_movies(tmp_path / "m.zarr", tmp_path / "out.zarr")
    assert stored(path)[:].tobytes() == MOVIE.tobytes()


def test_parts_of_movies_are_channels(tif, tmp_path):
    path = convert_movies(
        tif,
        tmp_path / "out.zarr",
        bboxes=[[(0, 0, 18, 40), (18, 0, 36, 30)]],
        flips=[None, (True, True)],
        frames=slice(2, 20, 3),
    )
    np.testing.assert_array_equal(stored(path, 0)[:], MOVIE[2:20:3, :, :18])
    np.testing.assert_array_equal(stored(path, 1)[:], MOVIE[2:20:3, :30, 18:][:, ::-1, ::-1])


def two_channels(tif, tmp_path, **options):
    """A store of two channels that differ in length, size and dtype."""
    OTHER.tofile(tmp_path / "m.raw")
    raw = {"raw_shape": OTHER.shape, "raw_dtype": "u1"}
    return convert_movies([tif, tmp_path / "m.raw"], tmp_path / "out.zarr", **raw, **options)


def test_other_programs_read_it(tif, tmp_path):
    path = two_channels(tif, tmp_path)
    one = da.from_zarr(str(path), component="channel_0/0")
    assert one.dtype == np.uint16
    np.testing.assert_array_equal(one.compute(), MOVIE)
    for i, dtype in enumerate(["uint16", "uint8"]):
        image = Image.from_zarr(zarr.open_group(path / f"channel_{i}", mode="r"))
        assert [axis.name for axis in image.attributes.ome.multiscales[0].axes] == ["t", "y", "x"]
        assert stored(path, i).metadata.dimension_names == ("t", "y", "x")
        assert (stored(path, i).dtype, stored(path, i).fill_value) == (dtype, 0)


def test_it_is_a_source_of_all_its_channels(tif, tmp_path):
    path = two_channels(tif, tmp_path)
    for opened in (open_channels(path), open_channels(path / "channel_0", path / "channel_1")):
        assert [channel.dtype for channel in opened] == [np.uint16, np.uint8]
        for channel, pixels in zip(opened, (MOVIE, OTHER), strict=True):
            np.testing.assert_array_equal(channel.compute(), pixels)
    of_file = run_spatial_mean(tif, tmp_path / "a.zarr").bkgds[0].compute()
    of_store = run_spatial_mean(path, tmp_path / "b.zarr").bkgds[0].compute()
    assert of_file.tobytes() == of_store.tobytes()


def test_what_the_store_says_of_itself(tif, tmp_path):
    attributes = read_attributes(two_channels(tif, tmp_path, codec="small"))
    assert attributes["finished"] is True
    assert (attributes["steps"], attributes["outputs"]) == ([], ["raw"])
    assert attributes["dtypes"] == ["uint16", "uint8"]
    assert attributes["codec"] == "small"
    assert attributes["sources"] == [str(tif), str(tmp_path / "m.raw")]
    assert not any("radi" in key or "noise" in key or "engine" in key for key in attributes)


def test_how_it_was_recorded_goes_along(tif, tmp_path):
    known = {"pixel_size_um": (0.1, 0.2), "frame_interval_s": 0.05, "channel_names": ["red"]}
    path = convert_movies(tif, tmp_path / "out.zarr", **known)
    group = zarr.open_group(path / "channel_0", mode="r")
    (image,) = group.attrs["ome"]["multiscales"]
    assert image["datasets"][0]["coordinateTransformations"][0]["scale"] == [0.05, 0.1, 0.2]
    (channel,) = group.attrs["ome"]["omero"]["channels"]
    assert channel["label"] == "red"
    shown = channel["window"]
    taken = MOVIE[[0, 11, 22]]
    assert (shown["min"], shown["max"]) == (taken.min(), taken.max())
    assert shown["min"] <= shown["start"] < MOVIE.mean() < shown["end"] <= shown["max"]
    again = run_spatial_mean(path, tmp_path / "b.zarr").acquisitions
    assert (again[0].channel, again[0].pixel_size_um) == ("red", (0.1, 0.2))


@pytest.mark.parametrize("name", ["Picasso", "TIFF"])
def test_a_copy_says_what_its_movie_does(tmp_path, name):
    """Exposure, gain and baseline, too, for which OME has no place: photons need them."""
    source, path = RICH[name](tmp_path), tmp_path / "c.zarr"
    recording = open_recording(source)
    several = len(recording.positions) > 1
    convert_movies(source, path, position=0 if several else None, z=0)
    known = recording.positions[0].channels
    again = open_recording(path).positions[0].channels
    assert again == tuple(replace(k, channel=a.channel) for k, a in zip(known, again, strict=True))
    assert all(k.channel in (None, a.channel) for k, a in zip(known, again, strict=True))


def test_a_missing_chunk_is_an_error_not_zeros(tif, tmp_path):
    path = convert_movies(tif, tmp_path / "out.zarr")
    chunk_path(path / "channel_0/0", (0, 0, 0)).unlink()
    (channel,) = open_channels(path)
    with pytest.raises(SourceReadError, match="missing"):
        channel.compute()


def test_it_is_no_store_of_backgrounds(tif, tmp_path):
    path = convert_movies(tif, tmp_path / "out.zarr")
    with pytest.raises(ValueError, match="holds raw frames, no backgrounds"):
        open_backgrounds(path)


# ---- interrupted, damaged ------------------------------------------------------------------------


def test_resumed_it_has_the_bytes_of_an_undisturbed_run(tif, tmp_path, small, monkeypatch):
    whole = contents(convert_movies(tif, tmp_path / "whole.zarr"))
    path = tmp_path / "out.zarr"
    interrupted(tif, path, 3, monkeypatch, convert_movies)
    assert 0 < len(journal(path)) < 12
    with pytest.raises(ValueError, match=r"its frames are incomplete.*smlmlp-dask convert"):
        verify_backgrounds(path)
    with pytest.raises(ValueError, match="unfinished"):
        open_channels(path)
    with pytest.raises(FileExistsError):
        convert_movies(tif, path)
    with pytest.raises(ValueError, match='codec was "fast" and is "small"'):
        convert_movies(tif, path, codec="small", resume=True)
    with pytest.raises(ValueError, match="it holds frames as they are, not backgrounds: "):
        run_spatial_mean(tif, path, resume=True)
    convert_movies(tif, path, resume=True)
    assert contents(path) == whole


def test_a_movie_that_changes_meanwhile_leaves_it_unfinished(tif, tmp_path, monkeypatch):
    work = running.filter_and_store

    def changing(task, **options):
        done = work(task, **options)
        tifffile.imwrite(tif, MOVIE + 1, photometric="minisblack")
        return done

    monkeypatch.setattr(running, "filter_and_store", changing)
    with pytest.raises(OSError, match=r"has changed while it was copied: the store stays"):
        convert_movies(tif, tmp_path / "out.zarr")


# ---- planned -------------------------------------------------------------------------------------


def test_the_plan_is_in_the_movies_own_dtype(tif, tmp_path):
    plan = plan_conversion(tif)
    assert plan.output_bytes == MOVIE.nbytes
    assert plan.dtypes == ["uint16"]
    assert "filtered" not in plan.channels[0].held
    path = convert_movies(tif, tmp_path / "out.zarr")
    assert json.loads((path / "channel_0/0/zarr.json").read_text())["data_type"] == "uint16"
    measured = plan_conversion(tif, measured=True, destination=tmp_path / "no.zarr")
    assert measured.stored_bytes > 0
    assert not (tmp_path / "no.zarr").exists()


def test_chunks_are_those_of_its_background(tmp_path):
    """So a background of the store decodes each chunk once."""
    zarr.create_array(tmp_path / "m.zarr", shape=(500, 300, 200), chunks=(7, 300, 200), dtype="u2")
    (kept,) = plan_conversion(tmp_path / "m.zarr").channels
    again = blocks.plan_blocks(kept.shape, 2, kept.chunks, (9, 9))
    assert again.read_amplification == 1
    assert again.block == kept.block


def test_a_chunk_of_wide_pixels_fits_the_codec(monkeypatch):
    monkeypatch.setattr(blocks, "CODEC_BYTES", 1000)
    plan = blocks.plan_blocks((10, 10, 30), 8, (1, 10, 30), (0, 0), kept=True)
    assert 8 * np.prod(plan.chunks) <= 1000
