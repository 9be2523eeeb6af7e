"""The line that installs an extra works from where the package came."""

import json
from types import SimpleNamespace

import pytest

from smlmlp_dask import installing
from smlmlp_dask.installing import install_command


@pytest.fixture
def came_from(tmp_path, monkeypatch):
    """Pretend that the package was installed from a place, as pip notes it."""

    def pretend(note):
        text = None if note is None else json.dumps(note)
        there = SimpleNamespace(read_text=lambda _: text)
        monkeypatch.setattr(installing, "distribution", lambda _: there)

    return pretend


def test_from_an_index(came_from):
    came_from(None)
    assert install_command("nd2") == "pip install 'smlmlp-dask[nd2]'"
    assert install_command("nd2", upgrade=True) == "pip install --upgrade 'smlmlp-dask[nd2]'"


@pytest.mark.parametrize(("editable", "option"), [(False, ""), (True, "-e ")])
def test_from_a_checkout(came_from, tmp_path, editable, option):
    folder = tmp_path / "a checkout"
    folder.mkdir()
    came_from({"url": folder.as_uri(), "dir_info": {"editable": editable}})
    # it is gone: only an index is left
    assert install_command("nd2") == "pip install 'smlmlp-dask[nd2]'"
    (folder / "pyproject.toml").touch()
    assert install_command("nd2") == f"pip install {option}'{folder}[nd2]'"


@pytest.mark.parametrize(
    "note",
    [
        {},
        {"url": "https://host/a.whl", "archive_info": {}},
        {"url": "https://host/a.git", "vcs_info": {}},
        {"url": None, "dir_info": {}},
    ],
    ids=str,
)
def test_from_elsewhere(came_from, note):
    came_from(note)
    assert install_command("nd2") == "pip install 'smlmlp-dask[nd2]'"
