"""What a job stores of each block: its background, its signal, or both."""

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from smlmlp_dask.filters.compiled.pedestal import MOST, on_pedestal
from smlmlp_dask.messages import shown
from smlmlp_dask.store.codecs import Storage
from smlmlp_dask.store.outputs import BACKGROUND, DEFAULT, SIGNAL, dtype_of

NAMES = (BACKGROUND, SIGNAL)
"""Outputs of filtered frames, in the order of their checksums."""


@dataclass(frozen=True)
class Outputs:
    """What a job stores of filtered frames.

    Attributes
    ----------
    names : tuple of str
        ``background``, ``signal``, or both.
    pedestal : int or None
        The signal is stored as uint16, so many counts higher; None: as float32.
    """

    names: tuple[str, ...] = DEFAULT
    pedestal: int | None = None

    @classmethod
    def checked(cls, outputs: Any, pedestal: Any = None) -> Self:
        """Check the arguments of `run_background` that say what is stored."""
        names = (outputs,) if isinstance(outputs, str) else outputs
        if not isinstance(names, Sequence):
            raise TypeError(f"outputs is {shown(outputs)}: pass {', '.join(NAMES)}, or both")
        for name in names:
            if name not in NAMES:
                raise ValueError(f"outputs holds {shown(name)}: pass {', '.join(NAMES)}, or both")
        if not names or len({*names}) != len(names):
            raise ValueError(
                f"outputs is {shown(outputs)}: pass {', '.join(NAMES)}, or both, each once"
            )
        if pedestal is None:
            return cls(tuple(name for name in NAMES if name in names))
        whole = isinstance(pedestal, numbers.Integral) and not isinstance(pedestal, bool)
        if not whole or not 0 <= pedestal <= MOST:
            raise ValueError(
                f"pedestal is {shown(pedestal)}: pass a whole number of counts from 0 to {MOST}, "
                "such as 100, or None for a signal in float32"
            )
        if SIGNAL not in names:
            raise ValueError(
                f"pedestal is {pedestal}, and no signal is stored: add signal to outputs (--write "
                "signal), or leave the pedestal out"
            )
        return cls(tuple(name for name in NAMES if name in names), int(pedestal))

    @classmethod
    def recorded(cls, attributes: Mapping[str, Any]) -> Self:
        """Return the outputs of a store of filtered frames."""
        return cls.checked(attributes.get("outputs", DEFAULT), attributes.get("pedestal"))

    def to_attributes(self) -> dict[str, Any]:
        """Return what a store records: nothing of the background alone."""
        if self.names == DEFAULT:
            return {}
        return {"outputs": list(self.names), "pedestal": self.pedestal}

    @property
    def dtypes(self) -> list[str]:
        """The dtype of each output."""
        return [dtype_of(name, self.pedestal) for name in self.names]

    @property
    def pixel_bytes(self) -> tuple[int, int]:
        """Bytes of a pixel of the background and of the signal, 0 where one is not stored."""
        sizes = {n: np.dtype(d).itemsize for n, d in zip(self.names, self.dtypes, strict=True)}
        return sizes.get(BACKGROUND, 0), sizes.get(SIGNAL, 0)

    def pixels(
        self, raw: np.ndarray[Any, Any], background: np.ndarray[Any, Any], storage: Storage
    ) -> tuple[list[np.ndarray[Any, Any]], list[int]]:
        """Return the pixels to store of some frames, and a count for the records.

        Parameters
        ----------
        raw, background : numpy.ndarray
            Frames and their float32 background, which may be rounded in place.
        storage : Storage
            How many mantissa bits floats keep.

        Returns
        -------
        list of numpy.ndarray
            One for each output.
        list of int
            With a pedestal, how many pixels were clipped; else nothing.
        """
        made: dict[str, np.ndarray[Any, Any]] = {}
        clipped: list[int] = []
        if SIGNAL in self.names and self.pedestal is None:
            with np.errstate(over="ignore", invalid="ignore"):  # infinite pixels
                signal = np.subtract(raw, background, dtype=np.float32, casting="same_kind")
            made[SIGNAL] = storage.rounded(signal)
        elif self.pedestal is not None:
            made[SIGNAL], count = on_pedestal(raw, background, self.pedestal)
            clipped = [count]
        if BACKGROUND in self.names:
            made[BACKGROUND] = storage.rounded(background)  # only now: the signal is of the exact
        return [made[name] for name in self.names], clipped


def clipping(pixels: int, pedestal: int | None) -> str:
    """Say how many pixels were clipped, and what helps."""
    what = "pixel of the signal was" if pixels == 1 else "pixels of the signal were"
    return (
        f"{pixels:,} {what} clipped to 0 or {MOST}, at a pedestal of {pedestal}: choose another "
        "pedestal, or store the signal in float32, without one"
    )
