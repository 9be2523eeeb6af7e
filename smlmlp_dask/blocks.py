"""Block plans: arithmetic on plain integers, without Dask, Zarr or data."""

import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from math import prod
from operator import attrgetter
from typing import TypeAlias

from .units import (
    BACKGROUND_ALONE,
    Decoding,
    Stored,
    cut_tile,
    halved,
    largest_divisor,
    largest_tile,
    touched,
    units_decoded,
)

Chunks: TypeAlias = tuple[tuple[int, ...], ...]
"""Block lengths along each axis, as in `dask.array.Array.chunks`."""

BLOCK_BYTES = 16 * 2**20
"""Float32 bytes of one block of background.

For arrays over 32 MB the C library takes new pages from the system, and faulting them in cost the
filter 20-30 % of its speed. Far smaller blocks cost scheduling time instead.
"""

SMALLEST_BYTES = 2**18
"""Float32 bytes of the smallest chunks we choose: smaller ones would make too many files."""

SLAB_BYTES = 2**30
"""Most bytes of a tiled stack held at once to merge its tiles into whole frames."""

MEAN_FRAMES, MEAN_BYTES = 64, 2**28
"""Frames of a block that stores their mean, as one frame, and bytes up to which it gets them."""

CODEC_BYTES = 2**31 - 17
"""Most bytes of a chunk of the output: Blosc takes no more at once."""


def frames_per_block(frame_pixels: int, unit: int = 1, block_bytes: int = BLOCK_BYTES) -> int:
    """Return how many frames make a block: a multiple of `unit`, near `block_bytes` of float32.

    `unit` is how many are stored together; a block holds at least one such unit.
    """
    fitting = block_bytes // (4 * frame_pixels)
    return max(1, fitting // unit) * unit


def split(length: int, step: int) -> tuple[int, ...]:
    """Cut an axis into runs of `step` and a shorter last one; an empty axis is one empty run."""
    if length == 0:
        return (0,)
    whole, rest = divmod(length, step)
    return (step,) * whole + ((rest,) if rest else ())


Box: TypeAlias = tuple[slice, slice, slice]
"""A part of a stack: slices along (frame, y, x) with plain, non-negative bounds."""


@dataclass(frozen=True)
class Block:
    """A part of a stack that is read, filtered and written together.

    Attributes
    ----------
    number : int
        Its place in the order of `BlockPlan.blocks`.
    read : Box
        The part of the source to read: `inner` and a halo around it, where the steps have one in
        time or frames are tiled.
    inner : Box
        The part of the output to compute and write: whole chunks.
    run : int
        Its place along the frames: how many blocks of the same pixels are before it.
    """

    number: int
    read: Box
    inner: Box
    run: int = 0

    @property
    def pixels(self) -> int:
        """Number of pixels that are written."""
        return prod(part.stop - part.start for part in self.inner)

    @property
    def own(self) -> Box:
        """Position of `inner` within `read`."""
        frames, rows, columns = (
            slice(inner.start - read.start, inner.stop - read.start)
            for inner, read in zip(self.inner, self.read, strict=True)
        )
        return frames, rows, columns


@dataclass(frozen=True)
class BlockPlan:
    """How one channel is cut into blocks.

    Attributes
    ----------
    shape : tuple of int
        (frame, y, x) of source and output.
    itemsize : int
        Bytes of one source pixel.
    unit : tuple of int
        Shape of a storage unit: what the source stores, and decodes, together.
    chunks : tuple of int
        Chunk shape of the output.
    block : tuple of int
        Shape of one block, a multiple of `chunks` on each axis that it does not span.
    halo : tuple of int
        Pixels (y, x) that a block of tiled frames reads beyond its own.
    origin : tuple of int
        Position within a unit of the source where the channel begins, on each axis.
    decoding : Decoding or None
        How units are decoded, and the memory for it; by default as `unit` says.
    kept : bool
        Whether pixels are stored as they are, instead of filtered to float32.
    halo_fr : int
        Frames that a block reads before its own and after them. With such a halo, a block is
        filtered as a whole; else one chunk after the other.
    later_fr : tuple of int
        For each step, the halo in frames of the steps after it.
    stores : Stored
        What is stored of filtered frames.
    """

    shape: tuple[int, int, int]
    itemsize: int
    unit: tuple[int, int, int]
    chunks: tuple[int, int, int]
    block: tuple[int, int, int]
    halo: tuple[int, int]
    origin: tuple[int, int, int] = (0, 0, 0)
    decoding: Decoding | None = None
    kept: bool = False
    halo_fr: int = 0
    later_fr: tuple[int, ...] = (0,)
    stores: Stored = BACKGROUND_ALONE

    @property
    def margins(self) -> tuple[int, int, int]:
        """How far a block reads beyond its own, along (frame, y, x)."""
        return self.halo_fr, *self.halo

    @property
    def n_blocks(self) -> int:
        """Number of blocks, one task each."""
        return prod(-(-n // b) for n, b in zip(self.shape, self.block, strict=True))

    @property
    def stored_itemsize(self) -> int:
        """Bytes of one pixel of all outputs."""
        return self.itemsize if self.kept else self.stores.itemsize

    @property
    def planes(self) -> "BlockPlan":
        """The plan of an output with one frame for each block, under the block's number."""
        frames, *tile = self.block
        shape = (-(-self.shape[0] // frames), *self.shape[1:])
        chunk = (1, tile[0], tile[1])
        return BlockPlan(shape, 4, chunk, chunk, chunk, (0, 0))

    @property
    def block_bytes(self) -> int:
        """Most bytes that one task holds: the sum of `held`."""
        return sum(self.held.values())

    @property
    def held(self) -> dict[str, int]:
        """Bytes that one task holds, by purpose.

        The frames it read; the storage units decoded at a time, with their encoded bytes; the
        filtered frames of one chunk, or with a halo in time of the block, and what the step before
        left; and that chunk encoded, twice, since the codec's buffer is cut to length. A chunk that
        is cut out or filled up is copied, too.
        """
        read = self._read_shape
        decoding = self.decoding or Decoding.stored(self.unit, self.itemsize * prod(self.unit))
        filtered = 0 if self.kept else 4 * self._most_filtered * prod(read[1:])
        chunk = (self.itemsize if self.kept else self.stores.largest) * prod(self.chunks)
        encoding = 2 * chunk
        if tuple(self.chunks[1:]) != tuple(self.shape[1:]):
            encoding += chunk  # cut out of its halo
        elif self.halo_fr:
            encoding += chunk  # the last one, filled up
        elif rest := self.shape[0] % self.chunks[0]:
            # The last chunk of a channel is filled up; the filling takes no room once encoded.
            encoding = max(encoding, chunk + 3 * rest * (chunk // self.chunks[0]) - filtered)
        decoded = decoding.held(self.shape, self.block, self.margins, self.origin)
        held = {"frames read": self.itemsize * prod(read), "decoding": decoded}
        if not self.kept:
            held |= {"filtered": filtered, **self.stores.held(read, self.chunks)}
        return held | {"encoding": encoding}

    @property
    def _most_filtered(self) -> int:
        """Most float32 frames held at a time: what a step takes, and what it finds."""
        whole, read = max(1, self.shape[0]), self._read_shape[0]
        own = min(self.block[0] if self.halo_fr else self.chunks[0], whole)
        found = [min(own + 2 * later, whole) for later in self.later_fr]
        # A median sorts counts of 16 bits in place, and float32 copies of others.
        first = read if self.halo_fr and (self.itemsize > 2 or self.stores.photons) else 0
        return max(map(sum, pairwise([first, *found])))

    @property
    def read_amplification(self) -> float:
        """How many times a pixel of the source is decoded, on average."""
        decoded, needed = 1.0, 1
        sides = (self.shape, self.block, self.margins, self.unit, self.origin)
        for length, block, margin, unit, start in zip(*sides, strict=True):
            decoded *= units_decoded(length, block, margin, unit, start)
            needed *= -(-(start + length) // unit) - start // unit
        return decoded / needed if needed else 1.0

    @property
    def _read_shape(self) -> tuple[int, ...]:
        sides = zip(self.block, self.margins, self.shape, strict=True)
        return tuple(min(length + 2 * margin, max(1, whole)) for length, margin, whole in sides)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Number of the output's chunks on each axis."""
        frames, rows, columns = (-(-n // c) for n, c in zip(self.shape, self.chunks, strict=True))
        return frames, rows, columns

    def chunks_of(self, block: Block) -> list[tuple[int, int, int]]:
        """Return the places in the output's chunk grid that a block writes."""
        frames, rows, columns = touched(block.inner, self.chunks)
        return list(product(frames, rows, columns))

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks in the order of the stack's frames."""
        starts = (range(0, n, b) for n, b in zip(self.shape, self.block, strict=True))
        for number, corner in enumerate(product(*starts)):
            yield self._block_at(number, corner)

    def nth_block(self, number: int) -> Block:
        """Return the block of this number, without a loop over the others."""
        rest, corner = number, []
        for length, block in zip(self.shape[:0:-1], self.block[:0:-1], strict=True):
            rest, place = divmod(rest, -(-length // block))
            corner.append(place * block)
        return self._block_at(number, (rest * self.block[0], *reversed(corner)))

    def _block_at(self, number: int, corner: Sequence[int]) -> Block:
        ends = [min(c + b, n) for c, b, n in zip(corner, self.block, self.shape, strict=True)]
        outer = zip(corner, ends, self.margins, self.shape, strict=True)
        read = tuple(slice(max(0, c - m), min(e + m, n)) for c, e, m, n in outer)
        inner = tuple(slice(c, e) for c, e in zip(corner, ends, strict=True))
        return Block(number, read, inner, corner[0] // self.block[0])  # type: ignore[arg-type]


def plan_blocks(
    shape: tuple[int, int, int],
    itemsize: int,
    unit: tuple[int, int, int],
    halo: tuple[int, int],
    *,
    origin: tuple[int, int, int] = (0, 0, 0),
    decoding: Decoding | None = None,
    kept: bool = False,
    halo_fr: int = 0,
    later_fr: tuple[int, ...] = (0,),
    stores: Stored = BACKGROUND_ALONE,
    memory_bytes: int = sys.maxsize,
    slab_bytes: int = SLAB_BYTES,
    block_bytes: int = BLOCK_BYTES,
) -> BlockPlan:
    """Choose blocks that decode each storage unit once and write whole chunks.

    Blocks are runs of whole frames, which need no neighbours. Frames are tiled, with a halo, only
    if the source is tiled and a unit's frames exceed `slab_bytes`, or if a chunk of one frame is
    too large for the codec. A block that still exceeds `memory_bytes` gets fewer frames than one
    storage unit has; such units are decoded several times.

    With a halo in time, a block is as many such runs of frames as make four halos, so that it reads
    half as many frames again. Where they exceed the memory, fewer frames and smaller tiles are
    tried, and those are taken that decode the fewest pixels. Blocks that store their mean are
    joined to `MEAN_FRAMES`, so that all means take little.

    Parameters
    ----------
    shape : tuple of int
        (frame, y, x) of the stack.
    itemsize : int
        Bytes of one source pixel.
    unit : tuple of int
        Shape that the source stores together, (frame, y, x): its chunk; one frame of a TIFF.
    halo : tuple of int
        Reach of the kernels along (y, x), in pixels.
    origin, decoding, kept, halo_fr, later_fr, stores
        As in `BlockPlan`. Frames that are kept are cut as their backgrounds would be.
    memory_bytes : int
        Most bytes that one block may hold. If no block fits, the plan has the smallest ones.
    slab_bytes : int
        Bytes that a block should not exceed, its encoded bytes not counted.
    block_bytes : int
        Float32 bytes that a chunk of the output should not exceed.
    """
    frames, height, width = shape
    together = max(1, min(unit[0], frames))
    step = min(frames_per_block(height * width, together, block_bytes), max(1, frames))

    def plan(step: int, tile: tuple[int, int]) -> BlockPlan:
        """Return a plan with blocks of `step` frames of one tile, in chunks that divide them."""
        most = CODEC_BYTES // (itemsize if kept and itemsize > 4 else 4)
        tile = cut_tile(tile, unit[1:], most)
        fitting = max(1, block_bytes // (4 * prod(tile)))
        chunk = step if step <= fitting else largest_divisor(step, fitting)
        if 4 * chunk * prod(tile) < min(SMALLEST_BYTES, block_bytes // 4):
            chunk = step  # no good divisor: prefer large chunks to tiny ones
        if chunk * prod(tile) > most:
            chunk = largest_divisor(step, most // prod(tile))
        chunks, block = (chunk, *tile), (step, *tile)
        rest = (origin, decoding, kept, halo_fr, later_fr, stores)
        return BlockPlan(shape, itemsize, unit, chunks, block, halo, *rest)

    def cut(step: int, most: int, bytes_of: Callable[[BlockPlan], int]) -> BlockPlan:
        """Return a plan with whole frames or, if a block exceeds `most` bytes, with tiles."""
        whole = plan(step, (height, width))
        if bytes_of(whole) <= most:
            return whole
        read = itemsize + 4 * stores.photons
        kept = bytes_of(whole) - read * prod(whole._read_shape)
        pixels = max(0, most - kept) // (read * step)
        return plan(step, largest_tile((height, width), unit[1:], halo, pixels))

    def fewer(step: int) -> int:
        """Return about half as many frames: whole units as long as there are some."""
        units = step // together
        return -(-units // 2) * together if units > 1 else -(-step // 2)

    if halo_fr and frames:
        long = []
        for tile in halved((height, width), unit[1]):
            run = step
            while (joined := _joined(plan(run, tile), memory_bytes)) is None and run > 1:
                run = fewer(run)
            long.append(joined or plan(run, tile))
        fits = [tiles for tiles in long if tiles.block_bytes <= memory_bytes]
        return min(fits, key=_amplification) if fits else min(long, key=_block_bytes)

    best = cut(step, min(slab_bytes, memory_bytes), _without_encoded)
    while best.block_bytes > memory_bytes:  # halve the frames until a block fits
        smallest = plan(step, largest_tile((height, width), unit[1:], halo, 0))
        tried = (cut(step, memory_bytes, _block_bytes), plan(step, (height, width)), smallest)
        fitting = (tiles for tiles in tried if tiles.block_bytes <= memory_bytes)
        best = next(fitting, min(best, *tried, key=_block_bytes))
        if step == 1:
            break
        step = fewer(step)
    if stores.mean and frames:
        return _joined(best, min(memory_bytes, max(MEAN_BYTES, 2 * best.block_bytes))) or best
    return best


def _joined(plan: BlockPlan, memory_bytes: int) -> BlockPlan | None:
    """Join blocks in time until they are long enough, or fill the memory; None if none fits."""
    frames, step = plan.shape[0], plan.block[0]

    def of_runs(count: int) -> BlockPlan:
        return replace(plan, block=(min(count * step, frames), *plan.block[1:]))

    wanted = max(4 * plan.halo_fr, MEAN_FRAMES if plan.stores.mean else 0)
    most = -(-min(wanted, frames) // step)
    fitting = bisect_right(
        range(1, most + 1), memory_bytes, key=lambda count: of_runs(count).block_bytes
    )
    return of_runs(fitting) if fitting else None


_block_bytes: Callable[[BlockPlan], int] = attrgetter("block_bytes")
_amplification: Callable[[BlockPlan], float] = attrgetter("read_amplification")


def _without_encoded(plan: BlockPlan) -> int:
    """Return a block's bytes without encoded units; changing this would change stores' chunks."""
    read = plan._read_shape
    decoded = prod(min(u, r) for u, r in zip(plan.unit, read, strict=True))
    held = plan.itemsize * (prod(read) + decoded) + 4 * plan.stores.photons * prod(read)
    return held + 3 * 4 * prod(plan.chunks)
