"""What a store holds of each channel: its outputs, and where their arrays lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from smlmlp_dask.blocks import BlockPlan

from .chunk_files import ChunkFiles, chunk_path
from .codecs import RAW, Storage

BACKGROUND, SIGNAL, SNR, MEAN = "background", "signal", "snr", "mean_background"

NAMES = (BACKGROUND, SIGNAL, SNR, MEAN)
"""Outputs of filtered frames, in the order of their checksums."""

DEFAULT = (BACKGROUND,)
"""The outputs of stores that note none."""


@dataclass(frozen=True)
class Output:
    """One thing that a job stores of each channel.

    Attributes
    ----------
    name : str
        One of `NAMES`, or ``raw``: frames as they are.
    dtypes : tuple of str
        Of each channel.
    """

    name: str
    dtypes: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Where its images lie in the store, with a slash: backgrounds at the top, as ever."""
        return "" if self.name in (BACKGROUND, RAW) else f"{self.name}/"

    def array(self, path: Path, channel: int) -> Path:
        """Return the folder of the array that holds the pixels of a channel."""
        return path / f"{self.folder}channel_{channel}" / "0"

    def storage(self, storage: Storage) -> Storage:
        """Return how its pixels are encoded: SNRs, as noisy as raw frames, as these are."""
        return replace(storage, raw=storage.raw or self.name == SNR)

    def layout(self, plan: BlockPlan) -> BlockPlan:
        """Return how its array is cut, by the plan of its channel; blocks keep their numbers."""
        return plan.planes if self.name == MEAN else plan


class Placed(NamedTuple):
    """The array of one output of a channel: how it is cut, and its folder."""

    plan: BlockPlan
    array: Path

    def files_of(self, number: int) -> list[Path]:
        """Return the files of the chunks of a block, by its number."""
        places = self.plan.chunks_of(self.plan.nth_block(number))
        return [chunk_path(self.array, place) for place in places]


def stored_outputs(attributes: Mapping[str, Any], count: int) -> list[Output]:
    """Return the outputs of so many channels, by the attributes of their store."""
    names = attributes.get("outputs", DEFAULT)
    if names == [RAW]:
        return [Output(RAW, tuple(str(dtype) for dtype in attributes["dtypes"]))]
    return [Output(name, (dtype_of(name, attributes.get("pedestal")),) * count) for name in names]


def dtype_of(name: str, pedestal: int | None) -> str:
    """Return the dtype of an output of filtered frames: a signal on a pedestal is of counts."""
    return "uint16" if name == SIGNAL and pedestal is not None else "float32"


def counts_clipped(attributes: Mapping[str, Any]) -> bool:
    """Say whether the records of a store also count the clipped pixels of each block."""
    return attributes.get("pedestal") is not None


def unit_of(attributes: Mapping[str, Any]) -> str:
    """Return the unit of a store's frames: counts of the camera, or photons (photoelectrons)."""
    return "photons" if attributes.get("photons") else "counts"


def arrays_of(
    path: Path, outputs: Sequence[Output], plans: Sequence[BlockPlan]
) -> list[tuple[Placed, ...]]:
    """Return the arrays of each channel, one for each output."""
    return [
        tuple(Placed(output.layout(plan), output.array(path, i)) for output in outputs)
        for i, plan in enumerate(plans)
    ]


def writers_of(
    placed: Sequence[Sequence[Placed]],
    outputs: Sequence[Output],
    storage: Storage,
    *,
    synced: bool = False,
) -> list[tuple[ChunkFiles, ...]]:
    """Return the writers of each channel's arrays, which are `arrays_of` the outputs."""
    return [
        tuple(
            ChunkFiles(
                one.array,
                one.plan.chunks,
                output.storage(storage),
                synced=synced,
                dtype=output.dtypes[i],
            )
            for output, one in zip(outputs, own, strict=True)
        )
        for i, own in enumerate(placed)
    ]
