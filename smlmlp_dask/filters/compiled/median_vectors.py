"""`median_loops.replace` in LLVM's vectors, and which of the loops' functions serve which keys.

LLVM cannot make such a pass from plain code: the loop over a window's keys is outside the one over
pixels, and what it carries must stay in registers.
"""

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import lower_builtin, overload, register_jitable, type_callable

from . import median_loops as loops

INDEX = ir.IntType(64)


@cache
def teach_numba() -> None:
    """Tell Numba how to compile the functions that `median_loops` calls."""
    type_callable(loops.replace)(_typing)
    lower_builtin(loops.replace, types.VarArg(types.Any))(_replace)
    for function in (
        loops._load_floats,
        loops._load_counts,
        loops._store_floats,
        loops._store_counts,
    ):
        register_jitable(function)
    overload(loops.load_keys, strict=False)(_load_keys)
    overload(loops.store_medians, strict=False)(_store_medians)


# Numba wants the names of the arguments, too.
def _load_keys(keys: Any, at: Any, pixels: Any, flip: Any) -> Any:  # noqa: ARG001
    return loops._load_floats if keys.dtype == types.int32 else loops._load_counts


def _store_medians(
    out: Any,  # noqa: ARG001
    windows: Any,
    at: Any,  # noqa: ARG001
    size: Any,  # noqa: ARG001
    flip: Any,  # noqa: ARG001
    bits: Any,  # noqa: ARG001
    values: Any,  # noqa: ARG001
) -> Any:
    return loops._store_floats if windows.dtype == types.int32 else loops._store_counts


def _typing(_context: Any) -> Any:
    def typer(
        windows: Any, at: Any, size: Any, old: Any, old_at: Any, new: Any, new_at: Any
    ) -> Any:
        return types.void(windows, at, size, old, old_at, new, new_at)

    return typer


def _replace(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    windows, old, new = (
        context.make_array(signature.args[i])(context, builder, arguments[i]).data
        for i in (0, 3, 5)
    )
    _, at, size, _, old_at, _, new_at = arguments
    key = signature.args[0].dtype
    lanes = loops.LANE_BYTES // (key.bitwidth // 8)
    vector = ir.VectorType(ir.IntType(key.bitwidth), lanes)
    compare = builder.icmp_signed if key.signed else builder.icmp_unsigned
    lowest = np.iinfo(key.name).min

    def address(base: Any, place: Any) -> Any:
        return builder.bitcast(builder.gep(base, [place]), vector.as_pointer())

    def load(base: Any, place: Any) -> Any:
        return builder.load(address(base, place), align=key.bitwidth // 8)

    gone, fresh = load(old, old_at), load(new, new_at)
    # LLVM keeps these stack slots in registers.
    here_slot = cgutils.alloca_once_value(builder, load(windows, at))
    below_slot = cgutils.alloca_once_value(builder, ir.Constant(vector, [int(lowest)] * lanes))
    with cgutils.for_range(builder, size) as loop:
        place = builder.add(at, builder.mul(loop.index, INDEX(lanes)))
        here, below = builder.load(here_slot), builder.load(below_slot)
        above = load(windows, builder.add(place, INDEX(lanes)))
        left = builder.select(compare(">=", here, gone), above, here)
        highest = builder.select(compare(">", below, fresh), below, fresh)
        kept = builder.select(compare("<", left, highest), left, highest)
        builder.store(kept, address(windows, place), align=key.bitwidth // 8)
        builder.store(left, below_slot)
        builder.store(above, here_slot)
    return context.get_dummy_value()
