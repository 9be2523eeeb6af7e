"""The project around the code: requirements in step, imports, the README."""

import doctest
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from click.testing import CliRunner
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import smlmlp_dask
from smlmlp_dask.cli import smlmlp

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

#: PyPI packages whose conda package without optional parts has another name.
CONDA_NAMES = {"dask": "dask-core", "matplotlib": "matplotlib-base"}


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
    }
    conda = conda_requirements()
    assert conda.pop("python") == SpecifierSet(PROJECT["requires-python"])
    assert conda.pop("pip") == SpecifierSet("")
    assert conda == expected


def test_every_requirement_has_a_floor_and_a_reason():
    for requirement in map(Requirement, PROJECT["dependencies"]):
        operators = [specifier.operator for specifier in requirement.specifier]
        assert operators == [">="], requirement
    lines = (ROOT / "pyproject.toml").read_text().split("dependencies = [\n")[1].split("]\n")[0]
    for line in lines.splitlines():
        assert re.fullmatch(r' +"[^"]+", +# .{10,}', line), line


def test_import_loads_nothing_heavy():
    heavy = ["cupy", "distributed", "matplotlib", "numba"]
    code = f"import smlmlp_dask, sys; print([m for m in {heavy} if m in sys.modules])"
    shown = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"
    assert shown.stderr == ""


def test_public_names_are_documented():
    for name in smlmlp_dask.__all__:
        doc = getattr(smlmlp_dask, name).__doc__
        assert "Parameters\n" in doc, name
        assert "Returns\n" in doc, name
        assert "Raises\n" in doc, name


def test_examples_of_docstrings_run():
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for name in smlmlp_dask.__all__:
        for test in finder.find(getattr(smlmlp_dask, name), name):
            runner.run(test)
    assert runner.summarize(verbose=False).failed == 0
    assert runner.tries > 0


def test_the_seeds_examples():
    channels = [
        np.random.rand(4, 16, 16).astype(np.float32),  # noqa: NPY002 - the example as it stands
        np.random.rand(4, 16, 16).astype(np.float32),  # noqa: NPY002
    ]
    bkgds, noise_corr, info = smlmlp_dask.bkgd_spatial_mean(channels, 7.0)
    assert len(bkgds) == len(channels)
    assert len(noise_corr) == len(channels)
    assert "spatial_mean_sigmas" in info

    radii = (6.0, 10.0)
    bkgds, noise_corr, info = smlmlp_dask.bkgd_spatial_mean(channels, radii)
    assert info["channels_mean_radii_pix"][0] == (6.0, 10.0)

    radii = [(6.0, 6.0), (8.0, 10.0)]
    init_corr = [np.float32(1.0), np.float32(2.0)]
    bkgds, noise_corr, info = smlmlp_dask.bkgd_spatial_mean(
        channels, radii, noise_corrections=init_corr
    )
    assert len(info["spatial_mean_kernels_x"]) == 2
    assert noise_corr is init_corr


def test_python_blocks_of_the_readme_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    movie = np.random.default_rng(0).poisson(100, (120, 32, 32)).astype(np.uint16)
    tifffile.imwrite("movie.tif", movie, photometric="minisblack")
    readme = (ROOT / "README.md").read_text()
    blocks = re.findall(r"^( *)```python\n(.*?)^ *```", readme, flags=re.S | re.M)
    assert len(blocks) == 3
    names = {}
    for indent, block in blocks:
        exec(re.sub(f"^{indent}", "", block, flags=re.M), names)
    error = abs(names["by_hand"] - names["bkgds"][0][100].compute()).max()
    assert error < 1e-4
    assert names["frame"].shape == (32, 32)


@pytest.mark.parametrize(
    "command", re.findall(r"^smlmlp-dask .*$", (ROOT / "README.md").read_text(), re.M)
)
def test_commands_of_the_readme_run(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("movie.tif", np.ones((3, 8, 8), np.uint16), photometric="minisblack")
    if "info" in command or "verify" in command:
        smlmlp_dask.run_spatial_mean("movie.tif", "background.zarr")
    result = CliRunner().invoke(smlmlp, command.split()[1:])
    assert result.exit_code == 0, result.output
