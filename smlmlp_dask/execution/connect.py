"""Where a job runs: an active client, a scheduler, local processes, SLURM jobs, or threads."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import dask.config
from dask.utils import parse_timedelta

from .local import local_processes, planned_processes
from .slurm import SlurmJobs, planned_jobs, submit_jobs
from .workers import Workers, active_client, scheduler_left_to_dask, wait_for_workers

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where the caller wants a job to run: at most one of these; with none, Dask decides.

    Attributes
    ----------
    scheduler : str or None
        Address of a running scheduler.
    scheduler_file : pathlib.Path or None
        The file that holds a scheduler's address.
    workers : int or None
        Number of processes to start on this machine.
    slurm : SlurmJobs or None
        SLURM jobs to submit.
    """

    scheduler: str | None = None
    scheduler_file: Path | None = None
    workers: int | None = None
    slurm: SlurmJobs | None = None

    def planned(self) -> Workers | None:
        """Return the workers that would be started here; None if there are none to start."""
        if self.workers is not None:
            return planned_processes(self.workers)
        return None if self.slurm is None else planned_jobs(self.slurm)

    def __post_init__(self) -> None:
        """Refuse more than one."""
        given = [
            f"--{name.replace('_', '-')}" for name, value in vars(self).items() if value is not None
        ]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} contradict each other: give only one of them")


def silence_distributed() -> None:
    """Silence the logs of `distributed`, here and in processes that it starts.

    Our errors say the same in one line. Call this before `distributed` is imported.
    """
    names = ("distributed", "distributed.client", "tornado", "tornado.application")
    dask.config.set({"logging": dict.fromkeys(names, "critical")})


@contextmanager
def connected(
    place: Place | None = None,
    *,
    memory_limit: int | str | None = None,
    tell: Callable[[str], None] = log.info,
) -> Iterator[None]:
    """Choose where jobs in the ``with`` block run, and wait for the first worker.

    A `distributed.Client` that is active already comes first, then `place`, then the scheduler of
    Dask's configuration (``scheduler-address``, or ``DASK_SCHEDULER_ADDRESS``), else threads of
    this process. Workers started here end with the block.

    Parameters
    ----------
    place : Place, optional
        Where the caller wants to run.
    memory_limit : int or str, optional
        Memory of all local processes together; by default what the machine allows.
    tell : callable
        Called with lines of text for the user: what was started, and what we wait for.

    Raises
    ------
    ValueError
        If an address, a memory limit or an option of SLURM is wrong.
    RuntimeError
        If no scheduler answers, no worker comes in time, or SLURM or dask-jobqueue are missing.
    """
    place = place or Place()
    with ExitStack() as stack:
        client = active_client() or _start(place, memory_limit, tell, stack)
        if client is not None:
            wait_for_workers(client, tell)
        yield


def _start(
    place: Place, memory_limit: int | str | None, tell: Callable[[str], None], stack: ExitStack
) -> Any:
    if place.workers is not None:
        return local_processes(place.workers, memory_limit, tell, stack)
    if place.slurm is not None:
        return submit_jobs(place.slurm, tell, stack)
    if place.scheduler_file is not None:
        return _client_of(_address_in(place.scheduler_file), str(place.scheduler_file), stack)
    if place.scheduler is not None:
        return _client_of(place.scheduler, "--scheduler", stack)
    configured = dask.config.get("scheduler-address", None)
    if configured and scheduler_left_to_dask():
        return _client_of(str(configured), "Dask's scheduler-address", stack)
    return None


# Connect to a running scheduler


def _connect_seconds() -> float:
    return float(parse_timedelta(dask.config.get("distributed.comm.timeouts.connect", "30s")))


def _address_in(path: Path) -> str:
    """Return the address in a scheduler file; wait a while for the scheduler to write it."""
    import distributed  # noqa: F401 - sets the default of the timeout

    until = monotonic() + _connect_seconds()
    while not path.exists() and monotonic() < until:
        sleep(0.05)
    try:
        return str(json.loads(path.read_text())["address"])
    except FileNotFoundError:
        raise RuntimeError(
            f"the scheduler file {path} does not exist: start a scheduler with "
            f"dask scheduler --scheduler-file {path}, or correct the path"
        ) from None
    except (ValueError, LookupError, TypeError):
        raise ValueError(
            f"{path} is not the file of a Dask scheduler: pass the one written by "
            "dask scheduler --scheduler-file"
        ) from None


def _client_of(address: str, origin: str, stack: ExitStack) -> Any:
    from distributed import Client
    from distributed.comm.core import CommClosedError

    name = f"the Dask scheduler {address} (of {origin})"
    try:
        with _leaving_no_client():
            return stack.enter_context(Client(address))
    except TypeError as error:  # a TLS address, but no certificate is configured
        raise RuntimeError(f"{name} wants TLS: {_TLS_REMEDY}") from error
    except (OSError, CommClosedError) as error:
        if address.startswith("tls"):
            raise RuntimeError(
                f"{name} does not answer, or refuses the certificate: check the address; "
                f"{_TLS_REMEDY}"
            ) from error
        raise RuntimeError(
            f"{name} did not answer within {_connect_seconds():g} s: check the address, start it "
            "with dask scheduler, or leave it out to run on this machine"
        ) from error
    except (ValueError, ImportError) as error:
        raise ValueError(
            f"{address!r} (of {origin}) is not the address of a Dask scheduler ({error}): pass "
            "one like tcp://HOST:8786 or tls://HOST:8786"
        ) from error


@contextmanager
def _leaving_no_client() -> Iterator[None]:
    """Close the client that a failed attempt leaves behind: Dask would use it from then on."""
    try:
        yield
    except Exception:
        if (left := active_client()) is not None:
            left.close()
        raise


_TLS_REMEDY = (
    "name its certificates in Dask's configuration (distributed.comm.tls.ca-file, .client.cert "
    "and .client.key)"
)
