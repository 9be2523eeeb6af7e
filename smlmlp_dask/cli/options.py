"""Options that several commands share, and parsers of the text of options.

A parser raises ValueError for a wrong text.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from smlmlp_dask.paths import local_path

from .sections import sectioned

verbose_option = sectioned(
    "Messages",
    "-v",
    "--verbose",
    is_flag=True,
    help="Say more: each step, how a plan is reckoned, the tracebacks of errors.",
)

json_option = sectioned(
    "Messages",
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON document and nothing else.",
)

resume_option = sectioned(
    "Output",
    "--resume",
    is_flag=True,
    help="Resume an interrupted run, or start one if there is none.",
)

overwrite_option = sectioned(
    "Output",
    "--overwrite",
    is_flag=True,
    help="Replace what this command wrote there before: never a source, nor files of others.",
)

progress_option = sectioned(
    "Messages",
    "--progress/--no-progress",
    "show_progress",
    default=None,
    help="Show progress: a bar in a terminal (the default there), a line now and then in a log.",
)


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
