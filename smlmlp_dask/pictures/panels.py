"""Images of a frame with square pixels, ticks, colour and scale bars, side by side or stacked."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.ticker import FixedLocator, MaxNLocator
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure
    from matplotlib.image import AxesImage

# Both maps are legible with colour vision deficiency. Neither contains the grey of missing
# numbers, and only the second has white, at zero.
COUNTS_MAP = "viridis"
DIFFERENCE_MAP = "PuOr_r"
NO_NUMBER = "0.6"
WARNING_COLOUR = "darkred"

FIGURE_WIDTH_INCHES = 12.0
_LABELS_INCHES = 0.75  # above and below an image: its title, ticks and their label
_LEFT_INCHES, _GAP_INCHES, _RIGHT_INCHES = 0.6, 0.1, 0.75  # ticks; gap; colour bar
_MOST_HEIGHT_INCHES = 6.4
_STACKED_RATIO = 4
"""Frames that are wider stand one below another."""
_MOST_RATIO = 40
"""Of frames that are wider or taller, only the middle is shown: a line would vanish otherwise."""
_LINE_INCHES = 0.17  # one more line of a title
_TITLE_CHARACTERS = 46
_BAR_INCHES = (0.07, 0.13)  # from an image to its colour bar, and the bar's width
_LOW_INCHES = 0.5
_BAR_ROOM_INCHES = 0.6  # least side of an image with a scale bar


@dataclass(frozen=True)
class Panel:
    """An image of one frame.

    Attributes
    ----------
    title : str
        What it is.
    pixels : numpy.ndarray or None
        The frame (y, x); None where it takes a raw frame, and there is none.
    limits : (float, float)
        Ends of the colour scale.
    colour_map : str
        Name of Matplotlib's colour map.
    unit : str
        Of the pixels, beside the colour bar; empty for an image whose bar is another's.
    pixel_um : float or None
        Width of a pixel, in micrometres, for a scale bar; None for no bar.
    """

    title: str
    pixels: npt.NDArray[np.float64] | None
    limits: tuple[float, float] = (0.0, 1.0)
    colour_map: str = COUNTS_MAP
    unit: str = ""
    pixel_um: float | None = None

    def lines(self, count: int) -> list[str]:
        """Return the title in lines that fit over one of so many images side by side."""
        return wrap(self.title, _TITLE_CHARACTERS if count <= 3 else 2 * _TITLE_CHARACTERS // count)


@dataclass(frozen=True)
class Places:
    """Where the images of a frame stand, and how large they are.

    Attributes
    ----------
    rows, columns : slice
        The part of the frame that is shown.
    stacked : bool
        One below another, not side by side.
    width, height : float
        Of an image, in inches.
    count : int
        Number of images.
    lines : int
        Lines of their titles.
    """

    rows: slice
    columns: slice
    stacked: bool
    width: float
    height: float
    count: int
    lines: int = 1

    @classmethod
    def of(cls, panels: Sequence[Panel], inches: float = FIGURE_WIDTH_INCHES) -> Places:
        """Choose the places of images of one shape, at least one of them there, in this width."""
        shape = next(panel.pixels.shape for panel in panels if panel.pixels is not None)
        count = len(panels)
        lines = max(len(panel.lines(count)) for panel in panels)
        rows, columns = (
            _middle(length, _MOST_RATIO * other)
            for length, other in zip(shape, shape[::-1], strict=True)
        )
        height, width = rows.stop - rows.start, columns.stop - columns.start
        stacked = count > 1 and width >= _STACKED_RATIO * height
        beside = sum(1 for panel in panels if panel.unit and panel.pixels is not None)
        across, bars = (1, min(beside, 1)) if stacked else (count, beside)
        room = (inches - _LEFT_INCHES - across * _GAP_INCHES - bars * _RIGHT_INCHES) / across
        scale = min(room / width, _MOST_HEIGHT_INCHES / height)
        return cls(rows, columns, stacked, scale * width, scale * height, count, lines)

    @property
    def height_inches(self) -> float:
        """Height that all images need, with their titles and ticks."""
        rows = self.count if self.stacked else 1
        return rows * (self.height + _LABELS_INCHES + _LINE_INCHES * (self.lines - 1))

    def cut_of(self, shape: tuple[int, ...]) -> str:
        """Say which part of a frame is shown, if it is not all of it."""
        for name, part, length in zip(
            ("rows", "columns"), (self.rows, self.columns), shape, strict=True
        ):
            if part.stop - part.start < length:
                return f"only {name} {part.start}\N{EN DASH}{part.stop - 1} are shown"
        return ""


def _middle(length: int, most: int) -> slice:
    shown = min(length, most)
    start = (length - shown) // 2
    return slice(start, start + shown)


def draw_panels(place: SubFigure, panels: Sequence[Panel], places: Places) -> None:
    """Draw images with their titles, ticks and bars."""
    count = len(panels)
    rows, columns = (count, 1) if places.stacked else (1, count)
    axes = place.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for number, (panel, one) in enumerate(zip(panels, axes, strict=True)):
        size = "large" if len(panel.title) * max(3, count) < 96 else "medium"
        one.set_title("\n".join(panel.lines(count)), fontsize=size, parse_math=False)
        if not places.stacked or number == count - 1:
            one.set_xlabel("x (px)")
        if places.stacked or number == 0:
            one.set_ylabel("y (px)")
        _set_ticks(one, places)
        if panel.pixels is None:
            _draw_absence(one, places)
            continue
        image = _draw_image(one, panel, places)
        if panel.unit:
            _add_colour_bar(place, image, panel.unit, places)
        if panel.pixel_um is not None and min(places.width, places.height) >= _BAR_ROOM_INCHES:
            _add_scale_bar(one, places.columns.stop - places.columns.start, panel.pixel_um)


def _set_ticks(axes: Axes, places: Places) -> None:
    # One tick every half inch: wide enough for five digits; longer numbers are rare.
    for axis, inches in ((axes.yaxis, places.height), (axes.xaxis, places.width)):
        nbins = max(1, min(6, int(2 * inches)))
        axis.set_major_locator(
            MaxNLocator(nbins=nbins, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
        )
    if places.height < _LOW_INCHES:  # too low for round numbers, and high enough for two
        ends = {places.rows.start, places.rows.stop - 1}
        axes.yaxis.set_major_locator(FixedLocator(sorted(ends)))


def _draw_image(axes: Axes, panel: Panel, places: Places) -> AxesImage:
    assert panel.pixels is not None
    return axes.imshow(
        panel.pixels[places.rows, places.columns],
        aspect="equal",
        extent=_extent(places),
        cmap=colormaps[panel.colour_map].with_extremes(bad=NO_NUMBER),
        vmin=panel.limits[0],
        vmax=panel.limits[1],
        origin="upper",
    )


def _extent(places: Places) -> tuple[float, float, float, float]:
    """Return left, right, bottom and top: pixels have whole numbers at their centres."""
    rows, columns = places.rows, places.columns
    return columns.start - 0.5, columns.stop - 0.5, rows.stop - 0.5, rows.start - 0.5


def _draw_absence(axes: Axes, places: Places) -> None:
    left, right, bottom, top = _extent(places)
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", facecolor="0.95")
    axes.text(
        0.5,
        0.5,
        "no raw frame",
        transform=axes.transAxes,
        ha="center",
        va="center",
        color=WARNING_COLOUR,
    )


def _add_colour_bar(place: SubFigure, image: AxesImage, unit: str, places: Places) -> None:
    # An inset is as high as the drawn frame, however much room the layout leaves around it.
    gap, width = (inches / places.width for inches in _BAR_INCHES)
    bar = image.axes.inset_axes((1 + gap, 0, width, 1))
    flat = places.height < 1  # too low for more ticks, and for a label along it
    ticks = MaxNLocator(2) if flat else None
    drawn = place.colorbar(image, cax=bar, extend="both", extendfrac=0.03, ticks=ticks)
    if places.height < _LOW_INCHES:
        limits = image.get_clim()
        drawn.set_ticks(limits, labels=[f"{limit:.3g}" for limit in limits])
    bar.set_ylabel(unit)
    if flat:
        bar.yaxis.label.set(rotation=0, ha="left", va="center")


def _add_scale_bar(axes: Axes, width: int, pixel_um: float) -> None:
    """Draw a bar of a round length, at most a quarter of the frame."""
    length = round_length(width * pixel_um / 4)
    name = f"{length:g} µm" if length >= 1 else f"{length * 1000:g} nm"
    bar = AnchoredSizeBar(
        axes.transData, length / pixel_um, name, "lower right", color="white", borderpad=0.3
    )
    bar.patch.set(facecolor="black", alpha=0.5, linewidth=0)
    bar.set_in_layout(False)
    axes.add_artist(bar)


def round_length(most: float) -> float:
    """Return the largest of 1, 2, 5, 10 ... that is not larger."""
    power = 10.0 ** np.floor(np.log10(most))
    return float(max(step * power for step in (1, 2, 5) if step * power <= most))
