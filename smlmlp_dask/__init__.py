"""Local Gaussian background for single-molecule localization movies, on Dask and Zarr."""

from .background import bkgd_spatial_mean
from .kernels import gaussian_kernel, noise_correction

__version__ = "0.1.0"

__all__ = ["bkgd_spatial_mean", "gaussian_kernel", "noise_correction"]
