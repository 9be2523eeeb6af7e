"""What `info` says of a store, besides its channels: one fact a line."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from smlmlp_dask.messages import counted, printable
from smlmlp_dask.movies.selection import Selection
from smlmlp_dask.pipeline.outputs import Outputs, clipping
from smlmlp_dask.store.checking import clipped_pixels
from smlmlp_dask.store.codecs import Storage, holds_raw

LISTED_SOURCES = 8
"""Most sources in the list; a store of a file for each frame has very many."""

Fact = tuple[str, str]
"""What a line is about, and what it says."""


def facts(path: Path, attributes: Mapping[str, Any], *, whole: bool) -> list[str]:
    """Return lines that say how a store was made; pixels are counted only if it is `whole`."""
    return [f"{name}: {text}" for name, text in _facts(path, attributes, whole=whole)]


def outputs_text(path: Path, attributes: Mapping[str, Any], *, whole: bool) -> str:
    """Say what a store holds of filtered frames, and how much of a signal was clipped."""
    outputs = Outputs.recorded(attributes)
    texts = [f"{n} ({d})" for n, d in zip(outputs.names, outputs.dtypes, strict=True)]
    if attributes.get("photons"):
        texts.append("in photons")
    if outputs.pedestal is None:
        return ", ".join(texts)
    text = f"{', '.join(texts)}, pedestal {outputs.pedestal}"
    if not whole:
        return text
    clipped = sum(clipped_pixels(path, attributes) or ())
    told = clipping(clipped, outputs.pedestal) if clipped else "no pixel of the signal was clipped"
    return f"{text}; {told}"


def _facts(path: Path, attributes: Mapping[str, Any], *, whole: bool) -> Iterator[Fact]:
    raw = holds_raw(attributes)
    dtypes = ", ".join(dict.fromkeys(attributes["dtypes"])) if raw else ""
    stored = f"raw frames ({dtypes})" if raw else outputs_text(path, attributes, whole=whole)
    yield "stored", stored
    for name in ("gain", "baseline", "variance") if "photons" in attributes else ():
        values = dict.fromkeys(map(str, attributes[name]))
        yield name, printable(", ".join(values))
    yield "codec", _codec(Storage.recorded(attributes))
    yield from _sources(attributes)
    if attributes["flips"]:
        yield (
            "flips",
            ", ".join(f"channel {i} {_flip(f)}" for i, f in enumerate(attributes["flips"])),
        )
    if not raw:
        device = " on a GPU" if attributes["cuda"] else ""
        yield "engine", f"{attributes['engine']} {attributes['engine_version']}{device}"
    yield "versions", ", ".join(f"{k} {v}" for k, v in attributes["versions"].items())


def _codec(storage: Storage) -> str:
    if storage.keep_bits is None:
        return f"{storage.codec}, without loss"
    error = storage.relative_error or 0.0
    return (
        f"{storage.codec}, after rounding to {storage.keep_bits} of 23 mantissa bits (a relative "
        f"error of at most {100 * error:.2g} %)"
    )


def _sources(attributes: Mapping[str, Any]) -> Iterator[Fact]:
    sources: Sequence[str] = attributes["sources"]
    parts = Selection.from_attributes(attributes).by_source(len(sources))
    for i, (source, part) in enumerate(zip(sources, parts, strict=True)):
        if i == LISTED_SOURCES:
            yield "more", f"{counted(len(sources) - i, 'source')} (--json lists them)"
            return
        name = "source" if len(sources) == 1 else f"source {i}"
        yield name, ", ".join([printable(source), *_taken(part)])


def _taken(part: Selection) -> Iterator[str]:
    """Yield what was taken of a source, where it was not all."""
    if isinstance(part.frames, slice):
        numbers = (part.frames.start, part.frames.stop, part.frames.step)
        start, stop, step = ("" if number is None else str(number) for number in numbers)
        yield f"frames {start}:{stop}{step and f':{step}'}"
    for names, what in ((part.channels, "channel"), (part.positions, "position")):
        if names is not None:
            yield f"{what} {printable(', '.join(map(str, names)))}"
    if part.z is not None:
        yield f"slice {part.z}"
    boxes = (part.bboxes or (None,))[0]
    if boxes:
        word = "box" if len(boxes) == 1 else "boxes"
        yield f"{word} {' and '.join(','.join(map(str, box)) for box in boxes)} (x0,y0,x1,y1)"
    if part.salvage:
        yield "salvaged"


def _flip(flip: Sequence[bool] | None) -> str:
    axes = [axis for axis, turned in zip("yx", flip or (), strict=False) if turned]
    return f"mirrored along {' and '.join(axes)}" if axes else "as it is"
