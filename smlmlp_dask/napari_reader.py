"""Show a store in napari: raw, background and signal of each channel as layers.

`napari.yaml` names `get_reader`. Nothing here imports napari.
"""

import os
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .lazy.reads import lazy
from .paths import absolute_path
from .pictures.content import KINDS, SIGNAL
from .pictures.layers import Layer, viewed_layers
from .result import open_backgrounds
from .store.metadata import COPY

if TYPE_CHECKING:
    import dask.array as da

LayerData = tuple["da.Array", dict[str, Any], str]
"""What napari makes a layer of: pixels, arguments of its `Image`, and the kind of layer."""

Path = str | os.PathLike[str]

_COLOURS = ("green", "magenta", "cyan", "yellow", "red", "blue")
"""Colour maps of channels that have no colour of their own, where there are several."""


def get_reader(path: Path | list[str]) -> Callable[[Path], list[LayerData]] | None:
    """Return the function that reads a store; None for anything else, so that others may try."""
    if isinstance(path, list):  # files to be stacked
        return None
    try:
        ours = (absolute_path(path) / COPY).is_file()
    except ValueError:  # a URL
        return None
    return read_store if ours else None


def read_store(path: Path) -> list[LayerData]:
    """Return the layers of a finished store, for napari.

    Layers lie on one another, so only the signals are visible at first. Where a movie can no longer
    be read, its channel has only what is stored, and a warning, which napari shows, says why; if
    there is no signal at all, the last kind is visible.

    Raises
    ------
    ValueError
        If the store is not finished, or has no frames.
    OSError
        If the store cannot be read.
    """
    layers, missing = viewed_layers(open_backgrounds(path))
    for line in missing:
        warnings.warn(line, stacklevel=2)
    kinds = {layer.kind for layer in layers}
    shown = SIGNAL if SIGNAL in kinds else max(kinds, key=KINDS.index)
    several = len({layer.channel for layer in layers}) > 1
    return [
        (
            lazy(layer.stack),
            {
                "name": layer.name,
                "scale": layer.scale,
                "units": [unit or "pixel" for unit in layer.units],
                "axis_labels": ("t", "y", "x"),
                "contrast_limits": layer.limits,
                "colormap": _colour_map(layer, several=several),
                "blending": "additive",
                "visible": layer.kind == shown,
            },
            "image",
        )
        for layer in layers
    ]


def _colour_map(layer: Layer, *, several: bool) -> str:
    if layer.colour:
        return f"#{layer.colour}"
    return _COLOURS[layer.channel % len(_COLOURS)] if several else "gray"
