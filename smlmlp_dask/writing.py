"""The output group on disk, to be written: begun, gone on with, finished."""

import os
import platform
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from math import prod
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any

import numpy as np
import zarr

from .chunk_files import PARTIAL, ChunkFiles
from .chunks import BlockPlan
from .records import Journal, differences, sole_writer, still_there
from .storage import Storage
from .store import ATTRIBUTE, RECORDS, read_attributes


@dataclass(frozen=True)
class StoreWriter:
    """A store that is being filled.

    Attributes
    ----------
    targets : list of ChunkFiles
        Where the backgrounds go, one per channel.
    done : container of (int, int)
        (channel, number of the block) of every block that is there already.
    add : callable
        ``add(channel, number, checksums)`` notes that a block is there.
    """

    targets: list[ChunkFiles]
    done: Mapping[tuple[int, int], list[int]]
    add: Callable[[int, int, Sequence[int]], None]


def check_destination(path: Path, inputs: Sequence[Path], *, may_exist: bool = False) -> None:
    """Refuse a destination that exists, or that lies on or inside an input.

    Parameters
    ----------
    path : pathlib.Path
        Where the store is to be written.
    inputs : sequence of pathlib.Path
        Existing files and folders that will be read.
    may_exist : bool
        Let something be there: a store to go on with.

    Raises
    ------
    FileExistsError
        If something is there already.
    ValueError
        If `path` is an input or lies inside one, under whatever spelling, link or mount.
    """
    for source in inputs:
        for ancestor in (path, *path.absolute().parents, *path.resolve().parents):
            if ancestor.exists() and ancestor.samefile(source):
                raise ValueError(
                    f"the destination {path} is the input {source} or lies inside it: "
                    "write elsewhere"
                )
    if os.path.lexists(path) and not may_exist:
        raise FileExistsError(
            f"the destination {path} exists: choose another path, or go on with an interrupted "
            "run by resume=True (--resume)"
        )


@contextmanager
def writing(
    path: Path,
    plans: Sequence[BlockPlan],
    attributes: Mapping[str, Any],
    storage: Storage,
    *,
    resume: bool = False,
) -> Iterator[StoreWriter]:
    """Create a store, or go on with one, to be filled inside the ``with`` block.

    It is finished only if all blocks are there at the end. After an error, what is done is kept
    for another run to go on with; where nothing is done, nothing is left behind.

    Parameters
    ----------
    path : pathlib.Path
        Where. Missing parent folders are made.
    plans : sequence of BlockPlan
        How each channel is cut into blocks.
    attributes : mapping
        Everything that determines the bits, as JSON; it goes into the root group's attribute,
        next to ``finished`` and ``versions``.
    storage : Storage
        How chunks are compressed.
    resume : bool
        Go on with what is at `path`, if anything is.

    Raises
    ------
    FileExistsError
        If something is at `path` and `resume` is False.
    ValueError
        If what is there was begun with other attributes, or is no such store.
    BlockingIOError
        If another run is writing there.
    OSError
        If it cannot be written.
    """
    records = path / RECORDS
    created = None
    try:
        if resume and os.path.lexists(path):
            _check_same_job(path, attributes)
        else:
            with _uninterrupted():
                created = _create(path, plans, {**attributes, "versions": versions()}, storage)
        with sole_writer(records):
            with _uninterrupted():
                finished = read_attributes(path).get("finished") is True  # by now
            if finished:
                yield StoreWriter([], _all_blocks(plans), lambda *_: None)
            else:
                with _filling(path, plans, storage) as writer:
                    yield writer
            for name in ("journal", "lock"):
                (records / name).unlink(missing_ok=True)
    except BlockingIOError:
        raise
    except BaseException:
        if created is not None and not Journal.read(records / "journal").done:
            _remove(path, created)
        raise


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold back Ctrl-C and SIGTERM for a moment, in which Zarr writes from a thread of its own.

    That thread would go on writing what is being removed.
    """
    held: list[int] = []
    previous = {}
    if current_thread() is main_thread():  # no other is interrupted, or may ask
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, lambda number, _: held.append(number))
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for caught in held:
            signal.raise_signal(caught)


@contextmanager
def _filling(path: Path, plans: Sequence[BlockPlan], storage: Storage) -> Iterator[StoreWriter]:
    _remove_partials(path)
    # absolute: a worker may run in another folder
    arrays = [path.absolute() / f"channel_{i}" / "0" for i in range(len(plans))]
    targets = [
        ChunkFiles(array, plan.chunks, storage) for array, plan in zip(arrays, plans, strict=True)
    ]
    journal = still_there(Journal.read(path / RECORDS / "journal"), plans, arrays)
    with journal.appending() as writer:
        yield StoreWriter(targets, journal.done, writer.add)
    _remove_partials(path)
    with _uninterrupted():
        _finish(path, plans, journal)


def versions() -> dict[str, str]:
    """Return the versions of what computed and wrote the pixels."""
    packages = ("smlmlp-dask", "numpy", "scipy", "dask", "dask-image", "numba", "zarr")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _remove(path: Path, new_parents: Sequence[Path]) -> None:
    shutil.rmtree(path, ignore_errors=True)
    for parent in new_parents:
        with suppress(OSError):  # somebody else may use it by now
            parent.rmdir()


def _remove_partials(path: Path) -> None:
    """Remove what a run, or a worker, was about to rename when it was killed."""
    for partial in path.rglob(f"*{PARTIAL}"):
        partial.unlink(missing_ok=True)


def _check_same_job(path: Path, attributes: Mapping[str, Any]) -> None:
    differing = differences(read_attributes(path), attributes)
    if differing:
        raise ValueError(
            f"{path} was begun differently: {'; '.join(differing)}: run it as it was begun, or "
            "choose another destination"
        )


def _all_blocks(plans: Sequence[BlockPlan]) -> dict[tuple[int, int], list[int]]:
    return {(i, n): [] for i, plan in enumerate(plans) for n in range(plan.n_blocks)}


def _create(
    path: Path, plans: Sequence[BlockPlan], attributes: Mapping[str, Any], storage: Storage
) -> list[Path]:
    """Make an empty store; return the parent folders made for it, innermost first."""
    new_parents = [parent for parent in path.parents if not parent.exists()]
    above = path.parents[len(new_parents)]
    if not above.is_dir():
        raise NotADirectoryError(
            f"the destination {path} cannot be written: {above} is a file; choose another folder"
        )
    # Made under another name and renamed: what is at `path` is a store, whenever we are killed.
    draft = path.with_name(f".{path.name}.new")
    try:
        (draft / RECORDS).mkdir(parents=True, exist_ok=True)
        with sole_writer(draft / RECORDS):
            _remove_metadata(draft)  # of a run that was killed here
            _write_metadata(draft, plans, attributes, storage)
            if os.path.lexists(path):
                raise FileExistsError(f"the destination {path} exists: choose another path")
            draft.rename(path)
    except BlockingIOError:
        raise
    except BaseException as error:
        _remove(draft, new_parents)
        if isinstance(error, FileExistsError) or not isinstance(error, OSError):
            raise
        raise type(error)(
            f"the destination {path} cannot be written ({error.strerror or error}): "
            "choose a folder that you may write to"
        ) from error
    return new_parents


def _remove_metadata(draft: Path) -> None:
    for metadata in draft.rglob("zarr.*"):
        metadata.unlink()


def _write_metadata(
    path: Path, plans: Sequence[BlockPlan], attributes: Mapping[str, Any], storage: Storage
) -> None:
    names = [f"channel_{i}" for i in range(len(plans))]
    # The root lists every channel too, so that a viewer pointed at it finds something to show.
    everything = _image({name: f"{name}/0" for name in names})
    root = zarr.create_group(
        path,
        zarr_format=3,
        attributes={"ome": everything, ATTRIBUTE: {**attributes, "finished": False}},
    )
    for name, plan in zip(names, plans, strict=True):
        root.create_group(name, attributes={"ome": _image({name: "0"})}).create_array(
            "0",
            shape=plan.shape,
            chunks=plan.chunks,
            dtype="float32",
            compressors=storage.compressors,
            fill_value=float("nan"),
            dimension_names=("t", "y", "x"),
        )
    n_chunks = sum(prod(plan.grid) for plan in plans)
    root.create_array(
        RECORDS,
        shape=(n_chunks,),
        chunks=(max(1, n_chunks),),
        dtype="uint32",
        fill_value=0,
        attributes={
            "description": "CRC-32C of every chunk: channel after channel, grid in C order"
        },
    )


def _image(paths: Mapping[str, str]) -> Any:
    """Describe channels by name and path; neither frame interval nor pixel size is known here."""
    from yaozarrs import v05  # a sixth of a second, which only writing needs

    axes: list[Any] = [v05.TimeAxis(name="t"), v05.SpaceAxis(name="y"), v05.SpaceAxis(name="x")]
    scale = v05.ScaleTransformation(scale=[1.0, 1.0, 1.0])
    image = v05.Image(
        multiscales=[
            v05.Multiscale(
                name=name,
                axes=axes,
                datasets=[v05.Dataset(path=path, coordinateTransformations=[scale])],
            )
            for name, path in paths.items()
        ]
    )
    return image.model_dump(mode="json", by_alias=True, exclude_none=True)


def _finish(path: Path, plans: Sequence[BlockPlan], journal: Journal) -> None:
    root = zarr.open_group(path, mode="r+")
    grids = [np.zeros(plan.grid, np.uint32) for plan in plans]
    for grid, plan, channel in zip(grids, plans, range(len(plans)), strict=True):
        for block in plan.blocks():
            checksums = journal.done[channel, block.number]
            for place, checksum in zip(plan.chunks_of(block), checksums, strict=True):
                grid[place] = checksum
    records: Any = root[RECORDS]
    records[:] = np.concatenate([grid.ravel() for grid in grids])
    attributes: Any = root.attrs[ATTRIBUTE]
    root.attrs[ATTRIBUTE] = {**attributes, "finished": True}
