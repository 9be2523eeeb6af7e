"""Local Gaussian background for single-molecule localization movies, on Dask and Zarr.

Begin with one of these; each has its own help:

- `run_spatial_mean`: a movie, or an array, to a store on disk; `run_background` by several steps.
- `open_backgrounds`: the store again, as a `SpatialMeanResult`.
- `bkgd_spatial_mean`: arrays to lazy arrays, without a store; `open_channels` opens a movie so.
- `suggest_radius`: a radius for a movie.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .filters import device  # noqa: F401 - before Dask and Zarr: a damaged CuPy breaks their import

if TYPE_CHECKING:  # under the same names: so type checkers know them as ours
    from .background import bkgd_spatial_mean as bkgd_spatial_mean
    from .combination import bkgd_combination as bkgd_combination
    from .combination import bkgd_spatial_opening as bkgd_spatial_opening
    from .combination import bkgd_temporal_median as bkgd_temporal_median
    from .filters.kernels import gaussian_kernel as gaussian_kernel
    from .filters.kernels import noise_correction as noise_correction
    from .filters.spatial_mean import SpatialMean as SpatialMean
    from .filters.spatial_opening import SpatialOpening as SpatialOpening
    from .filters.temporal_median import TemporalMedian as TemporalMedian
    from .lazy.channels import open_channels as open_channels
    from .movies.acquisition import Acquisition as Acquisition
    from .movies.described import DescribedMovie as DescribedMovie
    from .movies.stack import SourceReadError as SourceReadError
    from .pipeline.convert import convert_movies as convert_movies
    from .pipeline.export import export_movie as export_movie
    from .pipeline.job_plan import JobPlan as JobPlan
    from .pipeline.plan import plan_background as plan_background
    from .pipeline.plan import plan_spatial_mean as plan_spatial_mean
    from .pipeline.run import run_background as run_background
    from .pipeline.run import run_spatial_mean as run_spatial_mean
    from .pipeline.suggest import RadiusSuggestion as RadiusSuggestion
    from .pipeline.suggest import suggest_radius as suggest_radius
    from .pipeline.verify import VerifyReport as VerifyReport
    from .pipeline.verify import verify_backgrounds as verify_backgrounds
    from .result import SpatialMeanResult as SpatialMeanResult
    from .result import open_backgrounds as open_backgrounds
    from .simulation.movie import simulate_movie as simulate_movie

__version__ = "0.2.0"

# Each is loaded when it is first asked for: a command line that only prints its help, or a job
# that needs no lazy arrays, does not wait for half of scientific Python.
_ROOMS = {
    "bkgd_combination": "combination",
    "bkgd_spatial_mean": "background",
    "bkgd_spatial_opening": "combination",
    "bkgd_temporal_median": "combination",
    "gaussian_kernel": "filters.kernels",
    "noise_correction": "filters.kernels",
    "SpatialMean": "filters.spatial_mean",
    "SpatialOpening": "filters.spatial_opening",
    "TemporalMedian": "filters.temporal_median",
    "open_channels": "lazy.channels",
    "Acquisition": "movies.acquisition",
    "DescribedMovie": "movies.described",
    "SourceReadError": "movies.stack",
    "convert_movies": "pipeline.convert",
    "export_movie": "pipeline.export",
    "JobPlan": "pipeline.job_plan",
    "plan_background": "pipeline.plan",
    "plan_spatial_mean": "pipeline.plan",
    "run_background": "pipeline.run",
    "run_spatial_mean": "pipeline.run",
    "RadiusSuggestion": "pipeline.suggest",
    "suggest_radius": "pipeline.suggest",
    "VerifyReport": "pipeline.verify",
    "verify_backgrounds": "pipeline.verify",
    "SpatialMeanResult": "result",
    "open_backgrounds": "result",
    "simulate_movie": "simulation.movie",
}

__all__ = sorted(_ROOMS)


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_ROOMS[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
