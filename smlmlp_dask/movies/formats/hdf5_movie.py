"""Movies in HDF5 datasets, whose chunks are read whole and decoded outside of HDF5.

HDF5 lets one thread in at a time, also to decode: gzip took half as long again, on one core. So
only the encoded bytes of a chunk are read through it, and decoded here. What these decoders do not
know is left to HDF5.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import imagecodecs
import numcodecs
import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.movies.stack import Small, check_due, unreadable
from smlmlp_dask.units import Decoding

from .reading import parts_of

if TYPE_CHECKING:
    import h5py

COPIES = 3
"""Chunks in memory while one is read: its encoded bytes, what one filter gives, its pixels."""

HDF5_ERRORS = (OSError, RuntimeError, KeyError)
"""What h5py raises to hand on what HDF5 says."""

Decoder: TypeAlias = Callable[[Any, int, int], Any]
"""Takes encoded bytes, the bytes of the pixels, and the bytes of a pixel."""

# By the numbers under which the filters are registered.
_DECODERS: dict[int, Decoder] = {
    1: lambda raw, size, _: imagecodecs.deflate_decode(raw, out=size),
    2: lambda raw, _, itemsize: numcodecs.Shuffle(itemsize).decode(raw),
    32000: lambda raw, size, _: imagecodecs.lzf_decode(raw, out=size),
    32001: lambda raw, size, _: imagecodecs.blosc_decode(raw, out=size, numthreads=1),
    32004: lambda raw, size, _: imagecodecs.lz4h5_decode(raw, out=size),
    32015: lambda raw, size, _: imagecodecs.zstd_decode(raw, out=size),
}


@contextmanager
def open_file(path: str) -> "Iterator[h5py.File]":
    """Open a file to read. No locks are set, which network disks often refuse."""
    import h5py

    # HDF5 wants the same setting of all handles of a process, also of the caller's own.
    for locking in (False, None, True, "best-effort"):
        try:
            file = h5py.File(path, "r", locking=locking)
            break
        except OSError as error:
            if "lock" not in str(error) or locking == "best-effort":
                raise
    with file:
        yield file


def chunk_shape(dataset: "h5py.Dataset") -> tuple[int, ...]:
    """Return what is read together: a chunk; where there is none, a frame."""
    ones = (1,) * max(0, dataset.ndim - 2)
    return dataset.chunks or (*ones, *map(int, dataset.shape[-2:]))


def is_as_in_memory(dataset: "h5py.Dataset") -> bool:
    """Say whether pixels are stored as NumPy holds them: there are 12-bit numbers, too."""
    import h5py

    return bool(dataset.id.get_type() == h5py.h5t.py_create(dataset.dtype))


def filters_of(dataset: "h5py.Dataset") -> list[tuple[int, str]]:
    """Return the numbers and names of the filters through which chunks went, in this order."""
    plist = dataset.id.get_create_plist()
    found = [plist.get_filter(index) for index in range(plist.get_nfilters())]
    return [(code, name.decode("ascii", "replace")) for code, _, _, name in found]


def check_filters(what: str, dataset: "h5py.Dataset") -> None:
    """Raise `ValueError` if a filter can be undone neither here nor by HDF5."""
    import h5py

    filters = filters_of(dataset)
    if _decoders(dataset, filters) is not None:
        return
    for code, name in filters:
        if not h5py.h5z.filter_avail(code):
            raise ValueError(
                f"{what} is stored through HDF5's filter {code} ({name or 'unnamed'}), which is "
                "not installed: pip install hdf5plugin"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class DatasetMovie(Small):
    """A movie in a dataset, or in one for each frame. The file is opened anew for each block."""

    path: str
    dataset: str  # its name; or where each frame has one, what stands before the frame's number
    after: str | None = None  # what stands after that number
    shape: tuple[int, int, int]
    sizes: tuple[int, ...]  # of all axes of a dataset
    dtype: np.dtype[Any]  # native byte order
    chunk: tuple[int, ...]
    axes: tuple[int | None, int, int]  # of frame, y, x in a dataset
    place: tuple[int, ...]  # on all axes; those of frame, y and x do not count

    @property
    def unit(self) -> tuple[int, int, int]:
        """Shape of a chunk."""
        frame, y, x = (1 if axis is None else self.chunk[axis] for axis in self.axes)
        return (frame, y, x)

    def decoding(self, *, whole: bool) -> Decoding:  # noqa: ARG002 - a chunk is decoded whole
        """Return how chunks are decoded, and the memory for it."""
        return Decoding(self.unit, COPIES * self.dtype.itemsize * prod(self.chunk), 1)

    def read(self, frames: range, rows: slice, columns: slice) -> NDArray[Any]:
        """Return a box of the frames with these numbers, in their order.

        Raises
        ------
        SourceReadError
            If a dataset can no longer be read as when the file was opened.
        """
        _, height, width = self.shape
        lines, places = range(height)[rows], range(width)[columns]
        rising = frames if frames.step > 0 else frames[::-1]
        pixels = np.empty((len(frames), len(lines), len(places)), self.dtype)
        together = len(frames) if self.after is None else 1
        part = frames
        try:
            with open_file(self.path) as file:
                for start in range(0, len(frames), together):
                    part = rising[start : start + together]
                    dataset = file[self._name(part[0])]
                    check_due(dataset, self.sizes, self.dtype)
                    box = [range(at, at + 1) for at in self.place]
                    for axis, numbers in zip(self.axes, (part, lines, places), strict=True):
                        if axis is not None:
                            box[axis] = numbers
                    out = pixels[start : start + together].reshape([len(axis) for axis in box])
                    _read_into(dataset, box, out)
        except Exception as error:
            what = f"{self.path}::{self.dataset}" if self.after is None else self.path
            raise unreadable(what, part, error) from error
        return pixels if frames.step > 0 else pixels[::-1]

    def _name(self, frame: int) -> str:
        return self.dataset if self.after is None else f"{self.dataset}{frame}{self.after}"


def _read_into(dataset: "h5py.Dataset", box: Sequence[range], out: NDArray[Any]) -> None:
    """Fill `out`, of native byte order, with a box of rising numbers, chunk by chunk."""
    shape = chunk_shape(dataset)
    decoders = _decoders(dataset, filters_of(dataset))
    for parts, target in parts_of(box, shape):
        starts = [part[0] // length * length for part, length in zip(parts, shape, strict=True)]
        inside = tuple(
            slice(part.start - start, part.stop - start, part.step)
            for part, start in zip(parts, starts, strict=True)
        )
        if decoders is None:
            out[target] = _read_by_hdf5(dataset, starts, shape)[inside]
        else:
            out[target] = _decoded(dataset, starts, shape, decoders)[inside]


def _read_by_hdf5(
    dataset: "h5py.Dataset", starts: Sequence[int], shape: Sequence[int]
) -> NDArray[Any]:
    """Return a chunk; refuse one that was never written, for which HDF5 would make up pixels."""
    written = (
        dataset.id.get_storage_size()
        if dataset.chunks is None
        else dataset.id.get_chunk_info_by_coord(tuple(starts)).size
    )
    if not written:
        raise ValueError("it was never written")
    chunk = (slice(start, start + length) for start, length in zip(starts, shape, strict=True))
    pixels: NDArray[Any] = dataset[tuple(chunk)]
    return pixels


def _decoders(dataset: "h5py.Dataset", filters: Sequence[tuple[int, str]]) -> list[Decoder] | None:
    """Return how to undo the filters, the last first; None if HDF5 has to."""
    if dataset.chunks is None or not is_as_in_memory(dataset):
        return None
    if any(code not in _DECODERS for code, _ in filters):
        with suppress(ImportError):
            import hdf5plugin  # noqa: F401 - its import gives HDF5 many more filters
        return None
    return [_DECODERS[code] for code, _ in reversed(filters)]


def _decoded(
    dataset: "h5py.Dataset", start: Sequence[int], shape: Sequence[int], decoders: list[Decoder]
) -> NDArray[Any]:
    skipped, raw = dataset.id.read_direct_chunk(tuple(start))
    size = prod(shape) * dataset.dtype.itemsize
    for index, decode in enumerate(decoders):
        # HDF5 leaves out a filter that would have made this chunk larger.
        if not skipped >> (len(decoders) - 1 - index) & 1:
            raw = decode(raw, size, dataset.dtype.itemsize)
    pixels = np.frombuffer(raw, dataset.dtype)
    if pixels.nbytes != size:
        raise ValueError(f"the chunk at {tuple(start)} has {pixels.nbytes} bytes, not {size}")
    return pixels.reshape(shape)
