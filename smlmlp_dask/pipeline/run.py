"""`run_background` and `run_spatial_mean`: the whole job, path to path."""

from collections.abc import Sequence
from typing import Any

from smlmlp_dask.execution.connect import connected
from smlmlp_dask.filters.spatial_mean import SpatialMean
from smlmlp_dask.filters.steps import Engine, FilterOptions, Step
from smlmlp_dask.movies.acquisition import Overrides
from smlmlp_dask.movies.arguments import Choice
from smlmlp_dask.movies.camera import OfCamera
from smlmlp_dask.movies.opening import AnySource, Source
from smlmlp_dask.movies.selection import Selection
from smlmlp_dask.paths import store_path
from smlmlp_dask.result import SpatialMeanResult, open_backgrounds
from smlmlp_dask.store.codecs import Codec, Storage
from smlmlp_dask.store.outputs import DEFAULT

from .channels import source_list
from .job import prepare
from .outputs import Outputs
from .running import run_job

MEAN_ALONE = (SpatialMean(7.0),)
"""The steps by default."""


@connected()
def run_spatial_mean(
    sources: AnySource | Sequence[AnySource],
    destination: Source,
    channels_mean_radii_pix: Any = 7.0,
    *,
    noise_corrections: Sequence[float] | None = None,
    bboxes: Any = None,
    flips: Any = None,
    frames: slice | Sequence[slice | None] | None = None,
    channels: Choice | None = None,
    position: Choice | None = None,
    z: int | None = None,
    salvage: bool = False,
    raw_shape: Sequence[int] | None = None,
    raw_dtype: Any = None,
    raw_header: int = 0,
    raw_footer: int = 0,
    pixel_size_um: float | Sequence[float] | None = None,
    frame_interval_s: float | None = None,
    channel_names: str | Sequence[str] | None = None,
    cuda: bool = False,
    parallel: bool | int | None = False,
    engine: Engine = "auto",
    codec: Codec = "fast",
    keep_bits: int | None = None,
    memory_limit: int | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> SpatialMeanResult:
    """Estimate the background of movies on disk and store it as OME-Zarr.

    Parameters
    ----------
    sources : path, array, or sequence of them
        Movies, as `open_channels` takes them, or NumPy, Dask and Zarr arrays and DataArrays of
        xarray of shape (frame, y, x), each one channel. A Zarr array on disk is read by its path.
        The section Notes says what else an array is not.
    destination : path
        The store to be written, a folder whose name usually ends in ``.zarr``. It must not exist
        (but see `resume` and `overwrite`), and not lie on or inside a source; missing parent
        folders are made.
        A name such as ``x.tif`` or a URL is refused.
    channels_mean_radii_pix : float, pair, or sequence of pairs, default 7.0
        Averaging radii in pixels, as `bkgd_spatial_mean` takes them.
    noise_corrections : sequence of float, optional
        Factors so far, one per channel, taken as float32; ones by default. They stay unchanged.
    bboxes, flips, frames, channels, position, z, salvage
        Which part of the sources makes which channel, as in `open_channels`.
    raw_shape, raw_dtype, raw_header, raw_footer
        Layout of headerless movies, as in `open_channels`.
    pixel_size_um : float or pair, optional
        Height and width (y, x) of a pixel in the sample, in micrometres. This and the next two are
        noted in the store in place of what the files say.
    frame_interval_s : float, optional
        Seconds from one frame of the movies to the next; a step in `frames` multiplies it.
    channel_names : str or sequence of str, optional
        Name of each channel, in order.
    cuda, parallel, engine
        How blocks are filtered, as in `bkgd_spatial_mean`. With `cuda`, each block goes to the
        device and comes back for the store, some of them side by side; under a client every
        worker needs CuPy and a device, which is its own in a `dask_cuda` cluster.
    codec : {"fast", "small", "none"}, default "fast"
        How chunks are compressed, without loss: Blosc with LZ4, Blosc with Zstandard (smaller,
        twice as long to write), or not at all.
    keep_bits : int, optional
        Round the backgrounds to this many of float32's 23 mantissa bits, so that they compress
        better; the relative error is at most 2**-(keep_bits + 1), and noted in the store.
    memory_limit : int or str, optional
        Bytes, or text such as "4GB", that all tasks may use together; by default what the machine
        (or its control group, or the cluster's workers) allows.
    resume : bool, default False
        Resume an interrupted run at `destination`: finished blocks are kept, and the others are
        computed. It is an error if a source or a setting has changed. Without a store, the run
        starts from the beginning. A finished store is checked byte for byte, and what is missing
        or damaged is computed again.
    overwrite : bool, default False
        Replace a store of this program at `destination`, whatever it holds; it is removed once the
        job has been checked and begins. Anything else is left alone: a source, a link, a folder in
        which others keep files.
    progress : bool, default False
        Show a bar on stderr.

    Returns
    -------
    SpatialMeanResult
        What `open_backgrounds` reads back from `destination`: ``bkgds`` (lazy float32 stacks
        (frame, y, x), in camera counts), ``noise_corrections``, ``info``, ``acquisitions`` (pixel
        size, frame interval, names), ``path``.

    Raises
    ------
    ValueError, TypeError
        If an argument or a source is wrong, or no block fits the memory limit; nothing has been
        written then.
    FileExistsError
        If the destination exists, and `resume` and `overwrite` are False or do not fit.
    BlockingIOError
        If another run is writing to `destination`.
    OSError
        If a source cannot be read (after some retries) or the destination cannot be written.
        Blocks finished by then are kept for `resume`; if there are none, the store is removed.
    RuntimeError
        If ``cuda=True`` without a usable CuPy or device, or if the device's memory is short (the
        message then names a block size that fits). If a cluster's scheduler does not answer or is
        lost, or its workers lack something that the job needs.

    Notes
    -----
    The store is a Zarr v3 group with one OME-Zarr 0.5 image per channel, ``channel_0``,
    ``channel_1`` ..., each with its pixels in the array ``0``, with the channel's name, scales and
    units as far as they are known, and a range of counts to show it in. The root group's attribute
    ``smlmlp_dask`` holds the rest; its ``finished`` is true only once all pixels are written.

    The job runs under Dask's active scheduler: an active `distributed.Client` of any
    cluster, else the one that Dask's configuration names (``scheduler-address``), else local
    threads: one for each core, or Dask's ``num_workers``. Blocks go from source to store inside the
    tasks: `plan_spatial_mean` returns how many there will be and how much memory they take.
    Workers may come and go; all must see sources and destination under the same paths.

    Blocks of a NumPy array are views of it. It must stay as it is during the run: a checksum of all
    its bytes, before and after, tells whether it did, and lets `resume` go on with the same pixels
    only. A cluster does not take it. Of a Dask array a task computes the chunks that its block
    touches, so whole frames in even chunks cost least; `resume` takes an array of the same name,
    which Dask makes from what the array is computed from, and computes a block or two again, to see
    whether that has changed. The axes of a DataArray are told by their names (t, y, x, frame, row
    ...), its pixel size and frame interval by evenly spaced coordinates with units. A store does
    not keep an array: to be repaired, or finished, it needs this call with the same array and
    ``resume=True``.

    Examples
    --------
    >>> from smlmlp_dask import run_spatial_mean
    >>> result = run_spatial_mean("movie.tif", "background.zarr", 7.0)
    >>> result.bkgds
    [dask.array<..., shape=(120, 64, 96), dtype=float32, chunksize=(120, 64, 96), ...>]
    >>> result.noise_corrections
    [np.float32(0.8526806)]
    >>> again = run_spatial_mean("movie.tif", "background.zarr", 7.0, resume=True)  # as it is
    """
    given = {**locals(), "steps": SpatialMean(channels_mean_radii_pix)}
    del given["channels_mean_radii_pix"]  # all others go on under their own names
    return run_background(**given)


@connected()
def run_background(
    sources: AnySource | Sequence[AnySource],
    destination: Source,
    steps: Step | Sequence[Step] = MEAN_ALONE,
    outputs: str | Sequence[str] = DEFAULT,
    *,
    pedestal: int | None = None,
    gain: OfCamera = None,
    baseline: OfCamera = None,
    variance: OfCamera = None,
    photons: bool = False,
    noise_corrections: Sequence[float] | None = None,
    bboxes: Any = None,
    flips: Any = None,
    frames: slice | Sequence[slice | None] | None = None,
    channels: Choice | None = None,
    position: Choice | None = None,
    z: int | None = None,
    salvage: bool = False,
    raw_shape: Sequence[int] | None = None,
    raw_dtype: Any = None,
    raw_header: int = 0,
    raw_footer: int = 0,
    pixel_size_um: float | Sequence[float] | None = None,
    frame_interval_s: float | None = None,
    channel_names: str | Sequence[str] | None = None,
    cuda: bool = False,
    parallel: bool | int | None = False,
    engine: Engine = "auto",
    codec: Codec = "fast",
    keep_bits: int | None = None,
    memory_limit: int | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> SpatialMeanResult:
    """Estimate the background of movies on disk by steps that follow one another, and store it.

    Each step takes the residual that the ones before have left: the frames minus what they found,
    in float32. The background is the frames minus the last residual, as in `bkgd_combination`.

    Parameters
    ----------
    sources, destination
        As in `run_spatial_mean`, which is the case of the local mean alone.
    steps : step or sequence of steps, default SpatialMean(7.0)
        In their order: any number of `TemporalMedian`, `SpatialMean` and `SpatialOpening`.
    outputs : str or sequence of str, default "background"
        What is stored, any of: "background"; "signal" (raw - background); "snr", signal / noise
        correction / √(background / gain), NaN where there is no root of a number above 0; and
        "mean_background", one frame, its mean over all frames.
    pedestal : int, optional
        Store the signal as uint16, these counts higher, such as 100, which localization programs
        open: raw - background + pedestal in float32, rounded to nearest, ties to even, clipped to 0
        ... 65535, and clipped pixels counted. By default, it is float32.
    gain : number, path, or sequence of one for each channel, optional
        Photoelectrons per count, for "snr" and `photons`; by default what the files say. A path is
        that of a map: a TIFF or ``.npy`` of the camera's whole frame, before boxes and flips.
    baseline, variance : as `gain`, optional
        Counts added to every pixel, and of read noise, counts squared: the root is of (background
        - baseline) / gain + variance. By default 0; with `photons`, the baseline that files say.
    photons : bool, default False
        Turn frames into photoelectrons, (raw - baseline) x gain in float32, before the steps. All
        outputs and the pedestal are in them; the root is of background + variance x gain².
    noise_corrections, bboxes, flips, frames, channels, position, z, salvage, raw_shape, raw_dtype
        As in `run_spatial_mean`.
    raw_header, raw_footer, pixel_size_um, frame_interval_s, channel_names, cuda, parallel, engine
        As in `run_spatial_mean`.
    codec, keep_bits, memory_limit, resume, overwrite, progress
        As in `run_spatial_mean`. `keep_bits` also rounds a signal in float32 and the SNR; both are
        of the background before it is rounded.

    Returns
    -------
    SpatialMeanResult
        What `open_backgrounds` reads back: ``bkgds``, ``signals``, ``snrs``, ``mean_bkgds``, None
        where not stored; the products of the steps' factors; ``info`` as of `bkgd_combination`.

    Raises
    ------
    ValueError, TypeError, FileExistsError, BlockingIOError, OSError, RuntimeError
        As `run_spatial_mean` does; also if there is no step, or no gain for what needs one.

    Notes
    -----
    A median of w frames on each side reads w frames before and after each block of up to 4 w, each
    frame 1.5 times; with less memory more often: `plan_background` says how often.

    Examples
    --------
    >>> from smlmlp_dask import SpatialMean, TemporalMedian, run_background
    >>> steps = [TemporalMedian(25), SpatialMean(7.0)]
    >>> result = run_background("movie.tif", "background.zarr", steps)
    >>> result.steps[0]
    (TemporalMedian(window_fr=25), SpatialMean(radii_pix=(7.0, 7.0)))
    """
    stored = Outputs.checked(outputs, pedestal)
    camera = stored.camera(gain=gain, baseline=baseline, variance=variance, photons=photons)
    destination = store_path(destination)
    selection = Selection.checked(
        bboxes=bboxes,
        flips=flips,
        frames=frames,
        channels=channels,
        position=position,
        z=z,
        salvage=salvage,
        raw_shape=raw_shape,
        raw_dtype=raw_dtype,
        raw_header=raw_header,
        raw_footer=raw_footer,
    )
    overrides = Overrides.checked(
        pixel_size_um=pixel_size_um, frame_interval_s=frame_interval_s, channel_names=channel_names
    )
    job = prepare(
        source_list(sources),
        steps,
        outputs=stored,
        camera=camera,
        selection=selection,
        options=FilterOptions.checked(engine=engine, parallel=parallel, cuda=cuda),
        storage=Storage.checked(codec, keep_bits),
        overrides=overrides,
        noise_corrections=noise_corrections,
        memory_limit=memory_limit,
    )
    run_job(job.with_inputs(), destination, resume=resume, overwrite=overwrite, progress=progress)
    return open_backgrounds(destination)
