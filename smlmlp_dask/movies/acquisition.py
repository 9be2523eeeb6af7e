"""How a channel was recorded: pixel size, frame interval, names, camera."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Acquisition:
    """How a channel was recorded, as far as its file says; None where it does not.

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
        """Return what is known, ready for JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> Self:
        """Return what a store notes; names of later versions are left out."""
        known = {f.name: attributes[f.name] for f in fields(cls) if f.name in attributes}
        if "pixel_size_um" in known:
            known["pixel_size_um"] = tuple(known["pixel_size_um"])
        return cls(**known)


UNKNOWN = Acquisition()
"""What is known of a channel whose file says nothing."""
