"""HDF5 datasets of every layout come back as h5py reads them; what is not certain is refused."""

import imagecodecs
import numpy as np
import pytest

from smlmlp_dask.lazy.channels import open_channels
from smlmlp_dask.movies.formats import hdf5_movie
from smlmlp_dask.movies.formats.frames import FileMovie
from smlmlp_dask.movies.formats.hdf5_movie import DatasetMovie
from smlmlp_dask.movies.opening import source_roots

from .contract import assert_reads, stacks

h5py = pytest.importorskip("h5py", reason="the extra hdf5 is not installed")

MOVIE = (np.arange(11 * 9 * 6) * 37 % 4099).astype(np.uint16).reshape(11, 9, 6)
LABELS = {"t": "time", "c": "channel", "z": "z", "y": "y", "x": "x"}


def write(path, movie=MOVIE, name="data", *, axes="", **options):
    with h5py.File(path, "a") as file:
        dataset = file.create_dataset(name, data=movie, **options)
        for number, axis in enumerate(axes):
            dataset.dims[number].label = LABELS.get(axis, axis)
    return path


def write_12_bits(path, movie=MOVIE):
    """Numbers of 12 bits in 16, which HDF5 converts when it reads them."""
    kind = h5py.h5t.NATIVE_UINT16.copy()
    kind.set_precision(12)
    kind.set_offset(3)
    with h5py.File(path, "w") as file:
        h5py.h5d.create(file.id, b"data", kind, h5py.h5s.create_simple(movie.shape))
        file["data"][...] = movie
    return path


LAYOUTS = {
    "contiguous": ({}, FileMovie),
    "frames": ({"chunks": (1, 9, 6)}, FileMovie),
    "runs of frames": ({"chunks": (4, 9, 6)}, FileMovie),
    "tiles": ({"chunks": (2, 4, 5)}, DatasetMovie),
    "one chunk": ({"chunks": (11, 9, 6), "compression": "gzip"}, DatasetMovie),
    "larger chunks": ({"chunks": (16, 16, 6), "maxshape": (None,) * 3}, DatasetMovie),
    "gzip": ({"chunks": (1, 9, 6), "compression": "gzip"}, DatasetMovie),
    "gzip tiles": ({"chunks": (3, 4, 4), "compression": 9, "shuffle": True}, DatasetMovie),
    "shuffle": ({"chunks": (4, 9, 6), "shuffle": True}, DatasetMovie),
    "lzf": ({"chunks": (2, 9, 6), "compression": "lzf", "shuffle": True}, DatasetMovie),
    "checksums": ({"chunks": (2, 5, 6), "compression": 1, "fletcher32": True}, DatasetMovie),
    "scale and offset": ({"chunks": (2, 5, 6), "scaleoffset": 0}, DatasetMovie),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("userblock", [0, 512])
def test_every_layout(tmp_path, layout, userblock):
    options, kind = LAYOUTS[layout]
    path = tmp_path / "a movie.H5"
    with h5py.File(path, "w", userblock_size=userblock) as file:
        file.create_dataset("entry/my data", data=MOVIE, **options)
    assert_reads(path, MOVIE)
    assert_reads(f"{path}::entry/my data", MOVIE)
    (stack,) = stacks(path)
    assert type(stack.movie) is (DatasetMovie if userblock else kind)
    chunk = (1, 9, 6) if kind is FileMovie else options["chunks"]
    if "chunks" in options:
        decoding = stack.movie.decoding(whole=True)
        assert decoding.unit == stack.movie.unit == (options["chunks"] if userblock else chunk)
        if type(stack.movie) is DatasetMovie:  # a chunk in three forms
            assert (decoding.unit_bytes, decoding.together) == (6 * np.prod(decoding.unit), 1)
    assert source_roots(f"{path}::/entry/my data") == [path]


@pytest.mark.parametrize("dtype", ["u1", ">u2", "<i4", ">f4", "f8", "<f2", ">u8"])
@pytest.mark.parametrize("layout", ["contiguous", "tiles", "gzip tiles", "lzf", "checksums"])
def test_dtypes_in_both_byte_orders(tmp_path, dtype, layout):
    movie = MOVIE.astype(dtype)
    path = write(tmp_path / "a.hdf5", movie, **LAYOUTS[layout][0])
    with h5py.File(path) as file:
        assert file["data"].dtype == np.dtype(dtype)
        np.testing.assert_array_equal(file["data"][:], movie)
    for given in ({}, {"frames": slice(9, 0, -4), "bboxes": [[(1, 2, 4, 7)]]}):
        (stack,) = stacks(path, **given)
        expected = movie[9:0:-4, 2:7, 1:4] if given else movie
        assert stack.dtype == np.dtype(dtype).newbyteorder("=")
        np.testing.assert_array_equal(stack.read(), expected)


def test_chunks_that_compression_would_make_larger_are_stored_as_they_are(tmp_path):
    movie = np.random.default_rng(0).integers(0, 2**16, (11, 90, 60), "u2")
    path = write(tmp_path / "a.h5", movie, chunks=(1, 90, 60), compression="lzf", shuffle=True)
    with h5py.File(path) as file:
        assert file["data"].id.get_chunk_info(0).filter_mask
    assert_reads(path, movie)


def test_numbers_of_12_bits(tmp_path):
    path = write_12_bits(tmp_path / "a.h5", MOVIE % 4096)
    assert_reads(path, MOVIE % 4096)


@pytest.mark.parametrize(
    "name", ["Blosc", "Blosc2", "LZ4", "Zstd", "Bitshuffle", "Zfp"]
)  # those of the package hdf5plugin
def test_filters_of_the_plugins(tmp_path, name):
    plugins = pytest.importorskip("hdf5plugin", reason="hdf5plugin is not installed")
    movie = MOVIE.astype("f4") if name == "Zfp" else MOVIE
    how = plugins.Zfp(reversible=True) if name == "Zfp" else getattr(plugins, name)()
    path = write(tmp_path / "a.h5", movie, chunks=(4, 5, 6), **how)
    assert_reads(path, movie)


ENCODERS = {
    32001: lambda pixels: imagecodecs.blosc_encode(pixels, typesize=2),
    32004: imagecodecs.lz4h5_encode,
    32015: imagecodecs.zstd_encode,
}


@pytest.mark.parametrize("code", ENCODERS)
def test_filters_that_are_undone_without_the_plugins(tmp_path, code):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((2, 9, 6))
    plist.set_filter(code, h5py.h5z.FLAG_OPTIONAL)
    space = h5py.h5s.create_simple((10, 9, 6))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = h5py.h5d.create(file.id, b"data", h5py.h5t.STD_U16LE, space, plist)
        for start in range(0, 10, 2):
            encoded = ENCODERS[code](MOVIE[start : start + 2].tobytes())
            dataset.write_direct_chunk((start, 0, 0), encoded)
    (stack,) = stacks(tmp_path / "a.h5")
    np.testing.assert_array_equal(stack.read(), MOVIE[:10])


def test_a_filter_that_is_missing_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "a.h5", chunks=(1, 9, 6), fletcher32=True)
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: code != 3)
    with pytest.raises(ValueError, match=r"a\.h5::/data .*filter 3 \(fletcher32\).*hdf5plugin$"):
        open_channels(path)


# Channels and slices


@pytest.mark.parametrize("options", [{}, {"chunks": True, "compression": "gzip"}, "frames"])
@pytest.mark.parametrize("axes", ["tcyx", "tzyx", "tczyx", "ctyx", "zctyx", "tyx"])
def test_labelled_axes(tmp_path, axes, options):
    sizes = {"t": 11, "c": 2, "z": 3, "y": 9, "x": 6}
    shape = [sizes[axis] for axis in axes]
    movie = np.arange(np.prod(shape), dtype="u2").reshape(shape)
    if options == "frames":
        options = {"chunks": (*[4 if axis == "t" else 1 for axis in axes[:-2]], 9, 6)}
    path = write(tmp_path / "a.h5", movie, axes=axes, **options)
    lacking = [at for at, axis in enumerate("tczyx") if axis not in axes]
    order = np.expand_dims(movie.transpose([axes.index(a) for a in "tczyx" if a in axes]), lacking)
    given = {"z": 2} if "z" in axes else {}
    assert_reads(path, *np.moveaxis(order[:, :, given.get("z", 0)], 1, 0), **given)
    if "z" in axes:
        with pytest.raises(ValueError, match="has 3 slices in z: choose one"):
            open_channels(path)
    if "c" in axes:
        (stack,) = stacks(path, channels=1, **given)
        np.testing.assert_array_equal(stack.read(), order[:, 1, given.get("z", 0)])


@pytest.mark.parametrize(
    ("shape", "axes", "match"),
    [
        ((9, 6), "", r"/data has shape \(9, 6\), not \(frame, y, x\)"),
        ((11, 1, 9, 6), "", r"shape \(11, 1, 9, 6\), not .*dims\[0\]\.label"),
        ((11, 2, 9, 6), ["t", "", "y", "x"], r"labels time, \?, y, x"),
        ((11, 2, 9, 6), ["z", "c", "y", "x"], "not .frame, y, x.: label"),
        ((11, 2, 9, 6), ["t", "t", "y", "x"], "labels time, time, y, x"),
        ((9, 6, 11), "yxt", r"labels y, x, time\), not .*: save it with its axes"),
        ((11, 9, 6), "txy", r"labels time, x, y\), not"),
        ((1, 11, 2, 3, 9, 6), "stczyx", "labels s, time"),
        ((11, 0, 6), "", "without pixels"),
    ],
)
def test_axes_that_are_not_certain(tmp_path, shape, axes, match):
    path = write(tmp_path / "a.h5", np.zeros(shape, "u2"), axes=axes)
    with pytest.raises(ValueError, match=match):
        open_channels(f"{path}::data")


def test_the_pixel_size_that_imagej_notes(tmp_path):
    path = write(tmp_path / "a.h5")
    assert not stacks(path)[0].acquisition
    for noted, known in (([1, 0.11, 0.12], (0.11, 0.12)), ([1, 0, 0], None), ("none", None)):
        with h5py.File(path, "a") as file:
            file["data"].attrs["element_size_um"] = noted
        assert stacks(path)[0].acquisition.pixel_size_um == known


# Which dataset


def test_the_only_movie_among_other_datasets(tmp_path):
    path = write(tmp_path / "a.h5", name="entry/data")
    write(path, np.zeros(3), "times")
    write(path, np.zeros((9, 6)), "gain")
    write(path, np.zeros((2, 2, 2), bool), "mask")
    assert_reads(path, MOVIE)
    assert_reads(f"{path}::/entry", MOVIE)


def test_several_movies_are_listed(tmp_path):
    path = write(tmp_path / "a.h5", name="b/two")
    write(path, MOVIE[None], "a")
    message = (
        r"a\.h5 holds 2 datasets of three axes or more, not one: pass one as .*a\.h5::/a; it has "
        r"/a \(1, 11, 9, 6\) uint16, /b/two \(11, 9, 6\) uint16$"
    )
    with pytest.raises(ValueError, match=message):
        open_channels(path)
    assert_reads(f"{path}::/b/two", MOVIE)


def test_files_without_a_movie(tmp_path):
    path = write(tmp_path / "a.h5", np.zeros(3, "u1,f4"), "locs")
    with pytest.raises(ValueError, match=r"holds 0 datasets .* it has /locs \(3,\)"):
        open_channels(path)
    with pytest.raises(ValueError, match=r"nothing named /data: pass one as .*::/locs"):
        open_channels(f"{path}::/data")
    with h5py.File(path, "a") as file:
        del file["locs"]
    with pytest.raises(ValueError, match="it has no datasets; pass another file"):
        open_channels(path)


def test_values_that_numpy_does_not_know(tmp_path):
    space = h5py.h5s.create_simple(MOVIE.shape)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        h5py.h5d.create(file.id, b"times", h5py.h5t.UNIX_D32LE, space)
    with pytest.raises(ValueError, match=r"holds 0 datasets .* /times \(11, 9, 6\) None"):
        open_channels(tmp_path / "a.h5")
    with pytest.raises(TypeError, match="times holds values that NumPy does not know"):
        open_channels(f"{tmp_path}/a.h5::/times")
    write(tmp_path / "a.h5")
    assert_reads(tmp_path / "a.h5", MOVIE)


@pytest.mark.parametrize("dtype", ["?", "c8", "S3", "u1,f4"])
def test_dtypes_that_are_no_movie(tmp_path, dtype):
    path = write(tmp_path / "a.h5", np.zeros((11, 9, 6), dtype))
    with pytest.raises(TypeError, match=r"a\.h5::/data has dtype"):
        open_channels(f"{path}::data")


def test_pixels_in_other_files_are_refused(tmp_path):
    source = write(tmp_path / "source.h5")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout(MOVIE.shape, "u2")
        layout[:] = h5py.VirtualSource(source, "data", MOVIE.shape)
        file.create_virtual_dataset("virtual", layout)
        file["link"] = h5py.ExternalLink("source.h5", "data")
        file.create_dataset("outside", MOVIE.shape, "u2", external=[("b.raw", 0, MOVIE.nbytes)])
        file["soft"] = h5py.SoftLink("/nothing")
    for name in ("virtual", "link", "outside"):
        with pytest.raises(ValueError, match="only points to pixels in other"):
            open_channels(f"{path}::{name}")
    with pytest.raises(ValueError, match="nothing named soft"):
        open_channels(f"{path}::soft")


# Handles


def test_the_caller_may_hold_the_file_open(tmp_path):
    path = write(tmp_path / "a.h5", chunks=(2, 9, 6), compression="gzip")
    for locking in (True, False, None, "best-effort"):
        with h5py.File(path, "r", locking=locking):
            np.testing.assert_array_equal(stacks(path)[0].read(), MOVIE)
    np.testing.assert_array_equal(stacks(path)[0].read(), MOVIE)
    link = tmp_path / "link.h5"
    link.symlink_to(path)
    with h5py.File(path, "r"), h5py.File(link, "r"):
        np.testing.assert_array_equal(stacks(link)[0].read(), MOVIE)
        np.testing.assert_array_equal(stacks(path)[0].read(), MOVIE)


def test_no_file_is_locked_or_stays_open(tmp_path, monkeypatch):
    path = write(tmp_path / "a.h5", chunks=(2, 9, 6), compression="gzip")
    opened = []
    file_class = h5py.File

    def noted(*args, **options):
        opened.append((file_class(*args, **options), options))
        return opened[-1][0]

    monkeypatch.setattr(h5py, "File", noted)
    stacks(path)[0].read()
    assert [options for _, options in opened] == [{"locking": False}] * 2
    assert not any(file for file, _ in opened)


def test_decoding_does_not_wait_for_hdf5(tmp_path, monkeypatch):
    """A thread that decodes lets another read: both meet inside the decoder."""
    import threading

    path = write(tmp_path / "a.h5", chunks=(11, 9, 6), compression="gzip")
    both = threading.Barrier(2, timeout=60)
    decode = hdf5_movie._DECODERS[1]

    def meet(*args):
        both.wait()
        return decode(*args)

    monkeypatch.setitem(hdf5_movie._DECODERS, 1, meet)
    (stack,) = stacks(path)
    found = []
    threads = [threading.Thread(target=lambda: found.append(stack.read())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [np.array_equal(pixels, MOVIE) for pixels in found] == [True, True]
