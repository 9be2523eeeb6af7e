"""Fill a file with the frames of a stack, so that it has its name only once it is whole.

Pixels are written into the folder ``FILE.part``, with a note of how many frames are on the disk.
"""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from io import FileIO
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.execution.progress import Amount, progress_bar
from smlmlp_dask.messages import one_line, shown
from smlmlp_dask.movies.stack import SourceReadError, Stack
from smlmlp_dask.store.durable import sync_file, sync_folder, write_whole
from smlmlp_dask.store.frames import block_frames
from smlmlp_dask.store.metadata import RECORDS

from .layouts import Layout

NOTE = "state.json"
"""What says how many frames are on the disk."""

OWN_NAMES = {"pixels", RECORDS}
"""What lies in the folder of an interrupted file."""

_DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError)  # of the note

SYNC_BYTES = 2**26
"""Bytes written between two notes of how many frames are on the disk."""


def part_of(file: Path) -> Path:
    """Return the folder in which a file is written."""
    return file.with_name(f"{file.name}.part")


def pixels_of(file: Path) -> Path:
    """Return the file that becomes this one."""
    return part_of(file) / "pixels"


def note_of(file: Path) -> Path:
    """Return the note of how far an interrupted export of a file came."""
    return part_of(file) / RECORDS / NOTE


def may_replace(file: Path) -> bool:
    """Say whether an interrupted export was begun in order to replace a file of this name."""
    with suppress(*_DAMAGE):
        return json.loads(note_of(file).read_bytes())["replaces"] is True
    return False


def remove_part(file: Path) -> None:
    """Remove the folder of a file that is whole; the note, by which this is known, goes last."""
    for each in note_of(file).parent.iterdir():
        if each.name != NOTE:
            each.unlink()
    shutil.rmtree(part_of(file))


def frames_kept(file: Path) -> tuple[int, int] | None:
    """Return how many frames of an interrupted export are on the disk, and of how many."""
    with suppress(*_DAMAGE):
        state = json.loads(note_of(file).read_bytes())
        return int(state["frames"]), int(state["settings"]["shape"][0])
    return None


def fill(
    file: Path,
    stack: Stack,
    layout: Layout,
    identity: dict[str, Any],
    check: Callable[[], object],
    *,
    replaces: bool,
    progress: bool,
) -> None:
    """Write the frames that are missing, bring them to the disk, and give the file its name.

    The folder `part_of` the file is locked. To go on with an interrupted file, `identity` and the
    layout must be the same; `check` is called at the end, and raises if the frames have changed.
    `replaces` allows an earlier file, also where an interrupted export goes on.

    Raises
    ------
    ValueError
        If the interrupted file was begun differently, or is damaged.
    OSError
        If a read or write fails; whole frames are kept.
    """
    pixels, noted = pixels_of(file), note_of(file)
    settings = {
        **identity,
        "shape": list(stack.shape),
        "dtype": stack.dtype.newbyteorder("<").str,
        **layout.settings,
    }
    state: dict[str, Any] = {"settings": settings, "offset": 0, "frames": 0, "replaces": replaces}
    if noted.exists():
        state = _continued(file, noted, settings)
        if not pixels.exists():  # it was ended between its last two steps
            return
    else:
        state["offset"] = layout.begin(pixels)
        sync_folder(part_of(file))
    _fill_pixels(file, stack, state, check, progress=progress)
    if layout.beside and file.exists():  # never an earlier file with the new one's description
        file.unlink()
        sync_folder(file.parent)
    layout.finish(part_of(file) / RECORDS)
    pixels.replace(file)  # else in place of an earlier file, which was whole until now
    sync_folder(file.parent)


def _fill_pixels(
    file: Path, stack: Stack, state: dict[str, Any], check: Callable[[], object], *, progress: bool
) -> None:
    """Write the frames that are missing, and note how many are on the disk."""
    dtype, noted = np.dtype(state["settings"]["dtype"]), note_of(file)
    frame_bytes = _frame_bytes(state["settings"])
    run, (n_frames, height, width) = block_frames(stack), stack.shape
    total = Amount(ceil(n_frames / run), prod(stack.shape))
    done = Amount(state["frames"] // run, state["frames"] * height * width)
    with (
        pixels_of(file).open("r+b", buffering=0) as out,
        progress_bar(total, done, lambda: None, shown=progress) as advance,
    ):

        def note(frames: int) -> None:
            sync_file(out.fileno())
            state["frames"] = frames
            write_whole(noted, json.dumps(state).encode(), synced=True)

        at = state["frames"]
        out.seek(state["offset"] + at * frame_bytes)
        try:
            note(at)
            while at < n_frames:
                until = min(n_frames, (at // run + 1) * run)
                block = stack.part((slice(at, until), slice(None), slice(None))).read()
                _write(out, block.astype(dtype, copy=False))
                advance(block.size)
                at = until
                if (at - state["frames"]) * frame_bytes >= SYNC_BYTES:
                    note(at)
            note(at)
            try:
                check()
            except Exception:
                at = 0  # any frame may have been read after the change
                raise
        except BaseException as error:
            with suppress(OSError):  # such as of a full disk
                note(at)
            if not isinstance(error, OSError) or isinstance(error, SourceReadError):
                raise
            raise OSError(
                f"{file} cannot be written: {one_line(error)}; {state['frames']:,} of "
                f"{n_frames:,} frames are kept: go on by resume=True (--resume)"
            ) from error


def _continued(file: Path, noted: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return how far an interrupted export came; refuse one that was begun differently."""
    part = part_of(file)
    try:
        state: dict[str, Any] = json.loads(noted.read_bytes())
        before = state["settings"]
        different = [key for key in settings if settings[key] != before.get(key)]
        until = state["offset"] + state["frames"] * _frame_bytes(settings)
        named = state["frames"] == settings["shape"][0] and not pixels_of(file).exists()
        size = (file if named else pixels_of(file)).stat().st_size
        short = size != until if named else size < until
    except _DAMAGE as error:
        raise ValueError(f"{part} is damaged ({one_line(error)}): delete it") from error
    if different:
        key = different[0]
        raise ValueError(
            f"{part} was begun with {key} {shown(before.get(key))}, not {shown(settings[key])}: "
            "give what it was begun with, or delete it"
        )
    if short:
        raise ValueError(f"{part} is damaged (it has lost bytes): delete it")
    return state


def _frame_bytes(settings: dict[str, Any]) -> int:
    return int(prod(settings["shape"][1:]) * np.dtype(settings["dtype"]).itemsize)


def _write(out: FileIO, block: NDArray[Any]) -> None:
    """Write all bytes of a block: the system may take a part of them at a time."""
    rest = memoryview(block).cast("B")
    while rest:
        rest = rest[out.write(rest) :]
