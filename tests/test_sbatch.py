"""The batch script that is shown: checked and run as far as it can be without SLURM."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from smlmlp_dask import open_backgrounds

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
OPTIONS = {"job-name", "cpus-per-task", "mem", "time", "signal", "output"}
"""Options of sbatch, by its manual page."""


@pytest.fixture
def script(folder):
    """The script, written by the lines of the page that shows it, beside a movie and a job."""
    blocks = [
        block
        for page in PAGES
        for block in re.findall(r"^```sh\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
        if "#SBATCH" in block
    ]
    (block,) = blocks
    subprocess.run(["bash", "-euc", block], check=True)
    job = 'output = "background.zarr"\nradius = 3\n[[source]]\npath = "movie.tif"\n'
    Path("job.toml").write_text(job)
    (made,) = Path().glob("*.sbatch")
    return made


def test_bash_and_slurm_understand_it(script):
    subprocess.run(["bash", "-n", script], check=True)
    first, *lines = script.read_text().splitlines()
    assert first == "#!/bin/bash"
    options = [line for line in lines if line.startswith("#SBATCH")]
    assert lines[: len(options)] == options  # SLURM reads none after the first command
    for line in options:
        name, value = re.fullmatch(r"#SBATCH --([a-z-]+)=(\S+)(?: +#.*)?", line).groups()
        assert name in OPTIONS, line
        assert value


def test_it_runs_the_job_and_goes_on_with_it(script):
    bin_folder = Path(".venv/bin")
    bin_folder.mkdir(parents=True)
    (bin_folder / "activate").write_text(f"PATH={bin_folder.absolute()}:$PATH\n")
    command = bin_folder / "smlmlp-dask"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m smlmlp_dask "$@"\n')
    command.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for _ in range(2):  # given to sbatch again, it leaves a finished store as it is
        subprocess.run(["bash", script], check=True, env=environment)
        assert open_backgrounds("background.zarr").bkgds[0].shape == (11, 20, 24)
