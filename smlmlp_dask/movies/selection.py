"""Which part of the sources makes which channel: boxes, flips, frames, raw layouts, checked."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar, cast

from smlmlp_dask.messages import counted, printable_errors

from .acquisition import Acquisition
from .arguments import (
    BBOXES_FORM,
    FLIPS_FORM,
    FRAMES_FORM,
    Boxes,
    RawLayout,
    checked_bool,
    checked_boxes,
    checked_choice,
    checked_flips,
    checked_frames,
    checked_number,
    checked_raw,
)
from .recording import Position, Recording
from .stack import Movie, Stack

_T = TypeVar("_T")


@dataclass(frozen=True)
class Selection:
    """What is taken of movies, as `open_channels` describes it; all of them by default.

    Attributes
    ----------
    bboxes : tuple or None
        For each source its boxes, or None for the whole frame.
    flips : tuple or None
        For each channel (flip_y, flip_x), or None for neither.
    frames : slice, tuple or None
        Frames of every source, or for each source its slice, or None for all.
    raw : RawLayout or None
        Layout of headerless movies.
    channels, positions : tuple or None
        Numbers or names, to take of every source; None for all channels, and the only position.
    z : int or None
        The slice to take where there are several.
    salvage : bool
        Whether to take what there is of movies that were cut short.
    """

    bboxes: tuple[Boxes, ...] | None = None
    flips: tuple[tuple[bool, bool] | None, ...] | None = None
    frames: slice | tuple[slice | None, ...] | None = None
    raw: RawLayout | None = None
    channels: tuple[int | str, ...] | None = None
    positions: tuple[int | str, ...] | None = None
    z: int | None = None
    salvage: bool = False

    @classmethod
    @printable_errors()
    def checked(
        cls,
        *,
        bboxes: Any = None,
        flips: Any = None,
        frames: Any = None,
        raw_shape: Any = None,
        raw_dtype: Any = None,
        raw_header: Any = 0,
        raw_footer: Any = 0,
        channels: Any = None,
        position: Any = None,
        z: Any = None,
        salvage: Any = False,
    ) -> Self:
        """Check arguments of `open_channels`, as far as they can be without the movies."""
        return cls(
            frames=checked_frames(frames),
            bboxes=checked_boxes(bboxes),
            flips=checked_flips(flips),
            raw=checked_raw(raw_shape, raw_dtype, raw_header, raw_footer),
            channels=checked_choice("channels", channels),
            positions=checked_choice("position", position),
            z=checked_number("z", z),
            salvage=checked_bool("salvage", salvage),
        )

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> Self:
        """Return the selection that a store of backgrounds notes."""
        given = {key: attributes[key] for key in ("bboxes", "flips", "raw_shape", "raw_dtype")}
        later = ("raw_header", "raw_footer", "channels", "position", "z", "salvage")
        given |= {key: attributes[key] for key in later if key in attributes}
        frames = attributes["frames"]
        if frames is not None and any(isinstance(part, list | tuple) for part in frames):
            given["frames"] = [None if part is None else slice(*part) for part in frames]
        elif frames is not None:
            given["frames"] = slice(*frames)
        return cls.checked(**given)

    def to_attributes(self) -> dict[str, Any]:
        """Return what a store notes, ready for JSON."""
        raw = self.raw
        return {
            "bboxes": self.bboxes,
            "flips": self.flips,
            "frames": _noted(self.frames),
            "raw_shape": None if raw is None else raw.shape,
            "raw_dtype": None if raw is None else raw.dtype.str,
            "raw_header": 0 if raw is None else raw.header,
            "raw_footer": 0 if raw is None else raw.footer,
            "channels": self.channels,
            "position": self.positions,
            "z": self.z,
            "salvage": self.salvage,
        }

    @property
    def boxes_of_each(self) -> int:
        """Into how many boxes each channel of the first source is cut."""
        return len((self.bboxes or (None,))[0] or (None,))

    def by_source(self, count: int) -> list["Selection"]:
        """Return what is taken of each of so many sources, all but the flips."""
        bboxes = (None,) * count if self.bboxes is None else self.bboxes
        if len(bboxes) != count:
            raise ValueError(f"bboxes has {_entries(bboxes, count, 'source')}: {BBOXES_FORM}")
        frames = self.frames if isinstance(self.frames, tuple) else (self.frames,) * count
        if len(frames) != count:
            raise ValueError(f"frames has {_entries(frames, count, 'source')}: {FRAMES_FORM}")
        return [
            replace(self, bboxes=(boxes,), frames=part, flips=None)
            for boxes, part in zip(bboxes, frames, strict=True)
        ]

    def stacks(self, recordings: Sequence[Recording]) -> list[list[Stack]]:
        """Return for each source its channels: those of the file, each cut into its boxes.

        Warn of what a user should know of a recording.

        Raises
        ------
        ValueError
            If a channel, position, slice, frame, box or flip does not fit.
        """
        parts = self.by_source(len(recordings))
        for recording in recordings:
            for note in recording.notes:
                warnings.warn(f"{recording.path}: {note}", stacklevel=3)
        found = [part._of(recording) for part, recording in zip(parts, recordings, strict=True)]
        return self.flipped(found)

    def flipped(self, found: Sequence[Sequence[_T]]) -> list[list[_T]]:
        """Flip the channels of each source; what is no stack is left as it is."""
        count = sum(map(len, found))
        flips = (None,) * count if self.flips is None else self.flips
        if len(flips) != count:
            raise ValueError(f"flips has {_entries(flips, count, 'channel')}: {FLIPS_FORM}")
        turns = iter(flips)
        return [[_turned(stack, next(turns)) for stack in stacks] for stacks in found]

    def _of(self, recording: Recording) -> list[Stack]:
        boxes, frames = (self.bboxes or (None,))[0], cast("slice | None", self.frames)
        stacks = []
        for position in self._positions(recording):
            z = self._slice(recording, position)
            numbers = self._channels(recording, position)
            movies = [position.movie(number, z) for number in numbers]
            lengths: dict[int, range] = {}  # channels of our own stores may differ in it
            for number, movie in zip(numbers, movies, strict=True):
                if (length := movie.shape[0]) not in lengths:  # a warning is said once
                    salvage, part = self.salvage, frames or slice(None)
                    lengths[length] = _selected(movie, part, position, salvage=salvage)
                taken = lengths[length]
                whole = (0, 0, *movie.shape[:0:-1])
                acquisition = position.channels[number].every(abs(taken.step))
                stacks += [_channel(movie, taken, box, acquisition) for box in boxes or (whole,)]
        return stacks

    def _positions(self, recording: Recording) -> list[Position]:
        names = [position.name for position in recording.positions]
        if self.positions is not None:
            chosen = _chosen("position", self.positions, names, recording.path)
            return [recording.positions[number] for number in chosen]
        if recording.default is not None:
            return [recording.positions[recording.default]]
        if len(names) > 1:
            raise ValueError(
                f"{recording.path} holds {len(names)} positions ({_listed(names)}): choose by "
                "position=0 (--position 0), by number or name"
            )
        return list(recording.positions)

    def _channels(self, recording: Recording, position: Position) -> Sequence[int]:
        if self.channels is None:
            return range(len(position.channels))
        names = [channel.channel or "" for channel in position.channels]
        return _chosen("channel", self.channels, names, recording.path)

    def _slice(self, recording: Recording, position: Position) -> int:
        if self.z is None and position.depth > 1:
            swapped = ""
            if position.movie(0, 0).shape[0] == 1:
                swapped = "; if they are frames, save the movie with slices and frames swapped"
            raise ValueError(
                f"{recording.path} has {position.depth} slices in z: choose one by z=0 (--z 0)"
                f"{swapped}"
            )
        z = self.z or 0
        if not 0 <= z < position.depth:
            raise ValueError(
                f"z={z} is not in {recording.path}: pass a slice from 0 to {position.depth - 1}"
            )
        return z


def _chosen(what: str, choices: Sequence[int | str], names: Sequence[str], path: str) -> list[int]:
    """Return the numbers that choices by number or name stand for."""
    numbers = []
    for choice in choices:
        # On the command line a number is text, too; a name goes before a number.
        if isinstance(choice, str) and names.count(choice) == 1:
            number = names.index(choice)
        elif isinstance(choice, str) and choice in names:
            raise ValueError(f"{path} has several {what}s named {choice!r}: choose by number")
        elif isinstance(choice, int) or choice.isdecimal():
            number = int(choice)
        else:
            number = -1
        if not 0 <= number < len(names):
            raise ValueError(
                f"{what} {choice!r} is not in {path}, which has {len(names)} "
                f"({_listed(names)}): choose by number, from 0, or name"
            )
        numbers.append(number)
    return numbers


def _listed(names: Sequence[str]) -> str:
    """Return numbers and names of the first few, for messages."""
    listed = [f"{number}: {name}" if name else str(number) for number, name in enumerate(names[:8])]
    return ", ".join(listed) + (", ..." if len(names) > 8 else "")


def _turned(stack: _T, flip: tuple[bool, bool] | None) -> _T:
    if not isinstance(stack, Stack) or flip is None:
        return stack
    step_y, step_x = (-1 if turned else 1 for turned in flip)
    return replace(stack, rows=stack.rows[::step_y], columns=stack.columns[::step_x])


def _entries(given: Sequence[Any], count: int, of: str) -> str:
    return f"{counted(len(given), 'entry', 'entries')} for {counted(count, of)}"


def _noted(frames: slice | Sequence[slice | None] | None) -> Any:
    if frames is None:
        return None
    if isinstance(frames, slice):
        return (frames.start, frames.stop, frames.step)
    return [_noted(part) for part in frames]


def _channel(movie: Movie, frames: range, box: tuple[int, ...], acquisition: Acquisition) -> Stack:
    _, height, width = movie.shape
    x0, y0, x1, y1 = box
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(
            f"box {box} does not fit {movie.path}: pass (x0, y0, x1, y1) with "
            f"0 <= x0 < x1 <= {width} and 0 <= y0 < y1 <= {height}"
        )
    return Stack(
        movie=movie,
        frames=frames,
        rows=range(y0, y1),
        columns=range(x0, x1),
        acquisition=acquisition,
    )


def _selected(movie: Movie, frames: slice, position: Position, *, salvage: bool) -> range:
    """Return the numbers of a movie's frames that a slice takes; at least one of any."""
    whole = movie.shape[0]
    promised = whole if position.promised is None else position.promised
    count = whole if salvage else promised
    selection = range(count)[frames]
    if count and not selection:
        raise ValueError(
            f"{frames=} selects none of the {counted(count, 'frame')} of {movie.path}: pass bounds "
            f"within 0 and {count}"
        )
    if selection and max(selection[0], selection[-1]) >= whole:
        some = f"take frames=slice(0, {whole}) (--frames 0:{whole}), or " if whole else ""
        raise ValueError(
            f"{movie.path} is cut short: {position.cut_short}; copy the file again, {some}"
            "take what there is by salvage=True (--salvage)"
        )
    if salvage and promised > whole:
        warnings.warn(
            f"{movie.path} is cut short: {position.cut_short}; {whole} of {promised} frames are "
            f"taken, at least {promised - whole} missing",
            stacklevel=2,
        )
    elif frames.stop is not None and frames.stop > count:
        warnings.warn(
            f"{movie.path} has {counted(count, 'frame')}, fewer than frames={frames.start or 0}:"
            f"{frames.stop} asks for",
            stacklevel=2,
        )
    return selection
