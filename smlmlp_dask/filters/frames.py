"""Runs of frames in memory, as the steps of a background take and leave them."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from . import device

Frames: TypeAlias = Sequence[Any]
"""NumPy or CuPy stacks (frame, y, x) of one dtype, one after the other in time; at least one."""

Halo: TypeAlias = tuple[int, int, int]
"""How far along (frame, y, x) a pixel's background depends on others."""


def joined(parts: Frames, start: int, stop: int) -> Any:
    """Return frames `start` to `stop` as one stack: a view, if one part has them all."""
    cut, at = [], 0
    for part in parts:
        piece = part[max(0, start - at) : max(0, stop - at)]
        at += len(part)
        if len(piece):
            cut.append(piece)
    if not cut:
        return parts[0][:0]
    if len(cut) == 1:
        return cut[0]
    return device.namespace(cut[0]).concatenate(cut)
