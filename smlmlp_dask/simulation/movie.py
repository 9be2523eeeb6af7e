"""Camera movies of blinking molecules over a known smooth background, for trials and tests."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple

import dask.array as da
import numpy as np
from dask.base import tokenize

from .scene import MAX_COUNTS, Scene, expected_counts, expose, molecules_on

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

_BLOCK_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Molecules:
    """The molecules of a simulated movie, drawn on demand."""

    scene: Scene

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
        return molecules_on(self.scene, start, stop)


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

    Molecules bind to fixed sites along curved filaments. The call computes no frame. The cost of a
    frame does not depend on the length of the movie, and a frame has the same bits for every
    chunking, and for every order and subset of computed frames.

    Parameters
    ----------
    frames, height, width : int
        Shape of the movie; height and width in pixels.
    seed : int
        Any whole number ≥ 0; it determines every random number.
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
        in frame 0. The background falls off towards the edges, like a broad Gaussian beam, and
        has a few blobs; its features have sigmas of at least 28 px.
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

    Write it to a file to open it as any other movie:

    >>> import tifffile
    >>> tifffile.imwrite("simulated.tif", movie.compute(), photometric="minisblack")
    """
    scene = Scene(
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
        offset=_real("offset", offset, 0, MAX_COUNTS),
        read_noise=_real("read_noise", read_noise, 0, 1e6),
    )
    frame_bytes = scene.height * scene.width * np.dtype(np.uint16).itemsize
    block_frames = (
        max(1, _BLOCK_BYTES // frame_bytes) if chunks is None else _whole("chunks", chunks, 1)
    )
    return SimulatedMovie(
        movie=_lazy(expose, scene, block_frames, np.dtype(np.uint16)),
        background=_lazy(expected_counts, scene, block_frames, np.dtype(np.float32)),
        molecules=Molecules(scene),
    )


def _whole(name: str, value: object, low: int, high: float = math.inf) -> int:
    return int(_checked(name, value, Integral, "a whole number", low, high))


def _real(name: str, value: object, low: float, high: float) -> float:
    return float(_checked(name, value, Real, "a number", low, high))


def _checked(name: str, value: Any, kind: Any, what: str, low: float, high: float) -> Any:
    if isinstance(value, bool) or not isinstance(value, kind):
        raise TypeError(f"{name} is {value!r}: pass {what}")
    if not low <= value <= high:
        limits = f"{low:g} or more" if high == math.inf else f"{low:g} to {high:g}"
        raise ValueError(f"{name} is {value}: pass {what}, {limits}")
    return value


def _lazy(
    draw: Callable[[Scene, int, int], npt.NDArray[np.generic]],
    scene: Scene,
    block_frames: int,
    dtype: np.dtype[np.generic],
) -> da.Array:
    """Return a stack whose blocks are `draw(scene, start, stop)`."""
    whole, rest = divmod(scene.frames, block_frames)
    frame_chunks = (block_frames,) * whole + ((rest,) if rest else ())
    # This stays cheap for millions of blocks: Dask would list `block_info` for each in advance, but
    # not `block_id`, and would hash the chunks one by one to make a name.
    stack: da.Array = da.map_blocks(
        _draw_block,
        draw=draw,
        scene=scene,
        block_frames=block_frames,
        chunks=(frame_chunks, (scene.height,), (scene.width,)),
        meta=np.empty((0, 0, 0), dtype),
        name=f"simulate_{draw.__name__}-{tokenize(draw, scene, block_frames)}",
    )
    return stack


def _draw_block(
    *,
    draw: Callable[[Scene, int, int], npt.NDArray[np.generic]],
    scene: Scene,
    block_frames: int,
    block_id: tuple[int, ...],
) -> npt.NDArray[np.generic]:
    start = block_id[0] * block_frames
    return draw(scene, start, min(start + block_frames, scene.frames))
