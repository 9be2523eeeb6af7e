"""The step that opens each frame: what is brighter, and smaller, than a disk is taken off."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from . import device, parameters
from .compiled.opening import grey_opening
from .kernels import Kernel, disk
from .steps import FilterOptions, Frames, Halo, joined


@dataclass(frozen=True)
class SpatialOpening:
    """The step that takes the grey opening of each frame by a disk, its erosion dilated.

    Attributes
    ----------
    radii_pix : float, pair, or sequence of pairs
        The disk's radius in pixels: one; (ry, rx); or one (ry, rx) per channel. The footprint is
        that of one channel: see `for_channels`.

    Examples
    --------
    >>> from smlmlp_dask import SpatialOpening, run_background
    >>> result = run_background("movie.tif", "background.zarr", SpatialOpening(3.0))
    >>> result.info["channels_opening_radii_pix"]
    [(3.0, 3.0)]
    """

    radii_pix: Any = 3.0

    def for_channels(self, n_channels: int) -> list[Self]:
        """Return the step of each channel; raise `ValueError` if the radii are wrong."""
        pairs = parameters.as_radii(self.radii_pix, n_channels, parameters.OPENING_RADII)
        return [type(self)(pair) for pair in pairs]

    @cached_property
    def radii(self) -> parameters.Pair:
        """The radii (ry, rx) of one channel."""
        return parameters.as_radii(self.radii_pix, 1, parameters.OPENING_RADII)[0]

    @property
    def footprint(self) -> Kernel:
        """The disk: equal weights that sum to 1, and zeros around."""
        return disk(*self.radii)

    @cached_property
    def reach(self) -> npt.NDArray[np.int64]:
        """How far the disk's row at distance 0, 1, ... from its centre goes to either side."""
        rows = np.count_nonzero(self.footprint, axis=1)
        lower: npt.NDArray[np.int64] = rows[len(rows) // 2 : np.flatnonzero(rows)[-1] + 1]
        return (lower - 1) // 2

    def halo(self, frame: Sequence[int]) -> Halo:
        """Return how far along (frame, y, x) a pixel's background depends on others."""
        # the dilation depends on eroded pixels, and these on others
        reaches = (len(self.reach) - 1, int(self.reach[0]))
        rows, columns = (
            min(2 * reach, length - 1) for reach, length in zip(reaches, frame, strict=True)
        )
        return 0, rows, columns

    def apply(self, parts: Frames, options: FilterOptions, start: int, stop: int) -> Any:
        """Return the float32 background of frames `start` to `stop`."""
        frames = joined(parts, start, stop)
        if options.engine == "fused":
            return grey_opening(frames, self.reach, threads=options.threads_here())
        from .dask_image import open_stack

        # What lies outside the frame from everywhere would only take time.
        rows, columns = (
            max(0, length // 2 - (pixels - 1))
            for length, pixels in zip(self.footprint.shape, frames.shape[1:], strict=True)
        )
        height, width = self.footprint.shape
        inside = self.footprint[rows : height - rows, columns : width - columns] > 0
        return open_stack(device.as_float32(frames), inside)

    @property
    def noise_correction(self) -> np.float32:
        """The factor by which subtracting this background changes white noise: taken as 1."""
        return np.float32(1)

    def to_attributes(self) -> dict[str, Any]:
        """Return what a store records: the step's name and its settings."""
        return {"step": "opening", "radii_pix": list(self.radii)}
