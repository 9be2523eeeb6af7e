"""Predict how far the local mean of each radius lies from the true background, by a few frames.

A local mean errs in two ways. It takes in light of the molecules, and the noise of the pixels: less
of both, the larger the radius. And it flattens the unevenness of the background: the more, the
larger the radius. We measure each by the filter itself, against a background that is estimated from
all the frames together, without the molecules.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.interpolate import CubicSpline

from smlmlp_dask.filters.spatial_mean import SpatialMean
from smlmlp_dask.filters.steps import FilterOptions
from smlmlp_dask.pictures.diagnostics import spot_sigma_pix

Image: TypeAlias = npt.NDArray[np.float32]
Curve: TypeAlias = npt.NDArray[np.float64]

RADII_PIX = (
    2.0,
    2.5,
    3.0,
    4.0,
    5.0,
    6.0,
    8.0,
    10.0,
    12.0,
    15.0,
    20.0,
    25.0,
    30.0,
    40.0,
    50.0,
    60.0,
)
"""Radii that are tried, in pixels, as far as they fit into half the longer side of a frame."""

_FEWEST_RADII = 4  # tried on any frame: a curve needs some
_SEARCHED_SIGMA_PIX = 6.0  # of the background under spots whose width is not known yet
_BACKGROUND_SIGMAS_PIX = (2.0, 5.0)  # limits of the smoothing of the background
_WIDEST_STANDING_PIX = 3.0  # sigma of spots that stand still; what is wider is background
_SPOT_THRESHOLD = 3.0  # sigmas of the noise over which a pixel belongs to a spot
_QUANTILE = 0.1  # over time: dense molecules raise the median
_ENOUGH_FRAMES = 4  # of which the quantile leaves no molecules that blink
_ROUNDS = 4
_FIT_PIXELS = 20_000  # of a frame, used to fit its level
_FILTERED_PIXELS = 2**24  # at a time
_TILES = 4  # along each axis, to learn how certain the unevenness is


@dataclass(frozen=True, eq=False)
class Background:
    """The background under some frames of a channel, without molecules.

    Attributes
    ----------
    halves : numpy.ndarray
        (2, y, x), float32: two estimates whose noise is independent, from every second frame, or
        from every second pixel of a single frame.
    levels : numpy.ndarray
        (frame, 2): offset and scale that fit their mean to each frame.
    spot_sigma_pix : (float, float) or None
        Standard deviations of the molecules' spots along y and x; None if none were found.
    """

    halves: Image
    levels: Curve
    spot_sigma_pix: tuple[float, float] | None

    def of(self, frame: int) -> Image:
        """Return the background (y, x) of a frame, float32."""
        offset, scale = self.levels[frame]
        found: Image = np.float32(offset) + np.float32(scale) * self.halves.mean(axis=0)
        return found


@dataclass(frozen=True, eq=False)
class Errors:
    """Predicted errors of the local mean, in counts: root mean squares over pixels and frames.

    Attributes
    ----------
    radii_pix : numpy.ndarray
        Radii, in pixels, rising.
    taken : numpy.ndarray
        Light of molecules and noise of pixels that the background takes in.
    uneven : numpy.ndarray
        Unevenness of the true background that it flattens.
    total : numpy.ndarray
        Both together. They add up, but where there are molecules on the peaks of the background,
        their light makes up for a part of what is flattened.
    certain : numpy.ndarray
        Whether `uneven` is more than chance, for each radius.
    """

    radii_pix: Curve
    taken: Curve
    uneven: Curve
    total: Curve
    certain: npt.NDArray[np.bool_]

    @property
    def flat(self) -> bool:
        """Whether even the largest radius flattens nothing but chance."""
        return not self.certain[-1]

    def nearest(self, radius_pix: float) -> int:
        """Return the index of the tried radius nearest to this one."""
        return int(np.argmin(np.abs(np.log(self.radii_pix / radius_pix))))

    def within(self, factor: float) -> tuple[float, float]:
        """Return the smallest and largest radius whose error is that many times the least."""
        radii, squares = self._between()
        good = radii[squares <= factor**2 * squares.min()]
        return float(good[0]), float(good[-1])

    def least(self) -> float:
        """Return the radius of the least total error, between those that were tried."""
        radii, squares = self._between()
        return float(radii[np.argmin(squares)])

    def _between(self) -> tuple[Curve, Curve]:
        at = np.log(self.radii_pix)
        fine = np.linspace(at[0], at[-1], 1000)
        return np.exp(fine), np.maximum(0, CubicSpline(at, self.total**2)(fine))


def tried_radii(frame: Sequence[int]) -> tuple[float, ...]:
    """Return the radii to try on frames of (height, width) pixels."""
    fitting = [radius for radius in RADII_PIX if radius <= max(frame) / 2]
    return tuple(fitting) if len(fitting) >= _FEWEST_RADII else RADII_PIX[:_FEWEST_RADII]


# ---- The background without molecules ------------------------------------------------------------


def find_background(frames: Image) -> Background:
    """Estimate the background under frames that are spread over a movie: at least one, finite.

    Molecules blink, so that a low quantile over half of the frames leaves little of them. What is
    left, such as beads, and all molecules of a single frame, is cut out where it stands out from
    its neighbourhood. The rest is smoothed.
    """
    images, masks = _halves(frames)
    spot = _spot_sigma(frames, images)
    smoothing = float(np.clip(2 * max(spot or (0.0,)), *_BACKGROUND_SIGMAS_PIX))
    enough = len(frames) // 2 >= _ENOUGH_FRAMES
    least = _pixel_noise(frames, 4 * smoothing) if enough else np.float32(0)
    halves = np.stack(
        [
            _followed(image, mask * _free_of_spots(image, smoothing, spot, least), smoothing)
            for image, mask in zip(images, masks, strict=True)
        ]
    )
    mean = halves.mean(axis=0)
    return Background(halves, np.array([_level(frame, mean) for frame in frames]), spot)


def _halves(frames: Image) -> tuple[list[Image], list[Image]]:
    """Return two images of independent noise, around 0, and the weights of their pixels."""
    whole = np.ones(frames.shape[1:], np.float32)
    even = frames - np.median(frames, axis=(1, 2), keepdims=True)
    if len(frames) == 1:
        odd = (np.indices(whole.shape).sum(axis=0) % 2).astype(np.float32)
        # a frame of one pixel has no odd ones
        return [even[0]] * 2, [1 - odd, odd if odd.any() else whole]
    halves = [np.quantile(even[first::2], _QUANTILE, axis=0) for first in (0, 1)]
    return [half.astype(np.float32) for half in halves], [whole] * 2


def _pixel_noise(frames: Image, smoothing: float) -> Image:
    """Return the noise (y, x) of a pixel in one frame, by the changes between frames."""
    changes = np.mean([np.abs(after - before) for before, after in pairwise(frames)], axis=0)
    noise: Image = np.sqrt(np.pi) / 2 * ndimage.gaussian_filter(changes, smoothing, mode="nearest")
    return noise


def _spot_sigma(frames: Image, images: Sequence[Image]) -> tuple[float, float] | None:
    """Measure spots that blink; if there are none, those that stand out from the background."""
    paired = frames[: len(frames) // 2 * 2]
    blinking = spot_sigma_pix(np.stack([paired[::2], paired[1::2]], axis=1))
    if blinking is not None:
        return blinking
    image = np.mean(images, axis=0)
    free = _free_of_spots(image, _SEARCHED_SIGMA_PIX, None, np.float32(0))
    smooth = _followed(image, free, _SEARCHED_SIGMA_PIX)
    # Near the edges, the smooth image is one-sided.
    rows, columns = (
        slice(margin, length - margin)
        for length in image.shape
        for margin in (max(0, min(round(1.5 * _SEARCHED_SIGMA_PIX), (length - 8) // 2)),)
    )
    standing = spot_sigma_pix(np.stack([smooth, image])[np.newaxis, :, rows, columns])
    return standing if standing and max(standing) < _WIDEST_STANDING_PIX else None


def _free_of_spots(
    image: Image, smoothing: float, spot: tuple[float, float] | None, least: Any
) -> Image:
    """Return weights: 0 where something stands out from its neighbourhood, else 1.

    The background's own unevenness may stand out from little noise: with many frames, what is less
    than the noise of one of them, `least`, stays.
    """
    sigma = (1.0, 1.0) if spot is None else spot
    around = tuple(1 + 2 * int(np.ceil(1.5 * each)) for each in sigma)
    weights = np.ones(image.shape, np.float32)
    for _ in range(_ROUNDS):
        excess = image - _smoothed(image, weights, smoothing)
        # A spot shows best after smoothing by its own width.
        excess = ndimage.gaussian_filter(excess, sigma, mode="nearest")
        noise = np.sqrt(np.pi / 2) * _smoothed(np.abs(excess), weights, 4 * smoothing)
        found = excess > _SPOT_THRESHOLD * np.maximum(noise, least)
        weights = 1 - ndimage.maximum_filter(found, around).astype(np.float32)
        if not weights.any():
            return np.ones(image.shape, np.float32)
    return weights


def _followed(image: Image, weights: Image, sigma: float) -> Image:
    """Return the weighted Gaussian mean, and that of what it leaves: it flattens much less."""
    once = _smoothed(image, weights, sigma)
    return once + _smoothed(image - once, weights, sigma)


def _smoothed(image: Image, weights: Image, sigma: float) -> Image:
    """Return the weighted Gaussian mean; far from any weight, a wider one."""
    level = np.full_like(image, np.average(image, weights=weights))
    filled = _mean_around(image, weights, 4 * sigma, level, 1e-3)
    return _mean_around(image, weights, sigma, filled, 0.05)


def _mean_around(image: Image, weights: Image, sigma: float, else_: Image, share: float) -> Image:
    total = ndimage.gaussian_filter(image * weights, sigma, mode="constant")
    count = ndimage.gaussian_filter(weights, sigma, mode="constant")
    share = share * (1 - count) ** 2 + 1e-6
    mean: Image = (total + share * else_) / (count + share)
    return mean


def _level(frame: Image, background: Image) -> tuple[float, float]:
    """Fit offset + scale · background to a frame, bright and dark pixels left out."""
    step = max(1, frame.size // _FIT_PIXELS)
    x, y = (each.reshape(-1)[::step].astype(np.float64) for each in (background, frame))
    centre = x.mean()
    x -= centre
    offset, scale = float(np.median(y)), 1.0
    for _ in range(_ROUNDS):
        residual = y - offset - scale * x
        middle = np.median(residual)
        near = np.abs(residual - middle)
        kept = near <= max(3 * 1.4826 * np.median(near), 1e-9)
        xs, ys = x[kept], y[kept]
        spread = np.sum((xs - xs.mean()) ** 2)
        scale = float(np.sum((xs - xs.mean()) * ys) / spread) if spread > 0 else 1.0
        offset = float(ys.mean() - scale * xs.mean())
    return offset - scale * centre, scale


# ---- The errors of the local mean ----------------------------------------------------------------


def predict_errors(frames: Image, background: Background, radii_pix: Sequence[Any]) -> Errors:
    """Predict the error of the local mean of each radius: numbers or pairs (ry, rx), rising.

    Frames (frame, y, x) are float32 and finite, and `background` was found under them.
    """
    residuals = np.stack([frame - background.of(i) for i, frame in enumerate(frames)])
    parts = [_parts(residuals, background.halves, radius) for radius in radii_pix]
    taken, uneven, both, certain = np.array(parts).T
    total = np.sqrt(np.maximum(0, taken + uneven + 2 * both))
    radii = np.array([np.mean(radius) for radius in radii_pix])
    return Errors(radii, np.sqrt(taken), np.sqrt(uneven), total, certain.astype(np.bool_))


def _parts(residuals: Image, halves: Image, radius_pix: float) -> tuple[float, ...]:
    """Return the mean squares of `taken` and `uneven`, their mean product, and `certain`."""
    flattened = (local_mean(halves, radius_pix) - halves).astype(np.float64)
    squares = flattened[0] * flattened[1]  # without the square of their noise
    uneven = max(0.0, float(squares.mean()))
    taken, both = 0.0, 0.0
    few = max(1, _FILTERED_PIXELS // residuals[0].size)
    for first in range(0, len(residuals), few):
        part = local_mean(residuals[first : first + few], radius_pix)
        taken += float(np.sum(np.square(part), dtype=np.float64))
        both += float(np.sum(part.sum(axis=0, dtype=np.float64) * flattened.mean(axis=0)))
    certain = uneven > 2 * _standard_error(squares)
    return taken / residuals.size, uneven, both / residuals.size, certain


def local_mean(frames: Image, radius_pix: Any) -> Image:
    """Return the background (frame, y, x) of a radius, or of a pair (ry, rx), float32."""
    options = FilterOptions("fused", threads=0)
    found: Image = SpatialMean(radius_pix).apply([frames], options, 0, len(frames))
    return found


def _standard_error(squares: Curve) -> float:
    """Return the standard error of the mean over pixels, by the means of tiles."""
    tiles = [
        tile.mean()
        for rows in np.array_split(squares, min(_TILES, squares.shape[0]), axis=0)
        for tile in np.array_split(rows, min(_TILES, squares.shape[1]), axis=1)
    ]
    return float(np.std(tiles) / np.sqrt(len(tiles)))
