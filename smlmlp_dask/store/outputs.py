"""What a store holds of each channel: its outputs, and where their arrays lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .codecs import RAW

BACKGROUND, SIGNAL = "background", "signal"

DEFAULT = (BACKGROUND,)
"""The outputs of stores that note none."""


@dataclass(frozen=True)
class Output:
    """One thing that a job stores of each channel.

    Attributes
    ----------
    name : str
        ``background``, ``signal``, or ``raw``: frames as they are.
    dtypes : tuple of str
        Of each channel.
    """

    name: str
    dtypes: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Where its images lie in the store, with a slash: backgrounds at the top, as ever."""
        return "" if self.name in (BACKGROUND, RAW) else f"{self.name}/"

    def array(self, path: Path, channel: int) -> Path:
        """Return the folder of the array that holds the pixels of a channel."""
        return path / f"{self.folder}channel_{channel}" / "0"


def stored_outputs(attributes: Mapping[str, Any], count: int) -> list[Output]:
    """Return the outputs of so many channels, by the attributes of their store."""
    names = attributes.get("outputs", DEFAULT)
    if names == [RAW]:
        return [Output(RAW, tuple(str(dtype) for dtype in attributes["dtypes"]))]
    return [Output(name, (dtype_of(name, attributes.get("pedestal")),) * count) for name in names]


def dtype_of(name: str, pedestal: int | None) -> str:
    """Return the dtype of an output of filtered frames: a signal on a pedestal is of counts."""
    return "uint16" if name == SIGNAL and pedestal is not None else "float32"


def counts_clipped(attributes: Mapping[str, Any]) -> bool:
    """Say whether the records of a store also count the clipped pixels of each block."""
    return attributes.get("pedestal") is not None


def arrays_of(path: Path, outputs: Sequence[Output], count: int) -> list[tuple[Path, ...]]:
    """Return the arrays of each channel, one for each output."""
    return [tuple(output.array(path, i) for output in outputs) for i in range(count)]
