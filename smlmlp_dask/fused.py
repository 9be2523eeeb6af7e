"""The compiled filter: both passes of the separable correlation, block by block.

One compiled loop serves every radius. It works on tiles of 4 x 16 or 1 x 64 pixels, whose sums
stay in registers while the taps go by: 3 taps or 10 000, a tap costs about the same. LLVM does not
make that loop of plain code (it does not vectorise a loop over taps inside one over pixels, and
unrolled taps overflow the registers past some 20 a side), therefore `_lower_tile` spells it out in
vectors; `_filter_tile` is the same in NumPy, to be read.

Every pixel sees the same float32 operations in the same order, wherever it stands in its frame or
tile: edges are repeated into the buffers, never special-cased, and nothing may be contracted or
reordered. So the bits depend neither on the CPU nor on how a movie is cut into blocks.
"""

import functools
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FunctionType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .kernels import fold, without_zero_ends

Floats: TypeAlias = npt.NDArray[np.float32]

FILTER_VERSION = 1
"""Goes up whenever a change here changes any bit of any background."""

# 4 x 16 float32 sums fill half of AVX2's registers, enough to hide the latency of its additions.
_ROWS = 4
_LANES = 16
_RUN = _ROWS * _LANES
# Pairs of taps in a partial sum; 12 900 pairs in one go were off by 5e-6. A power of two.
_GROUP = 32
# Rows and columns filtered at a time: both buffers then fit a 512 KiB cache at radius 7. From
# 16 x 512 to 128 x 128 the speed varied by less than 10 %.
_BAND = 64
_PANEL = 256
_PITCH = _PANEL + _LANES  # not a power of two, which would crowd all rows into few cache sets
# Pixels copied at a time where frames cannot be read in place.
_COPIED_PIXELS = 2**18
# Native dtypes that are read in place; other ones, as float16, are cast by NumPy first.
_IN_PLACE = frozenset("bBhHiIlLqQfd")

# Held while a kernel is made, so that the first blocks of many threads compile it only once.
_COMPILING = threading.Lock()


def correlate_frames(
    frames: npt.NDArray[Any],
    kernel_y: Floats,
    kernel_x: Floats,
    *,
    out: Floats | None = None,
    threads: int = 1,
) -> Floats:
    """Correlate each frame with `kernel_y` along y, then with `kernel_x` along x.

    Frames are cast to float32, edges repeat the nearest pixel, and the result of the first pass
    is stored as float32.

    Parameters
    ----------
    frames : numpy.ndarray
        Stack (frame, y, x) of a real integer or floating dtype. Byte-swapped, unaligned or not
        C-contiguous ones are copied, 2**18 pixels or one frame at a time.
    kernel_y, kernel_x : numpy.ndarray
        Symmetric float32 kernels of odd length. Zero taps at both ends carry no weight, and taps
        that reach an edge pixel from everywhere are folded into one (`kernels.fold`).
    out : numpy.ndarray, optional
        C-contiguous float32 array of the shape of `frames` to fill; must not overlap them.
    threads : int
        Threads that share the frames; the result's bits do not depend on it.

    Returns
    -------
    numpy.ndarray
        `out`, or else a new C-contiguous float32 array of the shape of `frames`. It is within
        1e-6 (4e-6 for radii over 20 px) of the exact sums, relative to the largest input under
        the kernel. Inputs over half of float32's range may overflow: opposite pixels are added
        before they are weighted.

    Raises
    ------
    TypeError
        If `frames`, a kernel or `out` is of another dtype.
    ValueError
        If a shape, a kernel, `out` or `threads` is not as above.

    Notes
    -----
    The first call for a dtype imports Numba and compiles for 1 to 2 s, or loads what an earlier
    process left in Numba's cache. Without a writeable cache folder each process compiles anew.
    """
    frames = np.asarray(frames)
    if frames.dtype.kind not in "iuf":
        raise TypeError(f"frames are {frames.dtype}: pass real integers or floats")
    if frames.ndim != 3:
        raise ValueError(f"frames have {frames.ndim} axes: pass 3 (frame, y, x)")
    _check_kernel("kernel_y", kernel_y)
    _check_kernel("kernel_x", kernel_x)
    if threads < 1:
        raise ValueError(f"threads is {threads}: pass at least 1")
    if out is None:
        out = np.empty(frames.shape, np.float32)
    else:
        _check_out(out, frames)
    if out.size == 0:
        return out

    count, height, width = frames.shape
    taps_y, taps_x = _taps(kernel_y, height), _taps(kernel_x, width)
    native = frames.dtype.newbyteorder("=")
    readable = native if native.char in _IN_PLACE else np.dtype(np.float32)
    in_place = frames.dtype == readable and frames.flags.c_contiguous and frames.flags.aligned
    run = count if in_place else max(1, _COPIED_PIXELS // (height * width))
    with _COMPILING:
        kernel = _compiled(readable.name)

    def fill(start: int, stop: int) -> None:
        for first in range(start, stop, run):
            last = min(first + run, stop)
            part = frames[first:last]
            if not in_place:
                with np.errstate(over="ignore"):  # long double to float32: infinite, as elsewhere
                    part = part.astype(readable, order="C")
            kernel(part, taps_y, taps_x, out[first:last].reshape(-1))

    shares = min(threads, count)
    bounds = [count * share // shares for share in range(shares + 1)]
    if shares == 1:
        fill(*bounds)
    else:
        with ThreadPoolExecutor(shares) as pool:
            list(pool.map(fill, bounds[:-1], bounds[1:]))
    return out


def _check_kernel(name: str, kernel: Floats) -> None:
    if kernel.dtype != np.float32:
        raise TypeError(f"{name} is {kernel.dtype}: pass float32")
    if kernel.ndim != 1 or kernel.size % 2 == 0:
        raise ValueError(f"{name} has shape {kernel.shape}: pass one axis of odd length")
    if not np.array_equal(kernel, kernel[::-1]):
        raise ValueError(f"{name} is not its own mirror image: pass a symmetric kernel")
    if not kernel.any():
        raise ValueError(f"{name} is 0 throughout: pass at least one tap that is not")


def _check_out(out: npt.NDArray[Any], frames: npt.NDArray[Any]) -> None:
    if out.dtype != np.float32:
        raise TypeError(f"out is {out.dtype}: pass float32")
    if out.shape != frames.shape:
        raise ValueError(f"out has shape {out.shape}: pass the frames' {frames.shape}")
    if not out.flags.carray:
        raise ValueError("out is not C-contiguous, aligned and writeable: pass such an array")
    if np.may_share_memory(out, frames):
        raise ValueError("out overlaps the frames: pass an array of its own")


def _taps(kernel: Floats, length: int) -> Floats:
    """Return the weights at distance 0, 1, ... that count on an axis of `length` pixels."""
    # Zero ends must go: 0 x NaN would carry a NaN beyond the halo.
    kernel = fold(without_zero_ends(kernel), length)
    return np.ascontiguousarray(kernel[kernel.size // 2 :], dtype=np.float32)


# From here to `_filter_frames`: what is compiled. It runs as plain Python too, with the same bits,
# and the tests compare the two.


def _filter_tile(
    out: Floats, out_at: int, out_step: int,
    source: Floats, at: int, step: int, tap_step: int, taps: Floats,
) -> None:  # fmt: skip
    """Filter one tile of the flat `source`: its rows are `step` apart, its taps `tap_step`.

    The pairs next to the centre come first, smallest weight first; from there on outwards in
    partial sums of `_GROUP` pairs. So a large folded weight, outermost, is added to small sums.
    """
    halo = len(taps) - 1
    inner = halo % _GROUP

    def lanes(start: int) -> Floats:
        return source[start : start + _LANES]

    for row in range(_ROWS):
        middle, target = at + row * step, out_at + row * out_step

        def add_pairs(total: Floats, distances: range, middle: int = middle) -> Floats:
            for tap in distances:
                pair = lanes(middle - tap * tap_step) + lanes(middle + tap * tap_step)
                total = total + pair * taps[tap]
            return total

        # Adding to -0.0, unlike to 0.0, keeps every value, -0.0 included.
        nothing = np.full(_LANES, -0.0, np.float32)
        total = add_pairs(nothing, range(inner, 0, -1)) + lanes(middle) * taps[0]
        for first in range(inner + 1, halo, _GROUP):
            total = total + add_pairs(nothing, range(first, first + _GROUP))
        out[target : target + _LANES] = total


def _cast_panel(
    panel: Floats, frame: npt.NDArray[Any], top: int, rows: int, left: int, columns: int
) -> None:
    """Cast part of a frame into rows of `_PITCH`, repeating its nearest pixel outside of it."""
    height, width = frame.shape
    inside = min(columns, width - left)
    for row in range(rows):
        source = frame[min(max(top + row, 0), height - 1), left : left + inside]
        target = panel[row * _PITCH : row * _PITCH + columns]
        for x in range(inside):
            target[x] = np.float32(source[x])
        for x in range(inside, columns):
            target[x] = target[inside - 1]


def _filter_frames(frames: npt.NDArray[Any], taps_y: Floats, taps_x: Floats, out: Floats) -> None:
    """Filter frames into the flat `out`: panel after panel along y into a band, then along x.

    The last tiles of an axis overlap those before, and write the same bits once more.
    """
    count, height, width = frames.shape
    halo_y, halo_x = len(taps_y) - 1, len(taps_x) - 1
    # Frames smaller than a tile are filled up with repeated edges, and cropped at the end.
    tall, wide = max(height, _ROWS), max(width, _RUN)
    narrow = wide > width
    target = np.empty(_RUN, np.float32) if narrow else out
    padded = -(-width // _LANES) * _LANES
    margin = -(-halo_x // _LANES) * _LANES
    pitch = margin + max(padded, wide) + margin
    band = np.empty(min(_BAND, tall) * pitch, np.float32)
    panel = np.empty((min(_BAND, tall) + 2 * halo_y) * _PITCH, np.float32)
    for index in range(count):
        for top in range(0, tall, _BAND):
            y = min(top, tall - _ROWS)
            rows = min(_BAND, tall - y)
            for left in range(0, padded, _PANEL):
                columns = min(_PANEL, padded - left)
                _cast_panel(panel, frames[index], y - halo_y, rows + 2 * halo_y, left, columns)
                for x in range(0, columns, _LANES):
                    for tile in range(0, rows, _ROWS):
                        row = min(tile, rows - _ROWS)
                        _filter_tile(
                            band, row * pitch + margin + left + x, pitch,
                            panel, (row + halo_y) * _PITCH + x, _PITCH, _PITCH, taps_y,
                        )  # fmt: skip
            for row in range(min(rows, height - y)):
                start = row * pitch + margin
                stop = start + width
                band[start - halo_x : start] = band[start]
                band[stop : start + wide + halo_x] = band[stop - 1]
                line = (index * height + y + row) * width
                # A tile of one row, 64 pixels long, writes in order: 10 % faster than 4 x 16.
                for tile in range(0, wide, _RUN):
                    x = min(tile, wide - _RUN)
                    _filter_tile(
                        target, 0 if narrow else line + x, _LANES,
                        band, start + x, _LANES, 1, taps_x,
                    )  # fmt: skip
                if narrow:
                    for x in range(width):
                        out[line + x] = target[x]


@functools.cache
def _compiled(dtype: str) -> Callable[..., None]:
    """Return `_filter_frames` for C-contiguous frames of `dtype`, if possible from the disk."""
    import numba
    from numba import types
    from numba.core.registry import cpu_target

    _teach_numba()
    # Read-only in the signature: that takes writeable arrays too.
    pixel = numba.from_dtype(np.dtype(dtype))
    frames = types.Array(pixel, 3, "C", readonly=True)
    taps = types.Array(types.float32, 1, "C", readonly=True)
    signature = types.void(frames, taps, taps, types.Array(types.float32, 1, "C"))

    # Numba names its files after the function, and processes that save two entries of one function
    # at once can leave the code of one under the key of the other (two kinds of nodes over one
    # home, say). A name for each dtype and CPU keeps them apart.
    cpu = zlib.crc32(repr(cpu_target.target_context.codegen().magic_tuple()).encode())
    function = FunctionType(_filter_frames.__code__, globals())
    function.__qualname__ = f"_filter_frames_{dtype}_{cpu:08x}"

    def compiled(*, cache: bool) -> Callable[..., None]:
        kernel: Any = numba.njit(nogil=True, error_model="numpy", cache=cache)(function)
        if kernel is not function:  # as it is with NUMBA_DISABLE_JIT=1: then run plain Python
            kernel.compile(signature)
            kernel.disable_compile()
        return kernel  # type: ignore[no-any-return]

    try:
        return compiled(cache=True)
    except Exception:  # no writeable folder, a full disk, a torn file: do without the cache
        return compiled(cache=False)


@functools.cache
def _teach_numba() -> None:
    """Tell Numba how to compile the functions that `_filter_frames` calls."""
    from numba import types
    from numba.extending import lower_builtin, register_jitable, type_callable

    def tile_type(_context: Any) -> Any:
        def typer(
            out: Any, out_at: Any, out_step: Any,
            source: Any, at: Any, step: Any, tap_step: Any, taps: Any,
        ) -> Any:  # fmt: skip
            return types.void(out, out_at, out_step, source, at, step, tap_step, taps)

        return typer

    type_callable(_filter_tile)(tile_type)
    lower_builtin(_filter_tile, types.VarArg(types.Any))(_lower_tile)
    register_jitable(_cast_panel)


def _lower_tile(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Write `_filter_tile` in LLVM's vectors: the same operations in the same order.

    LLVM contracts and reorders no float operation but those marked `fast`, and none is. Wider or
    narrower registers than 16 lanes change how many instructions that takes, not the result.
    """
    from llvmlite import ir
    from numba.core import cgutils

    vector = ir.VectorType(ir.FloatType(), _LANES)
    nothing = ir.Constant(vector, [-0.0] * _LANES)
    every_lane = ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES)

    def array(position: int) -> Any:
        kind = signature.args[position]
        return context.make_array(kind)(context, builder, arguments[position])

    _, out_at, out_step, _, at, step, tap_step, _ = arguments
    out, source, taps = array(0).data, array(3).data, array(7).data
    integer = functools.partial(ir.Constant, at.type)

    def lanes(base: Any, start: Any) -> Any:
        return builder.bitcast(builder.gep(base, [start]), vector.as_pointer())

    def load(start: Any) -> Any:
        return builder.load(lanes(source, start), align=4)

    def weight(tap: Any) -> Any:
        tap_weight = builder.load(builder.gep(taps, [tap]))
        first_lane = builder.insert_element(nothing, tap_weight, ir.IntType(32)(0))
        return builder.shuffle_vector(first_lane, nothing, every_lane)

    def increase(total: Any, value: Any) -> None:
        builder.store(builder.fadd(builder.load(total), value), total)

    def add_pairs(totals: list[Any], first: Any, end: Any, by: int) -> None:
        taps_in_turn = cgutils.for_range_slice(builder, first, end, integer(by), inc=by > 0)
        with taps_in_turn as (tap, _):
            distance, tap_weight = builder.mul(tap, tap_step), weight(tap)
            for total, middle in zip(totals, middles, strict=True):
                low, high = builder.sub(middle, distance), builder.add(middle, distance)
                pair = builder.fadd(load(low), load(high))
                increase(total, builder.fmul(pair, tap_weight))

    middles = [at]
    while len(middles) < _ROWS:
        middles.append(builder.add(middles[-1], step))
    # Stack slots only by name: LLVM keeps them in registers.
    totals = [cgutils.alloca_once_value(builder, nothing) for _ in middles]
    parts = [cgutils.alloca_once_value(builder, nothing) for _ in middles]

    one, group = integer(1), integer(_GROUP)
    halo = builder.sub(array(7).nitems, one)
    inner = builder.and_(halo, integer(_GROUP - 1))
    add_pairs(totals, inner, integer(0), -1)
    for total, middle in zip(totals, middles, strict=True):
        increase(total, builder.fmul(load(middle), weight(integer(0))))
    first = builder.add(inner, one)
    with cgutils.for_range_slice(builder, first, array(7).nitems, group) as (tap, _):
        for part in parts:
            builder.store(nothing, part)
        add_pairs(parts, tap, builder.add(tap, group), 1)
        for total, part in zip(totals, parts, strict=True):
            increase(total, builder.load(part))
    for total in totals:
        builder.store(builder.load(total), lanes(out, out_at), align=4)
        out_at = builder.add(out_at, out_step)
    return context.get_dummy_value()
