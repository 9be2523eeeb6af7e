"""`verify_backgrounds`: check that a store is whole, and repair it."""

import os
import random
from dataclasses import dataclass, field, replace
from pathlib import Path

from smlmlp_dask.filters import device
from smlmlp_dask.filters.chains import loops_version
from smlmlp_dask.messages import counted, one_line
from smlmlp_dask.paths import absolute_path
from smlmlp_dask.store.checking import Findings, StoreMetadata, check, read_metadata, stored_plans
from smlmlp_dask.store.metadata import RECORDS
from smlmlp_dask.store.outputs import stored_outputs
from smlmlp_dask.store.provenance import differences
from smlmlp_dask.store.read import (
    read_attributes,
    refuse_unfinished,
    refusing_damage,
    stored_stacks,
)

from .block import Measured, Task, computed
from .job import recorded_channels, recorded_job, recorded_options
from .outputs import Outputs
from .running import run_job


@dataclass(frozen=True, repr=False)
class VerifyReport:
    """What was checked and found.

    Attributes
    ----------
    chunks : int
        Chunks whose checksums were compared.
    recomputed : int
        Blocks that were computed again from the source, and compared.
    problems : list of str
        One line for each file that is missing or damaged, and each block that differs; with a
        repair, those that are left.
    repaired : list of str
        One line for each missing or damaged file that was repaired.
    not_compared : list of str
        One line for each channel or block that was to be computed again and could not be: its
        movie is gone, has changed, or cannot be read. The store may be whole all the same.
    """

    chunks: int
    recomputed: int
    problems: list[str]
    repaired: list[str] = field(default_factory=list)
    not_compared: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        found = f"{len(self.problems):,} problem{'s' if len(self.problems) != 1 else ''}"
        said = f"{found}, such as {self.problems[0]!r}" if self.problems else "whole"
        mended = f", {len(self.repaired):,} repaired" if self.repaired else ""
        left = f", {len(self.not_compared):,} not compared" if self.not_compared else ""
        return (
            f"{type(self).__name__}({said}{mended}; chunks={self.chunks}, "
            f"recomputed={self.recomputed}{left})"
        )


def verify_backgrounds(
    path: str | os.PathLike[str],
    *,
    sample: int = 0,
    seed: int | None = None,
    repair: bool = False,
    progress: bool = False,
) -> VerifyReport:
    """Check that a store of backgrounds, or of converted movies, is finished and whole.

    The checksum (CRC-32C) that was recorded when a chunk was written is compared with the one at
    the end of the chunk, and with one computed from its bytes: a chunk that is missing, cut short,
    changed or swapped with another is found. Metadata are compared with their copy.

    Parameters
    ----------
    path : str or path-like
        A finished store.
    sample : int, default 0
        Number of blocks, chosen at random, to compute again from the source and compare bit for
        bit, if the movie is there and unchanged.
    seed : int, optional
        Makes the choice repeatable.
    repair : bool, default False
        Repair what is missing or damaged: chunks are computed again from the recorded sources,
        which must be unchanged. The store then has the bytes of an undisturbed run. During the
        repair it is unfinished; an interrupted repair is gone on with by another.
    progress : bool, default False
        Show a bar on stderr while blocks are computed again.

    Returns
    -------
    VerifyReport
        Its ``problems`` are empty if the store is whole.

    Raises
    ------
    FileNotFoundError
        If `path` does not exist.
    ValueError
        If it is not a store of backgrounds, or not finished; with `repair`, if it cannot be
        repaired: a movie or the engine's version has changed.
    OSError
        With `repair`, if a movie is gone or the store cannot be written.
    RuntimeError
        If blocks were filtered on a GPU and must be computed again, but there is no GPU.

    Examples
    --------
    >>> from smlmlp_dask import run_spatial_mean, verify_backgrounds
    >>> path = run_spatial_mean("movie.tif", "background.zarr", 7.0).path
    >>> report = verify_backgrounds(path, sample=1)
    >>> report.chunks, report.recomputed, report.problems
    (1, 1, [])
    """
    path = absolute_path(path)
    store = read_metadata(path)
    if not store.finished:
        if not (repair and (path / RECORDS / "c").exists()):  # it has never been finished
            refuse_unfinished(path, read_attributes(path))
        _repair(path, store, None, progress=progress)
        left = "what an interrupted repair had left"
        return replace(verify_backgrounds(path, sample=sample, seed=seed), repaired=[left])
    with refusing_damage(path, ValueError):
        plans = stored_plans(store.attributes)
    findings = check(path, store, plans)
    if repair and findings.problems:
        _repair(path, store, findings, progress=progress)
        again = verify_backgrounds(path, sample=sample, seed=seed)
        return replace(again, repaired=findings.problems)
    if not sample:
        return VerifyReport(findings.chunks, 0, findings.problems)
    with refusing_damage(path, ValueError):
        compared = _compared(path, store, findings.whole, sample, seed)
    return replace(
        compared, chunks=findings.chunks, problems=[*findings.problems, *compared.problems]
    )


def _repair(path: Path, store: StoreMetadata, findings: Findings | None, *, progress: bool) -> None:
    """Run the job again that wrote a store, to make anew what is damaged.

    Without findings, go on with an interrupted repair.
    """
    found = (
        "an interrupted repair" if findings is None else counted(len(findings.problems), "problem")
    )
    with refusing_damage(path):
        try:
            job = recorded_job(store.attributes)
        except (OSError, ValueError) as error:
            kind = OSError if isinstance(error, OSError) else ValueError
            raise kind(
                f"{path} has {found} and cannot be repaired, nothing was changed: {one_line(error)}"
            ) from error
    differing = differences(store.attributes, job.as_begun(path).attributes)
    if differing:
        raise ValueError(
            f"{path} has {found} and cannot be repaired, nothing was changed: "
            f"{'; '.join(differing)}; restore the movie, or install the version that wrote it"
        )
    run_job(job, path, resume=True, progress=progress, found=findings)


def _compared(
    path: Path,
    store: StoreMetadata,
    whole: dict[tuple[int, int], list[int]],
    sample: int,
    seed: int | None,
) -> VerifyReport:
    """Compute some blocks again; report how many, and what differs or cannot be compared."""
    attributes = store.attributes
    options, storage = recorded_options(attributes)
    if options is not None and options.cuda:
        device.require_device()
    channels = [*enumerate(recorded_channels(attributes))]
    count = len(channels)
    outputs = Outputs() if options is None else Outputs.recorded(attributes)
    left_out = [f"channel_{i}: not compared: {why}" for i, why in channels if isinstance(why, str)]
    problems: list[str] = []
    blocks = [
        (i, channel, block)
        for i, channel in channels
        if not isinstance(channel, str)
        for block in channel.plan.blocks()
        if (i, block.number) in whole  # the others are among the problems already
    ]
    try:
        stored = [stored_stacks(path, output) for output in stored_outputs(attributes, count)]
    except ValueError:  # metadata are damaged, and among the problems
        return VerifyReport(0, 0, problems, not_compared=left_out)
    compared, other, remedy = 0, "", "run it again to another destination"
    if options is not None and options.engine == "fused":
        chains = [channel.steps for _, channel, _ in blocks[:1]]
        now, was = [loops_version(chain) for chain in chains], attributes["engine_version"]
        if now and now[0] != was:
            other = f", by engine version {now[0]} in place of {was}"
            remedy = "install the version that wrote it, or run it again to another destination"
    for i, channel, block in random.Random(seed).sample(blocks, min(sample, len(blocks))):
        what = f"channel_{i}, frames {block.inner[0].start}-{block.inner[0].stop - 1}"
        part, measured = channel.source.part(block.read), None
        try:
            frames = part.read()
        except OSError as error:
            left_out.append(f"{what}: not compared: {one_line(error)}")
            continue
        compared += 1
        if channel.camera is not None:
            measured = Measured(attributes["noise_corrections"][i], channel.camera)
        task = Task(i, part, (), block, channel.steps, channel.plan.chunks[0], measured)
        again = computed(task, frames, options=options, outputs=outputs, storage=storage)
        if any(
            stored[output][i].part(box).read().tobytes() != pixels.tobytes()
            for output, box, pixels, _ in again
        ):
            problems.append(f"{what}: not what the source gives{other}; {remedy}")
    return VerifyReport(0, compared, problems, not_compared=left_out)
