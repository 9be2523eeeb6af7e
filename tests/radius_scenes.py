"""Simulated movies for tests of suggested radii, with the radius of the least true error."""

from dataclasses import dataclass, field

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter

from smlmlp_dask import simulate_movie
from smlmlp_dask.pipeline.background_error import local_mean

EVERY = 19
FRAMES = 32 * EVERY
LATER = 9
"""The true error is of other frames than those that the movie shows."""

COUNTS_PER_PHOTON = 2.2 * 0.8  # gain · quantum efficiency of `simulate_movie`
RADII = np.geomspace(2, 60, 20)


@dataclass(frozen=True)
class Scene:
    """A simulated scene.

    Attributes
    ----------
    seed : int
        Of molecules, background and noise.
    frame : (int, int)
        Height and width, in pixels.
    patches : (float, float)
        Sigma (pixels) and mean height (photons) of random patches on top of the background.
    options : dict
        Others of `simulate_movie`.
    """

    seed: int
    frame: tuple[int, int] = (256, 256)
    patches: tuple[float, float] | None = None
    options: dict = field(default_factory=dict)

    def movies(self):
        """The movie (every 19th of 608 frames), and other frames with their true backgrounds."""
        shown = simulate_movie(FRAMES, *self.frame, seed=self.seed, chunks=1, **self.options)
        movie, other = (shown.movie[start::EVERY].compute() for start in (0, LATER))
        truth = shown.background[LATER::EVERY].compute()
        if self.patches is not None:
            sigma, photons = self.patches
            rng = np.random.default_rng([self.seed, 99])
            field = gaussian_filter(rng.standard_normal(self.frame), sigma, mode="wrap")
            photons = photons * np.exp(field / (2 * field.std()))
            for frames in (movie, other):
                electrons = rng.poisson(0.8 * photons, frames.shape)
                frames += np.rint(2.2 * electrons).astype(frames.dtype)
            truth += (COUNTS_PER_PHOTON * photons).astype(truth.dtype)
        return movie, other, truth


def true_errors(frames, truth, radii):
    """RMS over pixels and frames of (background of this radius - true background), in counts."""
    errors = []
    for radius in radii:
        found = local_mean(frames, float(radius))
        errors.append(np.sqrt(np.mean((found.astype(np.float64) - truth) ** 2)))
    return np.array(errors)


def least_true_error(frames, truth):
    """Return the radius of the least true error, and the error as a function of the radius."""
    at = np.log(RADII)
    squares = CubicSpline(at, true_errors(frames, truth, RADII) ** 2)
    fine = np.linspace(at[0], at[-1], 2000)
    best = float(np.exp(fine[np.argmin(squares(fine))]))
    return best, lambda radius: float(np.sqrt(squares(np.log(radius))))
