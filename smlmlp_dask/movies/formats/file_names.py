"""What the names of image files say of their order: frames, channels, slices, positions."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import PurePosixPath

_AXES = {
    "t": ("t", "time", "tp", "timepoint", "f", "fr", "frame", "frames", "img", "image"),
    "c": ("c", "ch", "chan", "channel", "w", "wavelength", "cam", "camera"),
    "z": ("z", "slice", "plane"),
    "p": ("p", "pos", "position", "s", "series", "scene", "stage", "xy", "fov", "field"),
}
_AXIS_OF = {word: axis for axis, words in _AXES.items() for word in words}

_RECORDINGS = frozenset((
    "cell", "cells", "roi", "region", "well", "dish", "sample", "tile", "site", "run", "exp",
    "experiment", "acq", "acquisition", "rep", "repeat", "replicate", "trial", "slide",
    "coverslip", "embryo", "nucleus", "day", "plate", "mouse", "condition",
))  # fmt: skip
"""Words before the number of a recording, or of its place; a long number counts frames."""

_DYES = frozenset(("cy", "alexa", "atto", "af", "cf", "jf", "dy", "dylight", "meos", "sir"))
"""Words before the number of a dye."""

_UNIT = re.compile(r"(ms|us|µs|[pnuµm]M|[mk]?W|fps|[kM]?Hz|px|[nuµm]m|mV|%|deg|x)(?![a-z])")
"""What follows a number that measures something, and so counts no frames."""

_FRAME_DIGITS = 4
"""Digits of a number that counts frames, whatever recording a word before it names."""

_LASERS = frozenset((
    375, 405, 442, 445, 458, 473, 476, 488, 491, 496, 505, 514, 515, 532, 543, 552, 555, 560,
    561, 568, 589, 592, 594, 633, 635, 637, 638, 639, 640, 642, 643, 646, 647, 650, 655, 656,
    658, 660, 670, 671, 676, 680, 685, 690, 730, 750, 760, 780, 785, 790, 808,
))  # fmt: skip
"""Wavelengths in nm of lasers and dyes."""

_LASER_STEP_NM = 10
"""Least distance of two of them that are channels: numbers that follow on count frames."""

_MICRO_MANAGER = re.compile(r"img_(?P<t>\d{9})_(?P<c>.*)_(?P<z>\d{3})")
"""Separate files of Micro-Manager 1.4: frame, channel, slice."""

_DATE = r"(?:19|20)\d\d[-_.]?[01]\d[-_.]?[0-3]\d"
_TIME = r"[0-2]\d[-_.:h]?[0-5]\d[-_.:m]?[0-5]\d"
_DATE_AND_TIME = rf"(?<!\d){_DATE}[-_T ]{{1,3}}{_TIME}(?!\d)"
_NUMBER = re.compile(rf"({_DATE_AND_TIME}|\d+)")
_NUMBER_OR_METAMORPH = re.compile(rf"({_DATE_AND_TIME}|(?<=[_\W]w)\d[^_]*|\d+)", re.IGNORECASE)
"""Also a number and a name after ``_w``, as in MetaMorph's ``_w1Cy5``."""


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """Names in the order of their frames, for each position, channel and slice.

    Attributes
    ----------
    positions, channels : tuple of str
        Their names; one empty name where file names tell of none.
    depth : int
        Slices in z.
    groups : dict
        (position, channel, z) → names of the files, in the order of frames.
    notes : tuple of str
        What looks wrong, but need not be: numbers that are missing.
    counts : bool
        Whether the numbers of frames follow on, but for some that are missing. Else they may be
        times, which put single frames in order, but do not say that stacks are of one movie.
    """

    positions: tuple[str, ...]
    channels: tuple[str, ...]
    depth: int
    groups: Mapping[tuple[int, int, int], tuple[str, ...]]
    notes: tuple[str, ...] = ()
    counts: bool = True


def arranged(names: Sequence[str]) -> Arrangement:
    """Tell frames, channels, slices and positions apart by the names of files.

    Names that differ in one number are frames, unless a word before it says otherwise, as in
    ``movie_c1.tif``. Where several numbers differ, words must say what they count; or one number
    alone puts all files in order, such as a time beside it.

    Raises
    ------
    ValueError
        If names do not tell, or files of a channel, slice or position are missing.
    """
    if len(names) == 1:
        return _one_group(names, [0])
    fields = _fields(names)
    varying = [at for at in range(len(fields[0])) if len({row[at].value for row in fields}) > 1]
    if not varying:
        raise ValueError(f"{names[0]} and {names[1]} have the same place: keep one elsewhere")
    for at in varying:
        if fields[0][at].axis == "unit":
            one, other = sorted({row[at].text for row in fields})[:2]
            raise ValueError(
                f"the names of its files differ in a number with a unit ({one} and {other}, such "
                f"as in {names[0]}), which counts no frames: pass each as a source of its own"
            )
    counted = _in_one_order(fields, varying)
    if counted is not None:
        return _one_group(names, counted)
    axes = [fields[0][at].axis for at in varying]
    unnamed = [at for at, axis in zip(varying, axes, strict=True) if not axis]
    if len(unnamed) == 1 and "t" not in axes:
        axes[varying.index(unnamed[0])], unnamed = "t", []
    if unnamed or len(set(axes)) < len(axes):
        first, last = names[0], names[-1]
        raise ValueError(
            f"the names of its files differ in {len(varying)} places, such as {first} and {last}, "
            "and do not say which of them counts frames, channels or positions: pass each channel "
            "as a source of its own by a pattern such as 'movie_a_*.tif'"
        )
    return _grid(names, fields, dict(zip(axes, varying, strict=True)))


def _one_group(names: Sequence[str], numbers: Sequence[int]) -> Arrangement:
    rising, ordered = zip(*sorted(zip(numbers, names, strict=True)), strict=True)
    counts, notes = in_a_run(rising)
    return Arrangement(
        positions=("",),
        channels=("",),
        depth=1,
        groups={(0, 0, 0): ordered},
        notes=notes,
        counts=counts,
    )


@dataclass(frozen=True)
class _Field:
    """What may differ in names.

    Attributes
    ----------
    axis : str
        That a word names; or empty.
    text : str
        A number or the name of a channel.
    name : str
        As messages and positions have it: with the word before it.
    """

    axis: str
    text: str
    name: str

    @property
    def value(self) -> int | str:
        """What is compared: 1 and 01 are the same."""
        return int(self.text) if self.text.isdecimal() else self.text


def _fields(names: Sequence[str]) -> list[list[_Field]]:
    """Cut names into what may differ; refuse names that differ in their words."""
    stems = [_stem(name) for name in names]
    parts = _micro_manager(stems) or _with_first(_cut_at_numbers(stems))
    words = {tuple(part[::2]) for part in parts}
    if len(words) > 1:
        one, other = (next(n for n, p in zip(names, parts, strict=True) if tuple(p[::2]) == w)
                      for w in sorted(words)[:2])  # fmt: skip
        raise ValueError(
            f"{one} and {other} differ in more than a number, so nothing says that they are "
            "frames of one movie: pass each channel as a source of its own, keep other images "
            "elsewhere, or number the files of one movie"
        )
    columns = [_column(parts, at) for at in range(1, len(parts[0]), 2)]
    return [list(row) for row in zip(*columns, strict=True)] if columns else [[] for _ in names]


def _column(parts: Sequence[Sequence[str]], at: int) -> list[_Field]:
    """Return what stands at one place of all names."""
    before, after = parts[0][at - 1], parts[0][at + 1]
    texts = [part[at] for part in parts]
    last = re.search(r"([A-Za-z]+)[_\-= ]?$", before)
    word = last[1] if last else ""
    axis = _AXIS_OF.get(word.lower(), "")
    values = sorted({int(text) for text in texts if text.isdecimal()})
    lasers = len(values) > 1 and _LASERS.issuperset(values)
    if word.lower() in _DYES:
        axis, texts = "c", [f"{word}{text}" for text in texts]
    elif re.match(r"[ _]?nm(?![A-Za-z])", after) or (
        not axis and lasers and all(b - a >= _LASER_STEP_NM for a, b in pairwise(values))
    ):
        axis = "c"
    elif not axis and _UNIT.match(after):
        axis = "unit"
    elif word.lower() in _RECORDINGS and max(map(len, texts)) < _FRAME_DIGITS:
        axis = "p"
    return [_Field(axis, text, f"{word}{text}") for text in texts]


def _stem(name: str) -> str:
    stem = name[: len(name) - len(PurePosixPath(name).suffix)]
    return stem[:-4] if stem.lower().endswith(".ome") else stem


def _micro_manager(stems: Sequence[str]) -> list[list[str]]:
    """Cut names of Micro-Manager's separate files; nothing if some are others."""
    parts = []
    for stem in stems:
        folder, slash, name = stem.rpartition("/")
        match = _MICRO_MANAGER.fullmatch(name)
        if match is None:
            return []
        words = [f"{slash}t", match["t"], "_c", match["c"], "_z", match["z"], ""]
        before = _NUMBER.split(folder)
        parts.append([*before[:-1], before[-1] + words[0], *words[1:]])
    return parts


def _cut_at_numbers(stems: Sequence[str]) -> list[list[str]]:
    """Cut names into words and numbers, in turn."""
    parts = [_numbers_alone(_NUMBER_OR_METAMORPH.split(stem)) for stem in stems]
    for column in zip(*(part[1::2] for part in parts), strict=False):
        # A name belongs to a number if each number has one name.
        pairs = {(re.match(r"\d*", text)[0], text) for text in column}  # type: ignore[index]
        if len(pairs) != len({number for number, _ in pairs}):
            return [_numbers_alone(_NUMBER.split(stem)) for stem in stems]
    return parts


def _numbers_alone(parts: list[str]) -> list[str]:
    """Make one number of a date and time."""
    return [
        re.sub(r"\D", "", part) if at % 2 and re.fullmatch(_DATE_AND_TIME, part) else part
        for at, part in enumerate(parts)
    ]


def _with_first(parts: list[list[str]]) -> list[list[str]]:
    """Give the first file of ``movie.tif, movie_1.tif, movie_2.tif`` the number 0.

    In ``movie.tif, movie_X2.tif, movie_X3.tif`` it is 1.
    """
    shortest = min(parts, key=len)
    others = [part for part in parts if part is not shortest]
    if not others or any(len(part) != len(shortest) + 2 for part in others):
        return parts
    for at in range(0, len(shortest), 2):
        before, after = others[0][at], others[0][at + 2]
        joined = [
            *others[0][:at],
            re.sub(r"(_X|[_\- ])$", "", before) + after,
            *others[0][at + 3 :],
        ]
        if joined[::2] == shortest[::2]:
            numbers = [part[at + 1] for part in others]
            first = "1" if "2" in numbers and "1" not in numbers else "0"
            return [
                [*part[:at], f"{before} t", first, after, *part[at + 1 :]]
                if part is shortest
                else [*part[:at], f"{part[at]} t", *part[at + 1 :]]
                for part in parts
            ]
    return parts


def _in_one_order(fields: Sequence[Sequence[_Field]], varying: Sequence[int]) -> list[int] | None:
    """Return the numbers that alone put all files in order, if they may count frames."""
    if any(fields[0][at].axis in ("c", "z", "p") for at in varying):
        return None  # what has a name counts something else, even where it grows with the frames
    if not all(row[at].text.isdecimal() for row in fields for at in varying):
        return None
    columns = [[int(row[at].text) for row in fields] for at in varying]
    for numbers in columns:
        ordered = zip(*sorted(zip(numbers, *columns, strict=True)), strict=True)
        if len({*numbers}) == len(numbers) and all([*one] == sorted(one) for one in ordered):
            return numbers
    return None


def _grid(
    names: Sequence[str], fields: Sequence[Sequence[_Field]], at: Mapping[str, int]
) -> Arrangement:
    columns = [at.get(axis) for axis in "pczt"]
    values = [_ordered({row[n] for row in fields}) if n is not None else [_NONE] for n in columns]
    found: dict[tuple[int | str, ...], str] = {}
    for name, row in zip(names, fields, strict=True):
        key = tuple("" if n is None else row[n].value for n in columns)
        if key in found:
            raise ValueError(f"{found[key]} and {name} have the same place: keep one elsewhere")
        found[key] = name
    for place in product(*values):
        if tuple(field.value for field in place) not in found:
            words = ("position", "channel", "slice", "frame")
            what = ", ".join(
                f"{word} {field.text}"
                for word, field in zip(words, place, strict=True)
                if field.text
            )
            raise ValueError(
                f"its files lack {what}, which the names of others, such as {names[0]}, have: "
                "restore the missing file"
            )
    positions, channels, slices, times = values
    groups = {
        (p, c, z): tuple(found[position.value, channel.value, depth.value, t.value] for t in times)
        for p, position in enumerate(positions)
        for c, channel in enumerate(channels)
        for z, depth in enumerate(slices)
    }
    counts, notes = in_a_run([field.value for field in times if isinstance(field.value, int)])
    return Arrangement(
        positions=tuple(field.name for field in positions),
        channels=tuple(_channel_name(field.text) for field in channels),
        depth=len(slices),
        groups=groups,
        notes=notes,
        counts=counts,
    )


_NONE = _Field("", "", "")


def _ordered(fields: set[_Field]) -> list[_Field]:
    """Sort numbers by value, and names of channels as they are; each value once."""
    each = {field.value: field for field in sorted(fields, key=lambda field: field.text)}
    return sorted(
        each.values(),
        key=lambda field: (
            int(m[0]) if (m := re.match(r"\d+", field.text)) else -1,
            field.text,
        ),
    )


def _channel_name(text: str) -> str:
    """Return the name of a channel without MetaMorph's number: Cy5 of 1Cy5."""
    return re.sub(r"^\d(?=[A-Za-z])", "", text)


def in_a_run(numbers: Sequence[int], of: str = "file") -> tuple[bool, tuple[str, ...]]:
    """Return whether rising numbers are a run, and what is missing in it, for messages."""
    steps = [b - a for a, b in pairwise(numbers)]
    step = min(steps, default=1) if len(numbers) > 2 else 1
    gaps = [(a, s) for a, s in zip(numbers, steps, strict=False) if s != step]
    absent = sum(s // step - 1 for _, s in gaps)
    if any(s % step for _, s in gaps) or absent > len(numbers):
        return False, ()
    if not gaps:
        return True, ()
    return True, (
        f"{absent} {of}{'s are' if absent > 1 else ' is'} missing in the run of numbers, the first "
        f"after {gaps[0][0]}: the frames that are there are joined",
    )
