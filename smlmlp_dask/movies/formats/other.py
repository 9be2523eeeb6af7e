"""Formats that `openreadout` reads: Hamamatsu's DCIMG, Olympus's OIF and OIB.

It reads many more. These are the ones whose pixels were compared with another reader, or with what
is known of the format; and its numbers are taken only where the file bears them out.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.messages import one_line
from smlmlp_dask.movies.acquisition import Acquisition
from smlmlp_dask.movies.recording import Position, Recording

from .planes import PlaneMovie, ReadPlane

# The camera writes this over the first pixels of one row, and keeps their values elsewhere.
_OVERWRITTEN = np.frombuffer(b"\0\0\xff\xff\0\0\xff\xff", np.uint8)


@contextmanager
def reading(path: str) -> Iterator[ReadPlane]:
    """Open a file; return ``plane(frame, image, channel, z)``."""
    import openreadout

    with openreadout.File(path) as file:

        def plane(frame: int, image: int, channel: int, z: int) -> NDArray[Any]:
            pixels: NDArray[Any] = file.read_plane(image=image, c=channel, z=z, t=frame)
            return pixels

        yield plane


def files(path: Path) -> list[Path]:
    """Return the file, and the folder that holds the planes of an OIF."""
    folder = path.with_name(f"{path.name}.files")
    return [path, folder] if folder.is_dir() else [path]


def open(path: Path) -> Recording:
    """Read the metadata; of DCIMG a few frames, too, to see which are whole."""
    import openreadout

    try:
        info = openreadout.info(path)
        if info["format"]["id"] == "dcimg":
            return _hamamatsu(path, info)
        vendor = openreadout.info(path, view="full")["vendor"]
    except openreadout.OpenReadoutError as error:
        raise ValueError(f"{path} cannot be read: {_reason(error)}; copy it again") from error
    if info["format"]["id"] not in ("oif", "oib") or not info["images"]:
        raise ValueError(f"{path} holds no image of the format that it is named for: copy it again")
    _refuse_missing(path, info, vendor["main"])
    names = [image.get("name") or "" for image in info["images"]]
    positions = [
        _position(path, number, image, name=names[number] if len(names) > 1 else "")
        for number, image in enumerate(info["images"])
    ]
    return Recording(path=str(path), format="OIF", positions=tuple(positions))


def _position(path: Path, number: int, image: Mapping[str, Any], **options: Any) -> Position:
    if image["samples_per_pixel"] != 1:
        raise ValueError(f"{path} has colour samples in its pixels: save one gray channel")
    whole = options.pop("whole", image["size_t"])
    shape = (whole, image["size_y"], image["size_x"])
    dtype = np.dtype(image["pixel_type"])
    return Position(
        movie=lambda channel, z: PlaneMovie(
            path=str(path), shape=shape, dtype=dtype, open=reading, place=(number, channel, z)
        ),
        channels=tuple(_acquisition(image, channel) for channel in _channels(image)),
        depth=image["size_z"],
        **options,
    )


def _channels(image: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    known = image.get("channels", [])
    return [known[at] if at < len(known) else {} for at in range(image["size_c"])]


def _acquisition(image: Mapping[str, Any], channel: Mapping[str, Any]) -> Acquisition:
    size = image.get("physical_size", {})
    in_um = size.get("unit") == "µm" and "x" in size and "y" in size
    exposure_ms = channel.get("exposure_ms")
    return Acquisition(
        channel=channel.get("name"),
        pixel_size_um=(size["y"], size["x"]) if in_um else None,
        frame_interval_s=image.get("time_increment_s"),
        exposure_s=exposure_ms / 1000 if exposure_ms else None,
    )


def _hamamatsu(path: Path, info: Mapping[str, Any]) -> Recording:
    [image] = info["images"]
    frames, extra = image["size_t"], image.get("extra", {})
    for note in info.get("notes") or ():
        if "disagree" in note:
            raise ValueError(
                f"{path} is a DCIMG of a kind that is not known ({note}): export it from the "
                "camera's program as TIFF"
            )
    if image["pixel_type"] != "uint16":
        raise ValueError(
            f"{path} has pixels of {image['pixel_type']}, and DCIMG is read with 16 bits only: "
            "export it from the camera's program as TIFF"
        )
    with reading(str(path)) as plane:
        fails = partial(_fails, plane)
        whole = frames if not fails(frames - 1) else bisect_left(range(frames), True, key=fails)
        if whole and not extra.get("stored_pixels", {}).get("applied"):
            starts = np.ascontiguousarray(plane(0, 0, 0, 0)).view(np.uint8)[:, : _OVERWRITTEN.size]
            if np.equal(starts, _OVERWRITTEN).all(axis=1).any():
                raise ValueError(
                    f"{path} does not say where the pixels are kept that the camera wrote over: "
                    "export it from the camera's program as TIFF"
                )
    notes: tuple[str, ...] = ()
    first, last = extra.get("frame_counter_range") or (1, frames)
    if whole == frames and last - first + 1 > frames:
        notes = (f"the camera counted {last - first + 1} frames, and {frames} were written",)
    position = _position(
        path,
        0,
        image,
        whole=whole,
        promised=frames,
        cut_short=f"its header promises {frames} frames, {whole} of them are in the file",
    )
    return Recording(path=str(path), format="DCIMG", positions=(position,), notes=notes)


def _fails(plane: ReadPlane, frame: int) -> bool:
    try:
        plane(frame, 0, 0, 0)
    except Exception:  # of several kinds, each of which says that the frame is not there
        return True
    return False


def _refuse_missing(path: Path, info: Mapping[str, Any], main: Mapping[str, Any]) -> None:
    """Refuse a file that lacks planes: the library would number the others as if none was."""
    order = str(main.get("Axis Parameter Common", {}).get("AxisOrder", ""))
    axes = [part for part in main.values() if part.get("AxisCode") in [*order]]
    due = {part["AxisCode"]: max(1, part["MaxSize"]) for part in axes if "MaxSize" in part}
    for image in info["images"]:
        for axis in "tzc":
            size = image[f"size_{axis}"]
            if size != due.get(axis.upper(), 1):
                raise ValueError(
                    f"{path} is cut short: it holds {size} of {due.get(axis.upper(), 1)} planes "
                    f"along {axis.upper()}; copy it again, with all the files of its folder"
                )
    for note in info.get("notes") or ():
        if "missing" in note:
            raise ValueError(f"{path} lacks planes ({note}): copy it again, with its folder")


def _reason(error: Exception) -> str:
    return one_line(error).partition(" (hint:")[0]
