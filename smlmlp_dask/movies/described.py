"""A movie that does not exist yet, to plan for: its shape, dtype and chunks, and no pixels."""

import sys
from collections.abc import Sequence
from math import prod
from typing import Any, NoReturn

import numpy as np
from numpy.typing import DTypeLike

from smlmlp_dask.messages import shown
from smlmlp_dask.units import Decoding

from .arguments import check_dtype
from .stack import Small


class DescribedMovie(Small):
    """A movie without pixels, which `plan_spatial_mean` takes in place of a path.

    Parameters
    ----------
    shape : (int, int, int)
        Frames, rows and columns.
    dtype : dtype, default "uint16"
        A real integer or float.
    chunks : (int, int, int), optional
        Frames, rows and columns that are stored, and decoded, together: a Zarr array's chunks. By
        default single frames, as in a TIFF.

    Raises
    ------
    ValueError, TypeError
        If these are no movie.

    Examples
    --------
    >>> from smlmlp_dask import DescribedMovie, plan_spatial_mean
    >>> movie = DescribedMovie((10_000_000, 512, 512), "uint16", chunks=(32, 512, 512))
    >>> plan_spatial_mean(movie).n_blocks
    312500
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: DTypeLike = "uint16",
        chunks: Sequence[int] | None = None,
    ) -> None:
        self.path = "the described movie"
        self.shape = _lengths("shape", shape)
        self.chunks = _lengths("chunks", (1, *self.shape[1:]) if chunks is None else chunks)
        try:
            self.dtype: np.dtype[Any] = np.dtype(dtype).newbyteorder("=")
        except (TypeError, ValueError, SyntaxError):
            raise TypeError(
                f"dtype={shown(dtype)} is not a NumPy dtype: pass one such as 'uint16'"
            ) from None
        check_dtype(self.path, self.dtype)

    @property
    def unit(self) -> tuple[int, int, int]:
        """Frames, rows and columns that are stored together."""
        return self.chunks

    def decoding(self, *, whole: bool) -> Decoding:  # noqa: ARG002 - a chunk is decoded whole
        """Return what it takes to decode a chunk as Zarr does."""
        return Decoding.stored(self.chunks, self.dtype.itemsize * prod(self.chunks))

    def read(self, frames: range, rows: slice, columns: slice) -> NoReturn:  # noqa: ARG002
        """Raise: there are no pixels."""
        raise ValueError(f"{self.path} has no pixels: it can be planned, not run")


def _lengths(name: str, values: Any) -> tuple[int, int, int]:
    try:
        frames, rows, columns = map(int, values)
        lengths = (frames, rows, columns)
        if lengths == tuple(values) and min(lengths) >= 1 and max(lengths) <= sys.maxsize:
            return lengths
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(
        f"{name}={shown(values)}: pass three positive integers, frames, rows and columns of a "
        f"movie, of up to {sys.maxsize}"
    )
