"""Where the frames of each channel come from, in words."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smlmlp_dask.messages import printable
from smlmlp_dask.movies.selection import Selection

_FLIPS = {
    (True, False): "flipped upside down (y)",
    (False, True): "flipped left to right (x)",
    (True, True): "flipped in y and x",
}


def origins(attributes: Mapping[str, Any]) -> list[str]:
    """Return for each channel its source, box, frames and flips, by the attributes of its store.

    Frames, rows and columns are counted from 0, and the last one named is included.

    Raises
    ------
    LookupError, TypeError, ValueError, AttributeError
        If the attributes are damaged.
    """
    selection = Selection.from_attributes(attributes)
    sources = attributes["sources"]
    parts = selection.by_source(len(sources))
    counts = attributes.get("channels_of_sources") or [part.boxes_of_each for part in parts]
    texts = []
    for source, part, count in zip(sources, parts, counts, strict=True):
        boxes = (part.bboxes or (None,))[0] or (None,)
        several = count // len(boxes)
        for number in range(count):
            image, box = divmod(number, len(boxes))
            words = [printable(Path(source).name)]
            words += _chosen(part)
            if several > 1:
                words.append(f"image {image + 1} of {several}")
            texts.append((words, boxes[box], part.frames))
    flips = selection.flips or (None,) * len(texts)
    return [
        ", ".join([*words, *_box(box), *_frames(frames, plan["shape"][0]), *_flip(flip)])
        for (words, box, frames), plan, flip in zip(texts, attributes["plan"], flips, strict=True)
    ]


def _chosen(part: Selection) -> list[str]:
    z = None if part.z is None else (part.z,)
    named = (("channel", part.channels), ("position", part.positions), ("z", z))
    words = [f"{what} {printable(', '.join(map(str, of)))}" for what, of in named if of is not None]
    return [*words, "salvaged"] if part.salvage else words


def _box(box: Any) -> list[str]:
    if box is None:
        return []
    x0, y0, x1, y1 = box
    return [f"columns {x0}\N{EN DASH}{x1 - 1}, rows {y0}\N{EN DASH}{y1 - 1}"]


def _frames(frames: Any, count: int) -> list[str]:
    """Say which frames of the movie were taken; nothing where that is all of them."""
    if frames is None or frames == slice(None):
        return []
    step = 1 if frames.step is None else frames.step
    first = 0 if frames.start is None else frames.start
    if step < 0 or first < 0 or not count:  # which ones depends on the length of the movie
        given = (frames.start, frames.stop, frames.step)
        return ["frames " + ":".join("" if part is None else str(part) for part in given)]
    last = first + step * (count - 1)
    every = "" if step == 1 else f", one in {step}"
    which = f"frame {first}" if first == last else f"frames {first}\N{EN DASH}{last}{every}"
    return [f"{which} of the movie"]


def _flip(flip: Any) -> list[str]:
    return [_FLIPS[tuple(flip)]] if flip is not None and any(flip) else []
