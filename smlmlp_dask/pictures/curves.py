"""Curves of a channel: the kernels of its local mean, and its level over time."""

from functools import partial

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.ticker import EngFormatter, MaxNLocator

from smlmlp_dask.filters.kernels import Kernel, residual_kernel

from .content import SNR
from .samples import PERCENTILES, ChannelSample

# Okabe and Ito's blue and vermilion: distinct for every colour vision.
_COLOURS = {"y": "#0072B2", "x": "#D55E00"}


def draw_curves(place: SubFigure, sample: ChannelSample) -> None:
    """Draw kernels, if there is a local mean, and the level."""
    if sample.kernels is None:  # no local mean among the steps
        draw_level(place.subplots(), sample)
        return
    kernel_axes, residual_axes, level_axes = place.subplots(1, 3, width_ratios=(1, 1, 2))
    draw_kernels(kernel_axes, residual_axes, sample.kernels)
    draw_level(level_axes, sample)


def draw_kernels(kernel_axes: Axes, residual_axes: Axes, kernels: tuple[Kernel, Kernel]) -> None:
    """Draw the kernel of the local mean and its residual."""
    means = dict(zip("yx", kernels, strict=True))
    _draw_kernel(kernel_axes, means, "kernel g of the mean")
    residuals = {axis: residual_kernel(kernel) for axis, kernel in means.items()}
    _draw_kernel(residual_axes, residuals, "residual \N{GREEK SMALL LETTER DELTA} \N{MINUS SIGN} g")


def _draw_kernel(axes: Axes, kernels: dict[str, npt.NDArray[np.float32]], title: str) -> None:
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


def draw_level(axes: Axes, sample: ChannelSample) -> None:
    """Draw the level over time of what is stored."""
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
    axes.set_title(
        f"{sample.level_of} over time ({len(frames):,} of {sample.content.n_frames:,} frames)"
    )
    axes.set_xlabel("frame (the first is 0)")
    axes.set_ylabel("SNR" if sample.level_of == SNR else sample.content.unit)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    if sample.content.n_frames > 10_000:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if (interval := sample.acquisition.frame_interval_s) is not None:
        to_seconds, to_frames = partial(np.multiply, interval), partial(np.multiply, 1 / interval)
        seconds = axes.secondary_xaxis("top", functions=(to_seconds, to_frames))
        seconds.set_xlabel("time (s)")
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top + 0.25 * (top - bottom))
    axes.legend(loc="upper right", fontsize="small", frameon=False, ncols=3)
