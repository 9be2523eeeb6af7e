"""Paths as callers write them: made absolute; URLs are refused."""

import difflib
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from .messages import shown

_SUFFIXES = """
.tif .tiff .btf .tf2 .tf8 .stk .raw .dat .bin .h5 .hdf5 .hdf .ims .nd2 .czi .lif .oib .oir .sif
.dcimg .spe .cine .seq .oif .vsi .mat .npy .npz .png .jpg .jpeg .gif .bmp .svg .pdf .avi .mp4 .csv
.tsv .txt .md .json .yaml .yml .xml .html .zip .tar .tgz .gz .bz2 .xz .7z
"""
FILE_SUFFIXES = frozenset(_SUFFIXES.split())
"""Endings, in lower case, of files: users would mistake a store of such a name for a file."""

_NAMES_COMPARED = 10_000
"""Most names that a missing one is compared with: some folders hold millions of frames."""

# At least two letters, to let the drive C:/ pass; one slash, as pathlib turns :// into :/.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]+:(?:/|$)")


def local_path(value: Any, name: str = "path") -> Path:
    """Return a path with ``~`` expanded; a relative path stays relative.

    Raises
    ------
    TypeError
        If the value, which `name` names in messages, is not a path.
    ValueError
        If it looks like a URL, or its home folder does not exist.
    """
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise TypeError(
            f"the {name} {shown(value)} is of type {type(value).__name__}: pass the path of a "
            "local file or folder"
        )
    text = os.fspath(value)
    if _URL.match(text):
        raise ValueError(
            f"the {name} {text} looks like a URL, and only local paths are read and written: "
            "mount the storage, or copy the data to a local folder, and pass that path"
        )
    path = Path(text)
    home = path.parts[0] if path.parts else ""
    if not home.startswith("~"):
        return path
    try:
        return path.expanduser()
    except RuntimeError:
        if len(path.parts) == 1 or os.path.lexists(home):  # a file may be named ~movie.tif
            return path
        raise ValueError(
            f"the {name} {text} begins with {home}, and there is no such home folder: write the "
            "path in full"
        ) from None


def absolute_path(value: Any, name: str = "path") -> Path:
    """Return a path that names the same file from any folder and in other processes.

    It resolves ``..`` as the system does and keeps other links. ``os.path.abspath`` would take
    ``link/../movie.tif`` for a file beside the link. Parameters and errors are `local_path`'s.
    """
    path = local_path(value, name).absolute()
    plain = Path(path.anchor)
    for part in path.parts[1:]:
        if part != ".." or not os.path.isdir(plain):  # noqa: PTH112 - it never raises
            plain /= part  # keeps a .. after a pattern or a missing folder, too
        else:
            plain = (plain.resolve() if plain.is_symlink() else plain).parent
    return plain


def mistyped(path: Path) -> str:
    """Ask whether a missing path stands for the one beside it that is named most alike.

    Nothing is asked if none is: it must have the same name up to the ending, or few other letters.
    """
    names: list[str] = []
    with suppress(OSError), os.scandir(path.parent) as entries:
        names = [entry.name for entry in islice(entries, _NAMES_COMPARED)]
    near = sorted(name for name in names if Path(name).stem == path.name)
    near += difflib.get_close_matches(path.name, names, n=1, cutoff=0.85)
    return f"did you mean {near[0]}?" if near else ""


def store_path(value: Any) -> Path:
    """Return the absolute path of a store to write; refuse the name of a file.

    A path that exists may have any name: the caller decides about it. Errors are `local_path`'s.
    """
    path = absolute_path(value, "destination")
    if path.suffix.lower() in FILE_SUFFIXES and not os.path.lexists(path):
        raise ValueError(
            f"the destination {path} ends in {path.suffix}, as a file does: a store is a folder, "
            f"usually named NAME.zarr, such as {path.with_suffix('.zarr').name}"
        )
    return path


def refuse_existing(file: Path, *, overwrite: bool, resumes: str = "") -> None:
    """Raise `FileExistsError` if something is where a file is to be written.

    With `overwrite` a plain file may be there, to be replaced. `resumes` says what ``--resume``
    goes on with, for commands that have it.
    """
    if not os.path.lexists(file):
        return
    if file.is_symlink() or not file.is_file():
        what = "link" if file.is_symlink() else "folder" if file.is_dir() else "device"
        raise FileExistsError(f"{file} exists and is a {what}: choose another name")
    if not overwrite:
        resume = f"go on with {resumes} by resume=True (--resume), " if resumes else ""
        raise FileExistsError(
            f"{file} exists: {resume}replace it by overwrite=True (--overwrite), or choose "
            "another name"
        )


def refuse_inside(path: Path, folders: Iterable[Path], name: str) -> None:
    """Raise `ValueError` if a file to write is one of these, or lies inside one of them.

    They are files and folders, under any spelling; missing ones are skipped. `name` is the file's
    in messages.
    """
    for folder in folders:
        if lies_in(path, folder):
            where = "is" if path.exists() and path.samefile(folder) else "lies inside"
            raise ValueError(
                f"the {name} {path} {where} {folder}, which must stay as it is: write elsewhere, "
                "by --output"
            )


def lies_in(path: Path, other: Path) -> bool:
    """Say whether a path is another, or lies inside it, under any spelling, link or mount."""
    return other.exists() and any(
        above.exists() and above.samefile(other)
        for above in (path, *path.absolute().parents, *path.resolve().parents)
    )
