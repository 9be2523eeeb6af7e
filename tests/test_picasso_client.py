"""Picasso finds and fits simulated molecules on what we hand over.

It brings Qt and a web server, so it is no part of the extra `test`: `.ci/run` gives it an
environment of its own.
"""

from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from scipy.spatial import KDTree
from scipy.special import erf

from smlmlp_dask import SpatialMean, TemporalMedian, export_movie, run_background, simulate_movie

WHY = "Picasso is not installed here; .ci/run runs this file with picassosr 0.11.3"
pytest.importorskip("picasso", reason=WHY)

from picasso import io, localize  # noqa: E402

FRAMES, HEIGHT, WIDTH = 150, 96, 128
OFFSET, GAIN, QUANTUM_EFFICIENCY, SPOT_SIGMA = 100, 2.2, 0.8, 1.3
PEDESTAL = 200
BOX = 7  # pixels: the side of what Picasso looks at
EDGE = 5  # it finds nothing nearer to the edge
LOW, FIXED = 400, 700  # net gradients, in counts: one that takes noise, too, and a usual one
STEPS = {"mean": [SpatialMean(7.0)], "chain": [TemporalMedian(25), SpatialMean(7.0)]}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Picasso keeps its settings there."""
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """A function of the number of emitters that never go off: a movie, its truth, its signals."""

    @cache
    def made(immobile):
        folder = tmp_path_factory.mktemp("field")
        simulated = simulate_movie(
            FRAMES,
            HEIGHT,
            WIDTH,
            seed=4,
            photons=800,
            events_per_frame=1.5,
            background_photons=100,
            bleaching_frames=100,  # it loses a third during the movie
            offset=OFFSET,
            gain=GAIN,
            quantum_efficiency=QUANTUM_EFFICIENCY,
            psf_sigma_pix=SPOT_SIGMA,
        )
        rng = np.random.default_rng(4)
        places = rng.uniform(10, np.array([HEIGHT, WIDTH]) - 11, (immobile, 2))
        light = QUANTUM_EFFICIENCY * spots(places, rng.uniform(500, 1500, immobile))
        movie = simulated.movie.compute() + GAIN * rng.poisson(light, (FRAMES, HEIGHT, WIDTH))
        movie = np.rint(movie).astype(np.uint16)
        tifffile.imwrite(folder / "movie.tif", movie, photometric="minisblack")
        stores = {
            name: run_background(
                folder / "movie.tif", folder / name, steps, "signal", pedestal=PEDESTAL
            )
            for name, steps in STEPS.items()
        }
        files = {
            name: export_movie(store, folder / f"{name}.raw") for name, store in stores.items()
        }
        files["raw"] = export_movie(stores["mean"], folder / "raw.raw", what="raw")
        return SimpleNamespace(
            folder=folder,
            movie=movie,
            stores=stores,
            files=files,
            places=places,
            truth=simulated.molecules.table(0, FRAMES),
        )

    return made


def spots(places, photons):
    """Return the photons that each pixel gets from Gaussian spots."""
    shares = []
    for size, centres in zip((HEIGHT, WIDTH), places.T, strict=True):
        edges = np.arange(size + 1)[:, np.newaxis] - 0.5 - centres
        shares.append(np.diff(erf(edges / (np.sqrt(2) * SPOT_SIGMA)), axis=0) / 2)
    return np.einsum("yn,xn,n->yx", *shares, photons)


def identify(movie, threshold, **options):
    """Return Picasso's spots: frame, x, y, net_gradient, in order of frames."""
    return localize.identify(movie, threshold, BOX, **{"threaded": False, **options})[0]


def places_of(table):
    """Return (frame, y, x) so far apart in frames that spots of two frames are never near."""
    return np.stack([1000.0 * table["frame"], table["y"], table["x"]], axis=1)


def score(found, truth):
    """Return recall and precision: within a pixel along both axes, in the same frame."""
    near = {"p": np.inf, "distance_upper_bound": 1.0}
    y, x = truth["y"], truth["x"]
    inside = (y >= EDGE) & (y < HEIGHT - EDGE) & (x >= EDGE) & (x < WIDTH - EDGE)
    of_molecules = KDTree(places_of(found)).query(places_of(truth[inside]), **near)[0]
    of_spots = KDTree(places_of(truth)).query(places_of(found), **near)[0]
    return np.isfinite(of_molecules).mean(), np.isfinite(of_spots).mean()


# ---- the ways in ---------------------------------------------------------------------------------


@contextmanager
def handed_over(store, folder, way):
    """A stored signal as Picasso gets it: by a file that it opens, or by our reader."""
    if way == "frames":
        yield store.frames()
        return
    movie, _ = io.load_movie(str(export_movie(store, folder / f"signal{way}")))
    yield movie
    if way == ".tif":
        movie.close()


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize("way", [".raw", ".tif", "frames"])
def test_every_way_in_gives_the_same_spots(field, tmp_path, way, threaded):
    store = field(12).stores["chain"]
    expected = identify(store.signals[0].compute(), LOW)
    with handed_over(store, tmp_path, way) as movie:
        found = identify(movie, LOW, threaded=threaded)
    assert len(expected) > 1000
    columns = ["frame", "x", "y", "net_gradient"]
    assert found[columns].to_numpy().tobytes() == expected[columns].to_numpy().tobytes()


def test_what_it_reads_of_the_files(field):
    here = field(12)
    for name, baseline in (("chain", PEDESTAL), ("raw", None)):
        movie, (about, *_) = io.load_movie(str(here.files[name]))
        assert (movie.dtype, movie.shape) == (np.uint16, (FRAMES, HEIGHT, WIDTH))
        assert about.get("Baseline") == baseline
    assert np.array_equal(movie, here.movie)


# ---- what it finds -------------------------------------------------------------------------------


def scores(here):
    """Return recall and precision on raw frames and both signals, at the same net gradient."""
    movies = {"raw": here.movie, **{name: at.frames() for name, at in here.stores.items()}}
    return {name: score(identify(movie, FIXED), here.truth) for name, movie in movies.items()}


def test_on_a_smooth_glow_it_finds_as_many_and_fewer_that_are_none(field):
    """A net gradient hardly sees a glow, so there is little to gain."""
    found = scores(field(0))
    (recall, precision), (recall_of_mean, precision_of_mean) = found["raw"], found["mean"]
    assert recall > 0.7
    assert recall_of_mean > recall - 0.02
    assert precision_of_mean > precision + 0.03


def test_only_the_chain_takes_off_what_never_goes_off(field):
    found = scores(field(12))
    recall, precision = found["chain"]
    assert recall > 0.75
    assert precision > 0.75
    for name in ("raw", "mean"):
        assert recall > found[name][0] - 0.02
        assert found[name][1] < 0.35


# ---- what it fits --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lonely(field):
    """Spots found on the chain's signal, with one molecule and no emitter near."""
    here = field(12)
    found = identify(here.stores["chain"].frames(), FIXED)
    at, tree = places_of(found), KDTree(places_of(here.truth))
    single = np.array([len(near) == 1 for near in tree.query_ball_point(at, BOX + 1)])
    true = tree.query(at, p=np.inf)[0] <= 1
    still = KDTree(here.places).query(at[:, 1:])[0] > BOX + 1
    return found[single & true & still].reset_index(drop=True)


@pytest.fixture(scope="module")
def fitted(field, lonely):
    """A function of a file, a method and a baseline: how Picasso's fits compare with the truth."""
    here = field(12)
    truth = here.truth
    tree = KDTree(places_of(truth))

    @cache
    def compared(name, method, baseline):
        movie, _ = io.load_movie(str(here.files[name]))
        camera = {"Baseline": baseline, "Sensitivity": 1 / GAIN, "Gain": 1, "Pixelsize": 100}
        fits, _ = localize.fit(
            movie, camera_info=camera, identifications=lonely, box=BOX, fitting_method=method
        )
        assert len(fits) == len(lonely) > 200
        _, nearest = tree.query(places_of(fits), p=np.inf)
        photons = QUANTUM_EFFICIENCY * truth["photons"][nearest]
        error = np.abs(fits["x"].to_numpy() - truth["x"][nearest])
        return SimpleNamespace(
            bias=np.median(fits["photons"] / photons) - 1,
            error=np.percentile(error, 68.3),
            # it states no precision where a floor is far below 0
            over_stated=np.nanpercentile(error / fits["lpx"], 68.3),
        )

    return compared


@pytest.mark.parametrize("name", STEPS)
def test_likelihood_on_a_signal_is_wrong(fitted, name):
    """It takes the noise of a pixel from its level, which the subtraction has lowered."""
    raw = fitted("raw", "gaussmle", OFFSET)
    signal = fitted(name, "gaussmle", PEDESTAL)
    assert abs(raw.bias) < 0.1
    assert signal.bias < -0.25
    assert signal.over_stated > 2
    assert signal.over_stated > 1.4 * raw.over_stated


@pytest.mark.parametrize("name", STEPS)
def test_least_squares_on_a_signal_finds_places_as_well_and_overstates_how_well(fitted, name):
    raw = fitted("raw", "gausslq", OFFSET)
    signal = fitted(name, "gausslq", PEDESTAL)
    assert signal.error < raw.error  # a glow that slopes pulls at fits of raw frames
    assert -0.2 < signal.bias < 0
    assert signal.over_stated > 1.5


@pytest.mark.parametrize("method", ["gaussmle", "gausslq"])
@pytest.mark.parametrize("name", STEPS)
def test_a_baseline_that_leaves_the_mean_background_mends_both(field, fitted, name, method):
    """The fitter then sees noise that belongs to its level, on a floor without slopes."""
    signal = field(12).stores[name].signals[0].astype(np.float32).compute()
    background = field(12).movie.mean() - (signal.mean() - PEDESTAL)
    fit = fitted(name, method, PEDESTAL - (background - OFFSET))
    assert 0.85 < fit.over_stated < 1.2
    assert -0.22 < fit.bias < 0
    assert fit.error < 0.9 * fitted("raw", method, OFFSET).error
