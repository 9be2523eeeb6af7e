"""The output group on disk, to be written: begun, gone on with, finished.

The order in which a store reaches the disk: metadata, chunks, records and journal, ``finished``.
So it is finished and whole after a loss of power, or unfinished, and what is missing is known.
"""

import logging
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any
from uuid import uuid4

import numpy as np
import zarr

from smlmlp_dask.blocks import BlockPlan
from smlmlp_dask.movies.stack import SourceReadError

from .checking import Known, check, known, recorded_blocks
from .chunk_files import ChunkFiles, chunk_path
from .codecs import Storage
from .durable import PARTIAL, sync_files, sync_folder, syncing
from .journal import Journal, still_there
from .lock import sole_writer
from .metadata import (
    COPY,
    RECORDS,
    ROOT,
    restore_metadata,
    set_finished,
    versions,
    write_metadata,
)
from .provenance import differences

log = logging.getLogger(__name__)


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
    elsewhere: bool = False,
    check_inputs: Callable[[], None] = lambda: None,
) -> Iterator[StoreWriter]:
    """Create a store, or go on with one, to be filled inside the ``with`` block.

    It is finished only if all blocks are there at the end. After an error, what is done is kept
    for another run to go on with; where nothing is done, nothing is left behind. Of a finished
    store, what is missing or damaged is to be filled again.

    Parameters
    ----------
    path : pathlib.Path
        Where, absolute. Missing parent folders are made.
    plans : sequence of BlockPlan
        How each channel is cut into blocks.
    attributes : mapping
        Everything that determines the bits, as JSON; it goes into the root group's attribute,
        next to ``finished`` and ``versions``.
    storage : Storage
        How chunks are compressed.
    resume : bool
        Go on with what is at `path`, if anything is.
    elsewhere : bool
        Chunks are written by other processes, which bring them to the disk themselves.
    check_inputs : callable
        Called before the store is finished; raises if what was read is no longer what it was.

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
    begun: list[Path] | None = None
    filled = False
    with ExitStack() as held:
        try:
            with _uninterrupted():
                if resume and os.path.lexists(path):
                    _check_same_job(path, attributes)
                    records.mkdir(exist_ok=True)  # it holds the lock, also where it was lost
                else:
                    begun = _create(path, plans, {**attributes, "versions": versions()}, storage)
                held.enter_context(sole_writer(records))
            store = known(path)
            if store.finished and _is_whole(path, store, plans):
                yield StoreWriter([], _all_blocks(plans), lambda *_: None)
            else:
                _restore(path, store)
                with _filling(path, plans, storage, elsewhere) as writer:
                    yield writer
                filled = True
                _check_inputs(check_inputs, records)
                with _uninterrupted():
                    _finish(path, plans, writer.done)
            for name in ("journal", "lock"):
                (records / name).unlink(missing_ok=True)
        except BlockingIOError:
            raise
        except BaseException:
            if begun is not None and not (filled or Journal.read(records / "journal").done):
                _remove_begun(path, len(plans))  # while nobody else can go on with it
                _remove_empty(begun)
            raise
    sync_folder(records)


def _is_whole(path: Path, store: Known, plans: Sequence[BlockPlan]) -> bool:
    """Check a store that says it is finished; make it unfinished where it is not whole.

    Then it has a journal of what is whole, and the rest is filled as after any interruption.
    """
    findings = check(path, store, plans)
    if not findings.problems:
        return True
    for problem in findings.problems:
        log.warning("%s: %s", path, problem)
    with _uninterrupted():
        Journal(path / RECORDS / "journal", dict(findings.whole)).write()
        _restore(path, store)
        set_finished(path, finished=False)
    return False


def _restore(path: Path, store: Known) -> None:
    if store.copy is not None:  # as of versions that kept one
        restore_metadata(path, store.copy)


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
def _filling(
    path: Path, plans: Sequence[BlockPlan], storage: Storage, elsewhere: bool
) -> Iterator[StoreWriter]:
    arrays = [path / f"channel_{i}" / "0" for i in range(len(plans))]
    _remove_partials(path, arrays)
    targets = [
        ChunkFiles(array, plan.chunks, storage, synced=elsewhere)
        for array, plan in zip(arrays, plans, strict=True)
    ]
    journal = still_there(Journal.read(path / RECORDS / "journal"), plans, arrays)
    due = recorded_blocks(path, plans)  # of a store that was finished once, and was damaged
    with journal.appending() as lines:

        def sync(files: Sequence[Path]) -> None:
            sync_files(files, path)
            lines.sync()

        with syncing(sync) as take:

            def add(channel: int, number: int, checksums: Sequence[int]) -> None:
                if due.get((channel, number), checksums) != checksums:
                    raise SourceReadError(
                        f"{arrays[channel]}: block {number} does not come out as it was recorded "
                        "before it was damaged: restore the movie as it was, or write to another "
                        "destination"
                    )
                lines.add(channel, number, checksums)
                if not elsewhere:
                    block = plans[channel].nth_block(number)
                    places = plans[channel].chunks_of(block)
                    take(chunk_path(arrays[channel], place) for place in places)

            yield StoreWriter(targets, journal.done, add)
        lines.sync()
    _remove_partials(path, arrays)


def _check_inputs(check_inputs: Callable[[], None], records: Path) -> None:
    """Let no block count where what was read has changed: nobody knows which came before that."""
    try:
        check_inputs()
    except BaseException:
        Journal(records / "journal").write()
        raise


def _remove_begun(path: Path, n_channels: int) -> None:
    """Remove a store that was begun here and holds nothing; what others put there stays."""
    for i in range(n_channels):
        array = path / f"channel_{i}" / "0"
        shutil.rmtree(array / "c", ignore_errors=True)
        for folder in (array, array.parent):
            _remove_folder(folder, ROOT)
    _remove_folder(path / RECORDS, ROOT, Path(COPY).name, "journal", "owner", "lock")
    _remove_folder(path, ROOT)


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # somebody else may use it by now
            folder.rmdir()


def _remove_folder(folder: Path, *files: str) -> None:
    with suppress(OSError):
        for name in files:
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


_PARTIAL_NAME = re.compile(rf".*\.[0-9a-f]{{32}}{re.escape(PARTIAL)}")


def _remove_partials(path: Path, arrays: Sequence[Path]) -> None:
    """Remove what a run, or a worker, was about to rename when it was killed."""
    folders = [path, path / RECORDS, *arrays, *(array.parent for array in arrays)]
    found = [folder.glob(f"*{PARTIAL}") for folder in folders]
    found += [array.joinpath("c").rglob(f"*{PARTIAL}") for array in (path / RECORDS, *arrays)]
    for partial in chain.from_iterable(found):
        if _PARTIAL_NAME.fullmatch(partial.name):  # and nothing of anybody else's
            partial.unlink(missing_ok=True)


def _check_same_job(path: Path, attributes: Mapping[str, Any]) -> None:
    differing = differences(known(path).attributes, attributes)
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
    # Made under a name that nobody has, and renamed: what is at `path` is a whole store, empty or
    # not, whenever we are killed.
    draft = path.with_name(f".{path.name}.{uuid4().hex[:12]}.new")
    try:
        draft.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        write_metadata(draft, plans, attributes, storage)
        sync_files(draft.rglob("*.json"), draft)
        if os.path.lexists(path):
            raise FileExistsError(f"the destination {path} exists: choose another path")
        draft.rename(path)
        names = [sync_folder(folder) for folder in (path.parent, *(p.parent for p in new_parents))]
    except BaseException as error:
        _remove_begun(draft, len(plans))
        _remove_empty(new_parents)
        if isinstance(error, FileExistsError) or not isinstance(error, OSError):
            raise
        raise type(error)(
            f"the destination {path} cannot be written ({error.strerror or error}): "
            "choose a folder that you may write to"
        ) from error
    if not all(names):
        log.info(
            "the file system of %s cannot bring names to the disk: after a loss of power, check "
            "the store by smlmlp-dask verify",
            path.parent,
        )
    return new_parents


def _finish(
    path: Path, plans: Sequence[BlockPlan], done: Mapping[tuple[int, int], list[int]]
) -> None:
    """Write the records, and say ``finished``: that last, once all else is on the disk."""
    grids = [np.zeros(plan.grid, np.uint32) for plan in plans]
    for channel, (grid, plan) in enumerate(zip(grids, plans, strict=True)):
        for block in plan.blocks():
            checksums = done[channel, block.number]
            for place, checksum in zip(plan.chunks_of(block), checksums, strict=True):
                grid[place] = checksum
    records: Any = zarr.open_array(path / RECORDS, mode="r+")
    records[:] = np.concatenate([grid.ravel() for grid in grids])
    sync_files((path / RECORDS / "c").glob("*"), path)
    set_finished(path, finished=True)
