"""The step that takes each pixel's median over neighbouring frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from . import device, parameters
from .compiled.median import median_frames
from .steps import FilterOptions, Frames, Halo, joined


@dataclass(frozen=True)
class TemporalMedian:
    """The step that takes each pixel's median over the frames t - w to t + w that exist.

    Attributes
    ----------
    window_fr : int
        w, the frames on each side, at least 0.

    Examples
    --------
    >>> from smlmlp_dask import TemporalMedian, run_background
    >>> result = run_background("movie.tif", "background.zarr", TemporalMedian(10))
    >>> result.info
    {'median_window_fr': 10}
    """

    window_fr: int = 25

    def for_channels(self, n_channels: int) -> list[Self]:
        """Return the step of each channel; raise `ValueError` if the window is wrong."""
        return [type(self)(parameters.check_window(self.window_fr))] * n_channels

    def halo(self, frame: Sequence[int]) -> Halo:  # noqa: ARG002 - as other steps' halo
        """Return how far along (frame, y, x) a pixel's background depends on others."""
        return self.window_fr, 0, 0

    def apply(self, parts: Frames, options: FilterOptions, start: int, stop: int) -> Any:
        """Return the float32 background of frames `start` to `stop`; windows end with `parts`."""
        if options.engine == "fused":
            threads = options.threads_here()
            return median_frames(parts, self.window_fr, start, stop, threads=threads)
        low = max(0, start - self.window_fr)
        frames = device.as_float32(joined(parts, low, stop + self.window_fr))
        return _median_by_sorting(frames, self.window_fr, start - low, stop - low)

    @property
    def noise_correction(self) -> np.float32:
        """The factor by which subtracting this background changes white noise: taken as 1."""
        return np.float32(1)

    def to_attributes(self) -> dict[str, Any]:
        """Return what a store records: the step's name and its settings."""
        return {"step": "median", "window_fr": self.window_fr}


def _median_by_sorting(frames: Any, window_fr: int, start: int, stop: int) -> Any:
    """Sort each window: the plain engine, for NumPy and CuPy.

    `dask_image.ndfilters.median_filter` repeats or reflects frames beyond both ends instead of
    leaving them out, and does not know NaN.
    """
    xp = device.namespace(frames)
    out = xp.empty((stop - start, *frames.shape[1:]), dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # as the compiled engine: inf, NaN
        for frame in range(start, stop):
            window = xp.sort(frames[max(0, frame - window_fr) : frame + window_fr + 1], axis=0)
            size = len(window)
            low, high = window[(size - 1) // 2], window[size // 2]
            median = high if size % 2 else (low + high) * np.float32(0.5)
            # NaN are sorted to the end; such a window has no median
            out[frame - start] = xp.where(xp.isnan(window[size - 1]), np.float32("nan"), median)
    return out
