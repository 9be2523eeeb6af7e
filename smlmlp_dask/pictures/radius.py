"""The picture of a suggested radius: its curves, and what three radii leave of one frame."""

from collections.abc import Callable, Sequence
from textwrap import fill
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from smlmlp_dask.movies.acquisition import Acquisition

from .diagnostics import LARGEST_SHARE
from .frames import Picture, named_channel
from .panels import WARNING_COLOUR

# Okabe and Ito's blue, vermilion and green: distinct for every colour vision.
_TAKEN, _UNEVEN, _SUGGESTED = "#0072B2", "#D55E00", "#009E73"
_HEADING_INCHES = 0.4
_LINE_INCHES = 0.22
_LINE_CHARACTERS = 130
_CURVES_INCHES = 3.2
_CROPS_INCHES = 4.0
_CROP_PIX = 128
_FACTOR = 3.0  # of the smaller and the larger radius
_LIMIT_PERCENTILE = 99.5


LocalMean = Callable[[npt.NDArray[Any], float], npt.NDArray[np.float32]]


class Row(Protocol):
    """The attributes of a `RadiusRow`."""

    @property
    def radius_pix(self) -> float:
        """The radius."""

    @property
    def share_of_peak(self) -> float | None:
        """Share of a spot's peak that the background takes."""

    @property
    def taken_counts(self) -> float:
        """Light and noise in the background."""

    @property
    def uneven_counts(self) -> float:
        """Unevenness that is not followed."""

    @property
    def error_counts(self) -> float:
        """Both together."""


class Suggested(Protocol):
    """The attributes of a `ChannelRadius` that are drawn."""

    @property
    def channel(self) -> int:
        """Number of the channel."""

    @property
    def radius_pix(self) -> float:
        """The suggested radius."""

    @property
    def reason(self) -> str:
        """Why."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What makes it uncertain."""

    @property
    def table(self) -> Sequence[Row]:
        """What other radii would do."""

    @property
    def looked_at(self) -> tuple[int, ...]:
        """Numbers of the frames."""

    @property
    def frame(self) -> npt.NDArray[np.float32]:
        """The frame in the middle of them."""

    @property
    def acquisition(self) -> Acquisition:
        """How the channel was recorded."""


def draw_suggestions(channels: Sequence[Suggested], local_mean: LocalMean) -> Picture:
    """Draw the suggestion for each channel; see `RadiusSuggestion.plot`.

    `local_mean` returns the backgrounds of frames (frame, y, x), by a radius.
    """
    texts = [
        [fill(line, _LINE_CHARACTERS) for line in (each.reason, *each.notes)] for each in channels
    ]
    heights = [
        (
            _HEADING_INCHES + _LINE_INCHES * sum(1 + line.count("\n") for line in lines),
            _CURVES_INCHES,
            _CROPS_INCHES,
        )
        for lines in texts
    ]
    figure = Picture.of_height(sum(map(sum, heights)))
    places: Any = figure.subfigures(
        len(channels), 1, height_ratios=[sum(parts) for parts in heights], squeeze=False
    )
    for place, each, lines, parts in zip(places[:, 0], channels, texts, heights, strict=True):
        above, curves, crops = place.subfigures(3, 1, height_ratios=parts)
        _write(above, each, lines, parts[0])
        _draw_curves(curves, each)
        _draw_crops(crops, each, local_mean)
    return figure


def _write(place: SubFigure, suggested: Suggested, lines: Sequence[str], height: float) -> None:
    heading = f"{named_channel(suggested.channel, suggested.acquisition)}: "
    heading += f"radius {suggested.radius_pix:g} px"
    style: dict[str, Any] = {"ha": "center", "va": "top", "parse_math": False}
    top = 0.08
    place.text(0.5, 1 - top / height, heading, fontsize="x-large", fontweight="bold", **style)
    top += 0.27
    for number, line in enumerate(lines):
        colour = WARNING_COLOUR if number else "black"
        place.text(0.5, 1 - top / height, line, fontsize=11, color=colour, **style)
        top += _LINE_INCHES * (1 + line.count("\n"))


def _draw_curves(place: SubFigure, suggested: Suggested) -> None:
    errors, shares = place.subplots(1, 2, width_ratios=(2, 1))
    rows = suggested.table
    radii = [row.radius_pix for row in rows]
    spots = any(row.share_of_peak is not None for row in rows)
    light = "light of spots and noise that it takes in" if spots else "noise that it takes in"
    errors.plot(radii, [row.taken_counts for row in rows], "--", color=_TAKEN, label=light)
    uneven = [row.uneven_counts or np.nan for row in rows]
    errors.plot(radii, uneven, ":", color=_UNEVEN, linewidth=2, label="unevenness that it misses")
    total = [row.error_counts for row in rows]
    errors.plot(radii, total, color="black", linewidth=2, label="both together")
    positive = [error for error in total if error > 0]
    if positive:
        errors.set_yscale("log")
        chosen = next(row for row in rows if row.radius_pix == suggested.radius_pix)
        low = min(min(positive) / 8, chosen.uneven_counts / 1.5 or np.inf)
        errors.set_ylim(low, 1.5 * max(positive))
        errors.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        errors.yaxis.set_major_formatter(FuncFormatter(_plain))
        errors.yaxis.set_minor_formatter(NullFormatter())
    errors.set_title("predicted error of the background")
    errors.set_ylabel("counts, root mean square")
    _mark(errors, suggested, radii)
    errors.legend(loc="best", fontsize="small", edgecolor="none")  # the curves may lie anywhere
    shares.set_title("share of a spot's peak that it takes")
    if spots:
        shares.plot(radii, [100 * (row.share_of_peak or 0) for row in rows], color=_TAKEN)
        shares.axhline(100 * LARGEST_SHARE, color=WARNING_COLOUR, linewidth=0.8)
        shares.set_ylim(0, 100)
        shares.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} %"))
    else:
        shares.set_yticks([])
        shares.text(0.5, 0.5, "no spots found", transform=shares.transAxes, ha="center")
    _mark(shares, suggested, radii)


def _mark(axes: Axes, suggested: Suggested, radii: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.set_xlim(radii[0], radii[-1])
    ticks = [radius for radius in (2, 3, 5, 10, 20, 30, 60) if radii[0] <= radius <= radii[-1]]
    axes.set_xticks(ticks, [f"{radius:g}" for radius in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("radius (px)")
    axes.axvline(suggested.radius_pix, color=_SUGGESTED, linewidth=2, label="suggested", zorder=0)


def _plain(value: float, _: object) -> str:
    return f"{value:g}"


def _draw_crops(place: SubFigure, suggested: Suggested, local_mean: LocalMean) -> None:
    frame, radius = suggested.frame, suggested.radius_pix
    most = max(frame.shape)
    radii = (
        (radius / _FACTOR, "smaller"),
        (radius, "suggested"),
        (min(most, _FACTOR * radius), "larger"),
    )
    signals = [frame - local_mean(frame[np.newaxis], each)[0] for each, _ in radii]
    rows, columns = _telling_part(signals[2] - signals[1])
    parts = [signal[rows, columns] for signal in signals]
    limit = float(np.percentile(np.abs(parts[2]), _LIMIT_PERCENTILE)) or 1.0
    panels = place.subplots(1, 3, sharex=True, sharey=True)
    corner = (columns.start - 0.5, columns.stop - 0.5, rows.stop - 0.5, rows.start - 0.5)
    for panel, part, (each, what) in zip(panels, parts, radii, strict=True):
        image = panel.imshow(part, cmap=colormaps["PuOr_r"], vmin=-limit, vmax=limit, extent=corner)
        colour = _SUGGESTED if what == "suggested" else "black"
        panel.set_title(f"signal at {float(f'{each:.2g}'):g} px ({what})", color=colour)
        panel.set_xlabel("x (px)")
    panels[0].set_ylabel("y (px)")
    bar = panels[2].inset_axes((1.04, 0, 0.05, 1))
    place.colorbar(image, cax=bar, label="counts", extend="both", extendfrac=0.03)


def _telling_part(change: npt.NDArray[np.float32]) -> tuple[slice, slice]:
    """Return the part of a frame, at most 128 pixels wide and high, where radii differ most."""
    height, width = (min(_CROP_PIX, side) for side in change.shape)
    squares = np.zeros((change.shape[0] + 1, change.shape[1] + 1))
    squares[1:, 1:] = np.cumsum(np.cumsum(change.astype(np.float64) ** 2, axis=0), axis=1)
    sums = (
        squares[height:, width:]
        - squares[:-height, width:]
        - squares[height:, :-width]
        + squares[:-height, :-width]
    )
    row, column = np.unravel_index(np.argmax(sums), sums.shape)
    return slice(int(row), int(row) + height), slice(int(column), int(column) + width)
