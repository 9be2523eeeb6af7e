"""Zarr stores in zip files are read where they are, by many threads; other zips are refused."""

import pickle
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.storage import ZipStore

from smlmlp_dask import open_channels
from smlmlp_dask.movies.formats import zarr_zips
from smlmlp_dask.movies.opening import open_recording, open_stacks, source_roots
from smlmlp_dask.movies.selection import Selection
from smlmlp_dask.movies.stack import SourceReadError

MOVIE = (np.arange(11 * 9 * 7) * 37 % 4099).astype(np.uint16).reshape(11, 9, 7)


def zipped(folder, path, *, inside="", compression=zipfile.ZIP_STORED):
    """Zip what is in a folder, with a path before each name."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, Path(inside, file.relative_to(folder)))
    return path


def array_at(path, **options):
    zarr.create_array(path, data=MOVIE, **({"chunks": (3, 9, 7)} | options))
    return path


def image_at(path):
    axes = [{"name": name} for name in "ctyx"]
    scales = [{"type": "scale", "scale": [1, 1, 0.1, 0.1]}]
    datasets = [{"path": "0", "coordinateTransformations": scales}]
    ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    group = zarr.create_group(path, attributes={"ome": ome})
    group.create_array("0", data=np.stack([MOVIE, MOVIE + 1]), chunks=(1, 2, 9, 7))
    return path


ARRAYS = {
    "v3": {},
    "v2": {"zarr_format": 2},
    "sharded": {"chunks": (1, 9, 7), "shards": (4, 9, 7)},
    "tiled": {"chunks": (2, 4, 3)},
    "not encoded": {"compressors": None},
}
ZIPS = {
    "root": {},
    "folder": {"inside": "movie.zarr"},
    "deep": {"inside": "a/b c/movie.zarr"},
    "deflated": {"compression": zipfile.ZIP_DEFLATED},
}


@pytest.mark.parametrize("layout", ARRAYS)
@pytest.mark.parametrize("way", ZIPS)
def test_zipped_arrays(tmp_path, layout, way):
    folder = array_at(tmp_path / "movie.zarr", **ARRAYS[layout])
    path = zipped(folder, tmp_path / "movie.zarr.zip", **ZIPS[way])
    [channel] = open_channels(
        path, frames=slice(None, None, -2), bboxes=[[(1, 2, 6, 8)]], flips=[(True, False)]
    )
    expected = MOVIE[::-2, 2:8, 1:6][:, ::-1]
    np.testing.assert_array_equal(channel.compute(scheduler="threads", num_workers=8), expected)


def test_a_zip_that_zarr_wrote(tmp_path):
    with ZipStore(tmp_path / "movie.zip", mode="w") as store:
        zarr.create_array(store, data=MOVIE, chunks=(2, 9, 7))
    [stack] = open_stacks(tmp_path / "movie.zip")
    np.testing.assert_array_equal(stack.read(), MOVIE)


@pytest.mark.parametrize("inside", ["", "::0", "::/0/", "::movie.zarr", "::movie.zarr/0"])
@pytest.mark.parametrize("name", ["movie.ozx", "MOVIE.ZIP"])
def test_places_in_a_zip(tmp_path, inside, name):
    path = zipped(image_at(tmp_path / "a.zarr"), tmp_path / name, inside="movie.zarr")
    stacks = open_stacks(f"{path}{inside}")
    for number, stack in enumerate(stacks):
        np.testing.assert_array_equal(stack.read(), MOVIE + number)
        assert stack.acquisition.pixel_size_um == (0.1, 0.1)
    assert len(stacks) == 2
    assert source_roots(f"{path}{inside}") == [path]


def test_images_in_a_zip_are_positions(tmp_path):
    for name in "ab":
        image_at(tmp_path / "set" / name)
    zarr.create_group(tmp_path / "set")
    path = zipped(tmp_path / "set", tmp_path / "set.zip")
    assert [position.name for position in open_recording(path).positions] == ["a", "b"]
    stacks = open_stacks(path, selection=Selection.checked(position="b", channels=[1]))
    np.testing.assert_array_equal(stacks[0].read(), MOVIE + 1)


def test_a_task_is_small_and_reads_for_itself(tmp_path):
    frames = np.zeros((600, 2, 2), "u2")
    frames[:] = np.arange(600)[:, None, None]
    zarr.create_array(tmp_path / "a", data=frames, chunks=(1, 2, 2), fill_value=600)
    [stack] = open_stacks(zipped(tmp_path / "a", tmp_path / "a.zip"))
    stack.read()  # the list of its 600 files does not travel
    part = slice(7, 600, 100)
    task = pickle.dumps(stack.part((part, slice(None), slice(None))))
    assert len(task) < 4_000
    zarr_zips._entries.cache_clear()  # as in another process
    with ThreadPoolExecutor(8) as pool:
        for pixels in pool.map(lambda _: pickle.loads(task).read(), range(32)):
            np.testing.assert_array_equal(pixels, frames[part])


def test_no_file_stays_open(tmp_path):
    [stack] = open_stacks(zipped(array_at(tmp_path / "a"), tmp_path / "a.zip"))
    stack.read()
    open_files = [file.readlink() for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]
    assert tmp_path / "a.zip" not in open_files


def test_a_missing_chunk_in_a_zip_is_its_fill_value(tmp_path):
    folder = array_at(tmp_path / "a", fill_value=7)
    (folder / "c" / "1" / "0" / "0").unlink()
    path = zipped(folder, tmp_path / "a.zip")
    with pytest.warns(UserWarning, match="1 of 4 chunks of .*a.zip have no file, .* read as 7"):
        [stack] = open_stacks(path)
    expected = MOVIE.copy()
    expected[3:6] = 7
    np.testing.assert_array_equal(stack.read(), expected)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_flipped_bit_in_a_zip_is_found(tmp_path, compression):
    """The pixels are not encoded, so only the zip's own checksum can tell."""
    folder = array_at(tmp_path / "a", compressors=None)
    path = zipped(folder, tmp_path / "a.zip", compression=compression)
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("c/1/0/0").header_offset
    content = bytearray(path.read_bytes())
    content[start + 30 + len("c/1/0/0") + 40] ^= 1
    path.write_bytes(content)
    [stack] = open_stacks(path)
    with pytest.raises(SourceReadError, match=r"a\.zip: chunk c/1/0/0 \(frames 3-5\) cannot be r"):
        stack.read()
    np.testing.assert_array_equal(stack.part((slice(6, 11), *[slice(None)] * 2)).read(), MOVIE[6:])


def test_a_zip_that_was_replaced_is_not_read_at_the_old_places(tmp_path):
    path = zipped(array_at(tmp_path / "a"), tmp_path / "a.zip")
    [stack] = open_stacks(path)
    zipped(array_at(tmp_path / "b", chunks=(1, 9, 7)), path, inside="longer/path")
    with pytest.raises(SourceReadError, match=r"a\.zip: chunk c/0/0/0"):
        stack.read()


def encrypted(path):
    zipped(array_at(path.parent / "a"), path)
    content = path.read_bytes()
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        parts = content.split(signature)
        marked = [part[: flags - 4] + b"\x01" + part[flags - 3 :] for part in parts[1:]]
        content = signature.join([parts[0], *marked])
    path.write_bytes(content)


def texts(*names):
    def write(path):
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, "text")

    return write


def two_stores(path):
    zipped(array_at(path.parent / "set" / "a.zarr").parent, path)
    array_at(path.parent / "set" / "b.zarr")
    zipped(path.parent / "set", path)


def cut(path):
    zipped(array_at(path.parent / "a"), path)
    path.write_bytes(path.read_bytes()[:-40])


def lies_elsewhere(offset):
    def write(path):
        zipped(array_at(path.parent / "a"), path)
        content = bytearray(path.read_bytes())
        last = content.rindex(b"PK\x01\x02")
        content[last + 42 : last + 46] = offset.to_bytes(4, "little")
        path.write_bytes(content)

    return write


def longer_list(path):
    """The list of files would begin before the file does."""
    zipped(array_at(path.parent / "a"), path)
    content = bytearray(path.read_bytes())
    content[-10:-6] = (2**31).to_bytes(4, "little")
    path.write_bytes(content)


def without_metadata(path):
    (array_at(path.parent / "a") / "zarr.json").write_text('{"node_type": "array"')
    zipped(path.parent / "a", path)


REFUSED = {
    "no Zarr": (texts("a.txt", "b/c.txt"), "", "is a zip without a Zarr array or group: unpack it"),
    "no zip": (lambda p: p.write_text("text"), "", "cannot be read as a zip: .*; copy it again"),
    "cut short": (cut, "", "cannot be read as a zip"),
    "cut in its list": (longer_list, "", "cannot be read as a zip: .*; copy it again"),
    "places beyond": (lies_elsewhere(2**31), "", "zarr.json lies beyond the end of the file; copy"),
    "places of others": (lies_elsewhere(7), "", "zarr.json is damaged in the zip: it is not where"),
    "two stores": (two_stores, "", r"holds 2 Zarr stores \(a\.zarr, b\.zarr\): choose one, as"),
    "no such place": (two_stores, "::c.zarr", "choose one"),
    "not in it": (
        lambda p: zipped(image_at(p.parent / "i"), p),
        "::1",
        r"a\.zip::1 is no array or group of .*: pass one array, such as .*a\.zip::0; it has 0 \(2",
    ),
    "damaged": (without_metadata, "", "damaged Zarr metadata"),
    "encrypted": (encrypted, "", "zarr.json is encrypted: zip it again without"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_zips_that_are_refused_in_one_line(tmp_path, case):
    build, inside, match = REFUSED[case]
    path = tmp_path / "a.zip"
    build(path)
    with pytest.raises((ValueError, FileNotFoundError), match=match) as error:
        open_channels(f"{path}{inside}")
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_zip_is_only_read(tmp_path):
    path = zipped(array_at(tmp_path / "a"), tmp_path / "a.zip")
    with pytest.raises(ValueError, match="read-only"):
        zarr.open_array(zarr_zips.ZippedStore(path))[:] = 0
