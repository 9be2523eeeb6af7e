"""The options of ``run`` in groups, each a dataclass: a field is an option and its value."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import options
from .options import LocalPath, Parsed

# A command imports what computes when it runs: `--help` and errors in options answer at once.
if TYPE_CHECKING:
    from smlmlp_dask.execution.connect import Place
    from smlmlp_dask.filters.spatial_mean import Engine
    from smlmlp_dask.movies.described import DescribedMovie
    from smlmlp_dask.store.codecs import Codec


def option(*names: str, declared: Any = click.option, **settings: Any) -> Any:
    """Declare a field that is filled by an option or argument of the command line."""
    return field(metadata={"declare": lambda name: declared(*names, name, **settings)})


def grouped(**groups: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options of these groups to a command; its function gets one object per group."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def command(**values: Any) -> None:
            filled = {
                name: group(**{each.name: values.pop(each.name) for each in fields(group)})
                for name, group in groups.items()
            }
            function(**filled, **values)

        options = [option for group in groups.values() for option in fields(group)]
        for option in reversed(options):
            command = option.metadata["declare"](option.name)(command)
        return command

    return decorate


def declared(group: type, *names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add only these options of a group to a command; its function gets them one by one."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        for option in reversed([option for option in fields(group) if option.name in names]):
            function = option.metadata["declare"](option.name)(function)
        return function

    return decorate


AS_THEY_ARE = ("z", "salvage", "raw_shape", "raw_dtype", "raw_header", "raw_footer")
"""Options whose values and names are those of `run_spatial_mean`."""


@dataclass(frozen=True)
class Movies:
    """What is read: sources, and which part of them makes which channel."""

    sources: tuple[str, ...] = option(
        declared=click.argument,
        nargs=-1,
        metavar="SOURCES...",
        shell_complete=click.Path().shell_complete,
    )
    boxes: tuple[tuple[int, tuple[int, ...]], ...] = option(
        "--bbox",
        type=Parsed("SOURCE:X0,Y0,X1,Y1", options.box),
        multiple=True,
        help="Take only this box of a source (counted from 0) as a channel; repeatable.",
    )
    flips: tuple[str, ...] = option(
        "--flip",
        type=click.Choice(["y", "x", "yx", "none"]),
        multiple=True,
        help="Mirror a channel: once per channel, in order.",
    )
    frames: tuple[slice, ...] = option(
        "--frames",
        type=Parsed("START:STOP[:STEP]", options.frames),
        multiple=True,
        help="Frames to take, such as 0:1000. Once: of all sources; repeated: one per source.",
    )
    channels: tuple[str, ...] = option(
        "--channel",
        multiple=True,
        metavar="NUMBER|NAME",
        help="Take this channel of each source, counted from 0 (default: all); repeatable.",
    )
    positions: tuple[str, ...] = option(
        "--position",
        "--scene",
        multiple=True,
        metavar="NUMBER|NAME",
        help="Take this position (scene, series) of a file that holds several; repeatable.",
    )
    z: int | None = option(
        "--z", type=click.IntRange(0), help="Take this slice of a file that holds several."
    )
    salvage: bool = option(
        "--salvage", is_flag=True, help="Take all whole frames of a movie that is cut short."
    )
    raw_shape: tuple[int, ...] | None = option(
        "--raw-shape", type=Parsed("T,Y,X", options.shape), help="Shape of headerless raw movies."
    )
    raw_dtype: str | None = option(
        "--raw-dtype",
        metavar="DTYPE",
        help="Dtype of headerless raw movies, such as '>u2': 16 bit, big-endian.",
    )
    raw_header: int = option(
        "--raw-header",
        type=click.IntRange(0),
        default=0,
        metavar="BYTES",
        help="Bytes before the frames of headerless movies.",
    )
    raw_footer: int = option(
        "--raw-footer",
        type=click.IntRange(0),
        default=0,
        metavar="BYTES",
        help="Bytes after the frames of headerless movies.",
    )

    def selection(self) -> dict[str, Any]:
        """Return the arguments of `run_spatial_mean` that say which part makes which channel."""
        return {
            "bboxes": self._bboxes(),
            "flips": [("y" in flip, "x" in flip) for flip in self.flips] or None,
            "frames": self.frames[0] if len(self.frames) == 1 else self.frames or None,
            "channels": self.channels or None,
            "position": self.positions or None,
            **{name: getattr(self, name) for name in AS_THEY_ARE},
        }

    def _bboxes(self) -> list[list[tuple[int, ...]] | None] | None:
        if not self.boxes:
            return None
        n_sources = len(self.sources) or 1  # the movie that --shape describes
        grouped: list[list[tuple[int, ...]] | None] = [None] * n_sources
        for index, corners in self.boxes:
            if index >= n_sources:
                last = n_sources - 1
                there = f"are sources 0 to {last}" if last else "is only source 0"
                raise ValueError(f"--bbox names source {index}, but there {there}")
            grouped[index] = [*(grouped[index] or []), corners]
        return grouped


@dataclass(frozen=True)
class Recorded:
    """How the channels were recorded, in place of what their files say."""

    pixel_size_um: tuple[float, ...] | None = option(
        "--pixel-size",
        type=Parsed("UM|Y,X", options.pixel_size),
        help="Size of a pixel in micrometres (default: as the files say).",
    )
    frame_interval_s: float | None = option(
        "--frame-interval",
        type=float,
        metavar="SECONDS",
        help="Time from one frame of the movies to the next (default: as the files say).",
    )
    channel_names: tuple[str, ...] = option(
        "--channel-name",
        multiple=True,
        metavar="NAME",
        help="Name a channel: once per channel, in order (default: as the files say).",
    )

    def overrides(self) -> dict[str, Any]:
        """Return the arguments of `run_spatial_mean` that say how channels were recorded."""
        return {**vars(self), "channel_names": self.channel_names or None}


@dataclass(frozen=True)
class Filtering:
    """How blocks are filtered and stored; the names are those of `run_spatial_mean`."""

    engine: "Engine" = option(
        "--engine",
        type=click.Choice(["auto", "fused", "dask-image"]),
        default="auto",
        show_default=True,
        help="Which filter to use.",
    )
    cuda: bool = option("--cuda", is_flag=True, help="Filter on the GPU.")
    parallel: bool = option(
        "--parallel", is_flag=True, help="Split each block's frames over threads, too."
    )
    codec: "Codec" = option(
        "--codec",
        type=click.Choice(["fast", "small", "none"]),
        default="fast",
        show_default=True,
        help="How the store is compressed, without loss.",
    )
    keep_bits: int | None = option(
        "--keep-bits",
        type=int,
        metavar="BITS",
        help="Round to this many mantissa bits of 23: 12 halves the store, within 0.012 %.",
    )


@dataclass(frozen=True)
class Storing:
    """How frames are stored as they are; the names are those of `convert_movies`."""

    codec: "Codec" = option(
        "--codec",
        type=click.Choice(["fast", "small", "none"]),
        default="fast",
        show_default=True,
        help="How the store is compressed, without loss.",
    )


@dataclass(frozen=True)
class Where:
    """Where the job runs, and how much memory it may use."""

    memory_limit: str | None = option(
        "--memory-limit",
        metavar="SIZE",
        help="Memory of all tasks together, such as 4GB (default: all).",
    )
    scheduler: str | None = option(
        "--scheduler",
        metavar="ADDRESS",
        help="Run on this Dask scheduler, such as tcp://HOST:8786.",
    )
    scheduler_file: Path | None = option(
        "--scheduler-file", type=LocalPath(), help="Run on the Dask scheduler that wrote this file."
    )
    workers: int | None = option(
        "--workers", type=click.IntRange(1), metavar="N", help="Run in N processes of this machine."
    )
    slurm: bool = option(
        "--slurm",
        is_flag=True,
        help="Run in SLURM jobs; docs/clusters.md tells how to configure them.",
    )
    jobs: tuple[int, int] | None = option(
        "--jobs",
        type=Parsed("N|MIN:MAX", options.jobs),
        help="With --slurm: number of SLURM jobs, or its limits (default: 1).",
    )
    queue: str | None = option("--queue", help="With --slurm: partition of the SLURM jobs.")
    walltime: str | None = option(
        "--walltime", metavar="H:MM:SS", help="With --slurm: time limit of a SLURM job."
    )
    cores: int | None = option(
        "--cores", type=click.IntRange(1), help="With --slurm: cores of a SLURM job."
    )
    job_memory: str | None = option(
        "--job-memory", metavar="SIZE", help="With --slurm: memory of a SLURM job, such as 8GB."
    )

    def place(self, *, dry_run: bool) -> "Place":
        """Return the place that the options name; a dry run may not start workers."""
        from smlmlp_dask.execution.connect import Place
        from smlmlp_dask.execution.slurm import slurm_jobs

        job = {name: getattr(self, name) for name in ("jobs", "queue", "walltime", "cores")}
        slurm = slurm_jobs(self.slurm, {**job, "memory": self.job_memory})
        place = Place(self.scheduler, self.scheduler_file, self.workers, slurm)
        if dry_run and (self.slurm or self.workers is not None):
            raise click.UsageError(
                f"--dry-run starts no workers: give --for-workers N instead of "
                f"{'--slurm' if self.slurm else '--workers'}"
            )
        return place


@dataclass(frozen=True)
class Planned:
    """What a dry run plans for."""

    dry_run: bool = option(
        "--dry-run",
        is_flag=True,
        help="Only show the plan: blocks, memory, size on disk, time.",
    )
    for_workers: int | None = option(
        "--for-workers",
        type=click.IntRange(1),
        metavar="N",
        help="With --dry-run: plan for N processes of one thread each, on any machines.",
    )
    described_shape: tuple[int, ...] | None = option(
        "--shape",
        type=Parsed("T,Y,X", options.shape),
        help="With --dry-run, instead of SOURCES: shape of a movie that does not exist yet.",
    )
    described_dtype: str | None = option(
        "--dtype", metavar="DTYPE", help="With --shape: its dtype (default: uint16)."
    )
    described_chunks: tuple[int, ...] | None = option(
        "--chunks",
        type=Parsed("T,Y,X", options.shape),
        help="With --shape: its chunks (default: single frames).",
    )

    def movie(self, sources: tuple[str, ...]) -> "DescribedMovie | None":
        """Return the movie that --shape, --dtype and --chunks describe; None without --shape."""
        from smlmlp_dask.movies.described import DescribedMovie

        shape, dtype, chunks = self.described_shape, self.described_dtype, self.described_chunks
        if shape is None and not (dtype is None and chunks is None):
            raise click.UsageError("--dtype and --chunks describe a movie: give its --shape, too")
        if shape is None and not sources:
            raise click.UsageError("Missing argument 'SOURCES...'.")
        if shape is not None and not self.dry_run:
            raise click.UsageError("--shape describes a movie without pixels: give --dry-run, too")
        if shape is not None and sources:
            raise click.UsageError(
                f"--shape describes a movie instead of SOURCES, and {sources[0]} is given: "
                "leave one of them out"
            )
        described = None if shape is None else DescribedMovie(shape, dtype or "uint16", chunks)
        if self.for_workers is not None and not self.dry_run:
            raise click.UsageError("--for-workers is only for plans: give --dry-run, too")
        return described
