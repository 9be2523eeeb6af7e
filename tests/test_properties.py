"""Whatever is passed: either the reference's result, or an error before anything has changed."""

import shutil
import tempfile
import warnings
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import event, given
from hypothesis import strategies as st

from smlmlp_dask import (
    bkgd_spatial_mean,
    noise_correction,
    open_backgrounds,
    run_spatial_mean,
    verify_backgrounds,
)

from . import reference, strategies

REFUSED = (ValueError, TypeError)
HUGE = 10**30


def mostly(valid, wrong):
    """Draw a wrong value now and then: with many options, one is enough to be refused."""
    return st.integers(0, 14).flatmap(lambda n: st.sampled_from(wrong) if n == 7 else valid)


def attempt(call):
    """Return a call's result and the error by which it was refused; one of them is None."""
    try:
        result = call()
    except REFUSED as error:
        event("refused")
        return None, error
    event("result")
    return result, None


# ---- bkgd_spatial_mean ---------------------------------------------------------------------------

wrong_radii = [0, -1.0, float("nan"), float("inf"), HUGE, "7", None, 7j, True, b"7", {}, object()]
radius = strategies.radii
radii = mostly(
    st.one_of(
        radius,
        radius.map(np.float32),
        st.tuples(radius, radius),
        st.lists(radius, min_size=2, max_size=2).map(np.array),
        st.lists(st.tuples(radius, radius), min_size=1, max_size=3),
    ),
    [*wrong_radii, [], [7.0], [7.0] * 3, [7.0, (6, 6)], [[(6, 6)]], np.ones((2, 3)), [(7, 0)] * 2],
)


@st.composite
def channel(draw):
    """A stack in one of the forms that are taken, as large as the slow reference can filter."""
    stack = draw(strategies.stacks(max_frames=2, max_side=9))
    form = draw(st.sampled_from(["array", "chunks", "view", "zarr"]))
    if form == "chunks":
        return draw(strategies.chunked(stack)), stack
    if form == "view":
        return stack[::-1, :, ::-1], stack[::-1, :, ::-1]
    if form == "zarr":
        stack = stack.astype(stack.dtype.newbyteorder("="))
        return zarr.create_array({}, data=stack, chunks=(1, 4, 5)), stack
    return stack, stack


def wrong_channels():
    wrong = [np.zeros(shape) for shape in [(), (3,), (3, 4), (1, 2, 3, 4), (2, 0, 3)]]
    wrong += [np.zeros((2, 3, 4), dtype) for dtype in ("?", "c8", "O", "U2")]
    wrong += [None, 7, "movie.tif", [[[1.0]]], np.ma.zeros((2, 3, 4)), da.zeros((2, 3))]
    return st.sampled_from(wrong).map(lambda array: (array, None))


@st.composite
def corrections(draw, count):
    count += draw(st.sampled_from([0] * 8 + [-1, 1]))
    factors = draw(
        st.lists(
            mostly(st.floats(0, 4, width=32), [-1.0, float("nan"), float("inf"), "1", None, 1j]),
            min_size=max(0, count),
            max_size=max(0, count),
        )
    )
    form = draw(st.sampled_from([list, tuple, np.array, lambda _: None]))
    return form(factors)


@st.composite
def targets(draw, stacks):
    """Outputs with room to spare, now and then with something wrong about them."""
    made = []
    for stack in stacks:
        frames, height, width = stack.shape
        shape = (frames + draw(st.integers(0, 2)), height, width)
        made.append(np.full(shape, 7, np.float32))
    flaw = draw(st.sampled_from([None] * 6 + ["dtype", "short", "wide", "count", "frozen", "none"]))
    match flaw:
        case "dtype":
            made[-1] = made[-1].astype(float)
        case "short":
            made[-1] = np.full((len(stacks[-1]) - 1, *stacks[-1].shape[1:]), 7, np.float32)
        case "wide":
            made[-1] = made[-1][:, :, :0]
        case "count":
            made.append(made[0])
        case "frozen":
            made[-1].flags.writeable = False
        case "none":
            made[-1] = None
    return made


def copied(value):
    """Return what can be compared with a later state of the same value."""
    if isinstance(value, list | tuple):
        return [copied(entry) for entry in value]
    if isinstance(value, np.ndarray):
        return (value.shape, value.dtype.str, repr(value.tolist()))
    return repr(value)


@strategies.examples(150)
@given(data=st.data())
def test_arrays_in_result_or_refusal_out(data):
    pairs = data.draw(st.lists(mostly(channel(), [None]), min_size=1, max_size=2))
    pairs = [pair if pair is not None else data.draw(wrong_channels()) for pair in pairs]
    channels = [given_channel for given_channel, _ in pairs]
    stacks = [stack for _, stack in pairs]
    known = all(stack is not None and len(stack) for stack in stacks)
    options = {
        "channels_mean_radii_pix": data.draw(radii),
        "noise_corrections": data.draw(corrections(len(pairs))),
        "engine": data.draw(mostly(st.sampled_from(["auto", "fused", "dask-image"]), ["x", None])),
        "parallel": data.draw(
            mostly(st.sampled_from([True, False, None, 0, -1, 1, 3]), [-2, 1.5, "2"])
        ),
        "bkgds": data.draw(st.one_of(st.none(), targets(stacks))) if known else None,
    }
    before = copied([stacks, options["noise_corrections"], options["bkgds"]])
    factors = options["noise_corrections"]
    factors = [1.0] * len(pairs) if factors is None else [float(f) for f in _numbers(factors)]
    result, error = attempt(lambda: bkgd_spatial_mean(channels, **options))
    if error:
        assert str(error).isprintable()
        assert copied([stacks, options["noise_corrections"], options["bkgds"]]) == before
        return
    bkgds, noise, info = result
    assert copied(stacks) == before[0]
    for i, (stack, (ry, rx)) in enumerate(
        zip(stacks, info["channels_mean_radii_pix"], strict=True)
    ):
        expected = reference.background(stack, ry / 2, rx / 2)
        limit = reference.tolerance(ry, rx) * np.abs(stack.astype(np.float32)).max(initial=0)
        result = np.asarray(bkgds[i])
        assert result.dtype == np.float32
        assert result.shape == stack.shape
        assert np.abs(result - expected).max(initial=0) <= limit
        factor = factors[i] * noise_correction(ry / 2, rx / 2)
        np.testing.assert_allclose(noise[i], factor, rtol=2.0**-22)
        if options["bkgds"] is not None:
            target = options["bkgds"][i]
            assert target[: len(stack)].tobytes() == result.tobytes()
            assert (target[len(stack) :] == 7).all()


def _numbers(values):
    return [value for value in values if isinstance(value, float | np.floating)]


# ---- run_spatial_mean ----------------------------------------------------------------------------

FRAMES, HEIGHT, WIDTH = 9, 14, 12
MOVIE = np.random.default_rng(3).poisson(120, (FRAMES, HEIGHT, WIDTH)).astype(np.uint16)


GRAY = {"photometric": "minisblack"}


def write_frames(path):
    path.mkdir()
    for index, frame in enumerate(MOVIE):
        tifffile.imwrite(path / f"{index}.tif", frame, **GRAY)


SOURCES = {
    "movie.tif": lambda path: tifffile.imwrite(path, MOVIE, byteorder=">", **GRAY),
    "tiles.tif": lambda path: tifffile.imwrite(
        path, MOVIE, tile=(16, 16), compression="zlib", **GRAY
    ),
    "movie.zarr": lambda path: zarr.create_array(path, data=MOVIE, chunks=(4, 5, 12)),
    "movie.raw": lambda path: MOVIE.astype(">u2").tofile(path),
    "frames": write_frames,
}
"""The same movie in every kind of file."""


bounds = st.one_of(st.none(), st.integers(-FRAMES - 2, FRAMES + 2), st.sampled_from([HUGE, -HUGE]))
frames = mostly(
    st.one_of(
        st.none(), st.builds(slice, bounds, bounds, st.sampled_from([None, 1, 2, -1, -3, HUGE]))
    ),
    [slice(None, None, 0), slice(0, 2.5), slice("a"), 5, range(3), (0, 5)],
)


@st.composite
def box(draw):
    x0, y0 = draw(st.integers(0, WIDTH - 1)), draw(st.integers(0, HEIGHT - 1))
    return (x0, y0, draw(st.integers(x0 + 1, WIDTH)), draw(st.integers(y0 + 1, HEIGHT)))


wrong_boxes = [(0, 0, WIDTH + 1, 2), (3, 3, 3, 9), (-1, 0, 2, 2), (0, 0, 2), (0, 0, 2.0, 2), HUGE]
boxes = st.one_of(st.none(), st.lists(mostly(box(), wrong_boxes), min_size=1, max_size=2))
flip = st.one_of(st.none(), st.tuples(st.booleans(), st.booleans()))


def by_hand(bboxes, flips, selection):
    """Cut and turn the array as one would at a prompt."""
    channels = []
    for x0, y0, x1, y1 in bboxes or [(0, 0, WIDTH, HEIGHT)]:
        part = MOVIE[selection or slice(None), y0:y1, x0:x1]
        flip_y, flip_x = (flips[len(channels)] if flips else None) or (False, False)
        channels.append(part[:, :: -1 if flip_y else 1, :: -1 if flip_x else 1])
    return channels


def tree(folder):
    return sorted((path, path.lstat().st_mtime_ns) for path in folder.rglob("*"))


@pytest.mark.filterwarnings("ignore:.* has 9 frames, fewer than frames=")  # verify says it again
@strategies.examples(150)
@given(data=st.data())
def test_paths_in_store_or_refusal_out(tmp_path_factory, data):
    folder = Path(tempfile.mkdtemp(dir=tmp_path_factory.getbasetemp()))
    try:
        _job(data, folder)
    finally:
        shutil.rmtree(folder)


def _job(data, folder):
    name = data.draw(st.sampled_from([*SOURCES]))
    source, raw = folder / name, name == "movie.raw"
    SOURCES[name](source)
    bboxes = data.draw(boxes)
    flips = data.draw(
        st.one_of(
            st.none(),
            st.lists(flip, min_size=len(bboxes or [0]), max_size=len(bboxes or [0])),
            st.sampled_from([[True], "yx", [None] * 5]),
        )
    )
    options = {
        "channels_mean_radii_pix": data.draw(radii),
        "bboxes": None if bboxes is None else [bboxes],
        "flips": flips,
        "frames": data.draw(frames),
        "raw_shape": MOVIE.shape if raw else data.draw(mostly(st.none(), [(1, 2, 3)])),
        "raw_dtype": data.draw(mostly(st.just(">u2"), [None, "O", "nope", "u8"])) if raw else None,
        "engine": data.draw(mostly(st.sampled_from(["auto", "fused", "dask-image"]), ["x", None])),
        "codec": data.draw(mostly(st.sampled_from(["fast", "small", "none"]), ["gzip", None])),
        "keep_bits": data.draw(mostly(st.sampled_from([None, 23, 12, 1]), [0, 24, 1.5, "12"])),
        "memory_limit": data.draw(
            mostly(st.sampled_from([None, "2GB", 2 * 10**9]), ["much", 0, -1, "1kB"])
        ),
        "parallel": data.draw(mostly(st.sampled_from([False, True, None, 0, 2]), [-2, "2"])),
        "resume": data.draw(st.booleans()),
    }
    before = tree(folder)
    out = folder / "new" / "out.zarr"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        result, error = attempt(lambda: run_spatial_mean(source, out, **options))
    if error:
        assert str(error).isprintable()
        assert tree(folder) == before
        return
    wanted = options["frames"] and options["frames"].stop
    too_many = wanted is not None and wanted > FRAMES
    shorter = ["has 9 frames, fewer than" in str(warning.message) for warning in told]
    assert shorter == [True] * too_many
    stacks = by_hand(bboxes, flips, options["frames"])
    radii_pix, engine = options["channels_mean_radii_pix"], options["engine"]
    expected, factors, _ = bkgd_spatial_mean(stacks, radii_pix, engine=engine)
    assert result.noise_corrections == factors
    bits = options["keep_bits"]
    rounding = 0 if bits in (None, 23) else 2.0 ** -(bits + 1)
    for bkgd, exact in zip(dask.compute(*result.bkgds), dask.compute(*expected), strict=True):
        assert bkgd.shape == exact.shape
        assert (np.abs(bkgd - exact) <= rounding * exact).all()
    assert open_backgrounds(out).noise_corrections == result.noise_corrections
    assert verify_backgrounds(out, sample=1, seed=0).problems == []
