"""Show a result in a notebook: a table with small pictures, and a slider through its frames."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from io import BytesIO
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from smlmlp_dask.filters.wording import in_words, mean_alone
from smlmlp_dask.installing import install_command
from smlmlp_dask.messages import as_size, one_line, printable
from smlmlp_dask.movies.photons import in_counts
from smlmlp_dask.movies.stack import SourceReadError
from smlmlp_dask.store.read import read_attributes, refusing_damage

from .content import (
    BACKGROUND,
    LEVELS,
    MEAN_BACKGROUND,
    RAW,
    SIGNAL,
    SNR,
    Result,
    content_of,
    frame_name,
    images_of,
    one_frame,
    shown_range,
)
from .origins import origins
from .samples import raw_stacks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from smlmlp_dask.movies.stack import Stack

    from .content import Content

THUMBNAILS = 8
"""Most channels that get a small picture."""

_THUMBNAIL_PIX = 128
_SMALLEST_PIX = 32  # of the longer side: one pixel alone would not be seen
_NOTHING = "\N{EN DASH}"
_UNREADABLE = '<b style="color: #991b1b">'
_NAMES = {
    BACKGROUND: "backgrounds",
    SIGNAL: "signals",
    SNR: "signal-to-noise ratios",
    MEAN_BACKGROUND: "mean backgrounds",
}


def result_html(result: Result) -> str:
    """Return a table of the channels, with small pictures of the frame in the middle of each.

    Each picture, one for each output, decodes one chunk. If a chunk cannot be read, its cell says
    why, and the heading does not call the store finished. If anything else fails, the cell has a
    dash.
    """
    n_channels, stored = len(result.stacks), result.stored
    arrays = (result.bkgds, result.signals, result.snrs, result.mean_bkgds)
    shown: list[Any] = next(found for found in arrays if found is not None)
    unit = "" if result.unit == "counts" else f", in {result.unit},"
    pictures = [_thumbnails(result, i) for i in range(min(n_channels, THUMBNAILS))]
    unreadable = any(_UNREADABLE in picture for picture in pictures)
    state = (
        f"{_UNREADABLE}not all of it can be read</b>"
        if unreadable
        else "finished and on disk; pixels are read when they are computed"
    )
    names = {name: _NAMES[name] for name in stored}
    if result.pedestal is not None:
        names[SIGNAL] += f" (stored {result.pedestal} counts higher)"
    title = " and ".join(names.values())
    title = title[0].upper() + title[1:]
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
        f"{bkgd.npartitions:,} of {_times(bkgd.chunksize)}, "
        f"{as_size(prod(bkgd.chunksize) * bkgd.dtype.itemsize)}",
        "<br>".join(_size(stacks[channel]) for stacks in result.stored.values()),
        _text(in_words(result.steps[channel])),
        f"{result.noise_corrections[channel]:.6f}",
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _size(stack: Stack) -> str:
    return f"{as_size(prod(stack.shape) * stack.dtype.itemsize)} ({stack.dtype})"


def _thumbnails(result: Result, channel: int) -> str:
    stored = {name: stacks[channel] for name, stacks in result.stored.items()}
    lift = result.pedestal or 0
    names = {name: f"{name.replace('_', ' ')}: " if len(stored) > 1 else "" for name in stored}
    return "<br>".join(
        _thumbnail(stack, names[name], signed=name not in LEVELS, lift=lift * (name == SIGNAL))
        for name, stack in stored.items()
    )


def _thumbnail(stack: Stack, name: str, *, signed: bool, lift: int) -> str:
    # Notebooks call this for every cell that ends in a result, so it must never raise.
    try:
        count = len(stack.frames)
        frame = count // 2
        pixels = _middle_chunk(stack, frame)
        if not np.isfinite(pixels).any():
            return _NOTHING
        source = b64encode(_small_png(pixels - np.float32(lift), signed=signed)).decode()
    except SourceReadError as error:
        return f"{_UNREADABLE}{_text(one_line(error))}</b>"
    except Exception:
        return _NOTHING
    part = "" if pixels.shape == stack.shape[1:] else "middle of "
    what = f"{name}{part}{frame_name(frame, count)}"
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


def _small_png(pixels: NDArray[Any], *, signed: bool = False) -> bytes:
    """Draw with the colours of large pictures; signals about 0."""
    from matplotlib import colormaps
    from matplotlib.image import imsave

    from .panels import COUNTS_MAP, DIFFERENCE_MAP, NO_NUMBER

    side = max(pixels.shape)
    step, zoom = -(-side // _THUMBNAIL_PIX), max(1, _SMALLEST_PIX // side)
    small = pixels[::step, ::step].repeat(zoom, axis=0).repeat(zoom, axis=1)
    low, high = shown_range(small, about_zero=signed)
    cmap = colormaps[DIFFERENCE_MAP if signed else COUNTS_MAP].with_extremes(bad=NO_NUMBER)
    buffer = BytesIO()
    masked = np.ma.masked_invalid(small)
    imsave(buffer, masked, format="png", cmap=cmap, vmin=low, vmax=high)
    return buffer.getvalue()


def browse_result(result: Result) -> Any:
    """Return a slider through the frames of a result; see `SpatialMeanResult.browse`."""
    try:
        import ipywidgets
    except ImportError:
        raise RuntimeError(
            "ipywidgets is not installed (it draws the slider): "
            f"{install_command('notebooks')}, or draw one frame with plot(frame)"
        ) from None
    raws, attributes = raw_stacks(result.path), read_attributes(result.path)
    with refusing_damage(result.path, ValueError):
        words = origins(attributes)
        contents = [content_of(result, i, raw, attributes) for i, raw in enumerate(raws)]
    lengths = [content.n_frames for content in contents]
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
    origin, message = ipywidgets.Label(), ipywidgets.Label()

    def draw(*_: object) -> None:
        i = channel.value
        origin.value = words[i]
        # A notebook does not show a callback's errors, so we show them above the picture.
        try:
            picture.value, message.value = _frame_png(result, contents[i], i, frame.value)
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
    return ipywidgets.VBox([controls, origin, message, picture])


def _frame_png(result: Result, content: Content, channel: int, frame: int) -> tuple[bytes, str]:
    """Draw one frame; also return the reason if its raw frame is missing."""
    from .frames import (
        FrameRow,
        Picture,
        draw_frames,
        frame_heading,
        pixel_width_um,
        saturated_pixels,
    )

    saturated, raw = 0, None
    if not content.missing:
        try:
            raw = one_frame(content.stacks[RAW], frame)
            counts = in_counts(content.stacks[RAW])  # in which a camera is saturated
            same = counts is content.stacks[RAW]
            saturated = saturated_pixels(raw if same else one_frame(counts, frame))
        except OSError as error:
            content = content.without_raw(one_line(error))
    stack = result.stacks[channel]
    row = FrameRow(
        images_of(content, frame, raw),
        content,
        heading=frame_heading(channel, frame, content.n_frames, stack.acquisition),
        steps=result.steps[channel],
        saturated=saturated,
        pixel_um=pixel_width_um(stack.acquisition),
    )
    figure = Picture.of_height(row.height_inches)
    place: Any = figure.subfigures(1, 1)
    draw_frames(place, row)
    return figure._repr_png_(), content.missing and f"no raw frame: {content.missing}"


def _times(shape: Sequence[float]) -> str:
    return " × ".join(f"{length:,}" for length in shape)


def _text(value: object) -> str:
    return escape(printable(str(value)))
