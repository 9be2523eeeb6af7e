"""Movies whose frames a format's own library reads, one plane at a time."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.movies.stack import Small, check_due, unreadable
from smlmlp_dask.units import Decoding

ReadPlane: TypeAlias = Callable[..., NDArray[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class PlaneMovie(Small):
    """A movie that a library reads plane by plane; it opens the file anew for each block.

    So it pickles small, and threads share no handle: some libraries give wrong pixels if they do.

    Attributes
    ----------
    path : str
        File or folder.
    shape : (int, int, int)
        Frames, rows and columns.
    dtype : dtype
        Native byte order.
    open : callable
        A function of a module, which pickles by its name. ``open(path)`` is a context manager; it
        returns ``plane(frame, *place)``, which returns the pixels (y, x) of a frame.
    place : tuple
        Which movie of the file this is, such as position, channel and slice.
    copies : int
        Frames in memory while the library reads one.
    """

    path: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    open: Callable[[str], AbstractContextManager[ReadPlane]]
    place: tuple[Any, ...] = ()
    copies: int = 2

    @property
    def unit(self) -> tuple[int, int, int]:
        """Frames, rows and columns that are read together."""
        return (1, *self.shape[1:])

    def decoding(self, *, whole: bool) -> Decoding:  # noqa: ARG002 - frames are read whole
        """Return how frames are decoded, and the memory for it."""
        return Decoding(self.unit, self.copies * prod(self.unit) * self.dtype.itemsize, 1)

    def read(self, frames: range, rows: slice, columns: slice) -> NDArray[Any]:
        """Return a box of the frames with these numbers, in their order.

        Raises
        ------
        SourceReadError
            If a frame cannot be read, or has another size or dtype than the movie.
        """
        _, height, width = self.shape
        sizes = (len(range(height)[rows]), len(range(width)[columns]))
        out = np.empty((len(frames), *sizes), self.dtype)
        frame = frames[0]
        try:
            with self.open(self.path) as plane:
                for index, frame in enumerate(frames):
                    pixels = plane(frame, *self.place)
                    check_due(pixels, (height, width), self.dtype)
                    out[index] = pixels[rows, columns]
        except Exception as error:
            raise unreadable(self.path, range(frame, frame + 1), error) from error
        return out
