"""What is refused: one line that names the value, exit code 2 or the documented error, and nothing
written. The table grows by a row for every way that a user finds to be misunderstood."""

import json
import os
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from smlmlp_dask import (
    bkgd_combination,
    bkgd_spatial_mean,
    bkgd_spatial_opening,
    bkgd_temporal_median,
    convert_movies,
    gaussian_kernel,
    noise_correction,
    open_backgrounds,
    open_channels,
    plan_spatial_mean,
    run_spatial_mean,
    verify_backgrounds,
)
from smlmlp_dask.pipeline import block

from .commands import MOVIE, call_line

RAW = "--raw-shape 11,20,24 --raw-dtype '>u2'"
LONG = "x" * 300
HUGE = 10**30


@pytest.fixture
def folder(folder, monkeypatch):
    """A working folder with one movie in many forms, a finished store, and what is in the way."""
    monkeypatch.setattr(block, "RETRY_AFTER_SECONDS", ())
    monkeypatch.setitem(sys.modules, "cupy", None)  # as where it is not installed
    MOVIE.astype(">u2").tofile("movie.raw")
    zarr.create_array("movie.zarr", data=MOVIE, chunks=(4, 20, 24))
    Path("there").mkdir()
    Path("empty").mkdir()
    return folder


def contents(folder):
    """Return everything below a folder: kind, links, sizes and times."""
    found = [(path, os.lstat(path)) for path in sorted(folder.rglob("*"))]
    return [(path, status.st_mode, status.st_size, status.st_mtime_ns) for path, status in found]


# ---- what rows need on disk ----------------------------------------------------------------------


def tif(pixels=MOVIE, name="bad.tif", **options):
    options = {"photometric": "minisblack", **options}
    return lambda: tifffile.imwrite(name, pixels, **options)


def cut_tif(keep, **options):
    def make():
        tif(**options)()
        content = Path("bad.tif").read_bytes()
        Path("bad.tif").write_bytes(content[: keep if keep >= 0 else len(content) + keep])

    return make


def edited_tif(old, new, **options):
    def make():
        tif(**options)()
        content = Path("bad.tif").read_bytes()
        assert old in content
        Path("bad.tif").write_bytes(content.replace(old, new))

    return make


def frame_by_frame():
    with tifffile.TiffWriter("bad.tif") as writer:
        for frame in MOVIE:
            writer.write(frame, photometric="minisblack", contiguous=False)


def file_of(content, name="bad.tif"):
    return lambda: Path(name).write_bytes(content)


def folder_of(*frames):
    """A folder with a TIFF of every array, and a file of every text."""

    def make():
        Path("bad").mkdir()
        for index, frame in enumerate(frames):
            path = Path("bad", f"{index}.tif")
            if isinstance(frame, bytes):
                path.write_bytes(frame)
            else:
                tifffile.imwrite(path, frame, photometric="minisblack")

    return make


def array_of(shape, dtype="u2", **options):
    return lambda: zarr.create_array("bad.zarr", shape=shape, dtype=dtype, **options)


def edited_zarr(zarr_format=3, **changes):
    """An array whose metadata say something else; None takes a field away."""

    def make():
        zarr.create_array("bad.zarr", data=MOVIE, chunks=(4, 20, 24), zarr_format=zarr_format)
        file = Path("bad.zarr", "zarr.json" if zarr_format == 3 else ".zarray")
        document = {**json.loads(file.read_text()), **changes}
        file.write_text(json.dumps({k: v for k, v in document.items() if v is not None}))

    return make


def text_zarr(text):
    def make():
        zarr.create_array("bad.zarr", data=MOVIE, chunks=(4, 20, 24))
        Path("bad.zarr/zarr.json").write_text(text)

    return make


def grid(*chunks):
    return {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}}}


def ome(path, **more):
    image = {"multiscales": [{"datasets": [{"path": path}], **more}]}
    return lambda: zarr.create_group("bad.zarr", attributes={"ome": image})


def corrupt_chunk():
    Path("movie.zarr/c/1/0/0").write_bytes(b"nothing that decodes")


def other_group(name):
    """A group that is not a store of backgrounds, so that no run can resume it."""
    return lambda: zarr.create_group(name, attributes={"smlmlp_dask": "begun"})


def link(name, target):
    return lambda: Path(name).symlink_to(target)


def store():
    run_spatial_mean("movie.tif", "store.zarr", 2.0)


def unfinished():
    store()
    file = Path("store.zarr/zarr.json")
    file.write_text(file.read_text().replace('"finished": true', '"finished": false'))


def job_file(text):
    return lambda: Path("job.toml").write_text(text)


def frames():
    convert_movies("movie.tif", "frames.zarr")


def without_a_channel():
    store()
    Path("store.zarr/channel_0/0/zarr.json").unlink()


def pipe():
    os.mkfifo("pipe.tif")


# ---- the command line ----------------------------------------------------------------------------

OUT = "-o out.zarr"

LINES = [
    # the command, what the message says, and what has to be there
    ("run", "Missing argument 'SOURCES...'", None),
    ("run movie.tif", "Missing option '-o'", None),
    (f"run movie.tif {OUT} --nope", "No such option", None),
    ("nope", "No such command 'nope'. Commands: convert, demo, ", None),
    (f"run movie.tif {OUT} --radius", "--radius", None),
    # sources that are not there
    (f"run gone.tif {OUT}", "gone.tif does not exist", None),
    (f"run gone.tif {OUT} --dry-run", "gone.tif does not exist", None),
    (f"run movie.tif gone.tif {OUT}", "gone.tif does not exist", None),
    (f"run empty {OUT}", "empty", None),
    (f"run gone*.tif {OUT}", "gone*.tif matches 0 files", None),
    (f"run 'gone**.tif' {OUT}", "gone**.tif", None),
    (f"run '[' {OUT}", "/[", None),
    (f"run '' {OUT}", "source '' is empty", None),
    (f"run link.tif {OUT}", "link.tif does not exist", link("link.tif", "gone.tif")),
    (f"run link.tif {OUT}", "link.tif", link("link.tif", "link.tif")),
    (f"run pipe.tif {OUT}", "pipe.tif is a pipe, socket or device", pipe),
    (f"run /dev/zero {OUT} {RAW}", "/dev/zero is a pipe, socket or device", None),
    (f"run movie.tif/movie.tif {OUT}", "movie.tif/movie.tif", None),
    (f"run movie.zarr/1 {OUT}", "movie.zarr/1 does not exist: pass /", None),
    # names: whatever is in them, the message is one line, and no terminal is steered by it
    (f"run 'a film.tif' {OUT}", "a film.tif does not exist", None),
    (f"run 'Zelle-µ-细胞-🔬.tif' {OUT}", "Zelle-µ-细胞-🔬.tif does not exist", None),
    (f"run 'a\nb.tif' {OUT}", r"a\nb.tif does not exist", None),
    (f"run 'a\rb.tif' {OUT}", r"a\rb.tif does not exist", None),
    (f"run 'a\x1b[31mb.tif' {OUT}", r"a\x1b[31mb.tif matches 0 files", None),
    (f"run 'a\x9b2Jb.tif' {OUT}", r"a\x9b2Jb.tif does not exist", None),
    (f"run 'a\u202efit.b' {OUT}", r"a\u202efit.b does not exist", None),
    (f"run 'a\0b.tif' {OUT}", r"a\x00b.tif does not exist", None),
    (f"run a\udcffb.tif {OUT}", r"a\udcffb.tif does not exist", None),
    (f"run {LONG}.tif {OUT}", LONG, None),
    # TIFF
    (f"run bad.tif {OUT}", "bad.tif cannot be read as TIFF", file_of(b"")),
    (f"run bad.tif {OUT}", "bad.tif cannot be read as TIFF", file_of(b"hello, world" * 99)),
    (f"run bad.tif {OUT}", "bad.tif", file_of(b"II*\0\xff\xff\xff\xff")),
    (f"run bad.tif {OUT}", "bad.tif", file_of(b"MM\0+\0\x08\0\0" + b"\xff" * 8)),
    *[(f"run bad.tif {OUT}", "bad.tif", cut_tif(keep)) for keep in (4, 9, 200)],
    *[(f"run bad.tif {OUT}", "bad.tif is cut short", cut_tif(-cut)) for cut in (300, 2000)],
    (f"run bad.tif {OUT}", "bad.tif", cut_tif(-300, compression="zlib")),
    (f"run bad.tif {OUT}", "bad.tif", cut_tif(-1, tile=(16, 16), compression="zlib")),
    (f"run bad.tif {OUT}", "bad.tif", cut_tif(-2000, imagej=True)),
    (f"run bad.tif {OUT}", "11 image series in 11 pages", frame_by_frame),
    (f"run bad.tif {OUT}", "one 2-D page of shape (20, 24)", tif(MOVIE[0])),
    (f"run bad.tif {OUT}", "colour samples",
     tif(np.zeros((2, 20, 24, 3), "u1"), photometric="rgb")),
    (f"run bad.tif {OUT}", "(2, 3, 20, 24)", tif(np.zeros((2, 3, 20, 24), "u2"))),
    (f"run bad.tif {OUT}", "has dtype complex64", tif(np.zeros((2, 20, 24), "c8"))),
    (f"run bad.tif {OUT}", "has dtype bool", tif(np.zeros((2, 20, 24), bool))),
    (f"run bad.tif {OUT}", "12 frames that its ImageJ metadata describe",
     edited_tif(b"=11\n", b"=12\n", imagej=True)),
    (f"run bad.tif {OUT}", "11 of 99 frames are in its files",
     edited_tif(b'SizeT="11"', b'SizeT="99"', ome=True, metadata={"axes": "TYX"})),
    (f"run bad.tif {OUT}", "bad.tif",
     edited_tif(b'SizeT="11"', b'SizeT="-1"', ome=True, metadata={"axes": "TYX"})),
    (f"run bad {OUT}", "0.tif cannot be read as TIFF", folder_of(b"", MOVIE[0])),
    (f"run bad {OUT}", "1.tif has frames of shape (9, 24)", folder_of(MOVIE[0], MOVIE[0, :9])),
    (f"run bad {OUT}", "1.tif has frames of shape (20, 24) and dtype uint8",
     folder_of(MOVIE[0], MOVIE[0].astype("u1"))),
    (f"run there/*.tif {OUT}", "colour samples",
     tif(np.zeros((20, 24, 3), "u1"), "there/0.tif", photometric="rgb")),
    # Zarr
    (f"run bad.zarr {OUT}", "damaged Zarr metadata", text_zarr("")),
    (f"run bad.zarr {OUT}", "damaged Zarr metadata", text_zarr("[]")),
    (f"run bad.zarr {OUT}", "damaged Zarr metadata", text_zarr("[" * 100_000)),
    (f"run bad.zarr {OUT}", "damaged Zarr metadata", edited_zarr(data_type=None)),
    (f"run bad.zarr {OUT}", "damaged Zarr metadata", edited_zarr(data_type="uint17")),
    (f"run bad.zarr {OUT}", "damaged Zarr metadata", edited_zarr(shape=None)),
    (f"run bad.zarr {OUT}", "damaged Zarr metadata", edited_zarr(shape=[11, -20, 24])),
    (f"run bad.zarr {OUT}", str(HUGE), edited_zarr(shape=[HUGE, 20, 24])),
    (f"run bad.zarr {OUT}", "damaged Zarr metadata",
     text_zarr('{"zarr_format": 9, "node_type": "array"}')),
    (f"run bad.zarr {OUT}", "damaged Zarr metadata", edited_zarr(codecs=[])),
    (f"run bad.zarr {OUT}", "nope",
     edited_zarr(codecs=[{"name": "bytes"}, {"name": "nope", "configuration": {}}])),
    (f"run bad.zarr {OUT}", "damaged Zarr metadata", edited_zarr(chunk_grid={"name": "hexagons"})),
    (f"run bad.zarr {OUT}", "damaged Zarr metadata", edited_zarr(**grid(0, 20, 24))),
    (f"run bad.zarr {OUT}", "damaged Zarr metadata", edited_zarr(**grid(4, 20))),
    (f"run bad.zarr {OUT}", "damaged Zarr metadata", edited_zarr(**grid("4", 20, 24))),
    (f"run bad.zarr {OUT}", "damaged Zarr metadata", edited_zarr(2, dtype="|O")),
    (f"run bad.zarr {OUT}", "damaged Zarr metadata", edited_zarr(2, compressor={"id": "nope"})),
    (f"run bad.zarr {OUT}", "damaged Zarr metadata", edited_zarr(2, chunks=[0, 20, 24])),
    *[(f"run bad.zarr {OUT}", f"has shape {shape}", array_of(shape))
      for shape in [(), (20, 24), (2, 2, 20, 24)]],
    (f"run bad.zarr {OUT}", "has shape (4, 0, 3), without pixels",
     array_of((4, 0, 3), chunks=(1, 1, 1))),
    *[(f"run bad.zarr {OUT}", f"has dtype {dtype}", array_of((2, 3, 4), dtype))
      for dtype in ("complex64", "bool", "datetime64[s]")],
    (f"run bad.zarr {OUT}", "has dtype <U3", array_of((2, 3, 4), "<U3", zarr_format=2)),
    (f"run movie.zarr {OUT}", "/movie.zarr: chunk c/1/0/0 (frames 4-7) cannot", corrupt_chunk),
    *[(f"run bad.zarr {OUT}", f"names {path!r}", ome(path))
      for path in ("../movie.zarr", "gone")],
    (f"run bad.zarr {OUT}", "damaged Zarr metadata", ome(7)),
    (f"run bad.zarr {OUT}", "damaged Zarr metadata", ome("0", axes=7)),
    (f"run bad.zarr {OUT}", "has no arrays", lambda: zarr.create_group("bad.zarr")),
    # boxes, flips, frames
    (f"run movie.tif {OUT} --bbox 0:0,0,25,20", "box (0, 0, 25, 20)", None),
    (f"run movie.tif {OUT} --bbox 0:-1,0,5,9", "box (-1, 0, 5, 9)", None),
    (f"run movie.tif {OUT} --bbox 0:9,9,5,5", "box (9, 9, 5, 5)", None),
    (f"run movie.tif {OUT} --bbox 0:0,0,{HUGE},9", f"box (0, 0, {HUGE}, 9)", None),
    (f"run movie.tif {OUT} --bbox 1:0,0,5,9", "--bbox names source 1, but there is only", None),
    (f"run movie.tif {OUT} --bbox 0:1,2,3", "'0:1,2,3' is not SOURCE_INDEX:x0,y0,x1,y1", None),
    (f"run movie.tif {OUT} --flip y --flip x", "--flip has 2 entries for 1 channel", None),
    (f"run movie.tif {OUT} --flip z", "'z' is not one of", None),
    (f"run movie.tif {OUT} --frames 11:", "none of the 11 frames", None),
    (f"run movie.tif {OUT} --frames {HUGE}:", f"slice({HUGE}, None, None)", None),
    (f"run movie.tif {OUT} --frames 5", "'5' is not a range of frames", None),
    (f"run movie.tif {OUT} --frames 0:5:1:1", "'0:5:1:1' is not a range of frames", None),
    (f"run movie.tif {OUT} --frames ::0", "step 0", None),
    # radii
    (f"run movie.tif {OUT} --radius 0", "Error: --radius holds 0.0", None),
    (f"run movie.tif {OUT} --radius -7", "holds -7.0", None),
    (f"run movie.tif {OUT} --radius nan", "holds nan", None),
    (f"run movie.tif {OUT} --radius inf", "holds inf", None),
    (f"run movie.tif {OUT} --radius 1e-330", "holds 0.0", None),
    (f"run movie.tif {OUT} --radius {HUGE}", "holds 1e+30", None),
    (f"run movie.tif {OUT} --radius 10001", "at most 10000 px", None),
    (f"run movie.tif {OUT} --radius a", "'a' is neither a radius like 7", None),
    (f"run movie.tif {OUT} --radius ,", "',' is neither a radius like 7", None),
    (f"run movie.tif {OUT} --radius 1,2,3", "'1,2,3' is neither a radius like 7", None),
    (f"run movie.tif {OUT} --radius 6 --radius 7", "2 pairs for 1 channel:", None),
    # headerless movies
    (f"run movie.raw {OUT}", "pass --raw-shape T,Y,X", None),
    (f"run movie.raw {OUT} --raw-shape 11,20,25 --raw-dtype >u2", "10560 bytes", None),
    (f"run movie.raw {OUT} --raw-shape {HUGE},20,24 --raw-dtype >u2", str(HUGE), None),
    (f"run movie.raw {OUT} --raw-shape 0,20,24 --raw-dtype >u2", "raw_shape=(0, 20, 24)", None),
    (f"run movie.raw {OUT} --raw-shape 11,20 --raw-dtype >u2", "'11,20' is not frames,heig", None),
    (f"run movie.raw {OUT} --raw-shape 11,20,24", "raw_dtype", None),
    (f"run movie.raw {OUT} --raw-dtype u2", "raw_shape", None),
    (f"run movie.raw {OUT} --raw-shape 11,20,24 --raw-dtype nope", "'nope' is not a NumPy", None),
    (f"run movie.raw {OUT} --raw-shape 11,20,24 --raw-dtype O", "dtype object", None),
    (f"run movie.raw {OUT} --raw-shape 11,20,24 --raw-dtype u8", "takes 42240", None),
    (f"run movie.tif {OUT} {RAW}", "no source is a headerless movie", None),
    (f"run empty.raw {OUT} {RAW}", "empty.raw has 0 bytes", file_of(b"", "empty.raw")),
    # destinations
    ("run movie.tif -o movie.tif", "is the input", None),
    ("run movie.zarr -o movie.zarr/out.zarr", "lies inside it", None),
    ("run movie.zarr -o link/out.zarr", "lies inside it", link("link", "movie.zarr")),
    ("run movie.zarr -o there/../movie.zarr/a/b", "lies inside it", None),
    ("run empty/.. -o out.zarr", "lies inside it", None),
    ("run movie.tif -o there", "there exists", None),
    ("run movie.tif -o movie.raw", "movie.raw exists", None),
    ("run movie.tif -o link", "link exists", link("link", "gone")),
    ("run movie.tif -o movie.raw/out.zarr", "movie.raw is a file", None),
    ("run movie.tif -o /proc/out.zarr", "/proc/out.zarr cannot be written", None),
    ("run movie.tif -o /dev/null/out.zarr", "/dev/null is a file", None),
    (f"run movie.tif -o {LONG}", LONG, None),
    (f"run movie.tif -o there/{LONG}/out.zarr", LONG, None),
    ("run movie.tif -o ''", "exists", None),
    ("run movie.tif -o .", "exists", None),
    # resume
    ("run movie.tif -o there --resume", "there is not a store of backgrounds", None),
    ("run movie.tif -o movie.raw --resume", "movie.raw is not a store of backgrounds", None),
    ("run movie.tif -o bad.zarr --resume", "bad.zarr is not a store of backgrounds",
     other_group("bad.zarr")),
    ("run movie.tif -o movie.zarr --resume", "movie.zarr is not a store of backgrounds", None),
    ("run movie.tif -o store.zarr --resume --radius 3", "--radius was [[2.0", store),
    ("run movie.tif -o store.zarr --resume --codec small", "codec was", store),
    ("run movie.tif -o store.zarr", "store.zarr exists", store),
    # how it is computed and kept
    (f"run movie.tif {OUT} --engine scipy", "'scipy' is not one of", None),
    (f"run movie.tif {OUT} --cuda --engine fused", "NumPy chunks only", None),
    (f"run movie.tif {OUT} --cuda", "CuPy", None),
    (f"run movie.tif {OUT} --codec gzip", "'gzip' is not one of", None),
    (f"run movie.tif {OUT} --keep-bits 24", "--keep-bits is 24: pass 1 to 23", None),
    (f"run movie.tif {OUT} --keep-bits 0", "--keep-bits is 0: pass 1 to 23", None),
    (f"run movie.tif {OUT} --keep-bits 1.5", "'1.5' is not a valid integer", None),
    (f"run movie.tif {OUT} --memory-limit much", "--memory-limit is 'much'", None),
    (f"run movie.tif {OUT} --memory-limit 1MB", "--memory-limit is 1MB: pass more than", None),
    (f"run movie.tif {OUT} --memory-limit 0", "--memory-limit is 0: pass more than", None),
    (f"run movie.tif {OUT} --memory-limit 1e999GB", "--memory-limit is '1e999GB'", None),
    (f"run movie.tif {OUT} --memory-limit -4GB", "--memory-limit is", None),
    (f"run movie.tif {OUT} --memory-limit ''", "--memory-limit is", None),
    (f"run bad.zarr {OUT} --memory-limit 400MB", "raise --memory-limit",
     array_of((64, 4000, 4000), chunks=(64, 4000, 4000))),
    # the other commands
    ("info movie.raw", "for a headerless movie pass --raw-shape", None),
    ("info movie.tif --raw-shape 1,2,3 --raw-dtype u2", "no headerless movie but TIFF", None),
    ("info movie.tif/none", "movie.tif/none", None),
    ("info 'gone*.tif'", "gone*.tif matches 0 files", None),
    ("info bad.zarr", "bad.zarr has damaged Zarr metadata", text_zarr("{")),
    ("info", "Missing argument 'SOURCE'", None),
    ("formats movie.tif", "unexpected extra argument", None),
    # job files
    ("run job.toml", "job.toml is not TOML: ", job_file("output = out.zarr")),
    ("run job.toml", "job.toml is not TOML: ", lambda: Path("job.toml").write_bytes(b"\xff")),
    ("run job.toml", "the key 'radios', which is no option of run: is it", job_file("radios = 7")),
    ("run job.toml", "the key 'save-job'", job_file('save-job = "a.toml"')),
    ("run job.toml", "cuda = 1: give true or false", job_file("cuda = 1")),
    ("run job.toml", "radius = {'y': 7}: give a text or a number", job_file("radius = {y = 7}")),
    ("run job.toml", "radius = True: give a text or a number", job_file("radius = true")),
    ("run job.toml", "has no list of sources", job_file('source = "movie.tif"')),
    ("run job.toml", "a [[source]] with no path", job_file('[[source]]\nframes = ":"')),
    ("run job.toml", "with radius: give path", job_file('[[source]]\npath = "a"\nradius = 7')),
    (f"run job.toml {OUT}", "frames of all sources and of one",
     job_file('frames = "0:2"\n[[source]]\npath = "movie.tif"\nframes = "0:3"')),
    (f"run job.toml {OUT}", "gone.tif does not exist", job_file('[[source]]\npath = "gone.tif"')),
    (f"run job.toml {OUT}", "'7x' is neither a radius", job_file('radius = "7x"')),
    (f"run job.toml {OUT}", "Missing argument 'SOURCES...'", job_file("radius = 7")),
    (f"run job.toml movie.tif {OUT}", "give it as the only source", job_file("radius = 7")),
    (f"run gone.toml {OUT}", "gone.toml does not exist", None),
    (f"run movie.tif {OUT} --save-job movie.tif", "movie.tif must end in .toml", None),
    (f"run gone.tif {OUT} --save-job a.toml", "gone.tif does not exist", None),
    (f"run movie.tif {OUT} --save-job none/a.toml", "none/a.toml cannot be written", None),
    ("convert", "Missing argument 'SOURCES...'", None),
    ("convert movie.tif", "Missing option '-o'", None),
    ("convert movie.tif -o movie.tif", "is the input", None),
    ("convert movie.tif -o out.tif", "out.tif ends in .tif, as a file does", None),
    (f"convert movie.tif {OUT} --radius 7", "No such option", None),
    ("convert movie.tif -o store.zarr", "store.zarr exists: resume an interrupted run", store),
    ("convert movie.tif -o store.zarr --resume", "store.zarr was begun differently", store),
    ("run movie.tif -o frames.zarr --resume", "frames.zarr was begun differently", frames),
    ("plot frames.zarr", "frames.zarr holds raw frames, no backgrounds", frames),
    ("report frames.zarr", "frames.zarr holds raw frames, no backgrounds", frames),
    ("info store.zarr", "store.zarr is damaged", without_a_channel),
    ("verify gone.zarr", "gone.zarr does not exist", None),
    ("verify movie.zarr", "not a store of backgrounds", None),
    ("verify store.zarr", "store.zarr is not finished", unfinished),
    ("verify movie.zarr --deep --sample 0", "0 is not in the range", None),
    ("demo -o there", "there exists: replace it with --overwrite, or choose", None),
    ("demo --frames 0", "0 is not in the range", None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "message", "make"),
    LINES,
    ids=[f"{at} {ascii(line)[:60]}" for at, (line, *_) in enumerate(LINES)],
)
def test_command_line(folder, line, message, make):
    if make is not None:
        make()
    before = contents(folder)
    result = call_line(line)
    assert result.exit_code == 2, result.exception
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert result.stderr[:-1].isprintable()
    assert message in result.stderr
    assert contents(folder) == before


# ---- Python --------------------------------------------------------------------------------------


def job(*arguments, **options):
    arguments = (*arguments, *("movie.tif", "out.zarr")[len(arguments) :])
    return lambda: run_spatial_mean(*arguments, **options)


def opening(*sources, **options):
    return lambda: open_channels(*(sources or ("movie.tif",)), **options)


def filtering(*channels, **options):
    channels = list(channels) or [MOVIE]
    return lambda: bkgd_spatial_mean(channels, **options)


def stepping(function, *channels, **options):
    channels = list(channels) or [MOVIE]
    return lambda: function(channels, **options)


median = partial(stepping, bkgd_temporal_median)
openings = partial(stepping, bkgd_spatial_opening)
combining = partial(stepping, bkgd_combination)


class Unfriendly:
    """Nothing that anybody would pass, with a name that breaks lines."""

    def __repr__(self):
        return "line\nbreak"


def nested(depth):
    value = 7.0
    for _ in range(depth):
        value = [value]
    return value


CALLS = [
    # the call, its error, and what the message says
    (job(5), TypeError, "sources is 5"),
    (job(None), TypeError, "sources is None"),
    (job(b"movie.tif"), TypeError, "source b'movie.tif' is of type bytes"),
    (job([]), ValueError, "no source given"),
    (job(["movie.tif", 5]), TypeError, "sources[1] is 5, of type int"),
    (job([Unfriendly()]), TypeError, "sources[0] is line break"),
    (job(["gone.tif"]), FileNotFoundError, "gone.tif does not exist"),
    (job("gone\n.tif"), FileNotFoundError, r"gone\n.tif does not exist"),
    (job("movie.tif", None), TypeError, "NoneType"),
    (job("movie.tif", 5), TypeError, "int"),
    (job("movie.tif", "there"), FileExistsError, "there exists"),
    (job("movie.tif", "movie.tif"), ValueError, "is the input"),
    (job(channels_mean_radii_pix=nested(50)), ValueError, "instead of a pair"),
    (job(channels_mean_radii_pix=Unfriendly()), ValueError, "line break"),
    (job(channels_mean_radii_pix=HUGE), ValueError, str(HUGE)),
    (job(channels_mean_radii_pix=np.array("7")), ValueError, "'7'"),
    (job(noise_corrections=[1.0, 1.0]), ValueError, "2 entries for 1 channel"),
    (job(noise_corrections=[np.nan]), ValueError, "noise_corrections[0] is nan"),
    (job(noise_corrections=[-1.0]), ValueError, "noise_corrections[0] is -1.0"),
    (job(noise_corrections=[HUGE**20]), ValueError, "noise_corrections[0] is 1"),
    (job(noise_corrections=5), TypeError, "noise_corrections is a int"),
    (job(noise_corrections={0: 1.0}), TypeError, "noise_corrections is a dict"),
    (job(bboxes=[(0, 0, 2, 2)]), ValueError, "flat list of boxes"),
    (job(bboxes=[[(0, 0, 2, HUGE)]]), ValueError, str(HUGE)),
    (job(bboxes=[[(0, 0, np.inf, 2)]]), ValueError, "inf"),
    (job(bboxes=[None, None]), ValueError, "2 entries for 1 source"),
    (job(bboxes=5), TypeError, "bboxes is of type int"),
    (job(flips=[(1, 0)]), ValueError, "flips[0]=(1, 0)"),
    (job(flips=[None, None]), ValueError, "flips has 2 entries for 1 channel"),
    (job(flips=5), TypeError, "flips is of type int"),
    (job(frames=5), TypeError, "frames=5 is not a slice"),
    (job(frames=slice(0, 2.5)), TypeError, "slice(0, 2.5, None)"),
    (job(frames=slice(HUGE, None)), ValueError, str(HUGE)),
    (job(raw_shape=(1, 2, 3)), ValueError, "raw_dtype"),
    (job(raw_shape=(HUGE, 1, 1), raw_dtype="u2"), ValueError, "no source is a headerless"),
    (job("movie.raw", raw_shape=(HUGE, 1, 1), raw_dtype="u2"), ValueError, str(HUGE)),
    (job("movie.raw", raw_shape=(1, 1, 1), raw_dtype=Unfriendly()), TypeError, "line break"),
    (job(parallel=-2), ValueError, "parallel is -2"),
    (job(parallel=1.5), ValueError, "parallel is 1.5"),
    (job(engine="scipy"), ValueError, "engine is 'scipy'"),
    (job(engine=None), ValueError, "engine is None"),
    (job(engine="fused", cuda=True), ValueError, "NumPy chunks only"),
    (job(cuda=True), RuntimeError, "CuPy"),
    (job(codec="gzip"), ValueError, "codec is 'gzip': pass one of fast, small, none"),
    (job(codec=None), ValueError, "codec is None"),
    (job(keep_bits=24), ValueError, "keep_bits is 24"),
    (job(keep_bits=HUGE), ValueError, str(HUGE)),
    (job(keep_bits=0), ValueError, "keep_bits is 0: pass 1 to 23 mantissa bits"),
    (job(keep_bits="12"), ValueError, "keep_bits is '12'"),
    (job(keep_bits=True), ValueError, "keep_bits is True"),
    (job(keep_bits=np.nan), ValueError, "keep_bits is nan"),
    (job(memory_limit="much"), ValueError, "memory_limit is 'much'"),
    (job(memory_limit=np.inf), ValueError, "memory_limit is inf"),
    (job(memory_limit=[2**40]), ValueError, "memory_limit is [1099511627776]"),
    (job(memory_limit=-1), ValueError, "memory_limit is -1"),
    (job(memory_limit=True), ValueError, "memory_limit is True"),
    (job("movie.tif", "there", resume=True), ValueError, "not a store of backgrounds"),
    (lambda: plan_spatial_mean("gone.tif"), FileNotFoundError, "gone.tif"),
    (lambda: plan_spatial_mean("movie.tif", 0), ValueError, "holds 0"),
    (lambda: plan_spatial_mean("movie.tif", memory_limit="1 kB"), ValueError, "1 kB"),
    (opening(7), TypeError, "source 7 is of type int"),
    (opening(["movie.tif"]), TypeError, "source ['movie.tif'] is of type list"),
    (opening("movie.tif", "a\x1b[2J"), FileNotFoundError, r"a\x1b[2J matches 0 files"),
    (opening(frames=slice(None, None, 0)), ValueError, "step 0"),
    (opening(frames=slice("a", "b")), TypeError, "slice('a', 'b', None)"),
    (opening(frames=range(3)), TypeError, "frames=range(0, 3) is not a slice"),
    (opening(bboxes=[[(0, 0, 2)]]), ValueError, "(0, 0, 2)"),
    (opening(bboxes=[[(True, 0, 2, 2)]]), ValueError, "(True, 0, 2, 2)"),
    (opening(bboxes=[{}]), ValueError, "bboxes[0]={}"),
    (opening(flips=[Unfriendly()]), ValueError, "flips[0]=line break"),
    (opening(flips={0: (True, True)}), TypeError, "flips is of type dict"),
    (opening("movie.raw", raw_shape=(11, 20, -24), raw_dtype="u2"), ValueError, "-24"),
    (opening("movie.raw", raw_shape=7, raw_dtype="u2"), ValueError, "raw_shape=7"),
    (opening("movie.raw", raw_shape=(11, 20, 24), raw_dtype="u2\n"), TypeError, r"'u2\n'"),
    (lambda: open_backgrounds("gone.zarr"), FileNotFoundError, "gone.zarr does not exist"),
    (lambda: open_backgrounds("movie.tif"), ValueError, "not a store of backgrounds"),
    (lambda: open_backgrounds(5), TypeError, "int"),
    (lambda: verify_backgrounds("movie.zarr"), ValueError, "not a store of backgrounds"),
    # arrays: more of what bkgd_spatial_mean refuses is in test_background.py
    *[(filtering(np.zeros(shape)), ValueError, f"channels[0] has shape {shape}")
      for shape in [(), (3,), (1, 1, 1, 3, 4)]],
    *[(filtering(MOVIE, np.zeros((2, 3, 4), dtype)), TypeError, "channels[1] has dtype")
      for dtype in ("O", "U3", "S3", "m8[s]", "V4")],
    (filtering(np.float64(7)), TypeError, "channels[0] is a float64"),
    (filtering(Unfriendly()), TypeError, "channels[0] is a Unfriendly"),
    (filtering(channels_mean_radii_pix=nested(99)), ValueError, "instead of a pair"),
    (filtering(channels_mean_radii_pix=np.array([[[6]]])), ValueError, "instead of a pair"),
    (filtering(channels_mean_radii_pix=[HUGE, 6]), ValueError, str(HUGE)),
    (filtering(channels_mean_radii_pix=Unfriendly()), ValueError, "line break"),
    (filtering(noise_corrections=[Unfriendly()]), ValueError, "line break"),
    (filtering(noise_corrections=[[1.0]]), ValueError, "noise_corrections[0] is [1.0]"),
    (filtering(parallel=-HUGE), ValueError, str(HUGE)),
    (filtering(engine=["fused"]), ValueError, "engine is ['fused']"),
    (filtering(cuda=True), RuntimeError, "CuPy"),
    (filtering(bkgds=[b"buffer"]), TypeError, "bkgds[0] is a bytes"),
    (filtering(bkgds="f"), TypeError, "bkgds[0] is a str"),
    *[(median(median_window_fr=window), ValueError, f"median_window_fr is {window}")
      for window in (-1, -HUGE, 2.5, 25.0, True, np.nan, [25])],
    (median(median_window_fr="25"), ValueError, "median_window_fr is '25'"),
    (median(median_window_fr=Unfriendly()), ValueError, "line break"),
    (median(noise_corrections=[np.nan]), ValueError, "noise_corrections[0] is nan"),
    (median(parallel=1.5), ValueError, "parallel is 1.5"),
    (median(engine="scipy"), ValueError, "engine is 'scipy'"),
    (median(engine="fused", cuda=True), ValueError, "NumPy chunks only"),
    (median(cuda=True), RuntimeError, "CuPy"),
    (median(bkgds=[np.zeros((5, 20, 24), "f4")]), ValueError, "bkgds[0] has 5 frames"),
    (median(bkgds=[np.zeros((11, 20, 24))]), ValueError, "bkgds[0] has dtype float64"),
    (openings(channels_opening_radii_pix=0), ValueError, "channels_opening_radii_pix holds 0"),
    (openings(channels_opening_radii_pix=1001), ValueError, "at most 1000 px"),
    (openings(channels_opening_radii_pix=[1, 2, 3]), ValueError, "a sequence of 3 radii"),
    (openings(channels_opening_radii_pix=[(1, 2)] * 2), ValueError, "2 pairs for 1 channel"),
    (openings(channels_opening_radii_pix=[1, (2, 3)]), ValueError, "mixes radii and sequences"),
    (openings(channels_opening_radii_pix=Unfriendly()), ValueError, "line break"),
    (openings(np.zeros((2, 3, 4), "?")), TypeError, "channels[0] has dtype bool"),
    (combining(median_window_fr=-1), ValueError, "median_window_fr is -1"),
    (combining(channels_mean_radii_pix=-1), ValueError, "channels_mean_radii_pix holds -1"),
    # of a step that is not taken
    (combining(channels_opening_radii_pix=-1), ValueError, "channels_opening_radii_pix holds -1"),
    (combining(np.zeros((3, 4))), ValueError, "channels[0] has shape (3, 4)"),
    (combining(bkgds=[]), ValueError, "bkgds has 0 arrays for 1 channel"),
    (combining(engine=None), ValueError, "engine is None"),
    *[(lambda sigma=sigma: gaussian_kernel(sigma), ValueError, f"{sigma:g}")
      for sigma in (0, -1.0, float("nan"), float("inf"), HUGE)],
    (lambda: noise_correction(0, 1), ValueError, "0"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), CALLS, ids=[m for *_, m in CALLS])
def test_call(folder, call, error, message):
    movie = MOVIE.copy()
    before = contents(folder)
    with pytest.raises(error) as refused:
        call()
    assert type(refused.value) is error
    assert str(refused.value).isprintable()
    assert message in str(refused.value)
    assert contents(folder) == before
    np.testing.assert_array_equal(MOVIE, movie)
