"""Pictures of raw frames, their background, and what remains."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

from smlmlp_dask.filters.wording import in_words, mean_alone
from smlmlp_dask.messages import printable

from .diagnostics import saturation

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure
    from matplotlib.image import AxesImage

    from smlmlp_dask.movies.acquisition import Acquisition

# Both maps are legible with colour vision deficiency. Neither contains the grey of missing
# numbers, and only the second has white, at zero.
_COUNTS_MAP = "viridis"
_DIFFERENCE_MAP = "PuOr_r"
_NO_NUMBER = "0.6"
WARNING_COLOUR = "darkred"
# Cut off the darkest and brightest pixels: hot pixels, and the peaks of single molecules.
_COUNTS_PERCENTILES = (0.5, 99.8)
_DIFFERENCE_PERCENTILE = 99.8

_FIGURE_WIDTH_INCHES = 12.0
_PANEL_WIDTH_INCHES = 3.2
_PANEL_HEIGHT_INCHES = (1.2, 6.4)
_PADDING_INCHES = 0.08
_STRIP_RATIO = 8
_LABELS_INCHES = 0.7
_HEADING_INCHES = 0.3
_LONGEST_NAME = 40  # characters of a channel's name in a heading


class Picture(Figure):
    """A figure that a notebook shows by itself, independent of pyplot."""

    @classmethod
    def of_height(cls, inches: float) -> Picture:
        """Return an empty figure of our width; it needs neither pyplot nor a display."""
        figure = cls(figsize=(_FIGURE_WIDTH_INCHES, inches))
        FigureCanvasAgg(figure)
        figure.set_layout_engine("constrained", w_pad=_PADDING_INCHES, h_pad=_PADDING_INCHES)
        return figure

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


@dataclass(frozen=True)
class FrameRow:
    """One row of the picture: a frame of one channel.

    Attributes
    ----------
    raw : numpy.ndarray or None
        One raw frame (y, x), in camera counts; None if the movie can no longer be read.
    background : numpy.ndarray
        Its background.
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
    unit : str
        Of the pixels, as colour bars name it.
    """

    raw: npt.NDArray[np.float64] | None
    background: npt.NDArray[np.float64]
    heading: str = ""
    radius_pix: tuple[float, float] | None = None
    saturated: int = 0
    pixel_um: float | None = None
    steps: tuple[Any, ...] = ()
    unit: str = "counts"

    @property
    def height_inches(self) -> float:
        """Height that the row needs, headings included."""
        heading = _HEADING_INCHES if self.heading else 0
        return _panel_height_inches(self.background.shape) + _LABELS_INCHES + heading


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
                raw=raw.astype(np.float64),
                background=background.astype(np.float64),
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


def pixel_width_um(acquisition: Acquisition) -> float | None:
    """Return the width of a pixel, if it is known."""
    return None if acquisition.pixel_size_um is None else acquisition.pixel_size_um[1]


def saturated_pixels(frame: npt.NDArray[Any]) -> int:
    """Count the saturated pixels of a raw frame (y, x), as far as one frame shows them."""
    found = saturation(frame[np.newaxis])
    return 0 if found is None else found.pixels


def _panel_height_inches(shape: tuple[int, ...]) -> float:
    """Return the height that gives square pixels, within limits for very wide or tall frames."""
    return float(np.clip(_PANEL_WIDTH_INCHES * shape[0] / shape[1], *_PANEL_HEIGHT_INCHES))


def _counts_limits(raw: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the colour limits of raw frame and background, in counts."""
    finite = raw[np.isfinite(raw)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = (float(limit) for limit in np.percentile(finite, _COUNTS_PERCENTILES))
    # A constant frame has no range of its own.
    margin = 0.0 if high > low else max(0.5, abs(low) * 1e-3)
    return low - margin, high + margin


def _difference_limit(difference: npt.NDArray[np.float64]) -> float:
    """Return the largest absolute difference on the colour scale, in counts."""
    finite = np.abs(difference[np.isfinite(difference)])
    limit = float(np.percentile(finite, _DIFFERENCE_PERCENTILE)) if finite.size else 0.0
    return limit if limit > 0 else 1.0


def draw_frames(place: SubFigure, row: FrameRow) -> None:
    """Draw the heading, raw frame, background and difference with their two colour bars."""
    if row.heading:
        place.suptitle(
            row.heading + (f" ({_saturation(row.saturated)})" if row.saturated else ""),
            color=WARNING_COLOUR if row.saturated else "black",
            fontsize="x-large",
            fontweight="bold",
            parse_math=False,  # a "$" in a file name would start a formula
        )
    axes = place.subplots(1, 3, sharex=True, sharey=True)
    axes[0].set_ylabel("y (px)")
    limits = _counts_limits(row.background if row.raw is None else row.raw)
    counts = _draw_panel(axes[1], row.background, limits, _COUNTS_MAP, _background_title(row))
    _add_colour_bar(place, axes[1], counts, row.unit)
    if row.pixel_um is not None:
        _add_scale_bar(axes[1], row.background.shape[1], row.pixel_um)
    if row.raw is None:
        for panel, title in ((axes[0], "raw"), (axes[2], _DIFFERENCE_TITLE)):
            _draw_absence(panel, title)
            panel.set_aspect(counts.axes.get_aspect())
        return
    # Infinity minus infinity is NaN; such pixels are drawn grey.
    with np.errstate(invalid="ignore"):
        difference = row.raw - row.background
    limit = _difference_limit(difference)
    _draw_panel(axes[0], row.raw, limits, _COUNTS_MAP, "raw")
    excess = _draw_panel(axes[2], difference, (-limit, limit), _DIFFERENCE_MAP, _DIFFERENCE_TITLE)
    _add_colour_bar(place, axes[2], excess, row.unit)


_DIFFERENCE_TITLE = "signal = raw \N{MINUS SIGN} background"


def _add_colour_bar(place: SubFigure, panel: Axes, image: AxesImage, unit: str) -> None:
    # An inset is as high as the drawn frame, however much room the layout leaves around it.
    bar = panel.inset_axes((1.04, 0, 0.05, 1))
    place.colorbar(image, cax=bar, label=unit, extend="both", extendfrac=0.03)


def _add_scale_bar(panel: Axes, width: int, pixel_um: float) -> None:
    """Draw a bar of a round length, at most a quarter of the frame, over the smooth background."""
    length = _round_length(width * pixel_um / 4)
    name = f"{length:g} µm" if length >= 1 else f"{length * 1000:g} nm"
    bar = AnchoredSizeBar(
        panel.transData, length / pixel_um, name, "lower right", color="white", borderpad=0.3
    )
    bar.patch.set(facecolor="black", alpha=0.5, linewidth=0)
    bar.set_in_layout(False)
    panel.add_artist(bar)


def _round_length(most: float) -> float:
    """Return the largest of 1, 2, 5, 10 ... that is not larger."""
    power = 10.0 ** np.floor(np.log10(most))
    return float(max(step * power for step in (1, 2, 5) if step * power <= most))


def _draw_absence(panel: Axes, title: str) -> None:
    panel.set_title(title)
    panel.set_xlabel("x (px)")
    panel.set_facecolor("0.95")
    panel.text(
        0.5,
        0.5,
        "no raw frame",
        transform=panel.transAxes,
        ha="center",
        va="center",
        color=WARNING_COLOUR,
    )


def _saturation(pixels: int) -> str:
    return f"{pixels} saturated pixel{'' if pixels == 1 else 's'}"


def _background_title(row: FrameRow) -> str:
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


def _draw_panel(
    axes: Axes,
    image: npt.NDArray[np.float64],
    limits: tuple[float, float],
    colour_map: str,
    title: str,
) -> AxesImage:
    axes.set_title(title)
    axes.set_xlabel("x (px)")
    equal = max(image.shape) <= _STRIP_RATIO * min(image.shape)
    height = _panel_height_inches(image.shape)
    width = _PANEL_WIDTH_INCHES
    if equal:
        scale = min(height / image.shape[0], width / image.shape[1])
        height, width = scale * image.shape[0], scale * image.shape[1]
    # One tick every half inch: wide enough for five digits; longer numbers are rare.
    for axis, inches in ((axes.yaxis, height), (axes.xaxis, width)):
        axis.set_major_locator(
            MaxNLocator(
                nbins=max(1, min(6, int(2 * inches))),
                steps=[1, 2, 5, 10],
                integer=True,
                min_n_ticks=1,
            )
        )
    return axes.imshow(
        image,
        # A strip of a few lines would vanish with square pixels.
        aspect="equal" if equal else "auto",
        cmap=colormaps[colour_map].with_extremes(bad=_NO_NUMBER),
        vmin=limits[0],
        vmax=limits[1],
        origin="upper",
    )
