"""Steps in memory: what they need around a block, what a block takes, and what a store records."""

import json
import pickle
import tracemalloc
from threading import Barrier

import numpy as np
import pytest

from smlmlp_dask.filters.spatial_mean import SpatialMean
from smlmlp_dask.filters.spatial_opening import SpatialOpening
from smlmlp_dask.filters.steps import FilterOptions, background_of, halo_of, joined
from smlmlp_dask.filters.temporal_median import TemporalMedian

FUSED, PLAIN = FilterOptions("fused"), FilterOptions("dask-image")
MEAN, MEDIAN, OPENING = SpatialMean((2.0, 3.0)), TemporalMedian(3), SpatialOpening((1.0, 2.0))
CHAINS = [
    (MEAN,),
    (MEDIAN,),
    (OPENING,),
    (MEDIAN, MEAN),
    (OPENING, MEDIAN, MEAN),
    (MEDIAN, OPENING, TemporalMedian(1)),
    (MEAN, MEDIAN, OPENING, MEAN),
]
MOVIE = np.random.default_rng(8).poisson(80, (24, 30, 34)).astype(np.uint16)


def whole(stack):
    return tuple(slice(0, length) for length in stack.shape)


@pytest.mark.parametrize(
    ("steps", "frame", "halo"),
    [
        ((MEAN,), (30, 34), (0, 2, 3)),
        ((MEDIAN,), (30, 34), (3, 0, 0)),
        ((OPENING,), (30, 34), (0, 2, 4)),
        ((OPENING, MEDIAN, MEAN), (30, 34), (3, 4, 7)),
        ((MEDIAN, MEDIAN), (30, 34), (6, 0, 0)),
        # no further than the frame
        ((OPENING, MEAN), (3, 2), (0, 2, 1)),
        ((SpatialOpening(20.0),), (5, 6), (0, 4, 5)),
        ((SpatialOpening(0.3), TemporalMedian(0)), (5, 6), (0, 0, 0)),
    ],
)
def test_halos_add_up(steps, frame, halo):
    assert halo_of(steps, frame) == halo


@pytest.mark.parametrize("frames_at_a_time", [1, 2, 99])
@pytest.mark.parametrize("options", [FUSED, PLAIN], ids=["fused", "dask-image"])
@pytest.mark.parametrize("steps", CHAINS, ids=str)
def test_a_block_needs_its_halo_and_no_more(steps, options, frames_at_a_time, monkeypatch):
    """Whatever else the movie holds, and however many frames go together."""
    expected = background_of([MOVIE], steps, options, whole(MOVIE))
    pixels = frames_at_a_time * 30 * 34
    monkeypatch.setattr("smlmlp_dask.filters.steps._PIXELS_AT_A_TIME", pixels)
    assert background_of([MOVIE], steps, options, whole(MOVIE)).tobytes() == expected.tobytes()
    halo = halo_of(steps, MOVIE.shape[1:])
    own = (slice(9, 12), slice(12, 19), slice(13, 20))
    reads = [
        (max(0, part.start - margin), min(length, part.stop + margin))
        for part, margin, length in zip(own, halo, MOVIE.shape, strict=True)
    ]
    block = MOVIE[tuple(slice(*ends) for ends in reads)]
    place = tuple(
        slice(part.start - low, part.stop - low) for part, (low, _) in zip(own, reads, strict=True)
    )
    parts = [block[:2], block[2:2], block[2:]] if len(block) > 3 else [block]
    found = background_of(parts, steps, options, place)
    assert found.tobytes() == expected[own].tobytes()


@pytest.mark.parametrize("options", [FUSED, PLAIN], ids=["fused", "dask-image"])
@pytest.mark.parametrize(
    "steps",
    [
        (MEDIAN, MEAN),
        (OPENING, MEDIAN),
        (MEAN,),
        # which change nothing
        (SpatialMean(0.1), TemporalMedian(0), SpatialOpening(0.1), SpatialMean(0.1)),
    ],
    ids=str,
)
def test_frames_are_only_read(steps, options):
    """Also float32 ones, which need no copy."""
    for dtype in ("u2", "f4"):
        frames = MOVIE.astype(dtype)
        frames.flags.writeable = False
        found = background_of([frames], steps, options, whole(frames))
        assert not np.shares_memory(found, frames)
        assert (frames == MOVIE).all()


@pytest.mark.parametrize("options", [FUSED, PLAIN], ids=["fused", "dask-image"])
@pytest.mark.parametrize("steps", CHAINS, ids=str)
def test_no_frames(steps, options):
    nothing = MOVIE[:0]
    assert background_of([nothing], steps, options, whole(nothing)).shape == nothing.shape


@pytest.mark.parametrize("step", [MEDIAN, OPENING], ids=str)
def test_a_block_is_split_over_threads(step, monkeypatch):
    """They meet in the compiled loop, which they can only if they are three."""
    meeting = Barrier(3, timeout=30)
    for engine in ("median", "opening"):
        monkeypatch.setattr(
            f"smlmlp_dask.filters.compiled.{engine}._compiled", lambda _: lambda *_: meeting.wait()
        )
    frames = np.ones((3, 64, 64), np.uint16)
    step.apply([frames], FilterOptions("fused", 3), 0, 3)


@pytest.mark.parametrize(
    ("steps", "buffers"),
    [
        # what is found replaces the frames it was found in, so that no more is held than
        ((TemporalMedian(4),), 1),  # the result
        ((TemporalMedian(4), SpatialMean(3.0)), 1),
        ((SpatialOpening(1.0), SpatialMean(3.0)), 1),
        ((SpatialOpening(1.0), TemporalMedian(1), SpatialMean(3.0)), 2),  # the opening's, too
    ],
    ids=str,
)
def test_the_memory_of_a_block(steps, buffers, monkeypatch):
    frames = np.ones((60, 128, 256), np.uint16)
    own = (slice(4, 56), slice(0, 128), slice(0, 256))
    monkeypatch.setattr("smlmlp_dask.filters.steps._PIXELS_AT_A_TIME", 128 * 256)
    background_of([frames], steps, FUSED, own)
    tracemalloc.start()
    background_of([frames], steps, FUSED, own)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= buffers * 4 * frames.size + 2**20


@pytest.mark.parametrize("step", [MEAN, MEDIAN, OPENING], ids=str)
def test_steps_are_plain_settings(step):
    step.apply([MOVIE], FUSED, 0, 3)  # what is derived is no part of them
    again = pickle.loads(pickle.dumps(step))
    assert again == step
    assert hash(again) == hash(step)
    assert step.for_channels(2) == [step, step]
    recorded = step.to_attributes()
    assert json.loads(json.dumps(recorded)) == recorded
    assert recorded != type(step)(5).to_attributes()


def test_radii_per_channel():
    pairs = [(1.0, 2.0), (3.0, 3.0)]
    for kind in (SpatialMean, SpatialOpening):
        assert [step.radii for step in kind(pairs).for_channels(2)] == pairs
        with pytest.raises(ValueError, match="2 pairs for 3 channels"):
            kind(pairs).for_channels(3)
    with pytest.raises(ValueError, match="median_window_fr is -1"):
        TemporalMedian(-1).for_channels(1)


def test_runs_of_frames_are_joined_where_they_must_be():
    parts = [MOVIE[:5], MOVIE[5:6], MOVIE[6:]]
    assert np.shares_memory(joined(parts, 1, 4), MOVIE)
    assert joined(parts, 3, 9).tobytes() == MOVIE[3:9].tobytes()
    assert joined(parts, 7, 7).shape == (0, 30, 34)
    assert joined(parts, 20, 99).tobytes() == MOVIE[20:].tobytes()
