import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import dask
import pytest
from dask.base import compute
from dask.callbacks import Callback
from dask.distributed import Client

from smlmlp_dask.execution import tasks


def double(argument):
    return 2 * argument


def fail_at_three(argument):
    if argument == 3:
        raise OSError("three")


@pytest.fixture(params=["threads", "synchronous", "processes", "distributed"])
def scheduler(request):
    if request.param == "distributed":
        with Client(
            processes=False, dashboard_address="127.0.0.1:0", n_workers=1, threads_per_worker=2
        ):
            yield
    else:
        with dask.config.set(scheduler=request.param, num_workers=2):
            yield


@pytest.mark.usefixtures("scheduler")
def test_every_task_is_reported_once(monkeypatch):
    monkeypatch.setattr(tasks, "REGION_TASKS", 4)
    done = []
    tasks.run_tasks(double, iter(range(40)), lambda *pair: done.append(pair))
    assert sorted(done) == [(i, 2 * i) for i in range(40)]


@pytest.mark.usefixtures("scheduler")
def test_the_first_error_ends_the_job(monkeypatch):
    monkeypatch.setattr(tasks, "REGION_TASKS", 2)
    done = []
    with pytest.raises(OSError, match="three"):
        tasks.run_tasks(fail_at_three, iter(range(2000)), lambda *pair: done.append(pair))
    assert len(done) < 1000
    assert 3 not in dict(done)


def test_arguments_are_taken_as_needed(monkeypatch):
    monkeypatch.setattr(tasks, "REGION_TASKS", 4)
    taken = []

    def arguments():
        for i in range(100):
            taken.append(i)
            yield i

    def fail(argument):
        raise ValueError(argument)

    with dask.config.set(scheduler="synchronous"), pytest.raises(ValueError, match=r"\d"):
        tasks.run_tasks(fail, arguments(), double)
    assert len(taken) == 4


@pytest.mark.parametrize(("threads", "most"), [(1, 1), (2, 2), (4, 4), (5, 5), (64, 64), (256, 64)])
@pytest.mark.parametrize("count", [0, 1, 63, 1000, 40_000])
def test_groups_are_large_on_many_threads_and_small_in_the_end(threads, most, count):
    groups = list(tasks._groups(iter(range(count)), count, threads))
    assert [argument for group in groups for argument in group.arguments] == list(range(count))
    sizes = [len(group.arguments) for group in groups]
    assert sizes == sorted(sizes, reverse=True)
    most = max(most, -(-count // tasks.MOST_TASKS))
    assert max(sizes, default=1) == max(1, min(most, count // (2 * threads)))
    if count >= threads:
        # no thread is left without a group while another has several blocks to go
        assert sum(size == 1 for size in sizes) >= threads


def test_no_job_is_of_more_than_about_ten_thousand_tasks():
    assert tasks.blocks_per_task(4, 10**4) == tasks.blocks_per_task(4, 4 * 10**4) == 4
    assert tasks.blocks_per_task(4, 10**7) == 1000
    assert len(list(tasks._groups(iter(range(200_000)), 200_000, 4))) < 10_100


def test_a_group_is_named_on_one_line():
    assert str(tasks._Group((1, 2, 3))) == "1, 2, 3"
    assert str(tasks._Group(tuple(range(64)))) == "64 blocks from 0 to 63"


def test_arguments_beyond_the_count_are_single():
    groups = tasks._groups(iter(range(100)), 0, 64)
    assert [group.arguments for group in groups] == [(i,) for i in range(100)]


@pytest.fixture
def groups_of_four():
    """A cluster whose tasks take four arguments each."""
    with Client(processes=False, dashboard_address=":0", n_workers=1, threads_per_worker=4):
        yield


@pytest.mark.usefixtures("groups_of_four")
def test_every_argument_of_a_group_is_reported_once():
    done = []
    tasks.run_tasks(double, iter(range(200)), lambda *pair: done.append(pair), count=200)
    assert sorted(done) == [(i, 2 * i) for i in range(200)]


@pytest.mark.usefixtures("groups_of_four")
def test_results_of_a_group_before_an_error_are_reported():
    done = []
    with pytest.raises(OSError, match="three"):
        tasks.run_tasks(
            fail_at_three, iter(range(2000)), lambda *pair: done.append(pair), count=2000
        )
    assert {0, 1, 2} <= set(dict(done))
    assert 3 not in dict(done)
    assert len(done) < 1000


def test_what_another_thread_computes_takes_no_report_away(monkeypatch):
    """Dask's active callbacks are those of the process, and each compute puts its own back."""
    begun, ended = Event(), Event()

    @dask.delayed
    def other():
        begun.set()
        assert ended.wait(60)

    def compute_once_it_ended(*collections, **options):
        ended.set()
        future.result()
        return compute(*collections, **options)

    monkeypatch.setattr(tasks, "compute", compute_once_it_ended)
    done = []
    with ThreadPoolExecutor(1) as pool, dask.config.set(scheduler="threads"):
        future = pool.submit(other().compute)
        assert begun.wait(60)
        tasks.run_tasks(double, iter(range(3)), lambda *pair: done.append(pair))
    assert sorted(done) == [(0, 0), (1, 2), (2, 4)]


def test_an_event_loop_is_not_stopped():
    async def call(in_thread):
        address = "127.0.0.1:0"
        async with Client(
            asynchronous=True, processes=False, dashboard_address=address, n_workers=1
        ):
            done = []
            arguments = (double, iter(range(3)), lambda *pair: done.append(pair))
            if in_thread:
                await asyncio.to_thread(tasks.run_tasks, *arguments)
                return done
            with pytest.raises(RuntimeError, match=r"client is asynchronous.*asyncio\.to_thread"):
                tasks.run_tasks(*arguments)
            return done

    assert asyncio.run(call(in_thread=False)) == []
    assert sorted(asyncio.run(call(in_thread=True))) == [(0, 0), (1, 2), (2, 4)]


def test_callbacks_of_the_caller_see_the_tasks():
    seen, done = [], []
    with Callback(posttask=lambda key, *_: seen.append(key)):
        tasks.run_tasks(double, iter(range(3)), lambda *pair: done.append(pair))
    assert len(seen) == len(done) == 3
