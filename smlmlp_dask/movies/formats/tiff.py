"""TIFF: one file, the set that it belongs to, or a folder of files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tifffile import TiffFile, natural_sorted

from smlmlp_dask.movies.recording import Recording

from .frames import open_file
from .tiff_file import parsing
from .tiff_folder import join
from .tiff_sets import (
    is_mmstack,
    is_ome_set,
    mmstack_files,
    ome_files,
    ome_of,
    open_mmstack,
    open_ndtiff,
    open_ome_set,
)
from .tiff_single import Single, single

TIFF_SUFFIXES = frozenset({".tif", ".tiff", ".btf", ".tf2", ".tf8"})
"""Endings, in lower case, of the files that count as TIFF in a folder or glob."""

MAX_HEADERS = 2000
"""Most single-page files of a folder whose headers are all read when it is opened."""

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def is_tiff(path: Path) -> bool:
    """Say whether a file is a TIFF, by its ending or its first bytes."""
    if path.suffix.lower() in TIFF_SUFFIXES:
        return True
    with path.open("rb") as file:
        return file.read(4) in _MAGIC


def tiff_names(folder: Path, files: Sequence[Path]) -> list[str]:
    """Return the visible TIFF files as names relative to `folder`, in natural order (2 before 10).

    Raises
    ------
    FileNotFoundError
        If one is a link to nothing, so that frames of the movie are missing.
    """
    names = []
    for file in files:
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
    """Say whether a path is a TIFF, or a folder of TIFFs."""
    return is_tiff(path) if path.is_file() else bool(tiff_names(path, list(path.iterdir())))


def files(path: Path) -> list[Path]:
    """Return all files and folders that reading a path reads: the whole set."""
    if path.is_dir():
        return [path]
    with parsing(path):
        tif = open_file(path)
    with tif:
        if tif.is_ndtiff:
            return [path.parent]
        if is_mmstack(tif):
            return mmstack_files(path)
        ome, holder = ome_of(path, tif)
        return (
            ome_files(path, ome, holder)
            if ome is not None and is_ome_set(ome, len(tif.pages))
            else [path]
        )


def open(path: Path) -> Recording:
    """Read the headers of a TIFF and the set it belongs to, or of all TIFFs of a folder."""
    if path.is_dir():
        return open_tiffs(str(path), path, tiff_names(path, list(path.iterdir())))
    return open_tiff(path)


def open_tiff(path: Path) -> Recording:
    """Read the headers of a TIFF, and of the set that it belongs to.

    Raises
    ------
    ValueError
        If a file is damaged, without a whole frame, or holds something else than gray frames.
    """
    with _opened(path) as tif:
        if tif.is_ndtiff:
            return open_ndtiff(path.parent)
        if is_mmstack(tif):
            return open_mmstack(path)
        ome, holder = ome_of(path, tif)
        if ome is not None and is_ome_set(ome, len(tif.pages)):
            return open_ome_set(path, ome, holder)
        found = single(path, tif, ome)
        if found.is_page:
            raise ValueError(
                f"{path} is one 2-D page of shape {found.frame_shape}: pass its folder or a glob "
                "pattern to open pages as the frames of a movie"
            )
        return Recording(path=str(path), format=found.format, positions=(found.position,))


def open_tiffs(label: str, folder: Path, names: Sequence[str]) -> Recording:
    """Join TIFF files to one movie, or to the channels and positions that they tell of.

    A set of files is opened as its metadata say; other files are told apart by their names. This
    reads the headers of all files, except in a folder of over `MAX_HEADERS` single-page files:
    there it reads the first and the last, and each page is checked when it is read.

    Parameters
    ----------
    label : str
        Name of the source in messages.
    folder : pathlib.Path
        Folder of `names`.
    names : sequence of str
        At least one, in natural order.

    Raises
    ------
    ValueError
        If a file is not a readable TIFF, if files do not belong together, or if nothing tells
        their channels and positions apart.
    """
    given = [folder / name for name in names]
    members = _set_of(given[0])
    if members is None:
        return join(label, folder, names, _member)
    others = [file for file in given if file.resolve() not in {m.resolve() for m in members}]
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
    return open_tiff(given[0])


def _set_of(path: Path) -> list[Path] | None:
    """Return the files of the set that a file belongs to; None if it stands alone."""
    with _opened(path) as tif:
        if tif.is_ndtiff:
            beside = tiff_names(path.parent, list(path.parent.iterdir()))
            return [path.parent / name for name in beside]
        if is_mmstack(tif):
            found = mmstack_files(path)
            return found if len(found) > 1 else None
        ome, holder = ome_of(path, tif)
        return (
            ome_files(path, ome, holder)
            if ome is not None and is_ome_set(ome, len(tif.pages))
            else None
        )


def _member(path: Path) -> Single:
    """Open a file of a folder, which stands for its own pages."""
    if _set_of(path) is not None:
        raise ValueError(
            f"{path} is one file of a set, and others beside it are not: pass one file of the set"
        )
    with _opened(path) as tif:
        ome, _ = ome_of(path, tif)
        return single(path, tif, ome)


@contextmanager
def _opened(path: Path) -> Iterator[TiffFile]:
    with parsing(path):
        tif = open_file(path)
    with tif:
        with parsing(path):
            empty = not len(tif.pages)
        if empty:
            raise ValueError(f"{path} has no image: it is empty or cut short; copy the file again")
        yield tif
