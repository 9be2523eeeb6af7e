"""The programs still run; what they measure is for their readers."""

import runpy
import sys
from contextlib import suppress
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # they run by themselves
@pytest.mark.parametrize(
    ("command", "row"),
    [
        ("job.py floor --frames 32 --rounds 1", "whole job "),
        ("job.py syncing --frames 32 --rounds 1", "without "),
        ("job.py outputs --frames 32 --rounds 1", "mean background "),
        ("filters.py --radii 7 --frames 4 8 --rounds 1", "mean, radius 7"),
        ("formats.py --formats NumPy --frames 32 --size 128 --rounds 1", "NumPy "),
        ("cluster.py overhead --counts 20 --rounds 1", "20 "),
    ],
)
def test_it_prints_its_table(monkeypatch, capsys, command, row):
    name, *words = command.split()
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.setattr(sys, "argv", [name, *words])
    monkeypatch.setattr("measuring.SETTLE_SECONDS", 0)
    with suppress(SystemExit):  # which says whether something was fast enough
        runpy.run_path(str(HERE / name), run_name="__main__")
    assert any(line.startswith(row) for line in capsys.readouterr().out.splitlines())
