"""Whether the radius of a job is far from what a few frames suggest: a quick look, for its plan."""

from collections.abc import Sequence
from math import prod

import numpy as np

from smlmlp_dask.filters.wording import mean_alone
from smlmlp_dask.movies.described import DescribedMovie
from smlmlp_dask.movies.photons import in_counts
from smlmlp_dask.pictures.diagnostics import LARGEST_SHARE, share_of_peak

from .background_error import find_background, predict_errors, tried_radii
from .channels import Channel
from .suggest import FEW_FRAMES, as_numbers, chosen_radius, sampled

SIDE_PIX = 256
"""Most pixels along y and x of the frames that are looked at."""

_FAR_WORSE = 2.0  # a radius is far off if its error is over so many times the least


def radius_warnings(channels: Sequence[Channel]) -> tuple[str, ...]:
    """Warn of each channel whose local mean has a radius that is far off.

    That is: its error would be twice the least, or it is smaller than suggested and takes more of
    a spot's peak than pictures of the result would let pass.
    """
    lines = [_warning(number, channel) for number, channel in enumerate(channels)]
    return tuple(line for line in lines if line)


def _warning(number: int, channel: Channel) -> str:
    mean, stack = mean_alone(channel.steps), in_counts(channel.source)
    if mean is None or not prod(stack.shape) or isinstance(stack.movie, DescribedMovie):
        return ""
    _, raw = sampled(stack, FEW_FRAMES, SIDE_PIX)
    if not np.isfinite(raw).any():
        return ""
    frames, _ = as_numbers(raw, number)
    background = find_background(frames)
    tried = predict_errors(frames, background, tried_radii(frames.shape[1:])[::2])
    better = chosen_radius(tried)
    error, least = predict_errors(frames, background, [mean.radii, better]).total
    share = 0.0
    if background.spot_sigma_pix is not None:
        share = share_of_peak(background.spot_sigma_pix, (mean.kernel_y, mean.kernel_x))
    takes_much = share > LARGEST_SHARE and max(mean.radii) < better
    if error <= _FAR_WORSE * least and not takes_much:
        return ""
    radius = " × ".join(f"{each:g}" for each in dict.fromkeys(mean.radii))
    takes = f"takes {share:.0%} of a spot's peak and " if takes_much else ""
    return (
        f"channel {number}: the background of radius {radius} px {takes}errs by about "
        f"{error:.2g} counts, that of {better:g} px by {least:.2g}; "
        f"see: smlmlp-dask radius {stack.movie.path}"
    )
