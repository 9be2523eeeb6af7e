"""The filter of one channel for frames in memory: its kernels and engines.

It imports Dask's arrays and dask-image only when they are used: a job on disk needs neither.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal, Self, TypeAlias, get_args

import numpy as np
from dask.system import CPU_COUNT

from . import parameters
from .compiled.engine import FILTER_VERSION, correlate_frames
from .kernels import Kernel, fold, gaussian_kernel, without_zero_ends

Engine: TypeAlias = Literal["auto", "fused", "dask-image"]


@dataclass(frozen=True)
class SpatialMean:
    """The filter of one channel: its radii, sigmas and kernels."""

    radii: parameters.Pair
    sigmas: parameters.Pair
    kernel_y: Kernel
    kernel_x: Kernel

    @classmethod
    def from_radii(cls, radii: parameters.Pair) -> "SpatialMean":
        """Derive sigmas and kernels from (ry, rx), in pixels."""
        sigmas = (radii[0] / 2, radii[1] / 2)
        return cls(radii, sigmas, gaussian_kernel(sigmas[0]), gaussian_kernel(sigmas[1]))

    def folded(self, frame: Sequence[int]) -> tuple[Kernel, Kernel]:
        """Return the kernels along y and x, shortened for a frame of (height, width) pixels."""
        return (
            fold(without_zero_ends(self.kernel_y), frame[0]),
            fold(without_zero_ends(self.kernel_x), frame[1]),
        )

    def halo(self, frame: Sequence[int]) -> tuple[int, int]:
        """Return how many pixels along y and x a tile of a frame needs beyond its own."""
        kernel_y, kernel_x = self.folded(frame)
        return len(kernel_y) // 2, len(kernel_x) // 2


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
    return background.compute(scheduler="synchronous")  # type: ignore[no-any-return]


def correlate_chunk(
    chunk: np.ndarray[Any, Any], kernels: tuple[Kernel, Kernel], threads: int
) -> np.ndarray[Any, Any]:
    """Filter a chunk, including its halo, with the compiled engine."""
    return correlate_frames(chunk, *kernels, threads=threads or _worker_threads())


def _worker_threads() -> int:
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
