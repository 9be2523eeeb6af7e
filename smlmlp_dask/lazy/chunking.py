"""How lazy stacks are cut along frames, rows and columns; arithmetic on plain integers."""

from collections.abc import Iterator, Sequence
from math import prod

from smlmlp_dask.blocks import BLOCK_BYTES, SLAB_BYTES, Chunks, frames_per_block, split

MERGED_BYTES = 2**27
"""Most float32 bytes of one block of frames merged from tiles."""


def whole_frame_chunks(
    chunks: Chunks, itemsize: int, *, slab_bytes: int = SLAB_BYTES, block_bytes: int = MERGED_BYTES
) -> Chunks:
    """Return the chunks in which to filter a stack.

    Whole frames need no neighbours, so the tiles of a stack are merged first: each slab (all tiles
    of one run of frames) is read once and cut into blocks of whole frames.

    Parameters
    ----------
    chunks : tuple of tuple of int
        The stack's chunks along (frame, y, x).
    itemsize : int
        Bytes of one pixel as stored.
    slab_bytes : int
        Most bytes that one slab may take.
    block_bytes : int
        Float32 bytes that one block of merged frames should not exceed.

    Returns
    -------
    tuple of tuple of int
        `chunks` itself if frames are whole already, or if a slab would exceed `slab_bytes` (then
        tiles must be filtered with a halo). Otherwise blocks of whole frames, each within one run
        of frames.
    """
    frames, rows, columns = chunks
    if len(rows) == 1 and len(columns) == 1:
        return chunks
    frame_pixels = sum(rows) * sum(columns)
    if max(frames) * frame_pixels * itemsize > slab_bytes:
        return chunks
    step = frames_per_block(frame_pixels, block_bytes=block_bytes)
    cut = tuple(length for run in frames for length in split(run, step))
    return cut, (sum(rows),), (sum(columns),)


def join_runs(runs: Sequence[int], halo: int, most: int) -> tuple[int, ...]:
    """Join runs of frames until reading a halo in time costs little.

    Parameters
    ----------
    runs : sequence of int
        Lengths of the runs, which are not cut.
    halo : int
        Frames that a block reads before and after its own.
    most : int
        Frames that joined runs should not exceed.

    Returns
    -------
    tuple of int
        Neighbours are joined up to four halos, so that a block reads at most half as many frames
        again; runs stay as they are without a halo.
    """
    if not halo:
        return tuple(runs)
    enough = max(1, min(4 * halo, most))
    joined: list[int] = []
    for run in runs:
        if joined and joined[-1] < enough and joined[-1] + run <= max(enough, most):
            joined[-1] += run
        else:
            joined.append(run)
    return tuple(joined)


def write_chunks(
    shape: Sequence[int], unit: Sequence[int], block_bytes: int = BLOCK_BYTES
) -> Chunks:
    """Return blocks for writing an array, none of which splits a write unit.

    Parameters
    ----------
    shape : sequence of int
        The shape to write, (frame, y, x), starting at the target's origin.
    unit : sequence of int
        The target's write unit along each axis: its shard, or its chunk if it has no shards.
    block_bytes : int
        Float32 bytes that a block should not exceed, unless a single unit does.

    Returns
    -------
    tuple of tuple of int
        Blocks that begin at multiples of `unit` on every axis: as wide as possible along x, then
        y, then frames.
    """
    budget = block_bytes // 4
    sizes = [min(length, size) for length, size in zip(shape, unit, strict=True)]
    for axis in reversed(range(len(sizes))):
        others = prod(sizes) // sizes[axis] if sizes[axis] else 1
        units = max(1, budget // max(1, others * unit[axis]))
        sizes[axis] = min(max(1, shape[axis]), units * unit[axis])
        if sizes[axis] < shape[axis]:
            break
    return tuple(split(length, size) for length, size in zip(shape, sizes, strict=True))


def join(runs: Sequence[int], most: int) -> Iterator[int]:
    """Join neighbouring runs to sums of at most `most`; a longer run stays alone."""
    joined = 0
    for run in runs:
        if joined and joined + run > most:
            yield joined
            joined = 0
        joined += run
    yield joined
