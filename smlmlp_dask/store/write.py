"""Write a store: begin it, resume it, finish it.

It reaches the disk in this order: metadata, chunks, journal and records, ``finished``. So after a
loss of power it is finished and whole, or unfinished, with a journal of what is done.
"""

import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any
from uuid import uuid4

import zarr

from smlmlp_dask.blocks import BlockPlan
from smlmlp_dask.movies.stack import SourceReadError
from smlmlp_dask.paths import lies_in

from .checking import Findings, StoreMetadata, check, read_metadata, recorded_blocks, records_of
from .chunk_files import ChunkFiles
from .codecs import Storage
from .durable import not_written, sync_files, sync_folder, syncing
from .journal import Journal, without_lost_blocks
from .lock import sole_writer
from .metadata import (
    RECORDS,
    restore_metadata,
    set_finished,
    versions,
    write_metadata,
)
from .outputs import arrays_of, counts_clipped, stored_outputs, writers_of
from .provenance import differences
from .removing import (
    check_replaceable,
    remove_begun,
    remove_draft,
    remove_empty,
    remove_partials,
    remove_store,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoreWriter:
    """A store that is being filled.

    Attributes
    ----------
    targets : list of tuple of ChunkFiles
        Writers of each channel, one for each output.
    done : mapping
        (channel, number of the block) → its numbers, for every block that is done already.
    add : callable
        ``add(channel, number, numbers)`` records that a block is done. Its numbers are its chunks'
        checksums, output after output, and for a signal on a pedestal its clipped pixels.
    """

    targets: list[tuple[ChunkFiles, ...]]
    done: Mapping[tuple[int, int], list[int]]
    add: Callable[[int, int, Sequence[int]], None]


def check_destination(
    path: Path, inputs: Sequence[Path], *, resume: bool = False, overwrite: bool = False
) -> None:
    """Refuse a destination that exists, or that lies on or inside an input.

    With `resume` it may exist; with `overwrite` a store of ours may, without a file of others.

    Raises
    ------
    FileExistsError
        If `path` exists already, and is not to be resumed or may not be replaced.
    ValueError
        If `path` is an input or lies inside one, under any spelling, link or mount; or if it is
        to be replaced and holds one; or if it is to be both resumed and replaced.
    """
    refuse_both(resume=resume, overwrite=overwrite)
    for source in inputs:
        if lies_in(path, source):
            raise ValueError(
                f"the destination {path} is the input {source} or lies inside it: write elsewhere"
            )
        if overwrite and lies_in(source, path):
            raise ValueError(
                f"the destination {path} holds the input {source}, which must stay as it is: "
                "write elsewhere"
            )
    if resume or not os.path.lexists(path):
        return
    if not overwrite:
        raise FileExistsError(
            f"the destination {path} exists: resume an interrupted run with resume=True "
            "(--resume), replace it with overwrite=True (--overwrite), or choose another path"
        )
    check_replaceable(path)


def refuse_both(*, resume: bool, overwrite: bool) -> None:
    """Refuse to go on with what is to be replaced."""
    if resume and overwrite:
        raise ValueError(
            "resume and overwrite (--resume and --overwrite) contradict each other: give one of "
            "them"
        )


@contextmanager
def writing(
    path: Path,
    plans: Sequence[BlockPlan],
    attributes: Mapping[str, Any],
    storage: Storage,
    *,
    resume: bool = False,
    overwrite: bool = False,
    elsewhere: bool = False,
    found: Findings | None = None,
    check_inputs: Callable[[], None] = lambda: None,
    ranges: Callable[[], Mapping[str, Any]] = dict,
) -> Iterator[StoreWriter]:
    """Create a store or resume one; the ``with`` block fills it.

    The block must add every block that is not done; then the store is finished. After an error,
    finished blocks stay for another run to resume; if there are none, the store is removed. A
    finished store is checked, and only missing or damaged blocks are to be filled again.

    Parameters
    ----------
    path : pathlib.Path
        The store, absolute. Missing parent folders are made.
    plans : sequence of BlockPlan
        How each channel is cut into blocks.
    attributes : mapping
        Everything that determines the bits, as JSON; it goes into the root group's attribute,
        next to ``finished`` and ``versions``.
    storage : Storage
        How chunks are encoded.
    resume : bool
        Resume the store at `path`, if one exists.
    overwrite : bool
        Remove the store at `path`, if one exists, once the new one has been begun beside it.
    elsewhere : bool
        Other processes write the chunks and bring them to the disk themselves.
    found : Findings, optional
        What is damaged, if a finished store was checked already; it is not read again then.
    check_inputs : callable
        Called before the store is finished; raises if a source has changed.
    ranges : callable
        Called when the store is begun: further attributes, which do not determine the bits.

    Raises
    ------
    FileExistsError
        If `path` exists, and `resume` and `overwrite` are False.
    ValueError
        If `path` was begun with other attributes, or is not a store of backgrounds.
    BlockingIOError
        If another run is writing it.
    OSError
        If it cannot be written.
    """
    records = path / RECORDS
    new_parents: list[Path] | None = None  # None unless this run began the store
    filled = False
    with ExitStack() as held:
        try:
            anew = not (resume and os.path.lexists(path))
            if anew:
                attributes = {**attributes, **ranges()}
            with _uninterrupted():
                if anew:
                    recorded = {**attributes, "versions": versions()}
                    new_parents = _create(path, plans, recorded, storage, overwrite)
                else:
                    _check_same_job(path, attributes)
                    records.mkdir(exist_ok=True)  # for the lock, if the folder was lost
                held.enter_context(sole_writer(records))
            store = read_metadata(path)
            findings = (found or check(path, store, plans)) if store.finished else None
            if findings is not None and not findings.problems:
                yield StoreWriter([], _all_blocks(plans), lambda *_: None)
            else:
                with _uninterrupted():
                    _mend_metadata(path, store, findings)
                with _filling(path, plans, attributes, storage, elsewhere) as writer:
                    yield writer
                filled = True
                _check_inputs(check_inputs, records)
                with _uninterrupted():
                    _finish(path, plans, attributes, writer.done)
            for name in ("journal", "lock"):
                (records / name).unlink(missing_ok=True)
        except BlockingIOError:
            raise
        except BaseException:
            if new_parents is not None and not (filled or Journal.read(records / "journal").done):
                # while we still hold the lock
                remove_begun(path)
                remove_empty(new_parents)
            raise
    sync_folder(records)


def _mend_metadata(path: Path, store: StoreMetadata, findings: Findings | None) -> None:
    """Write damaged metadata anew, and make a finished store that is damaged unfinished.

    Its journal then lists the whole blocks, and the rest is filled as after any interruption.
    """
    if findings is not None:
        for problem in findings.problems:
            log.warning("%s: %s", path, problem)
        Journal(path / RECORDS / "journal", dict(findings.whole)).write()
    if store.copy is not None:
        restore_metadata(path, store.copy)
    if findings is not None:
        set_finished(path, finished=False)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold back Ctrl-C and SIGTERM while Zarr writes from its own thread.

    Otherwise that thread would still write while we remove the store.
    """
    held: list[int] = []
    previous = {}
    if current_thread() is main_thread():  # only it gets signals, and may set their handlers
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
    path: Path,
    plans: Sequence[BlockPlan],
    attributes: Mapping[str, Any],
    storage: Storage,
    elsewhere: bool,
) -> Iterator[StoreWriter]:
    """Yield a writer of the blocks that the journal lacks; record each block that is added."""
    outputs = stored_outputs(attributes, len(plans))
    placed = arrays_of(path, outputs, plans)
    arrays = [of_output.array for own in placed for of_output in own]
    remove_partials(path, arrays)
    targets = writers_of(placed, outputs, storage, synced=elsewhere)
    begun = Journal.read(path / RECORDS / "journal")
    journal = without_lost_blocks(begun, placed, counted=counts_clipped(attributes))
    recorded = recorded_blocks(path, plans, attributes)  # {} unless the store was finished before
    with journal.appending() as lines:

        def sync(files: Sequence[Path]) -> None:
            sync_files(files, path)
            lines.sync()

        with syncing(sync) as sync_later:

            def add(channel: int, number: int, checksums: Sequence[int]) -> None:
                if recorded.get((channel, number), checksums) != checksums:
                    raise SourceReadError(
                        f"{placed[channel][0].array}: block {number}, computed again, differs from "
                        "its record: restore the movie as it was, or write to another destination"
                    )
                lines.add(channel, number, checksums)
                if not elsewhere:
                    sync_later(file for own in placed[channel] for file in own.files_of(number))

            yield StoreWriter(targets, journal.done, add)
        lines.sync()
    remove_partials(path, arrays)


def _check_inputs(check_inputs: Callable[[], None], records: Path) -> None:
    """Empty the journal if a source has changed: any block may have been read after that."""
    try:
        check_inputs()
    except BaseException:
        Journal(records / "journal").write()
        raise


def _check_same_job(path: Path, attributes: Mapping[str, Any]) -> None:
    differing = differences(read_metadata(path).attributes, attributes)
    if differing:
        raise ValueError(
            f"{path} was begun differently: {'; '.join(differing)}: run it as it was begun, "
            "replace it with overwrite=True (--overwrite), or choose another destination"
        )


def _all_blocks(plans: Sequence[BlockPlan]) -> dict[tuple[int, int], list[int]]:
    return {(i, n): [] for i, plan in enumerate(plans) for n in range(plan.n_blocks)}


def _create(
    path: Path,
    plans: Sequence[BlockPlan],
    attributes: Mapping[str, Any],
    storage: Storage,
    overwrite: bool,
) -> list[Path]:
    """Make an empty store; return the parent folders made for it, innermost first."""
    new_parents = [parent for parent in path.parents if not parent.exists()]
    above = path.parents[len(new_parents)]
    if not above.is_dir():
        raise NotADirectoryError(
            f"the destination {path} cannot be written: {above} is a file; choose another folder"
        )
    # Write under a unique name and rename: whenever we are killed, `path` has complete metadata.
    draft = path.with_name(f".{path.name}.{uuid4().hex[:12]}.new")
    try:
        draft.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        write_metadata(draft, plans, attributes, storage)
        sync_files(draft.rglob("*.json"), draft)
        if os.path.lexists(path) and overwrite:
            with sole_writer(path / RECORDS):  # no other run may be writing it
                remove_store(path)
        if os.path.lexists(path):
            raise FileExistsError(f"the destination {path} exists: choose another path")
        draft.rename(path)
        names = [sync_folder(folder) for folder in (path.parent, *(p.parent for p in new_parents))]
    except BaseException as error:
        remove_draft(draft)
        remove_empty(new_parents)
        if isinstance(error, FileExistsError | BlockingIOError) or not isinstance(error, OSError):
            raise
        raise not_written(f"the destination {path}", error) from error
    if not all(names):
        log.info(
            "the file system of %s cannot bring names to the disk: after a loss of power, check "
            "the store by smlmlp-dask verify",
            path.parent,
        )
    return new_parents


def _finish(
    path: Path,
    plans: Sequence[BlockPlan],
    attributes: Mapping[str, Any],
    done: Mapping[tuple[int, int], list[int]],
) -> None:
    """Write the records, then set ``finished`` once everything else is on the disk."""
    records: Any = zarr.open_array(path / RECORDS, mode="r+")
    records[:] = records_of(plans, attributes, done)
    sync_files((path / RECORDS / "c").glob("*"), path)
    set_finished(path, finished=True)
