"""CZI: images of Zeiss's ZEN.

The library reads the directory of the file's sub-blocks, each a frame; it gives zeros for one that
the file lacks. Sub-blocks are read at their places: by the library where they are coded, else
beside it, as it takes longer for a small frame than the frame itself does. Scenes are positions. A
scene that was recorded as a stack in z, with no axis of time, stays a stack in z.
"""

import re
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.movies.acquisition import UNKNOWN, Acquisition
from smlmlp_dask.movies.recording import Position, Recording
from smlmlp_dask.movies.stack import check_due

from .frames import FileMovie, Frame
from .planes import Planes, ReadPlane
from .reading import Unsuitable, reading_as, recording_of, whole_frames

CODES = range(8)
"""How pixels may be coded; 0 is not at all, and those above are of cameras."""

DAYS = (30_000, 80_000)
"""Times between these may be days since 1900, as some files have them, or seconds."""

SIZES = ("SizeT", "SizeZ", "SizeC")
"""Elements of the metadata that say how much a file should hold."""


HEADER = struct.Struct("<16s16xi4xq28xi")
"""A sub-block's kind, bytes of its metadata, bytes of its pixels, and number of its axes."""

KIND = "ZISRAWSUBBLOCK"

ENTRY = 48
"""Where the description of a sub-block begins in it; the metadata follow it, and the pixels."""


@dataclass(frozen=True)
class _Known:
    """What the metadata of a file say."""

    sizes: dict[str, int]
    scenes: dict[int, str]
    channels: list[Acquisition]
    times: NDArray[np.float64]


def open(path: Path) -> Recording:
    """Read the metadata of a file. Scenes that are no movies are left out, and said."""
    from czifile import CziFile, CziSegment

    positions, others = [], []
    remedy = "check that the recording was finished and the file copied whole"
    with reading_as(path, "CZI", remedy):
        with CziFile(path) as czi:
            directory = CziSegment(czi, czi.header.directory_position)
            if directory.sid != "ZISRAWDIRECTORY":
                raise ValueError("its directory of frames is missing")
            known = _known(czi)
            scenes = defaultdict(list)
            for entry in czi.filtered_subblock_directory:
                scenes[entry.scene_index].append(entry)
            pending = czi.header.update_pending
        for number, entries in sorted(scenes.items()):
            name = known.scenes.get(max(0, number), "")
            try:
                positions.append(_position(path, name, entries, known))
            except Unsuitable as error:
                others.append(f"scene {name or max(0, number)} {error}")
        recording = recording_of(path, "CZI", positions, others, "scenes")
    if not pending:
        return recording
    note = "its header says that a program has not finished writing it"
    return replace(recording, notes=(*recording.notes, note))


def _position(path: Path, name: str, entries: Sequence[Any], known: _Known) -> Position:
    """Return a scene as a position, up to the first frame that the file lacks."""
    if any(entry.pixel_type.samples != 1 for entry in entries):
        raise Unsuitable("has colour samples: save one gray channel")
    places, rectangles = zip(*map(_place, entries), strict=True)
    if len({entry.mosaic_index for entry in entries}) > 1 or len(set(places)) < len(places):
        raise Unsuitable("is a mosaic of tiles (M): save each tile as an image of its own")
    if any(entry.file_part for entry in entries):
        raise Unsuitable("continues in another file: save it as one")
    codes = {int(entry.compression) for entry in entries}
    if not codes.issubset(CODES):
        raise Unsuitable(f"is coded as {entries[0].compression}: save it uncompressed")
    if len(set(rectangles)) > 1 or any(entry.is_pyramid for entry in entries):
        raise Unsuitable("has frames of several sizes or places: save it as TIFF")
    frame = rectangles[0][0][1], rectangles[0][1][1]
    spans = [
        _span(numbers, known.sizes.get(axis, 1))
        for axis, numbers in zip("TZC", zip(*places, strict=True), strict=True)
    ]
    count, depth, channels = (size for _, size in spans)
    at = np.array(places) - [first for first, _ in spans]
    offsets = np.full((count, depth, channels), -1, np.int64)
    offsets[tuple(at.T)] = [entry.file_position for entry in entries]
    whole = whole_frames(offsets >= 0)
    kinds = {(channel, entry.dtype) for channel, entry in zip(at[:, 2], entries, strict=True)}
    if len(kinds) > len({channel for channel, _ in kinds}):
        raise Unsuitable("has frames of several kinds of numbers: save it as TIFF")
    dtypes = dict(kinds)

    def movie(channel: int, z: int) -> FileMovie:
        dtype = dtypes.get(channel, entries[0].dtype).newbyteorder("=")
        planes = Planes(
            path=str(path),
            frames=offsets[:whole, z, channel],
            open=_plain if codes == {0} else _coded,
            place=(frame, dtype),
            copies=1 if codes == {0} else 2,
        )
        return FileMovie.of(planes, whole, frame, dtype)

    told = known.channels if len(known.channels) == channels else [UNKNOWN] * channels
    interval = _interval(known.times, count)
    return Position(
        name=name,
        movie=movie,
        channels=tuple(replace(channel, frame_interval_s=interval) for channel in told),
        depth=depth,
        promised=count,
        cut_short=f"it should hold {count} frames, its directory lists {whole}",
    )


_Span: TypeAlias = tuple[int, int]
"""Start and size on an axis."""


def _place(entry: Any) -> tuple[tuple[int, ...], tuple[_Span, _Span]]:
    """Return the numbers in T, Z and C of a sub-block of one frame, and its span in Y and X."""
    spans = zip(entry.start, entry.shape, strict=True)
    axes: dict[str, _Span] = dict(zip(entry.dims, spans, strict=True))
    others = [
        axis
        for axis, (start, size) in axes.items()
        if (size != 1 and axis not in "YX") or (start != 0 and axis not in "TZCYX")
    ]
    if others or not {"Y", "X"}.issubset(axes):
        raise Unsuitable(f"does not hold one frame (y, x) a block over T, Z, C: {entry.dims}")
    return tuple(axes.get(axis, (0, 1))[0] for axis in "TZC"), (axes["Y"], axes["X"])


def _span(numbers: Iterable[int], promised: int) -> tuple[int, int]:
    """Return the first number of an axis, and how many there are or should be."""
    low, high = min(numbers), max(numbers)
    first = 0 if high < promised else low
    return first, max(promised, high - first + 1)


# How it was recorded


def _known(czi: Any) -> _Known:
    # The library searches the whole file, and logs, for what the header does not say to be there.
    root = czi.xml_element if czi.header.metadata_position else None
    image = None if root is None else root.find(".//Information/Image")
    if image is None:
        return _Known({}, {}, [], np.empty(0))
    times = np.empty(0)
    if czi.header.attachment_directory_position:
        with suppress(TypeError, ValueError, OSError, struct.error):  # damaged, or without times
            times = np.asarray(czi.timestamps, np.float64).reshape(-1)
    return _Known(
        sizes={size.tag[4:]: int(size.text or 0) for size in image if size.tag in SIZES},
        scenes={
            int(scene.get("Index") or 0): scene.get("Name") or ""
            for scene in image.findall("./Dimensions/S/Scenes/Scene")
        },
        channels=_channels(root, image),
        times=times,
    )


def _channels(root: Any, image: Any) -> list[Acquisition]:
    spacing = {
        item.get("Id"): round(float(item.findtext("Value") or 0) * 1e6, 12)
        for item in root.findall(".//Scaling/Items/Distance")
    }
    size = (spacing.get("Y", 0), spacing.get("X", 0))
    shown = {item.get("Id"): item for item in root.findall(".//DisplaySetting/Channels/Channel")}
    channels = []
    for item in image.findall("./Dimensions/Channels/Channel"):
        display = shown.get(item.get("Id"), item)
        colour = item.findtext("Color") or display.findtext("Color") or ""
        exposure = float(item.findtext("ExposureTime") or 0)
        channels.append(
            Acquisition(
                channel=item.get("Name") or display.get("Name") or None,
                pixel_size_um=size if min(size) > 0 else None,
                exposure_s=exposure / 1e9 if exposure > 0 else None,  # nanoseconds
                colour=colour[-6:].upper()
                if re.fullmatch("#([0-9a-fA-F]{2}){3,4}", colour)
                else None,
            )
        )
    return channels


def _interval(times: NDArray[np.float64], count: int) -> float | None:
    """Return the median of seconds from frame to frame, if the file says when each was recorded."""
    if len(times) != count or count < 2 or DAYS[0] < times[0] < DAYS[1]:
        return None
    interval = float(np.median(np.diff(times)))
    return interval if 0 < interval < np.inf else None


# The sub-blocks of a file


@contextmanager
def _plain(path: str) -> Iterator[ReadPlane]:
    """Read pixels as they lie in the file."""
    with Path(path).open("rb") as file:

        def plane(offset: int, frame: Frame, dtype: np.dtype[Any]) -> NDArray[Any]:
            file.seek(offset)
            head = file.read(HEADER.size).ljust(HEADER.size)
            kind, metadata_bytes, size, axes = HEADER.unpack(head)
            _check_kind(kind.rstrip(b"\0").decode("ascii", "replace"), offset)
            file.seek(offset + ENTRY + max(240, 32 + 20 * axes) + metadata_bytes)
            return np.frombuffer(file.read(size), dtype.newbyteorder("<")).reshape(frame)

        yield plane


@contextmanager
def _coded(path: str) -> Iterator[ReadPlane]:
    """Read pixels as the library decodes them; its directory of all frames is not read again."""
    from czifile import CziFile, CziSegment

    with CziFile(path) as czi:

        def plane(offset: int, frame: Frame, dtype: np.dtype[Any]) -> NDArray[Any]:
            segment: Any = CziSegment(czi, offset)
            _check_kind(segment.sid, offset)
            pixels: NDArray[Any] = segment.data().data()
            # they have other axes, too, each of length 1
            check_due(pixels.squeeze(), tuple(size for size in frame if size != 1), dtype)
            return pixels.reshape(frame)

        yield plane


def _check_kind(kind: str, offset: int) -> None:
    if kind != KIND:
        raise ValueError(f"no sub-block is at byte {offset}: it was deleted or never saved")
