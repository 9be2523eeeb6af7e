"""Remove what an unfinished or interrupted job leaves behind, and nothing else."""

import os
import re
import shutil
from collections.abc import Collection, Container, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from time import sleep

from .durable import PARTIAL, sync_folder
from .metadata import COPY, RECORDS, ROOT, read_copy


def remove_draft(draft: Path) -> None:
    """Remove an unpublished store; retry, since Zarr's threads may still write for a moment."""
    for _ in range(20):
        shutil.rmtree(draft, ignore_errors=True)
        sleep(0.02)
        if not draft.exists():
            return


def check_replaceable(path: Path) -> None:
    """Refuse to replace anything but a store of ours in which nobody else keeps a file.

    Raises
    ------
    FileExistsError
        It says what is there.
    """
    files = None if path.is_symlink() else read_copy(path)
    if files is None:
        what = "is a link" if path.is_symlink() else "is no whole store of this program"
        raise FileExistsError(
            f"{path} {what}, and overwrite=True (--overwrite) replaces nothing else: choose "
            "another path, or remove it yourself"
        )
    if (foreign := next(_foreign(path, files), None)) is not None:
        raise FileExistsError(
            f"{foreign} is not of the store {path}, which overwrite=True (--overwrite) would "
            "remove with all that is in it: move that file, or choose another path"
        )


_CHUNK = re.compile(r"c(/\d+)+")
_BESIDE_RECORDS = {Path(COPY), *(Path(RECORDS, name) for name in ("journal", "owner", "lock"))}


def _foreign(path: Path, files: Collection[str]) -> Iterator[Path]:
    """Yield what lies in the folder of a store and is not of it."""
    arrays = {Path(file).parent for file in files}
    for folder, folders, names in os.walk(path):
        within = Path(folder).relative_to(path)
        for name in names:
            if not (_is_own(within / name, files, arrays) or name == ".DS_Store"):
                yield path / within / name
        yield from (at for name in folders if (at := path / within / name).is_symlink())


def _is_own(file: Path, files: Container[str], arrays: Container[Path]) -> bool:
    """Say whether a store has a file of this name: one of the metadata, a chunk of its arrays."""
    if file.as_posix() in files or file in _BESIDE_RECORDS or _PARTIAL_NAME.fullmatch(file.name):
        return True
    return any(
        array in arrays and _CHUNK.fullmatch(file.relative_to(array).as_posix())
        for array in file.parents
    )


def remove_store(path: Path) -> None:
    """Remove a store, or what an interrupted call has left of it: the records tell, and go last."""
    check_replaceable(path)
    (path / ROOT).unlink(missing_ok=True)  # nobody shall take the rest for a finished store
    sync_folder(path)  # not even after a loss of power
    for child in path.iterdir():
        if child.name != RECORDS and child.is_dir():
            shutil.rmtree(child)
    shutil.rmtree(path)


def remove_begun(path: Path) -> None:
    """Remove a store that we began and that holds no block; leave other people's files."""
    files = read_copy(path) or {}
    arrays = {Path(file).parent for file in files}
    for folder, _, names in os.walk(path, topdown=False):
        with suppress(OSError):
            for name in names:
                if _is_own(Path(folder, name).relative_to(path), files, arrays):
                    Path(folder, name).unlink(missing_ok=True)
            Path(folder).rmdir()


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders that are empty, innermost first."""
    for folder in folders:
        with suppress(OSError):  # somebody else may use the folder by now
            folder.rmdir()


_PARTIAL_NAME = re.compile(rf".*\.[0-9a-f]{{32}}{re.escape(PARTIAL)}")


def remove_partials(path: Path, arrays: Sequence[Path]) -> None:
    """Remove the partial files of killed runs and workers."""
    folders = [path, path / RECORDS, *arrays, *(array.parent for array in arrays)]
    found = [folder.glob(f"*{PARTIAL}") for folder in folders]
    found += [array.joinpath("c").rglob(f"*{PARTIAL}") for array in (path / RECORDS, *arrays)]
    for partial in chain.from_iterable(found):
        if _PARTIAL_NAME.fullmatch(partial.name):  # leave other people's files
            partial.unlink(missing_ok=True)
