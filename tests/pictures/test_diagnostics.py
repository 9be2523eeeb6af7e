"""Signs of saturation and of too small a radius: on movies that have them and that have not."""

import numpy as np
import pytest

from smlmlp_dask import bkgd_spatial_mean, gaussian_kernel, simulate_movie
from smlmlp_dask.pictures.diagnostics import (
    LARGEST_SHARE,
    Saturation,
    saturation,
    share_of_peak,
    spot_sigma_pix,
)
from smlmlp_dask.pictures.overview import smallest_radius

N_PAIRS = 6


def pairs(**options):
    movie = simulate_movie(2 * N_PAIRS, **{"height": 192, "width": 224, **options}).movie
    return movie.compute().reshape(N_PAIRS, 2, *movie.shape[1:])


@pytest.fixture(scope="module")
def bright():
    """Spots whose peaks reach well over 800 counts."""
    return pairs(photons=3000).reshape(2 * N_PAIRS, 192, 224)


# ---- saturation --------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [700, 800])
@pytest.mark.parametrize("dtype", ["u2", "i4", "f4"])
def test_counts_that_were_cut_off_are_found(bright, level, dtype):
    cut = bright > level
    assert cut.sum() > 50
    found = saturation(np.minimum(bright, level).astype(dtype))
    there = bright >= level
    assert found == Saturation(level, there.sum(), there.any(axis=(1, 2)).sum())


def test_counts_that_thin_out_are_not(bright):
    assert saturation(bright) is None
    assert saturation(bright.astype("f4")) is None


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2"])
def test_one_pixel_at_the_end_of_its_dtype_is_enough(dtype):
    frames = np.zeros((3, 4, 5), dtype)
    assert saturation(frames) is None
    frames[1, 2, 3] = np.iinfo(dtype).max
    assert saturation(frames) == Saturation(np.iinfo(dtype).max, 1, 1)


def test_a_stuck_pixel_is_not_saturation(bright):
    stuck = bright.copy()
    stuck[:, 5, 5] = 5000
    assert saturation(stuck) is None


@pytest.mark.parametrize(
    "frames",
    [
        np.full((2, 9, 9), 7.0),
        np.random.default_rng(0).integers(0, 3, (2, 50, 50)).astype("u2"),
        np.full((1, 4, 4), np.nan),
        np.full((1, 4, 4), np.inf),
    ],
    ids=["constant", "few-levels", "nan", "inf"],
)
def test_without_evidence_no_saturation_is_reported(frames):
    assert saturation(frames) is None


def test_pixels_without_a_number_do_not_hide_saturation(bright):
    frames = np.minimum(bright, 700).astype("f4")
    frames[0, :3] = np.nan
    frames[1, :3] = np.inf
    assert saturation(frames).level == 700


# ---- spots -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sigma", "options"),
    [
        (1.0, {}),
        (1.3, {}),
        (1.3, {"background_photons": 200.0}),
        (1.3, {"events_per_frame": 100.0}),
        (2.0, {"photons": 2000.0}),
        (3.0, {"photons": 5000.0}),
    ],
)
def test_width_of_spots(sigma, options):
    # the pixel's own width is 1 / sqrt(12)
    expected = np.hypot(sigma, 12**-0.5)
    assert spot_sigma_pix(pairs(psf_sigma_pix=sigma, **options)) == pytest.approx(
        (expected, expected), rel=0.12
    )


def test_width_of_spots_that_are_not_round():
    rng = np.random.default_rng(1)
    y, x = np.ogrid[:160, :160]
    frames = rng.normal(0, 5, (16, 160, 160))
    for frame in frames:
        for cy, cx in rng.uniform(10, 150, (30, 2)):
            frame += 60 * np.exp(-((y - cy) ** 2) / (2 * 1.2**2) - (x - cx) ** 2 / (2 * 2.4**2))
    assert spot_sigma_pix(frames.reshape(8, 2, 160, 160)) == pytest.approx((1.2, 2.4), rel=0.1)


def test_a_flickering_lamp_is_no_spot():
    shown = pairs().astype(float)
    shown *= np.random.default_rng(0).uniform(0.9, 1.1, (N_PAIRS, 2, 1, 1))
    width = np.hypot(1.3, 12**-0.5)
    assert spot_sigma_pix(shown) == pytest.approx((width, width), rel=0.12)
    empty = pairs(events_per_frame=0.0).astype(float)
    empty *= np.random.default_rng(0).uniform(0.9, 1.1, (N_PAIRS, 2, 1, 1))
    assert spot_sigma_pix(empty) is None


@pytest.mark.parametrize("seed", range(5))
def test_noise_has_no_spots(seed):
    assert spot_sigma_pix(pairs(events_per_frame=0.0, seed=seed)) is None


def test_a_movie_that_never_blinks_gives_no_spot_size():
    still = pairs()
    still[:, 1] = still[:, 0]
    assert spot_sigma_pix(still) is None


@pytest.mark.parametrize(
    "shape", [(0, 2, 50, 50), (3, 2, 7, 50), (3, 2, 50, 1)], ids=["no-pair", "flat", "thin"]
)
def test_too_few_pixels_give_no_spot_size(shape):
    assert spot_sigma_pix(np.ones(shape)) is None


def test_frames_with_nan_give_no_spot_size():
    shown = pairs().astype("f4")
    shown[0, 0, 3, 3] = np.nan
    assert spot_sigma_pix(shown) is None


# ---- the share of a spot that the background takes ---------------------------------------------


@pytest.mark.parametrize(("sigma", "radii"), [((1.3, 1.3), (7, 7)), ((1.0, 2.0), (3, 10))])
def test_share_is_what_the_filter_takes(sigma, radii):
    y, x = np.ogrid[-40:41, -40:41]
    spot = np.exp(-0.5 * (y / sigma[0]) ** 2 - 0.5 * (x / sigma[1]) ** 2)
    background = bkgd_spatial_mean([spot[np.newaxis]], radii)[0][0].compute()[0]
    kernels = tuple(gaussian_kernel(radius / 2) for radius in radii)
    assert share_of_peak(sigma, kernels) == pytest.approx(background[40, 40], rel=1e-5)


@pytest.mark.parametrize("sigma", [1.0, 1.3, 2.0, 4.0])
def test_the_recommended_radius_takes_the_largest_share(sigma):
    kernel = gaussian_kernel(smallest_radius(sigma) / 2)
    # the kernel is cut off, and integrated over pixels: within 3 % of the peak of the formula
    assert share_of_peak((sigma, sigma), (kernel, kernel)) == pytest.approx(LARGEST_SHARE, abs=0.03)
