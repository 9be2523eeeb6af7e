"""The metadata of a store: written once, with a copy to find and repair damage.

Checksums protect the pixels, but not a digit of a noise factor. So one file beside the records
holds a copy of all metadata files, with its own checksum. Only one word changes later,
``finished``; in the copy it stays false.
"""

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from smlmlp_dask.blocks import BlockPlan
from smlmlp_dask.movies.acquisition import Acquisition

from .chunk_files import fill_value
from .codecs import Storage
from .durable import write_whole
from .ome import channel_labels, ome_image, output_label, rendering
from .outputs import MEAN, SIGNAL, SNR, Output, counts_clipped, stored_outputs, unit_of

ATTRIBUTE = "smlmlp_dask"
"""Attribute of the root group that holds everything but the pixels."""

RECORDS = "records"
"""Array of checksums; its folder also holds the metadata copy, the journal and the lock."""

COPY = f"{RECORDS}/metadata.json"
"""Copy of all metadata files. Zarr ignores extra files in an array's folder."""

ROOT = "zarr.json"

RANGES = "display_ranges"
"""Attribute with each channel's range of counts for viewers; stores of earlier versions lack it."""

RANGES_OF = "display_ranges_of"
"""The same of other outputs, by their names."""

PACKAGES = ("smlmlp-dask", "numpy", "scipy", "dask", "dask-image", "numba", "zarr")
"""Packages that determine the bytes of a store: all workers must have the same versions."""


def versions() -> dict[str, str]:
    """Return the versions of Python and the packages that compute and write the pixels."""
    return {"python": platform.python_version(), **package_versions()}


def package_versions() -> dict[str, str]:
    """Return the versions that must be the same on all workers."""
    return {name: version(name) for name in PACKAGES}


def write_metadata(
    path: Path, plans: Sequence[BlockPlan], attributes: Mapping[str, Any], storage: Storage
) -> None:
    """Write the metadata of an unfinished store, and their copy, into an empty folder."""
    count = len(plans)
    outputs = stored_outputs(attributes, count)
    names = [f"{output.folder}channel_{i}" for output in outputs for i in range(count)]
    recorded = recorded_acquisitions(attributes, count)
    # The root lists every channel too, so that a viewer opened on it shows something: of the first
    # output, since the images of one are the channels of one movie.
    everything = ome_image({f"{name}/0": name for name in names[:count]}, recorded)
    own = {**attributes, "metadata_copy": COPY, "finished": False}
    root = zarr.create_group(
        path, zarr_format=3, attributes={"ome": everything, ATTRIBUTE: own}, overwrite=False
    )
    folders = [output.folder[:-1] for output in outputs if output.folder]
    for folder in folders:
        root.create_group(folder)
    labels = channel_labels(recorded)
    images = ((output, i) for output in outputs for i in range(count))
    for name, (output, i) in zip(names, images, strict=True):
        shown, window = None, ranges_of(attributes, output.name, count)[i]
        if window is not None:
            label = output_label(
                labels[i],
                output.folder[:-1],
                pedestal=attributes.get("pedestal"),
                unit=unit_of(attributes),
            )
            shown = rendering(label, recorded[i].colour, window)
        dtype, layout = np.dtype(output.dtypes[i]), output.layout(plans[i])
        taken = recorded[i].every(plans[i].block[0] if output.name == MEAN else 1)
        image = ome_image({"0": name}, [taken], shown)
        in_photons = unit_of(attributes) != "counts" and output.name != SNR
        root.create_group(name, attributes={"ome": image}).create_array(
            "0",
            shape=layout.shape,
            chunks=layout.chunks,
            dtype=dtype,
            compressors=output.storage(storage).compressors(dtype.itemsize),
            fill_value=fill_value(dtype),
            dimension_names=("t", "y", "x"),
            attributes={"units": unit_of(attributes)} if in_photons else {},
        )
    described = "CRC-32C of every chunk: channel after channel, grid in C order"
    if len(outputs) > 1:
        described += f"; {', then '.join(output.name for output in outputs)}"
    if counts_clipped(attributes):
        described += "; at the end the clipped pixels of every block, channel after channel"
    n_records = records_length(plans, attributes)
    root.create_array(
        RECORDS,
        shape=(n_records,),
        chunks=(max(1, n_records),),
        dtype="uint32",
        fill_value=0,
        compressors=[ZstdCodec(level=0), Crc32cCodec()],
        dimension_names=("chunk",) if RANGES in attributes else None,  # xarray needs names
        attributes={"description": described},
    )
    files = [ROOT, f"{RECORDS}/{ROOT}", *(f"{folder}/{ROOT}" for folder in folders)]
    files += [f"{place}/{ROOT}" for name in names for place in (name, f"{name}/0")]
    _write_copy(path, {file: _unclaimed(_text(path / file)) for file in files})


def ranges_of(attributes: Mapping[str, Any], output: str, count: int) -> Sequence[Any]:
    """Return the range of counts of each channel of an output; None where it is not known."""
    own = attributes.get(RANGES) if output not in (SIGNAL, SNR) else None
    return own or attributes.get(RANGES_OF, {}).get(output) or [None] * count


def records_length(plans: Sequence[BlockPlan], attributes: Mapping[str, Any]) -> int:
    """Return how many numbers the records hold: checksums, and counts of clipped pixels."""
    n_counts = sum(plan.n_blocks for plan in plans) if counts_clipped(attributes) else 0
    return chunks_in(plans, stored_outputs(attributes, len(plans))) + n_counts


def chunks_in(plans: Sequence[BlockPlan], outputs: Sequence[Output]) -> int:
    """Return how many chunks all outputs of all channels have."""
    return sum(prod(output.layout(plan).grid) for output in outputs for plan in plans)


def _write_copy(path: Path, texts: Mapping[str, str]) -> None:
    document = {"crc32c": _checksum(texts), "files": texts}
    write_whole(path / COPY, json.dumps(document).encode(), synced=True)


def read_copy(path: Path) -> dict[str, str] | None:
    """Return the copied metadata files by their paths in the store; None if the copy is damaged."""
    try:
        document = json.loads((path / COPY).read_bytes())
        files: dict[str, str] = document["files"]
        if document["crc32c"] == _checksum(files) and ROOT in files:
            return files
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass
    return None


def damaged_metadata(path: Path, copy: Mapping[str, str]) -> list[str]:
    """Return the metadata files that differ from the copy.

    Additions of others, such as notes or consolidated metadata, do not count as damage.
    """
    return [
        file
        for file, text in copy.items()
        if (now := _present_text(path / file)) != text and not _adds_to(now, text)
    ]


def _adds_to(now: str | None, written: str) -> bool:
    """Say whether a document holds all that was written, and more."""
    try:
        document, before = json.loads(now or ""), json.loads(written)
        return bool(_holds(document, before) and document != before)
    except (ValueError, RecursionError):
        return False


def _holds(document: Any, part: Any) -> bool:
    if isinstance(document, dict) and isinstance(part, dict):
        return all(key in document and _holds(document[key], part[key]) for key in part)
    return bool(document == part)


def unusable_metadata(path: Path, rebuilt: Mapping[str, str]) -> dict[str, str]:
    """Return the rebuilt files, all but the root group's, whose originals no longer describe them.

    Other versions write other codecs of the records, names and notes; these are no damage.
    """
    return {
        file: text
        for file, text in rebuilt.items()
        if file != ROOT and _layout(_present_text(path / file)) != _layout(text)
    }


def _layout(text: str | None) -> list[Any] | None:
    try:
        document = json.loads(text or "")
        return [document.get(key) for key in ("node_type", "shape", "data_type", "chunk_grid")]
    except (ValueError, AttributeError, RecursionError):
        return None


def restore_metadata(path: Path, copy: Mapping[str, str]) -> None:
    """Restore damaged metadata files from the copy, and the copy's file if it is damaged.

    A restored root group says that the store is unfinished. Without one, they are no whole copy.
    """
    for file in damaged_metadata(path, copy):
        write_whole(path / file, copy[file].encode(), synced=True)
    if ROOT in copy and read_copy(path) != copy:
        _write_copy(path, copy)


def set_finished(path: Path, *, finished: bool) -> None:
    """Set ``finished`` in the root group; it is on the disk when this returns."""
    text = _unclaimed(_text(path / ROOT))
    if text.count(_UNFINISHED) != 1:
        raise ValueError(f"{path / ROOT} does not say whether the store is finished")
    if finished:
        text = text.replace(_UNFINISHED, _FINISHED)
    write_whole(path / ROOT, text.encode(), synced=True)


def copied_attributes(copy: Mapping[str, str]) -> dict[str, Any]:
    """Return the root group's attributes as they were when the store was begun."""
    attributes: dict[str, Any] = json.loads(copy[ROOT])["attributes"][ATTRIBUTE]
    return attributes


_FINISHED, _UNFINISHED = '"finished": true', '"finished": false'  # as Zarr's JSON spells it


def _unclaimed(text: str) -> str:
    return text.replace(_FINISHED, _UNFINISHED)


def _text(path: Path) -> str:
    return path.read_bytes().decode()  # not read_text, which would translate newlines


def _present_text(path: Path) -> str | None:
    try:
        return _unclaimed(_text(path))
    except (OSError, ValueError):
        return None


def _checksum(files: Mapping[str, str]) -> int:
    return int(google_crc32c.value(json.dumps(files, sort_keys=True).encode()))


def recorded_acquisitions(attributes: Mapping[str, Any], count: int) -> list[Acquisition]:
    """Return how each channel was recorded, as far as a store's attributes say."""
    noted = attributes.get("acquisitions", [{}] * count)  # earlier versions did not note it
    if len(noted) != count:
        raise ValueError(f"acquisitions are of {len(noted)} channels, not {count}")
    return [Acquisition.from_attributes(one) for one in noted]
