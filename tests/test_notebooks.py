"""The notebooks: pairs in step, without outputs. `pytest --nbmake notebooks` runs them."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
TEXTS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.py"))


def test_every_notebook_has_its_text():
    assert [path.stem for path in NOTEBOOKS] == [path.stem for path in TEXTS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_and_text_are_in_step(path):
    jupytext = pytest.importorskip("jupytext", reason="compares with the extra 'test'")
    notebook, text = (jupytext.read(path.with_suffix(suffix)) for suffix in (".ipynb", ".py"))
    cells = [[(cell.cell_type, cell.source) for cell in which.cells] for which in (notebook, text)]
    assert cells[0] == cells[1], f"run: jupytext --sync {path.name}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_hold_no_outputs(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    assert set(notebook["metadata"]) <= {"jupytext", "kernelspec"}
    assert not any(cell["metadata"] for cell in notebook["cells"])
