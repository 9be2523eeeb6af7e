"""Job files: the sources and options of a command as TOML, to be given in place of a long line.

A key is an option without its dashes. An option that may be repeated takes a list, and what has
commas on the line may be a list of numbers. ``[[source]]`` tables hold the paths, each with its own
``frames`` and ``boxes``. Paths are relative to the job file, and an option on the command line goes
before the one in the file::

    output = "background.zarr"
    radius = 7

    [[source]]
    path = "movie.tif"
    frames = "0:1000"
    boxes = [[0, 0, 256, 512], [256, 0, 512, 512]]
"""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from smlmlp_dask.messages import one_line, shown
from smlmlp_dask.paths import absolute_path, local_path, refuse_existing
from smlmlp_dask.store.durable import not_written, write_whole

from .errors import USER_ERRORS, Command, OneLineError, place_of
from .options import LocalPath, SectionedOption, of_camera

OF_ONE_CALL = (
    "save-job",
    "resume",
    "overwrite",
    "dry-run",
    "for-workers",
    "progress",
    "json",
    "verbose",
)
"""Options that say something of one call, not of the job: they are not saved."""

SUFFIX = ".toml"
"""Ending of job files."""

PATHS = ("output", "scheduler-file")
"""Options whose values are paths."""

OF_CAMERA = ("gain", "baseline", "variance")
"""Options whose values are numbers, or paths of maps."""


class JobCommand(Command):
    """A command that takes a job file as its only source, and saves one with ``--save-job``."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        saving = SectionedOption(
            ["--save-job"],
            section="Output",
            type=LocalPath(),
            expose_value=False,
            metavar="FILE",
            help="Also write sources and options to this job file (.toml), to be run again.",
        )
        self.params.insert(len(self.params) - 2, saving)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, and those of a job file among them."""
        try:
            args = self._with_job(ctx, args)
            rest = super().parse_args(ctx, list(args))
            given, sources = self._split(ctx, args)
        except (OSError, ValueError, TypeError) as error:
            raise OneLineError(one_line(error)) from error
        if given.get("save_job"):
            file = absolute_path(given["save_job"], "job file")
            if file.suffix != SUFFIX:
                raise OneLineError(
                    f"the job file {file} must end in {SUFFIX}, by which it is known"
                )
            ctx.meta[__name__] = (file, self._text(given, sources).encode())
        return rest

    def work(self, ctx: click.Context) -> Any:
        """Save the job, if that is asked for, and run it."""
        if __name__ not in ctx.meta:
            return super().work(ctx)
        file, data = ctx.meta[__name__]
        output, resume = ctx.params["output"], ctx.params["resume"]
        before = file.read_bytes() if file.is_file() else None
        if resume and before not in (None, data):
            raise FileExistsError(
                f"{file} exists and holds another job, and --resume replaces nothing: leave "
                "--save-job out, or choose another name"
            )
        if not resume or before is None:
            refuse_existing(file, overwrite=ctx.params["overwrite"])
            _save(file, data)
        begun = None if resume else place_of(output)
        try:
            return super().work(ctx)
        except (click.ClickException, KeyboardInterrupt, *USER_ERRORS):
            if place_of(output) == begun:  # nothing was begun: leave all as it was
                file.unlink() if before is None else _save(file, before)
            raise

    def _with_job(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Return the arguments, a job file among them replaced by what it says."""
        given, sources = self._split(ctx, args)
        typed = [name for name in sources if name.endswith(SUFFIX)]
        files = [path for name in typed if (path := local_path(name)).is_file()]
        if not files:
            if typed == sources and len(typed) == 1:
                raise ValueError(f"the job file {typed[0]} does not exist: check the path")
            return args
        if len(sources) > 1:
            raise ValueError(f"{files[0]} is a job file: give it as the only source")
        options = dict(self._options())
        job = _read(files[0])
        taken = [
            argument
            for key, value in job.items()
            if key != "source"
            for argument in self._argument(files[0], key, value, options, given)
        ]
        own = [arg for arg in args if arg not in typed]
        return [*_sources(files[0], job, given), *taken, *own]

    def _split(self, ctx: click.Context, args: list[str]) -> tuple[dict[str, Any], list[str]]:
        """Return options as they were typed, by the name of their parameter, and sources."""
        try:
            given, _, _ = self.make_parser(ctx).parse_args(list(args))
        except click.UsageError:
            return {}, []  # click will say what is wrong
        sources = given.pop("sources", None)  # click has a mark of its own for none
        return given, list(sources) if isinstance(sources, list | tuple) else []

    def _options(self) -> Iterator[tuple[str, click.Option]]:
        for param in self.params:
            if isinstance(param, click.Option):
                yield max(param.opts, key=len).removeprefix("--"), param

    def _argument(
        self,
        file: Path,
        key: str,
        value: Any,
        options: Mapping[str, click.Option],
        given: Mapping[str, Any],
    ) -> list[str]:
        option = options.get(key)
        if option is None or key == "save-job":
            near = get_close_matches(key, options, 1) or ("[[source]]",)
            raise ValueError(
                f"{file} has the key {shown(key)}, which is no option of {self.name}: is it "
                f"{near[0]}? (see smlmlp-dask {self.name} --help)"
            )
        if given.get(option.name or "") is not None:
            return []
        if option.is_flag:
            if not isinstance(value, bool):
                raise ValueError(f"{file} has {key} = {shown(value)}: give true or false")
            return [f"--{key}"] if value else option.secondary_opts[:1]
        values = value if option.multiple and isinstance(value, list) else [value]
        if key in PATHS or key in OF_CAMERA:
            numbers = key in OF_CAMERA
            values = [v if numbers and _is_number(v) else _beside(file, v) for v in values]
        return [f"--{key}={_plain(file, key, value)}" for value in values]

    def _text(self, given: Mapping[str, Any], sources: Sequence[str]) -> str:
        """Return a job file of what was given on the command line."""
        lines = [f"# smlmlp-dask {self.name} FILE"]
        frames: list[str] = given.get("frames") or []
        boxes: list[str] = given.get("boxes") or []
        for key, option in self._options():
            value = given.get(option.name or "")
            if value is None or key in (*OF_ONE_CALL, "bbox"):
                continue
            if key == "frames" and len(frames) > 1:
                continue
            if key in PATHS:
                value = str(absolute_path(value))
            if key in OF_CAMERA:
                value = [v if _is_number(v) else str(absolute_path(v)) for v in value]
            lines.append(f"{key} = {_toml(value)}")
        for number, source in enumerate(sources):
            lines += ["", "[[source]]", f"path = {_toml(str(absolute_path(source)))}"]
            if len(frames) > 1 and number < len(frames):
                lines.append(f"frames = {_toml(frames[number])}")
            own = [box.partition(":")[2] for box in boxes if box.startswith(f"{number}:")]
            if own:
                lines.append(f"boxes = {_toml(own)}")
        return "\n".join(lines) + "\n"


def _save(file: Path, data: bytes) -> None:
    """Write a job file whole or not at all: half of one would be another job."""
    try:
        if not file.parent.is_dir():
            raise NotADirectoryError(f"there is no folder {file.parent}")
        write_whole(file, data, synced=True)
    except OSError as error:
        raise not_written(f"the job file {file}", error) from error


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # also bytes that are no text
        raise ValueError(f"{file} is not TOML: {one_line(error)}") from error


def _sources(file: Path, job: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Return the paths of a job, and what it takes of each."""
    tables = job.get("source", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError(
            f"{file} has no list of sources: write one [[source]] with a path for each"
        )
    arguments = []
    for number, table in enumerate(tables):
        unknown = table.keys() - {"path", "frames", "boxes"}
        if unknown or not isinstance(table.get("path"), str):
            named = ", ".join(sorted(unknown)) or "no path"
            raise ValueError(
                f"{file} has a [[source]] with {named}: give path, and if needed frames and boxes"
            )
        arguments.append(_beside(file, table["path"]))
        if given.get("boxes") is None:
            arguments += [
                f"--bbox={number}:{_plain(file, 'boxes', box)}" for box in table.get("boxes", [])
            ]
    parts = [table.get("frames", ":") for table in tables]
    if any(part != ":" for part in parts) and given.get("frames") is None:
        if "frames" in job:
            raise ValueError(f"{file} has frames of all sources and of one: leave out one of them")
        arguments += [f"--frames={_plain(file, 'frames', part)}" for part in parts]
    return arguments


def _is_number(value: Any) -> bool:
    return isinstance(of_camera(str(value)), float)


def _beside(file: Path, value: Any) -> Any:
    """Return a path relative to the job file; a home folder or a URL stays what it is."""
    if not isinstance(value, str) or value.startswith("~") or "://" in value:
        return value
    return str(absolute_path(file).parent / value)


def _plain(file: Path, key: str, value: Any) -> str:
    """Return a value as one types it on a line."""
    if isinstance(value, list) and value and not any(isinstance(v, list | dict) for v in value):
        return ",".join(_plain(file, key, each) for each in value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{file} has {key} = {shown(value)}: give a text or a number")
    return str(value)


def _toml(value: Any) -> str:
    """Return a text, a truth or a list of texts in TOML, whose texts are JSON's but for DEL."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
