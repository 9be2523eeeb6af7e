"""What a report of a fault should name: this program, Python, and what it stands on."""

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import suppress

import click

from smlmlp_dask import __version__

from .lines import echo

FOUNDATIONS = ("numpy", "scipy", "numba", "dask", "dask-image", "distributed", "zarr", "tifffile")
"""Packages that are always there."""

OPTIONAL = (
    *("cupy-cuda12x", "cupy-cuda13x", "dask-jobqueue", "neuroglancer", "napari"),
    *("czifile", "openreadout", "h5py", "liffile", "nd2", "oiffile", "sif-parser"),
)
"""Packages of extras, named where they are installed."""


def print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    """Print the versions and end, if the option is given."""
    if value and not ctx.resilient_parsing:
        for line in _lines():
            echo(line)
        ctx.exit()


def _lines() -> Iterator[str]:
    yield f"smlmlp-dask {__version__}"
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    yield f"Python {platform.python_version()}, {system}, {os.cpu_count()} cores"
    there = _installed()
    for names in (FOUNDATIONS, OPTIONAL):
        if found := [f"{name} {there[name]}" for name in names if name in there]:
            yield ", ".join(found)


def _installed() -> dict[str, str]:
    """Return the version of each installed package, by the names of folders: no file is read."""
    found: dict[str, str] = {}
    for folder in reversed(sys.path):  # the first on the path is the one that is imported
        with suppress(OSError):
            for name in os.listdir(folder or "."):  # noqa: PTH208 - it takes half the time
                package, dash, rest = name.partition("-")
                if dash and rest.endswith(".dist-info"):
                    found[package.lower().replace("_", "-")] = rest.removesuffix(".dist-info")
    return found
