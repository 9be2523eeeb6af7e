"""Names of axes and units, as programs write them."""

from collections.abc import Iterable, Sequence
from typing import Any

AXES = frozenset("tczyx")

# Other names of the axes.
_CALLED = dict.fromkeys(("time", "frame", "frames"), "t")
_CALLED |= dict.fromkeys(("channel", "channels"), "c")
_CALLED |= dict.fromkeys(("row", "rows", "height"), "y")
_CALLED |= dict.fromkeys(("col", "cols", "column", "columns", "width"), "x")

_UM = {
    "angstrom": 1e-4, "picometer": 1e-6, "nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3,
    "centimeter": 1e4, "meter": 1e6, "pm": 1e-6, "nm": 1e-3, "um": 1.0, "µm": 1.0, "μm": 1.0,
    "micron": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6,
}  # fmt: skip
_SECONDS = {
    "nanosecond": 1e-9, "microsecond": 1e-6, "millisecond": 1e-3, "second": 1.0, "minute": 60.0,
    "hour": 3600.0, "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0,
    "min": 60.0, "h": 3600.0,
}  # fmt: skip


def plain(names: Iterable[str]) -> list[str]:
    """Return names of axes as one letter where they are known, else in lower case."""
    return [_CALLED.get(name.lower(), name.lower()) for name in names]


def in_order(names: Sequence[str]) -> list[str]:
    """Take unknown names of three axes, such as dim_0, in the order t, y, x."""
    return [name if name in AXES else due for name, due in zip(names, "tyx", strict=True)]


def in_micrometres(unit: Any) -> float:
    """Return how many micrometres a unit is; 0 if it is unknown."""
    return _UM.get(_singular(unit), 0.0)


def in_seconds(unit: Any) -> float:
    """Return how many seconds a unit is; 0 if it is unknown."""
    return _SECONDS.get(_singular(unit), 0.0)


def _singular(unit: Any) -> str:
    name = str(unit).strip()
    longer = name.lower().replace("metre", "meter").removesuffix("s")
    return longer if len(longer) > 3 else name
