"""`suggest_radius`: the radius of the local mean that suits a movie, by a few of its frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from smlmlp_dask.filters.kernels import gaussian_kernel, without_zero_ends
from smlmlp_dask.movies.acquisition import UNKNOWN, Acquisition
from smlmlp_dask.movies.arguments import Choice
from smlmlp_dask.movies.arrays import as_source
from smlmlp_dask.movies.opening import AnySource, open_sources
from smlmlp_dask.movies.selection import Selection
from smlmlp_dask.movies.stack import Stack
from smlmlp_dask.pictures.diagnostics import LARGEST_SHARE, saturation, share_of_peak
from smlmlp_dask.pictures.samples import middle_box, spread_frames

from .background_error import Errors, find_background, local_mean, predict_errors, tried_radii
from .channels import source_list

if TYPE_CHECKING:
    from smlmlp_dask.pictures.frames import Picture

MOST_FRAMES = 32
"""Most frames that are looked at."""

FEW_FRAMES = 8
"""Frames below which a suggestion is uncertain; so many are read however large the chunks are."""

READ_BYTES = 2**31
"""Most bytes to decode for more than `FEW_FRAMES` frames."""

SIDE_PIX = 512
"""Most pixels along y and x: of larger frames, only the middle is looked at."""

_AS_GOOD = 1.1  # a radius whose error is at most so many times the least does as well (10 %)
_DEFAULT_RADIUS_PIX = 7.0


@dataclass(frozen=True)
class RadiusRow:
    """What a background of one radius would be like.

    Attributes
    ----------
    radius_pix : float
        The radius.
    share_of_peak : float or None
        Share of the peak of a molecule's spot that the background takes; None without spots.
    taken_counts : float
        Light of molecules and noise of pixels in the background: root mean square, in counts.
    uneven_counts : float
        Unevenness of the true background that is not followed.
    error_counts : float
        Both together: the predicted distance from the true background.
    """

    radius_pix: float
    share_of_peak: float | None
    taken_counts: float
    uneven_counts: float
    error_counts: float


@dataclass(frozen=True, eq=False)
class ChannelRadius:
    """The radius that suits one channel.

    Attributes
    ----------
    channel : int
        Its number.
    radius_pix : float
        The suggested radius.
    reason : str
        Why, in a sentence.
    notes : tuple of str
        What makes the suggestion uncertain, a line each.
    table : tuple of RadiusRow
        What other radii would do, rising; the suggested one is among them.
    spot_sigma_pix : (float, float) or None
        Standard deviations of the spots along y and x; None if none were found.
    looked_at : tuple of int
        Numbers of the frames that were looked at.
    frame : numpy.ndarray
        One of them (y, x), float32: the middle 512 x 512 pixels at most.
    acquisition : Acquisition
        How the channel was recorded, as far as it is known.
    """

    channel: int
    radius_pix: float
    reason: str
    notes: tuple[str, ...]
    table: tuple[RadiusRow, ...]
    spot_sigma_pix: tuple[float, float] | None
    looked_at: tuple[int, ...]
    frame: npt.NDArray[np.float32]
    acquisition: Acquisition = UNKNOWN


@dataclass(frozen=True, eq=False, repr=False)
class RadiusSuggestion:
    """The radius that suits each channel of some movies, with the reason and the figures behind it.

    Attributes
    ----------
    channels : tuple of ChannelRadius
        One per channel.
    """

    channels: tuple[ChannelRadius, ...]

    @property
    def radii_pix(self) -> list[tuple[float, float]]:
        """The radii as `run_spatial_mean` takes them: one (ry, rx) per channel."""
        return [(each.radius_pix, each.radius_pix) for each in self.channels]

    def __repr__(self) -> str:
        radii = ", ".join(f"channel {c.channel}: {c.radius_pix:g} px" for c in self.channels)
        return f"{type(self).__name__}({radii})"

    def _repr_html_(self) -> str:
        return "".join(_html(each) for each in self.channels)

    def plot(self) -> "Picture":
        """Draw, for each channel, the errors over the radius, and what radii leave of a frame.

        Returns
        -------
        matplotlib.figure.Figure
            Per channel: the light that the background takes in, the unevenness that it misses, and
            both together; the share of a spot's peak that it takes; and the signal (raw -
            background) of a part of one frame at a third of the suggested radius, at that radius,
            and at three times as much. A notebook shows it; ``figure.savefig(path)`` writes it.
        """
        from smlmlp_dask.pictures.radius import draw_suggestions

        return draw_suggestions(self.channels, local_mean)


def suggest_radius(
    sources: AnySource | Sequence[AnySource],
    *,
    bboxes: Any = None,
    flips: Any = None,
    frames: slice | Sequence[slice | None] | None = None,
    channels: Choice | None = None,
    position: Choice | None = None,
    z: int | None = None,
    salvage: bool = False,
    raw_shape: Sequence[int] | None = None,
    raw_dtype: Any = None,
    raw_header: int = 0,
    raw_footer: int = 0,
) -> RadiusSuggestion:
    """Suggest the radius of the local mean for movies, by a few of their frames.

    Parameters
    ----------
    sources : path, array, or sequence of them
        Movies, as `run_spatial_mean` takes them.
    bboxes, flips, frames, channels, position, z, salvage
        Which part of the sources makes which channel, as in `open_channels`.
    raw_shape, raw_dtype, raw_header, raw_footer
        Layout of headerless movies, as in `open_channels`.

    Returns
    -------
    RadiusSuggestion
        The radius of each channel, with its reason and a table of others; ``plot()`` draws it.

    Raises
    ------
    ValueError, TypeError, OSError
        As `open_channels` does; also if a channel has no frames, or no pixel that is a number.

    Notes
    -----
    A background of a small radius takes in light of the molecules and noise of the pixels; one of a
    large radius flattens the unevenness of the true background. Up to 32 frames, spread over the
    movie, and their middle 512 x 512 pixels are read. The quantile 0.1 of each pixel, without
    what stands out from its surroundings, and smoothed, stands for the true background; offset and
    scale fit it to each frame. For radii from 2 to 60 px we filter it, and what the frames hold
    besides it, as the job would: the change of the first is the unevenness that is missed, the
    second is what is taken in. The suggestion is the radius where both together have the least root
    mean square over pixels and frames.

    Examples
    --------
    >>> from smlmlp_dask import run_spatial_mean, suggest_radius
    >>> suggestion = suggest_radius("movie.tif")
    >>> suggestion
    RadiusSuggestion(channel 0: ... px)
    >>> suggestion.channels[0].reason
    '... px errs least, by about ... counts...'
    >>> result = run_spatial_mean("movie.tif", "suggested.zarr", suggestion.radii_pix)
    """
    selection = Selection.checked(
        bboxes=bboxes,
        flips=flips,
        frames=frames,
        channels=channels,
        position=position,
        z=z,
        salvage=salvage,
        raw_shape=raw_shape,
        raw_dtype=raw_dtype,
        raw_header=raw_header,
        raw_footer=raw_footer,
    )
    taken = [as_source(source, f"sources[{i}]") for i, source in enumerate(source_list(sources))]
    found = open_sources(*taken, selection=selection)
    stacks = [stack for of_source in found for stack in of_source]
    return RadiusSuggestion(tuple(_of_channel(i, stack) for i, stack in enumerate(stacks)))


def _of_channel(channel: int, stack: Stack) -> ChannelRadius:
    if not stack.frames:
        raise ValueError(f"channel {channel} has no frames: there is nothing to look at")
    numbers, raw = sampled(stack)
    frames, notes = as_numbers(raw, channel)
    if (cut := saturation(raw)) is not None:
        notes.append(
            f"Saturated: {cut.pixels:,} pixels in {cut.frames:,} of {len(raw):,} frames stand at "
            f"the largest count, {cut.level:g}; spots are brighter than they look."
        )
    if len(frames) < FEW_FRAMES:
        few = "Only 1 frame" if len(frames) == 1 else f"Only {len(frames)} frames"
        notes.append(f"{few}: spots that overlap may count as background, so this is uncertain.")
    background = find_background(frames)
    errors = predict_errors(frames, background, tried_radii(frames.shape[1:]))
    spot = background.spot_sigma_pix
    radius = chosen_radius(errors)
    table = _table(errors, predict_errors(frames, background, [radius]), spot)
    chosen = next(row for row in table if row.radius_pix == radius)
    if (chosen.share_of_peak or 0) > LARGEST_SHARE:
        notes.append(
            f"The background takes {chosen.share_of_peak:.0%} of a spot's peak at this radius, as "
            "it is uneven over the width of a spot; take off first what stands still: "
            f"--step median:25 --step mean:{radius:g}."
        )
    return ChannelRadius(
        channel=channel,
        radius_pix=radius,
        reason=_reason(errors, chosen, spot),
        notes=tuple(notes),
        table=table,
        spot_sigma_pix=spot,
        looked_at=numbers,
        frame=frames[len(frames) // 2],
        acquisition=stack.acquisition,
    )


def sampled(
    stack: Stack, most: int = MOST_FRAMES, side: int = SIDE_PIX
) -> tuple[tuple[int, ...], npt.NDArray[Any]]:
    """Read a few frames (frame, y, x) that are spread over a channel, and return their numbers."""
    unit_bytes = prod(stack.decoding.unit) * stack.dtype.itemsize
    count = min(most, max(FEW_FRAMES, READ_BYTES // max(1, unit_bytes)))
    numbers = spread_frames(len(stack.frames), count).tolist()
    box = middle_box(stack, side)
    parts = [stack.part((slice(n, n + 1), *box)).read() for n in numbers]
    return tuple(numbers), np.concatenate(parts)


def as_numbers(raw: npt.NDArray[Any], channel: int) -> tuple[npt.NDArray[np.float32], list[str]]:
    """Return float32 frames in which all pixels are numbers, and a note if some were not."""
    frames = raw.astype(np.float32)
    missing = ~np.isfinite(frames)
    if not missing.any():
        return frames, []
    if missing.all():
        raise ValueError(f"channel {channel} has no pixel that is a number in the frames looked at")
    frames[missing] = np.nan
    level = np.nanmedian(frames)
    somewhere = ~missing.all(axis=0)
    filled = np.full(frames.shape[1:], level, np.float32)
    filled[somewhere] = np.nanmedian(frames[:, somewhere], axis=0)
    note = f"{missing.sum():,} of {missing.size:,} pixels are no numbers (NaN or infinite)."
    return np.where(missing, filled, frames), [note]


def chosen_radius(errors: Errors) -> float:
    """Return the radius to suggest, in two digits: the error near its least tells no more."""
    radius = errors.least()
    if errors.flat:
        usual = min(_DEFAULT_RADIUS_PIX, float(errors.radii_pix[-1]))
        radius = max(errors.within(_AS_GOOD)[0], usual)
    return float(f"{radius:.2g}")


def _table(
    errors: Errors, chosen: Errors, spot: tuple[float, float] | None
) -> tuple[RadiusRow, ...]:
    rows = {
        float(radius): RadiusRow(
            float(radius),
            None if spot is None else _share(spot, radius),
            *map(float, (taken, uneven, total)),
        )
        for each in (errors, chosen)
        for radius, taken, uneven, total in zip(
            each.radii_pix, each.taken, each.uneven, each.total, strict=True
        )
    }
    return tuple(rows[radius] for radius in sorted(rows))


def _share(spot: tuple[float, float], radius_pix: float) -> float:
    kernel = without_zero_ends(gaussian_kernel(radius_pix / 2))
    return share_of_peak(spot, (kernel, kernel))


def _reason(errors: Errors, chosen: RadiusRow, spot: tuple[float, float] | None) -> str:
    radius, error = f"{chosen.radius_pix:g} px", f"{chosen.error_counts:.2g} counts"
    start = "" if spot else "No spots were found. "
    if errors.flat:
        return (
            f"{start}The background is flat, as far as these frames tell: any radius from "
            f"{radius} on does, with an error of about {error}."
        )
    low, high = errors.within(_AS_GOOD)
    light = "light of the spots" if spot else "noise of the pixels"
    others = [
        f"{errors.radii_pix[i]:g} px by {errors.total[i]:.2g} (more {why})"
        for i, why in (
            (errors.nearest(chosen.radius_pix / 2), light),
            (errors.nearest(chosen.radius_pix * 2), "unevenness"),
        )
        if errors.total[i] > _AS_GOOD * chosen.error_counts
    ]
    compared = f"; {' and '.join(others)}" if others else ""
    largest = ""
    if high == errors.radii_pix[-1]:
        largest = ", the largest that was tried"
    return (
        f"{start}{radius} errs least, by about {error}{compared}. "
        f"From {low:.2g} to {high:.2g} px{largest}, the error is within 10 % of that."
    )


def _html(channel: ChannelRadius) -> str:
    heads = ("radius", "of a peak", "taken in", "unevenness", "error")
    cells = "".join(f"<th>{head}</th>" for head in heads)
    body = "".join(_html_row(row, row.radius_pix == channel.radius_pix) for row in channel.table)
    lines = "".join(f"<br>{escape(line)}" for line in (channel.reason, *channel.notes))
    return (
        f"<p><b>Channel {channel.channel}: radius {channel.radius_pix:g} px</b>{lines}</p>"
        f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"
    )


def _html_row(row: RadiusRow, suggested: bool) -> str:
    share = "" if row.share_of_peak is None else f"{row.share_of_peak:.0%}"
    counts = (row.taken_counts, row.uneven_counts, row.error_counts)
    texts = [f"{row.radius_pix:g} px", share, *(f"{each:.3g}" for each in counts)]
    tag = "b" if suggested else "span"
    return "<tr>" + "".join(f"<td><{tag}>{text}</{tag}></td>" for text in texts) + "</tr>"
