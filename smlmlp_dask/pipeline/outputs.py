"""What a job stores of each block: its background, its signal, their ratio to the noise, a mean."""

import numbers
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Self

import numpy as np

from smlmlp_dask.filters.compiled.pedestal import MOST, on_pedestal
from smlmlp_dask.filters.compiled.snr import Noise, signal_to_noise
from smlmlp_dask.messages import shown
from smlmlp_dask.movies.camera import Camera, CameraSettings
from smlmlp_dask.store.codecs import Storage
from smlmlp_dask.store.outputs import BACKGROUND, DEFAULT, MEAN, NAMES, SIGNAL, SNR, dtype_of
from smlmlp_dask.units import Stored

_FORMS = f"pass {', '.join(NAMES)}, or several of them"


@dataclass(frozen=True)
class Outputs:
    """What a job stores of filtered frames.

    Attributes
    ----------
    names : tuple of str
        Some of `NAMES`, in their order.
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
            raise TypeError(f"outputs is {shown(outputs)}: {_FORMS}")
        for name in names:
            if name not in NAMES:
                raise ValueError(f"outputs holds {shown(name)}: {_FORMS}")
        if not names or len({*names}) != len(names):
            raise ValueError(f"outputs is {shown(outputs)}: {_FORMS}, each once")
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

    def camera(
        self, *, gain: Any, baseline: Any, variance: Any, photons: Any
    ) -> CameraSettings | None:
        """Check the arguments of `run_background` that say what the camera does."""
        snr = SNR in self.names
        return CameraSettings.checked(
            gain=gain, baseline=baseline, variance=variance, photons=photons, snr=snr
        )

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

    def stores(
        self, camera: Camera | None, frame: Sequence[int], *, rounded: bool = False
    ) -> Stored:
        """Return what tasks hold and store, by a channel's camera and its (height, width)."""
        sizes = {n: np.dtype(d).itemsize for n, d in zip(self.names, self.dtypes, strict=True)}
        maps = 0 if camera is None else len(camera.maps)
        return Stored(
            background=sizes.get(BACKGROUND, 0),
            signal=sizes.get(SIGNAL, 0),
            snr=sizes.get(SNR, 0),
            mean=MEAN in self.names,
            photons=camera is not None and camera.photons,
            maps_bytes=4 * maps * prod(frame),
            copied=rounded and {BACKGROUND, SNR} <= {*self.names},
        )

    def pixels(
        self,
        raw: np.ndarray[Any, Any],
        background: np.ndarray[Any, Any],
        storage: Storage,
        noise: Noise | None = None,
    ) -> Iterator[tuple[str, np.ndarray[Any, Any], int]]:
        """Yield the pixels to store of some frames, one output after the other.

        Each is made only when it is asked for, perhaps in the memory of the one before, so that
        they need not be in memory together: be done with one before you ask for the next.

        Parameters
        ----------
        raw, background : numpy.ndarray
            Frames and their float32 background, which is overwritten in the end.
        storage : Storage
            How many mantissa bits floats keep.
        noise : Noise, optional
            What the SNR depends on.

        Yields
        ------
        str
            The output.
        numpy.ndarray
            Its pixels; of the mean background the sum of these frames, float64.
        int
            Of a signal on a pedestal, how many pixels were clipped; else 0.
        """
        if self.pedestal is not None:
            yield SIGNAL, *on_pedestal(raw, background, self.pedestal)
        elif SIGNAL in self.names:
            with np.errstate(over="ignore", invalid="ignore"):  # infinite pixels
                signal = np.subtract(raw, background, dtype=np.float32, casting="same_kind")
            yield SIGNAL, storage.rounded(signal), 0
            del signal  # before the next one is made
        if MEAN in self.names:
            with np.errstate(invalid="ignore"):
                total = background.sum(axis=0, dtype=np.float64)
            yield MEAN, total, 0
        exact = background
        if BACKGROUND in self.names:
            if SNR in self.names and storage.relative_error:
                exact = background.copy()  # it is rounded in place: the others are of the exact one
            yield BACKGROUND, storage.rounded(background), 0
        if SNR in self.names and noise is not None:
            yield SNR, storage.rounded(signal_to_noise(raw, exact, noise)), 0


BACKGROUND_ALONE = Outputs()
"""What is stored by default; of frames that are kept as they are, it is not asked."""


def clipping(pixels: int, pedestal: int | None) -> str:
    """Say how many pixels were clipped, and what helps."""
    what = "pixel of the signal was" if pixels == 1 else "pixels of the signal were"
    return (
        f"{pixels:,} {what} clipped to 0 or {MOST}, at a pedestal of {pedestal}: choose another "
        "pedestal, or store the signal in float32, without one"
    )
