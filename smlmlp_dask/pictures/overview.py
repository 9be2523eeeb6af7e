"""One picture of a whole result: frames, kernels, background over time, and warnings."""

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.figure import SubFigure

from smlmlp_dask.paths import refuse_existing
from smlmlp_dask.store.durable import not_written, write_whole

from .content import Result
from .curves import draw_curves, draw_kernels, draw_level
from .diagnostics import LARGEST_SHARE
from .frames import FrameRow, Picture, draw_frames, frame_heading, pixel_width_um, pixel_words
from .panels import WARNING_COLOUR, Places, draw_panels
from .samples import ChannelSample, sample_channels

SUFFIXES = (".png", ".svg", ".pdf")
"""Formats of pictures, by suffix."""

_CURVES_INCHES = 2.7
_CARD_INCHES, _STRIP_INCHES = 4.0, 8.0
_CARD_CURVES_INCHES = (6.0, 2.8)
_HEADINGS_INCHES = 0.58
_WARNING_LINE_INCHES = 0.2
_WARNING_CHARACTERS = 140
_DPI = 150


def plot_result(result: Result, frame: int | None = None) -> Picture:
    """Draw a finished result; see `SpatialMeanResult.plot`."""
    return draw_samples(sample_channels(result, frame))


def draw_samples(samples: Sequence[ChannelSample]) -> Picture:
    """Draw at least one channel of a result; see `SpatialMeanResult.plot`."""
    rows = [row_of(sample) for sample in samples]
    red_lines = [
        "\n".join(fill(line, _WARNING_CHARACTERS) for line in _red_lines(sample))
        for sample in samples
    ]
    heights = [
        (
            _HEADINGS_INCHES + _WARNING_LINE_INCHES * len(text.splitlines()),
            row.height_inches,
            _CURVES_INCHES,
        )
        for row, text in zip(rows, red_lines, strict=True)
    ]
    figure = Picture.of_height(sum(map(sum, heights)))
    for i, place in enumerate(_stacked(figure, [sum(parts) for parts in heights])):
        above, frames, below = _stacked(place, heights[i])
        sample = samples[i]
        heading = frame_heading(
            sample.channel, sample.frame, sample.content.n_frames, sample.acquisition
        )
        _write(above, heading, origin_of(sample), red_lines[i])
        draw_frames(frames, rows[i])
        draw_curves(below, sample)
    return figure


def row_of(sample: ChannelSample) -> FrameRow:
    """Return the images of a channel."""
    return FrameRow(
        sample.images,
        sample.content,
        steps=sample.steps,
        pixel_um=pixel_width_um(sample.acquisition),
    )


def origin_of(sample: ChannelSample) -> str:
    """Say where the frames come from, and which part of wide or tall ones is shown."""
    row = row_of(sample)
    shape = next(iter(row.images.values())).shape
    parts = (sample.origin, pixel_words(sample.acquisition), row.places.cut_of(shape))
    return "; ".join(filter(None, parts))


def _red_lines(sample: ChannelSample) -> list[str]:
    return (
        [f"No raw frame: {sample.content.missing}"] if sample.raw is None else warnings_of(sample)
    )


def warnings_of(sample: ChannelSample) -> list[str]:
    """Return one line for each thing that looks wrong in the raw movie."""
    raw = sample.raw
    if raw is None:
        return []
    lines = []
    if raw.saturation is not None:
        found = raw.saturation
        lines.append(
            f"Saturated: {found.pixels:,} raw pixels in {found.frames:,} of {raw.looked_at:,} "
            f"frames stand at the largest count, {found.level:g}; background and signal are too "
            "low around them."
        )
    too_small = (raw.share_of_peak or 0) > LARGEST_SHARE
    if sample.mean is not None and raw.spot_sigma_pix is not None and too_small:
        enough = smallest_radius(max(raw.spot_sigma_pix))
        lines.append(
            f"Radius too small: spots have a sigma of about {_pair(raw.spot_sigma_pix)} px, and a "
            f"radius of {_pair(sample.mean.radii)} px subtracts "
            f"{_percent(raw.share_of_peak or 0)} of their peak; from about {enough:.2g} px on it "
            f"is under {_percent(LARGEST_SHARE)}."
        )
    return lines


def smallest_radius(spot_sigma: float) -> float:
    """Return the radius, in pixels, that takes `LARGEST_SHARE` of the peak of a round spot.

    A Gaussian mean of width m takes s² / (s² + m²) of a spot of width s; the radius is twice m.
    """
    return float(2 * spot_sigma * np.sqrt(1 / LARGEST_SHARE - 1))


def _pair(values: tuple[float, float]) -> str:
    y, x = (f"{value:.2g}" for value in values)
    return y if y == x else f"{y} (y) and {x} (x)"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def _stacked(place: SubFigure | Picture, heights: Sequence[float]) -> list[SubFigure]:
    places: Any = place.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)
    return list(places[:, 0])


def _write(place: SubFigure, heading: str, origin: str, warnings: str) -> None:
    height = _HEADINGS_INCHES + _WARNING_LINE_INCHES * len(warnings.splitlines())
    lines: list[tuple[float, str, dict[str, Any]]] = [
        (1 - 0.08 / height, heading, {"fontsize": "x-large", "fontweight": "bold"}),
        (1 - 0.36 / height, origin, {"color": "0.35"}),
    ]
    for y, text, style in lines:
        place.text(0.5, y, text, ha="center", va="top", parse_math=False, **style)
    place.text(
        0.5,
        0.02,
        warnings,
        ha="center",
        va="bottom",
        color=WARNING_COLOUR,
        fontsize=11,
        parse_math=False,
    )


# ---- Each part of a channel as a picture of its own, for a page --------------------------------


def cards_of(sample: ChannelSample) -> list[tuple[str, Picture]]:
    """Draw what `draw_samples` draws of a channel, picture by picture, each with its name."""
    row = row_of(sample)
    inches = _STRIP_INCHES if row.places.stacked else _CARD_INCHES
    cards = []
    for panel in row.panels:
        if panel.pixels is not None:
            alone = replace(panel, unit=panel.unit or row.content.unit, pixel_um=row.pixel_um)
            places = Places.of([alone], inches)
            figure = Picture.of_height(places.height_inches, inches)
            place: Any = figure.subfigures(1, 1)
            draw_panels(place, [alone], places)
            cards.append((alone.title, figure))
    width, height = _CARD_CURVES_INCHES
    figure = Picture.of_height(height, width)
    draw_level(figure.subplots(), sample)
    cards.append((f"{sample.level_of} over time", figure))
    if sample.kernels is not None:
        figure = Picture.of_height(height, width)
        kernel_axes, residual_axes = figure.subplots(1, 2)
        draw_kernels(kernel_axes, residual_axes, sample.kernels)
        cards.append(("kernels", figure))
    return cards


# ---- Files ---------------------------------------------------------------------------------------


def picture_beside(store: Path) -> Path:
    """Return the default picture of a store: background.png beside background.zarr."""
    if store.name in ("", ".."):
        store = store.resolve()
    return store.with_name(f"{store.name.removesuffix('.zarr')}.png")


def check_picture(path: Path, store: Path | None = None, *, overwrite: bool) -> None:
    """Refuse the path of a picture that cannot be written.

    Raises
    ------
    ValueError
        If its suffix is not one of `SUFFIXES`, or it lies inside the store.
    FileExistsError
        If it exists and `overwrite` is False.
    FileNotFoundError
        If its folder does not exist.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"the picture {path} ends in {path.suffix or 'nothing'}: choose a name that ends in "
            f"{', '.join(SUFFIXES)}"
        )
    if store is not None and store.resolve() in path.resolve().parents:
        raise ValueError(f"the picture {path} lies inside the store {store}: write elsewhere")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist: make it first")
    refuse_existing(path, overwrite=overwrite)


def write_picture(figure: Picture, path: Path) -> None:
    """Write a figure in the format of its suffix; an existing file stays until it is whole."""
    buffer = BytesIO()
    # Leave dates out, so that the same result gives the same bytes.
    metadata = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    kind = path.suffix.lower()
    figure.savefig(buffer, format=kind[1:], dpi=_DPI, metadata=metadata[kind])
    try:
        write_whole(path, buffer.getvalue(), synced=True)
    except OSError as error:
        raise not_written(f"the picture {path}", error) from error
