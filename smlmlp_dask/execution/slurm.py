"""Workers as SLURM jobs, through dask-jobqueue."""

import logging
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from math import isqrt
from pathlib import Path
from typing import Any

import dask.config

from smlmlp_dask.installing import install_command
from smlmlp_dask.messages import counted

from .local import SCHEDULER_LOG, replace_lost_workers
from .workers import FOREVER_SECONDS, USABLE, Workers, memory_limit_bytes, wait_for_workers


@dataclass(frozen=True)
class SlurmJobs:
    """SLURM jobs, each a Dask worker. None takes the value of dask-jobqueue's configuration.

    Attributes
    ----------
    jobs : (int, int)
        The least and the largest number of SLURM jobs.
    queue, walltime : str or None
        The partition; the time limit, such as ``"01:00:00"``.
    cores : int or None
        Threads of a SLURM job.
    memory : str or None
        Memory of a SLURM job, such as ``"8GB"``.
    """

    jobs: tuple[int, int] = (1, 1)
    queue: str | None = None
    walltime: str | None = None
    cores: int | None = None
    memory: str | None = None


def submit_jobs(slurm: SlurmJobs, tell: Callable[[str], None], stack: ExitStack) -> Any:
    """Submit SLURM jobs and return the client of their workers; closing `stack` ends them."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        from dask_jobqueue.slurm import SLURMCluster
    except ImportError:
        raise RuntimeError(
            f"--slurm needs dask-jobqueue, which is not installed: {install_command('slurm')}"
        ) from None
    # Importing dask-jobqueue makes both signals end Python at once: restore their handlers.
    for number, handler in handlers.items():
        signal.signal(number, handler)
    if shutil.which("sbatch") is None:
        raise RuntimeError(
            "--slurm needs sbatch, which is not on this machine: run it where SLURM jobs are "
            "submitted, or leave it out"
        )
    from distributed import Client
    from distributed.security import Security

    _sizes(slurm)
    security = Security()  # from Dask's configuration
    if security.get_tls_config_for_role("scheduler")["cert"] is None:
        security = Security.temporary()  # a login node has many users
    shared = dask.config.get("jobqueue.slurm.shared-temp-directory", None) or str(Path.home())
    configured = dask.config.get("jobqueue.slurm.scheduler-options", {})
    stack.enter_context(dask.config.set(SCHEDULER_LOG))
    jobs = SLURMCluster(
        queue=slurm.queue,
        walltime=slurm.walltime,
        cores=slurm.cores,
        memory=slurm.memory,
        job_name="smlmlp-dask",
        security=security,
        shared_temp_directory=shared,
        silence_logs=logging.CRITICAL,
        scheduler_options={"dashboard_address": ":0", **configured},
    )
    stack.enter_context(jobs)
    _check_job_script(jobs.job_script())
    least, most = slurm.jobs
    if dask.config.get("distributed.scheduler.no-workers-timeout", None) is None:
        forever = {"distributed.scheduler.no-workers-timeout": f"{FOREVER_SECONDS:g}s"}
        stack.enter_context(dask.config.set(forever))
    if least == most:
        jobs.scale(jobs=most)
    else:
        # We submit few tasks at a time. With Dask's default target of 5 s for them, it would start
        # few workers.
        jobs.adapt(minimum_jobs=least, maximum_jobs=most, target_duration="100ms")
    replace_lost_workers(jobs, stack)
    tell(
        f"{counted(most, 'SLURM job') if least == most else f'{least} to {most} SLURM jobs'} "
        f"submitted; squeue --me shows whether {'it waits' if most == 1 else 'they wait'}"
    )
    client = stack.enter_context(Client(jobs))
    wait_for_workers(client, tell, why=partial(_why_they_wait, jobs))
    return client


def _why_they_wait(jobs: Any) -> str:
    """Return the reasons that SLURM gives for jobs that wait; nothing if it gives none."""
    numbers = [str(job.job_id) for job in list(jobs.workers.values()) if job.job_id]
    listed = subprocess.run(
        ["squeue", "--noheader", "--states=PENDING", "--format=%r", f"--jobs={','.join(numbers)}"],
        capture_output=True,
        text=True,
        check=False,
    )
    reasons = sorted(set(listed.stdout.split("\n")) - {"", "None"})
    return f"; SLURM says: {', '.join(reasons)}" if numbers and reasons else ""


def _sizes(slurm: SlurmJobs) -> tuple[int, int]:
    """Return the cores and the bytes of memory of a SLURM job; an error if they are not set."""
    given = {"cores": slurm.cores, "memory": slurm.memory}
    sizes = [
        dask.config.get(f"jobqueue.slurm.{name}", None) if size is None else size
        for name, size in given.items()
    ]
    if None in sizes:
        raise ValueError(
            "the size of a SLURM job is not set: pass --cores and --job-memory, such as "
            "--cores 4 --job-memory 8GB, or set them in ~/.config/dask/jobqueue.yaml"
        )
    return int(sizes[0]), memory_limit_bytes(sizes[1], name="--job-memory")


def planned_jobs(slurm: SlurmJobs) -> Workers:
    """Return the workers of all SLURM jobs, if as many run as may."""
    cores, each = _sizes(slurm)
    # dask-jobqueue starts so many processes in a job, unless its configuration says otherwise.
    processes = dask.config.get("jobqueue.slurm.processes", None) or max(1, isqrt(cores))
    jobs = slurm.jobs[1]
    threads = max(1, cores // processes)
    return Workers(jobs * processes * threads, jobs * each, jobs * processes, USABLE)


def _check_job_script(script: str) -> None:
    """Let SLURM check the job script before we submit any job."""
    tried = subprocess.run(
        ["sbatch", "--test-only"],
        input=script,
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode:
        said = " ".join(tried.stderr.split()) or f"exit code {tried.returncode}"
        raise RuntimeError(f"SLURM refuses the job script: {said}; sinfo shows what it has")
