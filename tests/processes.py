"""The command line in processes of its own, which tests interrupt and kill."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time

from smlmlp_dask.store.journal import Journal

SLOW_SECONDS = 60


def journal(out):
    """Return the blocks that a store's journal counts as done."""
    return Journal.read(out / "records/journal").done


def start(*arguments, config=None, **options):
    """Start the command line in a process group of its own, as a terminal does."""
    environment = {**os.environ, "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "3s"}
    environment |= {f"DASK_{name.upper()}": value for name, value in (config or {}).items()}
    # A pytest in the background of a shell ignores Ctrl-C, and would hand that down.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(
        [sys.executable, "-m", "smlmlp_dask", *map(str, arguments)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        start_new_session=True,
        **options,
    )


def finish(process):
    """Wait for a process; return its exit code and what it said on stderr."""
    _, said = process.communicate(timeout=SLOW_SECONDS)
    return process.returncode, said


def wait_for(condition, process=None, *, may_end=False):
    """Return once the condition holds; a process must run until then, or else may end, too."""
    until = time.monotonic() + SLOW_SECONDS
    while not condition():
        assert time.monotonic() < until
        if process is not None and process.poll() is not None:
            assert may_end, finish(process)
            return
        time.sleep(0.001)


def go_on(said, kept):
    """Run the command that a message gives, as a shell finds it, but without its cluster."""
    match = re.fullmatch(
        rf"Error: .*\b{kept} of (\d+) blocks? (?:is|are) kept; to resume: (.*)\n", said
    )
    assert match, said
    words = shlex.split(match[2])
    for option in ("--scheduler", "--scheduler-file", "--workers"):
        if option in words:
            del words[words.index(option) : words.index(option) + 2]
    path = os.pathsep.join((sysconfig.get_path("scripts"), os.environ["PATH"]))
    ended = subprocess.run(
        [shutil.which(words[0], path=path), *words[1:]],
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=SLOW_SECONDS,
    )
    return ended.returncode, ended.stderr


def living(group):
    """Return the processes of a group that are no zombies."""
    found = subprocess.run(
        ["ps", "-e", "-o", "pgid=,stat=,args="], capture_output=True, text=True, check=True
    )
    lines = (line.split(maxsplit=2) for line in found.stdout.splitlines())
    return [args for pgid, stat, *args in lines if int(pgid) == group and stat[0] != "Z"]
