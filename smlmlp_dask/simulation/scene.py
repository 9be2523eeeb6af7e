"""The contents of a simulated movie, frame by frame: molecules, background and camera."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import erf

if TYPE_CHECKING:
    import numpy.typing as npt

MAX_COUNTS = np.iinfo(np.uint16).max
"""Largest camera count."""

# Shape of the gamma distribution of brightness: 1 / sqrt(4) = 50 % relative spread.
_BRIGHTNESS_SHAPE = 4.0
# Longest event in mean durations: a geometric duration exceeds it with a chance under 4.5e-5.
_LONGEST_IN_MEANS = 10
# Half width of a drawn spot: all but 6e-7 of its photons lie within 5 sigma on each axis.
_SPOT_REACH_SIGMAS = 5.0
_SPOT_PIXELS_AT_ONCE = 2**18
# Smallest sigma of a hill. The background is a product of two hills, whose sigma is then at least
# 28 px, four default filter radii: the filter's Gaussian of sigma 3.5 px lowers no peak by more
# than (3.5 / 28)^2 = 1.6 %.
_HILL_SIGMA_PIX = 28.0 * math.sqrt(2)
_FILAMENTS = 16
_BLOBS = 5
# Part of the background that bleaches. The rest, such as light of the medium, does not.
_BLEACHING_PART = 0.4

_EVENT = np.dtype([("start", "i8"), ("stop", "i8"), ("site", "i8"), ("photons", "f8")])
_MOLECULE = np.dtype([("frame", "i8"), ("y", "f8"), ("x", "f8"), ("photons", "f8")])


class _Stream(IntEnum):
    """Independent streams of random numbers of one seed."""

    SITES = 0
    BACKGROUND = 1
    EVENTS = 2
    CAMERA = 3


@dataclass(frozen=True)
class Scene:
    """Everything that determines a frame: plain numbers, the same for every block."""

    frames: int
    height: int
    width: int
    seed: int
    photons: float
    psf_sigma_pix: float
    events_per_frame: float
    mean_duration_frames: float
    background_photons: float
    bleaching_frames: float
    quantum_efficiency: float
    gain: float
    offset: float
    read_noise: float

    @property
    def max_duration_frames(self) -> int:
        """Longest duration of an event, in frames."""
        return math.ceil(_LONGEST_IN_MEANS * self.mean_duration_frames)

    def rng(self, stream: _Stream, index: int = 0) -> np.random.Generator:
        """Return an independent random generator for each stream and index."""
        return np.random.default_rng([self.seed, stream, index])


def expose(scene: Scene, start: int, stop: int) -> npt.NDArray[np.uint16]:
    """Return the camera counts of the frames."""
    background = _background_photons(scene)
    molecules = molecules_on(scene, start, stop)
    bounds = np.searchsorted(molecules["frame"], np.arange(start, stop + 1))
    counts = np.empty((stop - start, scene.height, scene.width), np.uint16)
    for i, frame in enumerate(range(start, stop)):
        expected = _spots(scene, molecules[bounds[i] : bounds[i + 1]])
        expected += _bleaching(scene, frame) * background
        expected *= scene.quantum_efficiency
        counts[i] = _read_out(scene, expected, scene.rng(_Stream.CAMERA, frame))
    return counts


def _read_out(
    scene: Scene, electrons: npt.NDArray[np.float64], rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Return whole counts in the range of the camera, from the expected photo-electrons."""
    counts = rng.standard_normal(electrons.shape, np.float32)
    counts *= np.float32(scene.read_noise)
    counts += rng.poisson(electrons)
    counts *= np.float32(scene.gain)
    counts += np.float32(scene.offset)
    np.rint(counts, out=counts)
    return np.clip(counts, 0, MAX_COUNTS, out=counts)


def expected_counts(scene: Scene, start: int, stop: int) -> npt.NDArray[np.float32]:
    """Return the camera counts of the frames without molecules and noise."""
    signal = scene.gain * scene.quantum_efficiency * _background_photons(scene)
    counts = np.empty((stop - start, scene.height, scene.width), np.float32)
    for i, frame in enumerate(range(start, stop)):
        counts[i] = scene.offset + _bleaching(scene, frame) * signal
    return counts


def _bleaching(scene: Scene, frame: int) -> float:
    """Return the background of a frame relative to frame 0."""
    return 1 - _BLEACHING_PART + _BLEACHING_PART * math.exp(-frame / scene.bleaching_frames)


def _background_photons(scene: Scene) -> npt.NDArray[np.float64]:
    """Return the background photons per pixel in frame 0."""
    rng = scene.rng(_Stream.BACKGROUND)
    side = max(scene.height, scene.width)
    blobs = np.ones((scene.height, scene.width))
    for _ in range(_BLOBS):
        amplitude = rng.uniform(0.3, 1.0)
        centre = rng.uniform(0.0, 1.0, 2)
        blobs += amplitude * _hill(scene, centre, side * rng.uniform(0.08, 0.2))
    beam = _hill(scene, rng.uniform(0.4, 0.6, 2), 0.45 * side)
    profile = beam * blobs
    profile *= scene.background_photons / profile.mean()
    return profile


def _hill(
    scene: Scene, centre: npt.NDArray[np.float64], sigma_pix: float
) -> npt.NDArray[np.float64]:
    """Return a Gaussian of height 1, not too narrow; its centre (y, x) is in parts of the field."""
    sigma_pix = max(sigma_pix, _HILL_SIGMA_PIX)
    y = (np.arange(scene.height) - centre[0] * (scene.height - 1)) / sigma_pix
    x = (np.arange(scene.width) - centre[1] * (scene.width - 1)) / sigma_pix
    hill: npt.NDArray[np.float64] = np.multiply.outer(np.exp(-0.5 * y**2), np.exp(-0.5 * x**2))
    return hill


def _sites(scene: Scene) -> npt.NDArray[np.float64]:
    """Return binding sites (y, x), one per pixel of length of each filament within the field."""
    rng = scene.rng(_Stream.SITES)
    size = np.array([scene.height, scene.width])
    length = math.ceil(math.hypot(scene.height, scene.width))
    # Headings wander by about 1 rad over the diagonal: filaments look alike in any field.
    heading = rng.uniform(0, 2 * np.pi, (_FILAMENTS, 1)) + np.cumsum(
        rng.normal(0, 1 / math.sqrt(length), (_FILAMENTS, length)), axis=1
    )
    path = np.cumsum(np.stack([np.sin(heading), np.cos(heading)], axis=-1), axis=1)
    # The middle of each filament lies in the field, so that each has sites.
    middle = path[:, length // 2, np.newaxis]
    path += rng.uniform(-0.5, size - 0.5, (_FILAMENTS, 1, 2)) - middle
    sites = path.reshape(-1, 2)
    return sites[np.all((sites >= -0.5) & (sites < size - 0.5), axis=1)]


def _events(scene: Scene, start: int, site_count: int) -> npt.NDArray[np.void]:
    """Return the binding events that start in frame `start`."""
    # Events that began before the movie have negative frames, but a seed must not be negative.
    rng = scene.rng(_Stream.EVENTS, start + scene.max_duration_frames)
    events = np.empty(rng.poisson(scene.events_per_frame), _EVENT)
    duration = rng.geometric(1 / scene.mean_duration_frames, events.size)
    events["start"] = start
    events["stop"] = start + np.minimum(duration, scene.max_duration_frames)
    events["site"] = rng.integers(site_count, size=events.size)
    events["photons"] = rng.gamma(_BRIGHTNESS_SHAPE, scene.photons / _BRIGHTNESS_SHAPE, events.size)
    return events


def molecules_on(scene: Scene, start: int, stop: int) -> npt.NDArray[np.void]:
    """Return one record per molecule and frame, by frame, then by the start of its event."""
    sites = _sites(scene)
    first = start - scene.max_duration_frames + 1
    events = np.concatenate(
        [np.empty(0, _EVENT), *(_events(scene, s, len(sites)) for s in range(first, stop))]
    )
    begin = np.maximum(events["start"], start)
    on_frames = np.maximum(np.minimum(events["stop"], stop) - begin, 0)
    nth_frame = np.arange(on_frames.sum()) - np.repeat(np.cumsum(on_frames) - on_frames, on_frames)
    frame = np.repeat(begin, on_frames) + nth_frame
    # A stable sort adds the spots of a frame in the same order in every block.
    order = np.argsort(frame, kind="stable")
    event = np.repeat(np.arange(events.size), on_frames)[order]

    molecules = np.empty(order.size, _MOLECULE)
    molecules["frame"] = frame[order]
    molecules["y"], molecules["x"] = sites[events["site"][event]].T
    molecules["photons"] = events["photons"][event]
    return molecules


def _spots(scene: Scene, molecules: npt.NDArray[np.void]) -> npt.NDArray[np.float64]:
    """Return the expected photons per pixel from the molecules of one frame."""
    reach = math.ceil(_SPOT_REACH_SIGMAS * scene.psf_sigma_pix)
    # A margin takes the parts of spots outside the field, so that no window needs cutting.
    canvas = np.zeros((scene.height + 2 * reach, scene.width + 2 * reach))
    # Draw a few at a time, so that memory stays small for broad spots and crowded fields.
    at_once = max(1, _SPOT_PIXELS_AT_ONCE // (2 * reach + 1) ** 2)
    for first in range(0, molecules.size, at_once):
        some = molecules[first : first + at_once]
        rows, along_y = _windows(some["y"], scene.psf_sigma_pix, reach)
        columns, along_x = _windows(some["x"], scene.psf_sigma_pix, reach)
        along_y *= some["photons"][:, np.newaxis]
        lines = (rows + reach)[:, :, np.newaxis] * canvas.shape[1]
        pixels = lines + (columns + reach)[:, np.newaxis]
        values = along_y[:, :, np.newaxis] * along_x[:, np.newaxis]
        np.add.at(canvas.reshape(-1), pixels.reshape(-1), values.reshape(-1))
    return canvas[reach : reach + scene.height, reach : reach + scene.width]


def _windows(
    centres: npt.NDArray[np.float64], sigma_pix: float, reach: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return the pixels around each centre, and the part of a unit Gaussian that each holds."""
    pixels = np.rint(centres).astype(np.int64)[:, np.newaxis] + np.arange(-reach, reach + 1)
    edges = np.arange(-reach - 0.5, reach + 1) + (np.rint(centres) - centres)[:, np.newaxis]
    return pixels, np.diff(erf(edges / (math.sqrt(2) * sigma_pix)), axis=1) / 2
