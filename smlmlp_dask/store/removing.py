"""Remove what an unfinished or interrupted job leaves behind, and nothing else."""

import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from time import sleep

from .durable import PARTIAL
from .metadata import COPY, RECORDS, ROOT
from .outputs import Output


def remove_draft(draft: Path) -> None:
    """Remove an unpublished store; retry, since Zarr's threads may still write for a moment."""
    for _ in range(20):
        shutil.rmtree(draft, ignore_errors=True)
        sleep(0.02)
        if not draft.exists():
            return


def remove_begun(path: Path, outputs: Sequence[Output]) -> None:
    """Remove a store that we began and that holds no block; leave other people's files."""
    for output in outputs:
        for i in range(len(output.dtypes)):
            array = output.array(path, i)
            shutil.rmtree(array / "c", ignore_errors=True)
            for folder in (array, array.parent):
                _remove_folder(folder, ROOT)
        if output.folder:
            _remove_folder(path / output.folder, ROOT)
    _remove_folder(path / RECORDS, ROOT, Path(COPY).name, "journal", "owner", "lock")
    _remove_folder(path, ROOT)


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders that are empty, innermost first."""
    for folder in folders:
        with suppress(OSError):  # somebody else may use the folder by now
            folder.rmdir()


def _remove_folder(folder: Path, *files: str) -> None:
    with suppress(OSError):
        for name in files:
            (folder / name).unlink(missing_ok=True)
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
