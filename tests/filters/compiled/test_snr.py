"""The signal over its noise: the reference's numbers, and the same bits however it is cut."""

import numpy as np
import pytest

from smlmlp_dask.filters.compiled import parts, snr
from smlmlp_dask.filters.compiled.snr import Noise
from tests import snr_cases

RNG = np.random.default_rng(8)
RAW = RNG.poisson(120, (5, 6, 7)).astype(np.uint16)
BACKGROUND = RNG.uniform(90, 130, RAW.shape).astype(np.float32)


def noise(factor=0.9, gain=0.25, baseline=0.0, variance=0.0):
    return Noise(np.float32(factor), *(np.array(v, np.float32) for v in (gain, baseline, variance)))


def signal_to_noise(raw, background, noise):
    """With the background kept: it is overwritten."""
    return snr.signal_to_noise(raw, background.copy(), noise)


def by_hand(raw, background, factor=0.9, gain=0.25, baseline=0.0, variance=0.0):
    """The definition, operation by operation, in float32."""
    factor, gain, baseline, variance = map(np.float32, (factor, gain, baseline, variance))
    square = (background - baseline) / gain + variance
    square[~(square > 0)] = np.nan
    return (raw.astype(np.float32) - background) / factor / np.sqrt(square)


@pytest.mark.parametrize("number", range(len(snr_cases.CASES)))
def test_golden(number):
    case, golden = snr_cases.CASES[number], np.load(snr_cases.GOLDEN)
    raw, background, expected = (golden[f"{number}_{name}"] for name in ("raw", "bkgd", "snr"))
    found = signal_to_noise(raw, background, noise(case.factor, case.gain))
    assert found.dtype == np.float32
    assert snr_cases.ulps(found, expected) <= snr_cases.ULPS


def test_the_golden_cases_are_what_they_say():
    golden = np.load(snr_cases.GOLDEN)
    for number, case in enumerate(snr_cases.CASES):
        for name, array in zip(("raw", "bkgd"), snr_cases.frames_of(case), strict=True):
            assert array.tobytes() == golden[f"{number}_{name}"].tobytes()
    assert len(snr_cases.CASES) >= 20


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"gain": 2.2, "factor": 3.0},
        {"baseline": 95.0},  # some of the background lies below
        {"baseline": -100.0, "variance": 4.5},
        {"baseline": 500.0},  # all of it does
        {"baseline": 500.0, "variance": 1e6},  # the read noise is more than it takes off
    ],
)
def test_the_definition_bit_for_bit(given):
    expected = by_hand(RAW, BACKGROUND, **given)
    assert signal_to_noise(RAW, BACKGROUND, noise(**given)).tobytes() == expected.tobytes()
    mapped = {
        name: np.full(RAW.shape[1:], value) for name, value in given.items() if name != "factor"
    }
    if mapped:  # maps of one number are that number
        again = signal_to_noise(RAW, BACKGROUND, noise(**{**given, **mapped}))
        assert again.tobytes() == expected.tobytes()


def test_each_pixel_has_its_own_gain_baseline_and_variance():
    shape = RAW.shape[1:]
    maps = {
        "gain": RNG.uniform(0.1, 2, shape),
        "baseline": RNG.uniform(0, 100, shape),
        "variance": RNG.uniform(0, 50, shape),
    }
    found = signal_to_noise(RAW, BACKGROUND, noise(**maps))
    for y, x in np.ndindex(shape):
        own = {name: values[y, x] for name, values in maps.items()}
        pixel = (slice(None), slice(y, y + 1), slice(x, x + 1))
        expected = by_hand(RAW[pixel], BACKGROUND[pixel], **own)
        assert found[pixel].tobytes() == expected.tobytes()


def test_without_noise_there_is_no_ratio():
    """Not an infinite one, which would be a detection in every frame."""
    raw = np.array([[[9, 9, 9, 9, 9, 9]]], np.float32)
    background = np.array([[[0, -1, np.nan, np.inf, -np.inf, 4]]], np.float32)
    found = signal_to_noise(raw, background, noise(1.0, 1.0))
    np.testing.assert_array_equal(found[0, 0], [np.nan] * 5 + [2.5])


def test_frames_do_not_depend_on_how_many_are_taken(monkeypatch):
    whole = signal_to_noise(RAW, BACKGROUND, noise())
    monkeypatch.setattr(parts, "CACHED_PIXELS", 1)
    assert signal_to_noise(RAW, BACKGROUND, noise()).tobytes() == whole.tobytes()
    strided = np.repeat(BACKGROUND, 2, axis=2)[:, :, ::2]
    for part in (slice(2, 3), slice(1, 4), slice(0, 0)):
        found = signal_to_noise(RAW[part], strided[part], noise())
        assert found.tobytes() == whole[part].tobytes()


def test_compiled_and_plain_loops_give_the_same_bits(monkeypatch):
    given = noise(0.9, 0.25, 95, 1.5)
    compiled = signal_to_noise(RAW, BACKGROUND, given)
    monkeypatch.setattr(snr, "_compiled", lambda _: snr.divide)
    assert signal_to_noise(RAW, BACKGROUND, given).tobytes() == compiled.tobytes()
