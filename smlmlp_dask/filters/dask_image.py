"""The plain engine: both passes, and openings, through dask-image, for NumPy and CuPy frames."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import dask.array as da
import numpy as np
from dask.local import get_sync
from dask_image import ndfilters

from smlmlp_dask import blocks

from . import device
from .compiled.parts import share_out
from .kernels import Kernel

FLOAT32_TAPS = 512
"""Most taps for which float32 sums on a device are exact enough; longer kernels sum in float64.

cupyx sums in the dtype of the frames, one tap after the other; SciPy sums in float64. The error
grows with the root of the number of taps: about 3e-7 of the largest input at 51 taps (radius 20;
we promise 1e-6), 1.2e-6 at 599 taps (we promise 4e-6), too much at some thousands.
"""


def correlate(frames: Any, kernels: tuple[Kernel, Kernel], threads: int) -> Any:
    """Return frames in memory correlated along y and x, float32 after each pass.

    Parameters
    ----------
    frames : numpy.ndarray or cupy.ndarray
        Shape (frame, y, x), real dtype. CuPy frames are filtered on their device in one piece.
    kernels : pair of numpy.ndarray
        Along y and x; no longer than twice the frame.
    threads : int
        Threads that share NumPy frames.
    """
    if not isinstance(frames, np.ndarray):
        return _correlated(frames, kernels)
    out = np.empty(frames.shape, np.float32)

    def fill(start: int, stop: int) -> None:
        for run in blocks.split(stop - start, blocks.frames_per_block(frames[0].size)):
            out[start : start + run] = _correlated(frames[start : start + run], kernels)
            start += run

    share_out(fill, len(frames), threads)
    return out


def _correlated(frames: Any, kernels: tuple[Kernel, Kernel]) -> Any:
    on_host = isinstance(frames, np.ndarray)
    weights = [kernels[0].reshape(1, -1, 1), kernels[1].reshape(1, 1, -1)]
    # dask-image returns its input's dtype: without the cast it would round to whole counts.
    arrays = [device.as_float32(frames), *(weights if on_host else map(device.to_device, weights))]
    names, tasks, keys = _graph(tuple(array.shape for array in arrays), on_host=on_host)
    given = {(name, 0, 0, 0): array for name, array in zip(names, arrays, strict=True)}
    # A device's stream belongs to this thread, so all tasks must run in it.
    [[[correlated]]] = get_sync({**tasks, **given}, keys, callbacks=())
    return correlated


@lru_cache(maxsize=64)
def _graph(
    shapes: tuple[tuple[int, int, int], ...], *, on_host: bool
) -> tuple[list[str], dict[Any, Any], list[Any]]:
    """Return dask-image's tasks for frames and weights of these shapes; callers fill both in.

    Building them takes Dask longer than a device takes for the frames, so all blocks share them.
    The weights are dask arrays, too: to name its tasks, Dask would copy CuPy arrays to the host.
    """
    meta = np.empty((0, 0, 0), np.float32) if on_host else device.empty((0, 0, 0))
    names = ["frames", "weights-y", "weights-x"]
    result, *both = (
        da.Array({}, name, tuple((length,) for length in shape), meta=meta)
        for name, shape in zip(names, shapes, strict=True)
    )
    for weights in both:
        is_long = weights.size > FLOAT32_TAPS and not on_host
        summed = result.astype(np.float64) if is_long else result
        result = ndfilters.correlate(summed, weights, mode="nearest").astype(np.float32)
    return names, dict(result.__dask_graph__()), result.__dask_keys__()


def open_stack(frames: Any, footprint: Any) -> Any:
    """Return the grey opening of each float32 frame in memory, NumPy or CuPy.

    The footprint is symmetric, so that the dilation needs no mirrored one. A NaN gives NaN
    wherever it lies under the footprint of an eroded pixel that the footprint reaches.
    """
    if frames.size == 0:
        return frames
    xp = device.namespace(frames)
    under = footprint[np.newaxis]
    missing = xp.isnan(frames)

    def filtered(function: Callable[..., Any], array: Any) -> Any:
        lazy = da.from_array(array, chunks=array.shape, name=False, asarray=False)
        result = function(lazy, footprint=under, mode="nearest")
        return result.compute(scheduler="synchronous", callbacks=())

    # Comparisons leave NaN out or not, by its place: it takes part as infinity, and comes back.
    numbers = xp.where(missing, np.float32("inf"), frames)
    opened = filtered(ndfilters.maximum_filter, filtered(ndfilters.minimum_filter, numbers))
    reached = missing.astype(np.float32)
    for _ in range(2):
        reached = filtered(ndfilters.maximum_filter, reached)
    return xp.where(reached > 0, np.float32("nan"), opened)
