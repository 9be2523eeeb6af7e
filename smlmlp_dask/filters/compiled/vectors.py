"""`loops.filter_tile` and `loops.filter_row` in LLVM's vectors.

LLVM cannot make such loops from plain code: it does not vectorise a loop over taps inside one over
pixels, and a loop with all taps unrolled overflows the registers past some 20 taps a side. LLVM
contracts and reorders only float operations marked `fast`, and none is. Registers wider or narrower
than 16 lanes change the number of instructions, not the result.
"""

from collections.abc import Callable
from functools import cache
from inspect import signature
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import lower_builtin, register_jitable, type_callable

from . import loops
from .loops import GROUP, LANES, ROWS, RUN, SHORT

VECTOR = ir.VectorType(ir.FloatType(), LANES)
# Start at -0.0: adding to 0.0 would turn -0.0 into 0.0.
NOTHING = ir.Constant(VECTOR, [-0.0] * LANES)
INDEX = ir.IntType(64)


@cache
def teach_numba() -> None:
    """Tell Numba how to compile the functions that `loops` calls."""
    for filtered, lower in ((loops.filter_tile, _tile), (loops.filter_row, _row)):
        type_callable(filtered)(_typing(filtered))
        lower_builtin(filtered, types.VarArg(types.Any))(lower)
    register_jitable(loops.cast_panel)


def _typing(function: Callable[..., None]) -> Callable[[Any], Any]:
    def typer(*arguments: Any) -> Any:
        return types.void(*arguments)

    typer.__signature__ = signature(function)  # type: ignore[attr-defined]
    return lambda _context: typer


def _tile(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    out, source, taps = (_array(context, builder, signature, arguments, i) for i in (0, 3, 7))
    _, out_at, out_step, _, at, step, tap_step, _ = arguments

    def load(start: Any) -> Any:
        return _load(builder, builder.gep(source.data, [start]))

    def weight(tap: Any) -> Any:
        return _weight(builder, taps, tap)

    def increase(total: Any, value: Any) -> None:
        builder.store(builder.fadd(builder.load(total), value), total)

    def add_pairs(totals: list[Any], first: Any, end: Any, by: int) -> None:
        taps_in_turn = cgutils.for_range_slice(builder, first, end, INDEX(by), inc=by > 0)
        with taps_in_turn as (tap, _):
            distance, tap_weight = builder.mul(tap, tap_step), weight(tap)
            for total, middle in zip(totals, middles, strict=True):
                low, high = builder.sub(middle, distance), builder.add(middle, distance)
                pair = builder.fadd(load(low), load(high))
                increase(total, builder.fmul(pair, tap_weight))

    middles = [at]
    while len(middles) < ROWS:
        middles.append(builder.add(middles[-1], step))
    # LLVM keeps these stack slots in registers.
    totals = [cgutils.alloca_once_value(builder, NOTHING) for _ in middles]
    parts = [cgutils.alloca_once_value(builder, NOTHING) for _ in middles]

    halo = builder.sub(taps.nitems, INDEX(1))
    inner = builder.and_(halo, INDEX(GROUP - 1))
    add_pairs(totals, inner, INDEX(0), -1)
    for total, middle in zip(totals, middles, strict=True):
        increase(total, builder.fmul(load(middle), weight(INDEX(0))))
    first = builder.add(inner, INDEX(1))
    with cgutils.for_range_slice(builder, first, taps.nitems, INDEX(GROUP)) as (tap, _):
        for part in parts:
            builder.store(NOTHING, part)
        add_pairs(parts, tap, builder.add(tap, INDEX(GROUP)), 1)
        for total, part in zip(totals, parts, strict=True):
            increase(total, builder.load(part))
    for total in totals:
        _store(builder, builder.load(total), builder.gep(out.data, [out_at]))
        out_at = builder.add(out_at, out_step)
    return context.get_dummy_value()


def _row(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    out, source, starts, taps = (
        _array(context, builder, signature, arguments, i) for i in (0, 2, 3, 4)
    )
    _, out_at, _, _, _, length = arguments
    target = builder.gep(out.data, [out_at])
    last = builder.sub(length, INDEX(RUN))
    done = builder.append_basic_block("done")
    by_halo = builder.switch(builder.sub(taps.nitems, INDEX(1)), done)
    for halo in range(SHORT + 1):
        block = builder.append_basic_block(f"halo_{halo}")
        by_halo.add_case(INDEX(halo), block)
        builder.position_at_end(block)
        weights = [_weight(builder, taps, INDEX(tap)) for tap in range(halo + 1)]
        rows = [
            builder.gep(source.data, [builder.load(builder.gep(starts.data, [INDEX(tap)]))])
            for tap in range(2 * halo + 1)
        ]
        with cgutils.for_range_slice(builder, INDEX(0), length, INDEX(RUN)) as (run, _):
            # The last run overlaps the one before and writes the same bits again.
            x = builder.select(builder.icmp_signed("<", run, last), run, last)
            places = [builder.add(x, INDEX(part * LANES)) for part in range(ROWS)]
            totals = [NOTHING] * ROWS
            for tap in range(halo, 0, -1):
                for part, at in enumerate(places):
                    low = _load(builder, builder.gep(rows[halo - tap], [at]))
                    high = _load(builder, builder.gep(rows[halo + tap], [at]))
                    product = builder.fmul(builder.fadd(low, high), weights[tap])
                    totals[part] = builder.fadd(totals[part], product)
            for part, at in enumerate(places):
                middle = _load(builder, builder.gep(rows[halo], [at]))
                total = builder.fadd(totals[part], builder.fmul(middle, weights[0]))
                _store(builder, total, builder.gep(target, [at]))
        builder.branch(done)
    builder.position_at_end(done)
    return context.get_dummy_value()


def _array(context: Any, builder: Any, signature: Any, arguments: Any, position: int) -> Any:
    return context.make_array(signature.args[position])(context, builder, arguments[position])


def _weight(builder: Any, taps: Any, tap: Any) -> Any:
    every_lane = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    weight = builder.load(builder.gep(taps.data, [tap]))
    first_lane = builder.insert_element(NOTHING, weight, ir.IntType(32)(0))
    return builder.shuffle_vector(first_lane, NOTHING, every_lane)


def _load(builder: Any, pointer: Any) -> Any:
    return builder.load(builder.bitcast(pointer, VECTOR.as_pointer()), align=4)


def _store(builder: Any, value: Any, pointer: Any) -> None:
    builder.store(value, builder.bitcast(pointer, VECTOR.as_pointer()), align=4)
