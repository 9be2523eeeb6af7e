"""Local Gaussian background for single-molecule localization movies, on Dask and Zarr."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .filters import device  # noqa: F401 - before Dask and Zarr: a damaged CuPy breaks their import

if TYPE_CHECKING:
    from .background import bkgd_spatial_mean
    from .filters.kernels import gaussian_kernel, noise_correction
    from .lazy.channels import open_channels
    from .movies.described import DescribedMovie
    from .movies.stack import SourceReadError
    from .pipeline.plan import JobPlan, plan_spatial_mean
    from .pipeline.run import run_spatial_mean
    from .pipeline.verify import VerifyReport, verify_backgrounds
    from .result import SpatialMeanResult, open_backgrounds
    from .simulation.movie import simulate_movie

__version__ = "0.1.0"

# Each is loaded when it is first asked for: a command line that only prints its help, or a job
# that needs no lazy arrays, does not wait for half of scientific Python.
_ROOMS = {
    "bkgd_spatial_mean": "background",
    "gaussian_kernel": "filters.kernels",
    "noise_correction": "filters.kernels",
    "open_channels": "lazy.channels",
    "DescribedMovie": "movies.described",
    "SourceReadError": "movies.stack",
    "JobPlan": "pipeline.plan",
    "plan_spatial_mean": "pipeline.plan",
    "run_spatial_mean": "pipeline.run",
    "VerifyReport": "pipeline.verify",
    "verify_backgrounds": "pipeline.verify",
    "SpatialMeanResult": "result",
    "open_backgrounds": "result",
    "simulate_movie": "simulation.movie",
}

__all__ = [
    "DescribedMovie",
    "JobPlan",
    "SourceReadError",
    "SpatialMeanResult",
    "VerifyReport",
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


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_ROOMS[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
