"""Why a worker is refused, each reason without a cluster; `test_cluster.py` has real workers."""

import os
from types import SimpleNamespace

import pytest

from smlmlp_dask.execution import preflight


def answering(replies):
    """Return a client whose only worker gives these replies, by the name of the function."""

    def run(function, *_, on_error):
        assert on_error == "return"
        return {"tcp://w:1": replies[function.__name__]}

    return SimpleNamespace(run=run)


@pytest.mark.parametrize(
    ("replies", "error", "said"),
    [
        ({"version": "1.0"}, RuntimeError, "worker tcp://w:1 has zarr 1.0, this machine has 3.0: "),
        (
            {"version": preflight.PackageNotFoundError()},
            RuntimeError,
            "has no zarr: install zarr 3",
        ),
        ({"_unusable": "(h) cannot read a"}, OSError, r"worker tcp://w:1 \(h\) cannot read a"),
        (
            {"_unusable": ImportError("gone")},
            RuntimeError,
            r"cannot import smlmlp_dask \(gone\): install",
        ),
    ],
)
def test_a_worker_is_refused(tmp_path, replies, error, said):
    client = answering({"version": "3.0", "_unusable": None, **replies})
    with pytest.raises(error, match=said):
        preflight._check_workers(client, {"zarr": "3.0"}, [], tmp_path)


def test_why_files_are_unusable(tmp_path, monkeypatch):
    path, gone = tmp_path / "movie.raw", tmp_path / "gone.raw"
    path.write_bytes(b"12")
    assert preflight._unusable([(path, 2), (tmp_path, None)], tmp_path) is None
    assert f"sees another {path}, of 2 bytes, not 3" in preflight._unusable([(path, 3)], tmp_path)
    assert f"cannot read {gone} (No such" in preflight._unusable([(gone, 3)], tmp_path)
    assert "does not see the folder" in preflight._unusable([], tmp_path / "none")
    for right, said in (
        (os.R_OK, f"may not read {path}"),
        (os.W_OK, f"may not write into {tmp_path}"),
    ):
        monkeypatch.setattr(os, "access", lambda _, mode, right=right: mode != right)
        assert said in preflight._unusable([(path, 2)], tmp_path)
