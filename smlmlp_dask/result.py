"""The result of a job: backgrounds on disk, read lazily, with pictures and tables of them."""

import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .filters.chains import Chain, chain_info, recorded_chains
from .messages import shown
from .movies.acquisition import Acquisition
from .movies.formats.zarr_movie import Seal, check_seal
from .movies.stack import Stack
from .paths import absolute_path
from .store.codecs import RAW
from .store.frames import FrameReader
from .store.means import output_stacks
from .store.metadata import COPY, recorded_acquisitions
from .store.outputs import BACKGROUND, MEAN, NAMES, SIGNAL, SNR, stored_outputs, unit_of
from .store.read import read_attributes, refuse_raw, refuse_unfinished, refusing_damage

if TYPE_CHECKING:
    import dask.array as da
    from matplotlib.figure import Figure


KERNEL_KEYS = ("spatial_mean_kernels_y", "spatial_mean_kernels_x")


class SpatialMeanResult:
    """Backgrounds on disk, with noise corrections, kernels and radii.

    Each access returns new lists, dictionaries and kernels. Callers may change them, such as
    multiply them in place; the result stays as it is.

    Attributes
    ----------
    stacks : list of Stack
        The backgrounds on disk, one per channel; `bkgds` reads them. The first of the outputs that
        are stored, if backgrounds are not.
    bkgds : list of dask.array.Array or None
        One lazy float32 stack (frame, y, x) per channel, in the `unit`; with the same name and
        graph at each access. None if backgrounds are not stored.
    signals : list of dask.array.Array or None
        The same of raw - background: float32, or uint16 that is `pedestal` counts higher. None if
        signals are not stored.
    snrs : list of dask.array.Array or None
        The same of the signal-to-noise ratio, float32. None if it is not stored.
    mean_bkgds : list of dask.array.Array or None
        One lazy float32 frame (y, x) per channel, the mean of its background over all frames. None
        if it is not stored.
    pedestal : int or None
        What to subtract from `signals`; None if they are float32.
    unit : str
        Of backgrounds and signals: "counts", or "photons" (photoelectrons).
    noise_corrections : list of numpy.float32
        One factor per channel, as `noise_correction` defines it, times those given so far.
    info : dict
        Radii, sigmas (pixels) and residual kernels, as `bkgd_spatial_mean` returns them; of several
        steps, the entries that `bkgd_combination` returns.
    steps : list of tuple
        The steps of each channel: a `SpatialMean`, or what `run_background` was given.
    acquisitions : list of Acquisition
        How each channel was recorded: name, pixel size, frame interval ..., as far as it is known.
    path : pathlib.Path
        The store.
    """

    def __init__(
        self,
        stacks: Sequence[Stack] | None,
        noise_corrections: Sequence[np.float32],
        info: dict[str, Any],
        path: Path,
        steps: Sequence[Chain] = (),
        others: Mapping[str, Sequence[Stack]] | None = None,
        pedestal: int | None = None,
        unit: str = "counts",
    ) -> None:
        found = {**(others or {}), **({} if stacks is None else {BACKGROUND: stacks})}
        self._found = {name: found[name] for name in NAMES if name in found}
        self._stacks = tuple(next(iter(self._found.values()), ()))
        self._pedestal = pedestal
        self._unit = unit
        self._noise_corrections = tuple(noise_corrections)
        self._info = deepcopy(info)
        self._path = path
        self._steps = tuple(steps)
        self._seal = Seal.of(path / COPY)

    def __repr__(self) -> str:
        stored = " and ".join(self._found)
        channels = ", ".join(
            f"{' x '.join(map(str, stack.shape))} (noise x {factor:.4g})"
            for stack, factor in zip(self._stacks[:4], self._noise_corrections, strict=False)
        )
        more = f" and {len(self._stacks) - 4} more" if len(self._stacks) > 4 else ""
        return f"{type(self).__name__}({str(self._path)!r}: {stored} of {channels}{more})"

    @property
    def stacks(self) -> list[Stack]:
        """The backgrounds on disk, or another output if they are not stored; one per channel."""
        return list(self._stacks)

    @property
    def stored(self) -> dict[str, list[Stack]]:
        """The outputs on disk by name: ``background``, ``signal`` ...; one stack per channel."""
        return {name: list(stacks) for name, stacks in self._found.items()}

    @property
    def bkgds(self) -> Any:
        """One lazy float32 stack (frame, y, x) per channel, in the `unit`; or None."""
        return self._copied(BACKGROUND)

    @property
    def signals(self) -> Any:
        """One lazy stack (frame, y, x) of raw - background per channel; or None."""
        return self._copied(SIGNAL)

    @property
    def snrs(self) -> Any:
        """One lazy float32 stack (frame, y, x) of signal-to-noise ratios per channel; or None."""
        return self._copied(SNR)

    @property
    def mean_bkgds(self) -> Any:
        """One lazy float32 frame (y, x) per channel, the mean of its background; or None."""
        found = self._copied(MEAN)
        return None if found is None else [stack[0] for stack in found]

    @property
    def pedestal(self) -> int | None:
        """What to subtract from `signals`; None if they are float32."""
        return self._pedestal

    @property
    def unit(self) -> str:
        """The unit of backgrounds and signals: "counts" of the camera, or "photons"."""
        return self._unit

    def _copied(self, output: str) -> "list[da.Array] | None":
        # Callers can assign to Dask arrays, so copy; a copy keeps name and graph.
        arrays = self._lazy.get(output)
        return None if arrays is None else [array.copy() for array in arrays]

    @cached_property
    def _lazy(self) -> "dict[str, list[da.Array]]":
        from .lazy.reads import lazy  # imports dask.array

        return {name: [lazy(stack) for stack in stacks] for name, stacks in self._found.items()}

    @property
    def noise_corrections(self) -> list[np.float32]:
        """One factor per channel, as `noise_correction` defines it."""
        return list(self._noise_corrections)

    @property
    def info(self) -> dict[str, Any]:
        """Settings of the steps, sigmas and residual kernels, as the lazy functions return them."""
        return deepcopy(self._info)

    @property
    def steps(self) -> list[Chain]:
        """The steps of each channel."""
        return list(self._steps)

    @property
    def acquisitions(self) -> list[Acquisition]:
        """How each channel was recorded: name, pixel size, frame interval ..., where known."""
        return [stack.acquisition for stack in self._stacks]

    @property
    def path(self) -> Path:
        """The store."""
        return self._path

    def frames(self, what: str = SIGNAL, channel: int = 0) -> FrameReader:
        """Return a reader for programs that take a movie frame by frame.

        It reads runs of whole chunks and keeps the last two in memory, so that frames in their
        order decode each chunk once. It cannot be turned into one array; take slices.

        Parameters
        ----------
        what : {"signal", "background", "snr", "mean_background", "raw"}, default "signal"
            The output; a signal on a pedestal is `pedestal` counts higher. "raw" is the same part
            of the movie that the background was computed from, pixel for pixel and in counts, read
            from the movie itself: fit these.
        channel : int, default 0
            Number of the channel.

        Returns
        -------
        FrameReader
            ``len``, ``shape``, ``dtype``, ``[i]`` (y, x) and ``[i:j]`` (frame, y, x) as NumPy
            arrays. Threads may share it, and it can be pickled.

        Raises
        ------
        ValueError
            If the store holds no such output or channel.
        OSError
            If the movie of raw frames is gone or has changed, or was an array in memory.

        Examples
        --------
        >>> from smlmlp_dask import run_background
        >>> result = run_background("movie.tif", "signal.zarr", outputs="signal", pedestal=100)
        >>> frames = result.frames("signal")
        >>> len(frames), frames[0].shape, frames[10:12].dtype.name
        (120, (64, 96), 'uint16')
        """
        stacks = self._stacks if what == RAW else self._found.get(what)
        if stacks is None:
            given = ", ".join([*self._found, RAW])
            raise ValueError(f"what is {shown(what)}, and {self._path} gives {given}")
        if channel not in range(len(stacks)):
            raise ValueError(
                f"channel is {shown(channel)}: {self._path} has channels 0 to {len(stacks) - 1}"
            )
        if what != RAW:
            return FrameReader(stacks[channel])
        from .store.reopening import reopened_channel  # imports the readers of movies

        check_seal(self._seal, self._path)
        with refusing_damage(self._path):
            return FrameReader(reopened_channel(self._path, read_attributes(self._path), channel))

    # Notebooks call these on the object; the drawing modules are imported only then.

    def _repr_html_(self) -> str:
        from .pictures.notebook import result_html

        return result_html(self)

    def plot(self, frame: int | None = None) -> "Figure":
        """Draw a frame of each channel, the kernels, and the background over time.

        For each channel: one frame (raw, background, signal, in the `unit`), the kernel of the
        local mean and its residual, and the level of the background over time, measured on up to
        64 frames. Red lines warn if the camera was saturated in any of up to 25 frames, or if the
        radius is so small that the background takes over 20 % of the peak of the movie's spots. If
        the movie can no longer be read, the picture says why and shows the rest. Longer movies do
        not take longer.

        Parameters
        ----------
        frame : int, optional
            Number of the frame; by default the one in the middle of each channel.

        Returns
        -------
        matplotlib.figure.Figure
            A notebook shows it; ``figure.savefig("picture.svg")`` writes it. It is independent of
            pyplot.

        Raises
        ------
        ValueError
            If a channel has no such frame.
        OSError
            If backgrounds cannot be read.
        """
        from .pictures.overview import plot_result

        return plot_result(self, frame)

    def browse(self) -> Any:
        """Return a slider through the frames: raw, background and signal.

        Each position reads only the chunks of store and movie that hold its frame, in this
        process. The heading counts saturated pixels, in red. If the movie can no longer be read, a
        line says why.

        Returns
        -------
        ipywidgets.VBox
            A notebook shows it.

        Raises
        ------
        RuntimeError
            If ipywidgets is not installed; it comes with the extra ``notebooks``.
        ValueError, OSError
            If the result has no frame, or the store cannot be read.
        """
        from .pictures.notebook import browse_result

        return browse_result(self)

    def view(self) -> Any:
        """Show raw, background and signal side by side in a browser, by neuroglancer.

        A row of panels for each channel; the mouse wheel moves through the frames. The browser
        asks this process for the frames it shows, so that a long movie opens at once. They are
        served on this machine only (127.0.0.1), until the process ends. If the movie can no longer
        be read, the viewer shows the background and says why.

        Returns
        -------
        neuroglancer.Viewer
            A notebook shows its link; ``viewer.get_viewer_url()`` is the URL.

        Raises
        ------
        RuntimeError
            If neuroglancer is not installed; it comes with the extra ``view``.
        ValueError, OSError
            If the result has no frame, or the store cannot be read.
        """
        from .pictures.view import view_result

        return view_result(self)[0]


def open_backgrounds(path: str | os.PathLike[str]) -> SpatialMeanResult:
    """Open a finished store of backgrounds, lazily.

    Parameters
    ----------
    path : str or path-like
        A store written by `run_background`, `run_spatial_mean` or ``smlmlp-dask run``.

    Returns
    -------
    SpatialMeanResult
        The same as `run_spatial_mean` returned: lazy backgrounds in blocks of whole chunks near
        16 MiB, noise corrections and info. Computing a block raises `SourceReadError` if a chunk
        is missing, its checksum does not fit, or another store has taken this one's place.

    Raises
    ------
    FileNotFoundError
        If `path` does not exist.
    ValueError
        If it is not such a store, or not finished.

    Examples
    --------
    >>> from smlmlp_dask import open_backgrounds, run_spatial_mean
    >>> path = run_spatial_mean("movie.tif", "background.zarr", 7.0).path
    >>> result = open_backgrounds(path)
    >>> frame = result.bkgds[0][60].compute()
    >>> frame.shape, frame.dtype.name
    ((64, 96), 'float32')
    >>> result.info["spatial_mean_sigmas"]
    [(3.5, 3.5)]
    """
    path = absolute_path(path)
    attributes = read_attributes(path)
    refuse_unfinished(path, attributes)
    refuse_raw(path, attributes)
    with refusing_damage(path, ValueError, OSError):
        n_channels = len(attributes["noise_corrections"])
        outputs = stored_outputs(attributes, n_channels)
        pedestal = attributes.get("pedestal")
        found = {output.name: output_stacks(path, output, attributes) for output in outputs}
        steps = recorded_chains(attributes)
        info = chain_info(steps) if "steps" in attributes else _mean_info(attributes, n_channels)
        recorded = recorded_acquisitions(attributes, n_channels)
        corrections = [np.float32(factor) for factor in attributes["noise_corrections"]]
        if len(steps) != n_channels:
            raise ValueError(f"steps are of {len(steps)} channels, not {n_channels}")
    found = {
        name: [
            replace(stack, acquisition=acquisition)
            for stack, acquisition in zip(stacks, recorded, strict=True)
        ]
        for name, stacks in found.items()
    }
    unit = unit_of(attributes)
    return SpatialMeanResult(None, corrections, info, path, steps, found, pedestal, unit)


def _mean_info(attributes: Mapping[str, Any], n_channels: int) -> dict[str, Any]:
    """Return the info of the local mean alone as it was recorded."""
    info: dict[str, list[Any]] = {
        **{
            key: [(float(y), float(x)) for y, x in attributes[key]]
            for key in ("channels_mean_radii_pix", "spatial_mean_sigmas")
        },
        **{key: [np.array(k, np.float32) for k in attributes[key]] for key in KERNEL_KEYS},
    }
    if any(len(entries) != n_channels for entries in info.values()):
        raise ValueError(f"not all of {', '.join(info)} have {n_channels} channels")
    info["channels_mean_radius_pix"] = info["channels_mean_radii_pix"]
    return info
