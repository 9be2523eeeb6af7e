"""After a loss of power at any moment, a store is unfinished, or finished and whole.

`python -m tests.benchmarks.power_loss` draws hundreds of moments at random.
"""

import os
import re

import pytest

from tests import powerloss
from tests.powerloss import Disk, Moment, differing, judge_end, lose_power, new_disk

pytestmark = pytest.mark.slow

COMMIT_SECONDS = 1
"""ext4's journal is committed that often here; by default every 5 s."""

ENOUGH_SECONDS = 1.8 * COMMIT_SECONDS
"""By then it has been, and the pixels have not."""


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    reason = powerloss.why_not()
    if reason is not None:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("job")
    with new_disk(folder) as disk:
        return powerloss.prepare(folder, disk)


@pytest.fixture
def disk(job, tmp_path):
    with new_disk(tmp_path, f"loop,commit={COMMIT_SECONDS}") as disk:
        yield disk


@pytest.mark.parametrize(
    ("aim", "rest", "flag"),
    [
        ("store", 0.0, "journal flushed"),  # metadata have their names, and no bytes
        ("half", 0.0, "journal flushed"),  # so have chunks that the run's journal counts as done
        ("finishing", 0.0, "journal flushed"),
        ("finishing", 0.03, "journal dropped"),
        ("after", 0.0, "journal flushed"),  # it says finished
        ("after", ENOUGH_SECONDS, "journal dropped"),  # and still does
    ],
)
def test_power_is_lost(job, disk, aim, rest, flag):
    out = disk.folder / "b.zarr"
    loss = lose_power(disk, job, out, Moment(aim, rest, flag))
    assert loss.failures == []
    assert judge_end(job, out) == []


def test_power_is_lost_again_during_the_resumed_run(job, disk):
    out = disk.folder / "b.zarr"
    for aim in ("half", "finishing"):
        loss = lose_power(disk, job, out, Moment(aim, 0.0, "journal flushed"))
        assert loss.failures == []
    assert judge_end(job, out) == []


def test_what_judges_is_judged(job, disk):
    """A store whose file has 0 bytes is not taken for a whole one."""
    out = disk.folder / "b.zarr"
    assert judge_end(job, out) == []
    assert powerloss.judge_state(job, out) == ("finished", [])
    os.truncate(out / "channel_1/0/c/0/0/0", 0)
    state, ((kind, _),) = powerloss.judge_state(job, out)
    assert (state, kind) == ("finished", "finished but wrong")
    assert differing(powerloss.contents(out), job.wanted) == ["channel_1/0/c/0/0/0"]


def test_no_other_disk_is_ever_stopped(tmp_path):
    """Asked to cut the power of a folder of the real disk, it refuses."""
    (tmp_path / "disk.img").touch()
    root = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(RuntimeError, match=rf"^{re.escape(str(tmp_path))} is on device "):
            Disk(tmp_path / "disk.img", tmp_path, "loop", root).check()
    finally:
        os.close(root)
