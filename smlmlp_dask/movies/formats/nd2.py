"""ND2: movies of Nikon's NIS-Elements.

The library reads the metadata. Images are read beside it, where the file's own index says that
they are: the library gives zeros for an image that the file lacks, and reads that index anew each
time it opens a file. A movie that was recorded as a stack in z, with no loop over time, stays a
stack in z.
"""

import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from struct import Struct
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.movies.acquisition import UNKNOWN, Acquisition
from smlmlp_dask.movies.recording import Position, Recording

from .frames import FileMovie, Frame
from .planes import Planes, ReadPlane
from .reading import Unsuitable, reading_as, whole_frames

AXES = {"TimeLoop": "T", "NETimeLoop": "T", "XYPosLoop": "P", "ZStackLoop": "Z"}
"""The loops of an experiment that a movie can have, and their axes."""

MAGIC = 0x0ABECEDA

HEADER = Struct("<IIQ")
"""Before each chunk: `MAGIC`, and the bytes of its name and of its data."""

END = Struct("<32sQ")
"""The last bytes of a file: `SIGNATURE`, and where the index of its chunks is."""

SIGNATURE = b"ND2 CHUNK MAP SIGNATURE 0000001!"

IMAGE = b"ImageDataSeq|%d!"
"""Name of the chunk of an image."""

TIMES = b"CustomData|AcqTimesCache!"
"""Name of the chunk that says when each image was recorded."""

TIME = Struct("<d")
"""A time in milliseconds; one stands before the pixels of an image."""


def open(path: Path) -> Recording:
    """Read the metadata of a file."""
    from nd2 import ND2File

    with path.open("rb") as file:
        if file.read(4) != MAGIC.to_bytes(4, "little"):
            raise ValueError(
                f"{path} is no ND2 file, or one of the first kind, which is JPEG 2000: save it "
                "anew in NIS-Elements, as ND2 or TIFF"
            )
        remedy = (
            "check that the recording was finished and the file copied whole, since its index "
            "stands at its end"
        )
        with reading_as(path, "ND2", remedy):
            index = _index(file)
            times = np.empty(0)
            if TIMES in index:
                data = _chunk(file, index[TIMES], TIMES)
                times = np.frombuffer(data[: len(data) // TIME.size * TIME.size], "<f8")
            with ND2File(path) as nd2:
                return _recording(path, nd2, index, times)


def _recording(
    path: Path, nd2: Any, index: dict[bytes, int], times: NDArray[np.float64]
) -> Recording:
    sizes, loops = nd2.attributes, nd2.experiment
    count = sizes.channelCount or 1
    if sizes.componentCount != count:
        raise Unsuitable(
            f"has {sizes.componentCount} colour samples in {count} channels: save one gray channel"
        )
    if sizes.compressionType == "lossy":
        raise Unsuitable("is compressed with loss: save it without")
    axes = "".join(AXES.get(loop.type, "?") for loop in loops)
    if "?" in axes or len(set(axes)) != len(axes):
        raise Unsuitable(
            f"has the loops {', '.join(loop.type for loop in loops)}, not one each over time, "
            "positions and z: save each movie as a file of its own"
        )
    lengths = {axis: loop.count for axis, loop in zip(axes, loops, strict=True)}
    shape = tuple(lengths.get(axis, 1) for axis in "PTZ")
    offsets = np.full(prod(shape), -1, np.int64)
    start = len(IMAGE % 0) - 2
    found = {int(name[start:-1]): at for name, at in index.items() if name[:start] == IMAGE[:start]}
    if max(found, default=-1) >= len(offsets):
        raise Unsuitable(
            f"has {max(found) + 1} images, but its loops ({axes or 'none'}) have {len(offsets)}: "
            "save it anew in NIS-Elements, as ND2 or TIFF"
        )
    offsets[list(found)] = list(found.values())
    numbers = np.arange(len(offsets)).reshape([lengths[axis] for axis in axes])
    numbers = numbers.transpose([axes.index(axis) for axis in "PTZ" if axis in axes])
    numbers = numbers.reshape(shape)
    points = [loop.parameters.points for loop in loops if loop.type == "XYPosLoop"]
    names = [point.name or "" for point in points[0]] if points else [""]
    channels = _channels(nd2, count)
    layout = Layout(
        frame=(sizes.heightPx, sizes.widthPx),
        dtype=nd2.dtype.newbyteorder("<"),
        line_bytes=sizes.widthBytes,
        channels=count,
        packed=sizes.compressionType == "lossless",
    )
    places = np.stack([numbers, offsets[numbers]], axis=-1)
    positions = [
        _position(path, name, place, layout, channels, times)
        for name, place in zip(names, places, strict=True)
    ]
    return Recording(path=str(path), format="ND2", positions=tuple(positions))


def _position(
    path: Path,
    name: str,
    places: NDArray[np.int64],
    layout: "Layout",
    channels: list[Acquisition],
    times: NDArray[np.float64],
) -> Position:
    """Return a position of images, up to the first that the file lacks.

    `places` (frame, z, 2) are the numbers of images, and where their chunks are.
    """
    promised, depth, _ = places.shape
    whole = whole_frames(places[..., 1] >= 0)
    interval = _interval(times, places[:whole, 0, 0])

    def movie(channel: int, z: int) -> FileMovie:
        images = Planes(
            path=str(path),
            frames=places[:whole, z],
            open=_images,
            place=(channel, layout),
            copies=layout.channels * (2 if layout.packed else 1),
        )
        return FileMovie.of(images, whole, layout.frame, layout.dtype)

    return Position(
        name=name,
        movie=movie,
        channels=tuple(replace(channel, frame_interval_s=interval) for channel in channels),
        depth=depth,
        promised=promised,
        cut_short=f"it should hold {promised} frames, its index lists {whole}",
    )


def _channels(nd2: Any, count: int) -> list[Acquisition]:
    """Return what is known of each channel; some files lack what the library looks for."""
    exposures, known = {}, []
    with suppress(Exception):
        found = nd2.unstructured_metadata(strip_prefix=False, include={"ImageMetadataSeqLV|0"})
        planes = found["ImageMetadataSeqLV|0"]["SLxPictureMetadata"]["sPicturePlanes"]
        for name, setting in planes["sSampleSetting"].items():
            exposures[int(name[1:])] = setting["dExposureTime"] / 1000
    with suppress(Exception):
        known = nd2.metadata.channels
    if len(known) != count:
        return [UNKNOWN] * count
    channels = []
    for each in known:
        x, y, _ = each.volume.axesCalibration
        channels.append(
            Acquisition(
                channel=each.channel.name or None,
                pixel_size_um=(y, x) if all(each.volume.axesCalibrated[:2]) else None,
                exposure_s=exposures.get(each.channel.index) or None,
                colour="{:02X}{:02X}{:02X}".format(*each.channel.color[:3]),
            )
        )
    return channels


def _interval(times: NDArray[np.float64], images: NDArray[np.int64]) -> float | None:
    """Return the median of seconds from one image to the next, if the file says when they were."""
    images = images[images < len(times)]
    if len(images) < 2:
        return None
    interval = float(np.median(np.diff(times[images]))) / 1000
    return interval if 0 < interval < np.inf else None


# The chunks of a file


def _index(file: BinaryIO) -> dict[bytes, int]:
    """Return the names of all chunks, and where they are."""
    file.seek(-END.size, 2)
    signature, offset = END.unpack(file.read(END.size))
    if signature != SIGNATURE:
        raise ValueError("its index is missing")
    entries, end, _ = _chunk(file, offset, b"ND2 FILEMAP SIGNATURE NAME 0001!").partition(SIGNATURE)
    if not end:
        raise ValueError("its index has no end")
    found = re.finditer(rb"([^!]*!)(.{8}).{8}", entries, re.DOTALL)
    return {entry[1]: int.from_bytes(entry[2], "little") for entry in found}


def _chunk(file: BinaryIO, offset: int, name: bytes) -> bytes:
    """Return the data of a chunk; refuse one of another name."""
    file.seek(offset)
    magic, name_bytes, data_bytes = HEADER.unpack(file.read(HEADER.size).ljust(HEADER.size))
    if magic != MAGIC or file.read(len(name)) != name:
        raise ValueError(f"{name[:-1].decode()} does not begin at byte {offset}")
    file.seek(offset + HEADER.size + name_bytes)
    return file.read(data_bytes)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How an image of all channels lies in its chunk."""

    frame: Frame
    dtype: np.dtype[Any]
    line_bytes: int  # of all channels, and what fills up a line
    channels: int
    packed: bool  # by zlib


@contextmanager
def _images(path: str) -> Iterator[ReadPlane]:
    """Open a file to read its images."""
    with Path(path).open("rb") as file:

        def image(place: tuple[int, int], channel: int, layout: Layout) -> NDArray[Any]:
            number, offset = place
            data: Any = memoryview(_chunk(file, offset, IMAGE % number))[TIME.size :]
            due = layout.frame[0] * layout.line_bytes
            if layout.packed:
                data = zlib.decompress(data, bufsize=due)
            if len(data) != due:
                raise ValueError(f"image {number} has {len(data)} bytes where {due} are due")
            item = layout.dtype.itemsize
            strides = (layout.line_bytes, layout.channels * item, item)
            shape = (*layout.frame, layout.channels)
            return np.ndarray(shape, layout.dtype, data, strides=strides)[..., channel]

        yield image
