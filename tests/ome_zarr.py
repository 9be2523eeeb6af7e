"""OME-Zarr images to read, of the same pixels in any order of their axes."""

import numpy as np
import zarr

from smlmlp_dask.movies.opening import open_stacks
from smlmlp_dask.movies.selection import Selection

SIZES = {"t": 5, "c": 3, "z": 4, "y": 9, "x": 7}
PIXELS = (np.arange(5 * 3 * 4 * 9 * 7) * 37 % 4099).astype(np.uint16).reshape(5, 3, 4, 9, 7)


def along(axes, **lengths):
    """Some of the pixels, with their axes in this order; one place of those left out."""
    taken = tuple(slice(lengths.get(axis, SIZES[axis])) if axis in axes else 0 for axis in "tczyx")
    order = [sorted(axes, key="tczyx".index).index(axis) for axis in axes]
    return np.transpose(PIXELS[taken], order)


def write_image(
    path, pixels, axes, *, version="0.5", scale=None, units=(), own=None, chunks=None, **attributes
):
    described = [{"name": axis, "type": "space" if axis in "zyx" else axis} for axis in axes]
    for axis, unit in dict(units).items():
        described[axes.index(axis)]["unit"] = unit
    scales = [{"type": "scale", "scale": scale or [1.0] * len(axes)}]
    multiscale = {
        "axes": described,
        "datasets": [{"path": "0", "coordinateTransformations": scales}],
        **(own or {}),
    }
    image = {"multiscales": [multiscale], "version": version, **attributes}
    group = zarr.create_group(
        path,
        attributes={"ome": image} if version == "0.5" else image,
        zarr_format=3 if version == "0.5" else 2,
    )
    group.create_array("0", data=pixels, chunks=chunks or (*[1] * (pixels.ndim - 2), 9, 7))
    return path


def stacks_of(path, **selection):
    return open_stacks(path, selection=Selection.checked(**selection))
