"""LIF, in files made by hand: Leica's tree of images in XML, then their blocks of memory."""

import struct
from math import prod

import numpy as np
import pytest

from smlmlp_dask import open_channels
from smlmlp_dask.movies.opening import open_recording

from .contract import assert_reads_all

liffile = pytest.importorskip("liffile", "2026.4.11", reason="the reader of LIF needs Python 3.12")

NUMBERS = {"X": 1, "Y": 2, "Z": 3, "T": 4, "λ": 5, "M": 10}
SPACINGS = {"X": 1e-7, "Y": 2e-7, "Z": 1e-6, "T": 0.05, "λ": 1e-9, "M": 1}
LUTS = ("Green", "Red", "Thermal")


def image(name, axes, pixels, *, times=(), padding=0, flim=False):
    """Return the XML of an image, whose pixels lie in the order of the axes, and its block."""
    step, dimensions, starts = pixels.itemsize, [], [0]
    for axis, size in zip(axes[::-1], pixels.shape[::-1], strict=True):
        if axis in "CS":
            starts = [step * c for c in range(size)]
        else:
            unit = {"T": "s", "M": ""}.get(axis, "m")
            dimensions.append(
                f'<DimensionDescription DimID="{NUMBERS[axis]}" NumberOfElements="{size}" '
                f'Origin="0" Length="{SPACINGS[axis] * (size - 1)}" Unit="{unit}" BitInc="0" '
                f'BytesInc="{step}"/>'
            )
        step = step * size + (padding if axis == "X" else 0)
    channels = [
        f'<ChannelDescription DataType="{int(pixels.dtype.kind == "f")}" '
        f'ChannelTag="{c + 1 if "S" in axes else 0}" Resolution="{8 * pixels.itemsize}" '
        'NameOfMeasuredQuantity="" Min="0" Max="1" Unit="" IsLUTInverted="0" BitInc="0" '
        f'LUTName="{LUTS[c]}" BytesInc="{start}"><ChannelProperty><Key>DyeName</Key>'
        f"<Value>Leica/dye {c}</Value></ChannelProperty></ChannelDescription>"
        for c, start in enumerate(starts)
    ]
    listed = " ".join(f"{116444736000000000 + round(time * 1e7):x}" for time in times)
    kind = 'SingleMoleculeDetection IsImage="true"' if flim else "Image"
    return (
        f'<Element Name="{name}"><Data><{kind}><ImageDescription><Channels>{"".join(channels)}'
        f"</Channels><Dimensions>{''.join(dimensions)}</Dimensions></ImageDescription>"
        f"<TimeStampList>{listed}</TimeStampList></{kind.split()[0]}></Data>"
        f'<Memory Size="{pixels.nbytes}" MemoryBlockID="{name}"/></Element>',
        (name, pixels.tobytes()),
    )


def write(path, *images):
    xml = (
        '<LMSDataContainerHeader Version="2"><Element Name="project"><Data><Experiment/></Data>'
        f"<Children>{''.join(text for text, _ in images)}</Children></Element>"
        "</LMSDataContainerHeader>"
    ).encode("utf-16-le")
    with path.open("wb") as file:
        file.write(struct.pack("<IIBI", 0x70, len(xml) + 5, 0x2A, len(xml) // 2) + xml)
        for name, data in (block for _, block in images):
            head = struct.pack("<IIBQBI", 0x70, 0, 0x2A, len(data), 0x2A, len(name))
            file.write(head + name.encode("utf-16-le") + data)
    return path


def numbers(*shape, dtype="u2"):
    return np.arange(prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ("TZCYX", (3, 2, 2, 4, 5)),
        ("CTZYX", (2, 3, 2, 4, 5)),
        ("ZTYX", (2, 3, 4, 5)),
        ("TCYX", (3, 2, 4, 5)),
        ("TYX", (3, 4, 5)),
        ("ZYX", (3, 4, 5)),
        ("YX", (4, 5)),
        ("TYX", (3, 4, 1)),
        ("TMYX", (3, 1, 4, 5)),
    ],
)
def test_every_image_channel_and_slice_is_what_the_library_reads(tmp_path, axes, shape, dtype):
    images = [
        image(name, axes, numbers(*shape, dtype=dtype) + add) for add, name in enumerate("ab")
    ]
    path = write(tmp_path / "a.lif", *images)
    sizes = [size for axis, size in zip(axes, shape, strict=True) if axis != "M"]
    with liffile.LifFile(path) as lif:
        read = np.stack([image.asarray().reshape(sizes) for image in lif.images])
    assert_reads_all(path, "LIF", read, f"P{axes}".replace("M", ""))


def test_how_it_was_recorded(tmp_path):
    times = [0.0, 0.0, 0.0301, 0.0301, 0.0603, 0.0603, 9.0, 9.0]  # of both channels
    path = write(
        tmp_path / "a.lif",
        image("a", "TCYX", numbers(4, 2, 4, 5), times=times),
        image("b", "TCYX", numbers(4, 3, 4, 5)),
        image("c", "YX", numbers(4, 5)),
    )
    positions = open_recording(path).positions
    assert [position.name for position in positions] == ["a", "b", "c"]
    timed, spaced, still = (position.channels for position in positions)
    assert timed[0].to_attributes() == {
        "channel": "dye 0",
        "pixel_size_um": (pytest.approx(0.2), pytest.approx(0.1)),
        "frame_interval_s": pytest.approx(0.0302),
        "colour": "00FF00",
    }
    assert (timed[1].channel, timed[1].colour) == ("dye 1", "FF0000")
    assert spaced[2].frame_interval_s == pytest.approx(0.05)
    assert spaced[2].colour is None
    assert still[0].frame_interval_s is None


def test_images_that_are_no_movies_are_left_out(tmp_path):
    movie = image("movie", "TYX", numbers(3, 4, 5))
    path = write(
        tmp_path / "a.lif",
        image("colour", "YXS", numbers(4, 5, 3)),
        image("tiles", "MYX", numbers(2, 4, 5)),
        movie,
        image("spectrum", "TλYX", numbers(3, 2, 4, 5)),
        image("line", "TX", numbers(3, 5)),
    )
    said = (
        "not all images are movies: image 'colour' has colour samples: save its channels apart; "
        "image 'tiles' is a mosaic of tiles: save each tile as an image of its own; image "
        "'spectrum' has the axes .*of kind 5.*; and 1 more"
    )
    with pytest.warns(UserWarning, match=said):
        (stack,) = open_channels(path)
    np.testing.assert_array_equal(stack.compute(), numbers(3, 4, 5))


def test_an_image_that_cannot_be_read_is_left_out(tmp_path):
    text, block = image("mixed", "TCYX", numbers(3, 2, 4, 5))
    mixed = (text.replace('Resolution="16"', 'Resolution="8"', 1), block)
    path = write(tmp_path / "a.lif", mixed, image("movie", "TYX", numbers(3, 4, 5)))
    with pytest.warns(UserWarning, match="image 'mixed' cannot be read: heterogeneous"):
        (stack,) = open_channels(path)
    np.testing.assert_array_equal(stack.compute(), numbers(3, 4, 5))


@pytest.mark.parametrize(
    ("axes", "shape", "more", "said"),
    [
        ("YXS", (4, 5, 3), {}, "image 'a' has colour samples"),
        ("MYX", (2, 4, 5), {}, "is a mosaic of tiles"),
        ("TZX", (3, 4, 5), {}, "has the axes T, Z, X, and must have"),
        ("YZX", (3, 4, 5), {}, "does not hold frame .* after frame"),
        ("TYX", (3, 4, 5), {"padding": 2}, "does not hold frame .* after frame"),
        ("TYX", (3, 4, 5), {"flim": True}, "holds photon arrival times"),
        (None, None, None, "it has no images"),
    ],
)
def test_what_is_refused(tmp_path, axes, shape, more, said):
    images = [image("a", axes, numbers(*shape), **more)] if axes else []
    path = write(tmp_path / "a.lif", *images)
    with pytest.raises(ValueError, match=f"^{path} holds no movie: .*{said}"):
        open_channels(path)


@pytest.mark.parametrize(
    ("lost", "first", "second"),
    [(1, 3, 2), (80, 3, 2), (81, 3, 1), (240, 3, 0), (300, 2, 0), (504, 0, 0)],
)
def test_a_file_that_is_cut_short(tmp_path, lost, first, second):
    pixels = numbers(3, 2, 4, 5)
    path = write(tmp_path / "a.lif", *(image(name, "TCYX", pixels) for name in "ab"))
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size - lost)
    for position, whole in enumerate((first, second)):
        frames = open_recording(path).positions[position]
        assert frames.movie(1, 0).shape[0] == whole
        assert frames.promised == 3
        if 0 < whole < 3:
            with pytest.raises(ValueError, match="cut short: .* should hold 3 frames"):
                open_channels(path, position=position)
            stacks = open_channels(path, position=position, frames=slice(0, whole))
            np.testing.assert_array_equal(stacks[1].compute(), pixels[:whole, 1])


@pytest.mark.parametrize("data", [b"", b"no LIF", struct.pack("<IIBI", 0x70, 85, 0x2A, 40)])
def test_what_is_no_lif(tmp_path, data):
    path = tmp_path / "a.lif"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"^{path} cannot be read as LIF: ") as caught:
        open_channels(path)
    assert "\n" not in str(caught.value)
