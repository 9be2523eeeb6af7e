"""TIFF: one file, the set that it belongs to, or a folder of files."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tifffile import natural_sorted

from smlmlp_dask.movies.recording import Recording

from .frames import open_file
from .micromanager import is_mmstack, mmstack_files, open_mmstack
from .ndtiff import is_ndtiff, open_ndtiff
from .ome_xml import Ome
from .table import TIFF_SUFFIXES
from .tiff_file import check_description, is_whole, parsing
from .tiff_folder import join
from .tiff_ome import (
    is_companion,
    is_ome_set,
    ome_files,
    ome_in,
    ome_of,
    open_ome_set,
)
from .tiff_single import Single, single

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def is_tiff(path: Path) -> bool:
    """Say whether a file is a TIFF, by its ending or its first bytes."""
    if path.suffix.lower() in TIFF_SUFFIXES:
        return True
    with path.open("rb") as file:
        return file.read(4) in _MAGIC


def tiff_names(folder: Path, files: Iterable[Path] | None = None) -> list[str]:
    """Return the visible TIFF files as names relative to `folder`, in natural order (2 before 10).

    `files` are those that are meant: by default all of the folder.

    Raises
    ------
    FileNotFoundError
        If one is a link to nothing, so that frames of the movie are missing.
    """
    names = []
    for file in folder.iterdir() if files is None else files:
        if file.name.startswith(".") or file.suffix.lower() not in TIFF_SUFFIXES:
            continue
        if file.is_file():
            names.append(file.relative_to(folder).as_posix())
        elif file.is_symlink() and not file.exists():
            raise FileNotFoundError(
                f"{file} is a link to a file that does not exist: restore that file, or remove the "
                "link"
            )
    return natural_sorted(names)


def recognises(path: Path) -> bool:
    """Say whether a path is a TIFF, a file that describes some, or a folder of TIFFs."""
    if path.is_file():
        return is_tiff(path) or is_companion(path)
    return bool(tiff_names(path))


def files(path: Path) -> list[Path]:
    """Return all files and folders that reading a path reads: the whole set."""
    if path.is_dir():
        return [path]
    found = _looked_at(path)
    return found.files if isinstance(found, _Set) else [path]


def open(path: Path) -> Recording:
    """Read the headers of a TIFF and the set it belongs to, or of all TIFFs of a folder.

    Raises
    ------
    ValueError
        If a file is damaged, without a whole frame, or holds something else than gray frames.
    """
    if path.is_dir():
        return open_tiffs(str(path), path, tiff_names(path))
    found = _looked_at(path)
    if isinstance(found, _Set):
        return found.open()
    if found.is_page:
        raise ValueError(
            f"{path} is one 2-D page of shape {found.frame_shape}: pass its folder, or a "
            "pattern in quotes such as 'folder/*.tif', to open pages as the frames of a movie"
        )
    return Recording(path=str(path), format=found.format, positions=(found.position,))


def open_tiffs(label: str, folder: Path, names: Sequence[str]) -> Recording:
    """Join TIFF files to one movie, or to the channels and positions that they tell of.

    A set of files is opened as its metadata say; other files are told apart by their names, which
    are in natural order. This reads the headers of all files, except in a folder of very many
    single-page files: there it reads the first and the last, and each page is checked when it is
    read. `label` names the source in messages.

    Raises
    ------
    ValueError
        If a file is not a readable TIFF, if files do not belong together, or if nothing tells
        their channels and positions apart.
    """
    given = [folder / name for name in names]
    found = _looked_at(given[0])
    if not isinstance(found, _Set):
        return join(label, folder, names, _member)
    members = {file.resolve() for file in found.files if not is_companion(file)}
    others = [file for file in given if file.resolve() not in members]
    if others:
        raise ValueError(
            f"{label} holds {others[0].name}, which is not of the set of {given[0].name}: keep "
            "other images elsewhere, or pass one file of the set"
        )
    if len(given) < len(members):
        raise ValueError(
            f"{label} matches {len(given)} of the {len(members)} files of a set: pass one of its "
            "files, which stands for all of them"
        )
    return replace(found.open(), path=label, default=None)


@dataclass(frozen=True, kw_only=True)
class _Set:
    """Files that metadata put together: those that exist, and how they are opened."""

    files: list[Path]
    open: Callable[[], Recording]


def _looked_at(path: Path) -> _Set | Single:
    """Open a file; if metadata put its images together with others, say with which."""
    if is_companion(path):
        return _ome_set(path, ome_in(path), path.name)
    with parsing(path):
        tif = open_file(path)
    with tif:
        with parsing(path):
            empty = not len(tif.pages)
        if empty:
            raise ValueError(f"{path} has no image: it is empty or cut short; copy the file again")
        if is_ndtiff(tif):
            within = [path.parent / name for name in tiff_names(path.parent)]
            return _Set(files=within, open=partial(open_ndtiff, path.parent))
        if is_mmstack(tif):
            return _Set(files=mmstack_files(path), open=partial(open_mmstack, path))
        check_description(path, tif)
        ome, holder = ome_of(path, tif)
        if ome is not None and (is_ome_set(ome, len(tif.pages)) or not is_whole(tif)):
            return _ome_set(path, ome, holder)
        return single(path, tif, ome)


def _ome_set(path: Path, ome: Ome, holder: str) -> _Set:
    return _Set(files=ome_files(path, ome, holder), open=partial(open_ome_set, path, ome, holder))


def _member(path: Path) -> Single:
    """Open a file of a folder, which stands for its own pages."""
    found = _looked_at(path)
    if isinstance(found, _Set):
        raise ValueError(
            f"{path} is one file of a set, and others beside it are not: pass one file of the set"
        )
    return found
