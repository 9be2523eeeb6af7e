"""The options of ``run`` that say what the background is, and what is stored."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import click

from . import options
from .options import Parsed
from .run_options import option

# A command imports what computes when it runs: `--help` and errors in options answer at once.
if TYPE_CHECKING:
    from smlmlp_dask.filters.steps import Engine, Step
    from smlmlp_dask.store.codecs import Codec


@dataclass(frozen=True)
class Estimate:
    """What the background is: the local mean, or steps that follow one another."""

    SECTION: ClassVar[str] = "Background"

    radii: tuple[tuple[float, ...], ...] = option(
        "-r",
        "--radius",
        type=Parsed("R|RY,RX", options.radius),
        multiple=True,
        help="Averaging radius in pixels, 7 by default. Once: for all channels; "
        "repeated: one per channel, in order.",
    )

    steps: tuple[tuple[str, tuple[float, ...]], ...] = option(
        "--step",
        type=Parsed("STEP", options.step),
        multiple=True,
        help="Instead of --radius: a step of the background, median:25 (frames on each side), "
        "mean:7 or opening:3 (pixels); repeated: each of what the ones before left.",
    )

    outputs: tuple[str, ...] = option(
        "--write",
        section="Output",
        type=click.Choice(["background", "signal", "snr", "mean_background"]),
        multiple=True,
        help="What to store: the background (the default), the signal (raw - background), its "
        "ratio to the noise, or one frame, the mean background; repeatable.",
    )
    pedestal: int | None = option(
        "--pedestal",
        section="Output",
        type=int,
        metavar="COUNTS",
        help="Store the signal as uint16, so many counts higher, such as 100 (default: float32).",
    )

    gain: tuple[float | str, ...] = option(
        "--gain",
        section="Output",
        type=Parsed("NUMBER|MAP", options.of_camera),
        multiple=True,
        help="Photoelectrons per count, for --write snr and --photons (default: as the files say); "
        "a number, or a TIFF or .npy with one for each pixel of the camera. Once: for all "
        "channels; repeated: one per channel, in order.",
    )
    baseline: tuple[float | str, ...] = option(
        "--baseline",
        section="Output",
        type=Parsed("NUMBER|MAP", options.of_camera),
        multiple=True,
        help="Counts that the camera adds to every pixel (default: 0; with --photons, as the files "
        "say); like --gain.",
    )
    variance: tuple[float | str, ...] = option(
        "--variance",
        section="Output",
        type=Parsed("NUMBER|MAP", options.of_camera),
        multiple=True,
        help="Of the read noise, counts squared, for --write snr (default: 0); like --gain.",
    )
    photons: bool = option(
        "--photons",
        section="Output",
        is_flag=True,
        help="Turn frames into photoelectrons first, (raw - baseline) x gain: all that is stored "
        "is in them.",
    )

    engine: "Engine" = option(
        "--engine",
        type=click.Choice(["auto", "fused", "dask-image"]),
        default="auto",
        show_default=True,
        help="Which filter to use.",
    )
    cuda: bool = option("--cuda", is_flag=True, help="Filter on the GPU.")
    parallel: bool = option(
        "--parallel", is_flag=True, help="Split each block's frames over threads, too."
    )
    codec: "Codec" = option(
        "--codec",
        section="Output",
        type=click.Choice(["fast", "small", "none"]),
        default="fast",
        show_default=True,
        help="How the store is compressed, without loss.",
    )
    keep_bits: int | None = option(
        "--keep-bits",
        section="Output",
        type=int,
        metavar="BITS",
        help="Round to this many mantissa bits of 23: 12 halves the store, within 0.012 %.",
    )

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `run_background`."""
        camera = {name: getattr(self, name) or None for name in ("gain", "baseline", "variance")}
        return {
            **{name: value for name, value in vars(self).items() if name != "radii"},
            **camera,
            "steps": self._chain(),
            "outputs": self.outputs or ("background",),
        }

    def _chain(self) -> "list[Step]":
        """Return the steps of all --step options, or else the local mean."""
        from smlmlp_dask.filters.spatial_mean import SpatialMean
        from smlmlp_dask.filters.spatial_opening import SpatialOpening
        from smlmlp_dask.filters.temporal_median import TemporalMedian

        if not self.steps:
            pairs = [(pair[0], pair[-1]) for pair in self.radii]
            return [SpatialMean(pairs if len(pairs) > 1 else pairs[0] if pairs else 7.0)]
        if self.radii:
            raise click.UsageError(
                "--radius is of the local mean alone: with --step, give it as --step mean:7"
            )
        made: list[Step] = []
        for kind, numbers in self.steps:
            if kind == "median":
                made.append(TemporalMedian(*map(int, numbers)))
            else:
                of_kind = SpatialMean if kind == "mean" else SpatialOpening
                made.append(of_kind((numbers[0], numbers[-1])) if numbers else of_kind())
            try:
                made[-1].for_channels(1)
            except ValueError as error:
                raise ValueError(f"--step {kind} {str(error).partition(' ')[2]}") from error
        return made
