"""HDF5: one dataset is a movie, named as in `file.h5::/entry/data`."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.messages import one_line, printable
from smlmlp_dask.movies.acquisition import UNKNOWN, Acquisition
from smlmlp_dask.movies.arguments import check_dtype
from smlmlp_dask.movies.recording import Position, Recording
from smlmlp_dask.movies.stack import Small, check_due, unreadable
from smlmlp_dask.units import Decoding

from .frames import FileMovie, Offsets, PlainFrames
from .hdf5_chunks import (
    check_filters,
    chunk_decoding,
    chunk_shape,
    filters_of,
    is_as_in_memory,
    open_file,
    read_into,
)

if TYPE_CHECKING:
    import h5py

_NAMES = {"t": "t", "time": "t", "frame": "t", "frames": "t", "z": "z", "slice": "z"}
_NAMES |= {"c": "c", "channel": "c", "channels": "c", "y": "y", "row": "y", "height": "y"}
_NAMES |= {"x": "x", "column": "x", "width": "x"}


@dataclass(frozen=True, kw_only=True, eq=False)
class DatasetMovie(Small):
    """A movie in chunks of an HDF5 dataset. The file is opened anew for each block."""

    path: str
    dataset: str
    frames: int  # that are whole
    sizes: tuple[int, ...]  # of all axes of the dataset
    dtype: np.dtype[Any]  # native byte order
    chunk: tuple[int, ...]
    axes: tuple[int, int, int]  # of frame, y, x
    place: tuple[int, ...]  # on all axes; those of frame, y and x do not count

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows and columns."""
        return (self.frames, *self._along(self.sizes)[1:])

    @property
    def unit(self) -> tuple[int, int, int]:
        """Shape of a chunk."""
        return self._along(self.chunk)

    def decoding(self, *, whole: bool) -> Decoding:  # noqa: ARG002 - a chunk is decoded whole
        """Return how chunks are decoded, and the memory for it."""
        return chunk_decoding(self.unit, self.chunk, self.dtype.itemsize)

    def read(self, frames: range, rows: slice, columns: slice) -> NDArray[Any]:
        """Return a box of the frames with these numbers, in their order.

        Raises
        ------
        SourceReadError
            If the dataset can no longer be read as when it was opened.
        """
        _, height, width = self.shape
        parts = (frames, range(height)[rows], range(width)[columns])
        box = [range(at, at + 1) for at in self.place]
        for axis, part in zip(self.axes, parts, strict=True):
            box[axis] = part
        pixels = np.empty([len(part) for part in box], self.dtype)
        try:
            with open_file(self.path) as file:
                dataset = file[self.dataset]
                check_due(dataset, self.sizes, self.dtype)
                read_into(dataset, box, pixels)
        except Exception as error:
            raise unreadable(f"{self.path}::{self.dataset}", frames, error) from error
        return pixels.reshape([len(part) for part in parts])

    def _along(self, lengths: Sequence[int]) -> tuple[int, int, int]:
        frame, y, x = (lengths[axis] for axis in self.axes)
        return (frame, y, x)


def open(path: Path, inside: str = "") -> Recording:
    """Read the metadata of a dataset: the one named, or the only one of three axes or more.

    Raises
    ------
    ValueError
        If the file is damaged, holds several such datasets, or its axes cannot be told.
    """
    try:
        with open_file(str(path)) as file:
            return _recording(path, _dataset(path, file, inside))
    except PermissionError:
        raise
    except (OSError, RuntimeError, KeyError) as error:  # as h5py hands on what HDF5 says
        raise ValueError(
            f"{path} cannot be read as HDF5: {one_line(error)}; copy the file again, or save the "
            "movie as HDF5 if it is of another kind"
        ) from error


def _dataset(path: Path, file: "h5py.File", inside: str) -> "h5py.Dataset":
    import h5py

    name = inside or "/"
    found = file.get(name)
    if isinstance(found, h5py.Dataset):
        return found
    if not isinstance(found, h5py.Group):
        raise ValueError(f"{path} has nothing named {name}: {_hint(path, _datasets(file))}")
    datasets = _datasets(found)
    movies = [d for d in datasets if d.ndim >= 3 and getattr(_dtype(d), "kind", "O") in "iuf"]
    if len(movies) != 1:
        of = f" in {name}" if inside else ""
        raise ValueError(
            f"{path} holds {len(movies)} datasets of three axes or more{of}, not one: "
            f"{_hint(path, movies or datasets)}"
        )
    return movies[0]


def _datasets(group: "h5py.Group") -> "list[h5py.Dataset]":
    """Return all datasets below a group, each once; links to other files are not followed."""
    import h5py

    found: list[h5py.Dataset] = []
    group.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    return found


def _dtype(dataset: "h5py.Dataset") -> np.dtype[Any] | None:
    with suppress(TypeError):  # of kinds without counterpart
        dtype: np.dtype[Any] = dataset.dtype
        return dtype
    return None


def _hint(path: Path, datasets: "Sequence[h5py.Dataset]") -> str:
    if not datasets:
        return "it has no datasets; pass another file"
    listed = [f"{d.name} {d.shape} {_dtype(d)}" for d in datasets[:10]]
    more = f" and {len(datasets) - 10} more" if len(datasets) > 10 else ""
    return printable(f"pass one as {path}::{datasets[0].name}; it has {', '.join(listed)}{more}")


def _recording(path: Path, dataset: "h5py.Dataset") -> Recording:
    what = f"{path}::{dataset.name}"
    if _dtype(dataset) is None:
        raise TypeError(f"{what} holds values that NumPy does not know: save them as integers")
    check_dtype(what, dataset.dtype)
    if Path(dataset.file.filename) != path or dataset.is_virtual or dataset.external:
        # HDF5 makes up the pixels of files that are missing.
        raise ValueError(
            f"{what} only points to pixels in other datasets or files: pass the file that holds "
            "them, or copy them into one dataset"
        )
    axes = _axes(what, dataset)
    sizes = tuple(map(int, dataset.shape))
    count = sizes[axes.index("t")]
    if 0 in [n for n, axis in zip(sizes, axes, strict=True) if axis != "t"]:
        raise ValueError(f"{what} has shape {sizes}, without pixels: pass a movie")
    check_filters(what, dataset)
    chunks = _chunk_offsets(dataset, axes.index("t"))
    whole = _whole_frames(dataset, axes.index("t"), chunks)
    lengths = {axis: sizes[axes.index(axis)] if axis in axes else 1 for axis in "cz"}
    movies = {
        (c, z): _movie(path, dataset, axes, whole, chunks, {"c": c, "z": z})
        for c, z in product(range(lengths["c"]), range(lengths["z"]))
    }
    position = Position(
        movie=lambda channel, z: movies[channel, z],
        channels=(_acquisition(dataset),) * lengths["c"],
        depth=lengths["z"],
        promised=count,
        cut_short=f"only the first {whole} of its {count} frames were ever written",
    )
    return Recording(path=what, format="HDF5", positions=(position,))


def _acquisition(dataset: "h5py.Dataset") -> Acquisition:
    """Return the size of a pixel where ImageJ's HDF5 plugin noted it, in the order z, y, x."""
    size = np.asarray(dataset.attrs.get("element_size_um", ()))
    if size.shape != (3,) or size.dtype.kind not in "iuf" or not np.isfinite(size).all():
        return UNKNOWN
    y, x = float(size[1]), float(size[2])
    return Acquisition(pixel_size_um=(y, x)) if min(y, x) > 0 else UNKNOWN


def _axes(what: str, dataset: "h5py.Dataset") -> str:
    """Return the letters of the axes, by the labels of the dimensions; three are t, y, x."""
    labels = [dim.label.lower() for dim in dataset.dims]
    letters = [_NAMES.get(label, "?") for label in labels]
    if dataset.ndim == 3:
        # Without channels or slices beside them, frames may be labelled as either.
        letters = [
            due if label == "?" else label for due, label in zip("tyx", letters, strict=True)
        ]
        letters[0] = "t" if letters[0] in "zc" else letters[0]
    axes = "".join(letters)
    if not (
        axes.endswith("yx") and "t" in axes and "?" not in axes and len(set(axes)) == len(axes)
    ):
        named = (
            f" (dimension labels {', '.join(label or '?' for label in labels)})"
            if any(labels)
            else ""
        )
        remedy = (
            "save it with its axes in that order"
            if dataset.ndim == 3
            else "label its dimensions, as in dataset.dims[0].label = 't' with t, c, z, y, x, or "
            "save each channel or slice as a movie of its own"
        )
        raise ValueError(f"{what} has shape {dataset.shape}{named}, not (frame, y, x): {remedy}")
    return axes


def _is_plain(dataset: "h5py.Dataset", frame_axis: int) -> bool:
    """Say whether chunks hold whole frames as they are in memory."""
    others = [n for axis, n in enumerate(dataset.chunks[:-2]) if axis != frame_axis]
    return (
        dataset.chunks[-2:] == dataset.shape[-2:]
        and set(others) <= {1}
        and not filters_of(dataset)
        and is_as_in_memory(dataset)
        # Before a user's block at the start of the file, versions of HDF5 count differently.
        and not dataset.file.userblock_size
    )


def _chunk_offsets(dataset: "h5py.Dataset", frame_axis: int) -> NDArray[np.int64] | None:
    """Return where chunks lie in the file, -1 for one never written; None if that is no use."""
    if dataset.chunks is None:
        return None
    grid = [-(-size // length) for size, length in zip(dataset.shape, dataset.chunks, strict=True)]
    if dataset.id.get_num_chunks() >= prod(grid) and not _is_plain(dataset, frame_axis):
        return None
    offsets = np.full(grid, -1, np.int64)

    def note(chunk: Any) -> None:
        place = (at // n for at, n in zip(chunk.chunk_offset, dataset.chunks, strict=True))
        offsets[tuple(place)] = chunk.byte_offset

    dataset.id.chunk_iter(note)
    return offsets


def _whole_frames(
    dataset: "h5py.Dataset", frame_axis: int, chunks: NDArray[np.int64] | None
) -> int:
    """Return the frames before the first that was never written; HDF5 makes up its pixels."""
    frames = int(dataset.shape[frame_axis])
    if dataset.chunks is None:
        return frames if dataset.id.get_storage_size() else 0
    if chunks is None:
        return frames
    others = tuple(axis for axis in range(dataset.ndim) if axis != frame_axis)
    lacking = np.flatnonzero((chunks < 0).any(others))
    return min(frames, int(lacking[0]) * dataset.chunks[frame_axis]) if lacking.size else frames


def _movie(
    path: Path,
    dataset: "h5py.Dataset",
    axes: str,
    frames: int,
    chunks: NDArray[np.int64] | None,
    chosen: Mapping[str, int],
) -> FileMovie | DatasetMovie:
    """Return the movie of a channel and slice: from the file itself, where frames are plain."""
    place = tuple(chosen.get(axis, 0) for axis in axes)
    frame_axis = axes.index("t")
    offsets: Offsets | None = None
    if chunks is not None and _is_plain(dataset, frame_axis):
        numbers: list[int | slice] = list(place)
        numbers[frame_axis] = slice(None)
        first = chunks[tuple(numbers)]
        within_chunk = np.arange(dataset.chunks[frame_axis]) * _frame_bytes(dataset)
        offsets = (first[:, None] + within_chunk).reshape(-1)[:frames]
    elif dataset.chunks is None and frames:
        offsets = _contiguous(dataset, frame_axis, frames, place)
    dtype = dataset.dtype.newbyteorder("=")
    if offsets is not None:
        plain = PlainFrames(path=str(path), offsets=offsets, dtype=dataset.dtype)
        return FileMovie.of(plain, frames, (int(dataset.shape[-2]), int(dataset.shape[-1])), dtype)
    return DatasetMovie(
        path=str(path),
        dataset=dataset.name,
        frames=frames,
        sizes=tuple(map(int, dataset.shape)),
        dtype=dtype,
        chunk=chunk_shape(dataset),
        axes=(frame_axis, dataset.ndim - 2, dataset.ndim - 1),
        place=place,
    )


def _frame_bytes(dataset: "h5py.Dataset") -> int:
    return int(dataset.dtype.itemsize) * prod(map(int, dataset.shape[-2:]))


def _contiguous(
    dataset: "h5py.Dataset", frame_axis: int, frames: int, place: tuple[int, ...]
) -> range | None:
    """Return where in the file frames begin, of a dataset that lies there in one piece."""
    first = dataset.id.get_offset()  # of a small dataset within a header there is none
    if first is None or not is_as_in_memory(dataset) or dataset.file.userblock_size:
        return None
    strides = [
        _frame_bytes(dataset) * prod(dataset.shape[at:-2]) for at in range(1, dataset.ndim - 1)
    ]
    first += sum(at * stride for at, stride in zip(place, strides, strict=False))
    return range(first, first + frames * strides[frame_axis], strides[frame_axis])
