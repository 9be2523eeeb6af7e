"""Movies in photons: frames of a camera as photoelectrons, in place of its counts."""

from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from smlmlp_dask.units import Decoding

from .camera import Camera, part_of
from .stack import Movie, Stack

_PIXELS_AT_A_TIME = 2**18  # converted while they are in a cache


@dataclass(frozen=True, eq=False)
class PhotonMovie:
    """A `Movie` of another's frames in photoelectrons: (counts - baseline) * gain, in float32.

    Attributes
    ----------
    counts : Movie
        The frames as the camera gave them.
    camera : Camera
        Its maps are of whole frames of `counts`.
    """

    counts: Movie
    camera: Camera
    dtype: ClassVar[np.dtype[Any]] = np.dtype(np.float32)

    @property
    def path(self) -> str:
        """File, folder, pattern or Zarr array, for messages."""
        return self.counts.path

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows and columns."""
        return self.counts.shape

    @property
    def unit(self) -> tuple[int, int, int]:
        """Frames, rows and columns that are stored and decoded together."""
        return self.counts.unit

    def decoding(self, *, whole: bool) -> Decoding:
        """Return how units are decoded."""
        return self.counts.decoding(whole=whole)

    def narrow(self, start: int, stop: int) -> Self:
        """Return a smaller movie that can read only the frames start to stop."""
        return replace(self, counts=self.counts.narrow(start, stop))

    def read(self, frames: range, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """Return a box of the frames with these numbers, in their order."""
        counts = self.counts.read(frames, rows, columns)
        gain = part_of(self.camera.gain, (rows, columns))
        baseline = part_of(self.camera.baseline, (rows, columns))
        photons = np.empty(counts.shape, np.float32)
        step = max(1, _PIXELS_AT_A_TIME // max(1, prod(counts.shape[1:])))
        with np.errstate(over="ignore", invalid="ignore"):  # pixels that are no numbers
            for first in range(0, len(counts), step):
                part = photons[first : first + step]
                few = counts[first : first + step]
                np.subtract(few, baseline, out=part, dtype=np.float32, casting="same_kind")
                np.multiply(part, gain, out=part)
        return photons


def in_photons(stack: Stack, camera: Camera | None) -> Stack:
    """Return a stack in the unit that a job filters."""
    if camera is None or not camera.photons:
        return stack
    return replace(stack, movie=PhotonMovie(stack.movie, camera))


def in_counts(stack: Stack) -> Stack:
    """Return a stack as the camera gave it."""
    if isinstance(stack.movie, PhotonMovie):
        return replace(stack, movie=stack.movie.counts)
    return stack
