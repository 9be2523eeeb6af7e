"""A job in SLURM jobs, on a real SLURM: tests/slurm/one_node.sh starts one."""

import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from smlmlp_dask.execution.connect import Place, connected
from smlmlp_dask.execution.slurm import SlurmJobs
from tests.execution.test_cluster import movie, whole
from tests.processes import finish, journal, start, wait_for
from tests.stored import contents

__all__ = ["movie", "whole"]  # fixtures

SLURM_CONFIG = {
    "jobqueue__slurm__interface": "lo",
    "jobqueue__slurm__log_directory": os.environ.get("SLURM_TEST_LOGS", "/tmp"),
}
JOBS = ("--slurm", "--queue", "debug", "--walltime", "0:10:00", "--cores", "1")


def queue():
    """Return the numbers of the jobs that SLURM has, or None where it does not answer."""
    if shutil.which("squeue") is None:
        return None
    command = ["squeue", "--noheader", "--name", "smlmlp-dask", "--format", "%A", "--states"]
    listed = subprocess.run(
        [*command, "RUNNING,PENDING"], check=False, capture_output=True, text=True, timeout=30
    )
    return listed.stdout.split() if listed.returncode == 0 else None


pytestmark = pytest.mark.skipif(
    queue() is None, reason="no SLURM answers here; tests/slurm/one_node.sh starts one"
)


@pytest.fixture(autouse=True)
def extra():
    pytest.importorskip("dask_jobqueue", reason="the extra slurm is not installed")


def test_a_cancelled_slurm_job_costs_only_its_blocks(movie, whole, tmp_path):
    out = tmp_path / "out.zarr"
    arguments = ("run", movie, "-o", out, *JOBS, "--job-memory", "1500MB", "--jobs", "1:2")
    process = start(*arguments, config=SLURM_CONFIG)
    wait_for(lambda: len(journal(out)) >= 5, process)
    lost = queue()[0]
    subprocess.run(["scancel", lost], check=True)
    assert finish(process) == (0, "")
    assert contents(out) == whole
    wait_for(lambda: queue() == [])


def test_ctrl_c_leaves_no_slurm_job(movie, tmp_path):
    out = tmp_path / "out.zarr"
    arguments = ("run", movie, "-o", out, *JOBS, "--job-memory", "1500MB")
    process = start(*arguments, config=SLURM_CONFIG)
    wait_for(lambda: len(journal(out)) >= 3, process)
    os.killpg(process.pid, signal.SIGINT)
    code, said = finish(process)
    assert code == 128 + signal.SIGINT, said
    assert re.fullmatch(r"Error: interrupted by SIGINT; \d+ of 40 blocks are kept; .*\n", said)
    wait_for(lambda: queue() == [])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--queue", "nowhere"], r"SLURM refuses the job script: .*[Ii]nvalid partition.*"),
        (["--cores", "4000"], r"SLURM refuses the job script: .*"),
    ],
)
def test_what_slurm_refuses_is_an_error_of_one_line(movie, tmp_path, options, said):
    arguments = ("run", movie, "-o", tmp_path / "out.zarr", *JOBS, "--job-memory", "1GB", *options)
    code, line = finish(start(*arguments, config=SLURM_CONFIG))
    assert code == 2
    assert re.fullmatch(rf"Error: {said}\n", line), line
    assert queue() == []


def test_the_size_of_a_slurm_job_is_required():
    asked = pytest.raises(ValueError, match=r"pass --cores and --job-memory")
    with asked, connected(Place(slurm=SlurmJobs(cores=1))):
        pass


@pytest.mark.parametrize(
    ("memory", "said"),
    [("2", "--job-memory is 2: pass more than 315 MB"), ("much", "--job-memory is 'much'")],
)
def test_the_memory_of_a_slurm_job_is_checked(memory, said):
    asked = pytest.raises(ValueError, match=said)
    with asked, connected(Place(slurm=SlurmJobs(cores=1, memory=memory))):
        pass
    assert queue() == []


def test_a_job_that_waits_says_why(movie, tmp_path):
    too_long = ("--queue", "short", "--walltime", "1:00:00", "--job-memory", "1GB", "--progress")
    process = start(
        "run", movie, "-o", tmp_path / "out.zarr", *JOBS, *too_long, config=SLURM_CONFIG
    )
    wait_for(lambda: queue() != [], process)
    time.sleep(4)  # the message comes after 2 s without a worker
    os.killpg(process.pid, signal.SIGINT)
    _, said = finish(process)
    assert "Ctrl-C gives up; SLURM says: PartitionTimeLimit\n" in said
