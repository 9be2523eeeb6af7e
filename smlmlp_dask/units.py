"""The storage units that a box touches, and how many: arithmetic on plain integers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

DECODING_BYTES = 2**26
"""Bytes of storage units that one read decodes at a time, unless a single unit takes more. The
units of an ordinary block take less."""

COUNTED = 10_000
"""Blocks along one axis that are counted one by one; they take some 5 ms."""


def at_a_time(unit_bytes: int) -> int:
    """Return how many storage units one read decodes at a time."""
    return max(1, DECODING_BYTES // max(1, unit_bytes))


@dataclass(frozen=True)
class Decoding:
    """How a channel's storage units are decoded, and the memory for it.

    Attributes
    ----------
    unit : tuple of int
        Shape decoded together: frames of the channel, and all rows and columns of the unit.
    unit_bytes : int
        Memory to decode one unit.
    together : int
        Units that one read decodes at a time.
    even : bool
        Whether all units hold the same number of frames of the channel.
    """

    unit: tuple[int, int, int]
    unit_bytes: int
    together: int
    even: bool = True

    @classmethod
    def stored(cls, unit: tuple[int, int, int], unit_bytes: int) -> "Decoding":
        """Return the decoding of units whose encoded bytes may take as much as their pixels."""
        return cls(unit, 2 * unit_bytes, at_a_time(2 * unit_bytes))

    def held(
        self,
        shape: Sequence[int],
        block: Sequence[int],
        margins: Sequence[int],
        origin: Sequence[int],
    ) -> int:
        """Return the memory that reading one block, with its margins, takes to decode units."""
        sides = zip(shape, block, margins, self.unit, origin, strict=True)
        regular = (self.even, True, True)
        touched = prod(
            most_touched(*side, regular=same) for side, same in zip(sides, regular, strict=True)
        )
        return min(self.together, touched) * self.unit_bytes


@dataclass(frozen=True)
class Stored:
    """What a job stores of filtered frames, and what a task holds for it.

    Attributes
    ----------
    background, signal, snr : int
        Bytes of a pixel, 0 where it is not stored.
    mean : bool
        Whether each block also stores one frame: the mean of its background.
    photons : bool
        Whether frames are float32 copies of those of the source.
    maps_bytes : int
        Bytes of the maps of a camera's pixels.
    copied : bool
        Whether a copy of the background is made: an SNR takes its memory, unless it is rounded.
    """

    background: int = 4
    signal: int = 0
    snr: int = 0
    mean: bool = False
    photons: bool = False
    maps_bytes: int = 0
    copied: bool = False

    @property
    def itemsize(self) -> int:
        """Bytes of a pixel of all outputs with as many frames as the movie."""
        return self.background + self.signal + self.snr

    @property
    def largest(self) -> int:
        """Bytes of a pixel of the output that takes most."""
        return max(self.background, self.signal, self.snr)

    def held(self, read: Sequence[int], chunk: Sequence[int]) -> dict[str, int]:
        """Return the bytes that a task holds, by purpose, by the shapes it reads and writes."""
        frame, held = prod(chunk[1:]), {}
        if self.photons:
            held["in photons"] = 4 * prod(read)
        if self.signal:  # with the float32 frame from which it is rounded
            held["signal"] = self.signal * prod(chunk) + 4 * frame
        if self.copied:
            held["copy of the background"] = self.background * prod(chunk)
        if self.maps_bytes:  # those of the camera, and their part that belongs to the block
            held["maps"] = self.maps_bytes + 3 * 4 * frame
        if self.mean:  # two sums, and the mean: once, and encoded twice
            held["mean"] = (2 * 8 + 3 * 4) * frame
        return held


BACKGROUND_ALONE = Stored()
"""The background is stored in float32, and nothing else."""


def most_touched(
    length: int, block: int, margin: int, unit: int, origin: int, *, regular: bool = True
) -> int:
    """Return the most units that a block, with its margins, touches along one axis.

    If `regular`, all units are `unit` long; else at least that.
    """
    read = max(1, min(length, block + 2 * margin))
    if regular and read >= length:
        return max(1, -(-(origin + length) // unit) - origin // unit)
    if regular and margin == origin % unit == block % unit == 0:
        return block // unit
    return -(-(read - 1) // unit) + 1


def touched(box: Sequence[slice], unit: Sequence[int]) -> list[range]:
    """Return, for each axis, the numbers of the units that a box touches."""
    return [
        range(part.start // size, -(-part.stop // size))
        for part, size in zip(box, unit, strict=True)
    ]


def in_groups(box: Sequence[slice], unit: Sequence[int], most: int) -> Iterator[tuple[slice, ...]]:
    """Cut a box along the borders of storage units into parts of at most `most` units."""
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
    """Return the largest tile of whole units that fits `pixels` with its halo; cut y first."""
    height, width = frame
    rows = pixels // width - 2 * halo[0]
    if rows >= unit[0] or unit[1] >= width:
        return min(height, max(1, rows // unit[0]) * unit[0]), width
    rows = min(height, unit[0])
    columns = pixels // (rows + 2 * halo[0]) - 2 * halo[1]
    return rows, min(width, max(1, columns // unit[1]) * unit[1])


def halved(frame: tuple[int, int], unit_rows: int) -> Iterator[tuple[int, int]]:
    """Yield a frame, and tiles of ever fewer rows: of whole units, as long as there are some."""
    rows, width = frame
    yield frame
    while rows > 1:
        half = -(-rows // 2)
        units = -(-half // unit_rows) * unit_rows
        rows = units if units < rows else half
        yield rows, width


def cut_tile(tile: tuple[int, int], unit: tuple[int, int], pixels: int) -> tuple[int, int]:
    """Cut a tile to at most `pixels`: to whole units, unless one is already larger."""
    if prod(tile) <= pixels:
        return tile
    rows, columns = pixels // tile[1], tile[1]
    if not rows:
        rows, columns = 1, pixels
    return rows // unit[0] * unit[0] or rows, min(tile[1], columns // unit[1] * unit[1] or columns)


def largest_divisor(number: int, most: int) -> int:
    """Return the largest divisor of `number` up to `most`."""
    return max(d for d in range(1, most + 1) if number % d == 0)


def units_decoded(length: int, block: int, margin: int, unit: int, origin: int) -> float:
    """Return how many storage units all blocks decode along one axis.

    The block that begins at `start` reads from ``max(0, start - margin)`` to
    ``min(length, start + block + margin)``; the axis begins at `origin` within a unit. Of more
    than `COUNTED` blocks, those between the first ones and the last decode as many as the first
    do on average: exact to less than a unit for each run of `COUNTED` blocks.
    """
    starts = range(0, length, block)
    first, last = starts[:-1][:COUNTED], starts[-1:]
    among_first, in_last = (
        sum(
            -(-(origin + min(length, start + block + margin)) // unit)
            - (origin + max(0, start - margin)) // unit
            for start in counted
        )
        for counted in (first, last)
    )
    if len(starts) <= COUNTED:
        return among_first + in_last
    return among_first * (len(starts) - 1) / COUNTED + in_last
