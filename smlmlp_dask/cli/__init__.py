"""The command line."""

from .app import main, smlmlp

__all__ = ["main", "smlmlp"]
