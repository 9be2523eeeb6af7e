"""A job, prepared: all that is known of it before anything runs."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from smlmlp_dask.blocks import BlockPlan
from smlmlp_dask.execution.workers import Workers, on_every_worker
from smlmlp_dask.filters import device, parameters
from smlmlp_dask.filters.kernels import noise_correction, residual_kernel
from smlmlp_dask.filters.spatial_mean import Engine, check_engine, engine_version
from smlmlp_dask.movies.identity import source_identity
from smlmlp_dask.movies.opening import open_stacks, source_roots
from smlmlp_dask.movies.selection import EVERYTHING, Selection
from smlmlp_dask.movies.stack import SourceReadError
from smlmlp_dask.paths import absolute_path
from smlmlp_dask.store.checking import known
from smlmlp_dask.store.codecs import Storage
from smlmlp_dask.store.read import refusing_damage

from .channels import Channel, Source, cut_into_blocks, source_list, workers_for


@dataclass(frozen=True)
class Job:
    """What a run does: channels, how they are cut, filtered and kept.

    Attributes
    ----------
    channels : list of Channel
        Where frames come from, how they are cut into blocks, and how they are filtered.
    roots : list of pathlib.Path
        The files and folders that are read.
    attributes : dict
        Everything that determines the bits, as JSON.
    storage : Storage
        How backgrounds are kept.
    engine : {"auto", "fused", "dask-image"}
        Which filter runs.
    threads : int
        Threads of a block; 0 for as many as the worker has.
    cuda : bool
        Filter on the GPU.
    workers : Workers
        For whom the blocks were cut.
    """

    channels: list[Channel]
    roots: list[Path]
    attributes: dict[str, Any]
    storage: Storage
    engine: Engine
    threads: int
    cuda: bool
    workers: Workers

    @property
    def plans(self) -> list[BlockPlan]:
        """How each channel is cut into blocks."""
        return [channel.plan for channel in self.channels]

    def as_begun(self, destination: Path) -> "Job":
        """Cut the channels as they were cut when the store was begun, whatever memory there was."""
        if not os.path.lexists(destination):
            return self
        begun = known(destination).attributes.get("plan", [])
        with refusing_damage(destination):
            if len(begun) != len(self.channels):
                return self  # which is told as a difference
            channels = [
                replace(
                    channel,
                    plan=replace(
                        channel.plan, chunks=tuple(plan["chunks"]), block=tuple(plan["block"])
                    ),
                )
                for channel, plan in zip(self.channels, begun, strict=True)
            ]
        plans = _plan_attributes([channel.plan for channel in channels])
        return replace(self, channels=channels, attributes={**self.attributes, **plans})

    def check_inputs(self) -> None:
        """Refuse movies that have changed since the job was prepared.

        Raises
        ------
        SourceReadError
            If one has, or is gone.
        """
        before = {entry["path"]: entry for entry in self.attributes["inputs"]}
        now = _identities(self.attributes["sources"])
        differing = [
            entry["path"] for entry in now.values() if before.get(entry["path"]) != entry
        ] + [path for path in before if path not in now]
        if differing:
            raise SourceReadError(
                f"{differing[0]} has changed while its background was computed: the store stays "
                "unfinished; begin anew once the movie rests, or restore it and go on by "
                "resume=True (--resume), which computes all blocks again"
            )


def prepare(
    sources: Source | Sequence[Source],
    radii: Any,
    *,
    noise_corrections: Any = None,
    selection: Selection = EVERYTHING,
    memory_limit: int | str | None = None,
    cuda: bool = False,
    parallel: Any = False,
    engine: Any = "auto",
    codec: Any = "fast",
    keep_bits: Any = None,
) -> Job:
    """Open sources and check everything; parameters and errors are `run_spatial_mean`'s."""
    paths = source_list(sources)
    stacks = open_stacks(*paths, selection=selection)
    workers = workers_for(memory_limit)
    channels = cut_into_blocks(stacks, radii, workers)
    given = noise_corrections  # which stay as they are: a tuple is not updated
    if isinstance(given, Sequence | np.ndarray) and not isinstance(given, str | bytes):
        given = tuple(given)
    corrections = parameters.check_corrections(given, len(channels))
    threads = parameters.check_parallel(parallel)
    engine = check_engine(engine, on_host=not cuda)
    storage = Storage.checked(codec, keep_bits)
    # Blocks are filtered where the workers are: a client's own machine needs no device.
    cupy_versions = on_every_worker(device.require_device) if cuda else []
    recorded = [str(absolute_path(path)) for path in paths]
    means = [channel.mean for channel in channels]
    factors = [
        np.float32(factor) * noise_correction(*mean.sigmas)
        for factor, mean in zip(corrections, means, strict=True)
    ]
    used = _engine_used(engine, cuda=cuda)
    attributes = {
        "channels_mean_radii_pix": [mean.radii for mean in means],
        "spatial_mean_sigmas": [mean.sigmas for mean in means],
        "spatial_mean_kernels_y": [residual_kernel(mean.kernel_y).tolist() for mean in means],
        "spatial_mean_kernels_x": [residual_kernel(mean.kernel_x).tolist() for mean in means],
        "noise_corrections": [float(factor) for factor in factors],
        "engine": used,
        "engine_version": engine_version(used, cupy_versions),
        "cuda": bool(cuda),
        "sources": recorded,
        "inputs": list(_identities(recorded).values()),
        **selection.to_attributes(),
        "codec": storage.codec,
        "keep_bits": storage.keep_bits,
        "relative_error_of_rounding": storage.relative_error,
        **_plan_attributes([channel.plan for channel in channels]),
    }
    plain = json.loads(json.dumps(attributes, default=lambda value: value.item()))
    roots = [Path(entry["path"]) for entry in plain["inputs"]]
    return Job(channels, roots, plain, storage, engine, threads, cuda, workers)


def recorded_job(attributes: Mapping[str, Any]) -> Job:
    """Prepare the job again that wrote a store, from what the store says of itself.

    Raises
    ------
    OSError, ValueError
        If a movie is gone, or not the one that was read.
    """
    job = prepare(
        attributes["sources"],
        [tuple(pair) for pair in attributes["channels_mean_radii_pix"]],
        selection=Selection.from_attributes(attributes),
        **{key: attributes[key] for key in ("cuda", "engine", "codec", "keep_bits")},
    )
    # The factors that were given to the run are not recorded, only what became of them.
    factors = attributes["noise_corrections"]
    return replace(job, attributes={**job.attributes, "noise_corrections": factors})


def _plan_attributes(plans: Sequence[BlockPlan]) -> dict[str, Any]:
    return {
        "plan": [
            {
                "shape": list(plan.shape),
                "chunks": list(plan.chunks),
                "block": list(plan.block),
                "halo": list(plan.halo),
            }
            for plan in plans
        ],
        "blocks": sum(plan.n_blocks for plan in plans),
    }


def _identities(sources: Sequence[Source]) -> dict[str, dict[str, Any]]:
    """Return what tells whether sources have changed, by the path of each file or folder."""
    roots = [root for source in sources for root in source_roots(source)]
    return {str(root): source_identity(root) for root in roots}


def _engine_used(engine: Engine, *, cuda: bool) -> Engine:
    if engine == "auto":
        return "dask-image" if cuda else "fused"
    return engine
