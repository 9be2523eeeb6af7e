"""The table of formats: what every row owes, to users and to who has not installed its library."""

import ast
import os
import re
import sys
import tempfile
import tomllib
from contextlib import contextmanager
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import tifffile
from packaging.requirements import Requirement

import smlmlp_dask.movies.formats
from smlmlp_dask import open_channels
from smlmlp_dask.movies.formats.table import FORMATS, Format, MissingReaderError, format_of

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ROOM = Path(smlmlp_dask.movies.formats.__file__).parent
LIBRARIES = {known.library for known in FORMATS} - {""}
LOOK_INSIDE = {known.name for known in FORMATS if known.suffixes == ("",)}
"""Formats whose readers look into the path, whatever its ending."""
ENDINGS = sorted(
    {ending for known in FORMATS for ending in (*known.suffixes, *known.usual) if ending[:1] == "."}
)
STEERING = "a\x1b[2J\r\n\u202emovie"
"""A name that would clear a terminal, begin a line and turn its text."""
WORLD_READABLE = 0o755
NOBODY = 65534


@pytest.fixture
def folder():
    """A folder that another user may look into, which pytest's is not."""
    with tempfile.TemporaryDirectory(prefix="smlmlp-dask-") as name:
        Path(name).chmod(WORLD_READABLE)
        yield Path(name)


@contextmanager
def without_rights():
    """Be a user whom permissions concern."""
    if not hasattr(os, "geteuid"):
        pytest.skip("users and permissions are other ones here")
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


# ---- modules -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(ROOM.glob("*.py")), ids=lambda path: path.stem)
def test_no_library_is_imported_before_it_is_needed(path):
    """Whether a file is of a format is known without the library, and said in an error."""
    imported = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            imported |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imported.add(node.module.partition(".")[0])
    assert not imported & LIBRARIES


def test_every_reader_is_in_the_table():
    readers = {
        path.stem
        for path in ROOM.glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name == "open"
    }
    assert readers == {known.module for known in FORMATS}


@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
def test_every_reader_opens_a_path(known):
    reader = known._reader
    assert len(signature(reader.open).parameters) == 1 + known.inside
    assert known.suffixes != ("",) or hasattr(reader, "recognises")
    assert reader.__doc__


def test_names_and_endings_are_of_one_format_each():
    names = [known.name for known in FORMATS]
    endings = [ending for known in FORMATS for ending in known.suffixes if ending]
    assert len({*names}) == len(names)
    assert len({*endings}) == len(endings)
    assert all(ending.startswith(".") and ending == ending.lower() for ending in endings)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_format_is_known_without_its_library(tmp_path, monkeypatch, ending):
    for library in LIBRARIES:
        monkeypatch.setitem(sys.modules, library, None)
    path = tmp_path / f"movie{ending.upper()}"
    path.write_bytes(bytes(5000))
    found = format_of(path)
    expected = [known for known in FORMATS if ending in known.suffixes]
    assert found is None or found in expected or found.name in LOOK_INSIDE


@pytest.mark.parametrize(
    ("python", "remedy"),
    [((3, 11), r"pip install .*\[sif\]'"), ((9, 9), "needs Python 9.9 or later")],
)
def test_a_missing_library_is_named_with_its_remedy(tmp_path, python, remedy):
    known = Format(
        name="SIF", suffixes=(".sif",), module="sif", library="none", extra="sif", python=python
    )
    with pytest.raises(MissingReaderError, match=f"a.sif is of the format SIF: .*{remedy}"):
        known.open(tmp_path / "a.sif")


def test_a_missing_library_of_a_file_whose_name_steers_a_terminal(tmp_path, monkeypatch):
    path = tmp_path / f"{STEERING}.nd2"
    path.touch()
    monkeypatch.setattr(Format, "is_installed", False)
    assert "movie.nd2 is of the format ND2" in refusal(path)


def test_a_library_is_not_used_on_a_python_that_it_does_not_support():
    """An old version of it may be installed there, which reads otherwise."""
    known = Format(name="A", suffixes=(".a",), module="sif", library="numpy", python=(9, 9))
    assert not known.is_installed


def test_a_library_that_is_too_old_is_named_with_its_remedy(tmp_path, monkeypatch):
    [known] = [known for known in FORMATS if known.name == "SPE"]
    monkeypatch.setattr(known._reader, "open", lambda path: exec("from numpy import no_such_name"))
    with pytest.raises(MissingReaderError, match=r"'no_such_name'.*: pip install --upgrade "):
        known.open(tmp_path / "a.spe")


# ---- what is promised ----------------------------------------------------------------------------


@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
def test_the_extra_of_a_format_asks_for_its_python(known):
    assert bool(known.library) == bool(known.extra)
    asked = PROJECT["optional-dependencies"][known.extra] if known.extra else []
    markers = " ".join(str(Requirement(text).marker or "") for text in asked)
    assert re.findall(r"\d\.\d+", markers) == ["3.12"] * (known.python == (3, 12))


PAGE = (ROOT / "docs/movies.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in re.search(r"\| format \|.*?\n\n", PAGE, re.DOTALL)[0].splitlines()[2:]
]
"""The table of formats among the pages, without its head."""


def test_the_page_of_movies_has_no_ending_of_its_own():
    """An ending that a format has lost would be promised there still."""
    cells = " ".join(row[1] for row in ROWS if len(row) > 1)
    shown = {*re.findall(r"`(\.\w+)`", cells)}
    beside = {".yaml", ".inf"}  # of files that lie beside a movie
    assert shown - beside == {*ENDINGS}


@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
def test_the_page_of_movies_has_every_format(known):
    rows = [row for row in ROWS if re.search(rf"\b{known.name}\b", row[0])]
    assert rows
    for ending in (*known.suffixes, *known.usual):
        assert not ending.startswith(".") or any(
            re.search(rf"`{re.escape(ending)}`", row[1]) for row in rows
        )
    python = ", Python 3.12 or later" if known.python == (3, 12) else ""
    extra = f"`{known.extra}`{python}" if known.extra else ""
    assert {row[2] for row in rows} == {extra}


# ---- what is refused -----------------------------------------------------------------------------


def refusal(path):
    with pytest.raises((ValueError, OSError)) as error:
        open_channels(path)
    message = str(error.value)
    assert "\n" not in message
    assert message.isprintable()
    return message


NOISE = np.random.default_rng(16).integers(0, 256, 5000, np.uint8).tobytes()


@pytest.mark.parametrize("content", [NOISE, b"", bytes(5000)], ids=["noise", "empty", "zeros"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_that_is_no_movie(tmp_path, ending, content):
    path = tmp_path / f"movie{ending}"
    path.write_bytes(content)
    message = refusal(path)
    assert message.startswith(f"{path} ")
    assert "raw" not in message.replace(str(path), "") or ending in (".raw", ".dax")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_folder_with_the_ending_of_a_file(tmp_path, ending):
    path = tmp_path / f"movie{ending}"
    path.mkdir()
    assert refusal(path).startswith(f"{path} has no file ending in ")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_folder_holds_what_is_in_it(tmp_path, ending):
    folder = tmp_path / f"movie{ending}"
    folder.mkdir()
    movie = np.arange(60, dtype=np.uint16).reshape(3, 4, 5)
    np.save(folder / "movie.npy", movie)
    for number, frame in enumerate(movie):
        tifffile.imwrite(folder / f"{number}.tif", frame, photometric="minisblack")
    [channel] = open_channels(folder)
    np.testing.assert_array_equal(channel.compute(scheduler="sync"), movie)


@pytest.mark.parametrize("content", [NOISE, None], ids=["file", "folder"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_what_this_user_may_not_read(folder, ending, content):
    path = folder / f"movie{ending}"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    path.chmod(0)
    with without_rights():
        assert refusal(path).startswith(f"{path} may not be read by this user: ask its owner")


@pytest.mark.parametrize("content", [NOISE, None], ids=["file", "folder"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_no_name_steers_a_terminal(tmp_path, ending, content):
    path = tmp_path / f"{STEERING}{ending}"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    assert "movie" in refusal(path)
