"""DAX, the Zhuang lab's movies: plain frames in `movie.dax`, described by `movie.inf`."""

import re
from pathlib import Path

import numpy as np

from smlmlp_dask.messages import shown
from smlmlp_dask.movies.arguments import RawLayout
from smlmlp_dask.movies.recording import Recording

from .plain import plain_recording

_SIZES = re.compile(r"^frame dimensions *= *(\d+) *x *(\d+) *$", re.MULTILINE)
_FRAMES = re.compile(r"^number of frames *= *(\d+) *$", re.MULTILINE)
_TYPE = re.compile(r"^data type *= *(.*?) *$", re.MULTILINE)
_INTEGERS = re.compile(r"16 bit integers \(binary, (big|little) endian\)")


def recognises(path: Path) -> bool:
    """Say whether the file has its description beside it."""
    return _beside(path).is_file()


def files(path: Path) -> list[Path]:
    """Return the movie and its description."""
    return [path, _beside(path)]


def open(path: Path) -> Recording:
    """Read the description of a movie.

    Raises
    ------
    ValueError
        If the description lacks something, or does not fit the movie.
    """
    beside = _beside(path)
    text = beside.read_text("utf-8", "replace")
    sizes, frames, kind = (pattern.findall(text) for pattern in (_SIZES, _FRAMES, _TYPE))
    for found, line in (
        (sizes, "frame dimensions = 256 x 256"),
        (frames, "number of frames = 1000"),
        (kind, "data type = 16 bit integers (binary, big endian)"),
    ):
        if len(found) != 1:
            raise ValueError(
                f"{beside} has {len(found)} lines such as {line!r}, not one: correct it, or move "
                "it away and describe the movie by raw_shape and raw_dtype (--raw-shape, "
                "--raw-dtype)"
            )
    order = _INTEGERS.fullmatch(kind[0])
    if order is None:
        raise ValueError(
            f"{beside} has data type = {shown(kind[0])}, not 16 bit integers (binary, big endian) "
            "or (binary, little endian): save the movie as one of these"
        )
    width, height = map(int, sizes[0])  # the program that records writes x first
    shape = (int(frames[0]), height, width)
    if 0 in shape:
        raise ValueError(f"{beside} describes {shape} (frames, y, x), without pixels: correct it")
    return plain_recording(
        path,
        "DAX",
        RawLayout(shape, np.dtype(">u2" if order[1] == "big" else "<u2")),
        by=str(beside),
        remedy="correct the description, or copy the file that belongs to it",
    )


def _beside(path: Path) -> Path:
    return path.with_suffix(".inf")
