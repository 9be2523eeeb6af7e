"""Micro-Manager's image stacks: one or more files, opened by any of them."""

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile, TiffPage, natural_sorted
from tifffile.tifffile import read_micromanager_metadata

from smlmlp_dask.movies.acquisition import Acquisition
from smlmlp_dask.movies.recording import Recording

from .frames import open_file
from .tiff_file import all_pages, micromanager_tag, parsing, readable_pages
from .tiff_planes import ABSENT, no_planes, position_of

_STACK = "_MMStack"


def is_mmstack(tif: TiffFile) -> bool:
    """Say whether a file is one of Micro-Manager's image stacks."""
    if not tif.is_micromanager:
        return False
    tif.filehandle.seek(32)
    if tif.filehandle.read(4) not in (_SUMMARY, _SUMMARY[::-1]):
        return False
    found = read_micromanager_metadata(tif.filehandle, {"Summary"})
    return found.get("MajorVersion", 1) == 0 and "Frames" in found.get("Summary", {})


_SUMMARY = (2355492).to_bytes(4, "little")
"""What stands before the summary in Micro-Manager's header."""


def mmstack_files(path: Path) -> list[Path]:
    """Return the files of a stack: those of one name up to ``_MMStack``."""
    prefix, found, _ = path.name.partition(_STACK)
    if not found:
        return [path]
    pattern = f"{glob.escape(prefix + _STACK)}*"
    names = [f.name for f in path.parent.glob(pattern) if f.suffix.lower() in {".tif", ".tiff"}]
    return [path.parent / name for name in natural_sorted(names)]


def open_mmstack(path: Path) -> Recording:
    """Open all positions of a Micro-Manager stack.

    Raises
    ------
    ValueError
        If a file is of another acquisition, or two have the same frames.
    """
    paths = mmstack_files(path)
    files = [all_pages(file) for file in paths]
    summaries, indices = zip(*map(_mm_index, paths), strict=True)
    summary = summaries[paths.index(path)]
    for file, other in zip(paths, summaries, strict=True):
        if any(other.get(key) != summary.get(key) for key in _SAME):
            raise ValueError(
                f"{file} and {path} have names of one set, but are of two acquisitions: keep "
                "them in folders of their own"
            )
    sizes = [max(int(summary.get(key) or 1), 1) for key in ("Frames", "Channels", "Slices")]
    rows = np.concatenate(indices)
    if not len(rows):
        raise ValueError(f"{path} holds no image: nothing was recorded")
    shape = np.maximum(sizes, rows[:, :3].max(axis=0) + 1)
    numbers = np.unique(rows[:, 3])
    planes = no_planes(path, (len(numbers), *shape.tolist()))
    why = ""
    for at, (opened, index) in enumerate(zip(files, indices, strict=True)):
        there = index[:, 4] < opened.movie.shape[0]
        if not there.all():
            why = why or opened.why(int(index[~there, 4].min()))
        t, c, z, position, page = index[there].T
        places = np.stack([np.searchsorted(numbers, position), t, c, z], axis=1)
        taken = planes[(*places.T, 0)] != ABSENT
        if taken.any() or len(np.unique(places, axis=0)) < len(places):
            raise ValueError(
                f"{paths[at]} holds frames that are in the set already: a file is there twice; "
                "keep copies elsewhere"
            )
        planes[(*places.T,)] = np.stack([np.full_like(page, at), page], axis=1)
    why = why or f"it was to have {shape[0]} frames, its files hold fewer"
    channels = summary_channels(summary, files[0].first_tags, int(shape[1]))
    positions = [
        position_of(
            str(path),
            [file.movie for file in files],
            planes[at],
            name=_position_name(summary, paths, indices, int(number)),
            channels=channels,
            why=why,
        )
        for at, number in enumerate(numbers)
    ]
    own = np.unique(indices[paths.index(path)][:, 3])
    return Recording(
        path=str(path),
        format="Micro-Manager",
        positions=tuple(positions),
        # a file of one position stands for it
        default=int(np.searchsorted(numbers, own[0])) if len(own) == 1 else None,
    )


_SAME = ("Width", "Height", "PixelType", "Channels", "Slices", "Frames", "Positions", "StartTime")


def _mm_index(path: Path) -> tuple[dict[str, Any], NDArray[np.int64]]:
    """Return the summary of a file, and for each page its frame, channel, slice and position."""
    with parsing(path), open_file(path) as tif:
        summary: dict[str, Any] = read_micromanager_metadata(tif.filehandle, {"Summary"})["Summary"]
        tif.filehandle.seek(8)
        ended = any(tif.filehandle.read(8))
        pages = readable_pages(tif)
        if not ended:
            return summary, _mm_tags(path, pages)
        index = read_micromanager_metadata(tif.filehandle, {"IndexMap"}).get("IndexMap")
    if index is None or not len(index):
        return summary, _mm_tags(path, pages)
    number = {page.offset: n for n, page in enumerate(pages)}
    numbers = [number.get(int(offset), len(pages)) for offset in index[:, 4]]
    channel, z, t, position = (index[:, n].astype(np.int64) for n in range(4))
    return summary, np.stack([t, channel, z, position, np.array(numbers)], axis=1)


_PLACE = ("FrameIndex", "ChannelIndex", "SliceIndex", "PositionIndex")


def _mm_tags(path: Path, pages: Sequence[Any]) -> NDArray[np.int64]:
    """Return what the pages themselves say of their places: recording ended with a crash."""
    rows = []
    with parsing(path), open_file(path) as tif:
        for n, page in enumerate(pages):
            tif.filehandle.seek(page.offset)
            said = micromanager_tag(TiffPage(tif, index=n))
            if not said and n:
                break  # the last one was being written
            rows.append([said.get(key) for key in _PLACE] + [n])
    if any(not isinstance(number, int) for row in rows for number in row):
        raise ValueError(
            f"{path} has no index of its images, since its recording was not ended: open it in "
            "Micro-Manager, which mends it, or save it as a new TIFF"
        )
    return np.array(rows, np.int64).reshape(-1, 5)


def _position_name(
    summary: Mapping[str, Any],
    paths: Sequence[Path],
    indices: Sequence[NDArray[np.int64]],
    number: int,
) -> str:
    stage = summary.get("StagePositions") or summary.get("InitialPositionList") or []
    if isinstance(stage, list) and number < len(stage) and isinstance(stage[number], dict):
        label = stage[number].get("Label") or stage[number].get("label")
        if label:
            return str(label)
    for path, index in zip(paths, indices, strict=True):
        if set(index[:, 3].tolist()) == {number}:
            rest = path.name.partition(_STACK)[2].removeprefix("_")
            return rest.partition(".")[0]
    return f"Pos{number}"


def summary_channels(
    summary: Mapping[str, Any], first: Mapping[str, Any], count: int
) -> list[Acquisition]:
    """Return what a summary, and the metadata of the first image, say of so many channels."""
    names, colours = summary.get("ChNames") or [], summary.get("ChColors") or []
    size = _positive(summary.get("PixelSize_um")) or _positive(first.get("PixelSizeUm"))
    interval = _positive(summary.get("Interval_ms"))
    exposure = _positive(first.get("Exposure-ms"))
    channels = []
    for number in range(count):
        colour = colours[number] if number < len(colours) else None
        channels.append(
            Acquisition(
                channel=str(names[number]) if number < len(names) else None,
                pixel_size_um=(size, size) if size else None,
                frame_interval_s=interval / 1000 if interval else None,
                exposure_s=exposure / 1000 if exposure and count == 1 else None,
                colour=f"{colour & 0xFFFFFF:06X}" if isinstance(colour, int) else None,
            )
        )
    return channels


def _positive(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) and number > 0 else None
