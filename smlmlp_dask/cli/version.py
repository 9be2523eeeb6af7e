"""What a report of a fault should name: this program, Python, and what it stands on."""

import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

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
        system = f"{platform.system()} {platform.release()} {platform.machine()}"
        echo(f"smlmlp-dask {__version__}")
        echo(f"Python {platform.python_version()}, {system}, {os.cpu_count()} cores")
        for names in (FOUNDATIONS, OPTIONAL):
            if found := ", ".join(_installed(names)):
                echo(found)
        ctx.exit()


def _installed(names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        with suppress(PackageNotFoundError):
            yield f"{name} {version(name)}"
