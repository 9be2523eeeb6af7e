"""How a channel was recorded: pixel size, frame interval, names, camera."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from smlmlp_dask.messages import counted, printable_errors, shown

from .arguments import is_list, is_number


@dataclass(frozen=True, kw_only=True)
class Acquisition:
    """How a channel was recorded, as far as its file says; None where it does not.

    A result has one for each channel. `run_spatial_mean` takes pixel size, frame interval and
    names from its arguments, where they are given, and the rest from the files.

    Attributes
    ----------
    channel : str or None
        Name of the channel.
    pixel_size_um : (float, float) or None
        Height and width of a pixel in the sample, micrometres.
    frame_interval_s : float or None
        Seconds from the start of one frame to the start of the next.
    exposure_s : float or None
        Seconds that a frame collects light.
    colour : str or None
        Display colour, six hexadecimal digits: red, green, blue.
    gain : float or None
        Photoelectrons per count of the camera.
    baseline : float or None
        Counts that the camera adds to every pixel.
    """

    channel: str | None = None
    pixel_size_um: tuple[float, float] | None = None
    frame_interval_s: float | None = None
    exposure_s: float | None = None
    colour: str | None = None
    gain: float | None = None
    baseline: float | None = None

    def __bool__(self) -> bool:
        """Say whether anything is known."""
        return self != Acquisition()

    def every(self, step: int) -> Self:
        """Return what is known if only every step-th frame is taken."""
        if self.frame_interval_s is None:
            return self
        return replace(self, frame_interval_s=self.frame_interval_s * step)

    def to_attributes(self) -> dict[str, Any]:
        """Return what is known and can be true, ready for JSON: files hold sizes of 0, too."""
        return {name: value for name, value in asdict(self).items() if _possible(name, value)}

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> Self:
        """Return what a store notes; names of later versions are left out."""
        known = {f.name: attributes[f.name] for f in fields(cls) if f.name in attributes}
        if "pixel_size_um" in known:
            known["pixel_size_um"] = tuple(known["pixel_size_um"])
        return cls(**known)


def _possible(name: str, value: Any) -> bool:
    if value is None or isinstance(value, str):
        return bool(value)
    numbers = value if isinstance(value, tuple) else (value,)
    least = -math.inf if name == "baseline" else 0
    return all(least < number < math.inf for number in numbers)


UNKNOWN = Acquisition()
"""What is known of a channel whose file says nothing."""


@dataclass(frozen=True)
class Overrides:
    """What a user says of the channels, in place of their files; None leaves it to the files.

    Attributes
    ----------
    pixel_size_um : (float, float) or None
        Height and width of a pixel of every channel, micrometres.
    frame_interval_s : float or None
        Seconds from one frame of the movies to the next.
    channel_names : tuple of str or None
        One for each channel, in order.
    """

    pixel_size_um: tuple[float, float] | None = None
    frame_interval_s: float | None = None
    channel_names: tuple[str, ...] | None = None

    @classmethod
    @printable_errors()
    def checked(
        cls, *, pixel_size_um: Any = None, frame_interval_s: Any = None, channel_names: Any = None
    ) -> Self:
        """Check arguments of `run_spatial_mean`, as far as they can be without the movies."""
        return cls(
            None if pixel_size_um is None else _checked_size(pixel_size_um),
            None if frame_interval_s is None else _checked_interval(frame_interval_s),
            None if channel_names is None else _checked_names(channel_names),
        )

    def applied(
        self, acquisitions: Sequence[Acquisition], steps: Sequence[int]
    ) -> list[Acquisition]:
        """Return how channels were recorded of which every step-th frame is taken."""
        names: tuple[str | None, ...] = (None,) * len(acquisitions)
        if self.channel_names is not None:
            names = self.channel_names
        if len(names) != len(acquisitions):
            raise ValueError(
                f"channel_names has {counted(len(names), 'name')} for "
                f"{counted(len(acquisitions), 'channel')}: pass one "
                "for each channel, in order (--channel-name, repeated)"
            )
        applied = []
        for acquisition, step, name in zip(acquisitions, steps, names, strict=True):
            said = Acquisition(
                channel=name,
                pixel_size_um=self.pixel_size_um,
                frame_interval_s=self.frame_interval_s,
            ).every(step)
            applied.append(replace(acquisition, **said.to_attributes()))
        return applied


def _checked_size(value: Any) -> tuple[float, float]:
    pair = value if is_list(value) else (value, value)
    if len(pair) != 2 or not all(map(is_number, pair)):
        raise TypeError(
            f"pixel_size_um={shown(value)}: pass a number, or a pair (y, x), in micrometres "
            "(--pixel-size)"
        )
    if not all(0 < size < math.inf for size in pair):
        raise ValueError(
            f"pixel_size_um={shown(value)}: pass micrometres above 0, such as 0.1 (--pixel-size)"
        )
    return float(pair[0]), float(pair[1])


def _checked_interval(value: Any) -> float:
    if not is_number(value):
        raise TypeError(
            f"frame_interval_s={shown(value)}: pass a number, in seconds (--frame-interval)"
        )
    if not 0 < value < math.inf:
        raise ValueError(
            f"frame_interval_s={shown(value)}: pass seconds above 0, such as 0.05 "
            "(--frame-interval)"
        )
    return float(value)


def _checked_names(value: Any) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not is_list(names) or not all(isinstance(name, str) for name in names):
        raise TypeError(
            f"channel_names={shown(value)}: pass one name for each channel, in order "
            "(--channel-name, repeated)"
        )
    if not all(name.strip() for name in names):
        raise ValueError(
            f"channel_names={shown(value)} has an empty name: name each channel (--channel-name)"
        )
    return tuple(names)
