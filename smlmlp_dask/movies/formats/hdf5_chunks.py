"""Chunks of HDF5 datasets, read whole and decoded outside of HDF5.

HDF5 lets one thread in at a time, also to decode. So only the encoded bytes of a chunk are read
through it, and decoded here, many threads at a time and by faster codecs. What these do not know is
left to HDF5.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import imagecodecs
import numcodecs
import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.movies.stack import as_rising, within
from smlmlp_dask.units import Decoding, touched

if TYPE_CHECKING:
    import h5py

COPIES = 3
"""Chunks in memory while one is read: its encoded bytes, what one filter gives, its pixels."""

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


def chunk_decoding(unit: tuple[int, int, int], chunk: Sequence[int], itemsize: int) -> Decoding:
    """Return how chunks are decoded, and the memory for it."""
    return Decoding(unit, COPIES * itemsize * prod(chunk), 1)


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


def read_into(dataset: "h5py.Dataset", box: Sequence[range], out: NDArray[Any]) -> None:
    """Fill `out`, of native byte order, with a box of a dataset, chunk by chunk."""
    shape = chunk_shape(dataset)
    decoders = _decoders(dataset, filters_of(dataset))
    low = [slice(min(axis), max(axis) + 1) for axis in box]
    for place in product(*touched(low, shape)):
        starts = [at * length for at, length in zip(place, shape, strict=True)]
        parts = [
            within(axis, start, start + length)
            for axis, start, length in zip(box, starts, shape, strict=True)
        ]
        if not all(parts):
            continue
        if decoders is None:
            _check_written(dataset, starts)
            rising = tuple(as_rising(part) for part in parts)
            pixels = dataset[rising]
            inside = tuple(
                slice(None, None, -1 if part.step < 0 and len(part) > 1 else 1) for part in parts
            )
        else:
            pixels = _decoded(dataset, starts, shape, decoders)
            inside = tuple(_slice(part, start) for part, start in zip(parts, starts, strict=True))
        target = tuple(
            slice(axis.index(part[0]), axis.index(part[-1]) + 1)
            for axis, part in zip(box, parts, strict=True)
        )
        out[target] = pixels[inside]


def _check_written(dataset: "h5py.Dataset", start: Sequence[int]) -> None:
    """Raise `ValueError` where HDF5 would make up pixels; `read_direct_chunk` raises by itself."""
    written = (
        dataset.id.get_storage_size()
        if dataset.chunks is None
        else dataset.id.get_chunk_info_by_coord(tuple(start)).size
    )
    if not written:
        raise ValueError("it was never written")


def _slice(part: range, start: int) -> slice:
    """Return the slice that takes these numbers from a chunk that begins at `start`."""
    stop = part.stop - start
    return slice(part.start - start, stop if stop >= 0 else None, part.step)


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
