"""The reference's own next steps find the same molecules on our backgrounds as on its own.

`smlmlp` needs Python 3.12 and brings an OpenCV that quarrels with others, so it is no part of the
extra `test`: `.ci/run` gives it an environment of its own.
"""

from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr

import smlmlp_dask
from smlmlp_dask import open_backgrounds, open_channels, run_background, run_spatial_mean

from . import reference, snr_cases, step_cases

WHY = "smlmlp is not installed here; .ci/run runs this file with smlmlp 0.1.20"
arrlp = pytest.importorskip("arrlp", reason=WHY)
stacklp = pytest.importorskip("stacklp", reason=WHY)
smlmlp = pytest.importorskip("smlmlp", reason=WHY)

# smlmlp 0.1.20 imports get_xp from stacklp, whose releases on PyPI do not have it.
stacklp.get_xp = arrlp.get_xp

# Its load_data asks a server for memory, which nobody runs here, and leaves the socket open.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

FRAMES = 40
CHUNK = 16  # of which the last is short
SHAPES = [(64, 72), (60, 56)]
ours = smlmlp.block()(smlmlp_dask.bkgd_spatial_mean)


def config():
    """Return the reference's own configuration, as it comes: cuda=0, parallel=0."""
    return smlmlp.Config(ncameras=len(SHAPES))


@pytest.fixture(scope="module")
def movies():
    """Two channels of different size."""
    return [
        smlmlp_dask.simulate_movie(FRAMES, *shape, seed=seed).movie.compute()
        for seed, shape in enumerate(SHAPES)
    ]


@pytest.fixture(scope="module")
def paths(movies, tmp_path_factory):
    """The same as TIFF files."""
    folder = tmp_path_factory.mktemp("movies")
    paths = [str(folder / f"{i}.tif") for i in range(len(movies))]
    for path, movie in zip(paths, movies, strict=True):
        tifffile.imwrite(path, movie, photometric="minisblack")
    return paths


@pytest.fixture(scope="module")
def theirs(movies):
    """What the reference finds on its own background."""
    bkgds, noise, _ = smlmlp.bkgd_spatial_mean(movies, config=config())
    return detect(movies, bkgds, noise)


def detect(channels, bkgds, noise, f0=0):
    """Take the reference's steps from a background to detections and their crops."""
    # Its configuration says parallel=0, which its own compiled steps refuse: one thread is 1.
    options = {"config": config(), "parallel": 1}
    signals = [channel - bkgd for channel, bkgd in zip(channels, bkgds, strict=True)]
    filtered, noise, _ = smlmlp.signal_spatial_filter(
        channels, bkgds=bkgds, noise_corrections=noise, **options
    )
    snrs, _ = smlmlp.detect_snr(filtered, bkgds, noise, **options)
    frame, x, y, channel, _ = smlmlp.detect_spatial_maxima(snrs, f0=f0, **options)
    crops, _, _, _ = smlmlp.crop_individual_extract(
        [np.asarray(signal) for signal in signals], frame, x, y, channel, f0=f0, **options
    )
    crops = np.concatenate(crops)
    order = np.lexsort((x, y, frame, channel))
    return SimpleNamespace(
        frame=frame[order], channel=channel[order], x=x[order], y=y[order], crops=crops[order]
    )


def joined(chunks):
    """Put what was found chunk after chunk in the order of the whole movie."""
    found = {
        name: np.concatenate([getattr(chunk, name) for chunk in chunks])
        for name in ("frame", "channel", "x", "y", "crops")
    }
    order = np.lexsort((found["x"], found["y"], found["frame"], found["channel"]))
    return SimpleNamespace(**{name: values[order] for name, values in found.items()})


def assert_same(found, theirs):
    """Compare detections: counts, frames, channels; positions to 1/1000 px, crops to the tolerance.

    A position is a centre of mass, at 100 nm a pixel. A few divide by nearly 0, lie far outside the
    field and pass the backgrounds' last bits on: hence the relative part.
    """
    assert len(theirs.frame) > 1000
    assert np.array_equal(found.channel, theirs.channel)
    assert np.array_equal(found.frame, theirs.frame)
    np.testing.assert_allclose(found.x, theirs.x, rtol=1e-5, atol=0.1)
    np.testing.assert_allclose(found.y, theirs.y, rtol=1e-5, atol=0.1)
    np.testing.assert_allclose(found.crops, theirs.crops, rtol=0, atol=reference.TOLERANCE * 1000)


@pytest.mark.parametrize("given", ["numpy", "dask", "zarr", "opened"])
def test_lazy_backgrounds(movies, paths, theirs, given):
    channels = {
        "numpy": lambda: movies,
        "dask": lambda: [da.from_array(movie, chunks=(7, 30, -1)) for movie in movies],
        "zarr": lambda: [zarr.create_array({}, data=movie, chunks=(8, 64, 64)) for movie in movies],
        "opened": lambda: open_channels(*paths),
    }[given]()
    bkgds, noise, _ = ours(channels, config=config())
    assert all(isinstance(bkgd, da.Array) for bkgd in bkgds)
    channels = movies if given == "zarr" else channels
    assert_same(detect(channels, bkgds, noise), theirs)


def test_numpy_targets(movies, theirs):
    buffers = [np.empty((FRAMES + 2, *shape), np.float32) for shape in SHAPES]
    bkgds, noise, _ = ours(movies, bkgds=buffers, config=config())
    assert all(np.shares_memory(*pair) for pair in zip(bkgds, buffers, strict=True))
    assert_same(detect(movies, bkgds, noise), theirs)


def test_a_stored_result(movies, paths, theirs, tmp_path):
    run_spatial_mean(paths, tmp_path / "b.zarr", parallel=config().parallel)
    result = open_backgrounds(tmp_path / "b.zarr")
    assert_same(detect(movies, result.bkgds, result.noise_corrections), theirs)


def test_chunk_after_chunk_into_the_same_arrays(paths, theirs):
    buffers = [np.empty((CHUNK, *shape), np.float32) for shape in SHAPES]
    found = []
    for channels, info in smlmlp.load_data(*paths, chunk=CHUNK):
        bkgds, noise, _ = ours(channels, bkgds=buffers, config=config())
        found.append(detect(channels, bkgds, noise, f0=info["chunk0"]))
    assert len(found) == 3
    assert_same(joined(found), theirs)


@pytest.mark.parametrize("opened", [True, False])
def test_chunk_after_chunk_of_a_stored_result(paths, theirs, tmp_path, opened):
    """The steps multiply the factors they are given in place: each chunk needs them whole."""
    result = run_spatial_mean(paths, tmp_path / "b.zarr")
    if opened:
        result = open_backgrounds(tmp_path / "b.zarr")
    found = []
    for channels, info in smlmlp.load_data(*paths, chunk=CHUNK):
        frames = slice(info["chunk0"], info["chunk0"] + len(channels[0]))
        bkgds = [bkgd[frames] for bkgd in result.bkgds]
        found.append(detect(channels, bkgds, result.noise_corrections, f0=info["chunk0"]))
    assert_same(joined(found), theirs)


def test_inside_the_references_own_default_background(movies, monkeypatch):
    """A temporal median, then the local mean of what it leaves: into the median's arrays."""
    combination = smlmlp.bkgd_combination.__wrapped__
    options = {"median_window_fr": 5, "parallel": 1}
    bkgds, noise, _ = combination(movies, **options)
    theirs = detect(movies, bkgds, noise)
    calls = []

    def counted(channels, /, **given):
        calls.append(given["bkgds"])
        return ours(channels, **given)

    monkeypatch.setitem(combination.__globals__, "bkgd_spatial_mean", counted)
    bkgds, noise, _ = combination(movies, **options)
    assert len(calls) == 1
    assert all(isinstance(bkgd, np.ndarray) for bkgd in bkgds)
    assert_same(detect(movies, bkgds, noise), theirs)


# ---- its other background steps -----------------------------------------------------------------


@pytest.mark.parametrize("case", step_cases.CASES, ids=str)
def test_steps_case_by_case(case):
    """Median and opening bit for bit, also in what `info` says."""
    channels = step_cases.channels_of(case)
    theirs, their_factors, their_info = step_cases.run(smlmlp, case, channels)
    bkgds, factors, info = step_cases.run(smlmlp_dask, case, channels)
    assert np.array(factors).tobytes() == np.array(their_factors).tobytes()
    assert info.keys() - {"channels_mean_radius_pix"} == their_info.keys()
    if "footprints" in info:
        for one, other in zip(info["footprints"], their_info["footprints"], strict=True):
            assert (one.dtype, one.tobytes()) == (other.dtype, other.tobytes())
    for bkgd, expected, channel in zip(bkgds, theirs, channels, strict=True):
        result = bkgd.compute()
        if case.kind != "combination":
            assert result.tobytes() == expected.tobytes()
        error = np.abs(result.astype(float) - expected).max()
        assert error <= reference.TOLERANCE * np.abs(channel.astype(float)).max()


def test_its_default_background_gives_the_same_detections(movies):
    """Its median and local mean, and ours, wrapped as it wraps its own."""
    options = {"median_window_fr": 5, "parallel": 1}
    bkgds, noise, _ = smlmlp.bkgd_combination(movies, **options)
    theirs = detect(movies, bkgds, noise)
    combination = smlmlp.block()(smlmlp_dask.bkgd_combination)
    settings = SimpleNamespace(median_window_fr=5, cuda=0, parallel=0)
    bkgds, noise, info = combination(movies, config=settings)
    assert info["median_window_fr"] == 5
    assert_same(detect(movies, bkgds, noise), theirs)


def test_our_median_inside_its_combination(movies, monkeypatch):
    """It fills arrays of its own, which the next step takes and fills again."""
    combination = smlmlp.bkgd_combination.__wrapped__
    options = {"do_spatial_opening": True, "median_window_fr": 3, "parallel": 1}
    given = [movie[:12] for movie in movies]
    theirs, _, _ = combination(given, **options)
    for name in ("bkgd_temporal_median", "bkgd_spatial_opening"):
        ours_of_it = smlmlp.block()(getattr(smlmlp_dask, name))
        monkeypatch.setitem(combination.__globals__, name, ours_of_it)
    buffers = [np.empty((14, *movie.shape[1:]), np.float32) for movie in given]
    bkgds, _, _ = combination(given, buffers, **options)
    for bkgd, expected in zip(bkgds, theirs, strict=True):
        assert np.asarray(bkgd).tobytes() == expected.tobytes()


# ---- the reference's decorator -------------------------------------------------------------------

RADII = [(6.0, 6.0), (8.0, 10.0)]


@pytest.mark.parametrize("where", ["config", "locs"])
def test_settings_come_from_config_and_locs(movies, where):
    given = SimpleNamespace(channels_mean_radii_pix=RADII, cuda=0, parallel=0)
    if where == "locs":
        given = SimpleNamespace(config=given, detections=SimpleNamespace(), times={})
    bkgds, noise, info = ours(movies, **{where: given})
    expected, expected_noise, _ = smlmlp_dask.bkgd_spatial_mean(movies, RADII)
    assert info["channels_mean_radii_pix"] == RADII
    assert noise == expected_noise
    assert bkgds[1].compute().tobytes() == expected[1].compute().tobytes()
    if where == "locs":
        assert given.times["bkgd_spatial_mean"] > 0


@pytest.mark.parametrize("radii", [None, 5.0])
def test_what_is_passed_goes_before_the_configuration(movies, radii):
    """None stands for what is not given, by position too."""
    given = SimpleNamespace(channels_mean_radii_pix=RADII, parallel=-1)
    _, _, by_name = ours(movies, channels_mean_radii_pix=radii, config=given)
    _, _, by_place = ours(movies, radii, None, None)
    expected = RADII if radii is None else [(5.0, 5.0)] * 2
    assert by_name["channels_mean_radii_pix"] == expected
    assert by_place["channels_mean_radii_pix"] == [(radii or 7.0, radii or 7.0)] * 2


def test_real_locs(movies):
    locs = smlmlp.Locs(config=config())
    _, noise, info = ours(movies, locs=locs)
    assert info["channels_mean_radii_pix"] == [(7.0, 7.0)] * 2
    assert noise == smlmlp.bkgd_spatial_mean(movies, locs=locs)[1]


# ---- its signal-to-noise ratio -------------------------------------------------------------------


@pytest.mark.parametrize("case", snr_cases.CASES, ids=str)
def test_ratios_case_by_case(case):
    """The reference still gives what the golden cases hold."""
    golden = np.load(snr_cases.GOLDEN)[f"{snr_cases.CASES.index(case)}_snr"]
    assert snr_cases.ulps(snr_cases.run(smlmlp, case), golden) <= snr_cases.ULPS


def test_a_stored_ratio_is_that_of_the_reference(paths, tmp_path):
    """Of the signals and backgrounds that the same job stored."""
    outputs = ("background", "signal", "snr")
    result = run_background(paths, tmp_path / "out.zarr", outputs=outputs, gain=[0.25, 0.47])
    signals, bkgds = ([one.compute() for one in of] for of in (result.signals, result.bkgds))
    theirs, _ = smlmlp.detect_snr(
        signals, bkgds, result.noise_corrections, channels_gains=[0.25, 0.47], parallel=1
    )
    for snr, expected in zip(result.snrs, theirs, strict=True):
        assert snr_cases.ulps(snr.compute(), expected) <= snr_cases.ULPS
