"""The step that takes the local Gaussian mean of each frame.

It imports Dask's arrays and dask-image only when they are used: a job on disk needs neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from . import parameters
from .compiled.engine import correlate_frames
from .kernels import (
    Kernel,
    fold,
    gaussian_kernel,
    residual_kernel,
    residual_norm,
    without_zero_ends,
)
from .steps import FilterOptions, Frames, Halo, joined


@dataclass(frozen=True)
class SpatialMean:
    """The step that takes the local Gaussian mean of each frame.

    Attributes
    ----------
    radii_pix : float, pair, or sequence of pairs
        Averaging radius in pixels, as in `bkgd_spatial_mean`: one; (ry, rx); or one (ry, rx) per
        channel. The kernels are those of one channel: see `for_channels`.

    Examples
    --------
    >>> from smlmlp_dask import SpatialMean, run_background
    >>> result = run_background("movie.tif", "background.zarr", SpatialMean((6.0, 10.0)))
    >>> result.info["spatial_mean_sigmas"]
    [(3.0, 5.0)]
    """

    radii_pix: Any = 7.0

    def for_channels(self, n_channels: int) -> list[Self]:
        """Return the step of each channel; raise `ValueError` if the radii are wrong."""
        return [type(self)(pair) for pair in parameters.as_radii(self.radii_pix, n_channels)]

    @cached_property
    def radii(self) -> parameters.Pair:
        """The radii (ry, rx) of one channel."""
        return parameters.as_radii(self.radii_pix, 1)[0]

    @property
    def sigmas(self) -> parameters.Pair:
        """Standard deviations along y and x, in pixels."""
        return self.radii[0] / 2, self.radii[1] / 2

    @cached_property
    def kernel_y(self) -> Kernel:
        """The kernel along y."""
        return gaussian_kernel(self.sigmas[0])

    @cached_property
    def kernel_x(self) -> Kernel:
        """The kernel along x."""
        return gaussian_kernel(self.sigmas[1])

    def folded(self, frame: Sequence[int]) -> tuple[Kernel, Kernel]:
        """Return the kernels along y and x, shortened for a frame of (height, width) pixels."""
        return (
            fold(without_zero_ends(self.kernel_y), frame[0]),
            fold(without_zero_ends(self.kernel_x), frame[1]),
        )

    def halo(self, frame: Sequence[int]) -> Halo:
        """Return how far along (frame, y, x) a pixel's background depends on others."""
        kernel_y, kernel_x = self.folded(frame)
        return 0, len(kernel_y) // 2, len(kernel_x) // 2

    def apply(self, parts: Frames, options: FilterOptions, start: int, stop: int) -> Any:
        """Return the float32 background of frames `start` to `stop`."""
        frames = joined(parts, start, stop)
        kernels = self.folded(frames.shape[1:])
        if options.engine == "fused":
            return correlate_frames(frames, *kernels, threads=options.threads_here())
        from .dask_image import correlate

        return correlate(frames, kernels, options.threads_here())

    @property
    def noise_correction(self) -> np.float32:
        """The factor by which subtracting this background changes white noise."""
        return residual_norm(residual_kernel(self.kernel_y), residual_kernel(self.kernel_x))

    def to_attributes(self) -> dict[str, Any]:
        """Return what a store records: the step's name and its settings."""
        return {"step": "mean", "radii_pix": list(self.radii)}
