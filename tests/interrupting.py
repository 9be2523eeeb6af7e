"""Jobs that fail after some blocks, in this process."""

import pytest

from smlmlp_dask.pipeline import running


def interrupted(source, path, blocks_done, monkeypatch, job):
    """Run a job until some blocks are done; the next one fails."""
    work, count = running.filter_and_store, iter(range(10**6))

    def failing(task, **options):
        if next(count) == blocks_done:
            raise OSError("the disk is full")
        return work(task, **options)

    with monkeypatch.context() as patch:
        patch.setattr(running, "filter_and_store", failing)
        with pytest.raises(OSError, match="the disk is full"):
            job(source, path)
