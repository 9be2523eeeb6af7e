import dask
import pytest
from dask.distributed import Client

from smlmlp_dask import jobs


def double(argument):
    return 2 * argument


def fail_at_three(argument):
    if argument == 3:
        raise OSError("three")


@pytest.fixture(params=["threads", "synchronous", "processes", "distributed"])
def scheduler(request):
    if request.param == "distributed":
        with Client(processes=False, dashboard_address=None, n_workers=1, threads_per_worker=2):
            yield
    else:
        with dask.config.set(scheduler=request.param, num_workers=2):
            yield


@pytest.mark.usefixtures("scheduler")
def test_every_task_is_told_once(monkeypatch):
    monkeypatch.setattr(jobs, "REGION_TASKS", 4)
    done = []
    jobs.run_tasks(double, iter(range(40)), lambda *pair: done.append(pair))
    assert sorted(done) == [(i, 2 * i) for i in range(40)]


@pytest.mark.usefixtures("scheduler")
def test_the_first_error_ends_the_job(monkeypatch):
    monkeypatch.setattr(jobs, "REGION_TASKS", 2)
    done = []
    with pytest.raises(OSError, match="three"):
        jobs.run_tasks(fail_at_three, iter(range(2000)), lambda *pair: done.append(pair))
    assert len(done) < 1000
    assert 3 not in dict(done)


def test_arguments_are_taken_as_needed(monkeypatch):
    monkeypatch.setattr(jobs, "REGION_TASKS", 4)
    taken = []

    def arguments():
        for i in range(100):
            taken.append(i)
            yield i

    def fail(argument):
        raise ValueError(argument)

    with dask.config.set(scheduler="synchronous"), pytest.raises(ValueError, match=r"\d"):
        jobs.run_tasks(fail, arguments(), double)
    assert len(taken) == 4
