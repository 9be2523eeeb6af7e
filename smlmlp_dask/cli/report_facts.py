"""Facts of a store for its report: sizes, times, settings and how to cite, in words."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from smlmlp_dask.messages import as_size, counted
from smlmlp_dask.store.checking import stored_plans
from smlmlp_dask.store.outputs import SIGNAL, arrays_of, stored_outputs
from smlmlp_dask.store.times import when_written

from .documents import Document

Facts = list[tuple[str, str]]
"""What is told, and what there is to tell."""


def overview(path: Path, store: Document, attributes: Mapping[str, Any]) -> Facts:
    """Return what the job was, how large, and when it ran."""
    channels = store["channels"]
    frames = sum(channel["frames"] for channel in channels)
    shapes = [tuple(plan["shape"]) for plan in attributes["plan"]]
    inputs = attributes["inputs"]
    read, files = (sum(one[key] for one in inputs) for key in ("bytes", "files"))
    outputs = stored_outputs(attributes, len(channels))
    plain = sum(
        prod(output.layout(plan).shape) * np.dtype(dtype).itemsize
        for output in outputs
        for plan, dtype in zip(stored_plans(attributes), output.dtypes, strict=True)
    )
    facts = [
        ("stored", _stored(store, [output.dtypes[0] for output in outputs])),
        (
            "size",
            f"{counted(len(channels), 'channel')}, {counted(frames, 'frame')}, "
            f"{counted(sum(map(prod, shapes)), 'pixel')} in {counted(store['blocks'], 'block')}",
        ),
        ("movies", f"{as_size(read)} in {counted(files, 'file')}"),
        (
            "store",
            f"{as_size(_disk_bytes(path))} on the disk; {as_size(plain)} before "
            "compression" + ("" if store["finished"] else ", once it is finished"),
        ),
    ]
    return facts + _times(path, store, attributes)


def _times(path: Path, store: Document, attributes: Mapping[str, Any]) -> Facts:
    if not store["finished"]:
        return []
    plans = stored_plans(attributes)
    outputs = stored_outputs(attributes, len(plans))
    placed = [one for own in arrays_of(path, outputs, plans) for one in own]
    written = when_written(path, placed)
    if written is None:
        return [("time", "not known: the times of the store's files are not those of a run")]
    begun, finished = written
    seconds = (finished - begun).total_seconds()
    return [
        ("begun", utc(begun)),
        ("finished", utc(finished)),
        ("elapsed", f"{spoken(seconds)} from begun to finished, any pauses included"),
    ]


def utc(time: datetime) -> str:
    """Return a date and a time of day with its time zone."""
    return f"{time:%F %T} UTC"


def listed(texts: Sequence[str]) -> str:
    """Return words one after another, the last after an "and"."""
    return " and ".join(filter(None, (", ".join(texts[:-1]), texts[-1])))


def spoken(seconds: float) -> str:
    """Return a duration as people say it, in at most two units."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    left, parts = round(seconds), []
    for name, size in units:
        count, left = divmod(left, size)
        parts.append((count, name))
    first = next(i for i, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count} {name}" for count, name in parts[first : first + 2] if count)


def cited(store: Document) -> str:
    """Return a sentence that names the software and the method, for a methods section."""
    names = {"mean": "local Gaussian mean", "median": "temporal median", "opening": "opening"}
    steps = [step["step"] for channel in store["channels"] for step in channel["steps"]]
    methods = ", then ".join(names[kind] for kind in dict.fromkeys(steps))
    versions = store["versions"]
    return (
        f"Background by {methods}: smlmlp-dask {versions['smlmlp-dask']} (engine "
        f"{store['engine']} {store['engine_version']}; Python {versions['python']}, NumPy "
        f"{versions['numpy']}, Dask {versions['dask']}, Zarr {versions['zarr']}), after the "
        "definitions of smlmlp 0.1.20."
    )


def _stored(store: Document, dtypes: Sequence[str]) -> str:
    texts = []
    for name, dtype in zip(store["outputs"], dtypes, strict=True):
        text = f"{name.replace('_', ' ')} ({dtype})"
        if name == SIGNAL and store["pedestal_counts"] is not None:
            text += f" on a pedestal of {store['pedestal_counts']} counts{_clipped(store)}"
        texts.append(text)
    return listed(texts)


def _clipped(store: Document) -> str:
    if not store["finished"]:
        return ""
    channels = store["channels"]
    clipped = sum(channel["clipped_pixels"] for channel in channels)
    pixels = sum(prod(channel[key] for key in _SIDES) for channel in channels)
    if not clipped:
        return ", no pixel clipped"
    return f", {counted(clipped, 'pixel')} ({clipped / pixels:.2g} of all) clipped"


_SIDES = ("frames", "height_pix", "width_pix")


def _disk_bytes(path: Path) -> int:
    """Return the sizes of all files; one that goes meanwhile does not count."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                total += Path(folder, name).stat().st_size
    return total
