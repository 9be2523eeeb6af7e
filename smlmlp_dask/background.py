"""`bkgd_spatial_mean`: the local Gaussian mean of lazy stacks, and the noise factors."""

import math
from collections.abc import Callable, MutableSequence, Sequence
from typing import Any, TypeAlias

import dask.array as da
import numpy as np
import zarr

from .filters import device, parameters
from .filters.chains import mean_info
from .filters.dask_image import correlate_on_device, correlate_stack
from .filters.kernels import Kernel
from .filters.spatial_mean import Engine, SpatialMean, check_engine, correlate_chunk, resolve_engine
from .lazy import arrays, chunking

BATCH_BYTES = 2**29
"""Most float32 bytes of backgrounds that the caller's process holds before it writes them."""

Info: TypeAlias = dict[str, Any]


def bkgd_spatial_mean(
    channels: Sequence[Any],
    /,
    channels_mean_radii_pix: Any = 7.0,
    bkgds: Sequence[Any] | None = None,
    noise_corrections: Sequence[Any] | None = None,
    *,
    cuda: bool = False,
    parallel: bool | int | None = False,
    engine: Engine = "auto",
) -> tuple[list[Any], MutableSequence[Any], Info]:
    """Estimate the local mean background of each channel, lazily.

    Each frame is cast to float32 and correlated with a Gaussian along y, then along x; edges
    repeat the nearest pixel. The Gaussian's sigma is half the radius; it is integrated over each
    pixel and cut off at 2.5758 sigma (see `gaussian_kernel`). The call computes only the kernels
    and their norms, unless `bkgds` asks for the backgrounds.

    Parameters
    ----------
    channels : sequence of dask.array.Array, zarr.Array, numpy.ndarray, cupy.ndarray or DataArray
        One stack per channel, shape (frame, y, x), any real integer or floating dtype; channels
        may differ in all three sizes. Arrays in memory are viewed, not copied: do not change them
        until the backgrounds have been computed. The names of a DataArray's axes tell which is
        which; its background is a dask array with axes (frame, y, x) all the same.
    channels_mean_radii_pix : float, pair, or sequence of pairs, default 7.0
        Averaging radius in pixels: one for everything; (ry, rx) for all channels, even if there
        are exactly two; or one (ry, rx) per channel. Greater than 0, at most 10 000. None is the
        default.
    bkgds : sequence of numpy.ndarray, cupy.ndarray or zarr.Array, optional
        Preallocated outputs, one per channel: float32, the channel's y and x, at least as many
        frames. Background i is written into ``bkgds[i][:len(channels[i])]`` before the call
        returns; frames beyond stay as they are. Zarr targets are written in whole chunks (shards).
        The section Notes says what an error leaves behind.
    noise_corrections : sequence of float, optional
        Factors so far, one per channel, finite and at least 0; float32 ones by default. A list or
        floating array is updated in place and returned; a tuple gives a new list.
    cuda : bool, default False
        Move each block to the GPU, in the channel's dtype, and filter it there with CuPy; the
        backgrounds are CuPy-backed dask arrays. Channels with CuPy chunks stay on their device.
        Others go to the current device of the process where Dask runs: the first, unless
        `dask_cuda` gives each worker its own. If the device's memory is short, a block goes in
        parts. `parallel` is ignored.
    parallel : bool, int or None, default False
        Threads over which each block splits its frames, on top of the blocks that Dask runs side
        by side: n; True or -1 for as many as the worker has; False, 0 or None for one. The bits
        of the results stay the same.
    engine : {"auto", "fused", "dask-image"}, default "auto"
        "fused" is one compiled pass per block of NumPy; "dask-image" runs both passes through
        `dask_image.ndfilters.correlate`, for NumPy and CuPy; "auto" is "fused" for NumPy chunks
        and "dask-image" for CuPy chunks. Each gives the same bits for every chunking.

    Returns
    -------
    bkgds : list of dask.array.Array, numpy.ndarray or cupy.ndarray
        One float32 background per channel, of the channel's shape: lazy dask arrays. Stacks of
        whole frames keep their chunks; stacks tiled in y and x come out as whole frames, unless
        merging the tiles would take over 1 GiB. With `bkgds`: a NumPy or CuPy target itself, or a
        view of its first frames if it is longer than the channel; for a Zarr target, a dask array
        that reads those frames.
    noise_corrections : sequence of float
        Each entry multiplied by ``noise_correction(sigma_y, sigma_x)``.
    info : dict
        ``channels_mean_radii_pix`` (list of (ry, rx) tuples, px; also under the spelling
        ``channels_mean_radius_pix``), ``spatial_mean_sigmas`` (list of (sigma_y, sigma_x), px),
        ``spatial_mean_kernels_y`` and ``spatial_mean_kernels_x`` (lists of the residual kernels
        delta - g, float32).

    Raises
    ------
    ValueError
        If an argument has a wrong form, shape, length or value. Nothing has changed then.
    TypeError
        If a channel is not an array, or its dtype is not real.
    FileNotFoundError
        If the folder of a Zarr array is gone.
    RuntimeError
        If ``cuda=True`` without a usable CuPy or device.

    Warns
    -----
    UserWarning
        If two channels get a *list* of two radii: it is taken as (ry, rx) for both channels, like
        a tuple, but the caller may have meant one radius per channel.

    Notes
    -----
    An error leaves `noise_corrections` as it was, and also targets of at most 512 MiB together:
    they are filled once all backgrounds are computed. Larger ones are filled block by block, after
    a trial of the first and last frame of every background; a block in between that cannot be
    read, or a full disk, leaves them partly filled.

    Under `smlmlp.block()` the function takes `config` and `locs`, as the reference's does.

    The estimate, the noise factor and all names are those of `smlmlp.bkgd_spatial_mean` 0.1.20.
    The background differs from the reference's by at most 1e-6 (4e-6 for radii over 20 px) of the
    largest input under the kernel.

    Examples
    --------
    >>> import dask.array as da
    >>> from smlmlp_dask import bkgd_spatial_mean
    >>> movie = da.random.default_rng(1).poisson(100, size=(64, 48, 48), chunks=(16, 48, 48))
    >>> [background], [noise_correction], info = bkgd_spatial_mean([movie], 7.0)
    >>> background
    dask.array<..., shape=(64, 48, 48), dtype=float32, chunksize=(16, 48, 48), ...>
    >>> float(noise_correction)
    0.8526806...
    >>> info["spatial_mean_sigmas"]
    [(3.5, 3.5)]

    One pair (ry, rx) for all channels, or one for each; factors so far are updated in place:

    >>> import numpy as np
    >>> channels = [np.ones((4, 16, 16), "float32"), np.ones((6, 20, 12), "uint16")]
    >>> _, _, info = bkgd_spatial_mean(channels, (6.0, 10.0))
    >>> info["channels_mean_radii_pix"]
    [(6.0, 10.0), (6.0, 10.0)]
    >>> factors = [np.float32(1), np.float32(2)]
    >>> bkgds, updated, _ = bkgd_spatial_mean(channels, [(7, 7), (8, 10)], None, factors)
    >>> updated is factors
    True
    >>> bkgds[1]
    dask.array<..., shape=(6, 20, 12), dtype=float32, chunksize=(6, 20, 12), ...>
    """
    stacks = arrays.as_stacks(channels)
    radii = parameters.as_radii(channels_mean_radii_pix, len(stacks))
    corrections = parameters.check_corrections(noise_corrections, len(stacks))
    threads = parameters.check_parallel(parallel)
    targets = None if bkgds is None else arrays.check_targets(bkgds, channels, stacks)
    engine = check_engine(engine, on_host=not cuda and all(map(device.on_host, stacks)))
    if cuda:
        device.require_device()

    means = [SpatialMean.from_radii(pair) for pair in radii]
    factors = [
        entry * mean.noise_correction for entry, mean in zip(corrections, means, strict=True)
    ]
    backgrounds: list[Any] = [
        filter_stack(stack, mean, engine=engine, threads=threads, cuda=cuda)
        for stack, mean in zip(stacks, means, strict=True)
    ]
    if targets is not None:
        # Store the factors on trial: a sequence that cannot hold them fails before we write.
        parameters.replace(corrections, parameters.replace(corrections, factors))
        backgrounds = write_targets(backgrounds, targets)
    parameters.replace(corrections, factors)
    return backgrounds, corrections, mean_info(means)


def filter_stack(
    stack: da.Array, mean: SpatialMean, *, engine: Engine, threads: int, cuda: bool = False
) -> da.Array:
    """Return the lazy float32 background of one stack (frame, y, x), of NumPy or CuPy chunks.

    `threads` share the frames of one block; 0 for as many as the worker has. With `cuda`, NumPy
    chunks are filtered on the device, too, as CuPy chunks always are.
    """
    planned = chunking.whole_frame_chunks(stack.chunks, stack.dtype.itemsize)
    if planned != stack.chunks:
        stack = _merge_tiles(stack).rechunk(planned)
    kernels = mean.folded(stack.shape[1:])
    if cuda or not device.on_host(stack):
        device_meta = device.empty((0, 0, 0))
        return _map_blocks(correlate_on_device, stack, kernels, device_meta)
    if resolve_engine(engine, on_host=True) == "fused":
        meta = np.empty((0, 0, 0), np.float32)
        return _map_blocks(correlate_chunk, stack, kernels, meta, threads=threads)
    return correlate_stack(stack, kernels, threads)


def _merge_tiles(stack: da.Array) -> da.Array:
    """Merge tiles into whole frames, lazily; `rechunk` would build one task per tile at once."""
    merged: da.Array = da.blockwise(
        _identity,
        "tyx",
        stack,
        "tjk",
        new_axes={"y": stack.shape[1], "x": stack.shape[2]},
        concatenate=True,
        dtype=stack.dtype,
        meta=stack._meta,
    )
    return merged


def _identity(chunk: Any) -> Any:
    return chunk


def _map_blocks(
    filter_block: Callable[..., Any],
    stack: da.Array,
    kernels: tuple[Kernel, Kernel],
    meta: Any,
    **options: Any,
) -> da.Array:
    """Filter block by block; tiles get a halo of their neighbours' pixels."""
    kernel_y, kernel_x = kernels
    tiled = len(stack.chunks[1]) > 1 or len(stack.chunks[2]) > 1
    # Tiles at the movie's edges get no halo there: the filter repeats the nearest pixel.
    correlated: da.Array = da.map_overlap(
        filter_block,
        stack,
        depth=(0, len(kernel_y) // 2, len(kernel_x) // 2) if tiled else 0,
        boundary="none",
        dtype=np.float32,
        meta=meta,
        kernels=kernels,
        **options,
    )
    return correlated


def write_targets(backgrounds: Sequence[da.Array], targets: Sequence[Any]) -> list[Any]:
    """Fill the targets and return their frames: of Zarr targets lazily, else the arrays."""
    results = [
        background if arrays.is_cupy(target) else device.stack_to_host(background)
        for background, target in zip(backgrounds, targets, strict=True)
    ]
    if sum(result.nbytes for result in results) <= BATCH_BYTES:
        for target, batch in zip(targets, da.compute(*results), strict=True):
            _put(target, 0, batch)
    else:
        # Read and filter both ends on trial: an unreadable source fails before we write.
        da.compute([(result[:1], result[-1:]) for result in results])
        _write_large(results, targets)
    return [
        arrays.as_stack(target)[: len(background)]
        if isinstance(target, zarr.Array)
        else (target if len(target) == len(background) else target[: len(background)])
        for background, target in zip(backgrounds, targets, strict=True)
    ]


def _write_large(results: Sequence[da.Array], targets: Sequence[Any]) -> None:
    """Fill targets too large for this process to hold: by the workers, or batch by batch."""
    stored: list[tuple[da.Array, Any]] = []
    for result, target in zip(results, targets, strict=True):
        if isinstance(target, zarr.Array):
            # No two tasks may write one chunk: Dask corrupts it silently (dask#12583). The rechunk
            # can go once Dask refuses or locks such writes.
            unit = target.shards or target.chunks
            result = result.rechunk(chunking.write_chunks(result.shape, unit))
            if arrays.is_shared(target):
                stored.append((result, target))
                continue
        start = 0
        for run in chunking.join(
            result.chunks[0], BATCH_BYTES // (4 * math.prod(result.shape[1:]))
        ):
            _put(target, start, result[start : start + run].compute())
            start += run
    if stored:
        regions = [tuple(slice(0, n) for n in result.shape) for result, _ in stored]
        results, into = zip(*stored, strict=True)
        da.store(results, into, regions=regions, lock=False)


def _put(target: Any, start: int, batch: Any) -> None:
    """Write frames, beginning at `start`, in this process."""
    frames = slice(start, start + len(batch))
    if arrays.is_cupy(target):
        with device.working_on(target):
            target[frames] = device.to_device(batch)
    else:
        target[frames] = batch
