"""The reference's other background steps, lazily, and steps that follow one another."""

from collections.abc import MutableSequence, Sequence
from typing import Any

from .background import Info, estimate
from .filters import parameters
from .filters.spatial_mean import SpatialMean
from .filters.spatial_opening import SpatialOpening
from .filters.steps import Engine, Step
from .filters.temporal_median import TemporalMedian


def bkgd_temporal_median(
    channels: Sequence[Any],
    /,
    median_window_fr: int | None = 25,
    bkgds: Sequence[Any] | None = None,
    noise_corrections: Sequence[Any] | None = None,
    *,
    cuda: bool = False,
    parallel: bool | int | None = False,
    engine: Engine = "auto",
) -> tuple[list[Any], MutableSequence[Any], Info]:
    """Estimate the background of each pixel as its median over neighbouring frames, lazily.

    Pixels are cast to float32. The window of frame t are the frames t - w ... t + w that exist: it
    is shorter at both ends of the movie. Of an even number of frames the median is the mean of
    the middle two. A window with a NaN gives NaN.

    Parameters
    ----------
    channels : sequence of dask.array.Array, zarr.Array, numpy.ndarray, cupy.ndarray or DataArray
        One stack (frame, y, x) per channel, as in `bkgd_spatial_mean`.
    median_window_fr : int, default 25
        Frames on each side, w, at least 0: 25 is a window of 51 frames. None is the default.
    bkgds : sequence of numpy.ndarray, cupy.ndarray or zarr.Array, optional
        Preallocated float32 outputs, one per channel, as in `bkgd_spatial_mean`.
    noise_corrections : sequence of float, optional
        Factors so far, one per channel, as in `bkgd_spatial_mean`. This step multiplies them by 1.
    cuda : bool, default False
        Filter each block on the GPU with CuPy, as in `bkgd_spatial_mean`.
    parallel : bool, int or None, default False
        Threads over which each block splits its pixels; the bits stay the same.
    engine : {"auto", "fused", "dask-image"}, default "auto"
        "fused" is compiled, for NumPy chunks. "dask-image" is plain NumPy or CuPy: it sorts each
        window. Both give the same medians; "auto" is "fused" for NumPy chunks.

    Returns
    -------
    bkgds : list of dask.array.Array, numpy.ndarray or cupy.ndarray
        One float32 background per channel, of the channel's shape: lazy dask arrays, or what the
        targets in `bkgds` hold. A block is one task. It reads w frames on each side; so chunks
        are joined in time, up to four windows' sides or 128 MiB, and never cut. Stacks tiled in y
        and x come out as whole frames, unless merging the tiles would take over 1 GiB.
    noise_corrections : sequence of float
        The same factors, as float32.
    info : dict
        ``median_window_fr``.

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

    Notes
    -----
    The medians are those of `smlmlp.bkgd_temporal_median` 0.1.20, bit for bit, where no pixel is
    NaN; there that function leaves the window undefined. Median filters of SciPy and dask-image
    repeat or mirror frames beyond both ends of the movie.

    Examples
    --------
    >>> import dask.array as da
    >>> from smlmlp_dask import bkgd_temporal_median
    >>> movie = da.random.default_rng(1).poisson(100, size=(400, 48, 48), chunks=(50, 48, 48))
    >>> [background], _, info = bkgd_temporal_median([movie], 25)
    >>> background
    dask.array<..., shape=(400, 48, 48), dtype=float32, chunksize=(100, 48, 48), ...>
    >>> info
    {'median_window_fr': 25}
    """
    steps = [TemporalMedian(parameters.check_window(median_window_fr))]
    return estimate(
        channels, steps, bkgds, noise_corrections, cuda=cuda, parallel=parallel, engine=engine
    )


def bkgd_spatial_opening(
    channels: Sequence[Any],
    /,
    channels_opening_radii_pix: Any = 3.0,
    bkgds: Sequence[Any] | None = None,
    noise_corrections: Sequence[Any] | None = None,
    *,
    cuda: bool = False,
    parallel: bool | int | None = False,
    engine: Engine = "auto",
) -> tuple[list[Any], MutableSequence[Any], Info]:
    """Estimate the background of each frame by its grey opening with a disk, lazily.

    Pixels are cast to float32. Each becomes the smallest under the disk (an erosion), then the
    largest of these under the disk (a dilation): what is bright and smaller than the disk goes.
    Beyond a frame's edges the nearest pixels repeat.

    Parameters
    ----------
    channels : sequence of dask.array.Array, zarr.Array, numpy.ndarray, cupy.ndarray or DataArray
        One stack (frame, y, x) per channel, as in `bkgd_spatial_mean`.
    channels_opening_radii_pix : float, pair, or sequence of pairs, default 3.0
        The disk's radius in pixels, in the forms of `bkgd_spatial_mean`. Greater than 0, at most
        1000. None is the default.
    bkgds, noise_corrections, cuda, parallel
        As in `bkgd_temporal_median`; threads split a block's frames.
    engine : {"auto", "fused", "dask-image"}, default "auto"
        "fused" is compiled, for NumPy chunks. "dask-image" runs `minimum_filter` and
        `maximum_filter` of `dask_image.ndfilters`, for NumPy and CuPy. Both give the same values;
        "auto" is "fused" for NumPy chunks.

    Returns
    -------
    bkgds : list of dask.array.Array, numpy.ndarray or cupy.ndarray
        One float32 background per channel, of the channel's shape, as in `bkgd_spatial_mean`.
    noise_corrections : sequence of float
        The same factors, as float32.
    info : dict
        ``channels_opening_radii_pix`` (list of (ry, rx) tuples, px) and ``footprints`` (list of the
        disks: float32, equal weights that sum to 1).

    Raises
    ------
    ValueError, TypeError, FileNotFoundError, RuntimeError
        As in `bkgd_temporal_median`.

    Warns
    -----
    UserWarning
        If two channels get a *list* of two radii, as in `bkgd_spatial_mean`.

    Notes
    -----
    Footprints and openings are those of `smlmlp.bkgd_spatial_opening` 0.1.20, bit for bit, where no
    pixel is NaN. A NaN makes all pixels NaN that it could change.

    Examples
    --------
    >>> import numpy as np
    >>> from smlmlp_dask import bkgd_spatial_opening
    >>> movie = np.full((4, 16, 16), 100, "uint16")
    >>> movie[:, 8, 8] = 900  # smaller than the disk
    >>> [background], _, info = bkgd_spatial_opening([movie], 3.0)
    >>> float(background.max())
    100.0
    >>> info["footprints"][0].shape
    (7, 7)
    """
    steps = [SpatialOpening(channels_opening_radii_pix)]
    return estimate(
        channels, steps, bkgds, noise_corrections, cuda=cuda, parallel=parallel, engine=engine
    )


def bkgd_combination(
    channels: Sequence[Any],
    /,
    bkgds: Sequence[Any] | None = None,
    noise_corrections: Sequence[Any] | None = None,
    *,
    do_spatial_opening: bool = False,
    channels_opening_radii_pix: Any = 3.0,
    do_temporal_median: bool = True,
    median_window_fr: int | None = 25,
    do_spatial_mean: bool = True,
    channels_mean_radii_pix: Any = 7.0,
    cuda: bool = False,
    parallel: bool | int | None = False,
    engine: Engine = "auto",
) -> tuple[list[Any], MutableSequence[Any], Info]:
    """Estimate the background by an opening, a median and a local mean, in this order, lazily.

    Each step takes the residual that the ones before have left: the frames minus what they found,
    in float32. The background is the frames minus the last residual.

    Parameters
    ----------
    channels : sequence of dask.array.Array, zarr.Array, numpy.ndarray, cupy.ndarray or DataArray
        One stack (frame, y, x) per channel, as in `bkgd_spatial_mean`.
    bkgds, noise_corrections
        Preallocated outputs, and factors so far, as in `bkgd_spatial_mean`.
    do_spatial_opening : bool, default False
        Take the opening. Without any step the backgrounds are 0.
    channels_opening_radii_pix : float, pair, or sequence of pairs, default 3.0
        As in `bkgd_spatial_opening`.
    do_temporal_median : bool, default True
        Take the median.
    median_window_fr : int, default 25
        As in `bkgd_temporal_median`.
    do_spatial_mean : bool, default True
        Take the local mean.
    channels_mean_radii_pix : float, pair, or sequence of pairs, default 7.0
        As in `bkgd_spatial_mean`.
    cuda, parallel, engine
        As in `bkgd_spatial_mean`.

    Returns
    -------
    bkgds : list of dask.array.Array, numpy.ndarray or cupy.ndarray
        One float32 background per channel, as in `bkgd_temporal_median`. All steps of a block are
        one task.
    noise_corrections : sequence of float
        Each entry multiplied by the factors of the steps taken: 1, 1, and the mean's.
    info : dict
        The entries of the steps taken.

    Raises
    ------
    ValueError, TypeError, FileNotFoundError, RuntimeError
        As in `bkgd_spatial_mean`; also if the settings of a step are wrong that is not taken.

    Warns
    -----
    UserWarning
        If two channels get a *list* of two radii, as in `bkgd_spatial_mean`.

    Notes
    -----
    The estimate is that of `smlmlp.bkgd_combination` 0.1.20 within 1e-6 of the largest input (4e-6
    for mean radii over 20 px). A step alone gives what its own function gives.

    Examples
    --------
    >>> import dask.array as da
    >>> from smlmlp_dask import bkgd_combination
    >>> movie = da.random.default_rng(1).poisson(100, size=(400, 48, 48), chunks=(50, 48, 48))
    >>> [background], [noise_correction], info = bkgd_combination([movie])
    >>> background
    dask.array<..., shape=(400, 48, 48), dtype=float32, chunksize=(100, 48, 48), ...>
    >>> info["median_window_fr"], info["channels_mean_radii_pix"]
    (25, [(7.0, 7.0)])
    """
    steps: list[Step] = [
        SpatialOpening(channels_opening_radii_pix),
        TemporalMedian(parameters.check_window(median_window_fr)),
        SpatialMean(channels_mean_radii_pix),
    ]
    taken = (do_spatial_opening, do_temporal_median, do_spatial_mean)
    return estimate(
        channels,
        steps,
        bkgds,
        noise_corrections,
        taken=taken,
        cuda=cuda,
        parallel=parallel,
        engine=engine,
    )
