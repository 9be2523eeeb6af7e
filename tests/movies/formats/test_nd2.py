"""ND2, in files made by hand: chunks as NIS-Elements writes them, with metadata in XML."""

import struct
import zlib

import numpy as np
import pytest

from smlmlp_dask import open_channels
from smlmlp_dask.movies.opening import open_recording
from smlmlp_dask.movies.stack import SourceReadError

from .contract import assert_holds_what_it_says, assert_reads_all

nd2 = pytest.importorskip("nd2", reason="the reader of ND2 is not installed")

SIGNATURE = b"ND2 CHUNK MAP SIGNATURE 0000001!"
LOOPS = {
    "T": {"eType": 1, "uLoopPars": {"uiCount": 3, "dStart": 0.0, "dPeriod": 5.0, "dDuration": 1.0}},
    "P": {"eType": 2, "uLoopPars": {"Points": {
        "p0": {"dPosX": 0.0, "dPosName": "left"}, "p1": {"dPosX": 9.0, "dPosName": "right"}}}},
    "Z": {"eType": 4, "uLoopPars": {"uiCount": 2, "dZStep": 0.5}},
}  # fmt: skip


def xml(name, value):
    if isinstance(value, dict):
        inner = "".join(xml(*item) for item in value.items())
        return f"<{name}>{inner}</{name}>"
    kinds = {bool: "bool", int: "lx_uint32", float: "double", str: "CLxStringW"}
    return f'<{name} runtype="{kinds[type(value)]}" value="{value}"/>'


def write(
    path,
    pixels,
    loops="TPZ",
    *,
    frames=3,
    packed=False,
    padding=0,
    times=True,
    lacking=(),
    **changed,
):
    """Write images (image, y, x, channel) in the order of the loops."""
    count, height, width, channels = pixels.shape
    line = width * channels * pixels.itemsize + padding
    attributes = {
        "uiWidth": width, "uiHeight": height, "uiWidthBytes": line, "uiComp": channels,
        "uiBpcInMemory": 8 * pixels.itemsize, "uiBpcSignificant": 8 * pixels.itemsize,
        "uiSequenceCount": count, "eCompression": 0 if packed else 2,
    } | changed  # fmt: skip
    planes = {
        f"a{i}": {"uiCompCount": 1, "uiSampleIndex": i, "sDescription": f"dye {i}",
                  "uiColor": 0x0007FF + i, "pFluorescentProbe": {"sName": "x"}}
        for i in range(channels)
    }  # fmt: skip
    settings = {f"a{i}": {"dExposureTime": 20.0 * (i + 1)} for i in range(channels)}
    picture = {
        "bCalibrated": True, "dCalibration": 0.125,
        "sPicturePlanes": {"uiCount": channels, "sPlaneNew": planes, "sSampleSetting": settings},
    }  # fmt: skip
    experiment = {}
    for axis in reversed(loops):
        inner = {"ppNextLevelEx": {"i0000000000": experiment}} if experiment else {}
        experiment = LOOPS[axis] | inner
        if axis == "T":
            experiment["uLoopPars"] = LOOPS["T"]["uLoopPars"] | {"uiCount": frames}
    chunks = {}
    if experiment:
        chunks["ImageMetadataLV!"] = xml("variant", {"SLxExperiment": experiment})
    chunks["ImageMetadataSeqLV|0!"] = xml("variant", {"SLxPictureMetadata": picture})
    for number, image in enumerate(pixels):
        if number not in lacking:
            lines = image.reshape(height, -1).view(np.uint8)
            data = np.pad(lines, ((0, 0), (0, padding)), constant_values=7).tobytes()
            data = zlib.compress(data) if packed else data
            chunks[f"ImageDataSeq|{number}!"] = struct.pack("<d", 40.0 * number) + data
    if times:
        chunks["CustomData|AcqTimesCache!"] = struct.pack(f"<{count}d", *(40.0 * np.arange(count)))
    chunks["ImageAttributesLV!"] = xml("variant", {"SLxImageAttributes": attributes})
    index = b""
    with path.open("wb") as file:
        add(file, b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver3.0".ljust(64, b"\0"), name_bytes=32)
        for name, data in chunks.items():
            data = data if isinstance(data, bytes) else data.encode()
            index += name.encode() + struct.pack("<QQ", file.tell(), len(data))
            add(file, name.encode(), data)
        at = file.tell()
        end = SIGNATURE + struct.pack("<Q", at)
        add(file, b"ND2 FILEMAP SIGNATURE NAME 0001!", index + end)
        file.write(end)
    return path


def add(file, name, data, name_bytes=4072):
    file.write(struct.pack("<IIQ", 0x0ABECEDA, name_bytes, len(data)))
    file.write(name.ljust(name_bytes, b"\0") + data)


def images(count, channels=1, dtype="u2", shape=(5, 6)):
    numbers = np.arange(count * channels * shape[0] * shape[1])
    return numbers.reshape(count, *shape, channels).astype(dtype)


@pytest.mark.parametrize(
    ("loops", "channels", "layout"),
    [
        ("TPZ", 1, {}),
        ("TPZ", 2, {}),
        ("TPZ", 1, {"packed": True}),
        ("TPZ", 2, {"packed": True}),
        ("TPZ", 1, {"padding": 6}),
        ("TPZ", 2, {"padding": 6, "packed": True}),
        ("PTZ", 2, {}),
        ("ZPT", 1, {}),
        ("TZ", 1, {}),
        ("PT", 2, {}),
        ("T", 1, {"dtype": "u1"}),
        ("Z", 2, {"dtype": "f4"}),
        ("", 1, {}),
    ],
)
def test_every_position_channel_and_slice_is_what_the_library_reads(
    tmp_path, loops, channels, layout
):
    lengths = {"T": 3, "P": 2, "Z": 2}
    shape = [lengths[axis] for axis in loops]
    layout = {"dtype": "u2", **layout}
    pixels = images(int(np.prod(shape)), channels, layout.pop("dtype"))
    path = write(tmp_path / "a.nd2", pixels, loops, **layout)
    read = nd2.imread(path).reshape(*shape, channels, 5, 6)
    np.testing.assert_array_equal(read, np.moveaxis(pixels, 3, 1).reshape(read.shape))
    assert_reads_all(path, "ND2", read, f"{loops}CYX")


def test_how_it_was_recorded(tmp_path):
    left, right = open_recording(write(tmp_path / "a.nd2", images(12, 2))).positions
    assert (left.name, right.name) == ("left", "right")
    first, second = left.channels
    assert first.to_attributes() == {
        "channel": "dye 0",
        "pixel_size_um": (0.125, 0.125),
        "frame_interval_s": pytest.approx(0.160),  # four images are taken a time point
        "exposure_s": pytest.approx(0.020),
        "colour": "FF0700",
    }
    assert (second.channel, second.exposure_s) == ("dye 1", pytest.approx(0.040))
    path = write(tmp_path / "b.nd2", images(3), "T", times=False)
    assert open_recording(path).positions[0].channels[0].frame_interval_s is None


@pytest.mark.parametrize("lacking", [(8, 9, 10, 11), (9,), (8, 11)])
def test_images_that_were_never_taken_are_not_zeros(tmp_path, lacking):
    pixels = images(12)
    path = write(tmp_path / "a.nd2", pixels, lacking=lacking)
    assert not nd2.imread(path)[2].all()  # the library's zeros
    left, right = open_recording(path).positions
    assert (left.promised, left.movie(0, 0).shape) == (3, (2, 5, 6))
    whole = 3 if lacking == (9,) else 2
    assert (right.promised, right.movie(0, 0).shape[0]) == (3, whole)
    with pytest.raises(ValueError, match="cut short: it should hold 3 frames, its index lists 2"):
        open_channels(path, position=0, z=1)
    (stack,) = open_channels(path, position=0, z=1, frames=slice(0, 2))
    np.testing.assert_array_equal(stack.compute(), pixels[[1, 5], ..., 0])
    with pytest.warns(UserWarning, match="2 of 3 frames"):
        (stack,) = open_channels(path, position=0, z=1, salvage=True)
    assert len(stack) == 2


@pytest.mark.parametrize(
    ("count", "loops", "changed", "said"),
    [
        (3, "T", {"uiComp": 3}, "has 3 colour samples in 1 channels: save one gray channel"),
        (3, "T", {"eCompression": 1}, "is compressed with loss"),
        (4, "T", {}, r"has 4 images, but its loops \(T\) have 3"),
        (4, "", {}, r"has 4 images, but its loops \(none\) have 1"),
    ],
)
def test_what_is_refused(tmp_path, count, loops, changed, said):
    path = write(tmp_path / "a.nd2", images(count), loops, **changed)
    with pytest.raises(ValueError, match=f"^{path} {said}"):
        open_channels(path)


def test_an_index_that_is_missing(tmp_path):
    path = write(tmp_path / "a.nd2", images(3), "T")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=f"^{path} .* its index is missing; check that the recor"):
        open_channels(path)


@pytest.mark.parametrize("content", [b"\0\0\0\x0cjP  ".ljust(100, b"\0"), b""])
def test_a_file_of_the_first_kind(tmp_path, content):
    (tmp_path / "a.nd2").write_bytes(content)
    with pytest.raises(ValueError, match="is no ND2 file, or one of the first kind"):
        open_channels(tmp_path / "a.nd2")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"ImageDataSeq|1!", b"ImageDataSeq|9!", "ImageDataSeq|1 does not begin at byte"),
        (struct.pack("<IIQ", 0x0ABECEDA, 4072, 68), struct.pack("<IIQ", 0x0ABECEDA, 4072, 9),
         "image 0 has 1 bytes where 60 are due"),
    ],
)  # fmt: skip
def test_an_image_that_is_not_where_the_index_says(tmp_path, old, new, said):
    path = write(tmp_path / "a.nd2", images(3), "T")
    (stack,) = open_channels(path)
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    with pytest.raises(SourceReadError, match=said.replace("|", r"\|")):
        stack.compute(scheduler="threads")


def test_an_image_unpacked_to_another_size(tmp_path):
    path = write(tmp_path / "a.nd2", images(3, shape=(1, 1)), "T", packed=True)
    (stack,) = open_channels(path)
    assert stack.compute().ravel().tolist() == [0, 1, 2]
    write(path, images(3, dtype="u1"), "T", packed=True)
    with pytest.raises(SourceReadError, match="image 0 has 30 bytes where 2 are due"):
        stack.compute(scheduler="threads")


@pytest.mark.parametrize(
    ("channels", "layout"), [(1, {}), (1, {"padding": 64}), (3, {}), (1, {"packed": True})]
)
def test_memory(tmp_path, channels, layout):
    noise = np.random.default_rng(0).integers(0, 2**16, (3, 400, 500, channels), np.uint16)
    path = write(tmp_path / "a.nd2", noise, "T", **layout)
    assert_holds_what_it_says(path)


def test_a_file_that_shrinks_after_it_was_opened(tmp_path):
    path = write(tmp_path / "a.nd2", images(3), "T")
    (stack,) = open_channels(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(SourceReadError, match="check that the file is whole"):
        stack.compute(scheduler="threads")
