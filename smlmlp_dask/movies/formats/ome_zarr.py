"""What the metadata of OME-Zarr images say: axes, channels, pixel size, frame interval."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import PurePosixPath
from typing import Any

import zarr

from smlmlp_dask.movies.acquisition import UNKNOWN, Acquisition
from smlmlp_dask.movies.axes import in_micrometres, in_seconds

from .zarr_movie import parsing, place_of
from .zarr_nodes import Node, is_node

_COLOUR = re.compile(r"#?([0-9A-Fa-f]{6})")


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image of a group: its array of full resolution, and what is said of it.

    Attributes
    ----------
    dataset : str
        Path of the array in the group.
    names : list of str
        Names of its axes, in lower case.
    name : str
        As the group calls it.
    multiscale, omero : Any
        These parts of the metadata, as they are.
    """

    dataset: str
    names: list[str]
    name: str
    multiscale: Any
    omero: Any

    def acquisitions(self, count: int) -> tuple[Acquisition, ...]:
        """Return what is said of each of so many channels; nothing where it makes no sense."""
        try:
            lengths = _lengths(self.multiscale, self.dataset, self.names)
        except (LookupError, TypeError, ValueError, AttributeError):
            lengths = UNKNOWN
        try:
            channels = self.omero["channels"]
            shown = [(channel.get("label"), channel.get("color")) for channel in channels]
        except (LookupError, TypeError, AttributeError):
            shown = []
        if len(shown) != count:  # nothing tells which is which
            shown = [(None, None)] * count
        return tuple(
            Acquisition(
                channel=label.strip() or None if isinstance(label, str) else None,
                colour=_colour(colour),
                pixel_size_um=lengths.pixel_size_um,
                frame_interval_s=lengths.frame_interval_s,
            )
            for label, colour in shown
        )


def attributes_of(group: Node) -> dict[str, Any]:
    """Return the OME metadata of a group, and all other attributes beside them.

    OME-Zarr 0.5 has them in the attribute ``ome``, earlier ones beside the others.
    """
    opened = zarr.open_group(**place_of(group), mode="r", use_consolidated=False)
    attributes: dict[str, Any] = opened.attrs.asdict()
    inner = attributes.get("ome", {})
    return {**attributes, **inner} if isinstance(inner, Mapping) else attributes


def images_of(group: Node) -> list[Image]:
    """Return the images of a group, none if it is no OME-Zarr image.

    It looks only at what it needs: a validator would refuse movies that we can read. Several
    multiscales of one array are one image.
    """
    with parsing(group):
        images: dict[str, Image] = {}
        for image in _images(group):
            images.setdefault(str(PurePosixPath(image.dataset)), image)
    return list(images.values())


def _images(group: Node) -> list[Image]:
    attributes = attributes_of(group)
    return [
        Image(
            dataset=multiscale["datasets"][0]["path"],
            names=_axis_names(multiscale),
            name=str(multiscale.get("name") or ""),
            multiscale=multiscale,
            omero=attributes.get("omero"),
        )
        for multiscale in attributes.get("multiscales") or ()
    ]


def image_around(array: Node) -> Image | None:
    """Return the OME-Zarr image that lists an array at any resolution, or None."""
    array = array.resolve()
    for group in filter(is_node, array.parents):
        try:
            for image in _images(group):
                for dataset in image.multiscale["datasets"]:
                    if (group / dataset["path"]).resolve() == array:
                        return replace(image, dataset=dataset["path"])
        except (ValueError, LookupError, TypeError, AttributeError, RuntimeError):
            continue  # damaged metadata above do not matter for an array that can be read
    return None


def lies_inside(group: Node, name: Any) -> bool:
    """Say whether a path in metadata leads down from its group, also when links are followed."""
    parts = PurePosixPath(name).parts if isinstance(name, str) else ()
    if not parts or parts[0] == "/" or ".." in parts or "\\" in name:
        return False
    try:
        (group / name).resolve().relative_to(group.resolve())
    except (ValueError, OSError, RuntimeError):  # a null byte, a name too long, a loop of links
        return False
    return True


def _axes(multiscale: Any) -> Any:
    if "coordinateSystems" not in multiscale:
        return multiscale.get("axes", list("tczyx"))  # the fixed axes of OME-Zarr 0.1 and 0.2
    # OME-Zarr 0.6: all resolutions are placed in one of the systems.
    output = multiscale["datasets"][0]["coordinateTransformations"][0]["output"]
    name = output["name"] if isinstance(output, Mapping) else output
    systems = {system["name"]: system["axes"] for system in multiscale["coordinateSystems"]}
    return systems[name]


def _axis_names(multiscale: Any) -> list[str]:
    axes = _axes(multiscale)
    names = [axis["name"] if isinstance(axis, Mapping) else axis for axis in axes]
    return [str(name).lower() for name in names]


def _colour(value: Any) -> str | None:
    match = _COLOUR.fullmatch(value) if isinstance(value, str) else None
    return match[1].upper() if match else None


def _lengths(multiscale: Any, dataset: str, names: Sequence[str]) -> Acquisition:
    """Return pixel size and frame interval of one resolution."""
    entry = next(entry for entry in multiscale["datasets"] if entry["path"] == dataset)
    steps = list(entry.get("coordinateTransformations") or ())
    if "coordinateSystems" not in multiscale:  # in OME-Zarr 0.6 they lead elsewhere
        steps += multiscale.get("coordinateTransformations") or ()
    scale = _scale(steps, len(names))
    if all(length == 1 for length in scale):  # so programs write, with units, what they do not know
        return UNKNOWN
    lengths = {
        axis["name"].lower(): (axis.get("unit"), length)
        for axis, length in zip(_axes(multiscale), scale, strict=True)
    }
    pixel = tuple(_length(*lengths[name]) for name in ("y", "x"))
    unit, interval = lengths.get("t", (None, 0.0))
    return Acquisition(
        pixel_size_um=None if None in pixel else pixel,  # type: ignore[arg-type]
        frame_interval_s=_positive(interval * in_seconds(unit)),
    )


def _scale(transformations: Sequence[Any], count: int) -> list[float]:
    """Return the product of all scales; an error if something else but a shift is done."""
    product = [1.0] * count
    for transformation in transformations:
        kind = transformation["type"]
        if kind == "scale":
            factors = [float(factor) for factor in transformation["scale"]]
        elif kind == "sequence":
            factors = _scale(transformation["transformations"], count)
        elif kind in ("identity", "translation"):
            continue
        else:
            raise ValueError(kind)
        product = [before * by for before, by in zip(product, factors, strict=True)]
    return product


def _length(unit: Any, length: float) -> float | None:
    if unit is None:  # most programs mean micrometres; 1 is what they write if they do not know
        return None if length == 1 else _positive(length)
    return _positive(length * in_micrometres(unit))


def _positive(length: float) -> float | None:
    return length if isfinite(length) and length > 0 else None
