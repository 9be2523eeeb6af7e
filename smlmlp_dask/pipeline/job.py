"""A prepared job: all that is known before anything runs."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from smlmlp_dask.blocks import Block, BlockPlan
from smlmlp_dask.execution.workers import Workers, active_client, on_every_worker
from smlmlp_dask.filters import device, parameters
from smlmlp_dask.filters.chains import (
    loops_version,
    mean_info,
    noise_correction_of,
    of_all_channels,
    recorded_chains,
)
from smlmlp_dask.filters.steps import FilterOptions
from smlmlp_dask.filters.wording import mean_alone
from smlmlp_dask.movies.acquisition import Overrides
from smlmlp_dask.movies.arrays import ArraySource, as_source, in_memory, not_kept
from smlmlp_dask.movies.camera import CameraSettings, digest_of
from smlmlp_dask.movies.described import DescribedMovie
from smlmlp_dask.movies.identity import source_identity
from smlmlp_dask.movies.opening import AnySource, open_sources, source_roots
from smlmlp_dask.movies.photons import in_photons
from smlmlp_dask.movies.recording import Recording
from smlmlp_dask.movies.selection import Selection
from smlmlp_dask.movies.stack import SourceReadError
from smlmlp_dask.paths import absolute_path
from smlmlp_dask.store.checking import read_metadata, stored_plans
from smlmlp_dask.store.chunk_files import ChunkFiles
from smlmlp_dask.store.codecs import RAW, Storage, holds_raw
from smlmlp_dask.store.metadata import recorded_acquisitions
from smlmlp_dask.store.outputs import SNR
from smlmlp_dask.store.read import refusing_damage
from smlmlp_dask.store.reopening import recorded_cameras, reopened_channels

from .block import Measured, Task
from .channels import KEEP, Channel, check_sent, cut_into_blocks, side_by_side, workers_for
from .outputs import BACKGROUND_ALONE, Outputs


@dataclass(frozen=True)
class Job:
    """What a run does: its channels, and how they are cut, filtered and stored.

    Attributes
    ----------
    sources : list of str or ArraySource
        Absolute paths of the movies, or arrays; empty for a described movie.
    counts : list of int
        Channels of each source.
    selection : Selection
        Which part of the sources makes which channel.
    channels : list of Channel
        Where frames come from, how they are cut into blocks, and how they are filtered.
    noise_corrections : list of float
        One factor per channel; empty without a filter.
    options : FilterOptions or None
        Which filter runs, and how; None keeps frames as they are.
    storage : Storage
        How pixels are encoded.
    workers : Workers
        The workers whose memory the blocks fit; their threads are how many run at a time.
    outputs : Outputs
        What is stored of filtered frames.
    inputs : dict
        Fingerprint of each file, folder or array that is read, by its path or name; empty before
        `with_inputs`.
    cupy_versions : tuple of str
        CuPy on the workers, if they filter on a GPU.
    """

    sources: list[str | ArraySource]
    counts: list[int]
    selection: Selection
    channels: list[Channel]
    noise_corrections: list[float]
    options: FilterOptions | None
    storage: Storage
    workers: Workers
    outputs: Outputs = field(default_factory=Outputs)
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    cupy_versions: tuple[str, ...] = ()

    @property
    def roots(self) -> list[Path]:
        """The files and folders that are read."""
        read = [path for path in self.inputs if not in_memory(path)]
        return [Path(path) for path in (*read, *self._maps)]

    @property
    def plans(self) -> list[BlockPlan]:
        """How each channel is cut into blocks."""
        return [channel.plan for channel in self.channels]

    @property
    def dtypes(self) -> list[str]:
        """Dtype of each channel's outputs."""
        kept = self.options is None
        made = " and ".join(dict.fromkeys(self.outputs.dtypes))
        return [c.source.dtype.name if kept else made for c in self.channels]

    @property
    def attributes(self) -> dict[str, Any]:
        """Everything that determines the bits, as JSON."""
        attributes = {
            **self._steps,
            "sources": [str(source) for source in self.sources],
            "channels_of_sources": self.counts,
            "inputs": list(self.inputs.values()),
            **self._camera,
            **self.selection.to_attributes(),
            "acquisitions": [
                channel.source.acquisition.to_attributes() for channel in self.channels
            ],
            "codec": self.storage.codec,
            "keep_bits": self.storage.keep_bits,
            "relative_error_of_rounding": self.storage.relative_error,
            "plan": [
                {
                    **{key: getattr(plan, key) for key in ("shape", "chunks", "block", "halo")},
                    **({"halo_fr": plan.halo_fr} if plan.halo_fr else {}),
                }
                for plan in self.plans
            ],
            "blocks": sum(plan.n_blocks for plan in self.plans),
        }
        plain: dict[str, Any] = json.loads(json.dumps(attributes, default=lambda n: n.tolist()))
        return plain

    @property
    def _steps(self) -> dict[str, Any]:
        """What is done with the frames that are read, and what is stored of it."""
        if self.options is None:
            return {"steps": [], "outputs": [RAW], "dtypes": self.dtypes}
        chains = [channel.steps for channel in self.channels]
        engine = self.options.to_attributes(self.cupy_versions)
        if all(map(mean_alone, chains)):
            means: list[Any] = [chain[0] for chain in chains]
            info = mean_info(means)
            info.pop("channels_mean_radius_pix")
            factors = {"noise_corrections": self.noise_corrections}
            return {**info, **factors, **engine, **self.outputs.to_attributes()}
        if self.options.engine == "fused":
            engine["engine_version"] = loops_version(chains[0])
        return {
            "steps": [[step.to_attributes() for step in chain] for chain in chains],
            "noise_corrections": self.noise_corrections,
            **engine,
            **self.outputs.to_attributes(),
        }

    @property
    def _maps(self) -> dict[str, str]:
        """The fingerprint of each map of the cameras, by its path."""
        cameras = [channel.camera for channel in self.channels if channel.camera is not None]
        return {one.path: one.digest for camera in cameras for one in camera.maps}

    @property
    def _camera(self) -> dict[str, Any]:
        """What is known of the cameras, if anything depends on them."""
        cameras = [channel.camera for channel in self.channels if channel.camera is not None]
        if not cameras:
            return {}
        each = [camera.to_attributes() for camera in cameras]
        return {
            **{name: [one[name] for one in each] for name in each[0]},
            "photons": cameras[0].photons,
            "maps": self._maps,
        }

    def measured(self, channel: int) -> Measured | None:
        """Return what the SNR of a channel depends on, if it is stored."""
        camera = self.channels[channel].camera
        if camera is None or SNR not in self.outputs.names:
            return None
        return Measured(self.noise_corrections[channel], camera)

    def task(self, channel: int, block: Block, targets: tuple[ChunkFiles, ...]) -> Task:
        """Return the task of one block."""
        one = self.channels[channel]
        source, chunk_frames = one.source.part(block.read), one.plan.chunks[0]
        return Task(
            channel, source, targets, block, one.steps, chunk_frames, self.measured(channel)
        )

    def with_inputs(self) -> "Job":
        """Record the present fingerprint of the sources, and CuPy's versions on the workers."""
        # Blocks are filtered where the workers are: a client's own machine needs no device.
        cuda = self.options is not None and self.options.cuda
        versions = on_every_worker(device.require_device) if cuda else ()
        return replace(self, inputs=_identities(self.sources), cupy_versions=tuple(versions))

    def as_begun(self, destination: Path) -> "Job":
        """Cut the channels as the begun store was cut, even if the memory limit is another now."""
        if not os.path.lexists(destination):
            return self
        begun = read_metadata(destination).attributes.get("plan", [])
        with refusing_damage(destination):
            if len(begun) != len(self.channels):
                return self  # `writing` will report the difference
            plans = [
                replace(plan, chunks=tuple(cut["chunks"]), block=tuple(cut["block"]))
                for plan, cut in zip(self.plans, begun, strict=True)
            ]
            channels = [replace(c, plan=plan) for c, plan in zip(self.channels, plans, strict=True)]
            workers = replace(self.workers, threads=side_by_side(channels, self.workers))
        return replace(self, channels=channels, workers=workers)

    def check_inputs(self) -> None:
        """Refuse movies that have changed since the job was prepared.

        Raises
        ------
        SourceReadError
            If one has, or is gone.
        """
        before: dict[str, Any] = {**self.inputs, **self._maps}
        now = {**_identities(self.sources), **{path: digest_of(path) for path in self._maps}}
        differing = [path for path in now if before.get(path) != now[path]]
        differing += [path for path in before if path not in now]
        if differing:
            work = "it was copied" if self.options is None else "its background was computed"
            raise SourceReadError(
                f"{differing[0]} has changed while {work}: the store stays "
                "unfinished; start again once it no longer changes, or restore it and "
                "resume with resume=True (--resume), which computes all blocks again"
            )


def prepare(
    sources: Sequence[AnySource] | DescribedMovie,
    steps: Any,
    *,
    selection: Selection,
    options: FilterOptions | None,
    storage: Storage,
    outputs: Outputs = BACKGROUND_ALONE,
    overrides: Overrides | None = None,
    camera: CameraSettings | None = None,
    noise_corrections: Any = None,
    memory_limit: int | str | None = None,
    planned: int | Workers | None = None,
) -> Job:
    """Open sources and cut them into blocks; parameters and errors are `run_spatial_mean`'s.

    Blocks are cut for the `planned` workers instead of the present ones, if they are given. With
    `KEEP` as steps, and no options, frames are kept as they are.
    """
    opened: list[str | ArraySource] = []
    if isinstance(sources, DescribedMovie):
        found = selection.stacks([Recording.of(sources, "none")])
    else:
        taken = [as_source(source, f"sources[{i}]") for i, source in enumerate(sources)]
        found = open_sources(*taken, selection=selection)
        opened = [s if isinstance(s, ArraySource) else str(absolute_path(s)) for s in taken]
    stacks = [stack for channels in found for stack in channels]
    if overrides is not None:
        strides = [abs(stack.frames.step) for stack in stacks]
        recorded = overrides.applied([stack.acquisition for stack in stacks], strides)
        stacks = [replace(s, acquisition=one) for s, one in zip(stacks, recorded, strict=True)]
    workers = workers_for(memory_limit, planned)
    cameras = None if camera is None else camera.of(stacks)
    if cameras is not None:
        stacks = [in_photons(s, camera) for s, camera in zip(stacks, cameras, strict=True)]
    rounded = storage.relative_error > 0
    channels = cut_into_blocks(stacks, steps, workers, outputs, cameras, rounded=rounded)
    if active_client() is not None:
        check_sent(channels)
    workers = replace(workers, threads=side_by_side(channels, workers))
    given = noise_corrections
    if isinstance(given, Sequence | np.ndarray) and not isinstance(given, str | bytes):
        given = tuple(given)  # a tuple is not updated in place: the caller's own stay unchanged
    corrections = parameters.check_corrections(given, len(channels))
    factors = [
        float(noise_correction_of(channel.steps, factor))
        for factor, channel in zip(corrections, channels, strict=True)
        if channel.steps
    ]
    if SNR in outputs.names and 0 in factors:
        raise ValueError(
            f"the noise correction of channel {factors.index(0)} is 0, by which the SNR divides: "
            "pass noise_corrections above 0, and a radius above 1 px"
        )
    counts = [len(channels) for channels in found]
    return Job(
        opened,
        counts,
        selection,
        channels,
        factors,
        options,
        storage,
        workers,
        outputs,
    )


def recorded_job(attributes: Mapping[str, Any]) -> Job:
    """Prepare again the job that wrote a store; an error if a movie cannot be opened as before."""
    for source in attributes["sources"]:
        if in_memory(source):
            raise ValueError(not_kept(source))
    options, storage = recorded_options(attributes)
    raw = holds_raw(attributes)
    job = prepare(
        attributes["sources"],
        KEEP if raw else of_all_channels(recorded_chains(attributes)),
        selection=Selection.from_attributes(attributes),
        options=options,
        storage=storage,
        outputs=BACKGROUND_ALONE if raw else Outputs.recorded(attributes),
        camera=CameraSettings.recorded(attributes),
    )
    channels = job.channels
    if "acquisitions" in attributes:  # the user may have said other than the files do
        told = recorded_acquisitions(attributes, len(channels))
        channels = [
            replace(channel, source=replace(channel.source, acquisition=acquisition))
            for channel, acquisition in zip(channels, told, strict=True)
        ]
    # The store records the factors after the job, not those that were passed to it.
    factors = [] if raw else attributes["noise_corrections"]
    return replace(job.with_inputs(), channels=channels, noise_corrections=factors)


def recorded_channels(attributes: Mapping[str, Any]) -> list[Channel | str]:
    """Return each channel of a store, or a text that says why its movie cannot be read again."""
    plans, chains = stored_plans(attributes), recorded_chains(attributes)
    stacks = reopened_channels(attributes)
    cameras = recorded_cameras(attributes, stacks)
    channels: list[Channel | str] = []
    for stack, camera, plan, chain in zip(stacks, cameras, plans, chains, strict=True):
        if isinstance(stack, str) or isinstance(camera, str):
            channels.append(stack if isinstance(stack, str) else str(camera))
        else:
            channels.append(Channel(stack, plan, chain, camera))
    return channels


def recorded_options(attributes: Mapping[str, Any]) -> tuple[FilterOptions | None, Storage]:
    """Return how the blocks of a store were filtered and encoded."""
    if holds_raw(attributes):
        return None, Storage.recorded(attributes)
    options = FilterOptions.checked(engine=attributes["engine"], cuda=attributes["cuda"])
    return options, Storage.recorded(attributes)


def _identities(sources: Sequence[str | ArraySource]) -> dict[str, dict[str, Any]]:
    """Return the fingerprint of each file, folder or array of the sources, by its path or name."""
    found = {}
    for source in sources:
        if isinstance(source, ArraySource):
            found[str(source)] = source.identity()
            continue
        found |= {str(root): source_identity(root) for root in source_roots(source)}
    return found
