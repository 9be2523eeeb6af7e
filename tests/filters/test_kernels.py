import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smlmlp_dask import gaussian_kernel, noise_correction
from smlmlp_dask.filters.kernels import fold, residual_kernel, without_zero_ends
from tests import reference

SIGMAS = st.floats(1e-3, 120)


@given(SIGMAS)
def test_kernel_is_the_integrated_gaussian(sigma):
    kernel = gaussian_kernel(sigma)
    expected = np.array(reference.kernel(sigma))
    assert kernel.dtype == np.float32
    assert kernel.shape == expected.shape
    # one rounding to float32 of the weight, one of the sum (n roundings), one of the quotient
    np.testing.assert_allclose(kernel, expected, rtol=(len(kernel) + 2) * 2.0**-24, atol=1e-12)


@given(SIGMAS)
def test_kernel_is_odd_symmetric_and_normalized(sigma):
    kernel = gaussian_kernel(sigma)
    length = math.ceil(6 * sigma)
    assert len(kernel) == length + 1 - length % 2
    assert np.array_equal(kernel, kernel[::-1])
    assert abs(float(kernel.sum(dtype=float)) - 1) < 1e-6
    assert np.argmax(kernel) == len(kernel) // 2


@pytest.mark.parametrize(
    ("sigma", "reach"),
    [
        (3.5, 9),  # 2.5758 * 3.5 = 9.02: the kernel has 21 taps, the outermost carry no weight
        (1.5, 3),
        (0.005, 0),
        (5000, 12879),
    ],
)
def test_weights_end_at_99_percent(sigma, reach):
    kernel = gaussian_kernel(sigma)
    assert len(without_zero_ends(kernel)) == 2 * reach + 1
    assert reach <= 2.5758293035489004 * sigma < reach + 1


def test_vanishing_sigma_is_the_identity():
    assert gaussian_kernel(5e-324).tolist() == [1.0]
    assert noise_correction(5e-324, 1) == 0


@pytest.mark.parametrize("sigma", [0, -1, math.nan, math.inf, 5000.1])
def test_impossible_sigma(sigma):
    with pytest.raises(ValueError, match=r"sigma must be greater than 0 and at most 5000 px, got"):
        gaussian_kernel(sigma)


@given(SIGMAS)
def test_residual_is_delta_minus_kernel(sigma):
    kernel = gaussian_kernel(sigma)
    residual = residual_kernel(kernel)
    delta = np.zeros(len(kernel))
    delta[len(kernel) // 2] = 1
    assert residual.dtype == np.float32
    np.testing.assert_array_equal(residual, (delta - kernel).astype(np.float32))
    assert not np.signbit(residual[kernel == 0]).any()


@given(SIGMAS, SIGMAS)
def test_noise_correction_is_the_product_of_the_norms(sigma_y, sigma_x):
    def norm(sigma):
        weights = -np.array(reference.kernel(sigma))
        weights[len(weights) // 2] += 1
        return math.sqrt(math.fsum(weights**2))

    factor = noise_correction(sigma_y, sigma_x)
    assert isinstance(factor, np.float32)
    assert factor == pytest.approx(norm(sigma_y) * norm(sigma_x), rel=1e-5, abs=1e-6)


def test_noise_correction_predicts_what_the_separable_residual_does_to_noise():
    rng = np.random.default_rng(3)
    noise = rng.standard_normal((400, 400))
    residual = residual_kernel(gaussian_kernel(2.0)).astype(float)
    for axis in (0, 1):
        noise = np.apply_along_axis(np.convolve, axis, noise, residual, mode="valid")
    # 388² correlated samples: the standard deviation is known to about 0.3 %; 5 of those
    assert noise.std() == pytest.approx(noise_correction(2.0, 2.0), rel=0.015)


@given(st.floats(0.05, 60), st.integers(1, 40))
def test_folded_kernel_gives_the_same_on_a_short_axis(sigma, length):
    kernel = without_zero_ends(gaussian_kernel(sigma))
    folded = fold(kernel, length)
    assert len(folded) == min(len(kernel), 2 * length - 1)
    line = np.random.default_rng(length).random(length).tolist()
    np.testing.assert_allclose(
        reference.correlate_line(line, folded.astype(float)),
        reference.correlate_line(line, kernel.astype(float)),
        rtol=2.0**-23,
    )
