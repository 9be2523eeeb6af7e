"""Frames of a camera as photoelectrons, in place of its counts."""

from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from .camera import Camera, Values, part_of
from .stack import Stack

_PIXELS_AT_A_TIME = 2**18  # converted while they are in a cache


def in_photons(stack: Stack, camera: Camera | None) -> Stack:
    """Return a stack in the unit that a job filters."""
    if camera is None or not camera.photons:
        return stack
    return replace(stack, photons=partial(_photons, camera))


def in_counts(stack: Stack) -> Stack:
    """Return a stack as the camera gave it."""
    return stack if stack.photons is None else replace(stack, photons=None)


def _photons(camera: Camera, counts: npt.NDArray[Any], box: tuple[slice, slice]) -> Values:
    """Return (counts - baseline) * gain of a box of the camera's frames."""
    gain, baseline = part_of(camera.gain, box), part_of(camera.baseline, box)
    photons = np.empty(counts.shape, np.float32)
    step = max(1, _PIXELS_AT_A_TIME // max(1, prod(counts.shape[1:])))
    with np.errstate(over="ignore", invalid="ignore"):  # pixels that are no numbers
        for first in range(0, len(counts), step):
            part = photons[first : first + step]
            few = counts[first : first + step]
            np.subtract(few, baseline, out=part, dtype=np.float32, casting="same_kind")
            np.multiply(part, gain, out=part)
    return photons
