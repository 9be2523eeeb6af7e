"""The plain engine: both passes through dask-image, for NumPy chunks and for blocks on a device."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import dask.array as da
import numpy as np
from dask.system import CPU_COUNT
from dask.utils import format_bytes
from dask_image import ndfilters

from . import backend, chunks
from .kernels import Kernel
from .stack import one_line

DEVICE_BYTES = 16
"""Bytes of a pixel on a device beyond the source's own: float32 before and after each pass."""


def correlate_stack(stack: da.Array, kernels: Sequence[Kernel], threads: int) -> da.Array:
    """Return a stack correlated along y and x, float32 after each pass, lazily.

    Parameters
    ----------
    stack : dask.array.Array
        Shape (frame, y, x), real dtype, NumPy chunks or one CuPy chunk.
    kernels : pair of numpy.ndarray
        Along y and x; no longer than twice the frame.
    threads : int
        Parts into which the frames of one chunk are split; 0 for as many as there are CPUs.
    """
    # dask-image returns the dtype it is given: cast first, or counts would be rounded.
    result = stack.astype(np.float32)
    if threads != 1:
        # The scheduler's threads take the parts; dask-image has no threads of its own.
        parts = threads or CPU_COUNT
        cut = (n for run in stack.chunks[0] for n in chunks.split(run, -(-run // parts) or 1))
        result = result.rechunk({0: tuple(cut)})
    for axis, kernel in zip((1, 2), kernels, strict=True):
        weights: Any = kernel.reshape([-1 if i == axis else 1 for i in range(3)])
        if not backend.on_host(result):
            # As a dask array: dask would fetch a CuPy array back to the host to name its tasks.
            weights = _as_one_chunk(backend.to_device(weights))
        result = ndfilters.correlate(result, weights, mode="nearest")
    whole: da.Array = result.rechunk({0: stack.chunks[0]})
    return whole


def correlate_on_device(
    chunk: Any, kernels: tuple[Kernel, Kernel], *, to_host: bool = False
) -> Any:
    """Return the background of a block, filtered on the device by `correlate_stack`.

    The block goes up once, in its own dtype, and is cast there; where the device's memory is
    short, it goes in parts, with the same bits.

    Parameters
    ----------
    chunk : numpy.ndarray or cupy.ndarray
        Shape (frame, y, x), real dtype. A CuPy array is filtered on the device that holds it.
    kernels : pair of numpy.ndarray
        Along y and x; no longer than twice the frame.
    to_host : bool, default False
        Bring the background down, to a NumPy array; else it stays a CuPy array.

    Raises
    ------
    MemoryError
        If the device's memory is not enough; it says what to ask for.
    """
    frames, height, width = chunk.shape
    frame_bytes = height * width * (chunk.dtype.itemsize + DEVICE_BYTES)
    with backend.working_on(chunk):
        step = max(1, backend.free_bytes() // frame_bytes)
        with _telling_what_fits((min(step, frames), height, width), frame_bytes):
            if 0 < frames <= step:
                background = _correlate_part(chunk, kernels)
                return backend.to_host(background) if to_host else background
            whole = np.empty(chunk.shape, np.float32) if to_host else backend.empty(chunk.shape)
            for start in range(0, frames, step):
                part = _correlate_part(chunk[start : start + step], kernels)
                whole[start : start + step] = backend.to_host(part) if to_host else part
            return whole


def _correlate_part(frames: Any, kernels: tuple[Kernel, Kernel]) -> Any:
    stack = _as_one_chunk(backend.to_device(frames))
    # The stream is this thread's: all of it must run here.
    correlated = correlate_stack(stack, kernels, threads=1)
    return correlated.compute(scheduler="synchronous", optimize_graph=False)


def _as_one_chunk(array: Any) -> da.Array:
    name = f"chunk-{uuid4().hex}"
    lengths = tuple((length,) for length in array.shape)
    graph = {(name, *(0 for _ in array.shape)): array}
    return da.Array(graph, name, lengths, meta=array[(slice(0),) * array.ndim])


@contextmanager
def _telling_what_fits(shape: tuple[int, int, int], frame_bytes: int) -> Iterator[None]:
    """Let the error of a device without memory name the block size to ask for."""
    try:
        yield
    except MemoryError as error:
        if not backend.is_out_of_memory(error):
            raise
        fitting = min(shape[0] // 2, backend.free_bytes() // frame_bytes) or 1
        remedy = (
            f"ask for blocks of at most {fitting} x {shape[1]} x {shape[2]} pixels "
            f"(stack.rechunk({{0: {fitting}}}); for a job a smaller memory_limit)"
            if shape[0] > 1
            else "take a part of each frame (bboxes)"
        )
        raise MemoryError(
            f"the GPU ran out of memory on a block of {' x '.join(map(str, shape))} pixels, which "
            f"takes {format_bytes(shape[0] * frame_bytes)} there, and up to "
            f"{backend.BLOCKS_AT_ONCE} blocks are there at a time ({one_line(error)}): {remedy}, "
            "or end what else uses the GPU"
        ) from error
