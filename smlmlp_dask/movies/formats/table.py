"""The table of formats: how a source is recognised, and who reads it."""

import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from smlmlp_dask.installing import install_command
from smlmlp_dask.messages import one_line, printable
from smlmlp_dask.movies.recording import Recording

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf2", ".tf8")
"""Endings, in lower case, of the files that count as TIFF in a folder or glob."""


class MissingReaderError(ImportError, ValueError):
    """A movie's format is known, but the library that reads it is not installed."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format of movies.

    Attributes
    ----------
    name : str
        As its users call it.
    suffixes : tuple of str
        Endings of its files, in lower case; the first that fits a path decides. A folder has
        none: whatever its name, it holds what is in it.
    module : str
        Module of this folder, with ``open(path) -> Recording``. ``path`` is absolute; with
        `inside`, ``open(path, inside)``. It may have ``recognises(path) -> bool``, which looks
        into the file, where endings do not tell, and ``files(path) -> list of Path``: everything
        that is read, if that is more than the path itself.
    library : str
        Module to import that reads it; empty if tifffile, zarr or NumPy do.
    extra : str
        Extra of this package that installs the library.
    python : (int, int)
        The first Python that the library runs on.
    inside : bool
        Whether ``file::/place`` names something in a file.
    usual : tuple of str
        Endings to show, where `suffixes` do not tell because the reader looks into the path.
    """

    name: str
    suffixes: tuple[str, ...]
    module: str
    library: str = ""
    extra: str = ""
    python: tuple[int, int] = (3, 11)
    inside: bool = False
    usual: tuple[str, ...] = ()

    @property
    def is_installed(self) -> bool:
        """Whether movies of this format can be read here."""
        if not self.library:
            return True
        return sys.version_info >= self.python and find_spec(self.library) is not None

    def recognises(self, path: Path) -> bool:
        """Say whether a path is of this format; the library need not be there."""
        ending = "" if path.is_dir() else path.name.lower()
        if not ending.endswith(self.suffixes):
            return False
        looks = getattr(self._reader, "recognises", None)
        return looks is None or bool(looks(path))

    def open(self, path: Path, inside: str = "") -> Recording:
        """Read the metadata of a file.

        Raises
        ------
        MissingReaderError
            If its library is not installed, or an old one is; it says how to install it.
        """
        if not self.is_installed:
            least = ".".join(map(str, self.python))
            if sys.version_info < self.python:
                remedy = f"its reader needs Python {least} or later"
            else:
                remedy = f"install its reader: {install_command(self.extra)}"
            raise self._missing(path, remedy)
        recording: Recording
        try:
            recording = self._reader.open(path, inside) if self.inside else self._reader.open(path)
        except ImportError as error:
            remedy = install_command(self.extra, upgrade=True)
            said = f"its reader cannot be used ({one_line(error)}): {remedy}"
            raise self._missing(path, said) from error
        return recording

    def files(self, path: Path) -> list[Path]:
        """Return all files and folders that reading a path reads."""
        found = getattr(self._reader, "files", None)
        return [path] if found is None else list(found(path))

    def _missing(self, path: Path, remedy: str) -> MissingReaderError:
        # printable at once: an ImportError keeps its first text
        text = f"{path} is of the format {self.name}: {remedy}"
        return MissingReaderError(printable(text))

    @property
    def _reader(self) -> ModuleType:
        return import_module(f"{__package__}.{self.module}")


FORMATS = (
    Format(name="ND2", suffixes=(".nd2",), module="nd2", library="nd2", extra="nd2"),
    Format(
        name="CZI",
        suffixes=(".czi",),
        module="czi",
        library="czifile",
        extra="czi",
        python=(3, 12),
    ),
    Format(
        name="LIF",
        suffixes=(".lif",),
        module="lif",
        library="liffile",
        extra="lif",
        python=(3, 12),
    ),
    Format(
        name="OIF",
        suffixes=(".oif", ".oib"),
        module="oif",
        library="oiffile",
        extra="oif",
        python=(3, 12),
    ),
    Format(name="SIF", suffixes=(".sif",), module="sif", library="sif_parser", extra="sif"),
    Format(
        name="Andor spool",
        suffixes=("",),
        module="spool",
        library="sif_parser",
        extra="sif",
        usual=("spool.dat",),
    ),
    Format(name="SPE", suffixes=(".spe",), module="spe"),
    Format(name="CINE", suffixes=(".cine",), module="cine"),
    Format(name="SEQ", suffixes=(".seq",), module="norpix"),
    Format(
        name="DCIMG", suffixes=(".dcimg",), module="dcimg", library="openreadout", extra="dcimg"
    ),
    Format(name="NumPy", suffixes=(".npy", ".npz"), module="npy", usual=(".npy",)),
    Format(name="Picasso", suffixes=(".raw",), module="picasso"),
    Format(name="DAX", suffixes=(".dax",), module="dax"),
    Format(
        name="HDF5",
        suffixes=(".h5", ".hdf5", ".hdf"),
        module="hdf5",
        library="h5py",
        extra="hdf5",
        inside=True,
    ),
    Format(name="Imaris", suffixes=(".ims",), module="ims", library="h5py", extra="ims"),
    Format(
        name="Zarr", suffixes=("",), module="zarrs", inside=True, usual=(".zarr", ".zip", ".ozx")
    ),
    Format(name="TIFF", suffixes=("",), module="tiff", usual=TIFF_SUFFIXES),
)
"""All formats, in the order in which they are tried. Headerless movies, which nothing recognises,
are described by the user."""


def format_of(path: Path) -> Format | None:
    """Return the format of an existing file or folder; None if it is of none that we know."""
    return next((known for known in FORMATS if known.recognises(path)), None)
