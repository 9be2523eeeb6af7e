import json
import os
from pathlib import Path
from uuid import uuid4

import dask.array as da
import google_crc32c
import numpy as np
import pytest
import zarr

from smlmlp_dask import bkgd_spatial_mean, open_backgrounds
from smlmlp_dask.blocks import plan_blocks
from smlmlp_dask.movies.stack import SourceReadError
from smlmlp_dask.store import write as store_writing
from smlmlp_dask.store.chunk_files import chunk_path
from smlmlp_dask.store.codecs import Storage
from smlmlp_dask.store.lock import sole_writer
from smlmlp_dask.store.metadata import COPY
from smlmlp_dask.store.read import ATTRIBUTE, Progress, progress
from smlmlp_dask.store.write import check_destination, writing

PLANS = [
    plan_blocks((5, 6, 7), 2, (2, 6, 7), (1, 1), block_bytes=2 * 6 * 7 * 4),
    plan_blocks((0, 3, 4), 2, (1, 3, 4), (1, 1)),
]
STORAGE = Storage("fast", None)
ATTRIBUTES = {
    "channels_mean_radii_pix": [[1.0, 2.0], [3.0, 3.0]],
    "spatial_mean_sigmas": [[0.5, 1.0], [1.5, 1.5]],
    "spatial_mean_kernels_y": [[0.1], [0.25]],
    "spatial_mean_kernels_x": [[-0.5, 1.0, -0.5], [0.3]],
    "noise_corrections": [float(np.float32(0.1)), 2.0],
    "blocks": 3,
}
PIXELS = np.arange(5 * 6 * 7, dtype=np.float32).reshape(5, 6, 7)


def fill(path, numbers=(0, 1, 2), pixels=PIXELS, **options):
    """Write some blocks, as a job does."""
    with writing(path, PLANS, ATTRIBUTES, STORAGE, **options) as writer:
        for block in PLANS[0].blocks():
            if block.number in numbers:
                assert (0, block.number) not in writer.done
                checksum = writer.targets[0][0].write(block.inner, pixels[block.inner])
                writer.add(0, block.number, [checksum])
        if len(writer.done) < 3:
            raise OSError("the disk is full")


def fill_in_part(path, numbers, **options):
    with pytest.raises(OSError, match="the disk is full"):
        fill(path, numbers, **options)


@pytest.fixture
def store(tmp_path):
    fill(tmp_path / "out.zarr")
    return tmp_path / "out.zarr"


def test_reopened_as_it_was_written(store):
    result = open_backgrounds(store)
    assert result.path == store
    assert [bkgd.shape for bkgd in result.bkgds] == [(5, 6, 7), (0, 3, 4)]
    assert result.bkgds[0].chunks == ((5,), (6,), (7,))  # 16 MiB would fit
    assert result.bkgds[0].dtype == np.float32
    np.testing.assert_array_equal(result.bkgds[0].compute().ravel(), np.arange(5 * 6 * 7))
    assert result.noise_corrections == [np.float32(0.1), np.float32(2)]
    assert all(type(factor) is np.float32 for factor in result.noise_corrections)
    assert result.info["channels_mean_radii_pix"] == [(1.0, 2.0), (3.0, 3.0)]
    assert result.info["channels_mean_radius_pix"] == [(1.0, 2.0), (3.0, 3.0)]
    assert result.info["spatial_mean_sigmas"] == [(0.5, 1.0), (1.5, 1.5)]
    residual = result.info["spatial_mean_kernels_y"][0]
    assert residual.dtype == np.float32
    assert residual == np.float32([0.1])


def facts(result):
    """All that a result says, as plain values."""
    arrays = [result.info[f"spatial_mean_kernels_{axis}"][i] for axis in "yx" for i in range(2)]
    return {
        "factors": [(type(factor), float(factor)) for factor in result.noise_corrections],
        "radii": list(result.info["channels_mean_radii_pix"]),
        "sigmas": list(result.info["spatial_mean_sigmas"]),
        "kernels": [(kernel.dtype, kernel.tolist()) for kernel in arrays],
        "keys": sorted(result.info),
        "stacks": [stack.shape for stack in result.stacks],
        "bkgds": [(bkgd.name, bkgd.compute().tobytes()) for bkgd in result.bkgds],
    }


def next_steps(factors):
    """What the reference's steps do with the factors, chunk of a movie after chunk."""
    for _ in range(4):
        bkgd_spatial_mean([PIXELS, PIXELS[:0]], noise_corrections=factors())


@pytest.mark.parametrize(
    "use",
    [
        lambda result: next_steps(lambda: result.noise_corrections),
        lambda result: result.noise_corrections.clear(),
        lambda result: result.info.clear(),
        lambda result: result.info["channels_mean_radii_pix"].reverse(),
        lambda result: result.info["channels_mean_radius_pix"].append((7.0, 7.0)),
        lambda result: result.info["spatial_mean_sigmas"].clear(),
        lambda result: result.info["spatial_mean_kernels_y"].clear(),
        lambda result: result.info["spatial_mean_kernels_x"][0].fill(0),
        lambda result: result.stacks.clear(),
        lambda result: result.bkgds.clear(),
        lambda result: result.bkgds[0].__setitem__(slice(0, 2), 0),  # in place, in Dask, too
    ],
    ids=["factors-multiplied", "factors", "info", "radii", "radii-2", "sigmas", "kernels",
         "kernel", "stacks", "bkgds", "bkgd"],
)  # fmt: skip
def test_what_a_caller_gets_is_the_callers(store, use):
    result = open_backgrounds(store)
    before = facts(result)
    use(result)
    assert facts(result) == before


def test_at_each_access_one_name_is_one_graph(store):
    result = open_backgrounds(store)
    first, again = result.bkgds, result.bkgds
    assert [bkgd.name for bkgd in first] == [bkgd.name for bkgd in again]
    assert first[0].dask.keys() == again[0].dask.keys()
    assert not (first[0] - again[0]).any().compute()
    info = result.info
    assert info["channels_mean_radii_pix"] is info["channels_mean_radius_pix"]


def test_plain_zarr_and_dask_read_it(store):
    group = zarr.open_group(store, mode="r")
    assert group.metadata.zarr_format == 3
    assert group.attrs[ATTRIBUTE]["finished"] is True
    assert group.attrs[ATTRIBUTE]["versions"]["smlmlp-dask"]
    array = group["channel_0/0"]
    assert array.dtype == np.float32
    assert array.metadata.dimension_names == ("t", "y", "x")
    lazy = da.from_zarr(str(store), component="channel_0/0")
    np.testing.assert_array_equal(lazy.compute(), PIXELS)
    np.testing.assert_array_equal(array[:], PIXELS)


def test_a_chunk_of_one_value_is_written_too(tmp_path):
    fill(tmp_path / "out.zarr", pixels=np.full_like(PIXELS, np.nan))  # the fill value
    assert np.isnan(open_backgrounds(tmp_path / "out.zarr").bkgds[0].compute()).all()
    for number in range(3):
        assert chunk_path(tmp_path / "out.zarr/channel_0/0", (number, 0, 0)).exists()


def test_a_finished_store_is_tidy(store):
    names = {str(path.relative_to(store)) for path in store.rglob("*") if path.is_file()}
    chunks = {f"channel_0/0/c/{number}/0/0" for number in range(3)}
    nodes = ["", "channel_0/", "channel_0/0/", "channel_1/", "channel_1/0/", "records/"]
    beside = {"records/c/0", "records/metadata.json"}
    assert names == chunks | {f"{node}zarr.json" for node in nodes} | beside
    assert list(store.parent.iterdir()) == [store]


def test_the_records_are_the_checksums_of_the_chunks(store):
    expected = [
        google_crc32c.value(path.read_bytes()[:-4])
        for path in (chunk_path(store / "channel_0/0", (n, 0, 0)) for n in range(3))
    ]
    assert zarr.open_array(store / "records", mode="r")[:].tolist() == expected


# ---- unfinished --------------------------------------------------------------------------------


def test_unfinished_until_the_end(tmp_path):
    path = tmp_path / "out.zarr"
    fill_in_part(path, [1])
    with pytest.raises(ValueError, match=r"out\.zarr is not finished.*--resume"):
        open_backgrounds(path)
    assert progress(path) == Progress(1, 3)
    fill(path, [0, 2], resume=True)
    assert progress(path) == Progress(3, 3)
    assert open_backgrounds(path).bkgds[0].compute().tobytes() == PIXELS.tobytes()


def test_who_writes_an_unfinished_store_is_named(tmp_path):
    path = tmp_path / "out.zarr"
    fill_in_part(path, [1])
    with (
        sole_writer(path / "records"),
        pytest.raises(ValueError, match=rf"incomplete; wait for process {os.getpid()} on .*resume"),
    ):
        open_backgrounds(path)
    with pytest.raises(ValueError, match="incomplete; resume it"):
        open_backgrounds(path)


def test_resume_without_a_store_starts_one(tmp_path):
    fill(tmp_path / "out.zarr", resume=True)
    assert open_backgrounds(tmp_path / "out.zarr").bkgds[0].compute().tobytes() == PIXELS.tobytes()


@pytest.mark.parametrize(
    "harm",
    [
        lambda chunk: chunk.unlink(),
        lambda chunk: chunk.write_bytes(b""),
        lambda chunk: chunk.write_bytes(chunk.read_bytes()[:-1]),
        lambda chunk: chunk.write_bytes(chunk.with_name("0").read_bytes()[:-4] + b"else"),
    ],
)
def test_a_recorded_block_that_is_gone_is_not_done(tmp_path, harm):
    path = tmp_path / "out.zarr"
    fill_in_part(path, [0, 1])
    harm(chunk_path(path / "channel_0/0", (1, 0, 0)))
    fill(path, [1, 2], resume=True)
    assert open_backgrounds(path).bkgds[0].compute().tobytes() == PIXELS.tobytes()


@pytest.mark.parametrize("tail", ["0 2 17", "0 2", "0", "garbage\n", "0 2\n", "7 7 7\n", "\0\0\0"])
def test_a_torn_journal_counts_whole_lines_only(tmp_path, tail):
    path = tmp_path / "out.zarr"
    fill_in_part(path, [0, 1])
    with (path / "records/journal").open("a") as journal:
        journal.write(tail)
    fill(path, [2], resume=True)
    assert open_backgrounds(path).bkgds[0].compute().tobytes() == PIXELS.tobytes()


def test_leftovers_of_a_killed_run_are_cleared(tmp_path):
    path = tmp_path / "out.zarr"
    fill_in_part(path, [0])
    ending = f"{uuid4().hex}.partial"
    for name in ("zarr.", "channel_0/0/c/1.", "records/zarr.json.", "channel_1/zarr."):
        (path / f"{name}{ending}").touch()
    (path / "channel_0/notes.partial").touch()  # somebody's own
    fill(path, [1, 2], resume=True)
    assert [found.name for found in path.rglob("*.partial")] == ["notes.partial"]


def test_nothing_is_taken_for_a_draft(tmp_path):
    precious = tmp_path / ".out.zarr.new/zarr.json"
    precious.parent.mkdir()
    precious.touch()
    fill(tmp_path / "out.zarr")
    assert precious.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"out.zarr", ".out.zarr.new"}


def test_what_others_put_into_a_store_that_failed_stays(tmp_path):
    def fail():
        with writing(tmp_path / "out.zarr", PLANS, ATTRIBUTES, STORAGE):
            (tmp_path / "out.zarr/notes.txt").touch()
            raise ValueError("full")

    with pytest.raises(ValueError, match="full"):
        fail()
    assert [path.name for path in (tmp_path / "out.zarr").iterdir()] == ["notes.txt"]


def test_a_store_that_failed_is_removed_while_it_is_locked(tmp_path, monkeypatch):
    """Else another run could take it, and lose it under its hands."""
    remove, held = store_writing.remove_begun, []

    def look(path):
        with pytest.raises(BlockingIOError):
            fill(path, resume=True)
        held.append(path)
        remove(path)

    monkeypatch.setattr(store_writing, "remove_begun", look)
    fill_in_part(tmp_path / "out.zarr", [])
    assert held == [tmp_path / "out.zarr"]
    assert list(tmp_path.iterdir()) == []


def test_other_settings_are_refused(tmp_path):
    path = tmp_path / "out.zarr"
    fill_in_part(path, [0])
    other = {**ATTRIBUTES, "noise_corrections": [0.5, 2.0], "blocks": 4}
    with pytest.raises(
        ValueError, match=r"noise_corrections was \[.*\] and is \[0.5, 2.0\]; blocks"
    ):
        writing(path, PLANS, other, STORAGE, resume=True).__enter__()
    assert progress(path) == Progress(1, 3)


def test_only_one_writes(tmp_path):
    path = tmp_path / "out.zarr"
    with writing(path, PLANS, ATTRIBUTES, STORAGE) as writer:
        with pytest.raises(BlockingIOError, match=r"another run is writing .*\(process \d+ on"):
            fill(path, resume=True)
        assert path.exists()
        for block in PLANS[0].blocks():
            writer.add(
                0, block.number, [writer.targets[0][0].write(block.inner, PIXELS[block.inner])]
            )
    fill(path, [], resume=True)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_before_the_first_block_leaves_nothing_behind(tmp_path, error):
    def fail():
        with writing(tmp_path / "a/b/out.zarr", PLANS, ATTRIBUTES, STORAGE) as writer:
            first = next(PLANS[0].blocks()).inner
            writer.targets[0][0].write(first, PIXELS[first])
            raise error

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_folders_that_others_use_by_now_stay(tmp_path):
    def fail():
        with writing(tmp_path / "a/b/out.zarr", PLANS, ATTRIBUTES, STORAGE):
            (tmp_path / "a/other").touch()
            raise ValueError("full")

    with pytest.raises(ValueError, match="full"):
        fail()
    assert list(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "a/other"]


def test_a_quicker_run_is_not_touched(tmp_path):
    (tmp_path / "out.zarr").mkdir()
    (tmp_path / "out.zarr/precious").touch()
    with pytest.raises(FileExistsError, match=r"out\.zarr exists: choose another"):
        fill(tmp_path / "out.zarr")
    assert (tmp_path / "out.zarr/precious").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]


def test_a_destination_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="cannot be written: .*file is a file"):
        fill(tmp_path / "file/out.zarr")

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(zarr, "create_group", refuse)
    with pytest.raises(PermissionError, match=r"out\.zarr cannot be written \(Permission denied\)"):
        fill(tmp_path / "out.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# ---- damage ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("harm", "state"),
    [
        (lambda chunk: chunk.unlink(), "missing"),
        (lambda chunk: chunk.write_bytes(b""), "damaged"),
        (lambda chunk: chunk.write_bytes(chunk.read_bytes()[:-9]), "damaged"),
        (lambda chunk: chunk.write_bytes(b"?" + chunk.read_bytes()[1:]), "damaged"),
    ],
)
def test_damage_is_never_read_as_data_and_names_its_remedy(store, harm, state):
    harm(chunk_path(store / "channel_0/0", (1, 0, 0)))
    (bkgd, _) = open_backgrounds(store).bkgds
    with pytest.raises(SourceReadError) as raised:
        bkgd.compute()
    assert str(raised.value) == (
        f"chunk c/1/0/0 (frames 2-3) of {store}/channel_0/0 is {state}: repair it by smlmlp-dask "
        f"verify --repair {store}"
    )
    if state == "damaged":  # other programs see it, too
        with pytest.raises(ValueError, match="checksum"):
            zarr.open_array(store / "channel_0/0", mode="r")[2:4]


def test_what_cannot_be_read_is_not_called_damaged(store, monkeypatch):
    (bkgd, _) = open_backgrounds(store).bkgds

    def fail(*args, **kwargs):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(zarr.Array, "__getitem__", fail)
        with pytest.raises(SourceReadError, match=r"cannot be read: .*Input/output.*; check the d"):
            bkgd.compute()
    store.rename(store.with_name("elsewhere.zarr"))
    with pytest.raises(
        SourceReadError, match=r"out\.zarr/channel_0/0 is gone: check that the disk"
    ):
        bkgd.compute()


# ---- what is no finished store -----------------------------------------------------------------


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.zarr does not exist"):
        open_backgrounds(tmp_path / "nothing.zarr")


@pytest.mark.parametrize("kind", ["folder", "file", "array", "group", "damaged", "wrong attribute"])
def test_not_a_store(tmp_path, kind):
    path = tmp_path / "x.zarr"
    match kind:
        case "folder":
            path.mkdir()
        case "file":
            path.write_text("no store")
        case "array":
            zarr.create_array(path, shape=(1,), dtype="u1")
        case "group":
            zarr.create_group(path)
        case "wrong attribute":
            zarr.create_group(path, attributes={ATTRIBUTE: "finished"})
        case "damaged":
            path.mkdir()
            (path / "zarr.json").write_text('{"zarr_format": 3')
    with pytest.raises(ValueError, match=r"x\.zarr is not a store of backgrounds"):
        open_backgrounds(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.pop("noise_corrections"),
        lambda a: a.pop("spatial_mean_sigmas"),
        lambda a: a.update(noise_corrections=["a", "b"]),
        lambda a: a.update(noise_corrections=None),
        lambda a: a.update(noise_corrections=[1.0, 1.0, 1.0]),
        lambda a: a.update(channels_mean_radii_pix=[1, 2]),
    ],
)
def test_damaged_attributes(store, change):
    file = store / "zarr.json"
    metadata = json.loads(file.read_text())
    change(metadata["attributes"][ATTRIBUTE])
    file.write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match=r"damaged metadata \(zarr.json is not as it was written"):
        open_backgrounds(store)
    (store / COPY).unlink()  # as of versions that kept none
    with pytest.raises(ValueError, match=r"out\.zarr is damaged"):
        open_backgrounds(store)


def test_metadata_that_others_add_are_no_damage(store):
    group = zarr.open_group(store, mode="r+")
    group.attrs["my notes"] = "good movie"
    assert open_backgrounds(store).noise_corrections == ATTRIBUTES["noise_corrections"]
    fill(store, [], resume=True)
    assert group.attrs["my notes"] == "good movie"


# ---- destinations ------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "movie").mkdir()
    (tmp_path / "movie/1.tif").touch()
    (tmp_path / "link").symlink_to(tmp_path / "movie")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    return tmp_path


@pytest.mark.parametrize(
    "spelling",
    ["movie", "movie/out.zarr", "movie/a/b/out.zarr", "link", "link/out.zarr", "x/../movie/o.zarr"],
)
def test_on_or_inside_an_input(folder, spelling, monkeypatch):
    (folder / "x").mkdir()
    monkeypatch.chdir(folder)
    for path in (folder / spelling, Path(spelling)):
        with pytest.raises(ValueError, match="is the input .* or lies inside it: write elsewhere"):
            check_destination(path, [folder / "movie"])


@pytest.mark.parametrize("existing", ["movie", "movie/1.tif", "link", "nowhere"])
def test_over_an_existing_path(folder, existing):
    with pytest.raises(FileExistsError, match=f"{existing} exists: resume "):
        check_destination(folder / existing, [])


def test_beside_an_input(folder):
    check_destination(folder / "out.zarr", [folder / "movie"])
    check_destination(folder / "movie/out.zarr", [folder / "movie/1.tif"])
    os.link(folder / "movie/1.tif", folder / "hard.tif")
    with pytest.raises(ValueError, match="is the input"):
        check_destination(folder / "hard.tif", [folder / "movie/1.tif"])
