import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import ClassVar, get_args

import dask
import numpy as np
import pytest
import tifffile
import zarr
from dask.distributed import Client
from zarr.abc.codec import BytesBytesCodec
from zarr.registry import register_codec

from smlmlp_dask import (
    bkgd_spatial_mean,
    blocks,
    noise_correction,
    plan_spatial_mean,
    run_spatial_mean,
    verify_backgrounds,
)
from smlmlp_dask.execution import workers
from smlmlp_dask.pipeline import running
from smlmlp_dask.pipeline.display import display_ranges
from smlmlp_dask.store.codecs import Codec, Storage
from tests.memory import needs_proc

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(5)
MOVIE = RNG.poisson(200, (23, 40, 36)).astype(np.uint16)


def assert_is_background(bkgd, stack, radii=7.0, **options):
    """A job gives the bits of the lazy call, whose accuracy is tested elsewhere."""
    [expected], _, _ = bkgd_spatial_mean([stack], radii, **options)
    assert bkgd.compute().tobytes() == expected.compute().tobytes()


def test_from_path_to_path(tif, tmp_path):
    result = run_spatial_mean(tif, tmp_path / "out.zarr", (6.0, 10.0))
    assert result.path == tmp_path / "out.zarr"
    (bkgd,) = result.bkgds
    assert (bkgd.shape, bkgd.dtype) == (MOVIE.shape, np.float32)
    assert_is_background(bkgd, MOVIE, (6.0, 10.0))
    assert result.noise_corrections == [noise_correction(3.0, 5.0)]
    _, _, info = bkgd_spatial_mean([MOVIE], (6.0, 10.0))
    assert result.info.keys() == info.keys()
    assert result.info["spatial_mean_sigmas"] == info["spatial_mean_sigmas"]
    for axis in "yx":
        key = f"spatial_mean_kernels_{axis}"
        assert result.info[key][0].tobytes() == info[key][0].tobytes()


def test_what_the_store_says_of_itself(tif, tmp_path):
    out = tmp_path / "out.zarr"
    run_spatial_mean([tif], out, 4, noise_corrections=(0.5,), frames=slice(3, None, 2))
    attributes = json.loads((out / "zarr.json").read_text())["attributes"]["smlmlp_dask"]
    assert attributes["finished"] is True
    assert attributes["sources"] == [str(tif)]
    assert attributes["engine"] == "fused"
    assert attributes["frames"] == [3, None, 2]
    assert attributes["channels_mean_radii_pix"] == [[4.0, 4.0]]
    assert attributes["spatial_mean_sigmas"] == [[2.0, 2.0]]
    assert attributes["noise_corrections"] == [float(noise_correction(2.0, 2.0) * np.float32(0.5))]
    assert len(attributes["spatial_mean_kernels_y"][0]) == 13
    assert {"python", "numpy", "zarr", "dask", "smlmlp-dask"} <= attributes["versions"].keys()


def test_channels_from_boxes_flips_and_sources(tif, tmp_path):
    raw = tmp_path / "movie.raw"
    MOVIE.astype(">u2").tofile(raw)
    noise = [1.0, 2.0, 3.0]
    result = run_spatial_mean(
        [tif, raw],
        tmp_path / "out.zarr",
        [(3, 3), (5, 7), (2, 2)],
        noise_corrections=noise,
        bboxes=[[(0, 0, 18, 40), (18, 0, 36, 40)], None],
        flips=[None, (False, True), (True, True)],
        frames=slice(2, 20),
        raw_shape=MOVIE.shape,
        raw_dtype=">u2",
    )
    part = MOVIE[2:20]
    expected = [part[:, :, :18], part[:, :, 18:][:, :, ::-1], part[:, ::-1, ::-1]]
    for bkgd, stack, radii in zip(
        result.bkgds, expected, result.info["channels_mean_radii_pix"], strict=True
    ):
        assert_is_background(bkgd, stack, radii)
    assert noise == [1.0, 2.0, 3.0]
    assert result.noise_corrections[1] == np.float32(2) * noise_correction(2.5, 3.5)


@pytest.mark.parametrize(
    "layout",
    [
        {"chunks": (1, 40, 36)},
        {"chunks": (8, 40, 36)},
        {"chunks": (8, 16, 16)},
        {"chunks": (23, 5, 7)},
        {"chunks": (2, 8, 12), "shards": (4, 16, 36)},
        {"chunks": (8, 16, 16), "zarr_format": 2},
    ],
)
@pytest.mark.parametrize("memory", ["plenty", "scarce"])
@pytest.mark.parametrize("frames", [None, slice(5, 20)])
def test_every_layout_gives_the_same_bits(layout, memory, frames, tmp_path, monkeypatch):
    if memory == "scarce":  # frames are tiled, with a halo; chunks hold a few frames
        monkeypatch.setattr(
            blocks.plan_blocks, "__kwdefaults__", {"slab_bytes": 9000, "block_bytes": 12_000}
        )
    stored = zarr.create_array(tmp_path / "m.zarr", shape=MOVIE.shape, dtype="u2", **layout)
    stored[:] = MOVIE
    result = run_spatial_mean(tmp_path / "m.zarr", tmp_path / "out.zarr", frames=frames)
    assert_is_background(result.bkgds[0], MOVIE[frames or slice(None)])


@dataclass(frozen=True)
class CountingCodec(BytesBytesCodec):
    """Passes chunks through and counts how many were decoded."""

    is_fixed_size = True
    decoded: ClassVar[int] = 0

    @classmethod
    def from_dict(cls, data):
        return cls()

    def to_dict(self):
        return {"name": "counting"}

    def compute_encoded_size(self, size, spec):
        return size

    async def _decode_single(self, chunk, spec):
        CountingCodec.decoded += 1
        return chunk

    async def _encode_single(self, chunk, spec):
        return chunk


@pytest.mark.parametrize(
    "layout",
    [
        {"chunks": (1, 40, 36)},
        {"chunks": (7, 40, 36)},
        {"chunks": (7, 9, 10)},
        {"chunks": (23, 8, 8)},
        {"chunks": (4, 10, 12), "shards": (8, 40, 36)},
    ],
)
def test_every_storage_chunk_is_decoded_once(layout, tmp_path, monkeypatch):
    register_codec("counting", CountingCodec)
    monkeypatch.setitem(blocks.plan_blocks.__kwdefaults__, "block_bytes", 4 * 40 * 36 * 3)
    stored = zarr.create_array(
        tmp_path / "m.zarr", shape=MOVIE.shape, dtype="u2", compressors=CountingCodec(), **layout
    )
    stored[:] = MOVIE

    def count_from_here(*given):
        ranges = display_ranges(*given)  # which looks at a few frames before the job begins
        CountingCodec.decoded = 0
        return ranges

    monkeypatch.setattr(running, "display_ranges", count_from_here)
    run_spatial_mean(tmp_path / "m.zarr", tmp_path / "out.zarr")
    n_chunks = prod(-(-n // c) for n, c in zip(MOVIE.shape, layout["chunks"], strict=True))
    assert CountingCodec.decoded == n_chunks
    plan = plan_spatial_mean(tmp_path / "m.zarr")
    assert [channel.read_amplification for channel in plan.channels] == [1.0]


@pytest.mark.parametrize("codec", get_args(Codec))
@pytest.mark.parametrize("keep_bits", [None, 12, np.int64(1), 23])
def test_codecs_and_rounding(tif, tmp_path, codec, keep_bits):
    exact = bkgd_spatial_mean([MOVIE])[0][0].compute()
    result = run_spatial_mean(tif, tmp_path / "o.zarr", codec=codec, keep_bits=keep_bits)
    rounded = result.bkgds[0].compute()
    attributes = zarr.open_group(result.path, mode="r").attrs["smlmlp_dask"]
    bound = attributes["relative_error_of_rounding"]
    assert bound == (0 if keep_bits in (None, 23) else 2.0 ** -(keep_bits + 1))
    assert (np.abs(rounded - exact) <= bound * exact).all()
    assert verify_backgrounds(result.path, sample=1).problems == []
    if bound:
        mask = np.uint32((1 << (23 - int(keep_bits))) - 1)
        assert not (rounded.view(np.uint32) & mask).any()
        assert (rounded != exact).any()


def test_rounding_leaves_nan_and_infinity_alone():
    values = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1.5], np.float32)
    values[0] = np.uint32(0x7FFFFFFF).view(np.float32)  # all mantissa bits set
    rounded = Storage("none", 5).rounded(values)
    np.testing.assert_array_equal(rounded, values)


# ---- the plan ----------------------------------------------------------------------------------


def test_the_plan_of_a_job(tif, tmp_path):
    stored = zarr.create_array(
        tmp_path / "m.zarr", shape=(64, 512, 512), chunks=(32, 64, 64), dtype="u2"
    )
    stored.attrs["empty"] = True
    plan = plan_spatial_mean([tif, tmp_path / "m.zarr"], memory_limit="2GB")
    assert [channel.shape for channel in plan.channels] == [(23, 40, 36), (64, 512, 512)]
    assert [channel.n_blocks for channel in plan.channels] == [1, 2]
    assert plan.n_blocks == 3
    assert plan.memory_limit_bytes == 2_000_000_000
    assert plan.output_bytes == 4 * (MOVIE.size + 64 * 512 * 512)
    # the 64 tiles that a block is put together from, encoded and decoded, are read at once
    raw, units, chunk = 2 * 32 * 512 * 512, 2 * 64 * 2 * 32 * 64 * 64, 4 * 16 * 512 * 512
    assert plan.projected_bytes == workers.BASE_BYTES + plan.threads * (raw + units + 3 * chunk)


def test_frames_that_begin_within_a_unit_are_told(tmp_path):
    zarr.create_array(tmp_path / "m.zarr", shape=(64, 512, 512), chunks=(32, 512, 512), dtype="u2")
    (channel,) = plan_spatial_mean(tmp_path / "m.zarr", frames=slice(16, None)).channels
    # frames 16-47 and 48-63: the second unit is decoded by both blocks
    assert channel.read_amplification == 1.5


@pytest.mark.parametrize(("scheduler", "threads"), [("synchronous", 1), ("threads", 3)])
def test_the_plan_knows_the_scheduler(tif, scheduler, threads):
    with dask.config.set(scheduler=scheduler, num_workers=3):
        assert plan_spatial_mean(tif).threads == threads


def test_the_plan_knows_the_cluster(tif):
    with Client(
        n_workers=2,
        threads_per_worker=3,
        processes=False,
        dashboard_address="127.0.0.1:0",
        memory_limit="600MB",
    ):
        plan = plan_spatial_mean(tif)
    assert plan.threads == 6
    assert plan.memory_limit_bytes == pytest.approx(1.2e9)


def test_what_cannot_fit_is_refused(tmp_path):
    zarr.create_array(tmp_path / "m.zarr", shape=(64, 512, 512), chunks=(64, 512, 512), dtype="u2")
    with pytest.raises(ValueError, match=r"stored in units of 64 x 512 x 512 .*raise memory_limit"):
        run_spatial_mean(tmp_path / "m.zarr", tmp_path / "o.zarr", memory_limit="350MB")
    assert not (tmp_path / "o.zarr").exists()


@needs_proc
def test_peak_memory_stays_under_the_plan(tmp_path):
    """Of a movie that is larger than the plan, as is its background; most of it takes no disk."""
    stored = zarr.create_array(
        tmp_path / "m.zarr", shape=(1024, 512, 512), chunks=(32, 512, 512), dtype="u2"
    )
    stored[:64] = np.broadcast_to(RNG.poisson(100, (512, 512)), (64, 512, 512))
    code = """
import sys
from smlmlp_dask import plan_spatial_mean, run_spatial_mean
run_spatial_mean(sys.argv[1], sys.argv[2])
sys.path.insert(0, sys.argv[3])
from tests.memory import peak_bytes
print(peak_bytes(), plan_spatial_mean(sys.argv[1]).projected_bytes)
"""
    shown = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "m.zarr", tmp_path / "o.zarr", ROOT],
        env={**os.environ, "DASK_NUM_WORKERS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    peak, projected = map(int, shown.stdout.split())
    assert peak <= projected < stored.nbytes


@pytest.mark.parametrize("engine", ["fused", "dask-image"])
@pytest.mark.parametrize("parallel", [False, True, 2])
def test_engines_and_threads(tif, tmp_path, engine, parallel):
    result = run_spatial_mean(tif, tmp_path / "o.zarr", engine=engine, parallel=parallel)
    assert_is_background(result.bkgds[0], MOVIE, engine=engine)


def test_the_bar_counts_every_pixel(tif, tmp_path, monkeypatch, capsys):
    counted = []

    @contextlib.contextmanager
    def bar(total, done, workers, *, shown):
        assert shown
        assert (done.blocks, done.pixels) == (0, 0)
        assert workers() is None
        yield counted.append
        assert (len(counted), sum(counted)) == (total.blocks, total.pixels)

    monkeypatch.setattr(running, "progress_bar", bar)
    run_spatial_mean(tif, tmp_path / "o.zarr", progress=True)
    assert sum(counted) == MOVIE.size


def test_the_bar_goes_to_stderr(tif, tmp_path, capsys):
    run_spatial_mean(tif, tmp_path / "a.zarr")
    assert capsys.readouterr() == ("", "")
    run_spatial_mean(tif, tmp_path / "b.zarr", progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "100%" in shown.err
    assert "Mpx/s" in shown.err


@pytest.mark.parametrize(
    ("name", "options", "read"),
    [
        ("stuck_particles.tif", {}, tifffile.imread),
        (
            "deepstorm3d_tetrapod",
            {},
            lambda folder: np.stack([tifffile.imread(p) for p in sorted(folder.glob("*.tif"))]),
        ),
        (
            "dnapaint_3C_30px.ome.raw",
            {"raw_shape": (100, 30, 30), "raw_dtype": ">u2"},
            lambda path: np.fromfile(path, ">u2").reshape(100, 30, 30),
        ),
    ],
)
def test_real_movies(real_data, tmp_path, name, options, read):
    result = run_spatial_mean(real_data / name, tmp_path / "o.zarr", **options)
    stack = read(real_data / name)
    (bkgd,) = result.bkgds
    assert bkgd.shape == stack.shape
    assert_is_background(bkgd, stack)
