"""The kernels of the background filters, the local mean's residual, and the noise factor.

NumPy and SciPy only: nothing here knows of Dask, chunks or devices.
"""

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Kernel: TypeAlias = npt.NDArray[np.float32]

MASS_KEPT = 0.99
"""Share of a Gaussian's mass inside the cut-off, 2.5758 sigma from its centre.

The reference has the same. `tests/filters/test_kernels.py` fails with any other value,
`tests/test_golden.py` with one that changes the reach of a kernel there (0.9899 to 0.9906 do not).
"""

MAX_RADIUS_PIX = 10_000.0
"""Largest averaging radius (twice the sigma) in pixels: wider than any camera's frame."""


MAX_OPENING_RADIUS_PIX = 1_000.0
"""Largest radius of an opening in pixels; its disk, which callers get, takes 16 MB."""


def gaussian_kernel(sigma: float) -> Kernel:
    """Return the Gaussian of width `sigma`, integrated over pixels and cut off at 99 % of its mass.

    Parameters
    ----------
    sigma : float
        Standard deviation, in pixels; greater than 0, at most 5000.

    Returns
    -------
    numpy.ndarray
        Shape (n,), float32, n = ceil(6 sigma) made odd, summing to 1. Taps farther than
        sqrt(2) erfinv(0.99) sigma = 2.5758 sigma from the centre are 0, so that the outermost
        taps usually carry no weight.

    Raises
    ------
    ValueError
        If `sigma` is not greater than 0 and at most 5000 (half of `MAX_RADIUS_PIX`).

    Notes
    -----
    The weight of the pixel at distance c is the integral of the normal density over it,
    (erf((c + 1/2) / (sqrt(2) sigma)) - erf((c - 1/2) / (sqrt(2) sigma))) / 2, in float64; the
    result is cast to float32 and divided by its float32 sum. The package `smlmlp` 0.1.20 takes the
    same steps in the same order, so this function returns its kernels bit for bit. It is not the
    sampled Gaussian of `scipy.ndimage.gaussian_filter`.

    Examples
    --------
    >>> from smlmlp_dask import gaussian_kernel
    >>> gaussian_kernel(0.6)
    array([0.      , 0.198585, 0.60283 , 0.198585, 0.      ], dtype=float32)
    >>> len(gaussian_kernel(3.5))
    21
    """
    from scipy.special import erf, erfinv  # takes 0.2 s, a quarter of all imports of a job

    sigma = float(sigma)
    limit = MAX_RADIUS_PIX / 2
    if not 0 < sigma <= limit:
        raise ValueError(f"sigma must be greater than 0 and at most {limit:g} px, got {sigma}")
    length = math.ceil(6 * sigma)
    length += 1 - length % 2
    pixels = np.arange(length) - (length - 1) / 2
    with np.errstate(over="ignore"):  # a tiny sigma gives erf(inf) = 1, which is right
        upper = erf((pixels + 0.5) / np.sqrt(2) / sigma)
        lower = erf((pixels - 0.5) / np.sqrt(2) / sigma)
    weights = (upper - lower) / 2
    weights[(pixels / sigma) ** 2 > 2 * erfinv(MASS_KEPT) ** 2] = 0
    kernel: Kernel = weights.astype(np.float32)
    kernel /= np.sum(kernel)
    return kernel


def residual_kernel(kernel: npt.NDArray[np.floating[Any]]) -> Kernel:
    """Return delta - g, the kernel of an image minus its local mean g, of odd length."""
    # 0 - g, not -g: a zero tap stays +0, as in the reference's residuals.
    residual: Kernel = np.subtract(0, kernel, dtype=np.float32)
    residual[len(residual) // 2] += np.float32(1)
    return residual


def residual_norm(residual_y: Kernel, residual_x: Kernel) -> np.float32:
    """Return the product of the two residual kernels' 2-norms, in float32 throughout."""
    norm_y = np.sqrt(np.sum(residual_y**2))
    norm_x = np.sqrt(np.sum(residual_x**2))
    return np.float32(norm_y * norm_x)


def noise_correction(sigma_y: float, sigma_x: float) -> np.float32:
    """Return the factor by which subtracting the local mean changes white noise.

    Parameters
    ----------
    sigma_y, sigma_x : float
        Standard deviations of the local mean along y and x, in pixels.

    Returns
    -------
    numpy.float32
        The product of the 2-norms of delta - g along y and along x.

    Raises
    ------
    ValueError
        If a sigma is not greater than 0 and at most 5000.

    Notes
    -----
    The formula is that of `smlmlp.bkgd_spatial_mean` (section Notes of its documentation). It is
    the norm of the separable residual (delta - g_y)(delta - g_x). The two-dimensional residual
    delta - g_y g_x has a larger norm (0.990 against 0.853 at radius 7): by this one the standard
    deviation of white noise changes in truth. Take it where you weigh or fit pixels, and the
    returned factor where ratios shall be those of `smlmlp`.

    Examples
    --------
    >>> from smlmlp_dask import noise_correction
    >>> noise_correction(3.5, 3.5)  # radius 7
    np.float32(0.8526806)
    >>> noise_correction(3.0, 5.0)  # radii 6 and 10
    np.float32(0.861458...)

    The norm of the two-dimensional residual:

    >>> import numpy as np
    >>> from smlmlp_dask import gaussian_kernel
    >>> mean = np.outer(gaussian_kernel(3.5), gaussian_kernel(3.5))
    >>> print(round(float(np.sqrt(1 - 2 * mean.max() + (mean**2).sum())), 4))
    0.9902
    """
    return residual_norm(
        residual_kernel(gaussian_kernel(sigma_y)), residual_kernel(gaussian_kernel(sigma_x))
    )


def disk(radius_y: float, radius_x: float) -> Kernel:
    """Return the disk, or ellipse, of an opening: equal weights that sum to 1.

    Parameters
    ----------
    radius_y, radius_x : float
        In pixels, greater than 0.

    Returns
    -------
    numpy.ndarray
        Shape (m, n), float32: ceil(2 radius), made odd, along each axis. A pixel whose centre lies
        at (y, x) counts if (y / (2 radius_y))**2 + (x / (2 radius_x))**2 <= 1/4; others are 0. The
        package `smlmlp` 0.1.20 takes the same steps, so its footprints are equal bit for bit.
    """
    squares = []
    for diameter in (2 * radius_y, 2 * radius_x):
        length = math.ceil(diameter)
        length += 1 - length % 2
        squares.append(((np.arange(length) - (length - 1) / 2) / diameter) ** 2)
    inside = squares[0][:, np.newaxis] + squares[1] <= 1 / 4
    footprint: Kernel = inside.astype(np.float32)
    footprint /= np.sum(footprint)
    return footprint


def without_zero_ends(kernel: Kernel) -> Kernel:
    """Cut the zero taps off both ends of a symmetric kernel."""
    first = int(np.flatnonzero(kernel)[0])
    return kernel[first : len(kernel) - first]


def fold(kernel: Kernel, length: int) -> Kernel:
    """Shorten a kernel for an axis of `length` pixels with repeated edges; the result is the same.

    Parameters
    ----------
    kernel : numpy.ndarray
        Shape (n,), float32, symmetric, without zero ends.
    length : int
        Pixels along the axis, at least 1.

    Returns
    -------
    numpy.ndarray
        Shape (m,), float32, m = min(n, 2 length - 1). From any pixel of the axis, every tap at
        distance length - 1 or more reads an edge pixel. So their weights are added up (in float64,
        rounded once) at distance length - 1.
    """
    excess = len(kernel) // 2 - (length - 1)
    if excess <= 0:
        return kernel
    folded = kernel[excess : len(kernel) - excess].copy()
    if length == 1:
        folded[0] = np.sum(kernel, dtype=np.float64)
    else:
        folded[[0, -1]] = np.sum(kernel[: excess + 1], dtype=np.float64)
    return folded
