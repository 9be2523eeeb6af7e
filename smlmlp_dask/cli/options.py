"""How options are declared, shown in sections, and parsed.

A parser raises ValueError for a wrong text.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from smlmlp_dask.paths import local_path

SECTIONS = ("Sources", "Recording", "Background", "Output", "Where it runs", "Plan", "Messages")
"""Their order; an option without a section is one of the last."""

LONG = 12
"""Fewest options of a help that has sections."""

NAMES_WIDTH = 30
"""Most columns of an option's names; what they mean begins below longer ones."""


class SectionedOption(click.Option):
    """An option that knows its section."""

    def __init__(self, *names: Any, section: str = SECTIONS[-1], **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.section = section

    def get_help_extra(self, ctx: click.Context) -> click.types.OptionHelpExtra:
        """Return what stands in brackets; limits such as x>=0 do not: an error says them."""
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        return extra


def write_options(
    command: click.Command, ctx: click.Context, formatter: click.HelpFormatter
) -> None:
    """Write the options of a command: of a long one in sections, else in one."""
    params = [param for param in command.get_params(ctx) if isinstance(param, click.Option)]
    records = [(param, record) for param in params if (record := param.get_help_record(ctx))]
    found: dict[str, list[tuple[str, str]]] = {name: [] for name in SECTIONS}
    for param, record in records:
        found[getattr(param, "section", SECTIONS[-1])].append(record)
    if len(records) < LONG:
        found = {"Options": [record for _, record in records]}
    widest = min(NAMES_WIDTH, max((len(names) for _, (names, _) in records), default=0))
    for title, rows in found.items():
        if rows:
            (names, text), *others = rows
            with formatter.section(title):  # the texts of all sections begin in one column
                formatter.write_dl([(names.ljust(widest), text), *others], NAMES_WIDTH)


def radius(text: str) -> tuple[float, ...]:
    """Parse a radius like 7 or a pair like 6,10, in pixels."""
    radii = _numbers(text)
    if len(radii) not in (1, 2):
        raise ValueError(f"{text!r} is neither a radius like 7 nor a pair like 6,10 (pixels)")
    return radii


def step(text: str) -> tuple[str, tuple[float, ...]]:
    """Parse a step: median:25 (frames on each side), mean:7 or opening:3 (pixels)."""
    kind, colon, value = text.partition(":")
    numbers = _numbers(value)
    right = {
        "median": bool(re.fullmatch(r"\d+", value)),
        "mean": len(numbers) in (1, 2),
        "opening": len(numbers) in (1, 2),
    }
    if not (right.get(kind) if colon else kind in right):
        raise ValueError(
            f"{text!r} is no step: give median:25 (frames on each side), mean:7 or opening:3 "
            "(pixels; or a pair like mean:6,10)"
        )
    return kind, numbers


def of_camera(text: str) -> float | str:
    """Parse a number, or take the path of a map."""
    try:
        return float(text)
    except ValueError:
        return text


def pixel_size(text: str) -> tuple[float, ...]:
    """Parse a size of pixels like 0.1 or a pair like 0.1,0.11, in micrometres."""
    sizes = _numbers(text)
    if len(sizes) not in (1, 2):
        raise ValueError(
            f"{text!r} is neither a size like 0.1 nor a pair (y, x) like 0.1,0.11 (micrometres)"
        )
    return (sizes[0], sizes[-1])


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(map(float, text.split(",")))
    except ValueError:
        return ()


def box(text: str) -> tuple[int, tuple[int, ...]]:
    """Parse a box of a source, like 0:0,0,256,512: its number, then x0,y0,x1,y1."""
    match = re.fullmatch(r"(\d+):(-?\d+),(-?\d+),(-?\d+),(-?\d+)", text)
    if not match:
        raise ValueError(
            f"{text!r} is not SOURCE_INDEX:x0,y0,x1,y1, such as 0:0,0,256,512 for the left half of "
            "the first source"
        )
    index, *corners = map(int, match.groups())
    return index, tuple(corners)


def frames(text: str) -> slice:
    """Parse a range of frames, like 0:1000."""
    match = re.fullmatch(r"(-?\d+)?:(-?\d+)?(?::(-?\d+))?", text)
    if not match:
        raise ValueError(f"{text!r} is not a range of frames like 0:1000, 500: or 0:1000:10")
    return slice(*(int(part) if part else None for part in match.groups()))


def shape(text: str) -> tuple[int, ...]:
    """Parse frames,height,width."""
    if not re.fullmatch(r"\d+,\d+,\d+", text):
        raise ValueError(f"{text!r} is not frames,height,width like 100,30,30")
    return tuple(map(int, text.split(",")))


def jobs(text: str) -> tuple[int, int]:
    """Parse a number of SLURM jobs like 4, or its limits like 1:20."""
    match = re.fullmatch(r"(\d+)(?::(\d+))?", text)
    least, most = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 0 <= least <= most or most < 1:
        raise ValueError(f"{text!r} is neither a number of SLURM jobs like 4 nor limits like 1:20")
    return least, most


class LocalPath(click.Path):
    """A local path: ``~`` is expanded, and URLs are refused."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the path."""
        return super().convert(local_path(value), param, ctx)


Decorator = Callable[[Callable[..., None]], Callable[..., None]]


def output_option(text: str, **settings: Any) -> Decorator:
    """Declare the path of what a command writes, with its help."""
    return click.option(
        *("-o", "--output"),
        cls=SectionedOption,
        section="Output",
        type=LocalPath(),
        help=text,
        **settings,
    )


class Parsed(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A value that a function parses; the message of its `ValueError` is shown."""

    def __init__(self, metavar: str, parse: Callable[[str], Any]) -> None:
        self.name = metavar
        self.parse = parse

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Turn the text into the value."""
        try:
            return self.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
