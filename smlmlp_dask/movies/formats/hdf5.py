"""HDF5: one dataset is a movie, named as in `file.h5::/entry/data`."""

from contextlib import suppress
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.messages import printable
from smlmlp_dask.movies.acquisition import UNKNOWN, Acquisition
from smlmlp_dask.movies.arguments import check_dtype
from smlmlp_dask.movies.recording import Position, Recording

from .frames import FileMovie, PlainFrames
from .hdf5_movie import (
    HDF5_ERRORS,
    DatasetMovie,
    check_filters,
    chunk_shape,
    filters_of,
    is_as_in_memory,
    open_file,
)
from .reading import reading_as, whole_frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    import h5py

_NAMES = {"t": "t", "time": "t", "frame": "t", "frames": "t", "z": "z", "slice": "z"}
_NAMES |= {"c": "c", "channel": "c", "channels": "c", "y": "y", "row": "y", "height": "y"}
_NAMES |= {"x": "x", "column": "x", "width": "x"}


def open(path: Path, inside: str = "") -> Recording:
    """Read the metadata of a dataset: the one named, or the only one of three axes or more.

    Raises
    ------
    ValueError
        If the file is damaged, holds several such datasets, or its axes cannot be told.
    """
    remedy = "copy the file again, or save the movie as HDF5 if it is of another kind"
    with reading_as(path, "HDF5", remedy, HDF5_ERRORS), open_file(str(path)) as file:
        return _recording(path, _dataset(path, file, inside))


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
    t = axes.index("t")
    written, offsets = _frames(dataset, t)
    lengths = {axis: sizes[axes.index(axis)] if axis in axes else 1 for axis in "cz"}
    frame = (sizes[-2], sizes[-1])
    name, dtype, chunk = dataset.name, dataset.dtype, chunk_shape(dataset)

    def movie(channel: int, z: int) -> FileMovie | DatasetMovie:
        place = tuple({"c": channel, "z": z}.get(axis, 0) for axis in axes)
        if offsets is not None:
            at: tuple[int | slice, ...] = (*place[:t], slice(written), *place[t + 1 : -2])
            plain = PlainFrames(path=str(path), offsets=offsets[at], dtype=dtype)
            return FileMovie.of(plain, written, frame, dtype)
        return DatasetMovie(
            path=str(path),
            dataset=name,
            shape=(written, *frame),
            sizes=sizes,
            dtype=dtype.newbyteorder("="),
            chunk=chunk,
            axes=(t, len(sizes) - 2, len(sizes) - 1),
            place=place,
        )

    position = Position(
        movie=movie,
        channels=(_acquisition(dataset),) * lengths["c"],
        depth=lengths["z"],
        promised=count,
        cut_short=f"only the first {written} of its {count} frames were ever written",
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


def _frames(dataset: "h5py.Dataset", t: int) -> tuple[int, NDArray[np.int64] | None]:
    """Return the frames before the first that was never written, whose pixels HDF5 makes up.

    And where in the file each one begins, over all axes but y and x, if it lies there as it is in
    memory; else None. `t` is the axis of the frames.
    """
    frames, chunks = int(dataset.shape[t]), dataset.chunks
    frame_bytes = prod(map(int, dataset.shape[-2:])) * int(dataset.dtype.itemsize)
    plain = not filters_of(dataset) and is_as_in_memory(dataset)
    # Before a user's block at the start of the file, versions of HDF5 count differently.
    plain = plain and not dataset.file.userblock_size
    if chunks is None:
        first = dataset.id.get_offset()  # of a small dataset within a header there is none
        written = frames if dataset.id.get_storage_size() else 0
        if first is None or not plain:
            return written, None
        numbers = np.arange(prod(dataset.shape[:-2])).reshape(dataset.shape[:-2])
        return written, first + numbers * frame_bytes
    plain = plain and chunks[-2:] == dataset.shape[-2:] and prod(chunks[:-2]) == chunks[t]
    grid = [-(-size // length) for size, length in zip(dataset.shape, chunks, strict=True)]
    if not plain and dataset.id.get_num_chunks() >= prod(grid):
        return frames, None
    places = np.full(grid, -1, np.int64)

    def note(chunk: Any) -> None:
        place = (at // n for at, n in zip(chunk.chunk_offset, chunks, strict=True))
        places[tuple(place)] = chunk.byte_offset

    dataset.id.chunk_iter(note)
    written = min(frames, whole_frames(np.moveaxis(places, t, 0) >= 0) * chunks[t])
    if not plain:
        return written, None
    number, within = np.divmod(np.arange(frames), chunks[t])
    within = within.reshape([-1 if axis == t else 1 for axis in range(dataset.ndim - 2)])
    return written, places[..., 0, 0].take(number, t) + within * frame_bytes
