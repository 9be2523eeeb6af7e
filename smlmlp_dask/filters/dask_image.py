"""The plain engine: both passes through dask-image, for NumPy chunks and blocks on a device."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import dask.array as da
import numpy as np
from dask.local import get_sync
from dask.system import CPU_COUNT
from dask_image import ndfilters

from smlmlp_dask import blocks
from smlmlp_dask.messages import as_size, one_line

from . import device
from .kernels import Kernel

FLOAT32_TAPS = 512
"""Most taps for which float32 sums on a device are exact enough; longer kernels sum in float64.

cupyx sums in the dtype of the frames, one tap after the other; SciPy sums in float64. The error
grows with the root of the number of taps: about 3e-7 of the largest input at 51 taps (radius 20;
we promise 1e-6), 1.2e-6 at 599 taps (we promise 4e-6), too much at some thousands.
"""

DEVICE_BYTES = 16
"""Bytes a pixel on a device, beyond the source's own, while a pass runs: the float32 frames, two
copies that Dask makes for overlap, and the result. Float64 sums take twice as much, and the float32
frames on top."""


def correlate_stack(stack: da.Array, kernels: Sequence[Kernel], threads: int) -> da.Array:
    """Return a stack of NumPy chunks correlated along y and x, float32 after each pass, lazily.

    Kernels are no longer than twice the frame. The frames of a chunk are split over `threads`; 0
    for one a CPU.
    """
    # dask-image returns its input's dtype: without the cast it would round to whole counts.
    result = stack.astype(np.float32)
    if threads != 1:
        # dask-image has no threads of its own, so the scheduler's threads take the parts.
        parts = threads or CPU_COUNT
        cut = (n for run in stack.chunks[0] for n in blocks.split(run, -(-run // parts) or 1))
        result = result.rechunk({0: tuple(cut)})
    for weights in _as_weights(kernels):
        result = ndfilters.correlate(result, weights, mode="nearest")
    whole: da.Array = result.rechunk({0: stack.chunks[0]})
    return whole


def _as_weights(kernels: Sequence[Kernel]) -> tuple[Kernel, Kernel]:
    kernel_y, kernel_x = kernels
    return kernel_y.reshape(1, -1, 1), kernel_x.reshape(1, 1, -1)


def correlate_on_device(
    chunk: Any, kernels: tuple[Kernel, Kernel], *, to_host: bool = False
) -> Any:
    """Return a block correlated along y and x on the device, float32 after each pass.

    The block goes up once, in its own dtype, and is cast there. If the device's memory is short,
    it goes in parts; the bits are the same.

    Parameters
    ----------
    chunk : numpy.ndarray or cupy.ndarray
        Shape (frame, y, x), real dtype. A CuPy array is filtered on the device that holds it.
    kernels : pair of numpy.ndarray
        Along y and x; no longer than twice the frame.
    to_host : bool, default False
        Return a NumPy array; else a CuPy array on the device.

    Raises
    ------
    RuntimeError
        If the device's memory is not enough; the error names a block size that fits.
    """
    frames, height, width = chunk.shape
    is_long = max(map(len, kernels)) > FLOAT32_TAPS
    pixel_bytes = chunk.dtype.itemsize + (2 * DEVICE_BYTES + 4 if is_long else DEVICE_BYTES)
    frame_bytes = height * width * pixel_bytes
    with device.working_on(chunk):
        step = max(1, device.free_bytes() // frame_bytes)
        with naming_a_size_that_fits((min(step, frames), height, width), frame_bytes):
            if 0 < frames <= step:
                background = correlate_part(chunk, kernels)
                return device.to_host(background) if to_host else background
            whole = np.empty(chunk.shape, np.float32) if to_host else device.empty(chunk.shape)
            for start in range(0, frames, step):
                part = correlate_part(chunk[start : start + step], kernels)
                whole[start : start + step] = device.to_host(part) if to_host else part
            return whole


def correlate_part(frames: Any, kernels: tuple[Kernel, Kernel]) -> Any:
    """Correlate frames on the device in one piece, in the stream that the caller works on."""
    arrays = [
        device.as_float32(device.to_device(frames)),
        *map(device.to_device, _as_weights(kernels)),
    ]
    names, tasks, keys = _device_graph(tuple(array.shape for array in arrays))
    given = {(name, 0, 0, 0): array for name, array in zip(names, arrays, strict=True)}
    # The stream belongs to this thread, so all tasks must run in it.
    [[[correlated]]] = get_sync({**tasks, **given}, keys, callbacks=())
    return correlated


@lru_cache(maxsize=64)
def _device_graph(
    shapes: tuple[tuple[int, int, int], ...],
) -> tuple[list[str], dict[Any, Any], list[Any]]:
    """Return dask-image's tasks for frames and weights of these shapes; callers fill both in.

    Building them takes Dask longer than a device takes for the frames, so all blocks share them.
    The weights are dask arrays, too: to name its tasks, Dask would copy CuPy arrays to the host.
    """
    meta = device.empty((0, 0, 0))
    names = ["frames", "weights-y", "weights-x"]
    result, *both = (
        da.Array({}, name, tuple((length,) for length in shape), meta=meta)
        for name, shape in zip(names, shapes, strict=True)
    )
    for weights in both:
        summed = result.astype(np.float64) if weights.size > FLOAT32_TAPS else result
        result = ndfilters.correlate(summed, weights, mode="nearest").astype(np.float32)
    return names, dict(result.__dask_graph__()), result.__dask_keys__()


@contextmanager
def naming_a_size_that_fits(shape: tuple[int, int, int], frame_bytes: int) -> Iterator[None]:
    """Turn a device's out-of-memory error into one that names a block size that fits."""
    try:
        yield
    except MemoryError as error:
        if not device.is_out_of_memory(error):
            raise
        fitting = min(shape[0] // 2, device.free_bytes() // frame_bytes) or 1
        remedy = (
            f"ask for blocks of at most {fitting} x {shape[1]} x {shape[2]} pixels "
            f"(stack.rechunk({{0: {fitting}}}); for a job a smaller memory_limit)"
            if shape[0] > 1
            else "take a part of each frame (bboxes)"
        )
        raise RuntimeError(
            f"the GPU ran out of memory on a block of {' x '.join(map(str, shape))} pixels, which "
            f"takes {as_size(shape[0] * frame_bytes)} of its memory, with up to "
            f"{device.BLOCKS_AT_ONCE} blocks at a time ({one_line(error)}): {remedy}, "
            "or end what else uses the GPU"
        ) from error


def view_stack(array: Any) -> da.Array:
    """Return a dask array of views of an array in memory; `da.from_array` would copy it."""
    frames, height, width = array.shape
    runs = blocks.split(frames, blocks.frames_per_block(height * width))
    name = f"stack-{uuid.uuid4().hex}"  # Dask's own name would hash all pixels
    graph = {}
    start = 0
    for i, run in enumerate(runs):
        graph[name, i, 0, 0] = array[start : start + run]
        start += run
    return da.Array(graph, name, (runs, (height,), (width,)), meta=array[:0, :0, :0])


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

    def filtered(function: Any, array: Any) -> Any:
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
