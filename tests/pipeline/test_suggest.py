"""The radius that is suggested for a movie, against the one of the least true error."""

import numpy as np
import pytest

from smlmlp_dask import (
    RadiusSuggestion,
    SpatialMean,
    TemporalMedian,
    plan_background,
    plan_spatial_mean,
    run_spatial_mean,
    simulate_movie,
    suggest_radius,
)
from smlmlp_dask.movies.stack import Stack
from smlmlp_dask.pipeline import measure
from smlmlp_dask.pipeline.background_error import RADII_PIX, tried_radii
from smlmlp_dask.pipeline.suggest import FEW_FRAMES, MOST_FRAMES
from tests.radius_scenes import Scene, least_true_error

WITHIN = 0.15
"""Largest relative distance of the suggested radius from the best one."""


def saved(frames, tmp_path, name="movie.npy"):
    np.save(tmp_path / name, frames)
    return tmp_path / name


def suggested(frames, tmp_path, **options):
    """The suggestion for a movie of one channel."""
    (channel,) = suggest_radius(saved(frames, tmp_path), **options).channels
    return channel


def simulated(frames=32, height=96, width=112, **options):
    return simulate_movie(frames, height, width, **{"seed": 5, **options}).movie.compute()


# ---- the radius of the least true error ----------------------------------------------------------

QUICK = {
    "few and small": Scene(1, (128, 160), options={"events_per_frame": 3, "psf_sigma_pix": 1.1}),
    "wide spots": Scene(2, (128, 160), options={"psf_sigma_pix": 2.2, "events_per_frame": 3}),
    "fine patches": Scene(3, (128, 160), (10.0, 100.0), {"events_per_frame": 3}),
}

# In these, the choices of the estimator were made.
KNOWN = {
    "default": Scene(1),
    "small and dim": Scene(2, options={"psf_sigma_pix": 1.0, "photons": 500}),
    "wide": Scene(3, options={"psf_sigma_pix": 2.0, "events_per_frame": 40}),
    "few": Scene(4, options={"events_per_frame": 3}),
    "very dense": Scene(5, options={"events_per_frame": 150}),
    "bright background": Scene(6, options={"background_photons": 300}),
    "noisy camera": Scene(7, options={"background_photons": 8, "read_noise": 4}),
    "small frame": Scene(9, (128, 200), options={"psf_sigma_pix": 1.6, "background_photons": 150}),
    "fine patches": Scene(14, (256, 256), (10.0, 100.0), {"events_per_frame": 5}),
    "finer patches": Scene(15, (256, 256), (8.0, 200.0), {"psf_sigma_pix": 1.0}),
}

# These were simulated once the choices were made.
OTHER = {
    "default": Scene(101),
    "bright and few": Scene(102, options={"photons": 4000, "events_per_frame": 4}),
    "dense": Scene(103, options={"events_per_frame": 80, "background_photons": 100}),
    "dim and few": Scene(104, options={"photons": 300, "events_per_frame": 10}),
    "wide and long": Scene(
        105, options={"psf_sigma_pix": 2.4, "mean_duration_frames": 12, "events_per_frame": 3}
    ),
    "strip": Scene(106, (64, 400), options={"background_photons": 200}),
    "bleaching": Scene(107, options={"bleaching_frames": 150, "background_photons": 120}),
    "coarse patches": Scene(108, (224, 256), (18.0, 80.0)),
    "noisy patches": Scene(109, (256, 224), (12.0, 40.0), {"read_noise": 5, "photons": 2000}),
    "wide on patches": Scene(
        110, (256, 256), (15.0, 150.0), {"psf_sigma_pix": 1.8, "photons": 2500}
    ),
}

SLOW = {f"{name}, {kind}": scene for kind, scenes in (("known", KNOWN), ("other", OTHER))
        for name, scene in scenes.items()}  # fmt: skip


def compare(scene, tmp_path):
    movie, other, truth = scene.movies()
    channel = suggested(movie, tmp_path)
    best, error = least_true_error(other, truth)
    (chosen,) = [row for row in channel.table if row.radius_pix == channel.radius_pix]
    assert 2.1 < best < 58, "the scene has no least error among the radii"
    at, least = error(channel.radius_pix), error(best)
    told = f"best {best:.3g} px; errors {at:.3g} and {least:.3g} counts"
    assert channel.radius_pix == pytest.approx(best, rel=WITHIN), told
    assert chosen.error_counts == pytest.approx(at, rel=0.35)


@pytest.mark.parametrize("scene", QUICK.values(), ids=QUICK)
def test_the_suggested_radius_is_near_the_best(scene, tmp_path):
    compare(scene, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("scene", SLOW.values(), ids=SLOW)
def test_it_is_on_many_scenes(scene, tmp_path):
    compare(scene, tmp_path)


# ---- what a suggestion says ----------------------------------------------------------------------


def test_the_table_has_the_figures_behind_it(tmp_path):
    channel = suggested(simulated(photons=3000), tmp_path)
    radii = [row.radius_pix for row in channel.table]
    assert radii == sorted({*tried_radii((96, 112)), channel.radius_pix})
    taken, uneven, error, share = np.array(
        [(r.taken_counts, r.uneven_counts, r.error_counts, r.share_of_peak) for r in channel.table]
    ).T
    assert (error <= taken + uneven).all()
    assert (np.diff(taken) < 0).all()
    assert (np.diff(share) < 0).all()
    assert channel.spot_sigma_pix == pytest.approx((1.3, 1.3), rel=0.15)
    # 1.33 is the sigma of a spot of 1.3 px in pixels; the mean's sigma is half its radius
    expected = 1.33**2 / (1.33**2 + (radii[5] / 2) ** 2)
    assert share[5] == pytest.approx(expected, rel=0.25)
    least = error[radii.index(channel.radius_pix)]
    assert least <= 1.02 * error.min()
    assert channel.reason.startswith(f"{channel.radius_pix:g} px errs least, by about {least:.2g}")


def test_each_channel_gets_its_own(tmp_path):
    wide = simulated(psf_sigma_pix=2.5, photons=8000, events_per_frame=4)
    path = saved(np.concatenate([simulated(), wide], axis=2), tmp_path)
    boxes = [[(0, 0, 112, 96), (112, 0, 224, 96)]]
    found = suggest_radius(path, bboxes=boxes, flips=[None, (False, True)], frames=slice(0, 24))
    assert [channel.channel for channel in found.channels] == [0, 1]
    narrow, broad = (channel.spot_sigma_pix for channel in found.channels)
    assert max(narrow) < 1.7 < 2.2 < min(broad)
    assert all(channel.looked_at == tuple(range(24)) for channel in found.channels)
    np.testing.assert_array_equal(found.channels[1].frame, wide[12, :, ::-1].astype("f4"))
    first, second = (channel.radius_pix for channel in found.channels)
    assert found.radii_pix == [(first, first), (second, second)]
    assert repr(found) == (f"RadiusSuggestion(channel 0: {first:g} px, channel 1: {second:g} px)")
    result = run_spatial_mean(path, tmp_path / "o.zarr", found.radii_pix, bboxes=boxes)
    assert result.info["channels_mean_radii_pix"] == found.radii_pix


def test_an_array_does_as_well_as_its_file(tmp_path):
    movie = simulated()
    (channel,) = suggest_radius(movie).channels
    assert channel.table == suggested(movie, tmp_path).table


def test_a_notebook_shows_reason_and_table(tmp_path):
    channel = suggested(simulated(), tmp_path)
    page = RadiusSuggestion((channel,))._repr_html_()
    assert channel.reason in page
    assert page.count("<tr>") == 1 + len(channel.table)
    assert page.count(f"<td><b>{channel.radius_pix:g} px</b></td>") == 1
    assert page.count("<td><b>") == 5


# ---- movies that are not as they should be -------------------------------------------------------


def field(frames=12, height=64, width=64, slope=0.0, noise=3.0):
    """Gaussian noise on a background that bulges, without molecules."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    clean = 200 - slope * (y**2 + x**2)
    rng = np.random.default_rng(2)
    return (clean + rng.normal(0, noise, (frames, height, width))).astype("f4")


def test_without_spots_unevenness_and_noise_decide(tmp_path):
    rough, smooth = (suggested(field(slope=slope), tmp_path) for slope in (150, 15))
    for channel in (rough, smooth):
        assert channel.spot_sigma_pix is None
        assert {row.share_of_peak for row in channel.table} == {None}
        assert channel.reason.startswith("No spots were found. ")
    assert rough.radius_pix < smooth.radius_pix


@pytest.mark.parametrize(
    ("movie", "start"),
    [
        (field(), "No spots were found. The background is flat, "),
        (simulated(background_photons=0, photons=3000), "The background is flat, "),
        (np.full((3, 40, 40), 7, "u2"), "No spots were found. The background is flat, "),
    ],
    ids=["noise", "spots", "constant"],
)
def test_on_a_flat_background_any_large_radius_does(movie, start, tmp_path):
    channel = suggested(movie, tmp_path)
    assert channel.reason.startswith(start)
    assert f"any radius from {channel.radius_pix:g} px on does" in channel.reason
    assert 7 <= channel.radius_pix <= max(movie.shape[1:]) / 2


@pytest.mark.parametrize(
    ("frames", "note"),
    [(1, "Only 1 frame: "), (FEW_FRAMES - 1, f"Only {FEW_FRAMES - 1} frames: "), (FEW_FRAMES, "")],
)
def test_few_frames_do_and_say_so(frames, note, tmp_path):
    channel = suggested(simulated(frames, 160, 160, photons=4000), tmp_path)
    assert channel.spot_sigma_pix == pytest.approx((1.3, 1.3), rel=0.3)
    notes = [line for line in channel.notes if line.startswith("Only")]
    assert bool(notes) == bool(note)
    assert not notes or notes[0].startswith(note)


@pytest.mark.parametrize("frames", [1, 9])
@pytest.mark.parametrize("frame", [(1, 1), (1, 2), (3, 3), (5, 200), (200, 3)])
def test_tiny_frames_do(frames, frame, tmp_path):
    movie = np.random.default_rng(0).poisson(100, (frames, *frame)).astype("u2")
    channel = suggested(movie, tmp_path)
    assert 2 <= channel.radius_pix <= max(7, max(frame) / 2)


@pytest.mark.parametrize(
    ("frame", "radii"),
    [
        ((1, 1), RADII_PIX[:4]),  # a curve needs some points
        ((30, 30), [r for r in RADII_PIX if r <= 15]),
        ((8, 60), [r for r in RADII_PIX if r <= 30]),  # a strip is wide along one axis
        ((2048, 2048), RADII_PIX),
    ],
)
def test_no_radius_larger_than_the_frame_is_tried(frame, radii):
    assert tried_radii(frame) == tuple(radii)


def test_saturation_is_noted(tmp_path):
    movie = simulated(photons=6000)
    assert not suggested(movie, tmp_path).notes
    (note,) = suggested(np.minimum(movie, 500), tmp_path).notes
    assert note.startswith("Saturated: ")
    assert "the largest count, 500;" in note


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_are_left_out(value, tmp_path):
    movie = simulated(photons=3000).astype("f4")
    right = suggested(movie, tmp_path)
    movie[3, :2] = value
    movie[:, 50, 60] = value
    channel = suggested(movie, tmp_path)
    count = 2 * 112 + 32
    (note,) = channel.notes
    assert note.startswith(f"{count} of {movie.size:,} pixels are no numbers")
    assert channel.radius_pix == pytest.approx(right.radius_pix, rel=0.05)


@pytest.mark.parametrize(
    ("movie", "message"),
    [
        (np.empty((0, 8, 8), "u2"), "channel 0 has no frames"),
        (np.full((3, 8, 8), np.nan, "f4"), "channel 0 has no pixel that is a number"),
    ],
    ids=["no frames", "no numbers"],
)
def test_what_cannot_be_judged_is_refused(movie, message, tmp_path):
    with pytest.raises(ValueError, match=f"^{message}"):
        suggest_radius(saved(movie, tmp_path))


def test_a_long_movie_is_read_here_and_there(tmp_path, monkeypatch):
    movie = np.lib.format.open_memmap(
        tmp_path / "long.npy", mode="w+", dtype="u2", shape=(10**5, 32, 40)
    )
    del movie  # a sparse file
    read = []
    monkeypatch.setattr(Stack, "read", noting(read, Stack.read))
    (channel,) = suggest_radius(tmp_path / "long.npy").channels
    assert read == [(1, 32, 40)] * MOST_FRAMES
    assert channel.looked_at[0] == 0
    assert channel.looked_at[-1] == 10**5 - 1
    assert len(set(np.diff(channel.looked_at).tolist())) <= 2


def noting(shapes, read):
    def noted(stack):
        shapes.append(stack.shape)
        return read(stack)

    return noted


# ---- a plan --------------------------------------------------------------------------------------


@pytest.fixture
def movie(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "SECONDS", 0.05)
    return saved(simulated(height=128, width=128, photons=3000), tmp_path)


def test_a_plan_warns_of_a_radius_that_is_far_off(movie, tmp_path):
    plan = plan_spatial_mean(movie, 1.5, measured=True, destination=tmp_path / "o.zarr")
    (line,) = plan.warnings
    assert line.startswith("channel 0: the background of radius 1.5 px takes 7")
    assert "% of a spot's peak and errs by about " in line
    assert line.endswith(f"see: smlmlp-dask radius {movie}")
    narrow = plan_spatial_mean(movie, (1.5, 2), measured=True).warnings
    assert "of radius 1.5 × 2 px takes " in narrow[0]
    wide = saved(field(slope=300), tmp_path, "wide.npy")
    (line,) = plan_spatial_mean(wide, 30, measured=True).warnings
    assert line.startswith("channel 0: the background of radius 30 px errs by about ")


@pytest.mark.parametrize(
    ("steps", "measured"),
    [
        (SpatialMean(12.0), True),
        (SpatialMean(1.5), False),  # only metadata are read
        ([TemporalMedian(3), SpatialMean(1.5)], True),  # the mean is of what a median left
    ],
    ids=["good", "not measured", "after a median"],
)
def test_a_plan_does_not_warn(steps, measured, movie):
    assert plan_background(movie, steps, measured=measured).warnings == ()


def test_a_plan_of_a_movie_without_numbers_is_no_error(movie, tmp_path):
    path = saved(np.full((3, 20, 20), np.nan, "f4"), tmp_path, "nan.npy")
    assert plan_spatial_mean(path, 1.5, measured=True).warnings == ()
