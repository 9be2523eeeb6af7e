"""From paths to lazy stacks: `open_channels`."""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from numpy.typing import DTypeLike

from smlmlp_dask.movies.arguments import Choice
from smlmlp_dask.movies.opening import Box, Source, open_stacks
from smlmlp_dask.movies.selection import Selection
from smlmlp_dask.movies.stack import Stack

if TYPE_CHECKING:
    import dask.array as da


def open_channels(
    *sources: Source,
    bboxes: Sequence[Sequence[Box] | None] | None = None,
    flips: Sequence[tuple[bool, bool] | None] | None = None,
    frames: slice | Sequence[slice | None] | None = None,
    channels: Choice | None = None,
    position: Choice | None = None,
    z: int | None = None,
    salvage: bool = False,
    raw_shape: Sequence[int] | None = None,
    raw_dtype: DTypeLike | None = None,
    raw_header: int = 0,
    raw_footer: int = 0,
) -> "list[da.Array]":
    """Open movies as lazy stacks, one per channel.

    Only metadata are read: headers, shapes and frame counts are checked here, pixels are read
    when a stack is computed.

    Parameters
    ----------
    *sources : str or os.PathLike
        Local paths, in which ``~`` is the home folder. Each is one of

        - a Zarr array (format 2 or 3), also inside a store: ``movie.zarr/0``. Its axes are
          (frame, y, x); other axis names are refused. Axes of length 1 of an OME-Zarr image are
          dropped;
        - a Zarr group: an OME-Zarr 0.4 or 0.5 image (its full resolution), or a group with
          exactly one 3-D array;
        - a TIFF, BigTIFF, ImageJ or OME-TIFF of one page per frame, compressed or not;
        - a folder or a glob pattern of TIFFs, joined in natural order (2 before 10): single
          pages are the frames, stacks follow one another. Hidden and other files are ignored;
        - a file of a camera or microscope, such as ND2, CZI, SPE or HDF5. The extra ``formats``
          brings all readers;
        - a headerless movie, described by `raw_shape` and `raw_dtype`.
    bboxes : sequence, optional
        Per source a list of boxes (x0, y0, x1, y1), each a channel ``[:, y0:y1, x0:x1]``, or
        None for the whole frame. By default every source is one channel of whole frames.
    flips : sequence, optional
        Per channel (flip_y, flip_x), or None for neither. Channels count after `bboxes`.
    frames : slice or sequence of slices, optional
        Frames taken from every source, as Python slices a list; or one slice per source, or None.
    channels : int, str, or sequence of them, optional
        Which channels of each source, by number from 0 or by name; all of them by default.
    position : int, str, or sequence of them, optional
        Which position (scene, series, image) of each source, where a file holds several.
    z : int, optional
        Which slice in z, where a file holds several.
    salvage : bool, default False
        Of a movie that is cut short, take all whole frames, and warn how many are missing.
    raw_shape : (int, int, int), optional
        (frame, y, x) of the headerless movies.
    raw_dtype : dtype, optional
        Their NumPy dtype with its byte order, such as ``">u2"``.
    raw_header, raw_footer : int, default 0
        Bytes of their files before and after the frames.

    Returns
    -------
    list of dask.array.Array
        Stacks (frame, y, x) with the source's dtype in native byte order. Blocks are whole
        frames, or storage tiles where a Zarr array is tiled in y or x; along frames they hold
        near 16 MiB of float32 and end where storage chunks end, so that no chunk is
        decoded by two blocks. Channels cut from one source share its reading tasks.

    Raises
    ------
    FileNotFoundError
        If a source does not exist, or a folder or glob has no TIFF.
    TypeError
        If a dtype is not a real integer or float, or an argument is of the wrong type.
    ValueError
        If a source is damaged, cut short, or not one movie of gray frames; if a box, a flip, a
        slice or a raw movie's description does not fit; if a source holds several positions, or
        slices in z, and none is chosen.
    SourceReadError
        When a stack is computed: if pixels cannot be read. It names path, frames and Zarr chunk.

    Examples
    --------
    >>> from smlmlp_dask import open_channels
    >>> [movie] = open_channels("movie.tif")
    >>> movie
    dask.array<open-channels..., shape=(120, 64, 96), dtype=uint16, chunksize=(120, 64, 96), ...>

    Two channels side by side on one camera, the right one mirrored:

    >>> left, right = open_channels(
    ...     "movie.tif",
    ...     bboxes=[[(0, 0, 48, 64), (48, 0, 96, 64)]],
    ...     flips=[None, (False, True)],
    ... )
    >>> bool((right[0] == movie[0, :, :47:-1]).all())
    True
    """
    from .reads import cut, lazy  # imports dask.array

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
    stacks = []
    by_movie = groupby(open_stacks(*sources, selection=selection), lambda stack: id(stack.movie))
    for _, (first, *others) in by_movie:
        whole = lazy(Stack.of(first.movie, first.frames))
        stacks += [cut(whole, stack) for stack in (first, *others)]
    return stacks
