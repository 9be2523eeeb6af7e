"""Frames that a format's own library reads, one plane at a time."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.movies.stack import as_slice, check_due

from .frames import Frame, Offsets

ReadPlane: TypeAlias = Callable[..., NDArray[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Planes:
    """Frames that a library reads plane by plane; it opens the file anew for each block.

    So they pickle small, and threads share no handle: some libraries give wrong pixels if they do.

    Attributes
    ----------
    path : str
        File or folder.
    frames : range or array
        Their numbers, or their places in the file.
    open : callable
        A function of a module, which pickles by its name. ``open(path)`` is a context manager; it
        returns ``plane(frame, *place)``, which returns the pixels (y, x) of a frame. Its errors
        say which frame cannot be read.
    place : tuple
        Which movie of the file this is, such as position, channel and slice.
    copies : int
        Frames in memory while the library reads one.
    """

    path: str
    frames: Offsets
    open: Callable[[str], AbstractContextManager[ReadPlane]]
    place: tuple[Any, ...] = ()
    copies: int = 2

    def take(self, frames: range) -> Self:
        """Return only these frames, in this order."""
        return replace(self, frames=self.frames[as_slice(frames)])

    def held_bytes(self, frame_bytes: int, *, whole: bool) -> int:  # noqa: ARG002
        """Return the bytes of the copies."""
        return self.copies * frame_bytes

    def read_into(self, out: NDArray[Any], rows: range, columns: range, frame: Frame) -> None:
        """Fill `out` with a box of each frame; refuse a frame of another size or dtype."""
        with self.open(self.path) as plane:
            for index, number in enumerate(np.asarray(self.frames).tolist()):
                pixels = plane(number, *self.place)
                check_due(pixels, frame, out.dtype)
                out[index] = pixels[as_slice(rows), as_slice(columns)]
                del pixels  # free it before reading the next
