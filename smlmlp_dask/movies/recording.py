"""What a source holds: positions, their channels and slices in z."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from .acquisition import UNKNOWN, Acquisition
from .stack import Movie


@dataclass(frozen=True, kw_only=True, eq=False)
class Position:
    """One place of the sample, scene or image of a file: channels of one shape.

    Attributes
    ----------
    name : str
        As the file calls it.
    movie : callable
        ``movie(channel, z)`` returns the movie of a channel in a slice; it reads no pixels.
    channels : tuple of Acquisition
        One for each channel, in the file's order.
    depth : int
        Slices in z.
    promised : int or None
        Frames that the file should hold, where its movies have fewer whole ones: the recording
        was aborted, or the file is cut short.
    cut_short : str
        With `promised`: what is missing, as part of a message.
    """

    name: str = ""
    movie: Callable[[int, int], Movie]
    channels: tuple[Acquisition, ...] = (UNKNOWN,)
    depth: int = 1
    promised: int | None = None
    cut_short: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Recording:
    """What a source holds, by its metadata.

    Attributes
    ----------
    path : str
        The source, for messages.
    format : str
        Name of its format.
    positions : tuple of Position
        At least one, in the file's order.
    default : int or None
        Which of several positions is meant, if the source's path says so.
    notes : tuple of str
        What a user should know before a run, each one line: a missing number in a run of files.
    """

    path: str
    format: str
    positions: tuple[Position, ...]
    default: int | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, movie: Movie, format: str, *acquisition: Acquisition) -> Self:
        """Return the recording of one movie: one position, one channel."""
        position = Position(movie=lambda *_: movie, channels=acquisition or (UNKNOWN,))
        return cls(path=movie.path, format=format, positions=(position,))
