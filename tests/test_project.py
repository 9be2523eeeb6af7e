"""The project around the code: requirements in step, imports, the README."""

import inspect
import pydoc
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml
from importlinter.cli import lint_imports
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import smlmlp_dask
from smlmlp_dask.movies.formats.table import FORMATS

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]

#: PyPI packages whose conda package without optional parts has another name.
CONDA_NAMES = {"dask": "dask-core", "matplotlib": "matplotlib-base"}


def requirements(extra):
    """What an extra asks for, also through other extras of this package."""
    for requirement in map(Requirement, PROJECT["optional-dependencies"][extra]):
        if requirement.name == PROJECT["name"]:
            for other in requirement.extras:
                yield from requirements(other)
        else:
            yield requirement


def conda_requirements():
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    return {
        r.name: r.specifier for r in map(Requirement, filter(lambda e: type(e) is str, entries))
    }


def test_conda_and_pip_ask_for_the_same():
    asked = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
    expected = {
        CONDA_NAMES.get(requirement.name, requirement.name): requirement.specifier
        for requirement in map(Requirement, asked)
        if requirement.name != PROJECT["name"]  # pip installs the readers of formats
    }
    conda = conda_requirements()
    assert conda.pop("python") == SpecifierSet(PROJECT["requires-python"])
    assert conda.pop("pip") == SpecifierSet("")
    assert conda == expected


def test_the_conda_recipe_asks_for_the_same():
    recipe = yaml.safe_load((ROOT / ".conda/recipe.yaml").read_text(encoding="utf-8"))
    expected = {
        CONDA_NAMES.get(requirement.name, requirement.name): requirement.specifier
        for requirement in map(Requirement, PROJECT["dependencies"])
    }
    expected["python"] = SpecifierSet(PROJECT["requires-python"])
    run = [Requirement(text) for text in recipe["requirements"]["run"]]
    assert {requirement.name: requirement.specifier for requirement in run} == expected
    host = {text.split()[0]: text for text in recipe["requirements"]["host"]}
    (backend,) = map(Requirement, PYPROJECT["build-system"]["requires"])
    assert Requirement(host[backend.name]).specifier == backend.specifier
    scripts = [f"{name} = {place}" for name, place in PROJECT["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == scripts
    assert recipe["about"]["license"] == PROJECT["license"]
    assert recipe["about"]["summary"] == PROJECT["description"]


def test_every_file_of_the_release_has_its_version():
    recipe = yaml.safe_load((ROOT / ".conda/recipe.yaml").read_text(encoding="utf-8"))
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    newest, *_ = re.findall(r"^## (\S+)", (ROOT / "docs/changelog.md").read_text("utf-8"), re.M)
    versions = [recipe["context"]["version"], citation["version"], newest]
    assert versions == [smlmlp_dask.__version__] * 3


def test_who_holds_and_how_to_cite():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["license"] == PROJECT["license"]
    assert citation["title"] == PROJECT["name"]
    (author,) = citation["authors"]
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert licence.startswith("MIT License\n")
    assert re.search(rf"^Copyright \(c\) \d{{4}} {re.escape(author['name'])}$", licence, re.M)


def test_every_format_has_its_extra():
    formats = [known for known in FORMATS if known.library]
    assert formats
    everything = {requirement.name for requirement in requirements("formats")}
    for known in formats:
        names = {requirement.name for requirement in requirements(known.extra)}
        assert known.library in {name.replace("-", "_") for name in names}, known
        assert names <= everything, known


def test_every_requirement_has_a_floor():
    for requirement in map(Requirement, PROJECT["dependencies"]):
        operators = [specifier.operator for specifier in requirement.specifier]
        assert operators == [">="], requirement


def test_import_loads_nothing_heavy():
    heavy = ["cupy", "distributed", "matplotlib", "numba"]
    # Dask's own import loads CuPy where it is installed.
    code = (
        "import dask.array, sys; before = {*sys.modules}; import smlmlp_dask; "
        f"print([m for m in {heavy} if m in {{*sys.modules}} - before])"
    )
    shown = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"
    assert shown.stderr == ""


def test_a_job_starts_without_what_it_does_not_need(folder):
    unneeded = ["dask.array", "distributed", "matplotlib", "pandas", "smlmlp_dask.simulation.movie"]
    code = (
        "import sys; from smlmlp_dask.cli import smlmlp\n"
        "smlmlp(['run', 'movie.tif', '-o', 'out.zarr'], standalone_mode=False)\n"
        f"print([name for name in {unneeded} if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "[]"
    assert (folder / "out.zarr").is_dir()


def test_imports_point_downwards(monkeypatch):
    """The contracts of `tool.importlinter`: floors, and no circle; `lint-imports` says more."""
    # It would turn off our loggers, which later tests listen to.
    monkeypatch.setattr("importlinter.cli.logging_config.dictConfig", lambda _: None)
    assert lint_imports(str(ROOT / "pyproject.toml"), no_cache=True) == 0


def test_public_functions_are_documented():
    for name in smlmlp_dask.__all__:
        public = getattr(smlmlp_dask, name)
        if not isinstance(public, type):
            for section in ("Parameters", "Returns", "Raises"):
                assert f"{section}\n{'-' * len(section)}\n" in inspect.getdoc(public), name


def test_help_shows_the_public_names():
    shown = [name for name in dir(smlmlp_dask) if not name.startswith("_")]
    assert shown == sorted(smlmlp_dask.__all__) == sorted(smlmlp_dask._ROOMS)
    text = pydoc.plain(pydoc.render_doc(smlmlp_dask))
    for name in smlmlp_dask.__all__:
        assert re.search(rf"^    (class )?{name}\b", text, re.M), name
