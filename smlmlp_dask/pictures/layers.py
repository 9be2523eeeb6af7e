"""What a viewer shows of a store: raw, background and signal of each channel, read on demand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from smlmlp_dask.messages import one_line
from smlmlp_dask.movies.acquisition import Acquisition
from smlmlp_dask.movies.stack import Stack
from smlmlp_dask.store.metadata import ranges_of
from smlmlp_dask.store.ome import channel_labels, output_label
from smlmlp_dask.store.read import read_attributes, refusing_damage

from .content import (
    BACKGROUND,
    MEAN_BACKGROUND,
    RAW,
    SIGNAL,
    SNR,
    Content,
    Result,
    content_of,
    one_frame,
    shown_range,
)
from .samples import raw_stacks


@dataclass(frozen=True)
class Layer:
    """What a viewer shows in one place.

    Attributes
    ----------
    kind : str
        One of `content.KINDS`.
    channel : int
        Number of the channel.
    name : str
        The channel's name and the kind; no two layers have the same.
    stack : Stack
        The pixels.
    limits : (float, float)
        Counts that are shown darkest and brightest.
    scale : (float, float, float)
        Step along frame, y and x, in the `units`.
    units : (str or None, str or None, str or None)
        ``"second"`` and ``"micrometer"``; None where the scale is not known, and 1. All layers of
        a store have the same, since they share a viewer's axes.
    colour : str or None
        Of the channel, six hexadecimal digits.
    unit : str
        Of the pixels: "counts", "photons", or "snr".
    """

    kind: str
    channel: int
    name: str
    stack: Stack
    limits: tuple[float, float]
    scale: tuple[float, float, float]
    units: tuple[str | None, str | None, str | None]
    colour: str | None
    unit: str = "counts"


def viewed_layers(result: Result) -> tuple[list[Layer], list[str]]:
    """Return the layers of a store, and a line for each channel whose raw frames are missing.

    Reads one frame of each stack, whatever the length of the movie. Channels without pixels are
    left out.

    Raises
    ------
    ValueError
        If no channel has a pixel.
    OSError
        If the store cannot be read.
    """
    stacks, raws = result.stacks, raw_stacks(result.path)
    attributes = read_attributes(result.path)
    with refusing_damage(result.path):
        ranges = {output: ranges_of(attributes, output, len(stacks)) for output in result.stored}
    acquisitions = [stack.acquisition for stack in stacks]
    labels = channel_labels(acquisitions)
    layers, missing = [], []
    for i, (stored, raw) in enumerate(zip(stacks, raws, strict=True)):
        if 0 in stored.shape:
            continue
        frame = stored.shape[0] // 2
        content = content_of(result, i, raw, attributes)
        limits = {kind: (of[i]["start"], of[i]["end"]) for kind, of in ranges.items() if of[i]}
        if not content.missing:
            try:
                limits[RAW] = shown_range(one_frame(content.stacks[RAW], frame))
            except OSError as error:
                content = content.without_raw(one_line(error))
        if content.missing:
            missing.append(f"{labels[i]}: {_without_raw(content)}: {content.missing}")
        layers += [
            Layer(
                kind=kind,
                channel=i,
                name=output_label(
                    labels[i], kind, pedestal=content.pedestal or 0, unit=content.unit
                ),
                stack=stack,
                limits=limits.get(kind)
                or shown_range(one_frame(stack, min(frame, stack.shape[0] - 1))),
                **_axes(acquisitions, i, content.n_frames if kind == MEAN_BACKGROUND else 1),
                colour=acquisitions[i].colour,
                unit="snr" if kind == SNR else content.unit,
            )
            for kind, stack in content.stacks.items()
        ]
    if not layers:
        raise ValueError(f"{result.path} has no frames: there is nothing to show")
    return layers, missing


def _without_raw(content: Content) -> str:
    """Say what is missing with the movie."""
    both = (BACKGROUND, SIGNAL)
    lost = [kind for kind in both if kind not in content.stacks]
    # Neither followed from the movie if neither is stored.
    return f"no raw frames and no {lost[0]}" if len(lost) == 1 else "no raw frames"


def _axes(acquisitions: Sequence[Acquisition], channel: int, step: int) -> dict[str, Any]:
    """Return scale and units of a channel; an axis is in pixels or frames unless all know it.

    `step` is how many frames one of the layer stands for.
    """
    one = acquisitions[channel]
    interval, pixel, unit, length = 1.0, (1.0, 1.0), None, None
    if one.frame_interval_s and all(other.frame_interval_s for other in acquisitions):
        interval, unit = one.frame_interval_s, "second"
    if one.pixel_size_um and all(other.pixel_size_um for other in acquisitions):
        pixel, length = one.pixel_size_um, "micrometer"
    return {"scale": (interval * step, *pixel), "units": (unit, length, length)}
