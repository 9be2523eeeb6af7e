"""The output group on disk: create it, mark it finished, open it again."""

import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import zarr
from yaozarrs import v05
from zarr.errors import NodeNotFoundError

from .storage import Storage, bulk_codecs

ATTRIBUTE = "smlmlp_dask"
"""The root group's attribute that holds everything but the pixels."""

KERNEL_KEYS = ("spatial_mean_kernels_y", "spatial_mean_kernels_x")


@dataclass(frozen=True)
class SpatialMeanResult:
    """Backgrounds on disk and what is needed to use them.

    Attributes
    ----------
    bkgds : list of dask.array.Array
        One lazy float32 stack (frame, y, x) per channel, in camera counts.
    noise_corrections : list of numpy.float32
        One factor per channel: the noise of (raw - background) over that of raw.
    info : dict
        Radii, sigmas (pixels) and residual kernels, as `bkgd_spatial_mean` returns them.
    path : pathlib.Path
        The store.
    """

    bkgds: list[da.Array]
    noise_corrections: list[np.float32]
    info: dict[str, list[Any]]
    path: Path


@dataclass(frozen=True)
class ChannelSpec:
    """Shape and chunk shape, (frame, y, x), of one channel's background."""

    shape: tuple[int, int, int]
    chunks: tuple[int, int, int]


def check_destination(path: Path, inputs: Sequence[Path]) -> None:
    """Refuse a destination that exists, or that lies on or inside an input.

    Parameters
    ----------
    path : pathlib.Path
        Where the store is to be written.
    inputs : sequence of pathlib.Path
        Existing files and folders that will be read.

    Raises
    ------
    FileExistsError
        If something is there already.
    ValueError
        If `path` is an input or lies inside one, under whatever spelling, link or mount.
    """
    for source in inputs:
        for ancestor in (path, *path.absolute().parents, *path.resolve().parents):
            if ancestor.exists() and ancestor.samefile(source):
                raise ValueError(
                    f"the destination {path} is the input {source} or lies inside it: "
                    "write elsewhere"
                )
    if os.path.lexists(path):
        raise FileExistsError(
            f"the destination {path} exists: choose another path, or delete it first"
        )


@contextmanager
def new_store(
    path: Path, channels: Sequence[ChannelSpec], attributes: Mapping[str, Any], storage: Storage
) -> Iterator[list["zarr.Array[Any]"]]:
    """Create a store to be filled inside the ``with`` block; finished only if that succeeds.

    Parameters
    ----------
    path : pathlib.Path
        Where; must not exist. Missing parent folders are made.
    channels : sequence of ChannelSpec
        One per channel.
    attributes : mapping
        What goes into the root group's attribute, next to ``finished`` and ``versions``.
    storage : Storage
        How chunks are compressed.

    Yields
    ------
    list of zarr.Array
        Empty float32 arrays, one per channel.

    Raises
    ------
    OSError
        If the folder cannot be made or written. Whatever the error, nothing is left behind.
    """
    new_parents = [parent for parent in path.parents if not parent.exists()]
    above = path.parents[len(new_parents)]
    if not above.is_dir():
        raise NotADirectoryError(
            f"the destination {path} cannot be written: {above} is a file; choose another folder"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir()  # fails where another run was quicker: what is there is not ours
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        try:
            with bulk_codecs():
                arrays = _create(path, channels, {**attributes, "versions": versions()}, storage)
        except OSError as error:
            raise _unwritable(path, error) from error
        yield arrays
        _finish(path)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        for parent in new_parents:
            with suppress(OSError):  # somebody else may use it by now
                parent.rmdir()
        raise


def open_backgrounds(path: str | os.PathLike[str]) -> SpatialMeanResult:
    """Open a finished store of backgrounds, lazily.

    Parameters
    ----------
    path : str or path-like
        A store written by `run_spatial_mean` or ``smlmlp-dask run``.

    Returns
    -------
    SpatialMeanResult
        As `run_spatial_mean` returned it: lazy backgrounds in the store's chunks, noise
        corrections and info.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    ValueError
        If it is no such store, or an unfinished one.
    """
    path = Path(path)
    attributes = read_attributes(path)
    if attributes.get("finished") is not True:
        raise ValueError(
            f"{path} is not finished: its backgrounds are incomplete; delete it and run again"
        )
    try:
        n_channels = len(attributes["noise_corrections"])
        with bulk_codecs():
            group = zarr.open_group(path, mode="r")
            arrays: list[Any] = [group[f"channel_{i}/0"] for i in range(n_channels)]
        info: dict[str, list[Any]] = {
            "channels_mean_radii_pix": [tuple(p) for p in attributes["channels_mean_radii_pix"]],
            "spatial_mean_sigmas": [tuple(p) for p in attributes["spatial_mean_sigmas"]],
            **{key: [np.array(k, np.float32) for k in attributes[key]] for key in KERNEL_KEYS},
        }
        corrections = [np.float32(factor) for factor in attributes["noise_corrections"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error!r}): delete it and run again") from error
    info["channels_mean_radius_pix"] = info["channels_mean_radii_pix"]
    stacks = [da.from_array(array, chunks=array.chunks) for array in arrays]
    return SpatialMeanResult(stacks, corrections, info, path)


def read_attributes(path: Path) -> dict[str, Any]:
    """Return what a store's root group says of it, finished or not.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    ValueError
        If it is not a store of backgrounds.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        attributes = zarr.open_group(path, mode="r").attrs.get(ATTRIBUTE)
    except (NodeNotFoundError, ValueError, KeyError, TypeError) as error:
        attributes = None
        cause: Exception | None = error
    else:
        cause = None
    if not isinstance(attributes, dict):
        raise ValueError(
            f"{path} is not a store of backgrounds: pass one written by run_spatial_mean or "
            "smlmlp-dask run"
        ) from cause
    return attributes


def versions() -> dict[str, str]:
    """Return the versions of what computed and wrote the pixels."""
    packages = ("smlmlp-dask", "numpy", "scipy", "dask", "dask-image", "numba", "zarr")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _unwritable(path: Path, error: OSError) -> OSError:
    return type(error)(
        f"the destination {path} cannot be written ({error.strerror or error}): "
        "choose a folder that you may write to"
    )


def _create(
    path: Path, channels: Sequence[ChannelSpec], attributes: Mapping[str, Any], storage: Storage
) -> list["zarr.Array[Any]"]:
    names = [f"channel_{i}" for i in range(len(channels))]
    # The root lists every channel too, so that a viewer pointed at it finds something to show.
    everything = _image({name: f"{name}/0" for name in names})
    root = zarr.create_group(
        path,
        zarr_format=3,
        attributes={"ome": everything, ATTRIBUTE: {**attributes, "finished": False}},
    )
    return [
        root.create_group(name, attributes={"ome": _image({name: "0"})}).create_array(
            "0",
            shape=spec.shape,
            chunks=spec.chunks,
            dtype="float32",
            compressors=storage.compressor,
            fill_value=float("nan"),
            dimension_names=("t", "y", "x"),
            config={"write_empty_chunks": True},
        )
        for name, spec in zip(names, channels, strict=True)
    ]


def _image(paths: Mapping[str, str]) -> Any:
    """Describe channels by name and path; neither frame interval nor pixel size is known here."""
    axes: list[Any] = [v05.TimeAxis(name="t"), v05.SpaceAxis(name="y"), v05.SpaceAxis(name="x")]
    scale = v05.ScaleTransformation(scale=[1.0, 1.0, 1.0])
    image = v05.Image(
        multiscales=[
            v05.Multiscale(
                name=name,
                axes=axes,
                datasets=[v05.Dataset(path=path, coordinateTransformations=[scale])],
            )
            for name, path in paths.items()
        ]
    )
    return image.model_dump(mode="json", by_alias=True, exclude_none=True)


def _finish(path: Path) -> None:
    root = zarr.open_group(path, mode="r+")
    attributes: Any = root.attrs[ATTRIBUTE]
    root.attrs[ATTRIBUTE] = {**attributes, "finished": True}
