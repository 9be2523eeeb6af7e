"""A store as one HTML page, with all that a methods section and a reviewer need."""

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from smlmlp_dask import __version__
from smlmlp_dask.filters.chains import recorded_chains
from smlmlp_dask.filters.kernels import without_zero_ends
from smlmlp_dask.filters.spatial_mean import SpatialMean
from smlmlp_dask.filters.wording import in_words, mean_alone, mean_of
from smlmlp_dask.messages import as_size, as_time, counted, one_line, printable
from smlmlp_dask.movies.formats.zarr_movie import repair_command
from smlmlp_dask.movies.stack import Stack
from smlmlp_dask.paths import local_path, refuse_existing, refuse_inside
from smlmlp_dask.pictures.frames import frame_heading
from smlmlp_dask.pictures.origins import origins
from smlmlp_dask.pictures.overview import cards_of, origin_of, warnings_of
from smlmlp_dask.pictures.samples import ChannelSample, raw_stacks, sample_channel
from smlmlp_dask.pipeline.outputs import clipping
from smlmlp_dask.pipeline.verify import verify_backgrounds
from smlmlp_dask.result import open_backgrounds
from smlmlp_dask.store.checking import stored_plans
from smlmlp_dask.store.durable import WRITABLE, not_written, write_whole
from smlmlp_dask.store.outputs import arrays_of, stored_outputs
from smlmlp_dask.store.read import read_attributes, refuse_raw, refusing_damage
from smlmlp_dask.store.reopening import recorded_roots
from smlmlp_dask.store.times import when_written

from .documents import Document, store_document
from .sources import sizes_below
from .stored import outputs_text
from .tables import Fact, recorded_words

DRAWN_CHANNELS = 8
"""Most channels in the picture; the tables hold all."""

LISTED_PROBLEMS = 20
"""Most problems at the top of the page; if there are more, the page lists all further below."""

_REM_PER_INCH = 5.9
"""Letters of 10 points in a picture are then as large as small text of the page."""

_DPI = 144

LISTED_WEIGHTS = 60
"""Most printed weights of a kernel, from its centre outwards."""


def write_report(path: Path, output: Path, *, verify: bool, overwrite: bool = False) -> None:
    """Write a report on a store, finished or not, as one self-contained HTML file.

    It calls a store finished, in green, only if every chunk was compared and is undamaged, for
    which `verify` asks. Damage stands at the top, in red, with its remedy; so do the warnings of
    `plot_result`. If one channel cannot be drawn, the others still are.

    Raises
    ------
    FileNotFoundError
        If the store does not exist.
    FileExistsError
        If the file exists, without `overwrite`.
    ValueError
        If `path` is not a store of backgrounds, or its attributes are damaged, or the file would
        lie inside it or a source.
    OSError
        If the file cannot be written.
    """
    path, output = local_path(path), local_path(output)
    attributes = read_attributes(path)
    refuse_raw(path, attributes)
    store = store_document(path)
    refuse_existing(output, overwrite=overwrite)
    if not output.parent.is_dir():
        raise NotADirectoryError(f"{output.parent} is not a folder: choose one with --output")
    with refusing_damage(path):
        refuse_inside(output, [path, *recorded_roots(attributes)], "page")
        page = _page(path, store, attributes, verify=verify and store["finished"])
    try:
        write_whole(output, page.encode(), synced=True)
    except OSError as error:
        raise not_written(output, error, f"{WRITABLE} with --output") from error


def _page(path: Path, store: Document, attributes: dict[str, Any], *, verify: bool) -> str:
    raws = raw_stacks(path)
    shown = _looked_at(path, raws, store)
    chains = recorded_chains(attributes)
    kinds = {step["step"] for channel in store["channels"] for step in channel["steps"]}
    template = files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    return (
        _environment()
        .from_string(template)
        .render(
            store=store,
            what=listed([name.replace("_", " ") for name in store["outputs"]]).capitalize(),
            cited=cited(store),
            facts=overview(path, store, attributes),
            origins=origins(attributes),
            inputs=attributes["inputs"],
            recorded=[recorded_words(channel) for channel in store["channels"]],
            gone=[f"Channel {i}: {raw}" for i, raw in enumerate(raws) if isinstance(raw, str)],
            kernels=[_kernel(mean_of(chain)) for chain in chains],
            steps=[in_words(chain) for chain in chains],
            alone=all(map(mean_alone, chains)),
            kinds=kinds,
            checked=verify_backgrounds(path) if verify else None,
            shown=shown,
            listed=LISTED_PROBLEMS,
            repair=repair_command(path),
            written=utc(datetime.now(UTC)),
            version=__version__,
        )
    )


def _environment() -> Environment:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["name"] = lambda text: printable(str(text))
    environment.filters["bytes"] = as_size
    environment.filters["time_ns"] = lambda ns: utc(datetime.fromtimestamp(ns / 1e9, UTC))
    return environment


def _kernel(mean: SpatialMean | None) -> dict[str, Any]:
    """Return the weights along y and x, from the centre outwards, without zero ends."""
    if mean is None:
        return {}
    kernels = [without_zero_ends(kernel) for kernel in (mean.kernel_y, mean.kernel_x)]
    halves = [kernel[len(kernel) // 2 :] for kernel in kernels]
    return {
        axis: {
            "reach": len(half) - 1,
            "weights": [f"{weight:.8g}" for weight in half[:LISTED_WEIGHTS]],
            "more": max(0, len(half) - LISTED_WEIGHTS),
        }
        for axis, half in zip("yx", halves, strict=True)
    }


def _looked_at(path: Path, raws: Sequence[Stack | str], store: Document) -> dict[str, list[Any]]:
    """Return what the page needs pixels for: pictures, warnings, and which channels lack what.

    Each channel is sampled by itself, so that one that cannot be read does not hide the others.
    """
    shown: dict[str, list[Any]] = {"channels": [], "warnings": [], "unread": [], "without": []}
    if not store["finished"]:
        return shown
    result = open_backgrounds(path)
    for channel, raw in enumerate(raws):
        try:
            sample = sample_channel(result, channel, raw)
        except OSError as error:
            shown["unread"].append(f"Channel {channel}: {one_line(error)}")
            continue
        except ValueError as error:  # it has no frames
            shown["without"].append(one_line(error))
            continue
        if missing := sample.content.missing:
            shown["without"].append(f"Channel {channel}, no raw frame: {missing}")
        shown["warnings"] += [f"Channel {channel}. {line}" for line in warnings_of(sample)]
        if len(shown["channels"]) < DRAWN_CHANNELS:
            shown["channels"].append(_drawn(sample))
    pedestal = store["pedestal_counts"]
    shown["warnings"] += [
        f"Channel {channel['channel']}. {clipping(channel['clipped_pixels'], pedestal)}."
        for channel in store["channels"]
        if channel["clipped_pixels"]
    ]
    return shown


def _drawn(sample: ChannelSample) -> dict[str, Any]:
    """Draw a channel, as PNGs in base64."""
    count = sample.content.n_frames
    return {
        "heading": frame_heading(sample.channel, sample.frame, count, sample.acquisition),
        "origin": origin_of(sample),
        "cards": [
            {
                "words": words,
                "rem": round(float(figure.get_size_inches()[0]) * _REM_PER_INCH, 1),
                "png": base64.b64encode(figure.png(_DPI)).decode(),
            }
            for words, figure in cards_of(sample)
        ],
    }


# ---- Facts in words -----------------------------------------------------------------------------


def overview(path: Path, store: Document, attributes: Mapping[str, Any]) -> list[Fact]:
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
        ("stored", outputs_text(path, attributes, whole=store["finished"])),
        (
            "size",
            f"{counted(len(channels), 'channel')}, {counted(frames, 'frame')}, "
            f"{counted(sum(map(prod, shapes)), 'pixel')} in {counted(store['blocks'], 'block')}",
        ),
        ("movies", f"{as_size(read)} in {counted(files, 'file')}"),
        (
            "store",
            f"{as_size(sum(sizes_below(path)))} on the disk; {as_size(plain)} before "
            "compression" + ("" if store["finished"] else ", once it is finished"),
        ),
    ]
    return facts + _times(path, store, attributes)


def _times(path: Path, store: Document, attributes: Mapping[str, Any]) -> list[Fact]:
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
        ("elapsed", f"{as_time(seconds)} from begun to finished, any pauses included"),
    ]


def utc(time: datetime) -> str:
    """Return a date and a time of day with its time zone."""
    return f"{time:%F %T} UTC"


def listed(texts: Sequence[str]) -> str:
    """Return words one after another, the last after an "and"."""
    return " and ".join(filter(None, (", ".join(texts[:-1]), texts[-1])))


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
