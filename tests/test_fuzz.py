"""Damaged metadata end in a documented error or a consistent result, never in a hang or a crash.

The cases run in processes of their own, with a limit on memory and a watchdog on every case. A
process says which case it begins before it begins it: what dies or hangs is known by its seed.
"""

import contextlib
import faulthandler
import io
import json
import resource
import subprocess
import sys
import time
import traceback
from functools import partial
from itertools import cycle
from math import prod
from pathlib import Path

import dask
import numpy as np
import pytest
import tifffile
import zarr

from .memory import needs_proc, peak_bytes

pytestmark = pytest.mark.slow

MOVIE = (np.arange(5 * 9 * 7) * 37 % 4099).astype(np.uint16).reshape(5, 9, 7)

DOCUMENTED = (ValueError, TypeError, OSError)
CASE_SECONDS = 20
"""A case takes some 10 ms; the rest is room for a busy machine."""
MEMORY_BYTES = 2**30
SMALL_BYTES = 2**22
"""What is declared to be larger is opened, but not computed."""

# ---- TIFF: bytes ---------------------------------------------------------------------------------


def written(**options):
    file = io.BytesIO()
    tifffile.imwrite(file, MOVIE, photometric="minisblack", **options)
    return file.getvalue()


def pages(**options):
    file = io.BytesIO()
    with tifffile.TiffWriter(file, **options) as writer:
        writer.write(iter(MOVIE), shape=MOVIE.shape, dtype=MOVIE.dtype, metadata=None)
    return file.getvalue()


TIFFS = {
    "classic": lambda: pages(),
    "classic big-endian": lambda: pages(byteorder=">"),
    "BigTIFF": lambda: pages(bigtiff=True),
    "one IFD": lambda: written(),
    "ImageJ": lambda: written(imagej=True),
    "OME": lambda: written(ome=True, metadata={"axes": "TYX"}),
    "zlib": lambda: written(compression="zlib"),
    "tiled": lambda: written(tile=(16, 16), compression="zlib"),
}

HUGE = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]


def directories(content):
    """Return where the image file directories of a TIFF begin, and where each ends."""
    with tifffile.TiffFile(io.BytesIO(content), _multifile=False) as tif:
        size = tif.tiff.tagsize
        return [(page.offset, page.offset + 8 + size * len(page.tags) + 8) for page in tif.pages]


def damaged_tiff(rng, content, places):
    """Return the bytes with one to four changes where the metadata are."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        start, stop = (0, 16) if rng.random() < 0.15 else places[rng.integers(len(places))]
        at = int(rng.integers(start, max(start + 1, min(stop, len(content)))))
        at = min(at, len(content) - 1)
        match rng.integers(10):
            case 0:
                content[at] ^= 1 << rng.integers(8)
            case 1:
                content[at] = rng.integers(256)
            case 2 | 3:  # a count, an offset or a type
                width = int(rng.choice([2, 4, 8]))
                number = HUGE[rng.integers(len(HUGE))] % 2 ** (8 * width)
                order = "little" if rng.random() < 0.8 else "big"
                content[at : at + width] = number.to_bytes(width, order)
            case 4:
                content[at:at] = rng.bytes(int(rng.integers(1, 9)))
            case 5:
                del content[at : at + int(rng.integers(1, 9))]
            case 6:  # a chain of directories that leads to one of them again
                target = places[rng.integers(len(places))][0]
                width = 8 if content[2:3] in b"+" or content[3:4] in b"+" else 4
                order = "little" if content[:1] == b"I" else "big"
                end = places[rng.integers(len(places))][1] - 8
                end += int(rng.choice([-6, -4, 0])) if width == 4 else 0
                content[end : end + width] = target.to_bytes(width, order)
            case 7 if rng.random() < 0.3:
                del content[at:]
            case 8 | 9:  # code, type, count or value of one tag of a directory
                big = b"+" in content[2:4]
                order = "little" if content[:1] == b"I" else "big"
                tag = start + (8 + 20 * rng.integers(16) if big else 2 + 12 * rng.integers(16))
                fields = (
                    [(0, 2), (2, 2), (4, 8), (12, 8)] if big else [(0, 2), (2, 2), (4, 4), (8, 4)]
                )
                skip, width = fields[rng.choice([0, 1, 2, 3], p=[0.1, 0.2, 0.35, 0.35])]
                number = int(
                    HUGE[rng.integers(len(HUGE))] if rng.random() < 0.7 else rng.integers(300)
                )
                content[tag + skip : tag + skip + width] = (number % 2 ** (8 * width)).to_bytes(
                    width, order
                )
        if not content:
            content = bytearray(b"I")
    return bytes(content)


def text_of(content):
    """Return where a description lies among the bytes, if there is one."""
    for begin, end in ((b"<?xml", b"</OME>"), (b"ImageJ=", b"\0"), (b'{"shape', b"\0")):
        start = content.find(begin)
        if start >= 0:
            return (start, content.find(end, start))
    return None


def tiff_cases(rng, folder):
    names = list(TIFFS)
    made = {name: TIFFS[name]() for name in names}
    places = {}
    for name, content in made.items():
        text = text_of(content)
        places[name] = directories(content) + ([text] * 2 if text else [])
    path = folder / "case.tif"
    while True:
        name = names[rng.integers(len(names))]
        path.write_bytes(damaged_tiff(rng, made[name], places[name]))
        yield lambda: opens(path if rng.random() < 0.8 else folder)


# ---- Zarr: JSON ----------------------------------------------------------------------------------

NESTED = "[" * 100_000

VALUES = [
    *(None, True, False, 0, 1, -1, 2, 3, 4, 7, 9, 0.5, 1e308, 2**31, 2**63, 2**64, 10**12, 10**30),
    *(float("nan"), float("inf"), "", "a", "0", "..", "/", "\0", "pickle", "u2", "<u2", "|O", "O"),
    *("float32", "uint16", "bytes", "crc32c", "gzip", "zarr.json", "t", "y", "x", "group", "array"),
    *([], {}, [0], [1], [-1], [10**12], [1, 1, 1], [10**6] * 3, [10**12, 9, 7], [0, 0, 0], [[]]),
    *([10**12] * 3, ["a"], [None], [1] * 40, {"name": "gzip"}, {"id": "pickle"}, {"a": {"b": []}}),
    *({"name": "gzip", "configuration": {"level": 99}}, {"name": "crc32c"}, {"name": "transpose"}),
    *({"id": "zlib", "level": -7}, {"id": "nope"}, {"id": "blosc", "cname": "x", "clevel": 77}),
    {"name": "transpose", "configuration": {"order": [2, 2, 2]}},
    {"name": "sharding_indexed", "configuration": {"chunk_shape": [1, 9, 7], "codecs": []}},
    {"name": "blosc", "configuration": {"typesize": 10**9, "cname": "lz4", "blocksize": 2**40}},
    {"name": "bytes", "configuration": {"endian": "middle"}},
    [["a", "<u2"]],
    "long " * 2000,
]


def nodes(document, trail=()):
    """Go through the places of a JSON document."""
    if trail:
        yield trail
    if isinstance(document, dict | list):
        keys = document if isinstance(document, dict) else range(len(document))
        for key in keys:
            yield from nodes(document[key], (*trail, key))


def changed(rng, document):
    """Return a JSON document with one thing changed, as text."""
    document = json.loads(json.dumps(document))
    trails = [trail for trail in nodes(document) if len(trail) < 9]
    trail = trails[rng.integers(len(trails))]
    parent = document
    for key in trail[:-1]:
        parent = parent[key]
    value = VALUES[rng.integers(len(VALUES))]
    match rng.integers(8):
        case 0:
            del parent[trail[-1]]
        case 1 if isinstance(parent[trail[-1]], list):
            parent[trail[-1]].append(value)
        case 2 if isinstance(parent[trail[-1]], dict):
            parent[trail[-1]]["more"] = value
        case 3 if rng.random() < 0.1:
            parent[trail[-1]] = "nested"
            return json.dumps(document).replace('"nested"', NESTED)
        case 4:
            other = document
            for key in trails[rng.integers(len(trails))]:
                other = other[key]
            parent[trail[-1]] = json.loads(json.dumps(other))
        case _:
            parent[trail[-1]] = value
    return json.dumps(document)


def damaged_json(rng, text):
    """Return a JSON text with one to three changes."""
    for _ in range(rng.integers(1, 4)):
        if rng.random() < 0.1:
            return damaged_bytes(rng, text)
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            break
        if not isinstance(document, dict | list) or not document:
            break
        text = changed(rng, document)
    return text.encode(errors="replace")


def damaged_bytes(rng, text):
    content = bytearray(text.encode())
    at = int(rng.integers(len(content)))
    match rng.integers(4):
        case 0:
            del content[at:]
        case 1:
            content[at] ^= 1 << rng.integers(8)
        case 2:
            content[at:at] = rng.bytes(3)
        case 3:
            content[at:at] = b"1" + bytes(int(rng.integers(5000))).replace(b"\0", b"0")
    return bytes(content)


def write_array(path, **options):
    zarr.create_array(path, data=MOVIE, **{"chunks": (2, 9, 7), **options})


def write_group(path):
    zarr.create_group(path).create_array("a/movie", data=MOVIE, chunks=(2, 5, 7))


def write_ome(path, zarr_format=3):
    axes = [{"name": name} for name in "tczyx"]
    image = {"multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}], "version": "0.5"}
    attributes = {"ome": image} if zarr_format == 3 else image
    group = zarr.create_group(path, attributes=attributes, zarr_format=zarr_format)
    group.create_array("0", data=MOVIE[:, None, None], chunks=(1, 1, 1, 9, 7))


ZARRS = {
    "v3": write_array,
    "v3 sharded": lambda p: write_array(p, chunks=(1, 3, 7), shards=(2, 9, 7)),
    "v3 codecs": lambda p: write_array(
        p, compressors=[zarr.codecs.BloscCodec(), zarr.codecs.Crc32cCodec()]
    ),
    "v2": lambda p: write_array(p, zarr_format=2),
    "group": write_group,
    "OME 0.5": write_ome,
    "OME 0.4": lambda p: write_ome(p, 2),
}


def harm(rng, documents):
    """Damage one of the documents on disk; return how to mend it."""
    file, text = documents[rng.integers(len(documents))]
    file.write_bytes(damaged_json(rng, text))
    return lambda: file.write_text(text)


def documents_in(path):
    names = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
    return [(file, file.read_text()) for name in names for file in sorted(path.rglob(name))]


def zarr_cases(rng, folder):
    made = {}
    for name, write in ZARRS.items():
        write(folder / name)
        made[name] = documents_in(folder / name)
    names = list(ZARRS)
    while True:
        name = names[rng.integers(len(names))]
        mend = harm(rng, made[name])
        yield partial(opens, folder / name)
        mend()


# ---- our own stores ------------------------------------------------------------------------------


def command(*arguments):
    """Run a command line; its errors are exit code 2, and 1 where `verify` finds problems."""
    from .commands import call

    result = call(*arguments)
    if result.exit_code not in (0, 1, 2) or not isinstance(result.exception, SystemExit | None):
        raise result.exception


def reopened(path):
    from smlmlp_dask import open_backgrounds

    for bkgd in open_backgrounds(path).bkgds:
        computes(bkgd)


def store_cases(rng, folder):
    from smlmlp_dask import run_spatial_mean
    from smlmlp_dask.pipeline import verify

    movie = folder / "movie.tif"
    movie.write_bytes(written())
    store = folder / "out.zarr"
    run_spatial_mean(movie, store, 2.0)
    root = [(store / "zarr.json", (store / "zarr.json").read_text())]
    documents = documents_in(store) + root * 4
    actions = cycle(
        [
            lambda: reopened(store),
            lambda: command("info", store),
            lambda: verify.verify_backgrounds(store, sample=int(rng.integers(3))),
            lambda: run_spatial_mean(movie, store, 2.0, resume=True),
        ]
    )
    while True:
        mend = harm(rng, documents)
        yield next(actions)
        mend()


# ---- the process that runs them ------------------------------------------------------------------


def opens(path):
    from smlmlp_dask.lazy.channels import open_channels

    for channel in open_channels(path):
        computes(channel)


def computes(channel):
    """Compute what is declared to be small: it must be as declared."""
    if prod(channel.shape) * channel.dtype.itemsize > SMALL_BYTES:
        return
    with dask.config.set(scheduler="synchronous"):
        pixels = channel.compute()
    assert pixels.shape == channel.shape
    assert pixels.dtype == channel.dtype


CASES = {"tiff": tiff_cases, "zarr": zarr_cases, "store": store_cases}


def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def run_cases(kind, seed, count, folder):
    """Run cases one after another; say which begins, and what went wrong with it."""
    rng = np.random.default_rng(seed)
    cases = CASES[kind](rng, folder)
    resource.setrlimit(resource.RLIMIT_DATA, (2 * MEMORY_BYTES, resource.RLIM_INFINITY))
    for number in range(count):
        case = next(cases)
        say("case", kind, seed, number)
        faulthandler.dump_traceback_later(CASE_SECONDS, exit=True)
        began = time.perf_counter()
        try:
            case()
            outcome = "opened"
        except DOCUMENTED as error:
            outcome = "refused"
            if "\n" in str(error) or not str(error):
                say("escape", f"message {str(error)!r}")
        except Exception as error:
            outcome = "escape"
            say("escape", repr(error)[:300])
            traceback.print_exc()
        took = time.perf_counter() - began
        faulthandler.cancel_dump_traceback_later()
        peak = peak_bytes()
        if peak > MEMORY_BYTES:
            say("escape", f"{peak} bytes of memory")
            break
        say("outcome", outcome, f"{took:.3f}")


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        run_cases(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))


# ---- the tests -----------------------------------------------------------------------------------


@needs_proc
@pytest.mark.parametrize(
    ("kind", "seed", "count"),
    [
        ("tiff", 1, 500),
        ("tiff", 2, 500),
        ("zarr", 1, 400),
        ("zarr", 2, 400),
        ("store", 1, 300),
    ],
)
def test_damage_is_refused_or_harmless(tmp_path, kind, seed, count):
    ran = subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-m", "tests.test_fuzz"),
            *(kind, str(seed), str(count), str(tmp_path)),
        ],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    lines = ran.stdout.splitlines()
    begun = [line for line in lines if line.startswith("case")]
    last = begun[-1] if begun else "before the first case"
    assert ran.returncode == 0, f"{last} ended its process\n{ran.stderr[-3000:]}"
    escapes = [
        f"{lines[at - 1]}: {line}" for at, line in enumerate(lines) if line.startswith("escape")
    ]
    assert not escapes
    outcomes = [line.split()[1] for line in lines if line.startswith("outcome")]
    assert len(outcomes) == count
    # a fuzz that refuses everything, or nothing, tests nothing
    assert 0.1 * count < outcomes.count("refused") < count
