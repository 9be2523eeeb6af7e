"""A finished store that is damaged: `verify` names it, both commands repair it, or say why not.

`python -m tests.benchmarks.damage` draws hundreds of damages at random.
"""

import errno
import json
import os
import random
import re
import shlex
import shutil
from collections import Counter

import numpy as np
import pytest
import zarr

from smlmlp_dask.pipeline import running
from smlmlp_dask.store import checking, lock
from smlmlp_dask.store.chunk_files import own_checksum
from smlmlp_dask.store.metadata import set_finished
from tests.commands import call
from tests.damaging import (
    KINDS,
    TARGETS,
    check_gone,
    check_refused,
    check_repair,
    check_resume,
    check_verify,
    check_words,
    harm,
    is_named,
    make_store,
    target_of,
)
from tests.stored import contents

CHUNK, ONE_BLOCK = "channel_0/0/c/3/0/0", "channel_1/0/c/2/0/0"

DAMAGES = {
    "a disk's bit": [(CHUNK, "flip")],
    "a chunk of which the power left nothing": [(CHUNK, "cut")],
    "a chunk that is gone": [(CHUNK, "delete")],
    "a chunk with a foreign sector": [(CHUNK, "overwrite")],
    "a chunk with something behind its checksum": [(CHUNK, "append")],
    "a chunk that is a whole block": [(ONE_BLOCK, "flip")],
    "the last chunk, gone": [(ONE_BLOCK, "delete")],
    "two chunks of one block": [("channel_0/0/c/0/0/0", "flip"), ("channel_0/0/c/1/0/0", "cut")],
    "chunks of both channels": [(CHUNK, "delete"), (ONE_BLOCK, "flip")],
    "records, a bit": [("records/c/0", "flip")],
    "records, cut": [("records/c/0", "cut")],
    "records, gone: they read as zeros": [("records/c/0", "delete")],
    "records, with something behind": [("records/c/0", "append")],
    "records and a chunk": [("records/c/0", "overwrite"), (CHUNK, "flip")],
    "the records' metadata, a bit": [("records/zarr.json", "flip")],
    "the records' metadata, gone": [("records/zarr.json", "delete")],
    "an array's metadata, a bit": [("channel_0/0/zarr.json", "flip")],
    "an array's metadata, cut": [("channel_1/0/zarr.json", "cut")],
    "an array's metadata, gone": [("channel_1/0/zarr.json", "delete")],
    "a channel's metadata, a bit: we never read it, viewers do": [("channel_0/zarr.json", "flip")],
    "a channel's metadata, gone": [("channel_1/zarr.json", "delete")],
    "the root's metadata, a bit": [("zarr.json", "flip")],
    "the root's metadata, cut": [("zarr.json", "cut")],
    "the root's metadata, gone": [("zarr.json", "delete")],
    "the copy of the metadata, a bit": [("records/metadata.json", "flip")],
    "the copy of the metadata, gone": [("records/metadata.json", "delete")],
    "the root's metadata and their copy": [
        ("zarr.json", "overwrite"),
        ("records/metadata.json", "cut"),
    ],
    "everything beside the root": [
        ("records/c/0", "delete"),
        ("records/zarr.json", "cut"),
        ("channel_0/zarr.json", "cut"),
        ("channel_0/0/zarr.json", "delete"),
        (CHUNK, "overwrite"),
    ],
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("whole"))


@pytest.fixture(params=DAMAGES)
def harms(request):
    return DAMAGES[request.param]


@pytest.fixture
def copy(whole, harms, tmp_path):
    return whole.copy(tmp_path, harms, random.Random(6))


def test_verify_names_it_and_nothing_else(whole, copy, harms):
    assert check_verify(whole, copy, harms) == []


def test_resume_repairs_it(whole, copy, harms):
    assert check_resume(whole, copy, harms) == []


def test_verify_repairs_it(whole, copy, harms):
    assert check_repair(whole, copy, harms) == []


@pytest.mark.parametrize(
    "harms",
    [
        [(CHUNK, "flip")],
        [(CHUNK, "delete"), ("records/c/0", "flip")],
        [("channel_0/0/zarr.json", "delete"), (ONE_BLOCK, "cut")],
        [("zarr.json", "cut")],
    ],
    ids=["chunk", "records", "metadata", "root"],
)
def test_without_its_source_it_is_left_as_it_is(whole, copy, harms):
    assert check_gone(whole, copy, harms) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b'"fused"', b'"fused" '),  # white space
        lambda text: text.replace(b"0.79", b"0.78", 1),  # a noise correction
        lambda text: text.replace(b"5.0", b"5.5"),  # radii: another job, it seems
        lambda text: text.replace(b'"crc32c"', b'"crc32d"'),
    ],
    ids=["white space", "noise correction", "radius", "codec"],
)
def test_metadata_that_can_still_be_read(whole, tmp_path, change):
    """Damage need not show: metadata are compared with what they were."""
    copy = whole.copy(tmp_path, [], None)
    metadata = {name: data for name, data in whole.bytes.items() if name.endswith("zarr.json")}
    changed = [name for name, data in metadata.items() if change(data) != data]
    assert changed
    for name in changed:
        (copy / name).write_bytes(change(whole.bytes[name]))
    harms = [(name, "overwrite") for name in changed]
    assert check_verify(whole, copy, harms) == []
    assert check_resume(whole, copy, harms) == []


def test_chunks_in_each_others_place_are_damage(whole, tmp_path):
    """Each agrees with the checksum that it ends with, but not with the records."""
    copy = whole.copy(tmp_path, [], None)
    swapped = {CHUNK: whole.bytes["channel_0/0/c/1/0/0"], "channel_0/0/c/1/0/0": whole.bytes[CHUNK]}
    for name, data in swapped.items():
        (copy / name).write_bytes(data)
    harms = [(name, "overwrite") for name in swapped]
    assert check_verify(whole, copy, harms) == []
    assert check_repair(whole, copy, harms) == []


def test_what_is_whole_is_not_repaired(whole, tmp_path):
    copy = whole.copy(tmp_path, [], None)
    before = {name: (copy / name).stat().st_mtime_ns for name in whole.bytes}
    for ended in (call("verify", copy, "--repair"), whole.run_again(copy)):
        assert check_words(ended) == []
        assert ended.exit_code == 0
    assert contents(copy) == whole.bytes
    assert {name: (copy / name).stat().st_mtime_ns for name in whole.bytes} == before


@pytest.mark.parametrize(
    ("command", "times"),
    [
        (["verify"], 1),  # to find what is damaged
        (["verify", "--repair"], 2),  # and once more, to prove that nothing is
    ],
)
def test_how_often_each_chunk_is_read_whole(whole, tmp_path, monkeypatch, command, times):
    copy = whole.copy(tmp_path, [(CHUNK, "flip")], random.Random(6))
    read = Counter()

    def counted(path):
        read[path] += 1
        return own_checksum(path)

    monkeypatch.setattr(checking, "own_checksum", counted)
    call(command[0], copy, *command[1:])
    chunks = [path for path in copy.glob("channel_*/0/c/**/*") if path.is_file()]
    assert read == dict.fromkeys(chunks, times)


# ---- sources that have changed -------------------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    """A headerless movie and the store of its background, a chunk of which is damaged."""
    movie, out = tmp_path / "movie.raw", tmp_path / "b.zarr"
    pixels = np.random.default_rng(4).poisson(200, (10, 20, 40)).astype("<u2")
    movie.write_bytes(pixels.tobytes())
    command = ("run", movie, "-o", out, "--raw-shape", "10,20,40", "--raw-dtype", "<u2")
    assert call(*command).exit_code == 0
    harm(out, "channel_0/0/c/0/0/0", "flip", random.Random(1))
    return movie, out, (*command, "--resume")


@pytest.fixture
def earlier(tmp_path, small):
    """The store as versions without a copy of the metadata wrote it, undamaged."""
    out = tmp_path / "earlier.zarr"
    shutil.copytree(small[1], out)
    assert call("verify", out, "--repair").exit_code == 0
    (out / "records" / "metadata.json").unlink()
    root, records = (json.loads((out / name).read_text()) for name in EARLIER)
    for name in ("metadata_copy", "display_ranges", "acquisitions"):
        del root["attributes"]["smlmlp_dask"][name]
    del records["dimension_names"]
    numbers = zarr.open_array(out / "records", mode="r")[:]
    records["codecs"] = records["codecs"][:1]  # neither compressed nor with a checksum
    for name, document in zip(EARLIER, (root, records), strict=True):
        (out / name).write_text(json.dumps(document, indent=2))
    (out / "records" / "c" / "0").write_bytes(numbers.astype("<u4").tobytes())
    return out


EARLIER = ("zarr.json", "records/zarr.json")


def test_a_store_of_an_earlier_version_is_whole(earlier):
    before = contents(earlier)
    verified = call("verify", earlier, "--deep")
    assert (verified.exit_code, verified.stderr) == (0, ""), verified
    assert contents(earlier) == before


@pytest.mark.parametrize(
    "harms",
    [
        [("records/zarr.json", "delete")],
        [("records/zarr.json", "cut"), ("records/c/0", "delete")],
        [("channel_0/0/zarr.json", "delete")],
        [("channel_0/0/zarr.json", "cut"), ("channel_0/0/c/0/0/0", "flip")],
        [("channel_0/zarr.json", "delete")],
    ],
    ids=["records", "all records", "array", "array and chunk", "image"],
)
@pytest.mark.parametrize("repair", ["verify --repair", "run --resume"])
def test_a_store_of_an_earlier_version_is_repaired(small, earlier, harms, repair):
    pixels, records = contents(earlier / "channel_0/0/c"), recorded(earlier)
    for name, how in harms:
        harm(earlier, name, how, random.Random(2))
    verified = call("verify", earlier)
    assert verified.exit_code == 1
    assert all(is_named(name, verified.output) for name, _ in harms if "json" in name), verified
    again = (*small[2][:3], earlier, *small[2][4:])
    ended = call("verify", earlier, "--repair") if repair.startswith("verify") else call(*again)
    assert ended.exit_code == 0, ended
    assert contents(earlier / "channel_0/0/c") == pixels
    assert recorded(earlier) == records
    assert call("verify", earlier, "--deep").exit_code == 0
    assert not (earlier / "records" / "metadata.json").exists()  # it would lack the root's


def recorded(store):
    return zarr.open_array(store / "records", mode="r")[:].tolist()


def change_a_pixel(movie):
    data = movie.read_bytes()
    movie.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def change_a_pixel_unseen(movie):
    """Change a pixel, but neither size nor time."""
    status = movie.stat()
    change_a_pixel(movie)
    os.utime(movie, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("repair", ["verify --repair", "run --resume"])
def test_a_changed_source_repairs_nothing(small, repair):
    movie, out, again = small
    before = contents(out)
    change_a_pixel(movie)
    os.utime(movie, ns=(0, 0))
    ended = call("verify", out, "--repair") if repair == "verify --repair" else call(*again)
    (line,) = ended.stderr.splitlines() or [ended.stdout.splitlines()[-1]]
    assert f"the movie {movie.resolve()} has changed since" in line
    assert ended.exit_code != 0
    assert check_words(ended) == []
    assert contents(out) == before


@pytest.mark.parametrize("repair", ["verify --repair", "run --resume"])
def test_other_pixels_are_not_taken_for_the_lost_ones(small, repair):
    """The checksum of the chunk that was lost is known: what is computed again must have it."""
    movie, out, again = small
    change_a_pixel_unseen(movie)
    ended = call("verify", out, "--repair") if repair == "verify --repair" else call(*again)
    assert check_words(ended) == []
    assert ended.exit_code != 0
    assert call("verify", out).exit_code != 0


@pytest.mark.parametrize("by", [KeyboardInterrupt(), OSError(errno.EIO, "Input/output error")])
def test_an_interrupted_repair_goes_on(whole, tmp_path, monkeypatch, by):
    """By the same command: whoever repairs a store need not know the one that wrote it."""
    copy = whole.copy(tmp_path, [(CHUNK, "flip"), (ONE_BLOCK, "delete")], random.Random(6))
    work, blocks_done = running.filter_and_store, iter(range(10))

    def failing(task, **options):
        if next(blocks_done):
            raise by
        return work(task, **options)

    command = ["verify", str(copy), "--repair"]
    monkeypatch.setattr("sys.argv", ["smlmlp-dask", *command])
    with monkeypatch.context() as patch:
        patch.setattr(running, "filter_and_store", failing)
        ended = call(*command)
    assert ended.exit_code == (130 if isinstance(by, KeyboardInterrupt) else 2)
    told = re.fullmatch(r"Error: .*; \d of 6 blocks are kept; to go on: (.*)\n", ended.stderr)
    assert told, ended
    assert "is not finished" in call("verify", copy).stderr
    away = whole.movie.rename(whole.movie.with_name("away.zarr"))
    refused = call(*command)
    away.rename(whole.movie)
    assert refused.exit_code == 2
    assert "an interrupted repair and cannot be repaired, nothing was changed" in refused.stderr
    again = call(*shlex.split(told[1])[1:])
    assert again.exit_code == 0
    assert "repaired: what an interrupted repair had left" in again.stdout
    assert contents(copy) == whole.bytes


def test_what_has_never_been_finished_is_not_repaired(whole, tmp_path):
    copy = whole.copy(tmp_path, [], random.Random(6))
    set_finished(copy, finished=False)
    shutil.rmtree(copy / "records/c")
    before = contents(copy)
    refused = call("verify", copy, "--repair")
    assert refused.exit_code == 2
    assert "is not finished" in refused.stderr
    assert contents(copy) == before


def test_a_store_that_may_not_be_written(small, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system", "b.zarr/records/lock")

    _, out, _ = small
    monkeypatch.setattr(lock.FileLock, "acquire", refuse)
    ended = call("verify", out, "--repair")
    assert ended.exit_code == 2
    assert re.fullmatch(
        r"Error: .*b\.zarr cannot be written \(Read-only .*: make .*\n", ended.stderr
    )


# ---- what judges is judged -----------------------------------------------------------------------


def test_every_kind_of_file_is_damaged_here(whole):
    named = {target_of(name) for harms in DAMAGES.values() for name, _ in harms}
    assert named == {target for target in TARGETS if whole.names(target)}
    assert {kind for harms in DAMAGES.values() for _, kind in harms} == set(KINDS)


@pytest.mark.parametrize(
    ("name", "said", "named"),
    [
        ("channel_0/0/c/1/0/0", "channel_0/0/c/1/0/0: damaged", True),
        ("channel_0/0/c/1/0/0", "channel_0/0/c/11/0/0: damaged", False),
        ("channel_0/0/c/1/0/0", "channel_0/0/c/1/0/01: damaged", False),
        ("channel_0/0/zarr.json", "channel_0: its metadata are damaged", True),
        ("channel_0/0/zarr.json", "channel_1: its metadata are damaged", False),
        ("zarr.json", "channel_0/0/zarr.json: damaged", False),
        ("zarr.json", "Error: STORE/zarr.json is damaged", True),
        ("zarr.json", "records/metadata.json (copy of the metadata): damaged", False),
        ("zarr.json", "the metadata are damaged", True),
        ("records/c/0", "the records are damaged", True),
        ("records/c/0", "9 chunks checked: 1 problem", False),
    ],
)
def test_what_counts_as_named(name, said, named):
    assert is_named(name, said) is named


def test_a_refusal_that_changes_something_is_seen(whole, tmp_path):
    copy = whole.copy(tmp_path, [(CHUNK, "cut")], random.Random(2))
    before = contents(copy)
    refusal = call("verify", copy / "nowhere")
    assert refusal.exit_code == 2
    assert check_refused(copy, before, refusal, "verify", "does not exist") == []
    shutil.copyfile(whole.path / CHUNK, copy / CHUNK)
    (seen,) = check_refused(copy, before, refusal, "verify", "does not exist")
    assert f"changed ['{CHUNK}']" in seen
