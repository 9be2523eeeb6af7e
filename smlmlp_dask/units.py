"""Which storage units a box reaches into, and how many: arithmetic on plain integers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

DECODING_BYTES = 2**26
"""Bytes in which one read decodes storage units side by side, unless a single unit takes more.
Those of an ordinary block take less."""


def at_a_time(unit_bytes: int) -> int:
    """Return how many storage units one read decodes side by side."""
    return max(1, DECODING_BYTES // max(1, unit_bytes))


@dataclass(frozen=True)
class Decoding:
    """What it takes to decode a channel's storage units.

    Attributes
    ----------
    unit : tuple of int
        What is decoded together: frames of the channel, and all rows and columns that are stored.
    unit_bytes : int
        Bytes that are held to decode one unit.
    together : int
        Units that one read decodes side by side.
    even : bool
        If each unit holds as many frames of the channel as any other.
    """

    unit: tuple[int, int, int]
    unit_bytes: int
    together: int
    even: bool = True

    @classmethod
    def stored(cls, unit: tuple[int, int, int], unit_bytes: int) -> "Decoding":
        """Return that of units whose encoded bytes may be as many as the decoded ones."""
        return cls(unit, 2 * unit_bytes, at_a_time(2 * unit_bytes))

    def held(
        self,
        shape: Sequence[int],
        block: Sequence[int],
        halo: tuple[int, int],
        origin: Sequence[int],
    ) -> int:
        """Return the bytes that a read of one block, with its halo, holds to decode units."""
        sides = zip(shape, block, (0, *halo), self.unit, origin, strict=True)
        regular = (self.even, True, True)
        touched = prod(
            most_touched(*side, regular=same) for side, same in zip(sides, regular, strict=True)
        )
        return min(self.together, touched) * self.unit_bytes


def most_touched(
    length: int, block: int, margin: int, unit: int, origin: int, *, regular: bool = True
) -> int:
    """Return how many units a block, with its margins, reaches into at most along one axis.

    `regular` says if units are all `unit` long; else they are at least that.
    """
    read = max(1, min(length, block + 2 * margin))
    if regular and read >= length:
        return max(1, -(-(origin + length) // unit) - origin // unit)
    if regular and margin == origin % unit == block % unit == 0:
        return block // unit
    return -(-(read - 1) // unit) + 1


def touched(box: Sequence[slice], unit: Sequence[int]) -> list[range]:
    """Return, for each axis, the numbers of the units that a box reaches into."""
    return [
        range(part.start // size, -(-part.stop // size))
        for part, size in zip(box, unit, strict=True)
    ]


def in_groups(box: Sequence[slice], unit: Sequence[int], most: int) -> Iterator[tuple[slice, ...]]:
    """Cut a box along the borders of storage units into parts of at most so many units."""
    cut: list[list[slice]] = []
    for part, size, numbers in reversed(list(zip(box, unit, touched(box, unit), strict=True))):
        step = max(1, min(len(numbers), most))
        most //= step
        starts = numbers[::step]
        cut.append(
            [slice(max(part.start, at * size), min(part.stop, (at + step) * size)) for at in starts]
        )
    yield from product(*reversed(cut))


def largest_tile(
    frame: tuple[int, int], unit: tuple[int, int], halo: tuple[int, int], pixels: int
) -> tuple[int, int]:
    """Return the largest tile of whole units that fits `pixels` with its halo: y is cut first."""
    height, width = frame
    rows = pixels // width - 2 * halo[0]
    if rows >= unit[0] or unit[1] >= width:
        return min(height, max(1, rows // unit[0]) * unit[0]), width
    rows = min(height, unit[0])
    columns = pixels // (rows + 2 * halo[0]) - 2 * halo[1]
    return rows, min(width, max(1, columns // unit[1]) * unit[1])


def cut_tile(tile: tuple[int, int], unit: tuple[int, int], pixels: int) -> tuple[int, int]:
    """Return the tile, or a part of it of at most `pixels`, of whole units where one is less."""
    if prod(tile) <= pixels:
        return tile
    rows, columns = pixels // tile[1], tile[1]
    if not rows:
        rows, columns = 1, pixels
    return rows // unit[0] * unit[0] or rows, min(tile[1], columns // unit[1] * unit[1] or columns)


def largest_divisor(number: int, most: int) -> int:
    """Return the largest divisor of `number` up to `most`."""
    return max(d for d in range(1, most + 1) if number % d == 0)


def units_decoded(length: int, block: int, margin: int, unit: int, origin: int) -> int:
    """Return how many storage units all blocks decode along one axis, without listing the blocks.

    The block that begins at `start` reads from ``max(0, start - margin)`` to
    ``min(length, start + block + margin)``; the axis begins at `origin` within a unit.
    """
    count = -(-length // block)
    at_begin = min(count, -(-margin // block))  # blocks whose reach is cut off at 0
    first = at_begin * (origin // unit) + _sum_of_floors(
        count - at_begin, block, origin + at_begin * block - margin, unit
    )
    inside = min(count, max(0, (length - margin) // block))  # those not cut off at the other end
    last = (count - inside) * -(-(origin + length) // unit) + _sum_of_floors(
        inside, block, origin + block + margin + unit - 1, unit
    )
    return last - first


def _sum_of_floors(count: int, slope: int, start: int, divisor: int) -> int:
    """Return the sum of ``(start + i * slope) // divisor`` for i in range(count).

    The steps of Euclid's algorithm: whole parts are summed at once, and what is left is a sum over
    the lattice points under a line, with the axes exchanged.
    """
    total = 0
    while count > 0:
        whole, start = divmod(start, divisor)
        total += count * whole
        whole, slope = divmod(slope, divisor)
        total += count * (count - 1) // 2 * whole
        top = start + slope * count
        count, start = divmod(top, divisor)
        slope, divisor = divisor, slope
    return total
