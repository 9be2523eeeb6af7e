"""Compile a loop with Numba, from its cache where there is one."""

import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

COMPILING = threading.Lock()
"""Held during compilation, so that the first blocks of many threads compile a loop only once."""


def compiled(
    loop: Callable[..., None], signature: Any, name: str, vectors: ModuleType
) -> Callable[..., None]:
    """Return a loop compiled for one signature, from Numba's cache if possible.

    Parameters
    ----------
    loop : function
        Without a closure; it also runs as plain Python.
    signature : numba.core.typing.templates.Signature
        What it takes.
    name : str
        Tells this signature from the loop's others.
    vectors : module
        Writes in LLVM's vectors what the loop calls; taught to Numba already.
    """
    import numba
    from numba.core.registry import cpu_target

    # Numba names its cache files after the function. Two processes that save at once, such as two
    # kinds of nodes with one home folder, can leave the code of one under the key of the other. So
    # each dtype and CPU gets its own name. Numba also checks only the function's own file for
    # changes, so the name includes a hash of `vectors`.
    cpu = repr(cpu_target.target_context.codegen().magic_tuple()).encode()
    made_by = zlib.crc32(cpu + Path(str(vectors.__file__)).read_bytes())
    function = FunctionType(loop.__code__, loop.__globals__)
    function.__qualname__ = f"{loop.__name__}_{name}_{made_by:08x}"

    def compile_it(*, cache: bool) -> Callable[..., None]:
        kernel: Any = numba.njit(nogil=True, error_model="numpy", cache=cache)(function)
        if kernel is not function:  # NUMBA_DISABLE_JIT=1 returns the plain function
            kernel.compile(signature)
            kernel.disable_compile()
        return kernel  # type: ignore[no-any-return]

    try:
        return compile_it(cache=True)
    except Exception:  # no writeable folder, a full disk, a torn file: compile without the cache
        return compile_it(cache=False)
