"""Reopen the movies that a store of backgrounds was computed from, channel by channel."""

import glob
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from smlmlp_dask.messages import one_line
from smlmlp_dask.movies.arrays import in_memory, not_kept
from smlmlp_dask.movies.camera import Camera, CameraSettings
from smlmlp_dask.movies.identity import source_identity
from smlmlp_dask.movies.opening import open_recording, source_roots
from smlmlp_dask.movies.photons import in_counts, in_photons
from smlmlp_dask.movies.selection import Selection
from smlmlp_dask.movies.stack import Stack


def reopened_channels(
    attributes: Mapping[str, Any], *, as_counts: bool = False
) -> list[Stack | str]:
    """Open again the channels that a store of backgrounds was computed from.

    `attributes` are those of `read_attributes`. Each channel is its raw stack, or a text that says
    why there is none: the movie is gone, has changed, cannot be opened, or was an array in memory.
    The other channels are still opened.
    Frames that were filtered in photoelectrons are so again, unless `as_counts`.

    Raises
    ------
    LookupError, TypeError, ValueError, AttributeError
        If the attributes are damaged.
    """
    sources, plans = attributes["sources"], attributes["plan"]
    selection = Selection.from_attributes(attributes)
    parts, counts = selection.by_source(len(sources)), _channels_of_sources(attributes)
    found = [
        [change] * count if change else _opened(source, part, count)
        for source, part, count, change in zip(
            sources, parts, counts, _changes_of(attributes), strict=True
        )
    ]
    opened = [
        (source, stack)
        for source, stacks in zip(sources, selection.flipped(found), strict=True)
        for stack in stacks
    ]
    if len(opened) != len(plans):
        raise ValueError(f"it has {len(plans)} channels, and its sources have {len(opened)}")
    stacks = [
        _changed(source)
        if isinstance(stack, Stack) and stack.shape != tuple(plan["shape"])
        else stack
        for (source, stack), plan in zip(opened, plans, strict=True)
    ]
    if as_counts or not attributes.get("photons"):
        return stacks
    cameras = recorded_cameras(attributes, stacks)
    return [
        in_photons(stack, camera)
        if isinstance(stack, Stack) and not isinstance(camera, str)
        else str(camera)
        for stack, camera in zip(stacks, cameras, strict=True)
    ]


def reopened_channel(path: Path, attributes: Mapping[str, Any], number: int) -> Stack:
    """Open again, in counts, the raw frames of a channel of the store `path`.

    Raises
    ------
    OSError
        If there are none; the message says why. For damaged attributes see `reopened_channels`.
    """
    stack = reopened_channels(attributes, as_counts=True)[number]
    if isinstance(stack, str):
        raise OSError(f"the raw frames of {path} cannot be read: {stack}")
    return stack


def check_channel(path: Path, attributes: Mapping[str, Any], number: int) -> None:
    """Refuse the movie of a channel as `reopened_channel` does, but do not open it again."""
    counts = _channels_of_sources(attributes)
    owners = [source for source, count in enumerate(counts) for _ in range(count)]
    if change := _changes_of(attributes)[owners[number]]:
        raise OSError(f"the raw frames of {path} cannot be read: {change}")


def _channels_of_sources(attributes: Mapping[str, Any]) -> Sequence[int]:
    """Return how many channels each source has; early stores do not say it."""
    parts = Selection.from_attributes(attributes).by_source(len(attributes["sources"]))
    return attributes.get("channels_of_sources") or [part.boxes_of_each for part in parts]


def recorded_cameras(
    attributes: Mapping[str, Any], stacks: Sequence[Stack | str]
) -> list[Camera | str | None]:
    """Return the camera of each channel that a store was computed with.

    It is None where nothing depends on one, and a text where a map is gone or has changed, or where
    there is a text in place of the channel.
    """
    settings = CameraSettings.recorded(attributes)
    if settings is None:
        return [None] * len(stacks)
    recorded: Mapping[str, str] = attributes["maps"]
    cameras: list[Camera | str | None] = []
    for i, stack in enumerate(stacks):
        if isinstance(stack, str):
            cameras.append(stack)
            continue
        try:
            camera = settings.of_channel(i, in_counts(stack), len(stacks))
        except (OSError, ValueError, TypeError) as error:
            cameras.append(one_line(error))
            continue
        changed = [one.path for one in camera.maps if one.digest != recorded.get(one.path)]
        cameras.append(_changed(changed[0]) if changed else camera)
    return cameras


def recorded_roots(attributes: Mapping[str, Any]) -> list[Path]:
    """Return the files and folders that a store's job read."""
    paths = [identity["path"] for identity in attributes["inputs"]]
    read = [path for path in paths if not in_memory(path)]
    return [Path(path) for path in (*read, *attributes.get("maps", ()))]


def _opened(source: str, part: Selection, count: int) -> Sequence[Stack | str]:
    """Return the channels of one source, or why there are none."""
    try:
        [stacks] = part.stacks([open_recording(source, part.raw)])
    except (OSError, ValueError, TypeError) as error:
        return [one_line(error)] * count
    return stacks if len(stacks) == count else [_changed(source)] * count


def _changes_of(attributes: Mapping[str, Any]) -> list[str]:
    """Return for each source why it cannot be had as it was; an empty text if it can."""
    sources = attributes["sources"]
    files = [source for source in sources if not in_memory(source)]
    inputs = [identity for identity in attributes["inputs"] if not in_memory(identity["path"])]
    of_files = iter(_changes(files, inputs))
    return [not_kept(source) if in_memory(source) else next(of_files) for source in sources]


def _changes(sources: Sequence[str], inputs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return for each source why it is not what was read; an empty text if it is unchanged."""
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
    """Return a function that says whether a lost path may have belonged to this source."""
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
