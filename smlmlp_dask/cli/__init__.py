"""The command line."""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .app import smlmlp

__all__ = ["main", "smlmlp"]


def main() -> None:
    """Run the command line; the entry point of ``smlmlp-dask`` and ``python -m smlmlp_dask``."""
    try:
        from .app import main as run
    except KeyboardInterrupt:  # commands tell it themselves
        sys.stderr.write("Error: interrupted by SIGINT; nothing was done yet\n")
        sys.exit(130)
    run()


def __getattr__(name: str) -> Any:
    """Import the commands when they are asked for: `main` must be there before."""
    if name == "smlmlp":
        from .app import smlmlp

        return smlmlp
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
