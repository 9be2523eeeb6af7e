"""One picture of a whole result: frames, kernels, background over time, and warnings."""

from collections.abc import Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.ticker import EngFormatter, MaxNLocator

from smlmlp_dask.filters.kernels import residual_kernel
from smlmlp_dask.paths import refuse_existing

from .diagnostics import LARGEST_SHARE
from .frames import WARNING_COLOUR, FrameRow, Picture, draw_frames, named_channel, pixel_width_um
from .samples import PERCENTILES, ChannelSample, Result, sample_channels

SUFFIXES = (".png", ".svg", ".pdf")
"""Formats of pictures, by suffix."""

# Okabe and Ito's blue and vermilion: distinct for every colour vision.
_COLOURS = {"y": "#0072B2", "x": "#D55E00"}
_CURVES_INCHES = 2.7
_HEADING_INCHES = 0.35
_WARNING_LINE_INCHES = 0.2
_WARNING_CHARACTERS = 140
_DPI = 150


def plot_result(result: Result, frame: int | None = None) -> Picture:
    """Draw a finished result; see `SpatialMeanResult.plot`."""
    return draw_samples(sample_channels(result, frame))


def draw_samples(samples: Sequence[ChannelSample]) -> Picture:
    """Draw at least one channel of a result; see `SpatialMeanResult.plot`."""
    rows = [
        FrameRow(
            raw=None if sample.raw is None else sample.raw.frame.astype(np.float64),
            background=sample.background.astype(np.float64),
            steps=sample.steps,
            pixel_um=pixel_width_um(sample.acquisition),
            unit=sample.unit,
        )
        for sample in samples
    ]
    red_lines = [
        "\n".join(fill(line, _WARNING_CHARACTERS) for line in _red_lines(sample))
        for sample in samples
    ]
    heights = [
        (
            _HEADING_INCHES + _WARNING_LINE_INCHES * len(text.splitlines()),
            row.height_inches,
            _CURVES_INCHES,
        )
        for row, text in zip(rows, red_lines, strict=True)
    ]
    figure = Picture.of_height(sum(map(sum, heights)))
    for i, place in enumerate(_stacked(figure, [sum(parts) for parts in heights])):
        above, frames, below = _stacked(place, heights[i])
        sample = samples[i]
        channel = named_channel(sample.channel, sample.acquisition)
        heading = f"{channel}, frame {sample.frame:,} of {sample.n_frames:,}"
        _write(above, heading, red_lines[i])
        draw_frames(frames, rows[i])
        _draw_curves(below, sample)
    return figure


def _red_lines(sample: ChannelSample) -> list[str]:
    return [f"No raw frame: {sample.missing}"] if sample.raw is None else warnings_of(sample)


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


def _write(place: SubFigure, heading: str, warnings: str) -> None:
    height = _HEADING_INCHES + _WARNING_LINE_INCHES * len(warnings.splitlines())
    top = 1 - 0.08 / height
    place.text(
        0.5,
        top,
        heading,
        ha="center",
        va="top",
        fontsize="x-large",
        fontweight="bold",
        parse_math=False,
    )
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


def _draw_curves(place: SubFigure, sample: ChannelSample) -> None:
    if sample.kernels is None:  # no local mean among the steps
        _draw_level(place.subplots(), sample)
        return
    kernel_axes, residual_axes, level_axes = place.subplots(1, 3, width_ratios=(1, 1, 2))
    means = dict(zip("yx", sample.kernels, strict=True))
    _draw_kernels(kernel_axes, means, "kernel g of the mean")
    residuals = {axis: residual_kernel(kernel) for axis, kernel in means.items()}
    _draw_kernels(
        residual_axes, residuals, "residual \N{GREEK SMALL LETTER DELTA} \N{MINUS SIGN} g"
    )
    _draw_level(level_axes, sample)


def _draw_kernels(axes: Axes, kernels: dict[str, npt.NDArray[np.float32]], title: str) -> None:
    same = np.array_equal(kernels["y"], kernels["x"])
    shown = {"y and x": kernels["y"]} if same else kernels
    for name, kernel in shown.items():
        reach = len(kernel) // 2
        edges = np.arange(-reach - 0.5, reach + 1)
        axes.stairs(
            kernel,
            edges,
            color=_COLOURS[name[0]],
            linestyle="--" if name == "x" else "-",
            linewidth=1.5,
            label=f"along {name}",
        )
    axes.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    axes.set_title(title)
    axes.set_xlabel("distance (px)")
    axes.set_ylabel("weight")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))
    axes.margins(y=0.3 if not same else 0.1)
    axes.legend(loc="upper center", fontsize="small", frameon=False, ncols=2, borderaxespad=0.1)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.2 * (high - low))


def _draw_level(axes: Axes, sample: ChannelSample) -> None:
    low, middle, high = sample.levels.T
    frames = sample.level_frames
    axes.fill_between(
        frames,
        low,
        high,
        color=_COLOURS["y"],
        alpha=0.25,
        linewidth=0,
        label=f"{PERCENTILES[0]}\N{EN DASH}{PERCENTILES[2]} % of pixels",
    )
    axes.plot(
        frames,
        middle,
        color=_COLOURS["y"],
        marker="." if len(frames) < 20 else "",
        label="median pixel",
    )
    axes.axvline(sample.frame, ymax=0.85, color="0.3", linestyle=":", label="frame shown")
    axes.set_title(f"background over time ({len(frames):,} of {sample.n_frames:,} frames)")
    axes.set_xlabel("frame")
    axes.set_ylabel("camera counts" if sample.unit == "counts" else sample.unit)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    if sample.n_frames > 10_000:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if (interval := sample.acquisition.frame_interval_s) is not None:
        to_seconds, to_frames = partial(np.multiply, interval), partial(np.multiply, 1 / interval)
        seconds = axes.secondary_xaxis("top", functions=(to_seconds, to_frames))
        seconds.set_xlabel("time (s)")
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top + 0.25 * (top - bottom))
    axes.legend(loc="upper right", fontsize="small", frameon=False, ncols=3)


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
    """Write a figure in the format of its suffix; an existing file stays until all is drawn."""
    buffer = BytesIO()
    # Leave dates out, so that the same result gives the same bytes.
    metadata = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    kind = path.suffix.lower()
    figure.savefig(buffer, format=kind[1:], dpi=_DPI, metadata=metadata[kind])
    path.write_bytes(buffer.getvalue())
