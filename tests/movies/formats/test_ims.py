"""Imaris files, laid out as ImarisWriter does: cropped, named, and refused if broken."""

import numpy as np
import pytest

from smlmlp_dask.lazy.channels import open_channels
from smlmlp_dask.movies.opening import source_roots
from smlmlp_dask.movies.stack import SourceReadError

from .contract import assert_reads, stacks

h5py = pytest.importorskip("h5py", reason="the extra ims is not installed")

MOVIE = (np.arange(11 * 2 * 3 * 9 * 6) * 37 % 4099).astype(np.uint16).reshape(11, 2, 3, 9, 6)
IMAGE = {
    "X": "6", "Y": "9", "Z": "3", "Unit": "um", "ExtMin0": "-1.000", "ExtMax0": "5.000",
    "ExtMin1": "0.000", "ExtMax1": "0.900", "ExtMin2": "0.0", "ExtMax2": "1.0",
}  # fmt: skip
CHANNELS = [
    {"Name": "Alexa 647", "Color": "1.000 0.000 0.500"},
    {"Name": "(name not specified)", "ColorMode": "TableColor"},
]
TIMES = {f"TimePoint{t + 1}": f"2024-05-01 12:00:{t * 3:02}.000" for t in range(11)}
TIMES |= {"FileTimePoints": "11", "DatasetTimePoints": "11"}


def note(group, texts):
    for key, text in texts.items():
        group.attrs[key] = np.frombuffer(text.encode() + b"\0", "S1")


def write(
    path, movie=MOVIE, *, image=IMAGE, channels=CHANNELS, times=TIMES, chunk=(2, 4, 4), **options
):
    """Padded to whole chunks, by ones: pixels that are not the movie's."""
    options = {"compression": 2, **options}
    with h5py.File(path, "w") as file:
        file.attrs["NumberOfDataSets"] = np.array([1], "u4")
        note(file.create_group("DataSetInfo/Image"), image)
        note(file.create_group("DataSetInfo/TimeInfo"), times)
        for number, texts in enumerate(channels):
            note(file.create_group(f"DataSetInfo/Channel {number}"), texts)
        padding = [(0, -size % length) for size, length in zip(movie.shape[2:], chunk, strict=True)]
        for t, slices in enumerate(movie):
            for c, pixels in enumerate(slices):
                group = file.create_group(f"DataSet/ResolutionLevel 0/TimePoint {t}/Channel {c}")
                note(
                    group,
                    {f"ImageSize{a}": str(n) for a, n in zip("ZYX", pixels.shape, strict=True)},
                )
                padded = np.pad(pixels, padding, constant_values=1)
                group.create_dataset("Data", data=padded, chunks=chunk, **options)
                smaller = f"DataSet/ResolutionLevel 1/TimePoint {t}/Channel {c}/Data"
                file.create_dataset(smaller, data=pixels[:, ::2, ::2])
    return path


@pytest.mark.parametrize(
    "options",
    [{}, {"compression": None}, {"shuffle": True}, {"chunk": (1, 9, 6)}, {"fletcher32": True}],
)
def test_channels_and_slices_are_cropped(tmp_path, options):
    path = write(tmp_path / "a movie.IMS", **options)
    assert_reads(path, MOVIE[:, 0, 1], MOVIE[:, 1, 1], z=1)
    (stack,) = stacks(path, z=2, channels="Alexa 647")
    np.testing.assert_array_equal(stack.read(), MOVIE[:, 0, 2])
    chunk = options.get("chunk", (2, 4, 4))
    decoding = stack.decoding
    assert (decoding.unit, decoding.unit_bytes) == ((1, *chunk[1:]), 3 * 2 * np.prod(chunk))
    with pytest.raises(ValueError, match="has 3 slices in z: choose one"):
        open_channels(path)
    assert source_roots(path) == [path]


@pytest.mark.parametrize("dtype", ["u1", ">u2", "f4"])
def test_one_slice_and_one_channel(tmp_path, dtype):
    movie = MOVIE[:, :1, :1].astype(dtype)
    assert_reads(write(tmp_path / "a.ims", movie), movie[:, 0, 0])


def test_what_is_known_of_the_channels(tmp_path):
    first, second = stacks(write(tmp_path / "a.ims"), z=0)
    shared = {"pixel_size_um": (0.1, 1.0), "frame_interval_s": 3.0}
    known = first.acquisition.to_attributes()
    assert known.pop("pixel_size_um") == pytest.approx((0.1, 1.0))
    assert known == {"channel": "Alexa 647", "colour": "FF0080", "frame_interval_s": 3.0}
    known = second.acquisition.to_attributes()
    assert known.keys() == shared.keys()


@pytest.mark.parametrize(
    ("changes", "known"),
    [
        ({"image": IMAGE | {"Unit": "nm"}}, {"pixel_size_um": (0.0001, 0.001)}),
        ({"image": IMAGE | {"Unit": "furlong"}}, {}),
        ({"image": {k: v for k, v in IMAGE.items() if k != "Unit"}}, {}),
        ({"image": {**IMAGE, "ExtMax0": "-3"}}, {}),
        ({"image": {**IMAGE, "ExtMax0": "nan"}}, {}),
        ({"image": {}}, {}),
        ({"image": {}, "times": TIMES | {"TimePoint11": "2024-05-01 12:00:00.000"}}, {}),
        ({"image": {}, "times": TIMES | {"TimePoint1": "yesterday"}}, {}),
        ({"image": {}, "channels": [{"Color": "1 2 3"}]}, {}),
        ({"image": {}, "channels": [{"Color": "red"}]}, {}),
    ],
)
def test_what_is_not_certain_is_not_said(tmp_path, changes, known):
    changes = {"channels": [], "times": {}, **changes}
    movie = MOVIE[:, :1, :1]
    (stack,) = stacks(write(tmp_path / "a.ims", movie, **changes))
    assert stack.acquisition.to_attributes() == {k: pytest.approx(v) for k, v in known.items()}


def test_time_points_that_are_missing(tmp_path):
    path = write(tmp_path / "a.ims", MOVIE[:, :1, :1])
    with h5py.File(path, "a") as file:
        del file["DataSet/ResolutionLevel 0/TimePoint 8"]
    with pytest.raises(ValueError, match="cut short: it has 8 consecutive time points of 11"):
        open_channels(path)
    (stack,) = stacks(path, frames=slice(0, 8))
    np.testing.assert_array_equal(stack.read(), MOVIE[:8, 0, 0])
    path = write(tmp_path / "b.ims", MOVIE[:9, :1, :1])
    with pytest.raises(ValueError, match="cut short: it has 9 consecutive time points of 11"):
        open_channels(path)


def test_a_recording_in_several_files_says_so(tmp_path):
    path = write(tmp_path / "a.ims", MOVIE[:, :1, :1], times=TIMES | {"DatasetTimePoints": "40"})
    with pytest.warns(UserWarning, match=r"a\.ims: it has 11 of the recording's 40 time points"):
        open_channels(path)


def resize(file):
    group = file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 0"]
    note(group, {"ImageSizeY": "13"})


def without_sizes(file):
    del file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 0"].attrs["ImageSizeX"]
    del file["DataSetInfo/Image"].attrs["X"]


def two_images(file):
    file.attrs["NumberOfDataSets"] = np.array([2], "u4")


def other_dtype(file):
    del file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 1/Data"]
    file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 1/Data"] = np.zeros((4, 12, 8), "f4")


def linked(file):
    del file["DataSet/ResolutionLevel 0"]
    other = h5py.ExternalLink("other.ims", "DataSet/ResolutionLevel 0")
    file["DataSet/ResolutionLevel 0"] = other


def without_images(file):
    del file["DataSet"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (resize, r"notes the image size \(3, 13, 6\) .* shape \(4, 12, 8\)"),
        (without_sizes, r"notes the image size \(3, 9, None\)"),
        (two_images, "holds 2 data sets"),
        (other_dtype, "dtypes uint16 and float32: save each channel"),
        (linked, r"only points to pixels in .*other\.ims: pass that file"),
        (without_images, "cannot be read as an Imaris file"),
    ],
)
def test_files_that_are_not_certain(tmp_path, change, match):
    path = write(tmp_path / "a.ims")
    write(tmp_path / "other.ims")
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(ValueError, match=match):
        open_channels(path, z=0)


def test_sizes_where_only_the_image_notes_them(tmp_path):
    path = write(tmp_path / "a.ims")
    with h5py.File(path, "a") as file:
        for axis in "XYZ":
            del file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 0"].attrs[f"ImageSize{axis}"]
    (stack, _) = stacks(path, z=0)
    np.testing.assert_array_equal(stack.read(), MOVIE[:, 0, 0])


def test_a_file_cut_short(tmp_path):
    path = write(tmp_path / "a.ims")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"a\.ims cannot be read as an Imaris file: .*truncated"):
        open_channels(path)


@pytest.mark.parametrize("compression", [2, None])
def test_a_time_point_that_cannot_be_read_is_named(tmp_path, compression):
    path = write(tmp_path / "a.ims", MOVIE[:, :1, :1], compression=compression)
    (stack,) = stacks(path)
    with h5py.File(path, "a") as file:
        group = file["DataSet/ResolutionLevel 0/TimePoint 4/Channel 0"]
        del group["Data"]
        group.create_dataset("Data", (2, 12, 8), "u2", chunks=(2, 4, 4), fletcher32=True)
    with pytest.raises(SourceReadError, match=r"a\.ims: frame 4 cannot be read: it was never wri"):
        stack.read()
    with h5py.File(path, "a") as file:
        del file["DataSet/ResolutionLevel 0/TimePoint 4/Channel 0/Data"]
    with pytest.raises(SourceReadError, match=r"a\.ims: frame 4 cannot be read"):
        stack.read()
