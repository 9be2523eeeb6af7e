"""How much memory a process has held at most."""

import re
import tracemalloc
from pathlib import Path

import pytest

STATUS = Path("/proc/self/status")

needs_proc = pytest.mark.skipif(
    not STATUS.exists(), reason="peak memory is read from Linux's /proc"
)


def peak_bytes():
    """Return the peak resident memory of this process since it was started.

    `ru_maxrss` will not do: it begins with what the parent held when it started the process.
    """
    return int(re.search(r"VmHWM:\s*(\d+) kB", STATUS.read_text())[1]) * 1024


def allocated(function):
    """Return the peak of what a call allocates."""
    function()  # what is loaded or cached once
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
