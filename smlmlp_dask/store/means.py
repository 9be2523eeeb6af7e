"""The mean background of a channel: one frame, from the means that its blocks stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.movies.stack import Small, Stack
from smlmlp_dask.units import Decoding

from .outputs import MEAN, Output
from .read import stored_stacks


@dataclass(frozen=True, eq=False)
class MeanMovie(Small):
    """A `Movie` of one frame: the mean of some frames, weighted.

    Attributes
    ----------
    planes : Stack
        The mean of each block's frames.
    frames : int
        Frames of the movie.
    block_frames : int
        Frames of every block but the last one, which may have fewer.
    """

    planes: Stack
    frames: int
    block_frames: int

    @property
    def path(self) -> str:
        """The store's array."""
        return self.planes.movie.path

    @property
    def shape(self) -> tuple[int, int, int]:
        """One frame."""
        return (1, *self.planes.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Always float32."""
        return np.dtype(np.float32)

    @property
    def unit(self) -> tuple[int, int, int]:
        """Chunks of the planes."""
        return (1, *self.planes.unit[1:])

    def decoding(self, *, whole: bool) -> Decoding:
        """Return how planes are decoded."""
        return self.planes.movie.decoding(whole=whole)

    def read(self, frames: range, rows: slice, columns: slice) -> NDArray[Any]:
        """Return a box of the frame; NaN for a movie without frames."""
        box = self.planes.part((slice(None), rows, columns))
        total = np.zeros(box.shape[1:], np.float64)
        with np.errstate(invalid="ignore"):  # infinite pixels
            for number in range(len(self.planes.frames)):
                plane = slice(number, number + 1)
                one = box.part((plane, slice(None), slice(None))).read()[0].astype(np.float64)
                weight = min(self.block_frames, self.frames - number * self.block_frames)
                total += weight * one
            mean = (total / np.float64(self.frames)).astype(np.float32)
        return np.broadcast_to(mean, (len(frames), *mean.shape))


def output_stacks(path: Path, output: Output, attributes: Mapping[str, Any]) -> list[Stack]:
    """Open an output of a finished store as it is handed out: of a mean background, one frame."""
    stacks = stored_stacks(path, output)
    if output.name != MEAN:
        return stacks
    return [
        Stack.of(MeanMovie(stack, int(plan["shape"][0]), int(plan["block"][0])), range(1))
        for stack, plan in zip(stacks, attributes["plan"], strict=True)
    ]
