"""What a store says of its channels to other programs: OME-Zarr 0.5.

The models of `yaozarrs` take a sixth of a second to import, and only writing needs them.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smlmlp_dask.messages import printable
from smlmlp_dask.movies.acquisition import Acquisition

from .outputs import SIGNAL, SNR

if TYPE_CHECKING:
    from yaozarrs import v05


def channel_labels(acquisitions: Sequence[Acquisition]) -> list[str]:
    """Return the channels' names; ``channel_0`` ... where one has none, or shares it."""
    names = [printable(one.channel or "") for one in acquisitions]
    numbered = [f"channel_{i}" for i in range(len(names))]
    return [
        name if name and names.count(name) == 1 and name not in numbered else number
        for name, number in zip(names, numbered, strict=True)
    ]


def output_label(label: str, kind: str, *, pedestal: int | None, unit: str) -> str:
    """Name an output of a channel: what it is, how much higher it is stored, and its unit.

    `kind` is empty for backgrounds and frames in other programs, which show them as the channel.
    """
    name = f"{label} {kind.replace('_', ' ')}".rstrip()
    if kind == SIGNAL and pedestal:
        name += f" + {pedestal}"
    return name if unit == "counts" or kind == SNR else f"{name} ({unit})"


def ome_image(
    names: Mapping[str, str],
    acquisitions: Sequence[Acquisition],
    omero: "v05.Omero | None" = None,
) -> dict[str, Any]:
    """Describe arrays (t, y, x), by path and name; a scale that is not known is 1, without unit."""
    from yaozarrs import v05

    multiscales = []
    for (path, name), acquisition in zip(names.items(), acquisitions, strict=True):
        interval, pixel = acquisition.frame_interval_s, acquisition.pixel_size_um
        axes: list[Any] = [v05.TimeAxis(name="t", unit=None if interval is None else "second")]
        unit = None if pixel is None else "micrometer"
        axes += [v05.SpaceAxis(name="y", unit=unit), v05.SpaceAxis(name="x", unit=unit)]
        scale = v05.ScaleTransformation(scale=[interval or 1.0, *(pixel or (1.0, 1.0))])
        dataset = v05.Dataset(path=path, coordinateTransformations=[scale])
        multiscales.append(v05.Multiscale(name=name, axes=axes, datasets=[dataset]))
    image = v05.Image(multiscales=multiscales, omero=omero)
    described: dict[str, Any] = image.model_dump(mode="json", by_alias=True, exclude_none=True)
    return described


def rendering(label: str, colour: str | None, window: Mapping[str, float]) -> "v05.Omero":
    """Describe how viewers show the one channel of an image; grey where it has no colour."""
    from yaozarrs import v05

    known = re.fullmatch("[0-9A-Fa-f]{6}", colour or "")
    channel = v05.OmeroChannel(
        label=label,
        color=known[0] if known else "FFFFFF",
        active=True,
        window=v05.OmeroWindow(**window),
    )
    return v05.Omero(channels=[channel])
