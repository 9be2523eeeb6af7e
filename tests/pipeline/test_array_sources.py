"""Jobs whose sources are arrays: the bytes that a path gives, resumed, refused, told of later."""

import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from dask.callbacks import Callback
from dask.distributed import Client

from smlmlp_dask import (
    SourceReadError,
    SpatialMean,
    TemporalMedian,
    blocks,
    convert_movies,
    export_movie,
    open_backgrounds,
    plan_background,
    plan_spatial_mean,
    run_background,
    run_spatial_mean,
    verify_backgrounds,
)
from smlmlp_dask.pictures.layers import viewed_layers
from tests.commands import call
from tests.interrupting import interrupted
from tests.processes import journal, wait_for
from tests.stored import contents

SHAPE = (31, 16, 22)
MOVIE = np.random.default_rng(6).poisson(90, SHAPE).astype(np.uint16)
CHAIN = (TemporalMedian(2), SpatialMean(3.0))
NUMPY, DASK = "<NumPy array sources[0]>", "<Dask array sources[0]>"


pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def folder(folder):
    """The movie on the disk is the one in memory."""
    tifffile.imwrite("movie.tif", MOVIE, photometric="minisblack")
    return folder


def lazily(movie=MOVIE):
    return da.from_array(movie, chunks=(1, 16, 22))


def stored(movie=MOVIE):
    return zarr.create_array("movie.zarr", data=movie, chunks=(1, 16, 22), overwrite=True)


def labelled(movie=MOVIE):
    xarray = pytest.importorskip("xarray", reason="DataArrays need xarray")
    return xarray.DataArray(movie.transpose(1, 2, 0), dims=("y", "x", "t"))


KINDS = {
    "numpy": lambda: MOVIE,
    "list of one": lambda: [MOVIE],
    "Fortran order": lambda: np.asfortranarray(MOVIE),
    "dask": lazily,
    "dask in tiles": lambda: da.from_array(MOVIE, chunks=(4, 5, 7)),
    "zarr": stored,
    "xarray": labelled,
}


def pixels(path):
    """Return the bytes of all chunks, and what the records say of them."""
    files = contents(Path(path))
    return {name: data for name, data in files.items() if "/c/" in name}


# ---- what comes out ------------------------------------------------------------------------------


BACKWARDS = {"frames": slice(20, 2, -3)}
BOXES = {
    "bboxes": [[(0, 0, 10, 16), (10, 2, 22, 14)]],
    "flips": [(True, False), (False, True)],
    "frames": slice(3, None),
    "pixel_size_um": 0.1,
    "frame_interval_s": 0.02,
    "channel_names": ["red", "green"],
}


@pytest.mark.parametrize(
    ("kind", "options"),
    [("numpy", {}), ("numpy", BACKWARDS), ("dask", BACKWARDS), *((kind, BOXES) for kind in KINDS)],
)
def test_the_same_pixels_as_from_a_path(small, kind, options):
    job = partial(run_background, steps=CHAIN, outputs=("background", "signal"), pedestal=20)
    expected = job("movie.tif", "path.zarr", **options)
    result = job(KINDS[kind](), "array.zarr", **options)
    assert len(pixels("array.zarr")) > 1
    if "tiles" not in kind:
        assert pixels("array.zarr") == pixels("path.zarr")
    for one, other in zip(result.bkgds, expected.bkgds, strict=True):
        assert one.compute().tobytes() == other.compute().tobytes()
    assert result.noise_corrections == expected.noise_corrections
    assert result.acquisitions == expected.acquisitions


@pytest.mark.parametrize("kind", KINDS)
def test_converted_the_same_bytes_as_from_a_path(small, kind):
    convert_movies("movie.tif", "path.zarr")
    convert_movies(KINDS[kind](), "array.zarr")
    if "tiles" not in kind:
        assert pixels("array.zarr") == pixels("path.zarr")
    assert np.array_equal(zarr.open_array("array.zarr/channel_0/0")[:], MOVIE)


def test_a_list_mixes_paths_and_arrays():
    other = MOVIE[:7, 2:, :9].astype(np.float32)
    sources = ["movie.tif", other, lazily(), stored()]
    result = run_spatial_mean(sources, "out.zarr", [(3, 3), (4, 4), (3, 3), (3, 3)])
    assert [stack.shape for stack in result.stacks] == [SHAPE, other.shape, SHAPE, SHAPE]
    first, _, third, fourth = dask.compute(*result.bkgds)
    assert first.tobytes() == third.tobytes() == fourth.tobytes()
    noted = json.loads(Path("out.zarr/zarr.json").read_text())["attributes"]["smlmlp_dask"]
    assert noted["sources"] == [
        str(Path("movie.tif").absolute()),
        "<NumPy array sources[1]>",
        "<Dask array sources[2]>",
        str(Path("movie.zarr").absolute()),
    ]
    assert verify_backgrounds("out.zarr").problems == []


def test_backgrounds_and_the_array_in_one_expression(small):
    result = run_background(MOVIE, "numpy.zarr", outputs=("background", "signal"))
    from_dask = run_background(lazily(MOVIE + 1), "dask.zarr")
    [bkgd], [signal], [other] = result.bkgds, result.signals, from_dask.bkgds
    values, other_values = bkgd.compute(), other.compute()
    assert not np.array_equal(values, other_values)
    with np.errstate(over="ignore"):
        assert np.array_equal((MOVIE - bkgd - signal).compute(), MOVIE - values - signal.compute())
    both = da.stack([lazily() - bkgd, lazily(MOVIE + 1) - other, bkgd - other])
    expected = [MOVIE - values, MOVIE + 1 - other_values, values - other_values]
    assert np.array_equal(both.compute(), expected)


def test_plan_of_an_array():
    of_path = plan_spatial_mean("movie.tif", memory_limit="2GB")
    of_array = plan_spatial_mean(MOVIE, memory_limit="2GB")
    assert of_array.channels[0].block == of_path.channels[0].block
    assert of_array.channels[0].held["decoding"] == 0
    array = da.zeros((64, 512, 512), dtype=np.uint16, chunks=(32, 512, 512))
    chunk = 32 * 512 * 512 * 2
    assert plan_spatial_mean(array, memory_limit="2GB").channels[0].held["decoding"] == chunk
    chain = plan_background([array], TemporalMedian(8), memory_limit="2GB").channels[0]
    assert chain.held["decoding"] == 3 * chunk  # its own, and those of its halo
    with pytest.raises(ValueError, match="memory_limit"):
        plan_spatial_mean(array.rechunk((64, 512, 512)), memory_limit="340MB")


# ---- refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sources", "options", "said"),
    [
        (MOVIE[0], {}, r"sources\[0\] has shape \(16, 22\)"),
        (MOVIE[None], {}, r"sources\[0\] has shape \(1, 31, 16, 22\)"),
        (["movie.tif", MOVIE > 3], {}, r"sources\[1\] has dtype bool"),
        (lazily()[lazily().max(axis=(1, 2)) > 9], {}, "unknown chunk sizes"),
        ({"a": MOVIE}, {}, "pass a path or an array"),
        (MOVIE, {"position": 1}, r"position 1 is not in <NumPy array sources\[0\]>"),
        (MOVIE, {"z": 2}, r"z=2 is not in <NumPy array sources\[0\]>"),
        (lazily(), {"channels": "red"}, r"channel 'red' is not in <Dask array sources\[0\]>"),
        (MOVIE, {"raw_shape": SHAPE, "raw_dtype": "u2"}, r"no source is a headerless movie \(<Num"),
        (MOVIE, {"bboxes": [[(0, 0, 23, 4)]]}, r"box .* does not fit <NumPy array sources\[0\]>"),
        (MOVIE, {"frames": slice(40, 50)}, "selects none of the 31 frames"),
    ],
)
def test_refused_and_nothing_written(folder, sources, options, said):
    before = contents(folder)
    for job in (
        run_spatial_mean,
        convert_movies,
        lambda taken, _, **o: plan_background(taken, **o),
    ):
        with pytest.raises((ValueError, TypeError), match=said):
            job(sources, "out.zarr", **options)
    assert contents(folder) == before


@pytest.mark.slow
def test_a_cluster_takes_what_each_task_can_compute_itself(small):
    array = da.random.default_rng(3).integers(0, 900, SHAPE, np.uint16, chunks=(2, 16, 22))
    run_background(array, "threads.zarr", CHAIN)
    with Client(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0"):
        for job in (run_spatial_mean, lambda source, _: plan_spatial_mean(source)):
            with pytest.raises(ValueError, match=r"memory of this process.*numpy\.save"):
                job(MOVIE, "numpy.zarr")
        many = np.zeros((8, 512, 512), np.uint16)
        with pytest.raises(ValueError, match=r"would take .* to a worker.*numpy\.save"):
            run_spatial_mean(da.from_array(many, chunks=(4, 512, 512)), "data.zarr")
        assert not Path("numpy.zarr").exists()
        assert not Path("data.zarr").exists()
        run_background(array, "workers.zarr", CHAIN)
        run_background(stored(), "stored.zarr", CHAIN)
        for persisted in (array.persist(), array.persist() + 1):
            with pytest.raises(ValueError, match="lies on the workers.*save it as Zarr"):
                run_background(persisted, "persisted.zarr", CHAIN)
    assert pixels("workers.zarr") == pixels("threads.zarr")


# ---- interrupted, changed, damaged ---------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_resumed_with_the_same_pixels_it_has_the_bytes_of_an_undisturbed_run(
    small, kind, monkeypatch
):
    whole = contents(run_background(KINDS[kind](), "whole.zarr", CHAIN).path)
    job = partial(run_background, steps=CHAIN)
    interrupted(KINDS[kind](), Path("out.zarr"), 2, monkeypatch, job)
    assert 0 < len(journal(Path("out.zarr"))) < 4
    if kind != "zarr":  # made again, it is another file
        job(KINDS[kind](), "out.zarr", resume=True)
    else:
        job(zarr.open_array("movie.zarr"), "out.zarr", resume=True)
    found = contents(Path("out.zarr"))
    if kind == "zarr":
        whole = {name: data for name, data in whole.items() if "/c/" in name}
        found = {name: data for name, data in found.items() if "/c/" in name}
    assert found == whole


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (MOVIE, rf"{'<NumPy array sources.0.>'} is not the array that it was \(crc32c \w+, not "),
        (lazily(), r"<Dask array sources.0.> is not the array that it was \(array-\w+, not array-"),
    ],
    ids=["numpy", "dask"],
)
def test_other_pixels_are_refused(small, array, said, monkeypatch):
    job = partial(run_background, steps=CHAIN)
    interrupted(array, Path("out.zarr"), 2, monkeypatch, job)
    before = contents(Path("out.zarr"))
    other = MOVIE.copy()
    other[-1, -1, -1] += 1
    other = other if isinstance(array, np.ndarray) else lazily(other)
    with pytest.raises(ValueError, match=said) as error:
        job(other, "out.zarr", resume=True)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="sources was"):
        job("movie.tif", "out.zarr", resume=True)
    assert contents(Path("out.zarr")) == before
    job(array, "out.zarr", resume=True)


def kept():
    """Return what is stored, without the journal, which is written in another order, and lock."""
    found = contents(Path("out.zarr"))
    return {name: data for name, data in found.items() if not name.endswith(("journal", "lock"))}


NAMED_ALIKE = {
    "of a Zarr array": lambda movie: stored(movie) and da.from_zarr("movie.zarr"),
    "of the caller's naming": lambda movie: da.from_array(movie, (1, 16, 22), name="movie"),
}


@pytest.mark.parametrize("array", NAMED_ALIKE.values(), ids=NAMED_ALIKE)
@pytest.mark.parametrize("blocks_done", [2, None], ids=["interrupted", "finished"])
def test_other_pixels_under_the_same_name_are_refused(small, array, blocks_done, monkeypatch):
    """They were mixed into one store, which was then finished and whole."""
    monkeypatch.setattr(blocks, "MEAN_FRAMES", 6)
    outputs = ["background", "signal", "mean_background"]
    job = partial(run_background, steps=CHAIN, outputs=outputs)
    if blocks_done is None:
        job(array(MOVIE), "out.zarr")
    else:
        interrupted(array(MOVIE), Path("out.zarr"), blocks_done, monkeypatch, job)
    before = kept()
    assert array(MOVIE + 1).name == array(MOVIE).name
    with pytest.raises(ValueError, match="has the name of the array that it was begun with, but"):
        job(array(MOVIE + 1), "out.zarr", resume=True)
    assert kept() == before
    result = job(array(MOVIE), "out.zarr", resume=True)
    whole = job(MOVIE, "whole.zarr")
    assert result.bkgds[0].compute().tobytes() == whole.bkgds[0].compute().tobytes()


def test_a_damaged_chunk_of_a_dask_array_is_repaired(small):
    before = contents(run_background(lazily(), "out.zarr", CHAIN).path)
    chunk = Path("out.zarr/channel_0/0/c/0/0/0")
    chunk.write_bytes(chunk.read_bytes()[:-9])
    run_background(lazily(), "out.zarr", CHAIN, resume=True)
    assert contents(Path("out.zarr")) == before


def test_a_numpy_array_changed_during_the_run_is_refused(small):
    movie = MOVIE.copy()

    def change(*_):
        movie[0, 0, 0] += 1

    with (
        dask.config.set(scheduler="synchronous"),
        Callback(posttask=change),
        pytest.raises(SourceReadError, match=r"<NumPy array sources\[0\]> has changed while"),
    ):
        run_background(movie, "out.zarr", CHAIN)
    with pytest.raises(ValueError, match="not finished"):
        open_backgrounds("out.zarr")
    assert journal(Path("out.zarr")) == {}


def test_an_array_assigned_to_during_the_run_stays_as_it_was(small):
    array = lazily(MOVIE.copy())

    def change(*_):
        array[0] = 0

    expected = run_background(lazily(MOVIE.copy()), "expected.zarr", CHAIN).path
    with dask.config.set(scheduler="synchronous"), Callback(posttask=change):
        run_background(array, "out.zarr", CHAIN)
    assert pixels("out.zarr") == pixels(expected)


KILLED = """
import sys
import dask
import numpy as np
from smlmlp_dask import run_spatial_mean

movie = np.random.default_rng(3).poisson(90, (600, 256, 256)).astype(np.uint16)
if sys.argv[2] == "dask":
    import dask.array as da
    movie = da.from_array(movie, chunks=(8, 256, 256))
with dask.config.set(num_workers=2):
    run_spatial_mean(movie, sys.argv[1], 7.0, memory_limit="390MB", resume=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["numpy", "dask"])
def test_killed_again_and_again(folder, kind):
    def start(out):
        return subprocess.Popen([sys.executable, "-c", KILLED, str(out), kind])

    whole, out = folder / "whole.zarr", folder / "out.zarr"
    assert start(whole).wait() == 0
    n_blocks = len(pixels(whole)) - 1
    assert n_blocks >= 6
    kills = 0
    for least in (1, n_blocks // 2, n_blocks - 1):
        process = start(out)
        wait_for(lambda least=least: len(journal(out)) >= least, process, may_end=True)
        process.kill()
        kills += process.wait() == -signal.SIGKILL
    assert kills >= 2
    assert start(out).wait() == 0
    assert contents(out) == contents(whole)


# ---- what tells of the source later --------------------------------------------------------------


@pytest.fixture(params=["numpy", "dask"])
def told(request, folder, small):
    """A store of an array, beside a file that has the name under which the array is noted."""
    array, text = (MOVIE, NUMPY) if request.param == "numpy" else (lazily(), DASK)
    run_background(array, "out.zarr", SpatialMean(4.0))
    tifffile.imwrite(text, MOVIE, photometric="minisblack")
    return array, text


def test_what_needs_the_movie_again_says_that_it_was_an_array(told, folder):
    _, text = told
    gone = f"{text} was an array in memory, which the store does not keep: call the function"
    shown = call("info", "out.zarr")
    assert shown.exit_code == 0
    assert text in shown.output
    assert json.loads(call("info", "out.zarr", "--json").stdout)["sources"] == [text]

    verified = call("verify", "out.zarr")
    assert verified.exit_code == 0
    deep = call("verify", "--deep", "out.zarr")
    assert f"channel_0: not compared: {gone}" in " ".join(deep.output.split())
    assert "Traceback" not in deep.output

    with pytest.raises(OSError, match="cannot be read: <.* was an array in memory"):
        export_movie("out.zarr", "raw.raw", what="raw")
    exported = call("export", "out.zarr", "-o", "raw.raw", "--what", "raw")
    assert exported.exit_code == 2
    assert gone in exported.stderr
    export_movie("out.zarr", "background.raw")

    assert call("plot", "out.zarr", "-o", "picture.svg").exit_code == 0
    assert "was an array in memory" in " ".join(Path("picture.svg").read_text("utf-8").split())
    assert call("report", "out.zarr", "-o", "report.html").exit_code == 0
    page = Path("report.html").read_text("utf-8")
    assert f"{text[1:-1]}&gt; was an array in memory" in page
    assert "1970" not in page
    _, missing = viewed_layers(open_backgrounds("out.zarr"))
    assert "was an array in memory" in " ".join(missing)


def test_only_the_call_with_the_array_repairs(told, folder):
    array, text = told
    whole = contents(Path("out.zarr"))
    Path("out.zarr/channel_0/0/c/1/0/0").unlink()
    damaged = contents(Path("out.zarr"))
    repair = call("verify", "--repair", "out.zarr")
    assert repair.exit_code == 2
    assert f"nothing was changed: {text} was an array in memory" in " ".join(repair.stderr.split())
    assert contents(Path("out.zarr")) == damaged
    run_background(array, "out.zarr", SpatialMean(4.0), resume=True)
    assert contents(Path("out.zarr")) == whole


def test_a_file_of_that_name_is_a_file(folder):
    tifffile.imwrite(NUMPY, MOVIE[::-1], photometric="minisblack")
    of_file = run_spatial_mean(NUMPY, "file.zarr")
    of_array = run_spatial_mean(MOVIE, "array.zarr")
    assert np.array_equal(of_file.bkgds[0].compute(), of_array.bkgds[0].compute()[::-1])
    assert verify_backgrounds("file.zarr", sample=1).problems == []
    assert export_movie("array.zarr", NUMPY.replace(">", ".raw")).exists()  # no source to protect


def test_a_path_beside_an_array_is_still_compared(small):
    run_background([MOVIE, "movie.tif"], "out.zarr", SpatialMean(4.0))
    report = verify_backgrounds("out.zarr", sample=100, seed=1)
    assert report.recomputed == open_backgrounds("out.zarr").stacks[1].movie.array.nchunks
    assert (report.problems, len(report.not_compared)) == ([], 1)
    assert report.not_compared[0].startswith(f"channel_0: not compared: {NUMPY} was an array")
    assert repr(report) == (
        f"VerifyReport(whole; chunks={report.chunks}, recomputed={report.recomputed}, "
        "1 not compared)"
    )


def test_short_texts_of_results_plans_and_reports(small):
    result = run_background([MOVIE, "movie.tif"], "out.zarr", outputs=("background", "signal"))
    assert repr(result) == (
        f"SpatialMeanResult({str(Path('out.zarr').absolute())!r}: background and signal of "
        "31 x 16 x 22 (noise x 0.8527), 31 x 16 x 22 (noise x 0.8527))"
    )
    plan = repr(plan_spatial_mean("movie.tif", memory_limit="2GB", workers=1))
    assert plan.startswith(
        "JobPlan(31 x 16 x 22 pixels: 16 blocks of up to 2 x 16 x 22, 1 at a time; memory "
    )
    assert plan.endswith(" of 2 GB, output 43.6 kB)")
    report = verify_backgrounds("out.zarr")
    assert repr(report) == "VerifyReport(whole; chunks=64, recomputed=0)"
    for number in (1, 2):
        Path(f"out.zarr/channel_0/0/c/{number}/0/0").unlink()
    report = verify_backgrounds("out.zarr")
    assert repr(report) == (
        f"VerifyReport(2 problems, such as {report.problems[0]!r}; chunks=64, recomputed=0)"
    )
