"""The options of ``run`` in groups, each a dataclass: a field is an option and its value."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

from . import options
from .options import Decorator, LocalPath, Parsed, SectionedOption

# A command imports what computes when it runs: `--help` and errors in options answer at once.
if TYPE_CHECKING:
    from smlmlp_dask.execution.connect import Place
    from smlmlp_dask.execution.workers import Workers
    from smlmlp_dask.movies.described import DescribedMovie


def option(*names: str, section: str = "", **settings: Any) -> Any:
    """Declare a field that an option fills; its section in the help is, by default, its group's."""

    def declare(group: Any, name: str) -> Any:
        own = section or group.SECTION
        return click.option(*names, name, cls=SectionedOption, section=own, **settings)

    return field(metadata={"declare": declare})


def grouped(**groups: type) -> Decorator:
    """Add the options of these groups to a command; its function gets one object per group."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def filling(**values: Any) -> None:
            filled = {
                name: group(**{each.name: values.pop(each.name) for each in fields(group)})
                for name, group in groups.items()
            }
            function(**filled, **values)

        command: Callable[..., None] = filling
        for group in reversed(groups.values()):
            command = declared(group)(command)
        return command

    return decorate


def declared(group: type, *names: str) -> Decorator:
    """Add these options of a group, or all, to a command; its function gets them one by one."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        for each in reversed(fields(group)):
            if each.name in names or not names:
                function = each.metadata["declare"](group, each.name)(function)
        return function

    return decorate


AS_THEY_ARE = ("z", "salvage", "raw_shape", "raw_dtype", "raw_header", "raw_footer")
"""Options whose values and names are those of `run_spatial_mean`."""


@dataclass(frozen=True)
class Movies:
    """What is read: sources, and which part of them makes which channel."""

    SECTION: ClassVar[str] = "Sources"

    sources: tuple[str, ...] = field(
        metadata={
            "declare": lambda _, name: click.argument(
                name,
                nargs=-1,
                metavar="SOURCES...",
                shell_complete=click.Path().shell_complete,
            )
        }
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
        "--z",
        type=click.IntRange(0),
        metavar="NUMBER",
        help="Take this slice of a file that holds several.",
    )
    salvage: bool = option(
        "--salvage", is_flag=True, help="Take all whole frames of a movie that is cut short."
    )
    raw_shape: tuple[int, ...] | None = option(
        "--raw-shape",
        section="Recording",
        type=Parsed("T,Y,X", options.shape),
        help="Shape of headerless raw movies.",
    )
    raw_dtype: str | None = option(
        "--raw-dtype",
        section="Recording",
        metavar="DTYPE",
        help="Dtype of headerless raw movies, such as '>u2': 16 bit, big-endian.",
    )
    raw_header: int = option(
        "--raw-header",
        section="Recording",
        type=click.IntRange(0),
        default=0,
        metavar="BYTES",
        help="Bytes before the frames of headerless movies.",
    )
    raw_footer: int = option(
        "--raw-footer",
        section="Recording",
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

    SECTION: ClassVar[str] = "Recording"

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
class Where:
    """Where the job runs, and how much memory it may use."""

    SECTION: ClassVar[str] = "Where it runs"

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
        help="Run in SLURM jobs, submitted here; accounts and the like go into "
        "~/.config/dask/jobqueue.yaml, or SBATCH_ACCOUNT.",
    )
    jobs: tuple[int, int] | None = option(
        "--jobs",
        type=Parsed("N|MIN:MAX", options.jobs),
        help="With --slurm: number of SLURM jobs, or its limits (default: 1).",
    )
    queue: str | None = option(
        "--queue", metavar="NAME", help="With --slurm: partition of the SLURM jobs."
    )
    walltime: str | None = option(
        "--walltime",
        metavar="H:MM:SS",
        help="With --slurm: time limit of a SLURM job (default: 0:30:00).",
    )
    cores: int | None = option(
        "--cores", type=click.IntRange(1), metavar="N", help="With --slurm: cores of a SLURM job."
    )
    job_memory: str | None = option(
        "--job-memory", metavar="SIZE", help="With --slurm: memory of a SLURM job, such as 8GB."
    )

    def place(self) -> "Place":
        """Return the place that the options name."""
        from smlmlp_dask.execution.connect import Place
        from smlmlp_dask.execution.slurm import SlurmJobs

        names = ("jobs", "queue", "walltime", "cores", "job_memory")
        given = [name for name in names if getattr(self, name) is not None]
        if given and not self.slurm:
            option = given[0].replace("_", "-")
            raise ValueError(f"--{option} describes SLURM jobs: add --slurm, or leave it out")
        slurm = None
        if self.slurm:
            jobs = self.jobs or (1, 1)
            slurm = SlurmJobs(jobs, self.queue, self.walltime, self.cores, self.job_memory)
        return Place(self.scheduler, self.scheduler_file, self.workers, slurm)


@dataclass(frozen=True)
class Planned:
    """What a dry run plans for."""

    SECTION: ClassVar[str] = "Plan"

    dry_run: bool = option(
        "--dry-run",
        is_flag=True,
        help="Only show the plan: blocks, memory, size on disk, time; -v tells more.",
    )
    for_workers: int | None = option(
        "--for-workers",
        type=click.IntRange(1),
        metavar="N",
        help="With --dry-run: plan for N processes of one thread each, on any machines. (For "
        "--workers and --slurm it plans as they are.)",
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

    def place(self, place: "Place") -> "tuple[Place, int | Workers | None]":
        """Return the place of a dry run, which starts no workers, and those it plans for."""
        from smlmlp_dask.execution.connect import Place

        workers = place.planned()
        if workers is None:
            return place, self.for_workers
        if self.for_workers is not None:
            raise click.UsageError(
                f"--for-workers and {'--slurm' if place.slurm else '--workers'} contradict each "
                "other: give only one of them"
            )
        return Place(), workers

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


@dataclass(frozen=True)
class Call:
    """What one call does with what exists already, and what it says."""

    SECTION: ClassVar[str] = "Messages"

    resume: bool = option(
        "--resume",
        section="Output",
        is_flag=True,
        help="Resume an interrupted run, or start one if there is none.",
    )
    overwrite: bool = option(
        "--overwrite",
        section="Output",
        is_flag=True,
        help="Replace what this command wrote there before: never a source, nor files of others.",
    )
    progress: bool = option(
        "--progress/--no-progress",
        default=None,
        callback=lambda _, __, value: sys.stderr.isatty() if value is None else value,
        help="Show progress: a bar in a terminal (the default there), a line now and then in a "
        "log.",
    )
    as_json: bool = option("--json", is_flag=True, help="Print one JSON document and nothing else.")
