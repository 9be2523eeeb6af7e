"""How the commands that have a job begin it: planned and shown, or run."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from smlmlp_dask.execution.connect import Place, connected
from smlmlp_dask.pipeline.job_plan import JobPlan

from . import documents
from .errors import explaining_resume, printing
from .lines import echo
from .planned import print_plan
from .run_options import Planned
from .tables import console, print_json


def show_plan(
    planned: Callable[..., JobPlan],
    plan: Planned,
    place: Place,
    output: Path | None,
    *,
    as_json: bool,
    verbose: bool,
) -> None:
    """Plan a job, for workers that are not started, and print the plan."""
    place, workers = plan.place(place)
    with connected(place):
        found = planned(workers=workers, measured=True, destination=output)
    with printing():
        if as_json:
            print_json(documents.plan_document(found))
        else:
            print_plan(console(), found, verbose=verbose)


@contextmanager
def running(
    output: Path, place: Place, memory_limit: str | None, *, show_progress: bool | None
) -> Iterator[bool]:
    """Run a job in the ``with`` block, which gets whether to show its progress."""
    shown = sys.stderr.isatty() if show_progress is None else show_progress
    tell = partial(echo, err=True) if shown else logging.getLogger(__name__).info
    with explaining_resume(output), connected(place, memory_limit=memory_limit, tell=tell):
        yield shown
