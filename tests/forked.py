"""The command line in forked processes: `python -m smlmlp_dask` without a second of imports."""

import os
import runpy
import sys
import time
from multiprocessing import get_context
from typing import NamedTuple

PRELOADED = [
    "smlmlp_dask.cli.app",
    "smlmlp_dask.pipeline.run",
    "smlmlp_dask.pipeline.verify",
    "yaozarrs.v05",
]
"""Modules that the server of forks imports once; one that is not there costs only time."""

SLOW_SECONDS = 60


class Ended(NamedTuple):
    """A command that has ended: its exit code and its output on stdout or stderr."""

    code: int
    said: str


def start(log, *arguments):
    """Start a command; all that it says goes into the file `log`. Kill it, or `join` it."""
    forks = get_context("forkserver")
    forks.set_forkserver_preload(PRELOADED)
    process = forks.Process(target=_run, args=(log, [*map(str, arguments)]), daemon=True)
    process.start()
    return process


def finish(process, log):
    """Wait for a command's end."""
    process.join(SLOW_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"a command took over {SLOW_SECONDS} s and said: {log.read_text()}")
    return Ended(process.exitcode, log.read_text(errors="replace"))


def call(log, *arguments):
    """Run a command to its end."""
    return finish(start(log, *arguments), log)


def wait_while(process, condition, seconds=SLOW_SECONDS):
    """Return once the condition no longer holds, the time is over or the process has ended."""
    until = time.monotonic() + seconds
    while process.is_alive() and time.monotonic() < until and condition():
        time.sleep(0.001)


def _run(log, arguments):
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.argv = ["smlmlp-dask", *arguments]
    runpy.run_module("smlmlp_dask", run_name="__main__")
