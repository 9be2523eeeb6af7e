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

_MICRO_MANAGER = re.compile(r"img_(?P<t>\d{9})_(?P<c>.*)_(?P<z>\d{3})")
"""Separate files of Micro-Manager 1.4: frame, channel, slice."""


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
    """

    positions: tuple[str, ...]
    channels: tuple[str, ...]
    depth: int
    groups: Mapping[tuple[int, int, int], tuple[str, ...]]
    notes: tuple[str, ...] = ()


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
        return _one_group(names)
    fields = _fields(names)
    varying = [at for at in range(len(fields[0])) if len({row[at][1] for row in fields}) > 1]
    counted = _in_one_order(fields, varying)
    if counted is not None:
        return _one_group(names, [int(row[counted][1]) for row in fields])
    axes = [fields[0][at][0] for at in varying]
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


def _one_group(names: Sequence[str], numbers: Sequence[int] = ()) -> Arrangement:
    order = sorted(range(len(names)), key=lambda at: numbers[at]) if numbers else range(len(names))
    return Arrangement(
        positions=("",),
        channels=("",),
        depth=1,
        groups={(0, 0, 0): tuple(names[at] for at in order)},
        notes=_gap(sorted(numbers)),
    )


_Field = tuple[str, str]
"""Axis that a word names, or an empty text; the number or channel name that stands there."""


def _fields(names: Sequence[str]) -> list[list[_Field]]:
    """Cut names into what may differ; refuse names that differ in their words."""
    stems = [_stem(name) for name in names]
    matches = [_MICRO_MANAGER.fullmatch(PurePosixPath(stem).name) for stem in stems]
    folders = {str(PurePosixPath(stem).parent) for stem in stems}
    if all(matches) and len(folders) == 1:
        return [[(axis, match[axis]) for axis in ("t", "c", "z")] for match in matches if match]
    parts = [re.split(r"(\d+)", stem) for stem in stems]
    parts = _with_wavelengths(parts)
    parts = _with_first(parts)
    words = {tuple(part[::2]) for part in parts}
    if len(words) > 1:
        one, other = (next(n for n, p in zip(names, parts, strict=True) if tuple(p[::2]) == w)
                      for w in sorted(words)[:2])  # fmt: skip
        raise ValueError(
            f"{one} and {other} differ in more than a number, so nothing says that they are "
            "frames of one movie: pass each channel as a source of its own, keep other images "
            "elsewhere, or number the files of one movie"
        )
    return [[(_axis(part[at - 1]), part[at]) for at in range(1, len(part), 2)] for part in parts]


def _stem(name: str) -> str:
    stem = name[: len(name) - len(PurePosixPath(name).suffix)]
    return stem[:-4] if stem.lower().endswith(".ome") else stem


def _with_wavelengths(parts: list[list[str]]) -> list[list[str]]:
    """Take MetaMorph's ``_w1Cy5`` as one name of a channel: the words go with the number."""
    length = min(map(len, parts))
    if length != max(map(len, parts)):
        return parts
    for at in range(1, length, 2):
        if not re.search(r"(^|[_\W])w$", parts[0][at - 1], re.IGNORECASE):
            continue
        heads: dict[str, set[str]] = {}
        for part in parts:
            head = re.match(r"[^_]*", part[at + 1])
            heads.setdefault(part[at], set()).add(head[0] if head else "")
        if all(len(found) == 1 for found in heads.values()):
            return [
                [
                    *part[:at],
                    part[at] + next(iter(heads[part[at]])),
                    part[at + 1][len(next(iter(heads[part[at]]))) :],
                    *part[at + 2 :],
                ]
                for part in parts
            ]
    return parts


def _with_first(parts: list[list[str]]) -> list[list[str]]:
    """Give the first file of ``movie.tif, movie_1.tif, movie_2.tif`` the number 0."""
    shortest = min(parts, key=len)
    others = [part for part in parts if part is not shortest]
    if not others or any(len(part) != len(shortest) + 2 for part in others):
        return parts
    for at in range(len(shortest) // 2 + 1):
        at = 2 * at
        before, after = others[0][at], others[0][at + 2]
        joined = [
            *others[0][:at],
            re.sub(r"(_X|[_\- ])$", "", before) + after,
            *others[0][at + 3 :],
        ]
        if joined[::2] == shortest[::2]:
            return [
                [
                    *part[:at],
                    f"{before} t",
                    *(["0", after, *part[at + 1 :]] if part is shortest else part[at + 1 :]),
                ]
                for part in parts
            ]
    return parts


def _axis(word: str) -> str:
    """Return the axis that the word before a number names, or an empty text."""
    last = re.search(r"([A-Za-z]+)[_\-= ]?$", word)
    return _AXIS_OF.get(last[1].lower(), "") if last else ""


def _in_one_order(fields: Sequence[Sequence[_Field]], varying: Sequence[int]) -> int | None:
    """Return the field that alone puts all files in order, if it may count frames."""
    for at in varying:
        axis, text = fields[0][at]
        if axis not in ("", "t") or not text.isdecimal():
            continue
        rows = sorted(fields, key=lambda row: int(row[at][1]) if row[at][1].isdecimal() else -1)
        numbers = [row[at][1] for row in rows]
        others = [other for other in varying if other != at]
        # An axis that has a name counts something else, even where it grows with the frames.
        if (
            all(n.isdecimal() for n in numbers)
            and len(set(map(int, numbers))) == len(numbers)
            and not any(fields[0][other][0] in ("c", "z", "p") for other in others)
            and all(_rises([row[other][1] for row in rows]) for other in others)
        ):
            return at
    return None


def _rises(texts: Sequence[str]) -> bool:
    numbers = [int(text) if text.isdecimal() else -1 for text in texts]
    return -1 not in numbers and numbers == sorted(numbers)


def _grid(
    names: Sequence[str], fields: Sequence[Sequence[_Field]], at: Mapping[str, int]
) -> Arrangement:
    values = {
        axis: _ordered({row[at[axis]][1] for row in fields}) if axis in at else [""]
        for axis in "pczt"
    }
    found: dict[tuple[str, ...], str] = {}
    for name, row in zip(names, fields, strict=True):
        key = tuple(row[at[axis]][1] if axis in at else "" for axis in "pczt")
        if key in found:
            raise ValueError(f"{found[key]} and {name} have the same place: keep one elsewhere")
        found[key] = name
    missing = [key for key in product(*(values[axis] for axis in "pczt")) if key not in found]
    if missing:
        words = {"p": "position", "c": "channel", "z": "slice", "t": "frame"}
        what = ", ".join(
            f"{words[axis]} {value}"
            for axis, value in zip("pczt", missing[0], strict=True)
            if axis in at
        )
        raise ValueError(
            f"its files lack {what}, which the names of others, such as {names[0]}, have: restore "
            "the missing file"
        )
    groups = {
        (p, c, z): tuple(found[position, channel, depth, t] for t in values["t"])
        for p, position in enumerate(values["p"])
        for c, channel in enumerate(values["c"])
        for z, depth in enumerate(values["z"])
    }
    times = [int(t) for t in values["t"] if t.isdecimal()]
    return Arrangement(
        positions=tuple(values["p"]),
        channels=tuple(values["c"]),
        depth=len(values["z"]),
        groups=groups,
        notes=_gap(times),
    )


def _ordered(texts: set[str]) -> list[str]:
    """Sort numbers by value, and names of channels as they are."""
    return sorted(
        texts, key=lambda text: (int(m[0]) if (m := re.match(r"\d+", text)) else -1, text)
    )


def _gap(numbers: Sequence[int]) -> tuple[str, ...]:
    """Say which numbers are missing in a run, if it is one."""
    if len(numbers) < 3:
        return ()
    steps = [b - a for a, b in pairwise(numbers)]
    step = min(steps)
    gaps = [(a, s) for a, s in zip(numbers, steps, strict=False) if s != step]
    if not gaps or step < 1 or any(s % step for _, s in gaps):
        return ()
    absent = sum(s // step - 1 for _, s in gaps)
    if absent > len(numbers):
        return ()  # numbers that do not count frames, such as times
    return (
        f"{absent} file{'s are' if absent > 1 else ' is'} missing in the run of numbers, the first "
        f"after {gaps[0][0]}: the frames that are there are joined",
    )
