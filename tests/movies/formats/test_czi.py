"""CZI, in files made by hand: sub-blocks, metadata, times and the directory, as ZEN lays them."""

import struct
from itertools import product
from math import prod

import imagecodecs
import numpy as np
import pytest

from smlmlp_dask import open_channels
from smlmlp_dask.movies.opening import open_recording
from smlmlp_dask.movies.stack import SourceReadError

from .contract import assert_holds_what_it_says, assert_reads, assert_reads_all

czifile = pytest.importorskip("czifile", "2026.3.12", reason="the reader of CZI needs Python 3.12")

KINDS = {"u1": 0, "u2": 1, "f4": 2}
PLAIN, ZSTD = 0, 5


def segment(file, kind, data):
    at = file.tell()
    file.write(kind.encode().ljust(16, b"\0") + struct.pack("<qq", len(data), len(data)) + data)
    return at


def entry(at, kind, code, starts, stored, part=0):
    """Return a description of a sub-block; `starts` are by axis, and sizes of Y and X stored."""
    axes = b""
    for axis, (start, size, kept) in [*stored.items(), *reversed(starts.items())]:
        axes += struct.pack("<4siifi", axis.encode(), start, size, 0.0, kept)
    head = struct.pack("<2siqiiBB4si", b"DV", kind, at, part, code, 0, 0, b"", len(axes) // 20)
    return head + axes


def write(
    path,
    axes,
    pixels,
    *,
    code=PLAIN,
    lacking=(),
    first=None,
    sizes=True,
    times=(),
    metadata="",
    names=("left", "right"),
    pending=False,
    index=True,
    about=True,
    colour=False,
    rectangle=None,
    tile=0,
    part=0,
    repeat=1,
):
    """Write frames (y, x) over the axes; those lacking are left out."""
    entries = []
    lengths = dict(zip(axes, pixels.shape, strict=False))
    height, width = pixels.shape[len(axes) :][:2]
    kind = 3 if colour else KINDS[pixels.dtype.str[1:]]
    with path.open("wb") as file:
        segment(file, "ZISRAWFILE", bytes(512))
        for place in [*product(*map(range, lengths.values()))] * repeat:
            if place in lacking:
                continue
            starts = {
                a: (n + (first or {}).get(a, 0), 1, 0) for a, n in zip(axes, place, strict=True)
            }
            y, x = (rectangle or (lambda *_: (0, 0)))(*place)
            starts |= {"M": (tile * len(entries), 1, 0)} if tile is not None else {}
            stored = {"X": (x, width, width), "Y": (y, height, height)}
            data = np.ascontiguousarray(pixels[place])
            data = imagecodecs.zstd_encode(data) if code == ZSTD else data.tobytes()
            made = entry(file.tell(), kind, code, starts, stored, part)
            note = b"<METADATA/>"
            block = struct.pack("<iiq", len(note), 0, len(data)) + made.ljust(240, b"\0")
            segment(file, "ZISRAWSUBBLOCK", block + note + data)
            entries.append(made)
        counts = "".join(f"<Size{a}>{n}</Size{a}>" for a, n in lengths.items()) if sizes else ""
        scenes = "".join(f'<Scene Index="{i}" Name="{n}"/>' for i, n in enumerate(names))
        xml = (
            f"<ImageDocument><Metadata><Information><Image>{counts}<Dimensions>{metadata}"
            f"<S><Scenes>{scenes}</Scenes></S></Dimensions></Image></Information>"
            '<Scaling><Items><Distance Id="X"><Value>1E-07</Value></Distance>'
            '<Distance Id="Y"><Value>2E-07</Value></Distance></Items></Scaling>'
            '<DisplaySetting><Channels><Channel Id="Channel:1" Name="shown">'
            "<Color>#FF00FF33</Color></Channel></Channels></DisplaySetting></Metadata></ImageDocument>"
        ).encode()
        described = segment(
            file, "ZISRAWMETADATA", struct.pack("<ii", len(xml), 0).ljust(256) + xml
        )
        stamps = struct.pack("<ii", 8, len(times)) + struct.pack(f"<{len(times)}d", *times)
        attached = struct.pack("<2s10sqi16s8s80s", b"A1", b"", 0, 0, b"", b"CZTIMS", b"TimeStamps")
        at = segment(
            file,
            "ZISRAWATTACH",
            struct.pack("<i", len(stamps)).ljust(16, b"\0") + attached.ljust(240, b"\0") + stamps,
        )
        attached = attached[:12] + struct.pack("<q", at) + attached[20:]
        attachments = segment(
            file, "ZISRAWATTDIR", struct.pack("<i", 1).ljust(256, b"\0") + attached
        )
        found = struct.pack("<i", len(entries)).ljust(128, b"\0") + b"".join(entries)
        directory = segment(file, "ZISRAWDIRECTORY", found)
        file.seek(32)
        header = (1, 0, 0, 0, b"", b"", 0, directory * index)
        header += (described * about, pending * 0xFFFF, attachments * about)
        file.write(struct.pack("<iiii16s16siqqiq", *header))
    return path


def numbers(*shape, dtype="u2"):
    return np.arange(prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize(
    ("axes", "shape", "more"),
    [
        ("STZC", (2, 3, 2, 2), {}),
        ("STZC", (2, 3, 2, 2), {"code": ZSTD}),
        ("T", (3,), {"dtype": "u1"}),
        ("T", (3,), {"dtype": "u1", "code": ZSTD}),
        ("T", (3,), {"dtype": "f4"}),
        ("T", (3,), {"dtype": "f4", "code": ZSTD}),
        ("CTZ", (2, 3, 2), {"names": ()}),
        ("CTZ", (2, 3, 2), {"tile": None, "names": ()}),
        ("ST", (2, 3), {"first": {"S": 4}}),
        ("TB", (3, 1), {"first": {"T": 7}}),
        ("ZH", (3, 1), {}),
        ("C", (2,), {"first": {"C": 1}}),
        ("T", (3,), {"sizes": False}),
        ("", (), {}),
    ],
)
def test_every_scene_channel_and_slice_is_what_the_library_reads(tmp_path, axes, shape, more):
    more = {"dtype": "u2", **more}
    pixels = numbers(*shape, 4, 5, dtype=more.pop("dtype"))
    path = write(tmp_path / "a.czi", axes, pixels, **more)
    with czifile.CziFile(path) as czi:
        scenes = [czi.scenes[key].asarray() for key in czi.scenes]
    read = [axis for axis, size in zip(axes, shape, strict=True) if axis in "CZT" and size > 1]
    assert_reads_all(path, "CZI", np.stack(scenes), ["P", *read, *"YX"])


CHANNELS = (
    '<Channels><Channel Id="Channel:0" Name="dye"><Color>#FFff7e00</Color><ExposureTime>20000000'
    '</ExposureTime></Channel><Channel Id="Channel:1"/></Channels>'
)


def test_how_it_was_recorded(tmp_path):
    times = [60.0, 60.03, 60.07, 70.0]
    pixels = numbers(4, 2, 4, 5)
    path = write(tmp_path / "a.czi", "TC", pixels, times=times, metadata=CHANNELS)
    [position] = open_recording(path).positions
    first, second = position.channels
    assert position.name == "left"
    known = {
        "pixel_size_um": (pytest.approx(0.2), pytest.approx(0.1)),
        "frame_interval_s": pytest.approx(0.04),
    }
    assert first.to_attributes() == known | {
        "channel": "dye",
        "exposure_s": pytest.approx(0.02),
        "colour": "FF7E00",
    }
    assert second.to_attributes() == known | {"channel": "shown", "colour": "00FF33"}


@pytest.mark.parametrize(
    ("times", "why"),
    [
        ([], "no times"),
        ([1.0, 2.0, 3.0], "times of other frames"),
        ([43000.0, 43000.1, 43000.2, 43000.3], "days, or seconds"),
        ([3.0, 2.0, 1.0, 0.0], "times that fall"),
    ],
)
def test_times_that_tell_nothing(tmp_path, times, why):
    path = write(tmp_path / "a.czi", "T", numbers(4, 4, 5), times=times)
    assert open_recording(path).positions[0].channels[0].frame_interval_s is None, why


@pytest.mark.parametrize(
    ("lacking", "sizes", "whole", "promised"),
    [
        ([(2, 0), (2, 1)], True, 2, 3),  # the metadata say that there should be three
        ([(2, 0), (2, 1)], False, 2, 2),  # nothing says so
        ([(2, 1)], False, 2, 3),
        ([(1, 0)], True, 1, 3),
        ([(0, 0), (0, 1)], True, 0, 3),
        ([(0, 1), (1, 1), (2, 1)], True, 0, 3),  # a channel that was never recorded
    ],
)
def test_sub_blocks_that_were_never_saved_are_not_zeros(tmp_path, lacking, sizes, whole, promised):
    pixels = numbers(3, 2, 4, 5) + 1
    path = write(tmp_path / "a.czi", "TC", pixels, lacking=lacking, sizes=sizes)
    (position,) = open_recording(path).positions
    assert (position.promised, position.movie(1, 0).shape[0]) == (promised, whole)
    if promised > whole:
        with pytest.raises(ValueError, match=f"should hold 3 frames, its directory lists {whole}"):
            open_channels(path)
    if whole:
        for channel, stack in enumerate(open_channels(path, frames=slice(0, whole))):
            np.testing.assert_array_equal(stack.compute(), pixels[:whole, channel])


def test_scenes_that_are_mosaics_are_left_out(tmp_path):
    pixels = numbers(2, 3, 4, 5)
    path = write(tmp_path / "a.czi", "ST", pixels, rectangle=lambda s, t: (0, 5 * t * (1 - s)))
    with pytest.warns(UserWarning, match="not all scenes are movies: scene left has frames of"):
        (stack,) = open_channels(path)
    np.testing.assert_array_equal(stack.compute(), pixels[1])


def test_a_file_without_metadata_is_read_without_a_word(tmp_path, caplog):
    pixels = numbers(3, 4, 5)
    path = write(tmp_path / "a.czi", "T", pixels, about=False)
    (position,) = open_recording(path).positions
    assert_reads(path, pixels)
    assert (position.name, position.channels[0].to_attributes()) == ("", {})
    assert not caplog.records


def test_a_file_that_is_still_being_written(tmp_path):
    path = write(tmp_path / "a.czi", "T", numbers(3, 4, 5), pending=True)
    with pytest.warns(UserWarning, match="a program has not finished writing it"):
        open_channels(path)


@pytest.mark.parametrize(
    ("axes", "shape", "more", "said"),
    [
        ("T", (3, 4, 5, 3), {"colour": True}, "left has colour samples"),
        ("T", (3, 4, 5), {"tile": 1}, r"left is a mosaic of tiles \(M\)"),
        ("T", (3, 4, 5), {"repeat": 2}, r"left is a mosaic of tiles \(M\)"),
        ("T", (3, 4, 5), {"part": 1}, "continues in another file"),
        ("T", (3, 4, 5), {"code": 100}, "is coded as CAMERARAW"),
        ("T", (3, 4, 5), {"rectangle": lambda t: (t, 0)}, "has frames of several sizes or places"),
        ("TH", (3, 2, 4, 5), {}, "does not hold one frame .* a block over T, Z, C"),
        ("T", (0, 4, 5), {}, "it has no images"),
    ],
)
def test_what_is_refused(tmp_path, axes, shape, more, said):
    pixels = numbers(*shape, dtype="u1" if more.get("colour") else "u2")
    path = write(tmp_path / "a.czi", axes, pixels, **more)
    with pytest.raises(ValueError, match=f"^{path} holds no movie: .*{said}") as caught:
        open_channels(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lost", [1, 200, 700, 2000])
def test_a_file_that_is_cut_short(tmp_path, lost):
    path = write(tmp_path / "a.czi", "T", numbers(3, 4, 5))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - lost)
    with pytest.raises(ValueError, match=f"^{path} cannot be read as CZI: .*copied whole"):
        open_channels(path)


@pytest.mark.parametrize("more", [{"index": False}, None])
def test_what_has_no_directory(tmp_path, more):
    path = tmp_path / "a.czi"
    if more:
        write(path, "T", numbers(3, 4, 5), **more)
    else:
        path.write_bytes(b"no CZI")
    with pytest.raises(ValueError, match=f"^{path} cannot be read as CZI: "):
        open_channels(path)


@pytest.mark.parametrize("code", [PLAIN, ZSTD])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"ZISRAWSUBBLOCK", b"DELETED".ljust(14, b"\0")),
        (struct.pack("<i", 5) + bytes(4), struct.pack("<i", 5) + bytes(4)),
    ],
    ids=["deleted", "cut"],
)
def test_a_sub_block_that_is_gone_after_the_file_was_opened(tmp_path, code, old, new):
    path = write(tmp_path / "a.czi", "T", numbers(3, 4, 5), code=code)
    (stack,) = open_channels(path)
    data = path.read_bytes()
    path.write_bytes(data.replace(old, new, 1) if old != new else data[:1200])
    with pytest.raises(SourceReadError, match=f"{path}: frames? .* cannot be read: "):
        stack.compute(scheduler="threads")


@pytest.mark.parametrize("code", [PLAIN, ZSTD])
def test_memory(tmp_path, code):
    noise = np.random.default_rng(0).integers(0, 2**16, (3, 400, 500), np.uint16)
    path = write(tmp_path / "a.czi", "T", noise, code=code)
    assert_holds_what_it_says(path)
