"""Show a result in a notebook: a table with small pictures, and a slider through its frames."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from smlmlp_dask.filters.wording import in_words, mean_alone
from smlmlp_dask.installing import install_command
from smlmlp_dask.messages import as_size, one_line, printable
from smlmlp_dask.movies.photons import in_counts
from smlmlp_dask.movies.stack import SourceReadError

from .samples import one_frame, raw_stacks, refuse_signals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from smlmlp_dask.movies.stack import Stack

    from .samples import Result

THUMBNAILS = 8
"""Most channels that get a small picture."""

_THUMBNAIL_PIX = 128
_NOTHING = "\N{EN DASH}"
_UNREADABLE = '<b style="color: #991b1b">'


def result_html(result: Result) -> str:
    """Return a table of the channels, each with a small picture of the frame in its middle.

    Each picture decodes one chunk. If a chunk cannot be read, its cell says why, and the heading
    does not call the store finished. If anything else fails, the cell has a dash.
    """
    n_channels = len(result.stacks)
    named = {
        "backgrounds": result.bkgds,
        "signals": result.signals,
        "signal-to-noise ratios": result.snrs,
        "mean backgrounds": result.mean_bkgds,
    }
    shown: list[Any] = next(stored for stored in named.values() if stored is not None)
    unit = "" if result.unit == "counts" else f", in {result.unit},"
    pictures = [_thumbnail(result, i) for i in range(min(n_channels, THUMBNAILS))]
    unreadable = any(picture.startswith(_UNREADABLE) for picture in pictures)
    state = (
        f"{_UNREADABLE}not all of it can be read</b>"
        if unreadable
        else "finished and on disk; pixels are read when they are computed"
    )
    what = [name for name, stored in named.items() if stored is not None]
    title = " and ".join(what).capitalize()
    header = f"<p><b>{title}</b>{unit} in <code>{_text(result.path)}</code>: {state}.</p>"
    pictures += [_NOTHING] * (n_channels - len(pictures))
    columns = (
        "channel",
        "a frame",
        "frames × y × x",
        "dask blocks",
        "size in memory",
        "steps" if any(not mean_alone(steps) for steps in result.steps) else "radius (y, x)",
        "noise correction",
    )
    head = "".join(f"<th>{name}</th>" for name in columns)
    rows = "".join(
        _row(result, i, bkgd, picture)
        for i, (bkgd, picture) in enumerate(zip(shown, pictures, strict=True))
    )
    return f"{header}<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _row(result: Result, channel: int, bkgd: Any, picture: str) -> str:
    cells = (
        str(channel),
        picture,
        _times(bkgd.shape),
        f"{bkgd.npartitions:,} of {_times(bkgd.chunksize)}, {as_size(_block_bytes(bkgd))}",
        f"{as_size(int(bkgd.nbytes))} ({bkgd.dtype})",
        _text(in_words(result.steps[channel])),
        f"{result.noise_corrections[channel]:.6f}",
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _block_bytes(bkgd: Any) -> int:
    return int(np.prod(bkgd.chunksize)) * int(bkgd.dtype.itemsize)


def _thumbnail(result: Result, channel: int) -> str:
    # Notebooks call this for every cell that ends in a result, so it must never raise.
    try:
        stack = result.stacks[channel]
        frame = len(stack.frames) // 2
        pixels = _middle_chunk(stack, frame)
        source = b64encode(_small_png(pixels)).decode()
    except SourceReadError as error:
        return f"{_UNREADABLE}{_text(one_line(error))}</b>"
    except Exception:
        return _NOTHING
    what = f"frame {frame:,}" if pixels.shape == stack.shape[1:] else f"middle of frame {frame:,}"
    return f'<img alt="{what}" src="data:image/png;base64,{source}"><br>{what}'


def _middle_chunk(stack: Stack, frame: int) -> NDArray[Any]:
    """Read the part of a frame that its middle chunk holds."""
    rows, columns = (
        slice(start, min(start + unit, length))
        for length, unit in zip(stack.shape[1:], stack.unit[1:], strict=True)
        for start in (length // 2 // unit * unit,)
    )
    pixels: NDArray[Any] = stack.part((slice(frame, frame + 1), rows, columns)).read()[0]
    return pixels


def _small_png(pixels: NDArray[Any]) -> bytes:
    from matplotlib.image import imsave

    step = -(-max(pixels.shape) // _THUMBNAIL_PIX)
    small = pixels[::step, ::step]
    low, high = np.percentile(small[np.isfinite(small)], (0.5, 99.8))
    buffer = BytesIO()
    imsave(buffer, small, format="png", cmap="viridis", vmin=low, vmax=max(high, low + 1e-6))
    return buffer.getvalue()


def browse_result(result: Result) -> Any:
    """Return a slider through the frames of a result; see `SpatialMeanResult.browse`."""
    try:
        import ipywidgets
    except ImportError:
        raise RuntimeError(
            "ipywidgets is not installed, which draws the slider: "
            f"{install_command('notebooks')}, or draw one frame with plot(frame)"
        ) from None
    refuse_signals(result)
    stacks, raws = result.stacks, raw_stacks(result.path)
    lengths = [len(stack.frames) for stack in stacks]
    if not max(lengths):
        raise ValueError(f"{result.path} has no frames: there is nothing to show")
    channel = ipywidgets.Dropdown(
        options=[(f"channel {i}", i) for i, length in enumerate(lengths) if length],
        layout={"width": "10em"},
    )
    frame = ipywidgets.IntSlider(
        value=lengths[channel.value] // 2,
        max=lengths[channel.value] - 1,
        description="frame",
        continuous_update=False,  # read a frame when the slider rests, not on its way
        layout={"width": "100%"},
    )
    picture = ipywidgets.Image(format="png", layout={"max_width": "100%"})
    message = ipywidgets.Label()

    def draw(*_: object) -> None:
        i = channel.value
        # A notebook does not show a callback's errors, so we show them above the picture.
        try:
            shown = (i, frame.value, result.steps[i], result.unit)
            picture.value, message.value = _frame_png(stacks[i], raws[i], *shown)
        except OSError as error:
            message.value = one_line(error)

    def choose(*_: object) -> None:
        before = frame.value
        frame.max = lengths[channel.value] - 1  # if this moves the slider, it also draws
        if frame.value == before:
            draw()

    draw()
    frame.observe(draw, "value")
    channel.observe(choose, "value")
    controls = ipywidgets.HBox([channel, frame] if len(lengths) > 1 else [frame])
    return ipywidgets.VBox([controls, message, picture])


def _frame_png(
    stack: Stack, raw: Stack | str, channel: int, frame: int, steps: tuple[Any, ...], unit: str
) -> tuple[bytes, str]:
    """Draw one frame; also return the reason if its raw frame is missing."""
    from .frames import (
        FrameRow,
        Picture,
        draw_frames,
        named_channel,
        pixel_width_um,
        saturated_pixels,
    )

    missing = f"no raw frame: {raw}" if isinstance(raw, str) else ""
    shown, saturated = None, 0
    if not isinstance(raw, str):
        try:
            pixels = one_frame(raw, frame)
            shown = pixels.astype(np.float64)
            counts = in_counts(raw)
            saturated = saturated_pixels(pixels if counts is raw else one_frame(counts, frame))
        except OSError as error:
            missing = f"no raw frame: {one_line(error)}"
    row = FrameRow(
        raw=shown,
        background=one_frame(stack, frame).astype(np.float64),
        heading=f"{named_channel(channel, stack.acquisition)}, frame {frame:,} of "
        f"{len(stack.frames):,}",
        steps=steps,
        saturated=saturated,
        pixel_um=pixel_width_um(stack.acquisition),
        unit=unit,
    )
    figure = Picture.of_height(row.height_inches)
    place: Any = figure.subfigures(1, 1)
    draw_frames(place, row)
    return figure._repr_png_(), missing


def _times(shape: Sequence[float]) -> str:
    return " × ".join(f"{length:,}" for length in shape)


def _text(value: object) -> str:
    return escape(printable(str(value)))
