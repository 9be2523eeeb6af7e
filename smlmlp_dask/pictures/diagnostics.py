"""Find signs in raw frames that the camera was saturated or the radius too small for the spots."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Pairs: TypeAlias = npt.NDArray[Any]
"""Pairs of successive frames, (pair, 2, y, x), in camera counts."""

LARGEST_SHARE = 0.2
"""Largest share of a spot's peak in the background before we call the radius too small."""

_MIN_PILED_UP_PIXELS = 8
_LEVELS_BELOW = 16
_PILE_UP_FACTOR = 4

_MAX_SHIFT_PIX = 24
_SPOT_SIGMAS_PIX = np.geomspace(0.4, 10, 200)
_SIGNIFICANCE = 8.0


@dataclass(frozen=True)
class Saturation:
    """Pixels cut off at the largest count.

    Attributes
    ----------
    level : float
        The largest count.
    pixels : int
        Number of values at that level, in all frames searched.
    frames : int
        Number of frames that have such values.
    """

    level: float
    pixels: int
    frames: int


def saturation(frames: npt.NDArray[Any]) -> Saturation | None:
    """Find out whether a camera's counts were cut off.

    Counts are cut off if some equal the largest number of their integer dtype, or if they pile up
    at their own maximum: at least 8 pixels of the field reach it, and more than 4 times as many
    values have it as any of the 16 levels below. A natural tail thins out instead, and a stuck
    pixel counts once, in however many frames.

    Parameters
    ----------
    frames : numpy.ndarray
        (frame, y, x), in camera counts, integer or floating.

    Returns
    -------
    Saturation or None
        None if nothing points to it, or if fewer than 17 levels can be compared.
    """
    finite = np.isfinite(frames)
    if not finite.any():
        return None
    level = frames[finite].max()
    there = finite & (frames == level)
    found = Saturation(float(level), int(there.sum()), int(there.any(axis=(1, 2)).sum()))
    if frames.dtype.kind in "iu" and level == np.iinfo(frames.dtype).max:
        return found
    if np.count_nonzero(there.any(axis=0)) < _MIN_PILED_UP_PIXELS:
        return None
    _, counts = np.unique(frames[finite], return_counts=True)
    below = counts[-1 - _LEVELS_BELOW : -1]
    if len(below) == _LEVELS_BELOW and found.pixels > _PILE_UP_FACTOR * below.max():
        return found
    return None


def spot_sigma_pix(pairs: Pairs) -> tuple[float, float] | None:
    """Estimate the width of blinking molecules' spots from the changes between frames.

    In the difference of two successive frames, background and constant structure cancel, and
    molecules that went on or off remain. For Gaussian spots of width s, its autocorrelation at a
    shift of k pixels is proportional to exp(-k² / (4 s²)). Pixel noise adds to k = 0 only, and slow
    changes, such as a flickering lamp, add a constant. So we fit s to the shifts 1 to 24, axis by
    axis.

    Parameters
    ----------
    pairs : numpy.ndarray
        (pair, 2, y, x), in camera counts.

    Returns
    -------
    (float, float) or None
        Standard deviations along y and x, in pixels, the pixel's own width included. None if too
        little blinks: the fitted value at a shift of 1 px is not over 8 times its standard error,
        or the width is outside 0.4 to 10 px.
    """
    if min(pairs.shape, default=0) < 1 or min(pairs.shape[-2:]) < 8:
        return None
    with np.errstate(invalid="ignore"):  # infinite pixels
        differences = pairs[:, 1].astype(np.float64) - pairs[:, 0]
    differences -= np.median(differences, axis=(1, 2), keepdims=True)
    if not np.isfinite(differences).all():
        return None
    sigmas = [_fitted_sigma(differences, axis) for axis in (1, 2)]
    return None if None in sigmas else (sigmas[0], sigmas[1])  # type: ignore[return-value]


def _fitted_sigma(differences: npt.NDArray[np.float64], axis: int) -> float | None:
    rows = np.moveaxis(differences, axis, -1)
    shifts = np.arange(1, min(_MAX_SHIFT_PIX, rows.shape[-1] // 2) + 1)
    measured = np.array([np.mean(rows[..., k:] * rows[..., :-k]) for k in shifts])
    fits = []
    for sigma in _SPOT_SIGMAS_PIX.tolist():
        model = np.stack([np.exp(-((shifts / (2 * sigma)) ** 2)), np.ones(len(shifts))], axis=1)
        found, *_ = np.linalg.lstsq(model, measured)
        misfit = float(np.sum((model @ found - measured) ** 2))
        fits.append((misfit, float(sigma), float(found[0])))
    _, width, amplitude = min(fits)
    error = np.mean(rows**2) / np.sqrt(rows.size)  # of each shift, for white noise
    inside = _SPOT_SIGMAS_PIX[0] < width < _SPOT_SIGMAS_PIX[-1]
    at_one = amplitude * np.exp(-1 / (4 * width**2))
    return width if inside and at_one > _SIGNIFICANCE * error else None


def share_of_peak(
    spot_sigma: tuple[float, float], kernels: tuple[npt.NDArray[Any], npt.NDArray[Any]]
) -> float:
    """Return the share of a spot's peak that the spot adds to the background at its centre.

    Parameters
    ----------
    spot_sigma : (float, float)
        Standard deviations of a Gaussian spot along y and x, in pixels.
    kernels : (numpy.ndarray, numpy.ndarray)
        The local mean's kernels along y and x, each of odd length.

    Returns
    -------
    float
        Sum over pixels of kernel times spot, for a spot of height 1 at the kernel's centre: from
        0 (a kernel far wider than the spot) to 1 (far narrower).
    """
    share = 1.0
    for sigma, kernel in zip(spot_sigma, kernels, strict=True):
        pixels = np.arange(len(kernel)) - len(kernel) // 2
        share *= float(np.sum(kernel * np.exp(-0.5 * (pixels / sigma) ** 2)))
    return share
