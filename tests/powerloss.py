"""Loss of power on a file system of one's own, and what must hold after it.

An ext4 file system lives in a file, behind a loop device. The ioctl FS_IOC_SHUTDOWN stops it as a
loss of power would: nothing that is not on the device by then gets there any more. Mounting it
again replays its journal, as after a reboot.
"""

import fcntl
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import zarr

from .forked import call, finish, start, wait_while
from .stored import contents

FS_IOC_SHUTDOWN = 0x8004587D
FLAGS = {"journal flushed": 1, "journal dropped": 2}
"""What ext4 does with the transaction that is open when it stops."""

DISK_BYTES = 2**30  # sparse; ext4 takes blocks of 1 KiB on smaller ones
LOOP_MAJOR = 7
UNMOUNT_SECONDS = 20

PHASES = ("begun", "before first block", "during", "finishing", "after the end")
UNIT = 67  # a prime, and more frames of 256 x 256 than a block has: each is a chunk of its own
SMALL = 12  # boxes, each a block and a chunk
CHUNKS = 2 * UNIT + SMALL

AIMS = {
    "any": lambda out: True,
    "store": lambda out: out.exists(),
    "half": lambda out: chunk_count(out) >= CHUNKS // 2,
    "finishing": lambda out: chunk_count(out) == CHUNKS,
}
"""What a moment of a run waits for: nothing, its store, half of the chunks, all of them."""

DRAWN = ("any", "any", "any", "store", "finishing", "finishing")
"""How often each is drawn: what takes long, and what takes but milliseconds."""

AGAIN = 0.25
"""Share of losses after which the run that goes on loses power, too."""


# The disk


@dataclass
class Disk:
    """A file system in a file, mounted at a folder."""

    image: Path
    folder: Path
    options: str
    root: int = -1

    def mount(self):
        """Mount it, and make sure that it is what is mounted."""
        command("mount", "-t", "ext4", "-o", self.options, self.image, self.folder)
        self.root = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        self.check()

    def check(self):
        """Refuse to go on unless the open folder lies on the loop device of our own file."""
        device = os.fstat(self.root).st_dev
        others = {path.stat().st_dev for path in (Path("/"), self.image, self.folder.parent)}
        number = f"{os.major(device)}:{os.minor(device)}"
        backing = Path(f"/sys/dev/block/{number}/loop/backing_file")
        ours = os.major(device) == LOOP_MAJOR and device not in others and backing.exists()
        if not ours or not Path(backing.read_text().strip()).samefile(self.image):
            raise RuntimeError(f"{self.folder} is on device {number}, not on {self.image}")

    def cut(self, flag):
        """Cut the power."""
        self.check()
        fcntl.ioctl(self.root, FS_IOC_SHUTDOWN, struct.pack("I", flag))

    def unmount(self):
        """Unmount it, as soon as a process that was killed has let go of it."""
        if self.root >= 0:
            os.close(self.root)
            self.root = -1
        until = time.monotonic() + UNMOUNT_SECONDS
        while os.path.ismount(self.folder):
            try:
                command("umount", self.folder)
            except OSError:
                if time.monotonic() > until:
                    command("umount", "--lazy", self.folder)
                    raise
                time.sleep(0.05)
        # Another mount namespace may hold it: what is mounted next would be without power, too.
        while self.is_attached():
            if time.monotonic() > until:
                raise RuntimeError(f"{self.image} is still in use after {UNMOUNT_SECONDS} s")
            time.sleep(0.05)

    def is_attached(self):
        """Tell whether a loop device still has our file."""
        devices = Path("/sys/block").glob("loop*/loop/backing_file")
        backing = []
        for device in devices:
            with suppress(OSError):  # it went meanwhile
                backing.append(device.read_text().strip())
        return str(self.image.resolve()) in backing


def command(*words):
    """Run a program of the system."""
    try:
        subprocess.run([*map(str, words)], check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        said = " ".join(error.stderr.split())
        raise OSError(f"{' '.join(map(str, words))}: {said}") from error


@contextmanager
def new_disk(folder, options="loop"):
    """Provide an empty, mounted file system, and take all of it away in the end."""
    disk = Disk(folder / "disk.img", folder / "disk", options)
    disk.folder.mkdir()
    try:
        with disk.image.open("wb") as file:
            file.truncate(DISK_BYTES)
        command("mkfs.ext4", "-q", "-F", disk.image)
        disk.mount()
        yield disk
    finally:
        disk.unmount()
        disk.image.unlink(missing_ok=True)
        disk.folder.rmdir()


def why_not():
    """Say why power cannot be cut here; None if it can."""
    if sys.platform != "linux":
        return "loss of power is tested on Linux only"
    if os.geteuid() != 0:
        return "loss of power is tested by root only: it mounts a file system of its own"
    for program in ("mkfs.ext4", "mount", "umount"):
        if shutil.which(program) is None:
            return f"loss of power needs {program}, which is not installed"
    if not Path("/dev/loop-control").exists():
        return "loss of power needs loop devices: there is no /dev/loop-control"
    try:
        with tempfile.TemporaryDirectory() as folder, new_disk(Path(folder)) as disk:
            disk.cut(FLAGS["journal dropped"])
    except (OSError, RuntimeError) as error:
        return f"power cannot be cut here: {error}"
    return None


# The job


@dataclass(frozen=True)
class Job:
    """A run of two blocks of many chunks and of many blocks of one.

    Attributes
    ----------
    movie : Path
        Its source, on another file system than the store.
    wanted : dict
        The bytes of every file of an undisturbed store.
    log : Path
        Where a command's words go.
    seconds, finishing_seconds : float
        How long an undisturbed run took, and of that after the last chunk had appeared.
    """

    movie: Path
    log: Path
    wanted: dict[str, bytes] = field(default_factory=dict, repr=False)
    seconds: float = 0.0
    finishing_seconds: float = 0.0

    def arguments(self, out):
        """Return the command that begins the job or goes on with it."""
        corners = range(0, 16 * SMALL, 16)
        boxes = ["0:0,0,256,256", *(f"0:{x},8,{x + 64},72" for x in corners)]
        options = [word for box in boxes for word in ("--bbox", box)]
        return ["run", self.movie, "-o", out, "--resume", *options]


def chunk_count(out):
    """Count the chunk files that have their final names."""
    files = out.glob("channel_*/0/c/*/*/*")
    return sum(path.name.isdigit() for path in files)


def prepare(folder, disk):
    """Write the movie, and run the job undisturbed: once to warm up, twice for its times."""
    pixels = np.random.default_rng(3).poisson(200, (2 * UNIT, 256, 256)).astype(np.uint16)
    movie = folder / "movie.zarr"
    zarr.create_array(movie, data=pixels, chunks=(UNIT, 256, 256), compressors=None)
    job = Job(movie, folder / "log")
    out = disk.folder / "undisturbed.zarr"
    times = []
    for _ in range(3):
        shutil.rmtree(out, ignore_errors=True)
        began = time.monotonic()
        process = start(job.log, *job.arguments(out))
        wait_while(process, lambda: not AIMS["finishing"](out))
        there = time.monotonic()
        code, said = finish(process, job.log)
        if code != 0:
            raise RuntimeError(f"the undisturbed run failed: {said}")
        times.append((time.monotonic() - began, time.monotonic() - there))
    wanted = contents(out)
    shutil.rmtree(out)
    return Job(movie, job.log, wanted, *min(times[1:]))


# Losses


@dataclass(frozen=True)
class Moment:
    """When power is lost, and how.

    Attributes
    ----------
    aim : str
        Of `AIMS`: some moment of a run; or "after" its end.
    rest : float
        Seconds from there.
    flag : str
        Of `FLAGS`.
    """

    aim: str
    rest: float
    flag: str


def draw_moment(rng, job, number, after_seconds):
    """Draw a moment: every second one lies after the end, and every second two have one flag."""
    flag = list(FLAGS)[number // 2 % 2]
    if number % 2:
        return Moment("after", rng.uniform(0, after_seconds), flag)
    aim = rng.choice(DRAWN)
    longest = {"any": job.seconds, "store": 0.03, "finishing": job.finishing_seconds}
    return Moment(aim, rng.uniform(0, longest[aim]), flag)


@dataclass(frozen=True)
class Loss:
    """What a loss of power left.

    Attributes
    ----------
    moment : Moment
        When power was to be lost.
    phase : str
        Of `PHASES`: how far the run was.
    state : str
        "nothing", "unfinished" or "finished": what the store said afterwards.
    failures : list of (str, str)
        Each kind of failure, and what was seen.
    """

    moment: Moment
    phase: str
    state: str
    failures: list[tuple[str, str]]


FAILURES = ("finished but wrong", "cannot go on", "different bytes", "unclear words")


def lose_power(disk, job, out, moment):
    """Run the job until the moment, cut the power, and see what is left; end in a mounted disk."""
    process = start(job.log, *job.arguments(out))
    try:
        if moment.aim == "after":
            finish(process, job.log)
            time.sleep(moment.rest)
        else:
            wait_while(process, lambda: not AIMS[moment.aim](out))
            wait_while(process, lambda: True, moment.rest)
        phase = phase_of(process, out)
        disk.cut(FLAGS[moment.flag])
    finally:
        process.kill()
        process.join()
    said = job.log.read_text(errors="replace")
    disk.unmount()
    disk.mount()
    state, failures = judge_state(job, out)
    if phase == "after the end" and process.exitcode != 0:  # it found what the last loss had left
        failures.append(("cannot go on", f"exit code {process.exitcode}: {said[:300]}"))
    return Loss(moment, phase, state, failures)


def phase_of(process, out):
    """Say how far a run is."""
    if not process.is_alive():
        return "after the end"
    if not out.exists():
        return "begun"
    count = chunk_count(out)
    if count == CHUNKS:
        return "finishing"
    return "during" if count else "before first block"


def state_of(out):
    """Return what a store says of itself, without asking the package."""
    if not out.exists():
        return "nothing"
    try:
        attributes = json.loads((out / "zarr.json").read_bytes())["attributes"]
        finished = attributes["smlmlp_dask"]["finished"]
    except (OSError, ValueError, LookupError):
        return "unfinished"
    return "finished" if finished is True else "unfinished"


def judge_state(job, out):
    """Return what is wrong with a store after a loss of power, before anything goes on with it."""
    state = state_of(out)
    ended = call(job.log, "verify", out)
    failures = []
    if (ended.code == 0) != (state == "finished"):
        seen = f"it says {state}, verify ends with {ended.code}: {ended.said[:300]}"
        failures.append(("finished but wrong", seen))
    elif ended.code == 0 and (bad := differing(without_leftovers(out), job.wanted)):
        failures.append(("finished but wrong", f"verify ends with 0, and differ: {bad}"))
    if "Traceback" in ended.said:
        failures.append(("unclear words", ended.said[-300:]))
    return state, failures


def judge_end(job, out):
    """Go on to the end, and return what is wrong with it."""
    ended = call(job.log, *job.arguments(out))
    if ended.code != 0:
        return [("cannot go on", f"exit code {ended.code}: {ended.said[:300]}")]
    bad = differing(contents(out), job.wanted)
    return [("different bytes", f"differ: {bad}")] if bad else []


def without_leftovers(out):
    """Return the files of a finished store, less what a run that lost power could not remove."""
    left = {f"records/{name}" for name in ("journal", "lock", "owner")}
    return {name: data for name, data in contents(out).items() if name not in left}


def differing(found, wanted):
    """Name a few files that are not the same in both."""
    names = sorted(found.keys() | wanted.keys())
    return [name for name in names if found.get(name) != wanted.get(name)][:5]


def losses(folder, rng, count, after_seconds):
    """Lose power so often, and go on to the end after each, or after two or three; yield each."""
    with new_disk(folder) as disk:
        job = prepare(folder, disk)
    number = 0
    while number < count:
        with new_disk(folder) as disk:
            out, again = disk.folder / "b.zarr", True
            while again:
                loss = lose_power(disk, job, out, draw_moment(rng, job, number, after_seconds))
                number += 1
                again = number < count and not loss.failures and rng.random() < AGAIN
                if not again:
                    loss.failures.extend(judge_end(job, out))
                yield loss


def tally(seen):
    """Count the losses that had each kind of failure."""
    return Counter(kind for loss in seen for kind in {kind for kind, _ in loss.failures})
