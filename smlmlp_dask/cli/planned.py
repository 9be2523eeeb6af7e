"""The screen of a dry run: what a job will do and need, and with ``-v`` how that is reckoned."""

from collections.abc import Iterator
from math import prod

from rich.console import Console

from smlmlp_dask.blocks import BlockPlan
from smlmlp_dask.execution.tasks import REGION_TASKS
from smlmlp_dask.messages import as_size, as_time, counted, printable
from smlmlp_dask.pipeline.job_plan import JobPlan
from smlmlp_dask.pipeline.measure import Rates

from .tables import Fact, print_facts, say, times

LISTED_CHANNELS = 3
"""Most channels of the short screen; it has ten lines then."""


def print_plan(out: Console, plan: JobPlan, *, verbose: bool = False) -> None:
    """Print what a job would do and need, one fact a line; `verbose` adds how it is reckoned."""
    print_facts(out, _facts(plan, verbose=verbose))
    for line in plan.warnings:
        say(out, printable(line), "yellow")
    more = "" if verbose else "; -v shows how this is reckoned"
    out.print(f"nothing was run (--dry-run){more}")


def _facts(plan: JobPlan, *, verbose: bool) -> Iterator[Fact]:
    listed = plan.channels
    if not verbose and len(listed) > LISTED_CHANNELS:
        listed = listed[: LISTED_CHANNELS - 1]
    for i, channel in enumerate(listed):
        yield f"channel {i}", _channel(channel)
        if verbose:
            yield from _of_channel(channel)
    if more := len(plan.channels) - len(listed):
        yield "", f"and {counted(more, 'channel')} more (-v)"
    decoded = max((channel.read_amplification for channel in plan.channels), default=1.0)
    yield "read", f"every pixel is decoded {_often(decoded)}"
    chunks = dict.fromkeys(
        f"{dtype} chunks of {times(channel.chunks)}"
        for channel, dtype in zip(plan.channels, plan.dtypes, strict=True)
    )
    yield "write", f"{', '.join(list(chunks)[: None if verbose else 1])} (frames×y×x)"
    yield from _tasks(plan, verbose=verbose)
    limit = as_size(plan.memory_limit_bytes)
    yield "memory", f"up to {as_size(plan.projected_bytes)} of {limit}"
    stored = "" if plan.rates is None else f", about {as_size(plan.stored_bytes or 0)} on disk"
    yield "output", f"{as_size(plan.output_bytes)} before compression{stored}"
    if plan.rates is not None:
        threads = counted(plan.threads, "thread")
        yield "time", f"about {as_time(plan.seconds or 0.0)} with {threads}"
        if verbose:
            yield from _measured(plan, plan.rates)


def _channel(plan: BlockPlan) -> str:
    movie = as_size(plan.itemsize * prod(plan.shape))
    blocks = f"{counted(plan.n_blocks, 'block')} of {times(plan.block)}"
    return f"{times(plan.shape)}, {movie}, in {blocks}"


def _of_channel(plan: BlockPlan) -> Iterator[Fact]:
    yield "  read", f"every pixel is decoded {_often(plan.read_amplification)}"
    yield "  memory", f"a block in work holds up to {as_size(plan.block_bytes)}:"
    for part, n_bytes in plan.held.items():
        yield "", f"{as_size(n_bytes)} {part}"


def _often(times: float) -> str:
    return "once" if times < 1.005 else f"{times:.2f} times"


def _tasks(plan: JobPlan, *, verbose: bool) -> Iterator[Fact]:
    at_a_time = f"{plan.threads:,} at a time"
    if not plan.on_cluster:
        yield "tasks", f"{plan.n_blocks:,} of 1 block, {at_a_time}"
        if verbose:
            regions = -(-plan.n_blocks // REGION_TASKS)
            yield "regions", f"{regions:,} of up to {REGION_TASKS} tasks, one after the other"
        return
    each = "1 block" if plan.blocks_per_task == 1 else f"up to {plan.blocks_per_task:,} blocks"
    yield "tasks", f"of {each}, {at_a_time}"
    if verbose or plan.workers is not None:
        yield (
            "scheduler",
            f"{as_size(plan.scheduler_bytes)}, for {counted(plan.tasks_under_way, 'task')} under "
            "way at most, however long the movie",
        )
    if plan.workers is not None:
        each = counted(plan.threads // plan.workers, "thread").replace("1 thread", "one thread")
        memory = as_size(plan.worker_bytes)
        yield "workers", f"{plan.workers:,} of {each}, {memory} of memory each"


def _measured(plan: JobPlan, rates: Rates) -> Iterator[Fact]:
    stored, work = plan.stored_bytes or 0, plan.work_seconds or 0.0
    source = sum(channel.itemsize * prod(channel.shape) for channel in plan.channels)
    give, take = (as_size(n_bytes / max(work, 1e-9)) for n_bytes in (source, stored))
    yield "  disk", "compressed as the sample was"
    steps = "read" if any(channel.kept for channel in plan.channels) else "read, filter"
    yield "  threads", f"{as_time(work)} to {steps} and write"
    yield (
        "  storage",
        f"must read up to {give}/s and write {take}/s; "
        f"{rates.folder} wrote {as_size(rates.storage_bytes_per_second)}/s",
    )
    if plan.workers is not None:
        yield "  assumed", "it keeps up, and each worker has a core like this machine's"
    sample = "a simulated movie" if rates.simulated else "this movie"
    at_work = sum(rates.core_seconds_per_pixel) / max(1e-30, sum(rates.seconds_per_pixel))
    yield (
        "  sample",
        f"{counted(rates.blocks, 'block')} of {sample}, {rates.threads} side by side, here and "
        f"now; each had a core for {min(1.0, at_work):.0%} of its time",
    )
