"""Local Gaussian background for single-molecule localization movies, on Dask and Zarr."""

from . import backend  # noqa: F401 - first: it sees to it that Dask can be imported
from .background import bkgd_spatial_mean
from .described import DescribedMovie
from .dry_run import plan_spatial_mean
from .kernels import gaussian_kernel, noise_correction
from .pipeline import run_spatial_mean
from .simulate import simulate_movie
from .sources import open_channels
from .store import open_backgrounds
from .verify import verify_backgrounds

__version__ = "0.1.0"

__all__ = [
    "DescribedMovie",
    "bkgd_spatial_mean",
    "gaussian_kernel",
    "noise_correction",
    "open_backgrounds",
    "open_channels",
    "plan_spatial_mean",
    "run_spatial_mean",
    "simulate_movie",
    "verify_backgrounds",
]
