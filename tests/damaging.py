"""Damage to a finished store, and the errors and repairs that must follow."""

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import zarr

from .commands import call
from .powerloss import differing
from .stored import contents

UNIT = 18  # frames of 512 x 512 stored together, more than fit a chunk: a block of two
SETTINGS = (
    *("--bbox", "0:0,0,512,512", "--bbox", "0:100,0,500,512"),  # of 400 x 512, they are a chunk
    *("--flip", "none", "--flip", "x", "--radius", "5", "--radius", "6,9"),
)
"""Two channels of three blocks each; nothing of it is what a run takes by itself."""

LIBRARY_WORDS = re.compile(
    r"Traceback|\b[A-Z]\w+(Error|Exception|Warning)\b|decompress|Expecting|Extra data|Invalid \\|"
    r"Invalid control|Unterminated|codec can't|out of range|NoneType|has no attribute|"
    r"subscriptable|unhashable|invalid literal|positional argument|keyword argument"
)
"""What an error of Python, json, Zarr or a codec is known by; our own lines begin with Error."""

REMEDY = re.compile(r"--repair\b|--resume\b")


# Damage


def flip(data, rng):
    """Flip one bit."""
    bit = rng.randrange(8 * len(data))
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def cut(data, rng):
    """Cut it short: every second time to nothing, as a loss of power does."""
    return data[: rng.choice([0, rng.randrange(len(data))])]


def overwrite(data, rng):
    """Write other bytes over a few."""
    count = min(len(data), rng.randint(2, 8))
    place = rng.randrange(len(data) - count + 1)
    other = rng.randbytes(count)
    return data[:place] + other + data[place + count :]


def append(data, rng):
    """Add a few bytes."""
    return data + rng.randbytes(rng.randint(1, 16))


def delete(data, rng):
    """Leave no file."""


KINDS = {function.__name__: function for function in (flip, cut, overwrite, append, delete)}

TARGETS = {
    "chunk": r"channel_\d/0/c/.*",
    "records": r"records/c/.*",
    "root metadata": r"zarr\.json",
    "channel's metadata": r"channel_\d/zarr\.json",
    "array's metadata": r"channel_\d/0/zarr\.json",
    "records' metadata": r"records/zarr\.json",
    "copy of the metadata": r"records/metadata\.json",
    "else": r".*",
}
"""Kinds of files in a store, the first that fits counts; nothing in it may escape."""


ROOT = {"zarr.json"}
"""What names the settings and the sources."""

BEYOND = {"zarr.json", "records/metadata.json"}
"""Where both are damaged, nothing tells any more that the folder is a store of ours."""


def target_of(name):
    """Return what kind of file this is."""
    return next(target for target, pattern in TARGETS.items() if re.fullmatch(pattern, name))


def harm(store, name, kind, rng):
    """Damage a file, so that it is no longer what it was."""
    data = (store / name).read_bytes()
    changed = data
    while changed == data:
        changed = KINDS[kind](data, rng)
    if changed is None:
        (store / name).unlink()
    else:
        (store / name).write_bytes(changed)


# The store


@dataclass(frozen=True)
class Whole:
    """A finished store, and the movie that it was made of.

    Attributes
    ----------
    movie, path : Path
        Where they are.
    bytes : dict
        Of every file of the store.
    """

    movie: Path
    path: Path
    bytes: dict[str, bytes] = field(repr=False)

    def names(self, target):
        """Return the files of that kind."""
        return [name for name in self.bytes if target_of(name) == target]

    def copy(self, folder, harms, rng):
        """Make a copy in a new folder, and damage it: ``harms`` are names and kinds."""
        copy = Path(shutil.copytree(self.path, folder / "b.zarr"))
        for name, kind in harms:
            harm(copy, name, kind, rng)
        return copy

    def run_again(self, copy):
        """Give the command that made the store once more, with --resume."""
        return call("run", self.movie, "-o", copy, "--resume", *SETTINGS)


def make_store(folder):
    """Write a small movie, most of it flat, and run the job."""
    pixels = np.full((3 * UNIT, 512, 512), 100, np.uint16)
    noise = np.random.default_rng(2).poisson(100, (3 * UNIT, 64, 96))
    pixels[:, 200:264, 300:396] = noise
    movie = folder / "movie.zarr"
    zarr.create_array(movie, data=pixels, chunks=(UNIT, 512, 512))
    path = folder / "b.zarr"
    ended = call("run", movie, "-o", path, *SETTINGS)
    if ended.exit_code or call("verify", path).exit_code:
        raise RuntimeError(f"the undisturbed run failed: {ended}")
    return Whole(movie, path, contents(path))


# Checks of errors and repairs: each returns the failures


def check_words(ended):
    """Hold a command's words to be ours, and its error to be one line."""
    if not isinstance(ended.exception, SystemExit | None):
        return [f"it crashed: {ended.exception!r:.200}"]
    if "No such option" in ended.output:
        return [f"there is no such option: {one_line(ended)}"]
    failures = []
    if match := LIBRARY_WORDS.search(ended.output):
        failures.append(f"words of a library, {match[0]!r}: {one_line(ended)}")
    if len(ended.stderr.splitlines()) > 1:
        failures.append(f"more than one line of error: {one_line(ended)}")
    return failures


def one_line(ended):
    """Return the beginning of the output."""
    return " ".join(ended.output.split())[:300]


def is_named(name, said):
    """Tell whether one line names a file, by its path in the store or by what it is and where."""
    channel = name.split("/")[0]
    words = {
        "records": ["records"],
        "records' metadata": ["records"],
        "copy of the metadata": ["copy", "metadata"],
        "channel's metadata": ["metadata", channel],
        "array's metadata": ["metadata", channel],
    }.get(target_of(name))
    if name in ROOT and re.search(r"(?m)^(?!.*(channel_\d|records)).*metadata", said.lower()):
        return True
    path = re.compile(rf"(^|STORE/|[\s('\"]){re.escape(name)}($|[\s:,;)'\"])")
    return any(
        path.search(line) or (words is not None and all(word in line.lower() for word in words))
        for line in said.splitlines()
    )


def check_verify(whole, copy, harms):
    """Let `verify` name what is damaged, and nothing else, with the remedy."""
    harmed = {name for name, _ in harms}
    ended = call("verify", copy)
    failures = check_words(ended)
    said = ended.output.replace(str(copy), "STORE")
    if ended.exit_code == 0:
        failures.append(f"verify ends with 0: {one_line(ended)}")
    if harmed >= BEYOND:
        return failures
    # without the root's metadata nothing tells what else there should be
    unnamed = [name for name in harmed & ROOT or harmed if not is_named(name, said)]
    if unnamed:
        failures.append(f"verify does not name {unnamed}: {one_line(ended)}")
    if not REMEDY.search(said):
        failures.append(f"verify gives no remedy: {one_line(ended)}")
    vain = [name for name in whole.names("chunk") if name not in harmed and is_named(name, said)]
    if vain:
        failures.append(f"verify names {len(vain)} whole chunks, such as {vain[0]}")
    return failures


def check_repaired(whole, copy, ended, command):
    """Let a command end with 0 and with the bytes of the undisturbed store."""
    failures = check_words(ended)
    if ended.exit_code != 0:
        failures.append(f"{command} ends with {ended.exit_code}: {one_line(ended)}")
    if bad := differing(contents(copy), whole.bytes):
        failures.append(f"after {command}, differ: {bad}; it said: {one_line(ended)}")
    return failures


def unchanged(copy, before):
    """Return what a command has changed, but for traces of its lock."""
    now = contents(copy)
    beside = [str(path) for path in copy.parent.iterdir() if path != copy]
    traces = {"records/lock", "records/owner"}
    return beside + [name for name in differing(now, before) if name not in traces]


def check_refused(copy, before, ended, command, about=""):
    """Let a command refuse, in one line that says `about` what, and change nothing."""
    failures = check_words(ended)
    if ended.exit_code == 0:
        failures.append(f"{command} ends with 0, though it cannot repair: {one_line(ended)}")
    if about not in ended.output:
        failures.append(f"{command} does not say {about!r}: {one_line(ended)}")
    if bad := unchanged(copy, before):
        failures.append(f"{command} changed {bad} though it refused: {one_line(ended)}")
    return failures


def check_resume(whole, copy, harms):
    """Let ``run --resume`` repair everything: it is given the settings."""
    before = contents(copy)
    ended = whole.run_again(copy)
    if ended.exit_code != 0 and {name for name, _ in harms} >= BEYOND:
        return check_refused(copy, before, ended, "run --resume")
    return check_repaired(whole, copy, ended, "run --resume")


def check_repair(whole, copy, harms):
    """Let ``verify --repair`` repair all but the metadata that name the sources."""
    before = contents(copy)
    ended = call("verify", copy, "--repair")
    if ended.exit_code != 0 and ROOT & {name for name, _ in harms}:
        about = "" if {name for name, _ in harms} >= BEYOND else "metadata"
        return check_refused(copy, before, ended, "verify --repair", about)
    return check_repaired(whole, copy, ended, "verify --repair")


def check_gone(whole, copy, harms):
    """Let both refuse, and change nothing, while the source is away; what needs none is repaired.

    Metadata and records may be had from what else is in the store.
    """
    before = contents(copy)
    away = whole.movie.with_name("away.zarr")
    whole.movie.rename(away)
    try:
        ended = whole.run_again(copy)
        about = "" if {name for name, _ in harms} >= BEYOND else "movie.zarr"
        failures = check_refused(copy, before, ended, "run --resume, source gone,", about)
        ended = call("verify", copy, "--repair")
    finally:
        away.rename(whole.movie)
    if ended.exit_code == 0:
        return failures + check_repaired(whole, copy, ended, "verify --repair, source gone,")
    about = "" if ROOT & {name for name, _ in harms} else "movie.zarr"
    return failures + check_refused(copy, before, ended, "verify --repair, source gone,", about)


CHECKS = {
    "named": check_verify,
    "run --resume": check_resume,
    "verify --repair": check_repair,
    "source gone": check_gone,
}
"""What is checked of each damage; each takes the whole store, a damaged copy, and the damage."""
