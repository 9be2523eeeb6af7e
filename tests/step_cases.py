"""Cases of the reference's background steps, and what it gives for them.

`smlmlp` 0.1.20 made `golden/steps/smlmlp.npz`, with what `tests/golden/README.md` says. The test of
`test_reference_client.py` asks it again, where it is installed.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

GOLDEN = Path(__file__).parent / "golden" / "steps" / "smlmlp.npz"

SMALL, ODD = (9, 7, 11), (14, 6, 5)


class Case(NamedTuple):
    """The function's end of a name, (shape, dtype) of each channel, what is passed, factors."""

    kind: str
    channels: tuple
    given: dict
    factors: tuple | None = None

    def __str__(self):
        channels = " ".join(f"{'x'.join(map(str, s))}{d}" for s, d in self.channels)
        return f"{self.kind} {channels} {json.dumps(self.given)}"


def _medians():
    for window in (0, 1, 2, 3, 4, 8, 25, 200):  # of some, an even number of frames at both ends
        yield Case("temporal_median", ((ODD, "u2"),), {"median_window_fr": window})
    for dtype in ("u1", "i1", "i2", "u4", "i4", "i8", "f2", "f4", "f8", ">u2", ">f4"):
        yield Case("temporal_median", ((SMALL, dtype),), {"median_window_fr": 3})
    two = (((20, 5, 6), "u2"), ((13, 4, 9), "u2"))
    yield Case("temporal_median", two, {}, (1.0, 2.0))
    yield Case("temporal_median", two[::-1], {"median_window_fr": 5})
    yield Case("temporal_median", (((60, 3, 37), "u2"),), {})
    yield Case("temporal_median", (((60, 3, 37), "f4"),), {})
    yield Case("temporal_median", (((1, 4, 4), "u2"),), {})


def _openings():
    for radii in (0.2, 0.5, 0.8, 1.0, 1.3, 2.0, 2.6, 3.0, 4.5, 20.0):
        yield Case("spatial_opening", (((2, 13, 17), "u2"),), {"channels_opening_radii_pix": radii})
    for radii in ((1.0, 3.0), (3.0, 0.4), (2.2, 5.1), (30.0, 1.0)):
        for dtype in ("u2", "f4"):
            given = {"channels_opening_radii_pix": radii}
            yield Case("spatial_opening", (((2, 9, 15), dtype),), given)
    for dtype in ("u1", "i2", "i4", "f2", "f8", ">u2"):
        yield Case("spatial_opening", (((2, 11, 12), dtype),), {})
    three = (((2, 8, 9), "u2"), ((3, 5, 7), "u2"), ((1, 6, 6), "u2"))
    each = [(1.0, 2.0), (3.0, 3.0), (0.6, 1.4)]
    yield Case("spatial_opening", three, {"channels_opening_radii_pix": each}, (1.0, 0.5, 3.0))
    yield Case("spatial_opening", (((1, 1, 1), "u2"), ((2, 1, 9), "u2")), {})


def _combinations():
    steps = ("do_spatial_opening", "do_temporal_median", "do_spatial_mean")
    for taken in range(1, 8):
        given = {step: bool(taken >> i & 1) for i, step in enumerate(steps)}
        yield Case("combination", ((ODD, "u2"),), {**given, "median_window_fr": 4})
        yield Case("combination", ((SMALL, "f4"),), {**given, "median_window_fr": 2})
    for dtype in ("u1", "i2", "u4", "i4", "f8"):
        given = {"do_spatial_opening": True, "median_window_fr": 3}
        yield Case("combination", ((SMALL, dtype),), given)
    two = (((20, 9, 10), "u2"), ((16, 8, 12), "u2"))
    given = {"channels_mean_radii_pix": [(3.0, 4.0), (5.0, 2.0)], "median_window_fr": 6}
    yield Case("combination", two, given, (1.0, 2.0))
    opened = {"do_spatial_opening": True, "channels_opening_radii_pix": [(1.0, 2.0), (2.0, 2.0)]}
    yield Case("combination", two, {**opened, "median_window_fr": 1})
    yield Case("combination", (((60, 5, 6), "u2"),), {})


CASES = [*_medians(), *_openings(), *_combinations()]


def channels_of(case):
    """Return a case's channels: counts with bright spots; the same at every call."""
    rng = np.random.default_rng(len(str(case)))
    channels = []
    for shape, dtype in case.channels:
        stack = rng.poisson(60, shape) + 60.0 * (rng.random(shape) > 0.9)
        if np.dtype(dtype).kind == "f":
            stack += rng.normal(0, 0.3, shape)
        if np.dtype(dtype).kind in "fi":
            stack -= 70
        if np.dtype(dtype).itemsize > 2:
            stack *= 300_001  # some beyond what float32 holds exactly
        channels.append(stack.astype(dtype))
    return channels


def run(package: Any, case, channels, **options):
    """Call a case's function of `smlmlp` or `smlmlp_dask`."""
    function = getattr(package, f"bkgd_{case.kind}")
    factors = case.factors and [np.float32(factor) for factor in case.factors]
    return function(channels, noise_corrections=factors, **case.given, **options)


def make_golden(smlmlp):
    """Write what the reference gives."""
    arrays = {}
    for number, case in enumerate(CASES):
        channels = channels_of(case)
        bkgds, factors, _ = run(smlmlp, case, channels)
        for i, (channel, bkgd) in enumerate(zip(channels, bkgds, strict=True)):
            arrays[f"{number}_channel_{i}"] = channel
            arrays[f"{number}_bkgd_{i}"] = bkgd
        arrays[f"{number}_factors"] = np.array(factors, np.float32)
    np.savez_compressed(GOLDEN, **arrays)
