"""Pictures of raw frames, their background, and what remains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.image import AxesImage

# Perceptually uniform and legible with colour vision deficiency; grey (no number) occurs in
# neither, and white only as the zero of the second.
_COUNTS_MAP = "viridis"
_DIFFERENCE_MAP = "PuOr_r"
_NO_NUMBER = "0.6"
# The darkest and brightest pixels are hot pixels and the peaks of single molecules.
_COUNTS_PERCENTILES = (0.5, 99.8)
_DIFFERENCE_PERCENTILE = 99.8

_FIGURE_WIDTH_INCHES = 12.0
_PANEL_WIDTH_INCHES = 3.2
_PANEL_HEIGHT_INCHES = (1.2, 6.4)
_PADDING_INCHES = 0.08
_HEADINGS_INCHES = 1.0


@dataclass(frozen=True)
class _Channel:
    """One row of the picture."""

    title: str
    raw: npt.NDArray[np.float64]
    background: npt.NDArray[np.float64]
    radius_pix: tuple[float, float] | None
    saturated: int


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
    values. Pixels that are not finite are grey. Where raw pixels stand at the largest number of
    their integer dtype, the heading turns red and counts them: the background around them is
    too low. The figure belongs to no pyplot state: it can be drawn without a display and in any
    thread, and is freed like any other object.

    Parameters
    ----------
    raws : sequence of array_like
        One raw frame (y, x) per channel, in camera counts, real; channels may differ in size.
    backgrounds : sequence of array_like
        Their backgrounds, of the same shapes, in camera counts.
    titles : sequence of str, optional
        One heading per channel, instead of "Channel 0", "Channel 1" ...
    radii_pix : sequence of (float, float), optional
        Filter radius (y, x) of each channel in pixels, to be named with the background.
    frame : int, optional
        Number of the frame, to be named in the headings.

    Returns
    -------
    matplotlib.figure.Figure
        One row per channel; each has the three panels and their two colour bars. Write it with
        ``figure.savefig(path, dpi=120)``.

    Raises
    ------
    TypeError
        If a frame is not of real numbers.
    ValueError
        If there is no channel, the sequences differ in length, or a frame is not two-dimensional,
        is empty or has another shape than its background.
    """
    channels = _channels(raws, backgrounds, titles, radii_pix)

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    heights = [_panel_height_inches(channel.raw.shape) + _HEADINGS_INCHES for channel in channels]
    figure = Figure(figsize=(_FIGURE_WIDTH_INCHES, sum(heights)))
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained", w_pad=_PADDING_INCHES, h_pad=_PADDING_INCHES)
    rows = figure.subfigures(len(channels), 1, height_ratios=heights, squeeze=False)[:, 0]
    for row, channel in zip(rows, channels, strict=True):
        _draw_channel(row, channel, frame)
    return figure


def _channels(
    raws: Sequence[npt.ArrayLike],
    backgrounds: Sequence[npt.ArrayLike],
    titles: Sequence[str] | None,
    radii_pix: Sequence[tuple[float, float]] | None,
) -> list[_Channel]:
    """Rows of the picture, checked."""
    count = len(raws)
    if count == 0:
        raise ValueError("no frame to draw: pass one raw frame (y, x) per channel")
    per_channel = {"backgrounds": backgrounds, "titles": titles, "radii_pix": radii_pix}
    for name, values in per_channel.items():
        if values is not None and len(values) != count:
            raise ValueError(
                f"{len(values)} {name} for {count} raw frames: pass {count}, one per channel"
            )
    channels = []
    for i in range(count):
        raw = _frame(raws[i], f"raws[{i}]")
        background = _frame(backgrounds[i], f"backgrounds[{i}]")
        if raw.shape != background.shape:
            raise ValueError(
                f"backgrounds[{i}] is {background.shape} and raws[{i}] {raw.shape}: "
                "pass frames of the same shape"
            )
        channels.append(
            _Channel(
                title=f"Channel {i}" if titles is None else str(titles[i]),
                raw=raw.astype(np.float64),
                background=background.astype(np.float64),
                radius_pix=None if radii_pix is None else _pair(radii_pix[i], f"radii_pix[{i}]"),
                saturated=_count_saturated(raw),
            )
        )
    return channels


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


def _count_saturated(raw: npt.NDArray[Any]) -> int:
    """Pixels at the largest number the camera's integers hold; floating counts have none."""
    if raw.dtype.kind not in "iu":
        return 0
    return int(np.count_nonzero(raw == np.iinfo(raw.dtype).max))


def _panel_height_inches(shape: tuple[int, ...]) -> float:
    """Height that gives square pixels, within limits for very wide or tall frames."""
    return float(np.clip(_PANEL_WIDTH_INCHES * shape[0] / shape[1], *_PANEL_HEIGHT_INCHES))


def _counts_limits(raw: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Colour limits of raw frame and background, in counts."""
    finite = raw[np.isfinite(raw)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = (float(limit) for limit in np.percentile(finite, _COUNTS_PERCENTILES))
    # A constant frame has no range of its own.
    margin = 0.0 if high > low else max(0.5, abs(low) * 1e-3)
    return low - margin, high + margin


def _difference_limit(difference: npt.NDArray[np.float64]) -> float:
    """Largest absolute difference on the colour scale, in counts."""
    finite = np.abs(difference[np.isfinite(difference)])
    limit = float(np.percentile(finite, _DIFFERENCE_PERCENTILE)) if finite.size else 0.0
    return limit if limit > 0 else 1.0


def _draw_channel(row: SubFigure, channel: _Channel, frame: int | None) -> None:
    """Three panels and two colour bars."""
    # Infinite pixels of both frames leave no number; they are drawn as such.
    with np.errstate(invalid="ignore"):
        difference = channel.raw - channel.background
    low, high = _counts_limits(channel.raw)
    limit = _difference_limit(difference)

    heading = channel.title if frame is None else f"{channel.title}, frame {frame}"
    if channel.saturated:
        heading += f" ({_saturation(channel.saturated)})"
    # File names may hold a "$", which would start a formula.
    row.suptitle(
        heading,
        color="darkred" if channel.saturated else "black",
        fontsize="x-large",
        fontweight="bold",
        parse_math=False,
    )

    axes = row.subplots(1, 3, sharex=True, sharey=True)
    axes[0].set_ylabel("y (px)")
    _draw_panel(axes[0], channel.raw, (low, high), _COUNTS_MAP, "raw")
    counts = _draw_panel(
        axes[1], channel.background, (low, high), _COUNTS_MAP, _background_title(channel)
    )
    excess = _draw_panel(
        axes[2], difference, (-limit, limit), _DIFFERENCE_MAP, "raw \N{MINUS SIGN} background"
    )
    for panel, image in ((axes[1], counts), (axes[2], excess)):
        # An inset is as high as the drawn frame, whatever room the layout leaves around it.
        bar = panel.inset_axes((1.04, 0, 0.05, 1))
        row.colorbar(image, cax=bar, label="camera counts", extend="both", extendfrac=0.03)


def _saturation(pixels: int) -> str:
    return f"{pixels} saturated pixel{'' if pixels == 1 else 's'}"


def _background_title(channel: _Channel) -> str:
    if channel.radius_pix is None:
        return "background"
    radius_y, radius_x = channel.radius_pix
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
    from matplotlib import colormaps
    from matplotlib.ticker import MaxNLocator

    square = _PANEL_WIDTH_INCHES * image.shape[0] / image.shape[1]
    axes.set_title(title)
    axes.set_xlabel("x (px)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(
            MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
        )
    return axes.imshow(
        image,
        # A strip of a few lines would vanish with square pixels.
        aspect="equal" if square == _panel_height_inches(image.shape) else "auto",
        cmap=colormaps[colour_map].with_extremes(bad=_NO_NUMBER),
        vmin=limits[0],
        vmax=limits[1],
        origin="upper",
    )
