"""Say in words in which settings a store and a new call of the same job differ."""

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from smlmlp_dask.filters.wording import listed
from smlmlp_dask.messages import counted
from smlmlp_dask.movies.arrays import in_memory

from .codecs import holds_raw

CONSEQUENCES = frozenset(
    {
        "spatial_mean_sigmas",
        "spatial_mean_kernels_y",
        "spatial_mean_kernels_x",
        "noise_corrections",
        "plan",
        "blocks",
        "dtypes",
    }
)
"""Derived attributes, left out of "begun differently" errors."""

NOTED_LATER = frozenset({"acquisitions", "channels_of_sources"})
"""What earlier versions did not note, though it was there."""

_OF_THE_MEAN = (
    "channels_mean_radii_pix",
    "spatial_mean_sigmas",
    "spatial_mean_kernels_y",
    "spatial_mean_kernels_x",
)

OPTIONS = {
    "channels_mean_radii_pix": "--radius",
    "bboxes": "--bbox",
    "flips": "--flip",
    "acquisitions": "--pixel-size, --frame-interval, --channel-name",
    "steps": "--step",
    "outputs": "--write",
    "pedestal": "--pedestal",
    "photons": "--photons",
    "gain": "--gain",
    "baseline": "--baseline",
    "variance": "--variance",
}
"""Settings with another name on the command line."""


_UNNOTED: dict[str, Any] = {
    **{"outputs": ["background"], "pedestal": None, "photons": False},
    **{"gain": None, "baseline": None, "variance": None, "maps": {}},
}
"""What a store without these attributes has."""

_HOLDS = {True: "frames as they are", False: "backgrounds"}


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Name each setting in which a store and a new call differ; derived ones only if alone."""
    was, now = (_HOLDS[holds_raw(attributes)] for attributes in (stored, wanted))
    if was != now:
        return [f"it holds {was}, not {now}"]
    stored, wanted = ({**_UNNOTED, **attributes} for attributes in (stored, wanted))
    if ("steps" in stored) != ("steps" in wanted):
        stored, wanted = _with_steps(stored), _with_steps(wanted)
    names = [name for name, value in wanted.items() if _differs(name, value, stored)]
    chosen = [name for name in names if name not in CONSEQUENCES]
    changed = _changed_inputs(stored.get("inputs"), wanted.get("inputs"))
    if changed and "inputs" in chosen:
        chosen.remove("inputs")
        names = chosen
    else:
        changed = []
    return [
        f"{_named(name)} was {_short(name, stored.get(name))} and is {_short(name, wanted[name])}"
        for name in chosen or names
    ] + changed


def _changed_inputs(stored: Any, wanted: Any) -> list[str]:
    """Say which of the same movies and arrays have changed; nothing if others are read."""
    stored, wanted = stored or [], wanted or []
    if [each["path"] for each in stored] != [each["path"] for each in wanted]:
        return []
    return [
        f"{now['path']} is not the array that it was ({now['digest']}, not {was['digest']})"
        if in_memory(now["path"])
        else f"the movie {now['path']} has changed since (it had {_content(was)}, now it has "
        f"{_content(now)})"
        for was, now in zip(stored, wanted, strict=True)
        if was != now
    ]


def _content(movie: Mapping[str, Any]) -> str:
    """Return the size and the newest change of a movie's files, of which a digest was stored."""
    newest = datetime.fromtimestamp(movie["newest"] / 1e9).astimezone()
    return (
        f"{movie['bytes']:,} bytes in {counted(movie['files'], 'file')}, newest of "
        f"{newest:%Y-%m-%d %H:%M:%S}"
    )


def _with_steps(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes in which the local mean alone is written as a step, too."""
    radii = attributes.get("channels_mean_radii_pix", [])
    means = [[{"step": "mean", "radii_pix": pair}] for pair in radii]
    rest = {name: value for name, value in attributes.items() if name not in _OF_THE_MEAN}
    return {"steps": means, **rest}


def _differs(name: str, value: Any, stored: Mapping[str, Any]) -> bool:
    if name in stored:
        return bool(stored[name] != value)
    # An option that earlier versions did not have was not given.
    return name not in NOTED_LATER and bool(value)


def _named(setting: str) -> str:
    return f"{setting} ({OPTIONS[setting]})" if setting in OPTIONS else setting


def _short(name: str, value: Any) -> str:
    text = json.dumps(value)
    if name == "steps":
        with suppress(ValueError, TypeError, LookupError):  # steps of another version
            text = "; ".join(dict.fromkeys(map(listed, value)))
    return text if len(text) <= 200 else f"{text[:200]}…"
