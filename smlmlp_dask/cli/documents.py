"""The documents that ``--json`` prints, for scripts and workflow managers.

Keys are stable; new ones may be added. Lengths are in pixels (``_pix``), sizes in bytes
(``_bytes``), intensities in camera counts (``_counts``), other units by their symbols.

``run``, and ``info`` of a store
    ``path``, ``finished``, ``outputs`` (some of ``background``, ``signal``, ``snr`` and
    ``mean_background``), ``photons`` (whether all of them, and the pedestal, are in photoelectrons
    instead of counts), ``pedestal_counts``
    (of a signal in uint16; else null), ``blocks`` and ``blocks_done``, ``channels``, ``sources``,
    ``selection`` (``frames``, ``bboxes``, ``flips``, ``raw_shape``, ``raw_dtype``, as passed),
    ``engine``, ``engine_version``, ``cuda``, ``codec``, ``keep_bits``,
    ``relative_error_of_rounding`` and ``versions``. A channel has ``channel`` (its number),
    ``frames``, ``height_pix``, ``width_pix``, ``chunk_frames``, ``chunk_height_pix``,
    ``chunk_width_pix``, ``steps`` (in their order; each has ``step``: ``mean``, ``median`` or
    ``opening``, and ``radii_pix``, y and x, or ``window_fr``), ``radius_y_pix``, ``radius_x_pix``,
    ``sigma_y_pix`` and ``sigma_x_pix`` (of the local mean; null without one), ``noise_correction``
    and ``clipped_pixels`` (of a signal on a pedestal; else null), ``used`` (``gain``, ``baseline``
    and ``variance``, numbers or paths of maps; null unless the SNR or photons needed them); and,
    null where it is not known,
    its ``name``, ``pixel_size_y_um``, ``pixel_size_x_um``, ``frame_interval_s``, ``exposure_s``,
    ``colour`` (six hexadecimal digits), ``gain`` (photoelectrons per count) and
    ``baseline_counts``.
``convert``, and ``info`` of its store
    The same without what belongs to a filter (radii, sigmas, factors, engine, rounding); besides,
    ``outputs`` (the list ``raw``), and ``dtype`` for each channel.
``info`` of any other source
    ``path``, ``format``, ``disk_bytes`` (null for a source of very many files),
    ``default_position`` (the one that the path names, else null), ``positions`` and ``notes``. A
    position has ``position`` (its number), ``name``, ``z_slices``, ``channels``,
    ``promised_frames`` and ``cut_short`` (both null unless frames are missing). A channel has
    ``channel`` (its number), sizes, name and how it was recorded as above, ``dtype``, and
    ``unit_frames``, ``unit_height_pix`` and ``unit_width_pix`` (what is stored together).
``formats``
    ``formats``. A format has ``name``, ``endings``, ``library`` (null if it needs no other),
    ``installed``, ``install`` (a command), ``python`` (the first that suits) and ``python_suits``.
``run --dry-run``
    ``tasks``, ``tasks_at_a_time``, ``projected_bytes``, ``memory_limit_bytes``, ``output_bytes``
    (before compression) and ``channels``. A channel has ``channel``, sizes and chunks as above,
    ``blocks``, ``block_frames``, ``block_height_pix``, ``block_width_pix``, ``block_bytes`` (memory
    of the task) and ``read_amplification`` (how often a pixel is decoded). ``stored_bytes`` (on
    disk) and ``seconds`` are estimates for the job from a sample. ``workers``, ``worker_bytes``
    and ``scheduler_bytes`` are null without ``--for-workers``. ``warnings`` are lines on radii.
``radius``
    ``channels`` and ``picture_path``. A channel has ``channel``, ``name``, ``radius_pix`` (the
    suggested one), ``reason``, ``notes`` (lines on what makes it uncertain), ``spot_sigma_y_pix``,
    ``spot_sigma_x_pix`` (null without spots), ``frames_looked_at`` and ``radii``: for each tried
    ``radius_pix`` the ``share_of_peak`` that the background takes (0 to 1; null without spots), and
    root mean squares: ``taken_counts`` (light of spots and noise in the background),
    ``uneven_counts`` (unevenness that it misses) and ``error_counts`` (both together).
``verify``
    ``path``, ``whole``, ``chunks_checked``, ``blocks_recomputed``, ``problems``, ``repaired`` and
    ``not_compared`` (what ``--deep`` could not compute again, as its movie is gone or changed).
``demo``
    ``store`` (the document of ``info``), ``checks``, ``pixels_per_second``, ``movie_path`` and
    ``picture_path``. A check has ``channel``, ``known_background_counts``, ``error_rms_counts``
    and ``error_mean_counts``.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from smlmlp_dask.filters.chains import recorded_chains
from smlmlp_dask.filters.spatial_mean import SpatialMean
from smlmlp_dask.filters.wording import mean_of
from smlmlp_dask.movies.acquisition import Acquisition
from smlmlp_dask.pipeline.verify import VerifyReport
from smlmlp_dask.result import open_backgrounds
from smlmlp_dask.store.checking import clipped_pixels
from smlmlp_dask.store.codecs import holds_raw
from smlmlp_dask.store.metadata import recorded_acquisitions
from smlmlp_dask.store.outputs import DEFAULT, stored_outputs
from smlmlp_dask.store.read import (
    Progress,
    progress,
    read_attributes,
    refusing_damage,
    stored_stacks,
)

if TYPE_CHECKING:
    from smlmlp_dask.pipeline.job_plan import JobPlan

Document: TypeAlias = dict[str, Any]

CAMERA = ("gain", "baseline", "variance")
"""What the SNR and photons take of a camera."""


def store_document(path: Path) -> Document:
    """Describe a store, finished or not; for errors see `read_attributes`."""
    attributes = read_attributes(path)
    state = progress(path, attributes)
    if attributes.get("finished") is True:
        refuse_without_arrays(path, attributes)
    with refusing_damage(path, ValueError):
        return _store_document(path, attributes, state)


def _store_document(path: Path, attributes: Mapping[str, Any], state: Progress) -> Document:
    raw = holds_raw(attributes)
    own = ("codec",) if raw else ("engine", "engine_version", "cuda", "codec", "keep_bits")
    signals = {
        "photons": bool(attributes.get("photons")),
        "pedestal_counts": attributes.get("pedestal"),
    }
    plans = attributes["plan"]
    known = recorded_acquisitions(attributes, len(plans))
    if raw:
        stored = [{"dtype": dtype} for dtype in attributes["dtypes"]]
    else:
        stored = _filtered(path, attributes)
    rounding = "relative_error_of_rounding"
    return {
        "path": str(path),
        "finished": attributes["finished"] is True,
        "outputs": attributes.get("outputs", [*DEFAULT]),
        **({} if raw else signals),
        "blocks": state.total,
        "blocks_done": state.done,
        "channels": [
            {
                "channel": i,
                **sizes("", plan["shape"]),
                **sizes("chunk_", plan["chunks"]),
                **about,
                **recorded(acquisition),
            }
            for i, (plan, about, acquisition) in enumerate(zip(plans, stored, known, strict=True))
        ],
        "sources": attributes["sources"],
        "selection": {
            key: attributes[key] for key in ("frames", "bboxes", "flips", "raw_shape", "raw_dtype")
        },
        **{key: attributes[key] for key in own},
        **({} if raw else {rounding: attributes[rounding]}),
        "versions": attributes["versions"],
    }


def _filtered(path: Path, attributes: Mapping[str, Any]) -> list[Document]:
    """Describe how each channel was filtered."""
    chains, factors = recorded_chains(attributes), attributes["noise_corrections"]
    used = "photons" in attributes
    clipped: Sequence[int | None] | None = None
    if attributes["finished"] is True:
        clipped = clipped_pixels(path, attributes)
    return [
        {
            "steps": [step.to_attributes() for step in chain],
            **_mean(mean_of(chain)),
            "noise_correction": factor,
            "clipped_pixels": None if clipped is None else clipped[i],
            "used": {name: attributes[name][i] for name in CAMERA} if used else None,
        }
        for i, (chain, factor) in enumerate(zip(chains, factors, strict=True))
    ]


def _mean(mean: SpatialMean | None) -> Document:
    """Describe the local mean of a channel; null where there is none."""
    radii, sigmas = ((None, None), (None, None)) if mean is None else (mean.radii, mean.sigmas)
    names = ("radius_y_pix", "radius_x_pix", "sigma_y_pix", "sigma_x_pix")
    return dict(zip(names, (*radii, *sigmas), strict=True))


def recorded(acquisition: Acquisition) -> Document:
    """Describe how a channel was recorded; null where it is not known."""
    height, width = acquisition.pixel_size_um or (None, None)
    return {
        "name": acquisition.channel,
        "pixel_size_y_um": height,
        "pixel_size_x_um": width,
        "frame_interval_s": acquisition.frame_interval_s,
        "exposure_s": acquisition.exposure_s,
        "colour": acquisition.colour,
        "gain": acquisition.gain,
        "baseline_counts": acquisition.baseline,
    }


def refuse_without_arrays(path: Path, attributes: Mapping[str, Any]) -> None:
    """Raise if arrays of a finished store are missing."""
    if holds_raw(attributes):
        with refusing_damage(path, ValueError, OSError):
            stored_stacks(path, stored_outputs(attributes, len(attributes["plan"]))[0])
    else:
        open_backgrounds(path)


def plan_document(plan: "JobPlan") -> Document:
    """Describe a dry run: what a job would do and need."""
    return {
        "tasks": plan.n_blocks,
        "tasks_at_a_time": plan.threads,
        "projected_bytes": plan.projected_bytes,
        "memory_limit_bytes": plan.memory_limit_bytes,
        "output_bytes": plan.output_bytes,
        "stored_bytes": plan.stored_bytes,
        "seconds": plan.seconds,
        "workers": plan.workers,
        "worker_bytes": plan.worker_bytes if plan.workers else None,
        "scheduler_bytes": plan.scheduler_bytes if plan.workers else None,
        "warnings": list(plan.warnings),
        "channels": [
            {
                "channel": i,
                **sizes("", channel.shape),
                **sizes("chunk_", channel.chunks),
                "blocks": channel.n_blocks,
                **sizes("block_", channel.block),
                "block_bytes": channel.block_bytes,
                "read_amplification": channel.read_amplification,
            }
            for i, channel in enumerate(plan.channels)
        ],
    }


def verify_document(path: Path, report: VerifyReport) -> Document:
    """Describe what `verify` checked, found and repaired."""
    return {
        "path": str(path),
        "whole": not report.problems,
        "chunks_checked": report.chunks,
        "blocks_recomputed": report.recomputed,
        "problems": report.problems,
        "repaired": report.repaired,
        "not_compared": report.not_compared,
    }


def sizes(prefix: str, lengths: Sequence[int]) -> Document:
    """Return frames, height and width under their names, each with a prefix."""
    names = ("frames", "height_pix", "width_pix")
    return {prefix + name: int(length) for name, length in zip(names, lengths, strict=True)}
