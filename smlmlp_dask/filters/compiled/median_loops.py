"""The sliding temporal median, as loops that Numba compiles.

Each pixel's window is a sorted list of keys, integers in the order of its values. From one frame
to the next, one pass over the list takes the oldest key out and puts the newest in; neighbouring
pixels lie side by side, so that one instruction does so for 64 bytes of them. An integer's order is
total: the bits depend neither on the CPU nor on how a movie is cut.

All of it also runs as plain Python, with the same bits, and the tests compare the two. Numba makes
poor vector code of `replace`, so `median_vectors.py` writes it in LLVM.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .loops import Floats

Keys: TypeAlias = npt.NDArray[Any]
"""uint16, for counts of at most 16 bits; or int32, for the bits of float32."""

LANE_BYTES = 64
"""Bytes of the keys that are replaced at once: the widest vectors there are."""

NAN_KEY = 0x7FC00000
"""Key of every NaN: above infinity's, so that it is the last of a window that holds one."""

MANTISSA = 0x7FFFFFFF


def replace(
    windows: Keys, at: int, size: int, old: Keys, old_at: int, new: Keys, new_at: int
) -> None:
    """Take a key out of each sorted window and put another in.

    Entry k of lane i is ``windows[at + k * lanes + i]``. The first `size` entries are rewritten;
    one more is read, as the last key moves up from there. A window that is not full ends in the
    largest key, which may be taken out, or put in, instead of a pixel's.
    """
    lanes = LANE_BYTES // windows.itemsize
    gone, fresh = old[old_at : old_at + lanes], new[new_at : new_at + lanes]
    below = np.full(lanes, np.iinfo(windows.dtype).min, windows.dtype)
    for place in range(at, at + size * lanes, lanes):
        here, above = windows[place : place + lanes], windows[place + lanes : place + 2 * lanes]
        left = np.where(here >= gone, above, here)
        windows[place : place + lanes] = np.minimum(left, np.maximum(below, fresh))
        below = left


def load_keys(keys: Keys, at: int, pixels: npt.NDArray[Any], flip: int) -> None:
    """Turn pixels into keys: unsigned counts (see `_load_counts`), or the bits of float32."""
    load = _load_floats if keys.dtype == np.int32 else _load_counts
    load(keys, at, pixels, flip)


def _load_counts(keys: Keys, at: int, pixels: npt.NDArray[Any], flip: int) -> None:
    """Signed counts come as unsigned ones; flipping their highest bit puts them in order."""
    # a slice, since Numba would look at each index whether it is negative
    target, mask = keys[at : at + len(pixels)], np.uint16(flip)
    for x in range(len(pixels)):
        target[x] = np.uint16(pixels[x]) ^ mask


def _load_floats(keys: Keys, at: int, pixels: npt.NDArray[Any], _flip: int) -> None:
    """Seen as integers, floats of one sign keep their order, and negative ones turn it round."""
    target, mantissa = keys[at : at + len(pixels)], np.int32(MANTISSA)
    infinity, missing = np.int32(0x7F800000), np.int32(NAN_KEY)
    for x in range(len(pixels)):
        bits = pixels[x]
        key = bits if bits >= 0 else bits ^ mantissa
        target[x] = key if bits & mantissa <= infinity else missing


def store_medians(
    out: Floats, windows: Keys, at: int, size: int, flip: int, bits: Keys, values: Floats
) -> None:
    """Write the medians of the windows' first `size` keys; `values` are `bits` seen as float32."""
    store = _store_floats if windows.dtype == np.int32 else _store_counts
    store(out, windows, at, size, flip, bits, values)


def _store_counts(
    out: Floats, windows: Keys, at: int, size: int, flip: int, _bits: Keys, _values: Floats
) -> None:
    lanes = LANE_BYTES // windows.itemsize
    low, high = at + (size - 1) // 2 * lanes, at + size // 2 * lanes
    lower, upper = windows[low : low + lanes], windows[high : high + lanes]
    offset, half = np.int32(2 * flip), np.float32(0.5)
    for x in range(len(out)):
        both = np.int32(lower[x]) + np.int32(upper[x]) - offset
        out[x] = np.float32(both) * half


def _store_floats(
    out: Floats, windows: Keys, at: int, size: int, _flip: int, bits: Keys, values: Floats
) -> None:
    lanes = LANE_BYTES // windows.itemsize
    low, high = at + (size - 1) // 2 * lanes, at + size // 2 * lanes
    lower, upper = windows[low : low + lanes], windows[high : high + lanes]
    last = windows[at + (size - 1) * lanes : at + size * lanes]
    mantissa, missing, half = np.int32(MANTISSA), np.int32(NAN_KEY), np.float32(0.5)
    first_bits, other_bits = bits[:lanes], bits[lanes:]
    for x in range(lanes):
        one = lower[x] if last[x] != missing else missing
        other = upper[x] if last[x] != missing else missing
        first_bits[x] = one if one >= 0 else one ^ mantissa
        other_bits[x] = other if other >= 0 else other ^ mantissa
    first, second = values[:lanes], values[lanes:]
    if low == high:
        for x in range(len(out)):
            out[x] = first[x]
    else:
        for x in range(len(out)):
            out[x] = (first[x] + second[x]) * half


def slide_median(
    before: npt.NDArray[Any], own: npt.NDArray[Any], after: npt.NDArray[Any],
    first: int, window_fr: int, flip: int, out: Floats, left: int, right: int,
    groups: int, nothing: Keys, bits: Keys, values: Floats,
) -> None:  # fmt: skip
    """Write the medians of the pixels from `left` to `right`, of ``len(out)`` frames from `first`.

    The frames are `before`, `own` and `after`, one after the other, their pixels in a row.
    `groups` x lanes pixels go together, so that their windows fit a cache; `nothing` holds the
    largest key for each of them. `bits` has two lanes, and `values` are the same as float32.
    """
    early, inner = len(before), len(before) + len(own)
    count = inner + len(after)
    lanes = LANE_BYTES // nothing.itemsize
    span = groups * lanes
    longest = min(2 * window_fr + 1, count)
    pitch = (longest + 1) * lanes
    slots = longest + 1
    windows = np.empty(groups * pitch, nothing.dtype)
    recent = np.zeros(slots * span, nothing.dtype)
    for start in range(left, right, span):
        stop = min(start + span, right)
        used = -(-(stop - start) // lanes)
        windows[:] = nothing[0]
        oldest = newest = max(0, first - window_fr)
        for frame in range(first, first + len(out)):
            begin, end = max(0, frame - window_fr), min(count, frame + window_fr + 1)
            while newest < end:
                if newest < early:
                    pixels = before[newest, start:stop]
                elif newest < inner:
                    pixels = own[newest - early, start:stop]
                else:
                    pixels = after[newest - inner, start:stop]
                slot = newest % slots * span
                load_keys(recent, slot, pixels, flip)
                if oldest < begin:
                    gone, size = oldest % slots * span, newest - oldest
                    for group in range(used):
                        replace(
                            windows, group * pitch, size, recent, gone + group * lanes,
                            recent, slot + group * lanes,
                        )  # fmt: skip
                    oldest += 1
                else:
                    for group in range(used):
                        replace(
                            windows, group * pitch, newest - oldest + 1, nothing, 0,
                            recent, slot + group * lanes,
                        )  # fmt: skip
                newest += 1
            while oldest < begin:
                gone = oldest % slots * span
                for group in range(used):
                    replace(
                        windows, group * pitch, newest - oldest, recent, gone + group * lanes,
                        nothing, 0,
                    )  # fmt: skip
                oldest += 1
            for group in range(used):
                x = start + group * lanes
                store_medians(
                    out[frame - first, x : min(x + lanes, stop)], windows, group * pitch,
                    newest - oldest, flip, bits, values,
                )  # fmt: skip
