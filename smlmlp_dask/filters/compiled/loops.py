"""Both passes of the separable correlation, as loops that Numba compiles.

Every pixel sees the same float32 operations in the same order, in either loop and anywhere in its
frame: edges are repeated into the buffers, never special-cased, and the compiler may not contract
or reorder anything. So the bits depend neither on the CPU nor on how a movie is cut into blocks.

All of it also runs as plain Python, with the same bits, and the tests compare the two. Numba makes
poor vector code of `filter_tile` and `filter_row`, so `vectors.py` writes these two in LLVM.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]

# A tile's rows and columns. Its 4 x 16 float32 sums fill half of AVX2's registers: enough to hide
# the latency of its additions.
ROWS = 4
LANES = 16
RUN = ROWS * LANES
# Pairs of taps in a partial sum, a power of two. One sum of 12 900 pairs was off by 5e-6.
GROUP = 32
# Rows and columns filtered at a time: both buffers fit a 512 KiB cache at radius 7. From 16 x 512
# to 128 x 128 the speed varied by less than 10 %.
BAND = 64
PANEL = 256
PITCH = PANEL + LANES  # a power of two would crowd all rows into few cache sets
# Most pairs of taps for the loop along whole rows, which unrolls them. More would run out of
# registers and be slower than tiles.
SHORT = 7


def filter_row(
    out: Floats, out_at: int, source: Floats, starts: npt.NDArray[np.int64], taps: Floats,
    length: int,
) -> None:  # fmt: skip
    """Filter a row of at least `RUN` pixels by at most `SHORT` pairs of taps.

    The pixels under tap i, counted from one end of the kernel, begin at ``starts[i]`` of the flat
    `source`. Operations have the order of `filter_tile`.
    """
    halo = len(taps) - 1

    def under(tap: int) -> Floats:
        start = starts[halo + tap]
        return source[start : start + length]

    total = np.full(length, -0.0, np.float32)
    for tap in range(halo, 0, -1):
        total = total + (under(-tap) + under(tap)) * taps[tap]
    out[out_at : out_at + length] = total + under(0) * taps[0]


def filter_tile(
    out: Floats, out_at: int, out_step: int,
    source: Floats, at: int, step: int, tap_step: int, taps: Floats,
) -> None:  # fmt: skip
    """Filter one tile of the flat `source`: its rows are `step` apart, its taps `tap_step`.

    The innermost pairs come first, smallest weight first. The others follow outwards, in partial
    sums of `GROUP` pairs. So the outermost weight, large if folded, comes last.
    """
    halo = len(taps) - 1
    inner = halo % GROUP

    def lanes(start: int) -> Floats:
        return source[start : start + LANES]

    for row in range(ROWS):
        middle, target = at + row * step, out_at + row * out_step

        def add_pairs(total: Floats, distances: range, middle: int = middle) -> Floats:
            for tap in distances:
                pair = lanes(middle - tap * tap_step) + lanes(middle + tap * tap_step)
                total = total + pair * taps[tap]
            return total

        # Start at -0.0: adding to 0.0 would turn -0.0 into 0.0.
        nothing = np.full(LANES, -0.0, np.float32)
        total = add_pairs(nothing, range(inner, 0, -1)) + lanes(middle) * taps[0]
        for first in range(inner + 1, halo, GROUP):
            total = total + add_pairs(nothing, range(first, first + GROUP))
        out[target : target + LANES] = total


def filter_in_rows(frames: npt.NDArray[Any], taps_y: Floats, taps_x: Floats, out: Floats) -> None:
    """Filter frames of at least `RUN` columns by short kernels into the flat `out`, row by row.

    A ring buffer holds the cast rows under the kernel.
    """
    count, height, width = frames.shape
    halo_y, halo_x = len(taps_y) - 1, len(taps_x) - 1
    slots = 2 * halo_y + 1
    pitch = width + LANES  # seldom a power of two, which would crowd all rows into few cache sets
    ring = np.empty(slots * pitch, np.float32)
    starts_y = np.empty(height + 2 * halo_y, np.int64)
    for row in range(len(starts_y)):
        starts_y[row] = min(max(row - halo_y, 0), height - 1) % slots * pitch
    band = np.empty(LANES + width + LANES, np.float32)
    starts_x = np.arange(LANES - halo_x, LANES + halo_x + 1)
    for index in range(count):
        ready = 0
        for y in range(height):
            while ready <= min(y + halo_y, height - 1):
                start = starts_y[halo_y + ready]
                source, target = frames[index, ready], ring[start : start + width]
                for x in range(width):
                    target[x] = np.float32(source[x])
                ready += 1
            filter_row(band, LANES, ring, starts_y[y : y + slots], taps_y, width)
            band[LANES - halo_x : LANES] = band[LANES]
            band[LANES + width : LANES + width + halo_x] = band[LANES + width - 1]
            line = (index * height + y) * width
            filter_row(out, line, band, starts_x, taps_x, width)


def cast_panel(
    panel: Floats, frame: npt.NDArray[Any], top: int, rows: int, left: int, columns: int
) -> None:
    """Cast part of a frame into rows of `PITCH`; outside the frame, repeat its nearest pixel."""
    height, width = frame.shape
    inside = min(columns, width - left)
    for row in range(rows):
        source = frame[min(max(top + row, 0), height - 1), left : left + inside]
        target = panel[row * PITCH : row * PITCH + columns]
        for x in range(inside):
            target[x] = np.float32(source[x])
        for x in range(inside, columns):
            target[x] = target[inside - 1]


def filter_in_tiles(frames: npt.NDArray[Any], taps_y: Floats, taps_x: Floats, out: Floats) -> None:
    """Filter frames into the flat `out`: panel after panel along y into a band, then along x.

    The last tiles of an axis overlap those before and write the same bits again.
    """
    count, height, width = frames.shape
    halo_y, halo_x = len(taps_y) - 1, len(taps_x) - 1
    # Frames smaller than a tile are padded with repeated edges and cropped at the end.
    tall, wide = max(height, ROWS), max(width, RUN)
    narrow = wide > width
    target = np.empty(RUN, np.float32) if narrow else out
    padded = -(-width // LANES) * LANES
    margin = -(-halo_x // LANES) * LANES
    pitch = margin + max(padded, wide) + margin
    band = np.empty(min(BAND, tall) * pitch, np.float32)
    panel = np.empty((min(BAND, tall) + 2 * halo_y) * PITCH, np.float32)
    for index in range(count):
        for top in range(0, tall, BAND):
            y = min(top, tall - ROWS)
            rows = min(BAND, tall - y)
            for left in range(0, padded, PANEL):
                columns = min(PANEL, padded - left)
                cast_panel(panel, frames[index], y - halo_y, rows + 2 * halo_y, left, columns)
                for x in range(0, columns, LANES):
                    for tile in range(0, rows, ROWS):
                        row = min(tile, rows - ROWS)
                        filter_tile(
                            band, row * pitch + margin + left + x, pitch,
                            panel, (row + halo_y) * PITCH + x, PITCH, PITCH, taps_y,
                        )  # fmt: skip
            for row in range(min(rows, height - y)):
                start = row * pitch + margin
                stop = start + width
                band[start - halo_x : start] = band[start]
                band[stop : start + wide + halo_x] = band[stop - 1]
                line = (index * height + y + row) * width
                # A tile of one row, 64 pixels long, writes in order: 10 % faster than 4 x 16.
                for tile in range(0, wide, RUN):
                    x = min(tile, wide - RUN)
                    filter_tile(
                        target, 0 if narrow else line + x, LANES,
                        band, start + x, LANES, 1, taps_x,
                    )  # fmt: skip
                if narrow:
                    for x in range(width):
                        out[line + x] = target[x]
