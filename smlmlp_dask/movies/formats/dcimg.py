"""Hamamatsu's DCIMG.

The camera writes over some pixels of each frame and keeps their values elsewhere; `openreadout`
puts them back. No file of a camera could be had: its pixels were compared with what is known of
the format, on files that were made by hand.
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

from .frames import FileMovie
from .planes import Planes, ReadPlane

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


def open(path: Path) -> Recording:
    """Read the metadata, and a few frames, to see which are whole."""
    import openreadout

    try:
        info = openreadout.info(path)
        if info["format"]["id"] == "dcimg":
            return _recording(path, info)
    except openreadout.OpenReadoutError as error:
        reason = one_line(error).partition(" (hint:")[0]
        raise ValueError(f"{path} cannot be read: {reason}; copy it again") from error
    raise ValueError(f"{path} holds no image of the format that it is named for: copy it again")


def _acquisition(image: Mapping[str, Any]) -> Acquisition:
    size = image.get("physical_size", {})
    in_um = size.get("unit") == "µm" and "x" in size and "y" in size
    return Acquisition(
        pixel_size_um=(size["y"], size["x"]) if in_um else None,
        frame_interval_s=image.get("time_increment_s"),
    )


def _recording(path: Path, info: Mapping[str, Any]) -> Recording:
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
    planes = Planes(path=str(path), frames=range(whole), open=reading, place=(0, 0, 0))
    frame, dtype = (image["size_y"], image["size_x"]), np.dtype(image["pixel_type"])
    movie = FileMovie.of(planes, whole, frame, dtype)
    position = Position(
        movie=lambda *_: movie,
        channels=(_acquisition(image),),
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
