"""Steps that follow one another: from what a caller passes, to a store's attributes, and back."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from smlmlp_dask.messages import shown

from .compiled.engine import FILTER_VERSION
from .compiled.median import MEDIAN_VERSION
from .compiled.opening import OPENING_VERSION
from .kernels import residual_kernel
from .spatial_mean import SpatialMean
from .spatial_opening import SpatialOpening
from .steps import Step
from .temporal_median import TemporalMedian
from .wording import mean_alone

Chain: TypeAlias = tuple[Step, ...]
"""The steps of one channel, in order; without any, frames are kept as they are."""

_LOOPS: dict[type, int] = {
    SpatialMean: FILTER_VERSION,
    TemporalMedian: MEDIAN_VERSION,
    SpatialOpening: OPENING_VERSION,
}
_FORMS = "pass SpatialMean, TemporalMedian or SpatialOpening, or a sequence of them"


def chains(steps: Any, n_channels: int) -> list[Chain]:
    """Return the steps of each channel.

    Parameters
    ----------
    steps : Step or sequence of Step
        What is done with all channels; settings may hold one value per channel.
    n_channels : int
        Number of channels.

    Raises
    ------
    TypeError, ValueError
        If there is no step, or one is none of ours, or has a wrong setting.
    """
    given: Any = (steps,) if isinstance(steps, tuple(_LOOPS)) else steps
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        raise TypeError(f"steps is {shown(steps)}: {_FORMS}")
    for step in given:
        if not isinstance(step, tuple(_LOOPS)):
            raise TypeError(f"steps holds {shown(step)}: {_FORMS}")
    if not given:
        raise ValueError(f"steps is empty: {_FORMS}")
    of_steps = [step.for_channels(n_channels) for step in given]
    return [tuple(of_channel) for of_channel in zip(*of_steps, strict=True)]


def of_all_channels(all_chains: Sequence[Chain]) -> list[Step]:
    """Return the steps that `chains` takes apart to these."""
    return [_of_all(of_channels) for of_channels in zip(*all_chains, strict=True)]


def _of_all(steps: Sequence[Any]) -> Any:
    first = steps[0]
    if isinstance(first, TemporalMedian):
        return first
    return type(first)([step.radii for step in steps])


def noise_correction_of(chain: Sequence[Step], factor: float = 1.0) -> np.float32:
    """Return a factor so far, as float32, times those of the steps."""
    product = np.float32(factor)
    for step in chain:
        product = np.float32(product * step.noise_correction)
    return product


def loops_version(chain: Sequence[Step]) -> str:
    """Return the versions of the compiled loops that determine the bits of a chain."""
    if mean_alone(chain):
        return str(FILTER_VERSION)
    found = {step.to_attributes()["step"]: _LOOPS[type(step)] for step in chain}
    return ", ".join(f"{name} {number}" for name, number in found.items())


def recorded_step(attributes: Mapping[str, Any]) -> Step:
    """Return the step of one channel that a store recorded."""
    match attributes["step"]:
        case "mean":
            return SpatialMean(tuple(attributes["radii_pix"]))
        case "opening":
            return SpatialOpening(tuple(attributes["radii_pix"]))
        case "median":
            return TemporalMedian(attributes["window_fr"])
    raise ValueError(f"{shown(attributes['step'])} is no step of this version")


def recorded_chains(attributes: Mapping[str, Any]) -> list[Chain]:
    """Return the steps of each channel by the attributes of their store.

    Stores of the local mean alone record its radii only.
    """
    if "steps" not in attributes:
        return [(SpatialMean(tuple(pair)),) for pair in attributes["channels_mean_radii_pix"]]
    recorded = attributes["steps"] or [[]] * len(attributes["plan"])
    return [tuple(recorded_step(step) for step in chain) for chain in recorded]


def chain_info(all_chains: Sequence[Chain]) -> dict[str, Any]:
    """Return the `info` of chains: the entries of each step, for all channels."""
    info: dict[str, Any] = {}
    for of_channels in zip(*all_chains, strict=True):
        info.update(step_info(of_channels))
    return info


def step_info(steps: Sequence[Step]) -> dict[str, Any]:
    """Return the entries of `info` of one step, by the steps of all channels."""
    match steps[0]:
        case TemporalMedian(window_fr=window_fr):
            return {"median_window_fr": window_fr}
        case SpatialOpening():
            openings: Any = steps
            return {
                "channels_opening_radii_pix": [opening.radii for opening in openings],
                "footprints": [opening.footprint for opening in openings],
            }
    means: Any = steps
    return mean_info(means)


def mean_info(means: Sequence[SpatialMean]) -> dict[str, list[Any]]:
    """Return what `info` says of the local means of all channels."""
    radii = [mean.radii for mean in means]
    return {
        "channels_mean_radii_pix": radii,
        "channels_mean_radius_pix": radii,
        "spatial_mean_sigmas": [mean.sigmas for mean in means],
        "spatial_mean_kernels_y": [residual_kernel(mean.kernel_y) for mean in means],
        "spatial_mean_kernels_x": [residual_kernel(mean.kernel_x) for mean in means],
    }
