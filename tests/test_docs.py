"""What is written is run: README, pages, the examples of all docstrings, and those of the seed."""

import doctest
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from sybil import Document, Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser
from sybil.parsers.rest import DocTestParser

import smlmlp_dask
from smlmlp_dask.cli import smlmlp

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

INSTALLS = "python3 -m venv"
"""How the blocks begin that `.ci/run` runs by itself, on clean copies."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with the movies that examples take."""
    monkeypatch.chdir(tmp_path)
    movie = smlmlp_dask.simulate_movie(120, 64, 96).movie.compute()
    tifffile.imwrite("movie.tif", movie, photometric="minisblack")
    header = bytes(512)
    Path("movie.bin").write_bytes(header + movie[:100, :30, :30].astype(">u2").tobytes())
    np.save("aborted.npy", movie)
    with Path("aborted.npy").open("r+b") as file:
        file.truncate(100 * movie[0].nbytes)
    with tifffile.TiffWriter("cells.ome.tif", ome=True) as writer:
        for name in ("left", "right"):
            about = {"axes": "TCYX", "Name": name, "Channel": {"Name": ["Cy3", "Cy5"]}}
            pair = np.stack([movie[:20], movie[20:40]], axis=1)
            writer.write(pair, photometric="minisblack", metadata=about)
    return tmp_path


def in_shell(commands, shell="bash"):
    """Run what a user would type, where this Python's scripts are found."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [shell, "-c", commands],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
    return done.stdout


def run_in_shell(example):
    if INSTALLS not in example.parsed:
        in_shell(f"set -euo pipefail\n{example.parsed}")


def blocks(path):
    return list(Sybil([PythonCodeBlockParser(), CodeBlockParser("sh", run_in_shell)]).parse(path))


@pytest.mark.slow
@pytest.mark.parametrize("path", list(filter(blocks, PAGES)), ids=lambda path: path.stem)
def test_the_blocks_of_a_page_run(path, folder):
    examples = blocks(path)
    text = path.read_text(encoding="utf-8")
    assert len(examples) == len(re.findall(r"^ *```(?:sh|python)$", text, re.M))
    if "-o background.zarr" not in text:
        in_shell("smlmlp-dask run movie.tif -o background.zarr")  # the first page leaves it
    names = {}
    for example in examples:
        example.evaluate()
        names = example.namespace
    if path.stem == "trust":
        assert abs(names["by_hand"] - names["bkgds"][0][100].compute()).max() < 1e-4
    if path.stem == "python":
        assert names["frame"].shape == (64, 96)


def commands_that_are_not_run():
    """Yield the commands in indented blocks and in sentences, such as what needs a browser."""
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        text = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.M | re.S).replace("\\\n", " ")
        for line in re.findall(r"^    (smlmlp-dask .*)$|`(smlmlp-dask [^`|]+)`", text, re.M):
            command = re.sub(r"\s+", " ", "".join(line))
            yield pytest.param(command, id=f"{path.stem}: {command}")


@pytest.mark.parametrize("command", list(commands_that_are_not_run()))
def test_a_command_that_is_not_run_has_options_that_are(folder, command):
    name, *rest = shlex.split(command)[1:]
    if name.startswith("-") or not rest or "--help" in rest:
        assert name == "--version" or name in smlmlp.commands
    else:
        Path("background.zarr").mkdir()
        smlmlp.commands[name].make_context(name, rest)


def test_pages_do_not_write_over_one_another():
    written = [
        name
        for path in PAGES
        if path.name != "README.md"  # its commands are those of the first page
        for name in {*re.findall(r" -o (\S+)", path.read_text(encoding="utf-8"))}
    ]
    assert sorted(written) == sorted({*written})


def test_every_block_says_what_it_is():
    """A block that is neither run nor a directive is indented, so that none is left out unseen."""
    for path in PAGES:
        kinds = re.findall(r"^ *```(\S+)", path.read_text(encoding="utf-8"), re.M)
        assert {kind for kind in kinds if not kind.startswith("{")} <= {"sh", "python"}, path


def test_the_pages_name_every_command_and_no_other():
    text = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    named = set(re.findall(r"\bsmlmlp-dask (?!demo/)([a-z]+)\b", text))
    assert named == set(smlmlp.commands)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_links_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    for link in links:
        target, _, heading = link.partition("#")
        other = path.parent / target if target else path
        assert other.exists(), link
        if heading:
            lines = re.findall(r"^#+ (.*)$", other.read_text(encoding="utf-8"), re.M)
            anchors = [re.sub(r"[^\w -]", "", line).strip().lower() for line in lines]
            assert heading in [anchor.replace(" ", "-") for anchor in anchors], link


SHOWS_COMPLETION = {
    "bash": "complete -p smlmlp-dask",
    "zsh": "echo ${_comps[smlmlp-dask]}",
    "fish": "complete -c smlmlp-dask",
}


@pytest.mark.parametrize("shell", SHOWS_COMPLETION)
def test_the_line_that_turns_completion_on(shell):
    page = (ROOT / "docs/scripts.md").read_text(encoding="utf-8")
    (line,) = re.findall(rf"^- {shell}\b.*: `(.*)`$", page, re.M)
    assert f"_SMLMLP_DASK_COMPLETE={shell}_source smlmlp-dask" in line
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not on this machine")
    prelude = "autoload -Uz compinit && compinit -u; " if shell == "zsh" else ""
    shown = in_shell(f"{prelude}{line}; {SHOWS_COMPLETION[shell]}", shell)
    assert "_smlmlp_dask_completion" in shown


def test_the_reference_has_every_public_name():
    page = (ROOT / "docs/api/index.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^   (\w+)$", page, re.M)) == sorted(smlmlp_dask.__all__)


def examples_of_docstrings():
    for path in sorted((ROOT / "smlmlp_dask").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        for start, _, text in PythonDocStringDocument.extract_docstrings(source):
            if ">>> " in text:
                line = source.count("\n", 0, start) + 1
                yield pytest.param(text, id=f"{path.name}:{line}")


@pytest.mark.parametrize("text", list(examples_of_docstrings()))
def test_examples_of_a_docstring(folder, text):
    document = Document(text, "docstring")
    for region in DocTestParser(doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)(document):
        document.add(region)
    examples = list(document.examples())
    assert len(examples) == text.count(">>> ")
    for example in examples:
        example.evaluate()


RETURNED = {
    "Acquisition",
    "JobPlan",
    "RadiusSuggestion",
    "SourceReadError",
    "SpatialMeanResult",
    "VerifyReport",
}
"""What public functions return and raise: their examples show it."""


@pytest.mark.parametrize("name", sorted({*smlmlp_dask.__all__} - RETURNED))
def test_public_names_have_an_example(name):
    doc = getattr(smlmlp_dask, name).__doc__
    assert f">>> from smlmlp_dask import {name}" in doc or f", {name}" in doc.split(">>> ")[1]


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
