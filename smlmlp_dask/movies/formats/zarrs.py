"""Movies in Zarr arrays and OME-Zarr images."""

import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any, Self

import numpy as np
import zarr
import zarr.core.codec_pipeline
from numpy.typing import NDArray
from zarr.buffer.cpu import NDBuffer
from zarr.storage import LocalStore

from smlmlp_dask.messages import one_line
from smlmlp_dask.movies.recording import Recording
from smlmlp_dask.movies.stack import SourceReadError, as_rising, named, within
from smlmlp_dask.units import Decoding, at_a_time, in_groups, touched

from .zarr_nodes import arrays_in, is_array, is_node

FUSED_PIPELINE = "FusedCodecPipeline"
"""Codec pipeline of zarr 3.4 and later: it decodes chunks without a coroutine for each."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ZarrMovie:
    """A movie in a Zarr array."""

    path: str
    array: zarr.Array[Any]
    axes: tuple[int, int, int]  # of frame, y, x; all others are 1 long
    store: str = ""  # the store of backgrounds that it belongs to: a missing chunk is an error then

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows and columns."""
        return self._along(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Native byte order."""
        dtype = np.dtype(self.array.dtype)
        return dtype if dtype.isnative else dtype.newbyteorder("=")

    @property
    def unit(self) -> tuple[int, int, int]:
        """Shape of a chunk. A shard's chunks are decoded one by one, too."""
        return self._along(self.array.chunks)

    def decoding(self, *, whole: bool) -> Decoding:  # noqa: ARG002 - a chunk is decoded whole
        """Return how chunks are decoded, and the memory for it: encoded bytes, copies of codecs.

        Shards and filters take one more copy of each chunk.
        """
        decoding = Decoding.stored(self.unit, self.dtype.itemsize * prod(self.unit))
        if self.array.shards or self.array.filters:
            each = decoding.unit_bytes * 3 // 2
            decoding = Decoding(self.unit, each, at_a_time(each))
        return decoding

    def _along(self, lengths: Sequence[int]) -> tuple[int, int, int]:
        frame, y, x = (int(lengths[axis]) for axis in self.axes)
        return (frame, y, x)

    def narrow(self, start: int, stop: int) -> Self:  # noqa: ARG002 - it is as small already
        """Return itself: it holds no list of places."""
        return self

    def read(self, frames: range, rows: slice, columns: slice) -> NDArray[Any]:
        """Return a box of the frames with these numbers, in their order.

        Raises
        ------
        SourceReadError
            If a chunk cannot be decoded.
        """
        _, height, width = self.shape
        rising = frames if frames.step > 0 else frames[::-1]
        try:
            pixels = self._read(rising, range(height)[rows], range(width)[columns])
        except Exception as error:
            raise SourceReadError(self._diagnosis(frames, rows, columns, error)) from error
        return pixels if frames.step > 0 else pixels[::-1]

    def _read(self, *box: range) -> NDArray[Any]:
        """Read a few units at a time: Zarr keeps everything it decodes for one selection."""
        shape = [len(part) for part in box]
        if 0 in shape:
            return np.empty(shape, self.dtype)
        whole = [slice(part[0], part[-1] + 1) for part in box]
        groups = list(in_groups(whole, self.unit, self.decoding(whole=False).together))
        if len(groups) == 1:  # Zarr's own array, which saves the job a tenth of its time
            pixels = np.asarray(self.array[self._selection(box)]).astype(self.dtype, copy=False)
        else:
            pixels = np.empty(shape, self.dtype)
            for group in groups:
                self._read_into(pixels, box, group)
        if self.store:
            self._refuse_missing(whole)
        return pixels

    def _read_into(self, out: NDArray[Any], box: Sequence[range], group: Sequence[slice]) -> None:
        parts = [within(axis, part.start, part.stop) for axis, part in zip(box, group, strict=True)]
        if not all(parts):  # no selected frame lies in this group
            return
        places = (
            slice(axis.index(part[0]), axis.index(part[-1]) + 1)
            for axis, part in zip(box, parts, strict=True)
        )
        target = NDBuffer.from_numpy_array(out[tuple(places)])
        self.array.get_basic_selection(self._selection(parts), out=target)

    def _selection(self, parts: Sequence[range]) -> tuple[int | slice, ...]:
        selection: list[int | slice] = [0] * self.array.ndim
        for axis, part in zip(self.axes, parts, strict=True):
            selection[axis] = as_rising(part)
        return tuple(selection)

    def _refuse_missing(self, box: Sequence[slice]) -> None:
        for place in product(*touched(box, self._along(self.array.chunks))):
            key = self.array.metadata.encode_chunk_key(place)
            if not Path(self.path, key).is_file():
                raise FileNotFoundError(f"chunk {key} is missing")

    def _diagnosis(self, frames: range, rows: slice, columns: slice, error: Exception) -> str:
        """Read the box again, chunk by chunk, to find and name the one that fails."""
        stored = self._along(self.array.shards or self.array.chunks)  # pixels of one file
        box = (slice(min(frames), max(frames) + 1), rows, columns)
        what, reason = named(frames), error
        for place in product(*touched(box, stored)):
            chunk = [
                slice(at * unit, min((at + 1) * unit, length))
                for at, unit, length in zip(place, stored, self.shape, strict=True)
            ]
            parts = [range(part.start, part.stop) for part in chunk]
            try:
                self._read(*parts)
            except Exception as failure:
                coordinates = [0] * self.array.ndim
                for axis, at in zip(self.axes, place, strict=True):
                    coordinates[axis] = at
                key = self.array.metadata.encode_chunk_key(tuple(coordinates))
                what = f"chunk {key} ({named(range(chunk[0].start, chunk[0].stop))})"
                reason = failure
                break
        if self.store:
            return self._diagnosis_of_store(what, reason, found=reason is not error)
        return (
            f"{self.path}: {what} cannot be read: {one_line(reason)}; restore the file from a "
            "copy, or leave these frames out with frames="
        )

    def _diagnosis_of_store(self, what: str, reason: Exception, *, found: bool) -> str:
        if not Path(self.path).is_dir():
            return f"{self.path} is gone: check that the disk that holds it is mounted"
        missing = isinstance(reason, FileNotFoundError)
        if not found or (isinstance(reason, OSError) and not missing):
            # The bytes may be undamaged.
            return (
                f"{what} of {self.path} cannot be read: {one_line(reason)}; check the disk, and "
                "try again"
            )
        state = "missing" if missing else "damaged"
        return f"{what} of {self.path} is {state}: repair it by {repair_command(self.store)}"


def repair_command(store: str | os.PathLike[str]) -> str:
    """Return the command that repairs a store of backgrounds, ready to be typed."""
    return f"smlmlp-dask verify --repair {shlex.quote(os.fspath(store))}"


def open_stored(path: Path, store: Path) -> ZarrMovie:
    """Open an array (frame, y, x) of a store of backgrounds; a missing chunk is an error."""
    return ZarrMovie(path=str(path), array=_zarr_array(path), axes=(0, 1, 2), store=str(store))


def recognises(path: Path) -> bool:
    """Say whether a folder is a Zarr array or group."""
    return path.is_dir() and is_node(path)


def open(path: Path, inside: str = "") -> Recording:
    """Read the metadata of an array or an image."""
    return Recording.of(open_zarr(path / inside), "Zarr")


def open_zarr(path: Path) -> ZarrMovie:
    """Open an array, an OME-Zarr image, or a group with exactly one 3-D array."""
    if is_array(path):
        array = _zarr_array(path)
        names = _axes_in_image(path) or _dimension_names(array)
        return ZarrMovie(path=str(path), array=array, axes=_axes(path, array.shape, names))
    image = _ome_image(path)
    if image is not None:
        dataset, names = image
        array = _zarr_array(path / dataset)
        return ZarrMovie(
            path=str(path / dataset), array=array, axes=_axes(path, array.shape, names)
        )
    arrays = [(found, _zarr_array(found)) for found in arrays_in(path)]
    movies = [(found, array) for found, array in arrays if array.ndim == 3]
    if len(movies) != 1:
        raise ValueError(
            f"{path} is a Zarr group with {len(movies)} arrays of shape (frame, y, x), not one: "
            f"{arrays_hint(path)}"
        )
    found, array = movies[0]
    axes = _axes(found, array.shape, _axes_in_image(found) or _dimension_names(array))
    return ZarrMovie(path=str(found), array=array, axes=axes)


def arrays_hint(store: Path) -> str:
    """Return the part of an error message that lists the arrays of a store."""
    if is_array(store):
        return f"pass {store}, which is one array"
    shapes = {found: _zarr_array(found).shape for found in arrays_in(store)}
    if not shapes:
        return f"{store} has no arrays; pass another path"
    listed = [f"{found.relative_to(store).as_posix()} {shape}" for found, shape in shapes.items()]
    more = f" and {len(listed) - 10} more" if len(listed) > 10 else ""
    return f"pass one array, such as {next(iter(shapes))}; it has {', '.join(listed[:10])}{more}"


@contextmanager
def _parsing(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, ValueError):
            raise
        if isinstance(error, NotImplementedError):  # chunks of different sizes, in zarr 3.4
            raise ValueError(
                f"{path} cannot be read: {one_line(error)} Copy it to an array with one chunk shape"
            ) from error
        # zarr fails on damaged metadata with KeyError, TypeError, its own NodeNotFoundError ...
        raise ValueError(
            f"{path} has damaged Zarr metadata: {one_line(error)}; restore it from a copy"
        ) from error


def _zarr_array(path: Path) -> zarr.Array[Any]:
    with _parsing(path), bulk_codecs():
        array = zarr.open_array(LocalStore(path, read_only=True), mode="r")
        units = array.chunks + (array.shards or ())
        if max(array.shape + units, default=0) > sys.maxsize or 0 in units:
            raise ValueError(f"shape {array.shape} in chunks of {array.chunks}")
        return array


def _ome_image(group: Path) -> tuple[str, list[str]] | None:
    """Return path and axes of the full resolution if a group is an OME-Zarr image, else None.

    It looks only at these two fields: a validator would refuse movies that we can read.
    """
    with _parsing(group):
        multiscales = _multiscales(group)
        if multiscales is None:
            return None
        names = _axis_names(multiscales[0])
        dataset = multiscales[0]["datasets"][0]["path"]
        parts = PurePosixPath(dataset).parts
    if (
        not parts
        or parts[0] == "/"
        or ".." in parts
        or "\\" in dataset
        or not _lies_inside(group / dataset, group)
    ):
        raise ValueError(
            f"{group} names {dataset!r} as its full-resolution array, which lies outside: pass "
            "the array's own path if you trust it"
        )
    if not is_array(group / dataset):
        raise ValueError(
            f"{group} names {dataset!r} as its full-resolution array, which is no Zarr array: "
            f"{arrays_hint(group)}"
        )
    return dataset, names


def _axes_in_image(path: Path) -> list[str] | None:
    """Return the axes of the OME-Zarr image that lists an array at any resolution, or None."""
    path = path.resolve()
    for group in filter(is_node, path.parents):
        try:
            for multiscale in _multiscales(group) or ():
                for dataset in multiscale["datasets"]:
                    if (group / dataset["path"]).resolve() == path:
                        return _axis_names(multiscale)
        except (ValueError, LookupError, TypeError, AttributeError, RuntimeError):
            continue  # damaged metadata above do not matter for an array that can be read
    return None


def _multiscales(group: Path) -> Any:
    """Return the multiscales metadata of an OME-Zarr image; None for another group."""
    store = LocalStore(group, read_only=True)
    attributes = zarr.open_group(store, mode="r", use_consolidated=False).attrs.asdict()
    image: Any = attributes.get("ome", attributes)
    return image.get("multiscales")


def _axis_names(multiscale: Any) -> list[str]:
    axes = multiscale.get("axes", list("tczyx"))  # the fixed axes of OME-Zarr 0.1 and 0.2
    names = [axis["name"] if isinstance(axis, Mapping) else axis for axis in axes]
    return [str(name).lower() for name in names]


def _lies_inside(path: Path, folder: Path) -> bool:
    """Say whether a path stays in a folder when all links are followed."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (ValueError, OSError, RuntimeError):  # a null byte, a name too long, a loop of links
        return False


_AXES = ("t", "c", "z", "y", "x")
# Other names of the axes, as other programs write them.
_CALLED = dict.fromkeys(("time", "frame", "frames"), "t")
_CALLED |= dict.fromkeys(("row", "rows", "height"), "y")
_CALLED |= dict.fromkeys(("col", "cols", "column", "columns", "width"), "x")


def _dimension_names(array: zarr.Array[Any]) -> list[str] | None:
    # Zarr format 2 has no dimension names; xarray keeps them in an attribute.
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if not isinstance(names, Sequence) or isinstance(names, str) or not any(names):
        return None
    called = [_CALLED.get(str(name).lower(), str(name).lower()) for name in names]
    if array.ndim != 3:
        return called
    # Take unknown names, such as dim_0, in the order t, y, x.
    return [name if name in _AXES else due for name, due in zip(called, "tyx", strict=True)]


def _axes(path: Path, shape: tuple[int, ...], names: Sequence[str] | None) -> tuple[int, int, int]:
    """Return which axes are frame, y and x; all others are 1 long."""
    ndim = len(shape)
    if names is None:
        names = ("t", "y", "x") if ndim == 3 else ("unnamed",)
    called = "".join(names) if all(len(name) == 1 for name in names) else ", ".join(names)
    leading = range(ndim - 2)
    long = [axis for axis in leading if shape[axis] != 1]
    twice = len(set(names)) < len(names)
    if (
        list(names[-2:]) != ["y", "x"]
        or len(names) != ndim
        or twice
        or not leading
        or len(long) > 1
    ):
        remedy = "each channel or slice as a movie of its own"
        raise ValueError(
            f"{path} has shape {shape} (axes {called}), not (frame, y, x): save "
            f"{'it with its axes in that order' if ndim == 3 else remedy}"
        )
    if long:
        return (long[0], ndim - 2, ndim - 1)
    return (names.index("t") if "t" in names else ndim - 3, ndim - 2, ndim - 1)


def bulk_codecs() -> AbstractContextManager[Any]:
    """Let arrays opened in the ``with`` block use zarr's faster codec pipeline, if it has one.

    On 2 cores, it read tiled chunks 1.3 times as fast. Arrays keep the pipeline they were opened
    with, so the setting may end with the block.
    """
    if not hasattr(zarr.core.codec_pipeline, FUSED_PIPELINE):
        return nullcontext()
    chosen = {"codec_pipeline.path": f"zarr.core.codec_pipeline.{FUSED_PIPELINE}"}
    setting: AbstractContextManager[Any] = zarr.config.set(chosen)
    return setting
