"""Camera movies of blinking molecules over a known smooth background, for trials and tests."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from numbers import Integral, Real
from typing import TYPE_CHECKING, NamedTuple

import dask.array as da
import numpy as np
from dask.base import tokenize
from scipy.special import erf

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

_BLOCK_BYTES = 8 * 2**20
_MAX_COUNTS = np.iinfo(np.uint16).max

# 1 / sqrt(4) = 50 % spread from one binding event to the next.
_BRIGHTNESS_SHAPE = 4.0
# A geometric duration exceeds ten times its mean with a chance below exp(-10) = 4.5e-5.
_LONGEST_IN_MEANS = 10
# A Gaussian spot holds all but 6e-7 of its photons within 5 sigma of its centre on each axis.
_SPOT_REACH_SIGMAS = 5.0
_SPOT_PIXELS_AT_ONCE = 2**18
# Nothing in the background is narrower than sigma 28 px, four default filter radii: the filter's
# Gaussian of sigma 3.5 px lowers no peak by more than (3.5 / 28)^2 = 1.6 %. Two hills sqrt(2)
# times as broad multiply into one of 28 px.
_HILL_SIGMA_PIX = 28.0 * math.sqrt(2)
_FILAMENTS = 16
_BLOBS = 5
# The rest is light that does not bleach, such as that of the medium.
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
class _Scene:
    """All that decides what a frame shows: plain numbers, the same for every block."""

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
        return math.ceil(_LONGEST_IN_MEANS * self.mean_duration_frames)

    def rng(self, stream: _Stream, index: int = 0) -> np.random.Generator:
        return np.random.default_rng([self.seed, stream, index])


@dataclass(frozen=True)
class Molecules:
    """The molecules of a simulated movie, drawn when asked for."""

    scene: _Scene

    def table(self, start: int, stop: int) -> npt.NDArray[np.void]:
        """
        List the molecules that are on in the frames from start up to, not including, stop.

        Parameters
        ----------
        start, stop : int
            Half-open range of frames, 0 ≤ start ≤ stop ≤ number of frames of the movie.

        Returns
        -------
        numpy.ndarray
            One record per molecule and frame, in order of frames. Fields: ``frame`` (int64);
            ``y``, ``x`` (float64, pixels, whole numbers at pixel centres); ``photons`` (float64,
            the expected photons that reach the sensor in this frame, before the quantum
            efficiency and shot noise).

        Raises
        ------
        ValueError
            If the range leaves the movie.
        """
        if not 0 <= start <= stop <= self.scene.frames:
            raise ValueError(
                f"frames {start} to {stop}: the movie has {self.scene.frames} frames; "
                f"pass 0 <= start <= stop <= {self.scene.frames}"
            )
        return _molecules(self.scene, start, stop)


class SimulatedMovie(NamedTuple):
    """
    A simulated movie with its truth.

    Attributes
    ----------
    movie : dask.array.Array
        Camera counts, uint16, (frame, y, x).
    background : dask.array.Array
        Expected camera counts without molecules, float32, of the movie's shape and chunks.
    molecules : Molecules
        ``molecules.table(start, stop)`` lists the molecules that are on.
    """

    movie: da.Array
    background: da.Array
    molecules: Molecules


def simulate_movie(
    frames: int = 1000,
    height: int = 256,
    width: int = 256,
    *,
    seed: int = 0,
    photons: float = 1000.0,
    psf_sigma_pix: float = 1.3,
    events_per_frame: float = 20.0,
    mean_duration_frames: float = 3.0,
    background_photons: float = 50.0,
    bleaching_frames: float = 5000.0,
    quantum_efficiency: float = 0.8,
    gain: float = 2.2,
    offset: float = 100.0,
    read_noise: float = 1.4,
    chunks: int | None = None,
) -> SimulatedMovie:
    """
    Build a lazy camera movie of blinking molecules over a known smooth background.

    Molecules bind to fixed sites along curved filaments. Nothing is computed but the description:
    the cost of a frame does not depend on the length of the movie, and a frame has the same bits
    for every chunking, order and subset in which frames are computed.

    Parameters
    ----------
    frames, height, width : int
        Shape of the movie; height and width in pixels.
    seed : int
        Any whole number ≥ 0; every random number follows from it.
    photons : float
        Mean photons of one molecule that reach the sensor per frame. Events spread around it
        with a gamma distribution of 50 % relative standard deviation; an event keeps its
        brightness.
    psf_sigma_pix : float
        Standard deviation of a spot, in pixels.
    events_per_frame : float
        Mean number of binding events that start in a frame (Poisson), over the whole field.
        ``events_per_frame * mean_duration_frames`` molecules are on in a mean frame; 0 for none.
    mean_duration_frames : float
        Mean of the geometric distribution of an event's length, in whole frames, cut at ten
        times the mean. The movie starts in equilibrium.
    background_photons : float
        Background photons that reach the sensor per pixel and frame: the mean over the field
        in frame 0. It falls off towards the edges as a broad Gaussian illumination does and
        carries a few blobs; its features have sigmas of at least 28 px.
    bleaching_frames : float
        Time constant, in frames, with which 40 % of the background bleaches; ``math.inf`` for
        a constant background.
    quantum_efficiency : float
        Photo-electrons per photon, over 0 and up to 1.
    gain : float
        Camera counts per photo-electron.
    offset : float
        Camera counts of a dark pixel.
    read_noise : float
        Standard deviation of the Gaussian read noise, in electrons.
    chunks : int, optional
        Frames per block. Default: as many as fit 8 MiB of uint16, at least one.

    Returns
    -------
    SimulatedMovie
        ``(movie, background, molecules)``; both arrays are lazy (frame, y, x) stacks in blocks
        of ``chunks`` whole frames: counts in uint16, and in float32 the counts expected without
        molecules, offset + gain · quantum efficiency · background photons.

    Raises
    ------
    TypeError
        If a parameter is not a number, or not a whole one where it must be.
    ValueError
        If a parameter is outside its limits.

    Notes
    -----
    For N expected photons a pixel reads
    ``clip(round(offset + gain · (Poisson(quantum_efficiency · N) + read_noise · Normal)))``,
    the usual linear camera model: mean offset + gain · QE · N, variance
    gain² · (QE · N + read_noise²) + 1/12 from rounding, as long as neither 0 nor 65535 clips it.
    Spots are Gaussians integrated over pixels. The camera defaults (offset 100, 2.2 counts per
    electron, 1.4 electrons of read noise, quantum efficiency 0.8) are typical of scientific CMOS
    cameras, not those of one model. Random numbers are NumPy's: another version of NumPy may
    draw others.

    Examples
    --------
    >>> from smlmlp_dask import simulate_movie
    >>> movie, background, molecules = simulate_movie(500, 64, 96, seed=1)
    >>> movie
    dask.array<..., shape=(500, 64, 96), dtype=uint16, chunksize=(500, 64, 96), ...>
    >>> background[0].mean().compute() > 100  # the camera's offset
    np.True_
    >>> molecules.table(0, 10).dtype.names
    ('frame', 'y', 'x', 'photons')

    To be opened as any other movie:

    >>> import tifffile
    >>> tifffile.imwrite("simulated.tif", movie.compute(), photometric="minisblack")
    """
    scene = _Scene(
        frames=_whole("frames", frames, 1),
        height=_whole("height", height, 1, 65_536),
        width=_whole("width", width, 1, 65_536),
        seed=_whole("seed", seed, 0),
        photons=_real("photons", photons, 0, 1e9),
        psf_sigma_pix=_real("psf_sigma_pix", psf_sigma_pix, 0.1, 100),
        events_per_frame=_real("events_per_frame", events_per_frame, 0, 1e5),
        mean_duration_frames=_real("mean_duration_frames", mean_duration_frames, 1, 1000),
        background_photons=_real("background_photons", background_photons, 0, 1e9),
        bleaching_frames=_real("bleaching_frames", bleaching_frames, 1, math.inf),
        quantum_efficiency=_real("quantum_efficiency", quantum_efficiency, 1e-6, 1),
        gain=_real("gain", gain, 1e-6, 1e6),
        offset=_real("offset", offset, 0, _MAX_COUNTS),
        read_noise=_real("read_noise", read_noise, 0, 1e6),
    )
    frame_bytes = scene.height * scene.width * np.dtype(np.uint16).itemsize
    block_frames = (
        max(1, _BLOCK_BYTES // frame_bytes) if chunks is None else _whole("chunks", chunks, 1)
    )
    return SimulatedMovie(
        movie=_lazy(_expose, scene, block_frames, np.dtype(np.uint16)),
        background=_lazy(_expected_counts, scene, block_frames, np.dtype(np.float32)),
        molecules=Molecules(scene),
    )


def _whole(name: str, value: object, low: int, high: int | None = None) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} is {value!r}: pass a whole number")
    number = int(value)
    if number < low or (high is not None and number > high):
        limits = f"{low} or more" if high is None else f"{low} to {high}"
        raise ValueError(f"{name} is {number}: pass a whole number, {limits}")
    return number


def _real(name: str, value: object, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is {value!r}: pass a number")
    number = float(value)
    if not low <= number <= high:
        limits = f"{low:g} or more" if high == math.inf else f"{low:g} to {high:g}"
        raise ValueError(f"{name} is {number:g}: pass a number, {limits}")
    return number


def _lazy(
    draw: Callable[[_Scene, int, int], npt.NDArray[np.generic]],
    scene: _Scene,
    block_frames: int,
    dtype: np.dtype[np.generic],
) -> da.Array:
    """Stack whose blocks are `draw(scene, start, stop)`."""
    whole, rest = divmod(scene.frames, block_frames)
    frame_chunks = (block_frames,) * whole + ((rest,) if rest else ())
    # Building stays cheap for millions of blocks: `block_info` would be listed for each of them in
    # advance (`block_id` is not), and a name of Dask's own making hashes the chunks one by one.
    stack: da.Array = da.map_blocks(
        _draw_block,
        draw=draw,
        scene=scene,
        block_frames=block_frames,
        chunks=(frame_chunks, (scene.height,), (scene.width,)),
        meta=np.empty((0, 0, 0), dtype),
        name=f"simulate{draw.__name__}-{tokenize(draw, scene, block_frames)}",
    )
    return stack


def _draw_block(
    *,
    draw: Callable[[_Scene, int, int], npt.NDArray[np.generic]],
    scene: _Scene,
    block_frames: int,
    block_id: tuple[int, ...],
) -> npt.NDArray[np.generic]:
    start = block_id[0] * block_frames
    return draw(scene, start, min(start + block_frames, scene.frames))


def _expose(scene: _Scene, start: int, stop: int) -> npt.NDArray[np.uint16]:
    """Camera counts of the frames."""
    background = _background_photons(scene)
    molecules = _molecules(scene, start, stop)
    bounds = np.searchsorted(molecules["frame"], np.arange(start, stop + 1))
    counts = np.empty((stop - start, scene.height, scene.width), np.uint16)
    for i, frame in enumerate(range(start, stop)):
        expected = _spots(scene, molecules[bounds[i] : bounds[i + 1]])
        expected += _bleaching(scene, frame) * background
        expected *= scene.quantum_efficiency
        counts[i] = _read_out(scene, expected, scene.rng(_Stream.CAMERA, frame))
    return counts


def _read_out(
    scene: _Scene, electrons: npt.NDArray[np.float64], rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Whole counts in the range of the camera, from the expected photo-electrons."""
    counts = rng.standard_normal(electrons.shape, np.float32)
    counts *= np.float32(scene.read_noise)
    counts += rng.poisson(electrons)
    counts *= np.float32(scene.gain)
    counts += np.float32(scene.offset)
    np.rint(counts, out=counts)
    return np.clip(counts, 0, _MAX_COUNTS, out=counts)


def _expected_counts(scene: _Scene, start: int, stop: int) -> npt.NDArray[np.float32]:
    """Camera counts of the frames without molecules and noise."""
    signal = scene.gain * scene.quantum_efficiency * _background_photons(scene)
    counts = np.empty((stop - start, scene.height, scene.width), np.float32)
    for i, frame in enumerate(range(start, stop)):
        counts[i] = scene.offset + _bleaching(scene, frame) * signal
    return counts


def _bleaching(scene: _Scene, frame: int) -> float:
    """Background of a frame in units of that of frame 0."""
    return 1 - _BLEACHING_PART + _BLEACHING_PART * math.exp(-frame / scene.bleaching_frames)


def _background_photons(scene: _Scene) -> npt.NDArray[np.float64]:
    """Background photons per pixel in frame 0."""
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
    scene: _Scene, centre: npt.NDArray[np.float64], sigma_pix: float
) -> npt.NDArray[np.float64]:
    """Gaussian of height 1, no narrower than allowed; its centre (y, x) in parts of the field."""
    sigma_pix = max(sigma_pix, _HILL_SIGMA_PIX)
    y = (np.arange(scene.height) - centre[0] * (scene.height - 1)) / sigma_pix
    x = (np.arange(scene.width) - centre[1] * (scene.width - 1)) / sigma_pix
    hill: npt.NDArray[np.float64] = np.multiply.outer(np.exp(-0.5 * y**2), np.exp(-0.5 * x**2))
    return hill


def _sites(scene: _Scene) -> npt.NDArray[np.float64]:
    """Binding sites (y, x), one per pixel of length of each filament within the field."""
    rng = scene.rng(_Stream.SITES)
    size = np.array([scene.height, scene.width])
    length = math.ceil(math.hypot(scene.height, scene.width))
    # Headings wander by about 1 rad over the diagonal: filaments look alike in any field.
    heading = rng.uniform(0, 2 * np.pi, (_FILAMENTS, 1)) + np.cumsum(
        rng.normal(0, 1 / math.sqrt(length), (_FILAMENTS, length)), axis=1
    )
    path = np.cumsum(np.stack([np.sin(heading), np.cos(heading)], axis=-1), axis=1)
    # The middle of each filament lies in the field, so that none is without sites.
    middle = path[:, length // 2, np.newaxis]
    path += rng.uniform(-0.5, size - 0.5, (_FILAMENTS, 1, 2)) - middle
    sites = path.reshape(-1, 2)
    return sites[np.all((sites >= -0.5) & (sites < size - 0.5), axis=1)]


def _events(scene: _Scene, start: int, site_count: int) -> npt.NDArray[np.void]:
    """Binding events that start in frame `start`."""
    # Events that began before the movie have negative frames; a seed must not be negative.
    rng = scene.rng(_Stream.EVENTS, start + scene.max_duration_frames)
    events = np.empty(rng.poisson(scene.events_per_frame), _EVENT)
    duration = rng.geometric(1 / scene.mean_duration_frames, events.size)
    events["start"] = start
    events["stop"] = start + np.minimum(duration, scene.max_duration_frames)
    events["site"] = rng.integers(site_count, size=events.size)
    events["photons"] = rng.gamma(_BRIGHTNESS_SHAPE, scene.photons / _BRIGHTNESS_SHAPE, events.size)
    return events


def _molecules(scene: _Scene, start: int, stop: int) -> npt.NDArray[np.void]:
    """One record per molecule and frame, by frame, then by the start of its event."""
    sites = _sites(scene)
    first = start - scene.max_duration_frames + 1
    events = np.concatenate(
        [np.empty(0, _EVENT), *(_events(scene, s, len(sites)) for s in range(first, stop))]
    )
    begin = np.maximum(events["start"], start)
    on_frames = np.maximum(np.minimum(events["stop"], stop) - begin, 0)
    nth_frame = np.arange(on_frames.sum()) - np.repeat(np.cumsum(on_frames) - on_frames, on_frames)
    frame = np.repeat(begin, on_frames) + nth_frame
    # Stable: spots of one frame are added in one order, whichever the block they are drawn in.
    order = np.argsort(frame, kind="stable")
    event = np.repeat(np.arange(events.size), on_frames)[order]

    molecules = np.empty(order.size, _MOLECULE)
    molecules["frame"] = frame[order]
    molecules["y"], molecules["x"] = sites[events["site"][event]].T
    molecules["photons"] = events["photons"][event]
    return molecules


def _spots(scene: _Scene, molecules: npt.NDArray[np.void]) -> npt.NDArray[np.float64]:
    """Photons expected per pixel from the molecules of one frame."""
    reach = math.ceil(_SPOT_REACH_SIGMAS * scene.psf_sigma_pix)
    # A margin takes the parts of spots outside the field: no window needs cutting.
    canvas = np.zeros((scene.height + 2 * reach, scene.width + 2 * reach))
    # A few at a time: memory stays small for broad spots and crowded fields.
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
    """Pixels around each centre, and the part of a unit Gaussian that falls on each of them."""
    pixels = np.rint(centres).astype(np.int64)[:, np.newaxis] + np.arange(-reach, reach + 1)
    edges = np.arange(-reach - 0.5, reach + 1) + (np.rint(centres) - centres)[:, np.newaxis]
    return pixels, np.diff(erf(edges / (math.sqrt(2) * sigma_pix)), axis=1) / 2
