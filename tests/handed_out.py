"""Stacks of every kind that the package hands out, and what people do with two or three of them.

Values are those that were written to the sources; backgrounds come from the slow loops of
`reference.py`. So a stack that is taken for another one shows.
"""

import pickle
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple
from unittest import mock

import dask
import dask.array as da
import numpy as np
import tifffile
import zarr
from zarr.storage import MemoryStore

from smlmlp_dask import (
    SpatialMean,
    TemporalMedian,
    bkgd_combination,
    bkgd_spatial_mean,
    bkgd_spatial_opening,
    bkgd_temporal_median,
    blocks,
    open_backgrounds,
    open_channels,
    run_background,
    run_spatial_mean,
    simulate_movie,
)
from smlmlp_dask.lazy import chunking, reads
from smlmlp_dask.simulation.scene import expected_counts, expose

from . import reference

SHAPE = FRAMES, HEIGHT, WIDTH = (6, 8, 10)
RADIUS = 3.0
OTHER_RADIUS = 2.8
"""Its kernel has the same length."""
BLOCKS = (2, FRAMES)
"""Frames per block in which stacks are opened: several blocks, or one, as tests' movies have."""


class Stack(NamedTuple):
    """A stack as it was handed out, and what its pixels must be."""

    name: str
    array: da.Array
    values: np.ndarray

    def __repr__(self):
        return self.name


# ---- every kind ----------------------------------------------------------------------------------


def every_kind(folder):
    """Make sources in a folder; return stacks of all kinds, all of one shape."""
    sources = _Sources(folder)
    made = []
    for frames in BLOCKS:
        with _blocks_of(frames):
            for group in (_opened, _stored, _filtered, _stepped, _into_targets, _simulated):
                for name, array, values in group(sources, frames):
                    # a NumPy target may be handed back as itself
                    stack = Stack(f"{name} in blocks of {frames}", da.asarray(array), values)
                    assert stack.array.shape == values.shape == SHAPE, name
                    made.append(stack)
    return made


@contextmanager
def _blocks_of(frames):
    """Let blocks be so small that a tiny movie has several."""
    small = partial(blocks.frames_per_block, block_bytes=frames * HEIGHT * WIDTH * 4)
    with (
        mock.patch.object(reads, "frames_per_block", small),
        mock.patch.object(blocks, "frames_per_block", small),
        mock.patch.object(chunking, "frames_per_block", small),
    ):
        yield


class _Sources:
    """Files of random counts, none of which equals another."""

    def __init__(self, folder):
        self.folder = folder
        self.rng = np.random.default_rng(14)
        self.values = {}
        self.found = {}  #: by steps other than the mean
        for name in ("one.tif", "two.tif"):
            tifffile.imwrite(folder / name, self.counts(name), photometric="minisblack")
        (folder / "pages").mkdir()
        for number, frame in enumerate(self.counts("pages")):
            tifffile.imwrite(folder / "pages" / f"{number}.tif", frame, photometric="minisblack")
        self.counts("movie.raw").astype(">u2").tofile(folder / "movie.raw")
        wide, long = (FRAMES, HEIGHT, 2 * WIDTH), (2 * FRAMES, HEIGHT, WIDTH)
        for name, shape, chunk in [
            ("one.zarr", SHAPE, (2, HEIGHT, WIDTH)),
            ("two.zarr", SHAPE, (2, HEIGHT, WIDTH)),
            ("tiled.zarr", SHAPE, (2, 4, 5)),
            ("tiles.zarr", SHAPE, (2, 4, 5)),
            ("wide.zarr", wide, (2, HEIGHT, 2 * WIDTH)),
            ("wide-tiled.zarr", wide, (2, 4, 5)),
            ("long.zarr", long, (2, HEIGHT, WIDTH)),
        ]:
            zarr.create_array(folder / name, data=self.counts(name, shape), chunks=chunk)
        self.means = {name: self.mean(self.values[name], RADIUS) for name in self.values}
        for store, names in {"first": ("one.tif", "two.tif"), "second": ("one.zarr",)}.items():
            run_spatial_mean([folder / name for name in names], folder / store, RADIUS)
        steps = [TemporalMedian(1), SpatialMean(RADIUS)]
        outputs = ("background", "signal", "snr")
        run_background(folder / "one.tif", folder / "chain", steps, outputs, gain=0.5)
        medians = reference.median(self.values["one.tif"], 1)
        self.chain = medians + self.mean(self.values["one.tif"] - medians, RADIUS)

    def counts(self, name, shape=SHAPE):
        self.values[name] = self.rng.integers(0, 200, shape).astype(np.uint16)
        return self.values[name]

    @staticmethod
    def mean(values, radius):
        return reference.background(values, radius / 2, radius / 2)

    def zarr(self, name):
        return zarr.open_array(self.folder / name, mode="r")


def _opened(sources, _):
    folder, values = sources.folder, sources.values
    for name in ("one.tif", "two.tif", "pages", "one.zarr", "two.zarr", "tiled.zarr", "tiles.zarr"):
        yield name, open_channels(folder / name)[0], values[name]
    [raw] = open_channels(folder / "movie.raw", raw_shape=SHAPE, raw_dtype=">u2")
    yield "movie.raw", raw, values["movie.raw"]
    # each twice, so that boxes meet boxes, and flips flips
    boxes = [(0, 0, WIDTH, HEIGHT), (WIDTH, 0, 2 * WIDTH, HEIGHT)] * 2
    for name in ("wide.zarr", "wide-tiled.zarr"):
        left, right = np.split(values[name], 2, axis=2)
        channels = open_channels(
            folder / name, bboxes=[boxes], flips=[None, None, (True, False), (False, True)]
        )
        parts = {
            "left": left,
            "right": right,
            "left flipped": left[:, ::-1],
            "right flipped": right[..., ::-1],
        }
        for (part, expected), channel in zip(parts.items(), channels, strict=True):
            yield f"{part} of {name}", channel, expected
    for name, frames in {
        "first half": slice(FRAMES),
        "second half": slice(FRAMES, None),
        "even frames": slice(None, None, 2),
        "odd frames": slice(1, None, 2),
        "first half backwards": slice(FRAMES - 1, None, -1),
    }.items():
        [part] = open_channels(folder / "long.zarr", frames=frames)
        yield f"{name} of long.zarr", part, values["long.zarr"][frames]


def _stored(sources, _):
    for store, names in {"first": ("one.tif", "two.tif"), "second": ("one.zarr",)}.items():
        bkgds = open_backgrounds(sources.folder / store).bkgds
        for i, (name, bkgd) in enumerate(zip(names, bkgds, strict=True)):
            yield f"background {i} of the {store} store", bkgd, sources.means[name]

    chain = open_backgrounds(sources.folder / "chain")
    yield "background of the store of both", chain.bkgds[0], sources.chain
    signal = sources.values["one.tif"] - sources.chain
    yield "signal of the store of both", chain.signals[0], signal
    factor = float(chain.noise_corrections[0])
    ratio = signal / factor / np.sqrt(sources.chain / 0.5)
    yield "ratio of the store of both", chain.snrs[0], ratio


def _filtered(sources, frames):
    folder, values, means = sources.folder, sources.values, sources.means
    whole, tiles = (frames, HEIGHT, WIDTH), (frames, 4, 5)
    channels = {
        "NumPy": ("one.tif", values["one.tif"]),
        "another NumPy": ("two.tif", values["two.tif"]),
        "Zarr": ("one.zarr", sources.zarr("one.zarr")),
        "another Zarr": ("two.zarr", sources.zarr("two.zarr")),
        "tiled Zarr": ("tiled.zarr", sources.zarr("tiled.zarr")),
        "Dask": ("pages", da.from_array(values["pages"], chunks=whole)),
        "tiled Dask": ("tiles.zarr", da.from_array(values["tiles.zarr"], chunks=tiles)),
        "opened": ("one.tif", open_channels(folder / "one.tif")[0]),
        "another opened": ("two.tif", open_channels(folder / "two.tif")[0]),
        "opened tiled": ("tiled.zarr", open_channels(folder / "tiled.zarr")[0]),
    }
    names, arrays = zip(*channels.values(), strict=True)
    for engine in ("fused", "dask-image"):
        bkgds, _, _ = bkgd_spatial_mean(arrays, RADIUS, engine=engine)
        for kind, name, bkgd in zip(channels, names, bkgds, strict=True):
            yield f"{kind} filtered by {engine}", bkgd, means[name]
        # the same stacks, and another radius
        bkgds, _, _ = bkgd_spatial_mean(arrays, OTHER_RADIUS, engine=engine)
        for kind in ("NumPy", "Dask", "opened"):
            bkgd = bkgds[[*channels].index(kind)]
            other = sources.mean(values[channels[kind][0]], OTHER_RADIUS)
            yield f"{kind} filtered by {engine} with radius {OTHER_RADIUS}", bkgd, other
        with mock.patch.object(chunking, "whole_frame_chunks", lambda chunks, itemsize: chunks):
            tiled = [channels[kind] for kind in ("tiled Zarr", "tiled Dask", "opened tiled")]
            bkgds, _, _ = bkgd_spatial_mean([array for _, array in tiled], RADIUS, engine=engine)
        for (name, _), bkgd in zip(tiled, bkgds, strict=True):
            yield f"tiles of {name} filtered by {engine}", bkgd, means[name]


def _stepped(sources, frames):
    """The other steps, each also with another setting, and steps that follow one another."""
    folder, values = sources.folder, sources.values
    channels = {
        "NumPy": ("one.tif", values["one.tif"]),
        "another NumPy": ("two.tif", values["two.tif"]),
        "tiled Zarr": ("tiled.zarr", sources.zarr("tiled.zarr")),
        "Dask": ("pages", da.from_array(values["pages"], chunks=(frames, HEIGHT, WIDTH))),
        "opened": ("one.zarr", open_channels(folder / "one.zarr")[0]),
    }
    names, arrays = zip(*channels.values(), strict=True)
    for setting in (1, 2):
        for step, function, estimate in (
            ("median", bkgd_temporal_median, reference.median),
            ("opening", bkgd_spatial_opening, lambda v, r: reference.opening(v, r, r)),
        ):
            bkgds, _, _ = function(arrays, setting)
            for kind, name, bkgd in zip(channels, names, bkgds, strict=True):
                key = (step, setting, name)
                if key not in sources.found:
                    sources.found[key] = estimate(values[name], setting)
                yield f"{step} {setting} of {kind}", bkgd, sources.found[key]
        bkgds, _, _ = bkgd_combination(
            arrays[:2], median_window_fr=setting, channels_mean_radii_pix=RADIUS
        )
        for name, bkgd in zip(names, bkgds, strict=False):
            medians = sources.found["median", setting, name]
            found = medians + sources.mean(values[name] - medians, RADIUS)
            yield f"combination {setting} of {name}", bkgd, found


def _into_targets(sources, frames):
    names = ("one.tif", "two.tif")
    channels = [sources.values[name] for name in names]
    longer, chunk = (FRAMES + 2, HEIGHT, WIDTH), (2, HEIGHT, WIDTH)
    stores = {"Zarr": sources.folder / f"targets-{frames}", "Zarr in memory": MemoryStore()}
    for kind in ("NumPy", *stores):
        targets = [
            zarr.create_array(stores[kind], name=name, shape=longer, chunks=chunk, dtype="f4")
            if kind in stores
            else np.zeros(longer, np.float32)
            for name in names
        ]
        bkgds, _, _ = bkgd_spatial_mean(channels, RADIUS, targets)
        for name, bkgd in zip(names, bkgds, strict=True):
            yield f"{kind} target of {name}", bkgd, sources.means[name]


def _simulated(_, frames):
    for seed in (1, 2):
        made = simulate_movie(*SHAPE, seed=seed, chunks=frames)
        scene = made.molecules.scene
        yield f"movie {seed}", made.movie, expose(scene, 0, FRAMES)
        yield f"background of movie {seed}", made.background, expected_counts(scene, 0, FRAMES)


def alike(stacks, *, roots=True):
    """Return groups of stacks that Dask may fuse: of equal chunks, and read in one way."""
    groups = {}
    for stack in stacks:
        graph = stack.array.dask
        read = {name.split("-")[0] for name, needed in graph.dependencies.items() if not needed}
        key = (stack.array.chunks, tuple(sorted(read)) if roots else None)
        groups.setdefault(key, []).append(stack)
    return [group for group in groups.values() if len(group) > 1]


# ---- what is done with them ----------------------------------------------------------------------

#: For two stacks, with `dask.array` and with `numpy`. None more than doubles the sum of the errors.
PAIRS = {
    "minus": lambda m, a, b: a - b,
    "maximum": lambda m, a, b: m.maximum(a, b),
    "where": lambda m, a, b: m.where(a > 90, b, a + a),
    "stack": lambda m, a, b: m.stack([a, b]),
    "concatenate": lambda m, a, b: m.concatenate([a, b], axis=2),
    "mean of both": lambda m, a, b: abs(a.astype("f8") - b).mean(axis=0),
    "parts": lambda m, a, b: a[1:5, ::2] - b[1:5, ::2],
}

TRIPLES = {
    "minus plus": lambda m, a, b, c: a - b + c,
    "where": lambda m, a, b, c: m.where(a > 90, b, c),
    "stack": lambda m, a, b, c: m.stack([a, b, c]).max(axis=0),
}


def _through_pickle(*collections):
    return pickle.loads(pickle.dumps(collections))


#: What happens to the operands, then to the expression, before it is computed.
WAYS = {
    "as it is": (None, None),
    "optimized": (None, dask.optimize),
    "operands optimized": (dask.optimize, None),
    "persisted": (None, dask.persist),
    "operands persisted": (dask.persist, None),
    "pickled": (None, _through_pickle),
    "operands pickled": (_through_pickle, None),
}


def express(operation, stacks, way="as it is"):
    """Return the lazy expression of a few stacks."""
    before, after = WAYS[way]
    arrays = [stack.array for stack in stacks]
    if before:
        arrays = before(*arrays)
    expression = operation(da, *arrays)
    return after(expression)[0] if after else expression


def compute(operation, stacks, way="as it is", **options):
    """Compute an expression under whatever scheduler is active."""
    [result] = dask.compute(express(operation, stacks, way), **options)
    return result


def faults(operation, sets, way="as it is", **options):
    """Compute one expression for each set of stacks; return those that are wrong, and how."""
    sets = list(sets)
    results = [compute(operation, stacks, way, **options) for stacks in sets]
    return [
        f"{' | '.join(stack.name for stack in stacks)}: {found}"
        for result, stacks in zip(results, sets, strict=True)
        if (found := fault(result, operation, stacks))
    ]


def fault(result, operation, stacks):
    """Return what is wrong with an expression's result; None where nothing is."""
    values = [stack.values for stack in stacks]
    expected = operation(np, *values)
    if (result.shape, result.dtype) != (expected.shape, expected.dtype):
        return f"{result.dtype} {result.shape} where {expected.dtype} {expected.shape} is due"
    largest = max(float(array.max()) for array in values)
    # whole numbers exactly, also where unsigned ones wrap around
    allowed = 0.0
    if expected.dtype.kind == "f":
        allowed = len(stacks) * 2 * reference.TOLERANCE * largest
        allowed += 2**-23 * float(np.abs(expected).max())  # each may be rounded the other way
    error = np.abs(result.astype(float) - expected.astype(float))
    return None if (error <= allowed).all() else f"wrong by up to {error.max():g}"
