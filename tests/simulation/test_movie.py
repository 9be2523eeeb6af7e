"""The simulated movie: the same bits however it is cut, and the statistics it promises."""

from __future__ import annotations

import math
import pickle

import dask
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from smlmlp_dask.simulation.movie import simulate_movie

# All statistical bounds are this many standard errors: a right model fails one of them with a
# chance of 6e-5 per draw, and the seeds are fixed.
SIGMAS = 4.0

SMALL = {"frames": 20, "height": 24, "width": 33, "seed": 5, "events_per_frame": 6.0}


def no_scheduler(*args, **kwargs):
    raise AssertionError("computed while building")


def camera_variance(electrons, gain, read_noise):
    """Poisson and read noise in counts², and 1/12 from rounding counts spread wider than one."""
    return gain**2 * (electrons + read_noise**2) + 1 / 12


# ---- same bits ----


@pytest.mark.parametrize("chunks", [1, 3, 7, 19, 20, 1000, None])
def test_bits_do_not_depend_on_chunks(chunks):
    whole = simulate_movie(**SMALL, chunks=20)
    cut = simulate_movie(**SMALL, chunks=chunks)
    np.testing.assert_array_equal(cut.movie.compute(), whole.movie.compute(), strict=True)
    np.testing.assert_array_equal(cut.background.compute(), whole.background.compute(), strict=True)


def test_bits_do_not_depend_on_scheduler_subset_or_length():
    movie, background, molecules = simulate_movie(**SMALL, chunks=3)
    expected = movie.compute(scheduler="synchronous")
    np.testing.assert_array_equal(movie.compute(scheduler="threads"), expected)
    np.testing.assert_array_equal(movie[5:9, 2:, ::2].compute(), expected[5:9, 2:, ::2])

    shorter = simulate_movie(**{**SMALL, "frames": 7})
    np.testing.assert_array_equal(shorter.movie.compute(), expected[:7])
    np.testing.assert_array_equal(shorter.background.compute(), background[:7].compute())
    np.testing.assert_array_equal(shorter.molecules.table(2, 7), molecules.table(2, 7))


def test_same_seed_same_movie_other_seed_other_movie():
    first, again = simulate_movie(**SMALL), simulate_movie(**SMALL)
    other = simulate_movie(**{**SMALL, "seed": 6})
    assert first.movie.name == again.movie.name
    assert first.movie.name != other.movie.name
    np.testing.assert_array_equal(first.movie.compute(), again.movie.compute())
    assert np.any(first.movie.compute() != other.movie.compute())
    assert np.any(first.background.compute() != other.background.compute())
    assert first.molecules.table(0, 20).tobytes() != other.molecules.table(0, 20).tobytes()


def test_frames_differ_in_noise():
    movie = simulate_movie(3, 8, 8, events_per_frame=0, bleaching_frames=math.inf).movie.compute()
    assert np.any(movie[0] != movie[1])
    assert np.any(movie[1] != movie[2])


def test_table_is_the_same_in_pieces():
    molecules = simulate_movie(**SMALL).molecules
    pieces = [molecules.table(start, start + 5) for start in range(0, 20, 5)]
    whole = molecules.table(0, 20)
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    assert whole.dtype.names == ("frame", "y", "x", "photons")
    assert np.all(np.diff(whole["frame"]) >= 0)
    assert molecules.table(4, 4).size == 0


def test_survives_pickling():
    movie, _, molecules = pickle.loads(pickle.dumps(simulate_movie(**SMALL)))
    np.testing.assert_array_equal(movie.compute(), simulate_movie(**SMALL).movie.compute())
    np.testing.assert_array_equal(
        molecules.table(0, 20), simulate_movie(**SMALL).molecules.table(0, 20)
    )


# ---- laziness ----


def test_ten_million_frames_build_without_computing():
    with dask.config.set(scheduler=no_scheduler):
        movie, background, molecules = simulate_movie(10**7)
    assert movie.shape == background.shape == (10**7, 256, 256)
    for stack in (movie, background):
        assert len(stack.dask.layers) == 1
        assert not any(layer.is_materialized() for layer in stack.dask.layers.values())
    table = molecules.table(10**7 - 2, 10**7)
    assert set(table["frame"]) == {10**7 - 2, 10**7 - 1}


def test_last_frame_of_ten_million():
    movie, background, _ = simulate_movie(10**7, 16, 16, chunks=64)
    assert movie[-1].compute().shape == (16, 16)
    # Bleached to the part that stays: 60 %.
    signal = background[-1].compute() - 100.0
    first = background[0].compute() - 100.0
    np.testing.assert_allclose(signal, 0.6 * first, rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "frames_per_block"),
    [
        ((1000, 256, 256), 64),
        ((3, 256, 256), 3),
        # One frame of 2048 x 2048 uint16 is 8 MiB; a larger one still is a block.
        ((2, 2048, 2048), 1),
        ((2, 3000, 3000), 1),
    ],
)
def test_default_blocks_hold_8_mib(shape, frames_per_block):
    movie, background, _ = simulate_movie(*shape)
    assert movie.chunksize == (frames_per_block, *shape[1:])
    assert background.chunks == movie.chunks


@pytest.mark.parametrize("chunks", [1, 4, 20])
def test_declared_is_computed(chunks):
    movie, background, _ = simulate_movie(**SMALL, chunks=chunks)
    assert movie.dtype == np.uint16
    assert background.dtype == np.float32
    for stack in (movie, background):
        block = stack.blocks[-1].compute()
        assert type(block) is type(stack._meta)
        assert block.dtype == stack.dtype == stack._meta.dtype
        assert block.shape == (stack.chunks[0][-1], 24, 33)


def test_one_pixel():
    movie, background, molecules = simulate_movie(5, 1, 1, background_photons=50)
    assert movie.compute().shape == (5, 1, 1)
    # The mean over the field in frame 0: 100 + 2.2 * 0.8 * 50.
    np.testing.assert_allclose(background[0].compute(), 188, rtol=1e-6)
    assert np.all(np.abs(molecules.table(0, 5)["y"]) <= 0.5)


# ---- the camera ----


@pytest.mark.parametrize(
    ("gain", "offset", "read_noise", "quantum_efficiency"),
    [(2.2, 100.0, 1.4, 0.8), (0.5, 400.0, 5.0, 0.95), (10.0, 0.0, 0.3, 0.4)],
)
def test_mean_and_variance_follow_the_camera_model(gain, offset, read_noise, quantum_efficiency):
    movie, background, _ = simulate_movie(
        60, 64, 64, events_per_frame=0, background_photons=200, gain=gain, offset=offset,
        read_noise=read_noise, quantum_efficiency=quantum_efficiency,
    )  # fmt: skip
    expected = background.compute().astype(np.float64)
    electrons = (expected - offset) / gain
    assert electrons.min() > 10
    z = (movie.compute() - expected) / np.sqrt(camera_variance(electrons, gain, read_noise))

    # Mean of n unit variables: standard error 1 / sqrt(n); for the field and for each quarter.
    for part in (z, z[:, :32, :32], z[:, :32, 32:], z[:, 32:, :32], z[:, 32:, 32:]):
        assert abs(part.mean()) < SIGMAS / math.sqrt(part.size)
    # Mean of their squares: Var(z^2) = 2 + excess kurtosis, for Poisson at most 1 / electrons.
    error = math.sqrt((2 + 1 / electrons.min()) / z.size)
    assert abs(np.mean(z**2) - 1) < SIGMAS * error


def test_counts_are_clipped_not_wrapped():
    dark = simulate_movie(2, 16, 16, events_per_frame=0, background_photons=0, offset=0)
    assert dark.movie.compute().min() == 0
    assert dark.movie.compute().max() < 50
    bright = simulate_movie(2, 16, 16, events_per_frame=0, background_photons=1e6)
    assert bright.movie.compute().min() == 65535


# ---- the background ----


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [(96, 96), (128, 256)])
def test_background_is_uneven_and_smooth(seed, shape):
    background = simulate_movie(1, *shape, seed=seed, offset=0).background[0].compute()
    background = background.astype(np.float64)
    # The mean over frame 0 is what was asked for: 2.2 * 0.8 * 50.
    assert background.mean() == pytest.approx(88, rel=1e-6)
    assert background.max() > 1.3 * background.min()
    # A Gaussian of sigma >= 28 px loses at most 1 - 28^2 / (28^2 + 3.5^2) = 1.54 % of its height
    # to a Gaussian filter of sigma 3.5 px, and its flanks gain less; edges are left out.
    change = (
        gaussian_filter(background, 3.5, truncate=4)[14:-14, 14:-14] - background[14:-14, 14:-14]
    )
    assert np.abs(change).max() < 0.0154 * background.max()


def test_background_bleaches():
    background = simulate_movie(11, 8, 8, offset=0, bleaching_frames=10).background.compute()
    # 60 % stay, 40 % fall to 1/e in ten frames; float32 rounds to 6e-8 of the value.
    np.testing.assert_allclose(background[10], background[0] * (0.6 + 0.4 / math.e), rtol=3e-7)
    constant = simulate_movie(11, 8, 8, bleaching_frames=math.inf).background.compute()
    np.testing.assert_array_equal(constant[10], constant[0])


# ---- the molecules ----


def spots_by_loops(table, shape, sigma):
    """Expected photons per pixel: each Gaussian integrated over each pixel, one at a time."""

    def part(pixel, centre):
        above, below = pixel + 0.5 - centre, pixel - 0.5 - centre
        return 0.5 * (
            math.erf(above / sigma / math.sqrt(2)) - math.erf(below / sigma / math.sqrt(2))
        )

    photons = np.zeros(shape)
    for frame, y0, x0, brightness in table.tolist():
        along_y = np.array([part(y, y0) for y in range(shape[1])])
        along_x = np.array([part(x, x0) for x in range(shape[2])])
        photons[frame] += brightness * np.outer(along_y, along_x)
    return photons


@pytest.mark.parametrize("psf_sigma_pix", [0.7, 1.3, 4.0])
def test_table_explains_the_excess(psf_sigma_pix):
    movie, background, molecules = simulate_movie(
        60, 40, 48, seed=2, psf_sigma_pix=psf_sigma_pix, events_per_frame=2
    )
    spots = spots_by_loops(molecules.table(0, 60), movie.shape, psf_sigma_pix)
    expected = background.compute() + 2.2 * 0.8 * spots
    excess = movie.compute() - background.compute().astype(np.float64)
    variance = camera_variance((expected - 100) / 2.2, 2.2, 1.4)

    # Weighted least squares of the excess on the table's spots: slope 1, its standard error
    # 1 / sqrt(sum of spots^2 / variance). A shift of positions or a wrong width lowers it.
    model = 2.2 * 0.8 * spots
    information = np.sum(model**2 / variance)
    slope = np.sum(excess * model / variance) / information
    assert abs(slope - 1) < SIGMAS / math.sqrt(information)
    # Nothing but noise is left: mean of squares as for the camera, electrons well over 5.
    z = (movie.compute() - expected) / np.sqrt(variance)
    assert abs(np.mean(z**2) - 1) < SIGMAS * math.sqrt(2.2 / z.size)


def test_crowded_field_of_broad_spots_keeps_its_photons():
    # Far more spots than are drawn at once; one frame of some 3 million photons.
    movie, background, molecules = simulate_movie(
        1, 64, 64, psf_sigma_pix=8, events_per_frame=100, photons=1e4
    )
    spots = spots_by_loops(molecules.table(0, 1), movie.shape, 8)
    excess = (movie.compute() - background.compute().astype(np.float64)) / (2.2 * 0.8)
    # Poisson error of the sum, in photons: sqrt(sum / quantum efficiency), and the background's.
    error = math.sqrt((spots.sum() + 1.1 * 50 * 64 * 64) / 0.8)
    assert abs(excess.sum() - spots.sum()) < SIGMAS * error


def test_molecules_lie_on_fixed_sites_within_the_field():
    table = simulate_movie(400, 30, 50, seed=1).molecules.table(0, 400)
    assert table["y"].min() >= -0.5
    assert table["y"].max() < 29.5
    assert table["x"].min() >= -0.5
    assert table["x"].max() < 49.5
    sites, visits = np.unique(table[["y", "x"]], return_counts=True)
    # Sixteen filaments of at most one site per pixel of length, each visited again and again.
    assert 16 <= sites.size <= 16 * 59
    assert visits.mean() > 10


@pytest.mark.parametrize("mean", [1.0, 3.0, 12.5])
def test_events_blink_as_stated(mean):
    rate, frames, cap = 8.0, 1500, math.ceil(10 * mean)
    table = simulate_movie(
        frames, 32, 32, events_per_frame=rate, mean_duration_frames=mean, photons=500
    ).molecules.table(0, frames)
    # An event keeps its brightness, which no other event shares.
    brightness, first, duration = np.unique(table["photons"], return_index=True, return_counts=True)
    start = table["frame"][first]
    whole = (start > 0) & (start < frames - cap)
    n = np.count_nonzero(whole)
    last = np.array([table["frame"][table["photons"] == b].max() for b in brightness[:50]])
    np.testing.assert_array_equal(last - start[:50] + 1, duration[:50])

    # Starts: Poisson with rate times the frames looked at.
    looked_at = frames - cap - 1
    assert abs(n - rate * looked_at) < SIGMAS * math.sqrt(rate * looked_at)
    # Durations: geometric, standard deviation sqrt(mean (mean - 1)); the cut at ten means takes
    # mean * (1 - 1 / mean)^cap off.
    expected = mean * (1 - (1 - 1 / mean) ** cap)
    error = math.sqrt(mean * (mean - 1) / n)
    assert abs(duration[whole].mean() - expected) <= SIGMAS * error
    assert duration.max() <= cap
    # Brightness: gamma of shape 4, so 50 % spread; its kurtosis excess is 6 / 4, from which the
    # relative error of a standard deviation is sqrt((2 + 1.5) / 4 n).
    assert abs(brightness.mean() - 500) < SIGMAS * 250 / math.sqrt(brightness.size)
    assert abs(brightness.std() / 250 - 1) < SIGMAS * math.sqrt(3.5 / 4 / brightness.size)


def test_movie_starts_in_equilibrium():
    on = [
        simulate_movie(1, 8, 8, seed=seed, events_per_frame=5).molecules.table(0, 1).size
        for seed in range(100)
    ]
    # Molecules on in a frame are Poisson with events per frame times mean duration.
    assert abs(np.mean(on) - 15) < SIGMAS * math.sqrt(15 / 100)


def test_no_events_no_molecules():
    assert simulate_movie(5, 8, 8, events_per_frame=0).molecules.table(0, 5).size == 0


# ---- what is refused ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": 0}, "frames is 0: pass a whole number, 1 or more"),
        ({"height": 0}, "height is 0: pass a whole number, 1 to 65536"),
        ({"width": 65_537}, "width is 65537: pass a whole number, 1 to 65536"),
        ({"seed": -1}, "seed is -1: pass a whole number, 0 or more"),
        ({"chunks": 0}, "chunks is 0: pass a whole number, 1 or more"),
        ({"photons": -1}, "photons is -1: pass a number, 0 to 1e+09"),
        ({"psf_sigma_pix": 0}, "psf_sigma_pix is 0: pass a number, 0.1 to 100"),
        ({"events_per_frame": math.inf}, "events_per_frame is inf: pass a number, 0 to 100000"),
        ({"mean_duration_frames": 0.5}, "mean_duration_frames is 0.5: pass a number, 1 to 1000"),
        ({"background_photons": math.nan}, "background_photons is nan: pass a number, 0 to 1e+09"),
        ({"bleaching_frames": 0}, "bleaching_frames is 0: pass a number, 1 or more"),
        ({"quantum_efficiency": 1.1}, "quantum_efficiency is 1.1: pass a number, 1e-06 to 1"),
        ({"gain": 0}, "gain is 0: pass a number, 1e-06 to 1e+06"),
        ({"offset": 70_000}, "offset is 70000: pass a number, 0 to 65535"),
        ({"read_noise": -1}, "read_noise is -1: pass a number, 0 to 1e+06"),
    ],
)
def test_values_out_of_limits(arguments, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole message is compared
        simulate_movie(**arguments)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": 1.5}, "frames is 1.5: pass a whole number"),
        ({"seed": True}, "seed is True: pass a whole number"),
        ({"chunks": "auto"}, "chunks is 'auto': pass a whole number"),
        ({"gain": "2"}, "gain is '2': pass a number"),
        ({"offset": False}, "offset is False: pass a number"),
    ],
)
def test_values_that_are_no_numbers(arguments, message):
    with pytest.raises(TypeError) as error:
        simulate_movie(**arguments)
    assert str(error.value) == message


def test_numpy_numbers_are_numbers():
    movie = simulate_movie(np.int64(20), np.uint8(24), np.int32(33), seed=np.uint16(5),
                           events_per_frame=np.float32(6)).movie  # fmt: skip
    assert movie.name == simulate_movie(**SMALL).movie.name


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (3, 2), (0, 21), (21, 21)])
def test_table_out_of_the_movie(start, stop):
    with pytest.raises(ValueError, match=f"frames {start} to {stop}: the movie has 20 frames"):
        simulate_movie(**SMALL).molecules.table(start, stop)
