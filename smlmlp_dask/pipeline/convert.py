"""`convert_movies`: movies in any format, kept as they are, as one OME-Zarr.

It is the job of `run_spatial_mean` without a filter: the same plan, journal, records and checks.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smlmlp_dask.execution.connect import connected
from smlmlp_dask.movies.acquisition import Overrides
from smlmlp_dask.movies.arguments import Choice
from smlmlp_dask.movies.described import DescribedMovie
from smlmlp_dask.movies.opening import AnySource, Source
from smlmlp_dask.movies.selection import Selection
from smlmlp_dask.paths import store_path
from smlmlp_dask.store.codecs import Codec, Storage

from .channels import KEEP, source_list
from .job import prepare
from .job_plan import JobPlan
from .plan import plan_job
from .running import run_job


@connected()
def convert_movies(
    sources: AnySource | Sequence[AnySource],
    destination: Source,
    *,
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
    codec: Codec = "fast",
    memory_limit: int | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Path:
    """Copy movies of any format into one OME-Zarr: the same pixels, in their own dtype.

    Parameters
    ----------
    sources : path, array, or sequence of them
        Movies, as `run_spatial_mean` takes them.
    destination : path
        The store to be written, as for `run_spatial_mean`.
    bboxes, flips, frames, channels, position, z, salvage
        Which part of the sources makes which channel, as in `open_channels`.
    raw_shape, raw_dtype, raw_header, raw_footer
        Layout of headerless movies, as in `open_channels`.
    pixel_size_um, frame_interval_s, channel_names
        How channels were recorded, as in `run_spatial_mean`.
    codec : {"fast", "small", "none"}, default "fast"
        How chunks are compressed, without loss: Blosc with LZ4 and bit shuffle, Blosc with
        Zstandard and byte shuffle (up to a fifth smaller, and slower), or not at all.
    memory_limit, resume, overwrite, progress
        As in `run_spatial_mean`.

    Returns
    -------
    pathlib.Path
        The store. `open_channels` reads its channels; so does any source of `run_spatial_mean`.

    Raises
    ------
    ValueError, TypeError, FileExistsError, BlockingIOError, OSError, RuntimeError
        As `run_spatial_mean` does.

    Notes
    -----
    The store is a Zarr v3 group with one OME-Zarr 0.5 image per channel, ``channel_0``,
    ``channel_1`` ..., each with its pixels (frame, y, x) in the array ``0``. As with backgrounds,
    it is finished only once every byte is on the disk, every chunk has a checksum, and
    `verify_backgrounds` checks and repairs it.

    Chunks are runs of whole frames, with some 4 million pixels (8 MiB of uint16), as those of a
    background are: so a background of the store decodes each chunk once. On uint16 camera movies,
    "fast" packs 1.9 to 2.6 to 1 at 0.7 to 4 GB/s a thread, and unpacks at 1.1 to 4.7 GB/s.

    Examples
    --------
    >>> from smlmlp_dask import convert_movies, open_channels
    >>> path = convert_movies("movie.tif", "movie.zarr")
    >>> open_channels(path)
    [dask.array<..., shape=(120, 64, 96), dtype=uint16, chunksize=(120, 64, 96), ...>]
    """
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
        KEEP,
        selection=selection,
        options=None,
        storage=Storage.checked(codec, raw=True),
        overrides=overrides,
        memory_limit=memory_limit,
    )
    run_job(job.with_inputs(), destination, resume=resume, overwrite=overwrite, progress=progress)
    return destination


@connected()
def plan_conversion(
    sources: AnySource | DescribedMovie | Sequence[AnySource],
    *,
    pixel_size_um: float | Sequence[float] | None = None,
    frame_interval_s: float | None = None,
    channel_names: str | Sequence[str] | None = None,
    codec: Codec = "fast",
    memory_limit: int | str | None = None,
    workers: int | None = None,
    measured: bool = False,
    destination: Source | None = None,
    **selection: Any,
) -> JobPlan:
    """Plan what `convert_movies` would do; other parameters are `plan_spatial_mean`'s."""
    overrides = Overrides.checked(
        pixel_size_um=pixel_size_um, frame_interval_s=frame_interval_s, channel_names=channel_names
    )
    return plan_job(
        sources,
        KEEP,
        selection=Selection.checked(**selection),
        options=None,
        storage=Storage.checked(codec, raw=True),
        overrides=overrides,
        memory_limit=memory_limit,
        workers=workers,
        measured=measured,
        destination=destination,
    )
