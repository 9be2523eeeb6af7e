"""The local mean of one channel for frames in memory: its kernels and engines.

It imports Dask's arrays and dask-image only when they are used: a job on disk needs neither.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any, Literal, Self, TypeAlias, get_args

import numpy as np
from dask.system import CPU_COUNT

from . import parameters
from .compiled.engine import FILTER_VERSION, correlate_frames
from .frames import Frames, Halo, joined
from .kernels import (
    Kernel,
    fold,
    gaussian_kernel,
    residual_kernel,
    residual_norm,
    without_zero_ends,
)

Engine: TypeAlias = Literal["auto", "fused", "dask-image"]


@dataclass(frozen=True)
class FilterOptions:
    """How blocks in memory are filtered.

    Attributes
    ----------
    engine : {"fused", "dask-image"}
        Which filter runs; "auto" has been resolved.
    threads : int
        Threads for each block; 0 for as many as the worker has.
    cuda : bool
        Filter on the GPU.
    """

    engine: Engine
    threads: int = 1
    cuda: bool = False

    @classmethod
    def checked(cls, *, engine: Any = "auto", parallel: Any = False, cuda: Any = False) -> Self:
        """Check the arguments of `run_spatial_mean` that say how to filter."""
        threads = parameters.check_parallel(parallel)
        asked = check_engine(engine, on_host=not cuda)
        return cls(resolve_engine(asked, on_host=not cuda), threads, bool(cuda))

    def to_attributes(self, cupy_versions: Sequence[str] = ()) -> dict[str, Any]:
        """Return what a store records: the options that determine the bits."""
        versions = engine_version(self.engine, cupy_versions)
        return {"engine": self.engine, "engine_version": versions, "cuda": self.cuda}


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

    @classmethod
    def from_radii(cls, radii: parameters.Pair) -> Self:
        """Return the step of one channel by its (ry, rx), in pixels."""
        return cls(radii)

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
        if not isinstance(frames, np.ndarray):
            from .dask_image import correlate_part

            return correlate_part(frames, self.folded(frames.shape[1:]))
        return filter_chunk(frames, self, options)

    @property
    def noise_correction(self) -> np.float32:
        """The factor by which subtracting this background changes white noise."""
        return residual_norm(residual_kernel(self.kernel_y), residual_kernel(self.kernel_x))

    def to_attributes(self) -> dict[str, Any]:
        """Return what a store records: the step's name and its settings."""
        return {"step": "mean", "radii_pix": list(self.radii)}


def engine_version(engine: Engine, cupy_versions: Sequence[str] = ()) -> str:
    """Return the versions that determine an engine's bits, besides input and kernels."""
    if cupy_versions:
        return f"dask-image {version('dask-image')}, cupy {' and '.join(sorted({*cupy_versions}))}"
    if engine == "dask-image":
        return f"dask-image {version('dask-image')}, scipy {version('scipy')}"
    return str(FILTER_VERSION)


def filter_chunk(
    frames: np.ndarray[Any, Any], mean: SpatialMean, options: FilterOptions
) -> np.ndarray[Any, Any]:
    """Return the float32 background of frames in memory; `filter_stack` is the lazy counterpart."""
    if options.engine == "fused":  # which folds them itself
        return correlate_chunk(frames, (mean.kernel_y, mean.kernel_x), options.threads)
    from .dask_image import correlate_on_device, correlate_stack, view_stack

    kernels = mean.folded(frames.shape[1:])
    if options.cuda:
        return correlate_on_device(frames, kernels, to_host=True)  # type: ignore[no-any-return]
    background = correlate_stack(view_stack(frames), kernels, options.threads)
    return background.compute(  # type: ignore[no-any-return]
        scheduler="synchronous", callbacks=()
    )


def correlate_chunk(
    chunk: np.ndarray[Any, Any], kernels: tuple[Kernel, Kernel], threads: int
) -> np.ndarray[Any, Any]:
    """Filter a chunk, including its halo, with the compiled engine."""
    return correlate_frames(chunk, *kernels, threads=threads or worker_threads())


def worker_threads() -> int:
    """Return the number of threads of the distributed worker that runs us, else the CPU count."""
    distributed = sys.modules.get("distributed")
    try:
        return int(distributed.get_worker().state.nthreads) if distributed else CPU_COUNT
    except ValueError:  # not in a worker
        return CPU_COUNT


def check_engine(engine: Any, *, on_host: bool) -> Engine:
    """Return the engine; refuse an unknown one, and one that cannot filter these chunks."""
    if engine not in get_args(Engine):
        raise ValueError(f"engine is {engine!r}: pass one of {', '.join(get_args(Engine))}")
    if engine == "fused" and not on_host:
        raise ValueError(
            "engine 'fused' filters NumPy chunks only: pass engine='auto' or 'dask-image' for CuPy"
        )
    return engine  # type: ignore[no-any-return]


def resolve_engine(engine: Engine, *, on_host: bool) -> Engine:
    """Replace "auto" by the engine that it stands for."""
    if engine != "auto":
        return engine
    return "fused" if on_host else "dask-image"
