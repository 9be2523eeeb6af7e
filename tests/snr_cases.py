"""Cases of the reference's signal-to-noise ratio, and what it gives for them.

`smlmlp` 0.1.20 made `golden/steps/snr.npz`. The test of `test_reference_client.py` asks it again,
where it is installed.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

GOLDEN = Path(__file__).parent / "golden" / "steps" / "snr.npz"

ULPS = 4
"""Most float32 steps from the reference, which divides and takes roots with `fastmath`."""


class Case(NamedTuple):
    """Shape and dtype of the frames, the level of their background, gain and noise correction."""

    shape: tuple
    dtype: str
    level: float
    gain: float
    factor: float

    def __str__(self):
        shape = "x".join(map(str, self.shape))
        return f"{shape} {self.dtype} level {self.level:g} gain {self.gain:g} factor {self.factor}"


CASES = [
    *(Case((3, 9, 7), dtype, 90, 0.25, 0.98) for dtype in ("u1", "u2", "i2", "u4", "i4", "i8")),
    *(Case((3, 9, 7), dtype, 90, 0.25, 0.98) for dtype in (">u2", "f2", "f4", ">f4", "f8")),
    *(Case((2, 8, 11), "u2", 400, gain, 0.9) for gain in (1e-3, 0.1, 0.47, 1.0, 2.2, 37.5)),
    *(Case((2, 8, 11), "u2", 400, 0.25, factor) for factor in (1.0, 0.5, 3.0, 1e-3)),
    *(Case((2, 5, 33), "f4", level, 0.3, 0.97) for level in (1e-3, 1.0, 1e4, 1e7)),
    Case((1, 1, 1), "u2", 20, 0.25, 0.9),
    Case((4, 1, 65), "u2", 20, 0.25, 0.9),
]


def frames_of(case):
    """Return a case's frames and their background; the same at every call."""
    rng = np.random.default_rng(CASES.index(case))
    raw = rng.poisson(90, case.shape) * (case.level / 90)
    raw += 0.9 * case.level * (rng.random(case.shape) > 0.9)
    background = case.level * rng.uniform(0.8, 1.2, case.shape)
    return raw.astype(case.dtype), background.astype(np.float32)


def run(smlmlp: Any, case):
    """Return what the reference gives: it divides in place."""
    raw, background = frames_of(case)
    signal = raw.astype(np.float32) - background
    [snr], _ = smlmlp.detect_snr(
        [signal],
        [background],
        noise_corrections=[np.float32(case.factor)],
        channels_gains=[case.gain],
        parallel=1,
    )
    return snr


def ulps(one, other):
    """Return how many float32 numbers lie between two, at most."""
    steps = [np.where(a < 0, -1, 1) * (a.view(np.int32) & 0x7FFFFFFF).astype(np.int64)
             for a in (one, other)]  # fmt: skip
    return int(abs(steps[0] - steps[1]).max())


def make_golden(smlmlp):
    """Write what the reference gives."""
    arrays = {}
    for number, case in enumerate(CASES):
        raw, background = frames_of(case)
        arrays[f"{number}_raw"], arrays[f"{number}_bkgd"] = raw, background
        arrays[f"{number}_snr"] = run(smlmlp, case)
    np.savez_compressed(GOLDEN, **arrays)
