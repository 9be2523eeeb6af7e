"""`dask.array`, for those who need it: half a second of imports that a job on disk does without."""

import sys

try:
    import dask.array as da
except ImportError:
    raise
except Exception as error:
    # Dask imports CuPy where it finds it, and a damaged one may raise anything there: without it,
    # the CPU still works. All of the package import it from here.
    sys.modules["cupy"] = None  # type: ignore[assignment]
    import dask.array as da

    DAMAGE: Exception | None = error
else:
    DAMAGE = None

__all__ = ["DAMAGE", "da"]
