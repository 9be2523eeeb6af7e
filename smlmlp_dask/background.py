"""`bkgd_spatial_mean`: the local Gaussian mean of lazy stacks, and the noise factors."""

import math
from collections.abc import Callable, MutableSequence, Sequence
from functools import partial
from typing import Any, TypeAlias

import dask.array as da
import numpy as np
import zarr
from dask.base import tokenize

from .filters import device, parameters
from .filters.chains import Chain, chain_info
from .filters.spatial_mean import SpatialMean
from .filters.steps import Engine, FilterOptions, background_of, halo_of
from .lazy import arrays, chunking
from .lazy.overlap import map_with_halo

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
    steps = [SpatialMean(channels_mean_radii_pix)]
    return estimate(
        channels, steps, bkgds, noise_corrections, cuda=cuda, parallel=parallel, engine=engine
    )


def estimate(
    channels: Sequence[Any],
    steps: Sequence[Any],
    bkgds: Sequence[Any] | None,
    noise_corrections: Sequence[Any] | None,
    *,
    taken: Sequence[bool] = (True,),
    cuda: bool,
    parallel: bool | int | None,
    engine: Engine,
) -> tuple[list[Any], MutableSequence[Any], Info]:
    """Return the backgrounds by the steps that are `taken`, the factors and `info`.

    The settings of all steps are checked; see `bkgd_spatial_mean` for the rest.
    """
    stacks = arrays.as_stacks(channels)
    count = len(stacks)
    of_steps = [step.for_channels(count) for step in steps]
    of_steps = [each for each, take in zip(of_steps, taken, strict=True) if take]
    chains: list[Chain] = list(zip(*of_steps, strict=True)) or [()] * count
    corrections = parameters.check_corrections(noise_corrections, count)
    targets = None if bkgds is None else arrays.check_targets(bkgds, channels, stacks)
    options = [
        FilterOptions.checked(
            engine=engine, parallel=parallel, cuda=cuda or not device.on_host(stack)
        )
        for stack in stacks
    ]
    if cuda:
        device.require_device()

    factors = list(corrections)
    for each in of_steps:
        factors = [f * step.noise_correction for f, step in zip(factors, each, strict=True)]
    backgrounds: list[Any] = list(map(filter_stack, stacks, chains, options))
    if targets is not None:
        # Store the factors on trial: a sequence that cannot hold them fails before we write.
        parameters.replace(corrections, parameters.replace(corrections, factors))
        backgrounds = write_targets(backgrounds, targets)
    parameters.replace(corrections, factors)
    return backgrounds, corrections, chain_info(chains)


def filter_stack(stack: da.Array, steps: Chain, options: FilterOptions) -> da.Array:
    """Return the lazy float32 background of one stack by steps that follow one another.

    The stack (frame, y, x) has NumPy or CuPy chunks; no step is a background of 0.
    """
    meta = device.empty((0, 0, 0)) if options.cuda else np.empty((0, 0, 0), np.float32)
    if not steps:
        zeros: da.Array = da.zeros(stack.shape, chunks=stack.chunks, dtype=np.float32)
        return da.map_blocks(device.to_device, zeros, meta=meta) if options.cuda else zeros
    planned = chunking.whole_frame_chunks(stack.chunks, stack.dtype.itemsize)
    halo = halo_of(steps, stack.shape[1:])
    most = chunking.MERGED_BYTES // (4 * math.prod(max(lengths) for lengths in planned[1:]))
    chunks = (chunking.join_runs(planned[0], halo[0], most), *planned[1:])
    settings = [step.to_attributes() for step in steps]
    name = f"background-{tokenize(stack.name, settings, options, chunks)}"
    function = partial(background_of, steps=steps, options=options)
    if not halo[0] and stack.numblocks[1:] == (1, 1):
        # Blocks of their own need no tasks of ours: Dask's took 0.1 ms less for each.
        alone: da.Array = da.map_blocks(_alone, stack, function=function, name=name, meta=meta)
        return alone
    return map_with_halo(function, stack, chunks, halo, name=name, meta=meta)


def _alone(frames: Any, *, function: Callable[..., Any]) -> Any:
    return function([frames], own=tuple(slice(0, length) for length in frames.shape))


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
