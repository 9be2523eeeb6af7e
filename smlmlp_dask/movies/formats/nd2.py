"""ND2: movies of Nikon's NIS-Elements.

The library reads the metadata, and `nd2_chunks` the images, where the file's own index says that
they are: the library gives zeros for an image that the file lacks. A movie that was recorded as a
stack in z, with no loop over time, stays a stack in z.
"""

from contextlib import suppress
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.messages import one_line
from smlmlp_dask.movies.acquisition import UNKNOWN, Acquisition
from smlmlp_dask.movies.recording import Position, Recording

from .frames import FileMovie
from .nd2_chunks import IMAGE, MAGIC, TIME, Images, chunk, index_of

AXES = {"TimeLoop": "T", "NETimeLoop": "T", "XYPosLoop": "P", "ZStackLoop": "Z"}
"""The loops of an experiment that a movie can have, and their axes."""

TIMES = b"CustomData|AcqTimesCache!"
"""Chunk that says when each image was recorded."""


class _Unsuitable(ValueError):
    """A file is whole, but no movie that we can read."""


def open(path: Path) -> Recording:
    """Read the metadata of a file."""
    from nd2 import ND2File

    with path.open("rb") as file:
        if file.read(4) != MAGIC.to_bytes(4, "little"):
            raise ValueError(
                f"{path} is no ND2 file, or one of the first kind, which is JPEG 2000: save it "
                "anew in NIS-Elements, as ND2 or TIFF"
            )
        try:
            index = index_of(file)
            times = np.empty(0)
            if TIMES in index:
                data = chunk(file, index[TIMES], TIMES)
                times = np.frombuffer(data[: len(data) // TIME.size * TIME.size], "<f8")
            with ND2File(path) as nd2:
                return _recording(path, nd2, index, times)
        except _Unsuitable as error:
            raise ValueError(f"{path} {error}") from None
        except Exception as error:
            raise ValueError(
                f"{path} cannot be read as ND2: {one_line(error)}; check that the recording was "
                "finished and the file copied whole, since its index stands at its end"
            ) from error


def _recording(
    path: Path, nd2: Any, index: dict[bytes, int], times: NDArray[np.float64]
) -> Recording:
    sizes, loops = nd2.attributes, nd2.experiment
    count = sizes.channelCount or 1
    if sizes.componentCount != count:
        raise _Unsuitable(
            f"has {sizes.componentCount} colour samples in {count} channels: save one gray channel"
        )
    if sizes.compressionType == "lossy":
        raise _Unsuitable("is compressed with loss: save it without")
    axes = "".join(AXES.get(loop.type, "?") for loop in loops)
    if "?" in axes or len(set(axes)) != len(axes):
        raise _Unsuitable(
            f"has the loops {', '.join(loop.type for loop in loops)}, not one each over time, "
            "positions and z: save each movie as a file of its own"
        )
    lengths = {axis: loop.count for axis, loop in zip(axes, loops, strict=True)}
    shape = tuple(lengths.get(axis, 1) for axis in "PTZ")
    offsets = np.full(prod(shape), -1, np.int64)
    start = len(IMAGE % 0) - 2
    found = {int(name[start:-1]): at for name, at in index.items() if name[:start] == IMAGE[:start]}
    if max(found, default=-1) >= len(offsets):
        raise _Unsuitable(
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
    positions = []
    frame = (sizes.heightPx, sizes.widthPx)
    packed = sizes.compressionType == "lossless"
    for name, places in zip(names, numbers, strict=True):
        images = Images(
            path=str(path),
            numbers=places,
            offsets=offsets[places],
            dtype=nd2.dtype.newbyteorder("<"),
            line_bytes=sizes.widthBytes,
            channels=count,
            packed=packed,
            plain=not packed and sizes.widthBytes == frame[1] * nd2.dtype.itemsize,
        )
        positions.append(_position(name, images, frame, channels, times))
    return Recording(path=str(path), format="ND2", positions=tuple(positions))


def _position(
    name: str,
    images: Images,
    frame: tuple[int, int],
    channels: list[Acquisition],
    times: NDArray[np.float64],
) -> Position:
    """Return a position of images (frame, z), up to the first that the file lacks."""
    promised, depth = images.offsets.shape
    lacking = np.flatnonzero((images.offsets < 0).any(axis=1))
    whole = int(lacking[0]) if len(lacking) else promised
    interval = _interval(times, images.numbers[:whole, 0])

    def movie(channel: int, z: int) -> FileMovie:
        return FileMovie.of(images.of((slice(whole), z), channel), whole, frame, images.dtype)

    return Position(
        name=name,
        movie=movie,
        channels=tuple(replace(channel, frame_interval_s=interval) for channel in channels),
        depth=depth,
        promised=promised if whole < promised else None,
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
