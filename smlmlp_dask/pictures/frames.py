"""Pictures of raw frames, their background, and what remains."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from smlmlp_dask.filters.wording import in_words, mean_alone
from smlmlp_dask.messages import printable

from .content import (
    BACKGROUND,
    LEVELS,
    MEAN_BACKGROUND,
    RAW,
    SIGNAL,
    SNR,
    Content,
    frame_name,
    shown_range,
)
from .diagnostics import saturation
from .panels import DIFFERENCE_MAP, FIGURE_WIDTH_INCHES, WARNING_COLOUR, Panel, Places, draw_panels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    from matplotlib.figure import SubFigure

    from smlmlp_dask.movies.acquisition import Acquisition

_PADDING_INCHES = 0.08
_HEADING_INCHES = 0.3
_LONGEST_NAME = 40  # characters of a channel's name in a heading


class Picture(Figure):
    """A figure that a notebook shows by itself, independent of pyplot."""

    @classmethod
    def of_height(cls, inches: float, width: float = FIGURE_WIDTH_INCHES) -> Picture:
        """Return an empty figure of our width; it needs neither pyplot nor a display."""
        figure = cls(figsize=(width, inches))
        FigureCanvasAgg(figure)
        figure.set_layout_engine("constrained", w_pad=_PADDING_INCHES, h_pad=_PADDING_INCHES)
        return figure

    def png(self, dpi: int | None = None) -> bytes:
        """Return the picture as a PNG."""
        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=dpi or "figure")
        return buffer.getvalue()

    def _repr_png_(self) -> bytes:
        return self.png()


@dataclass(frozen=True)
class FrameRow:
    """One row of the picture: a frame of one channel.

    Attributes
    ----------
    images : mapping
        What there is of the frame by kind, of `content.KINDS`: float64 (y, x).
    content : Content
        What there is of the channel.
    heading : str
        Heading; may be empty.
    radius_pix : (float, float), optional
        Filter radius (y, x), in pixels.
    saturated : int
        Number of saturated raw pixels, which the heading names in red.
    pixel_um : float, optional
        Width of a pixel in the sample, in micrometres, for a scale bar.
    steps : tuple of Step
        What the background is, shown in place of `radius_pix`.
    """

    images: Mapping[str, npt.NDArray[np.float64]]
    content: Content
    heading: str = ""
    radius_pix: tuple[float, float] | None = None
    saturated: int = 0
    pixel_um: float | None = None
    steps: tuple[Any, ...] = ()

    @cached_property
    def panels(self) -> list[Panel]:
        """The images from left to right; of a missing raw frame, its place says so."""
        return _panels_of(self)

    @property
    def places(self) -> Places:
        """Where the images stand."""
        return Places.of(self.panels)

    @property
    def height_inches(self) -> float:
        """Height that the row needs, headings included."""
        return self.places.height_inches + (_HEADING_INCHES if self.heading else 0)


def plot_channels(
    raws: Sequence[npt.ArrayLike],
    backgrounds: Sequence[npt.ArrayLike],
    *,
    titles: Sequence[str] | None = None,
    radii_pix: Sequence[tuple[float, float]] | None = None,
    frame: int | None = None,
) -> Figure:
    """
    Draw one frame of each channel: raw, background and their difference, side by side.

    Raw frame and background share one colour scale, from percentile 0.5 to 99.8 of the raw frame.
    The difference has its own, centred on 0 and reaching to percentile 99.8 of its absolute
    values. Pixels that are not finite are grey. If raw counts of this frame were cut off (see
    `diagnostics.saturation`), the heading turns red and counts the pixels: the background around
    them is too low. The figure is independent of pyplot: it can be drawn without a display and in
    any thread, and is freed like any other object.

    Parameters
    ----------
    raws : sequence of array_like
        One raw frame (y, x) per channel, in camera counts, real; channels may differ in size.
    backgrounds : sequence of array_like
        Their backgrounds, of the same shapes, in camera counts.
    titles : sequence of str, optional
        One heading per channel, instead of "Channel 0", "Channel 1" ...
    radii_pix : sequence of (float, float), optional
        Filter radius (y, x) of each channel in pixels, shown with the background.
    frame : int, optional
        Number of the frame, shown in the headings.

    Returns
    -------
    matplotlib.figure.Figure
        One row per channel, with three panels and two colour bars. A notebook shows it;
        ``figure.savefig(path, dpi=120)`` writes it.

    Raises
    ------
    TypeError
        If a frame is not of real numbers.
    ValueError
        If no channel is passed, the sequences differ in length, or a frame is not two-dimensional,
        is empty or has another shape than its background.
    """
    rows = _rows(raws, backgrounds, titles, radii_pix, frame)
    heights = [row.height_inches for row in rows]
    figure = Picture.of_height(sum(heights))
    places = figure.subfigures(len(rows), 1, height_ratios=heights, squeeze=False)[:, 0]
    for place, row in zip(places, rows, strict=True):
        draw_frames(place, row)
    return figure


def _rows(
    raws: Sequence[npt.ArrayLike],
    backgrounds: Sequence[npt.ArrayLike],
    titles: Sequence[str] | None,
    radii_pix: Sequence[tuple[float, float]] | None,
    frame: int | None,
) -> list[FrameRow]:
    """Check the arguments and return the rows of the picture."""
    count = len(raws)
    if count == 0:
        raise ValueError("no frame to draw: pass one raw frame (y, x) per channel")
    per_channel = {"backgrounds": backgrounds, "titles": titles, "radii_pix": radii_pix}
    for name, values in per_channel.items():
        if values is not None and len(values) != count:
            raise ValueError(
                f"{len(values)} {name} for {count} raw frames: pass {count}, one per channel"
            )
    rows = []
    for i in range(count):
        raw = _frame(raws[i], f"raws[{i}]")
        background = _frame(backgrounds[i], f"backgrounds[{i}]")
        if raw.shape != background.shape:
            raise ValueError(
                f"backgrounds[{i}] is {background.shape} and raws[{i}] {raw.shape}: "
                "pass frames of the same shape"
            )
        title = f"Channel {i}" if titles is None else str(titles[i])
        rows.append(
            FrameRow(
                heading=title + ("" if frame is None else f", frame {frame}"),
                images=with_signal(raw.astype(np.float64), background.astype(np.float64)),
                content=Content({}, frozenset({SIGNAL})),
                radius_pix=None if radii_pix is None else _pair(radii_pix[i], f"radii_pix[{i}]"),
                saturated=saturated_pixels(raw),
            )
        )
    return rows


def _frame(values: npt.ArrayLike, name: str) -> npt.NDArray[Any]:
    frame = np.asarray(values)
    if frame.dtype.kind not in "biuf":
        raise TypeError(f"{name} is of {frame.dtype}: pass a frame of real numbers")
    if frame.ndim != 2 or frame.size == 0:
        raise ValueError(
            f"{name} has the shape {frame.shape}: pass one frame (y, x) with at least one pixel"
        )
    return frame


def _pair(radius: tuple[float, float], name: str) -> tuple[float, float]:
    if np.shape(radius) != (2,):
        raise ValueError(f"{name} is {radius!r}: pass a pair (ry, rx) in pixels")
    return float(radius[0]), float(radius[1])


def named_channel(number: int, acquisition: Acquisition) -> str:
    """Return a channel's number, with its name if it has one."""
    name = printable(acquisition.channel or "")
    short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    return f"Channel {number} ({short})" if name else f"Channel {number}"


def frame_heading(number: int, frame: int, count: int, acquisition: Acquisition) -> str:
    """Return the heading of a frame: its channel, number and time; the first frame is 0."""
    heading = f"{named_channel(number, acquisition)}, {frame_name(frame, count)}"
    interval = acquisition.frame_interval_s
    if interval is None:
        return heading
    seconds = frame * interval
    return f"{heading}, at {f'{seconds:,.0f}' if seconds >= 1000 else f'{seconds:.4g}'} s"


def pixel_width_um(acquisition: Acquisition) -> float | None:
    """Return the width of a pixel, if it is known."""
    return None if acquisition.pixel_size_um is None else acquisition.pixel_size_um[1]


def pixel_words(acquisition: Acquisition) -> str:
    """Return the size of a pixel in words; nothing if it is not known."""
    if acquisition.pixel_size_um is None:
        return ""
    y, x = (f"{size:g}" for size in acquisition.pixel_size_um)
    return f"pixel {y} µm" if y == x else f"pixel {y} × {x} µm (y × x)"


def saturated_pixels(frame: npt.NDArray[Any]) -> int:
    """Count the saturated pixels of a raw frame (y, x), as far as one frame shows them."""
    found = saturation(frame[np.newaxis])
    return 0 if found is None else found.pixels


def with_signal(
    raw: npt.NDArray[np.float64], background: npt.NDArray[np.float64]
) -> dict[str, npt.NDArray[np.float64]]:
    """Return raw frame, background and their difference, by kind."""
    # Infinity minus infinity is NaN; such pixels are drawn grey.
    with np.errstate(invalid="ignore"):
        return {RAW: raw, BACKGROUND: background, SIGNAL: raw - background}


def draw_frames(place: SubFigure, row: FrameRow) -> None:
    """Draw the heading and the images with their colour bars."""
    if row.heading:
        place.suptitle(
            row.heading + (f" ({_saturation(row.saturated)})" if row.saturated else ""),
            color=WARNING_COLOUR if row.saturated else "black",
            fontsize="x-large",
            fontweight="bold",
            parse_math=False,  # a "$" in a file name would start a formula
        )
    draw_panels(place, row.panels, row.places)


def _panels_of(row: FrameRow) -> list[Panel]:
    images = row.images
    levels = [kind for kind in LEVELS if kind in images]
    limits = shown_range(images[levels[0]]) if levels else (0.0, 1.0)
    titles = {
        BACKGROUND: _background_title(row),
        MEAN_BACKGROUND: "mean background, all frames",
    }
    panels = [Panel("raw", images.get(RAW), limits=limits)]
    panels += [
        # A bar of micrometres is best to read on a smooth image.
        Panel(titles[kind], images[kind], limits=limits, pixel_um=row.pixel_um)
        for kind in levels
        if kind != RAW
    ]
    if levels:
        last = len(panels) - 1
        panels[last] = replace(panels[last], unit=row.content.unit)
    if SIGNAL in images or BACKGROUND in images:
        panels.append(_difference_panel(_signal_title(row), images.get(SIGNAL), row.content.unit))
    if SNR in images:
        panels.append(_difference_panel("signal / noise", images[SNR], "SNR"))
    if not any(panel.pixel_um for panel in panels):
        panels[-1] = replace(panels[-1], pixel_um=row.pixel_um)
    return panels


def _difference_panel(title: str, pixels: npt.NDArray[np.float64] | None, unit: str) -> Panel:
    limits = (-1.0, 1.0) if pixels is None else shown_range(pixels, about_zero=True)
    return Panel(title, pixels, limits, DIFFERENCE_MAP, unit)


def _signal_title(row: FrameRow) -> str:
    if row.content.pedestal is not None and SIGNAL not in row.content.derived:
        return "signal, stored in whole counts"
    if BACKGROUND in row.content.derived:
        return "signal, as stored"
    return "signal = raw \N{MINUS SIGN} background"


def _saturation(pixels: int) -> str:
    return f"{pixels} saturated pixel{'' if pixels == 1 else 's'}"


def _background_title(row: FrameRow) -> str:
    if BACKGROUND in row.content.derived:
        return "background = raw \N{MINUS SIGN} signal"
    mean = mean_alone(row.steps)
    radius_pix = row.radius_pix if mean is None else mean.radii
    if row.steps and radius_pix is None:
        return f"background: {in_words(row.steps)}"
    if radius_pix is None:
        return "background"
    radius_y, radius_x = radius_pix
    if radius_y == radius_x:
        return f"background, radius {radius_y:g} px"
    return f"background, radius y {radius_y:g} px, x {radius_x:g} px"
