"""The movies that a store of backgrounds came from, opened once more: channel by channel."""

import glob
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from smlmlp_dask.messages import one_line
from smlmlp_dask.movies.formats.tiff import is_tiff
from smlmlp_dask.movies.identity import source_identity
from smlmlp_dask.movies.opening import open_stacks, source_roots
from smlmlp_dask.movies.stack import Stack


def reopened_channels(attributes: Mapping[str, Any]) -> list[Stack | str]:
    """Open the channels again from which a store of backgrounds was computed.

    Parameters
    ----------
    attributes : mapping
        What the store says of itself, as `read_attributes` returns it.

    Returns
    -------
    list of Stack or str
        For each channel its raw stack; or in words why there is none: the movie is gone, is not
        what it was, or cannot be opened. One movie that is gone leaves the others as they are.

    Raises
    ------
    LookupError, TypeError, ValueError, AttributeError
        If the attributes are damaged.
    """
    sources, plans, flips = (attributes[key] for key in ("sources", "plan", "flips"))
    all_boxes = attributes["bboxes"] or [None] * len(sources)
    changes = _changes(sources, attributes["inputs"])
    channels: list[Stack | str] = []
    for source, boxes, change in zip(sources, all_boxes, changes, strict=True):
        own = slice(len(channels), len(channels) + (1 if boxes is None else len(boxes)))
        shapes = [tuple(plan["shape"]) for plan in plans[own]]
        if change:
            channels += [change] * len(shapes)
        else:
            channels += _opened(attributes, source, boxes, flips and flips[own], shapes)
    if len(channels) != len(plans):
        raise ValueError(f"it has {len(plans)} channels and sources of {len(channels)}")
    return channels


def _opened(
    attributes: Mapping[str, Any],
    source: str,
    boxes: Any,
    flips: Any,
    shapes: Sequence[tuple[int, ...]],
) -> Sequence[Stack | str]:
    """Return the channels of one source, which must be of these shapes."""
    frames = attributes["frames"]
    # A description of headerless movies is refused where there is none.
    is_headerless = Path(source).is_file() and not is_tiff(Path(source))
    try:
        stacks = open_stacks(
            source,
            bboxes=[boxes],
            flips=flips,
            frames=None if frames is None else slice(*frames),
            raw_shape=attributes["raw_shape"] if is_headerless else None,
            raw_dtype=attributes["raw_dtype"] if is_headerless else None,
        )
    except (OSError, ValueError, TypeError) as error:
        return [one_line(error)] * len(shapes)
    return [
        stack if stack.shape == shape else _changed(source)
        for stack, shape in zip(stacks, shapes, strict=True)
    ]


def _changes(sources: Sequence[str], inputs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say for each source why it is not what was read; nothing where it is."""
    recorded = {identity["path"]: identity for identity in inputs}
    present: list[dict[str, Any] | str] = []
    for source in sources:
        try:
            identities = [source_identity(root) for root in source_roots(source)]
        except (OSError, ValueError) as error:
            present.append(one_line(error))
        else:
            present.append({identity["path"]: identity for identity in identities})
    seen = {path for found in present if isinstance(found, dict) for path in found}
    lost = [path for path in recorded if path not in seen]
    # A file may have gone from a pattern that still matches others. Where a link led to the file,
    # its name does not tell from which: from one that has gone as a whole, or else from any.
    patterns = {s: found for s, found in zip(sources, present, strict=True) if _is_pattern(s)}
    gone = [source for source, found in patterns.items() if isinstance(found, str)]
    may_have = {source: _matcher(source) for source in sources}
    owners = [[s for s in sources if may_have[s](path)] or gone or [*patterns] for path in lost]
    poorer = {source for found in owners for source in found}
    changes = []
    for source, found in zip(sources, present, strict=True):
        if isinstance(found, str):
            changes.append(found)
        elif source in poorer or not found.items() <= recorded.items():
            changes.append(_changed(source))
        else:
            changes.append("")
    return changes


def _is_pattern(source: str) -> bool:
    return glob.has_magic(source) and not Path(source).exists()


def _matcher(source: str) -> Callable[[str], bool]:
    """Return what tells whether a recorded path, which is gone, may be of this source."""
    fixed = Path(source)
    if not _is_pattern(source):
        return {str(part) for part in (fixed.resolve(), *fixed.resolve().parents)}.__contains__
    while not fixed.exists() and glob.has_magic(str(fixed)):
        fixed = fixed.parent
    folder, names = fixed.resolve(), Path(source).relative_to(fixed)
    pattern = f"{glob.escape(str(folder))}/{str(names).replace('**/', '*')}"
    if "**" in names.parts:
        return lambda path: fnmatchcase(path, pattern)
    # A single star, which matches separators here, must not have matched any.
    depth = len(Path(folder, names).parts)
    return lambda path: fnmatchcase(path, pattern) and len(Path(path).parts) == depth


def _changed(source: str) -> str:
    return f"{source} has changed since its background was computed"
