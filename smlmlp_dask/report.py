"""A store as one HTML page: what a methods section and a reviewer need to know of it."""

import base64
from datetime import UTC, datetime
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

from dask.utils import format_bytes
from jinja2 import Environment, StrictUndefined

from . import __version__
from .documents import Document, store_document
from .kernels import gaussian_kernel, without_zero_ends
from .plots import plot_channels
from .samples import one_frame
from .stack import one_line, printable
from .store import open_backgrounds, read_attributes, refusing_damage
from .verify import changed_sources, stored_sources, verify_backgrounds

DRAWN_CHANNELS = 8
"""Channels in the picture; the tables hold all of them."""

LISTED_WEIGHTS = 60
"""Most weights of a kernel, from its centre outwards, that are printed."""


def write_report(path: Path, output: Path, *, verify: bool) -> None:
    """Write what is known of a store as one HTML file that needs no other.

    Parameters
    ----------
    path : pathlib.Path
        A store, finished or not.
    output : pathlib.Path
        The file; must not exist.
    verify : bool
        Read every chunk of a finished store and compare it with its checksum.

    Raises
    ------
    FileNotFoundError
        If there is no store.
    FileExistsError
        If the file exists.
    ValueError
        If it is no such store, or damaged.
    OSError
        If the file cannot be written.
    """
    store = store_document(path)
    attributes = read_attributes(path)
    if output.exists():
        raise FileExistsError(f"{output} exists: delete it, or choose another with --output")
    if not output.parent.is_dir():
        raise NotADirectoryError(f"{output.parent} is no folder: choose one with --output")
    with refusing_damage(path):
        page = _page(path, store, attributes, verify=verify and store["finished"])
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(page)
    except OSError as error:
        raise type(error)(
            f"{output} cannot be written ({error.strerror or error}): choose a folder that you "
            "may write to with --output"
        ) from error


def _page(path: Path, store: Document, attributes: dict[str, Any], *, verify: bool) -> str:
    changed = changed_sources(attributes)
    picture, without = None, ""
    if not store["finished"]:
        without = "the store is not finished"
    elif changed:
        (without,) = changed
    else:
        try:
            picture = _picture(path, attributes)
        except (OSError, ValueError) as error:  # a page that tells of damage is what is needed
            without = one_line(error)
    template = files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    return (
        _environment()
        .from_string(template)
        .render(
            store=store,
            inputs=attributes["inputs"],
            changed=changed,
            kernels=[_kernel(sigmas) for sigmas in attributes["spatial_mean_sigmas"]],
            checked=verify_backgrounds(path) if verify else None,
            picture=picture,
            without=without,
            written=datetime.now(UTC),
            version=__version__,
        )
    )


def _environment() -> Environment:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["name"] = lambda text: printable(str(text))
    environment.filters["bytes"] = format_bytes
    environment.filters["time_ns"] = lambda ns: f"{datetime.fromtimestamp(ns / 1e9, UTC):%F %T}"
    return environment


def _kernel(sigmas: tuple[float, float]) -> dict[str, Any]:
    """Weights along y and x, from the centre outwards, without those that are 0."""
    kernels = [without_zero_ends(gaussian_kernel(sigma)) for sigma in sigmas]
    halves = [kernel[len(kernel) // 2 :] for kernel in kernels]
    return {
        axis: {
            "reach": len(half) - 1,
            "weights": [f"{weight:.8g}" for weight in half[:LISTED_WEIGHTS]],
            "more": max(0, len(half) - LISTED_WEIGHTS),
        }
        for axis, half in zip("yx", halves, strict=True)
    }


def _picture(path: Path, attributes: dict[str, Any]) -> dict[str, Any]:
    """Draw the frame in the middle, raw and background, as a PNG in base64."""
    result = open_backgrounds(path)
    stacks = stored_sources(attributes)[:DRAWN_CHANNELS]
    if any(0 in stack.shape for stack in stacks):
        raise ValueError("there is a channel without frames")
    frame = min(len(stack.frames) for stack in stacks) // 2
    figure = plot_channels(
        [one_frame(stack, frame) for stack in stacks],
        [one_frame(stack, frame) for stack in result.stacks[: len(stacks)]],
        radii_pix=result.info["channels_mean_radii_pix"][: len(stacks)],
        frame=frame,
    )
    png = BytesIO()
    figure.savefig(png, format="png", dpi=100)
    return {"png": base64.b64encode(png.getvalue()).decode(), "frame": frame, "drawn": len(stacks)}
