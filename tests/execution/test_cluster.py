"""Every way to run a job gives the same bytes, and says in one line what is wrong with it."""

import json
import os
import pickle
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import dask
import numpy as np
import pytest
import zarr
from dask.distributed import Client, LocalCluster
from distributed.utils import nbytes

from smlmlp_dask import bkgd_spatial_mean, open_channels, run_spatial_mean
from smlmlp_dask import blocks as chunks
from smlmlp_dask.execution import preflight, window
from smlmlp_dask.execution.connect import Place, connected
from smlmlp_dask.execution.slurm import SlurmJobs
from smlmlp_dask.execution.workers import active_client, active_workers
from smlmlp_dask.pipeline import running as pipeline
from smlmlp_dask.pipeline.verify import verify_backgrounds
from smlmlp_dask.store.read import progress
from tests.commands import call
from tests.processes import SLOW_SECONDS, finish, go_on, journal, start, wait_for
from tests.stored import contents

pytestmark = pytest.mark.slow

CHUNK, N_BLOCKS = 16, 40


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    """40 blocks of 16 frames of 512 x 512."""
    path = tmp_path_factory.mktemp("movie") / "movie.zarr"
    few = np.random.default_rng(1).poisson(200, (CHUNK, 512, 512)).astype(np.uint16)
    array = zarr.create_array(
        path, shape=(N_BLOCKS * CHUNK, 512, 512), chunks=few.shape, dtype="u2", compressors=None
    )
    for first in range(0, N_BLOCKS * CHUNK, CHUNK):
        array[first : first + CHUNK] = np.roll(few, first, axis=2)
    return path


@pytest.fixture(scope="module")
def whole(movie, tmp_path_factory):
    """The files of a store that threads of this process wrote."""
    return contents(run_spatial_mean(movie, tmp_path_factory.mktemp("whole") / "out.zarr").path)


def local(count, **options):
    options = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", **options}
    return LocalCluster(n_workers=count, host="tcp://127.0.0.1", **options)


@contextmanager
def dask_process(*arguments, config=None, before=()):
    """A scheduler or worker of its own, which has ended when the block has."""
    environment = {**os.environ, **{f"DASK_{k.upper()}": v for k, v in (config or {}).items()}}
    process = subprocess.Popen(
        [
            *before,
            sys.executable,
            "-m",
            f"distributed.cli.{arguments[0]}",
            *map(str, arguments[1:]),
        ],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def scheduler(folder, *options, config=None):
    file = folder / "scheduler.json"
    command = ("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    with dask_process(*command, "--scheduler-file", file, *options, config=config) as process:
        wait_for(lambda: file.exists() and file.read_text().endswith("}"), process)
        yield process, file, json.loads(file.read_text())["address"]


def worker(address, *options, config=None, before=()):
    command = ("dask_worker", address, "--nthreads", "1", "--host", "127.0.0.1", "--no-nanny")
    return dask_process(*command, "--no-dashboard", *options, config=config, before=before)


@contextmanager
def meanwhile(action):
    """Act from another thread while the ``with`` block runs; it stops when the event is set."""
    over = threading.Event()
    thread = threading.Thread(target=action, args=(over,))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


# ---- the order of choice -----------------------------------------------------------------------


def test_threads_are_the_default():
    with connected():
        assert active_client() is None


def test_the_order_of_choice(tmp_path):
    with (
        local(1, processes=False) as first,
        local(1, processes=False) as second,
        local(1, processes=False) as third,
    ):
        told = tmp_path / "scheduler.json"
        told.write_text(json.dumps({"address": second.scheduler_address}))

        def used(place=None):
            with connected(place):
                return active_client().scheduler.address

        with dask.config.set({"scheduler-address": third.scheduler_address}):
            assert used() == third.scheduler_address
            assert used(Place(scheduler=second.scheduler_address)) == second.scheduler_address
            assert used(Place(scheduler_file=told)) == second.scheduler_address
            with Client(first):
                assert used() == first.scheduler_address
                assert used(Place(scheduler=second.scheduler_address)) == first.scheduler_address
            with dask.config.set(scheduler="threads"), connected():
                assert active_client() is None
        assert active_client() is None  # what was connected is no longer


def test_a_scheduler_of_this_process_wins_where_it_is_chosen():
    with local(1, processes=False) as workers, Client(workers):
        assert active_client() is not None
        with dask.config.set(scheduler="synchronous"):
            assert active_client() is None
            assert active_workers().threads == 1


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"scheduler": "tcp://127.0.0.1:1", "workers": 2}, "--scheduler and --workers"),
        ({"scheduler": "tcp://h:1", "scheduler_file": Path("f")}, "--scheduler and --scheduler-f"),
        ({"workers": 2, "slurm": SlurmJobs()}, "--workers and --slurm"),
    ],
)
def test_contradictions_are_refused(given, named):
    with pytest.raises(ValueError, match=f"^{named}.* contradict each other: give only one"):
        Place(**given)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scheduler", "tcp://127.0.0.1:1", "--workers", "2"], ".*contradict each other.*"),
        (["--cores", "2"], "--cores describes SLURM jobs: add --slurm, or leave it out"),
        (["--job-memory", "2GB"], "--job-memory describes SLURM jobs: .*"),
        (["--slurm", "--jobs", "4:2"], ".*'4:2' is neither a number of SLURM jobs like 4 nor .*"),
        (["--workers", "0"], ".*--workers.*0 is not in the range.*"),
        (["--workers", "2", "--memory-limit", "lots"], "--memory-limit is 'lots': pass bytes.*"),
        (["--scheduler", "tcp://127.0.0.1:1"], "the Dask scheduler tcp://127.0.0.1:1 .*1 s: .*"),
        (["--scheduler", "no address"], "'no address' .* is not the address of a Dask .*"),
        (["--scheduler", "tls://127.0.0.1:1"], ".* wants TLS: name its certificates in Dask's .*"),
        (["--scheduler-file", "/dev/null"], "/dev/null is not the file of a Dask scheduler: .*"),
        (["--scheduler-file", "none.json"], "the scheduler file none.json does not exist: .*"),
    ],
)
def test_wrong_options_give_an_error_of_one_line(movie, tmp_path, arguments, said):
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        ended = call("run", movie, "-o", tmp_path / "out.zarr", *arguments)
    assert ended.exit_code == 2
    assert re.fullmatch(rf"Error: {said}\n", ended.stderr), ended.stderr
    assert list(tmp_path.iterdir()) == []
    assert active_client() is None  # the next job of this process must not meet it


def test_the_configured_scheduler_is_named_where_it_does_not_answer(movie, tmp_path):
    address = "tcp://127.0.0.1:1"
    config = {"scheduler-address": address, "distributed.comm.timeouts.connect": "1s"}
    with dask.config.set(config):
        ended = call("run", movie, "-o", tmp_path / "out.zarr")
    assert ended.exit_code == 2
    expected = rf"Error: .*{address} \(of Dask's scheduler-address\).*\n"
    assert re.fullmatch(expected, ended.stderr), ended.stderr


def test_without_jobqueue_or_slurm(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    slurm = Place(slurm=SlurmJobs())
    with pytest.raises(RuntimeError, match=r"pip install .*\[slurm\]'"), connected(slurm):
        pass


# ---- the command line --------------------------------------------------------------------------


def test_processes_of_this_machine(movie, whole, tmp_path):
    out = tmp_path / "out.zarr"
    process = start(
        *("run", movie, "-o", out, "--workers", "2", "--memory-limit", "3GB", "--progress")
    )
    code, said = finish(process)
    assert code == 0
    assert "2 worker processes, " in said
    assert "1.5 GB each" in said
    assert re.search(r"100%: 40/40 blocks after [^,]+, [\d,]+ Mpx/s, 2 workers", said), said
    assert contents(out) == whole


def test_a_scheduler_that_is_killed(movie, whole, tmp_path):
    out = tmp_path / "out.zarr"
    with scheduler(tmp_path) as (process, file, address), worker(address):
        job = start("run", movie, "-o", out, "--scheduler-file", file)
        wait_for(lambda: len(journal(out)) >= 3, job)
        process.kill()
        code, said = finish(job)
    assert code == 2
    assert said.startswith("Error: the Dask cluster was lost: ")
    assert go_on(said, len(journal(out))) == (0, "")
    assert contents(out) == whole


def test_a_client_that_is_killed(movie, whole, tmp_path):
    out = tmp_path / "out.zarr"
    with scheduler(tmp_path) as (_, _, address), worker(address):
        job = start("run", movie, "-o", out, "--scheduler", address)
        wait_for(lambda: len(journal(out)) >= 3, job)
        job.kill()
        finish(job)
        assert progress(out).done < N_BLOCKS
        again = start("run", movie, "-o", out, "--scheduler", address, "--resume")
        assert finish(again) == (0, "")
    assert contents(out) == whole


def test_too_few_open_files_are_an_error(movie, tmp_path):
    command = [*(sys.executable, "-m", "smlmlp_dask", "run", movie), "-o", tmp_path / "out.zarr"]
    limited = f"ulimit -n 32; exec {shlex.join(map(str, command))} --workers 2"
    done = subprocess.run(
        ["sh", "-c", limited], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 2
    assert "2 worker processes take some 56 open files, and the limit is 32" in done.stderr
    assert "ulimit -n 1024" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out.zarr").exists()


def test_a_scheduler_without_workers(movie, tmp_path):
    config = {"distributed__scheduler__no_workers_timeout": "4s"}
    with scheduler(tmp_path) as (_, _, address):
        out = tmp_path / "out.zarr"
        arguments = ("run", movie, "-o", out, "--scheduler", address, "--progress")
        code, said = finish(start(*arguments, config=config))
    assert code == 2
    waiting, error = said.splitlines()
    assert waiting == f"waiting for a worker of the scheduler {address}, for 4 s at most"
    assert error.startswith(f"Error: the scheduler {address} had no worker for 4 s: start some ")
    assert not out.exists()


# ---- workers that come and go ------------------------------------------------------------------


def test_workers_that_are_killed_over_and_over(movie, whole, tmp_path):
    out, killed = tmp_path / "out.zarr", []

    def kill(over):
        while not over.wait(0.01):
            lost = workers.workers[len(killed) % 2].pid
            if lost is not None and len(journal(out)) >= 6 * (len(killed) + 1):
                os.kill(lost, signal.SIGKILL)
                killed.append(lost)

    # however long a worker takes to start again
    patience = dask.config.set({"distributed.deploy.lost-worker-timeout": "10m"})
    with patience, local(2) as workers, Client(workers), meanwhile(kill):
        run_spatial_mean(movie, out)
    assert len(killed) >= 2
    assert verify_backgrounds(out).problems == []
    assert contents(out) == whole


def die(argument):
    if argument == 3:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_task_that_kills_its_workers_is_named(monkeypatch):
    monkeypatch.setattr(window, "MOST_TRIALS", 2)
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        local(1, silence_logs="CRITICAL") as workers,
        Client(workers) as client,
        pytest.raises(
            RuntimeError, match=r"^2 workers died while they had (2 or )?3( or \d)*, the last"
        ),
    ):
        window.run_on_cluster(client, die, iter(range(6)), lambda *_: None)


def test_workers_that_join_later_are_used(movie, whole, tmp_path):
    out = tmp_path / "out.zarr"

    def join(over):
        while not over.wait(0.01):
            if len(journal(out)) >= 3:
                workers.scale(2)
                return

    def slowly(task, **options):
        from distributed import get_worker

        time.sleep(0.2)
        checksums = filter_and_store(task, **options)
        (tmp_path / f"{task.block.number}").write_text(get_worker().address)
        return checksums

    filter_and_store = pipeline.filter_and_store
    with local(1) as workers, Client(workers), pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "filter_and_store", slowly)
        with meanwhile(join):
            run_spatial_mean(movie, out)
    shares = Counter(path.read_text() for path in tmp_path.glob("[0-9]*"))
    assert len(shares) == 2
    assert min(shares.values()) >= 5
    assert contents(out) == whole


def test_as_many_tasks_as_the_workers_take(monkeypatch):
    """Many for workers that join, adaptively; never the whole movie."""
    monkeypatch.setattr(window, "LOOK_SECONDS", 0.1)
    taken, most = [], []

    def arguments():
        for number in range(400):
            taken.append(number)
            yield number

    def told(argument, _):
        most.append(len(taken) - len(most))

    monkeypatch.setattr(window, "AHEAD_SECONDS", 0.3)
    with local(1, processes=False) as workers, Client(workers) as client:
        window.run_on_cluster(client, abs, arguments(), told)
    assert len(most) == 400
    assert most[0] == window.TASKS_PER_THREAD
    assert window.TASKS_PER_THREAD < max(most) < 390


def test_no_channel_starves(tmp_path):
    """At any moment, the channels' finished shares are near each other."""
    sources, sizes = [], [100, 37, 250, 64, 180, 25, 90, 140]
    for i, blocks in enumerate(sizes):
        zarr.create_array(
            tmp_path / f"{i}.zarr", shape=(blocks, 40, 30 + i), chunks=(1, 40, 30 + i), dtype="u2"
        )[:] = 1 + i
        sources.append(tmp_path / f"{i}.zarr")
    spread, counts, totals = [], [0] * len(sizes), []
    writing = pipeline.writing

    @contextmanager
    def watched(path, plans, *arguments, **options):
        totals[:] = [plan.n_blocks for plan in plans]
        with writing(path, plans, *arguments, **options) as store:
            add = store.add

            def counting(channel, number, checksums):
                counts[channel] += 1
                shares = [count / total for count, total in zip(counts, totals, strict=True)]
                spread.append(max(shares) - min(shares))
                add(channel, number, checksums)

            yield replace(store, add=counting)

    with local(2) as workers, Client(workers), pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "writing", watched)
        patch.setattr(chunks, "plan_blocks", partial(chunks.plan_blocks, block_bytes=1))
        run_spatial_mean(sources, tmp_path / "out.zarr")
    assert len(spread) == sum(totals)
    assert min(totals) >= 20
    assert max(spread) <= 0.1


# ---- what workers must have --------------------------------------------------------------------


@pytest.fixture
def two_workers():
    with local(2, processes=False) as workers, Client(workers) as client:
        yield client


def answers(client, replies):
    """Let workers answer otherwise than they would."""
    real = client.run

    def run(function, *arguments, **options):
        found = real(function, *arguments, **options)
        last = list(found)[-1]
        reply = replies.get((function.__name__, *arguments[:1]), found[last])
        return {**found, last: reply}

    client.run = run
    return list(client.scheduler_info(n_workers=-1)["workers"])[-1]


def test_another_version_of_a_package_is_named(movie, tmp_path, two_workers):
    address = answers(two_workers, {("version", "zarr"): "1.0"})
    with pytest.raises(RuntimeError, match=rf"worker {address} has zarr 1\.0, this machine has 3"):
        run_spatial_mean(movie, tmp_path / "out.zarr")
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_is_missing_is_named(movie, tmp_path, two_workers):
    missing = preflight.PackageNotFoundError("numba")
    address = answers(two_workers, {("version", "numba"): missing})
    with pytest.raises(RuntimeError, match=f"worker {address} has no numba: install numba"):
        run_spatial_mean(movie, tmp_path / "out.zarr")
    assert list(tmp_path.iterdir()) == []


HIDING = 'mount -t tmpfs none "$1" && shift && exec "$@"'


@pytest.fixture
def hidden():
    """Return a function that starts a worker to which a folder looks empty."""
    hide = ["unshare", "--mount", "sh", "-c", HIDING, "sh"]
    tried = subprocess.run([*hide, "/mnt", "true"], check=False, capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"a worker cannot be given other folders here: {tried.stderr.strip()}")
    return lambda address, folder: worker(address, before=[*hide, str(folder)])


def test_a_worker_that_does_not_see_the_movie(tmp_path, movie, hidden):
    out = tmp_path / "out.zarr"
    with (
        scheduler(tmp_path) as (_, _, address),
        hidden(address, movie.parent),
    ):
        said = finish(start("run", movie, "-o", out, "--scheduler", address))
    assert said[0] == 2
    assert re.fullmatch(rf"Error: worker tcp://\S+ \(.+\) cannot read {movie} .*\n", said[1])
    assert not out.exists()


def test_a_worker_that_sees_another_movie(tmp_path, two_workers, monkeypatch):
    path = tmp_path / "movie.raw"
    path.write_bytes(bytes(2 * 8 * 8 * 2))
    monkeypatch.setattr(preflight, "_paths_needed", lambda *_: ([(path, 1000)], tmp_path))
    with pytest.raises(
        OSError, match=r"worker .* sees another .*movie\.raw, of 256 bytes, not 1000"
    ):
        run_spatial_mean(path, tmp_path / "out.zarr", raw_shape=(2, 8, 8), raw_dtype="u2")
    assert list(tmp_path.iterdir()) == [path]


def test_a_worker_that_sees_another_folder(tmp_path, movie, hidden):
    """It could write there, and nobody would find what it wrote."""
    out = tmp_path / "out/out.zarr"
    out.parent.mkdir()
    with scheduler(tmp_path) as (_, _, address), hidden(address, out.parent):
        code, said = finish(start("run", movie, "-o", out, "--scheduler", address))
    assert code == 2
    assert re.fullmatch(
        rf"Error: worker tcp://\S+ \(.+\) cannot write: {out} is not the store .* that all "
        r"machines share\n",
        said,
    ), said
    assert list(out.parent.iterdir()) == []


def test_a_worker_that_joins_without_seeing_the_movie(tmp_path, movie, whole, hidden):
    out = tmp_path / "out.zarr"
    with scheduler(tmp_path) as (_, _, address), worker(address):
        job = start("run", movie, "-o", out, "--scheduler", address)
        wait_for(lambda: journal(out), job)
        job.send_signal(signal.SIGSTOP)  # until the other worker is there
        with hidden(address, movie.parent), Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=SLOW_SECONDS)
            job.send_signal(signal.SIGCONT)
            code, said = finish(job)
    assert code == 2
    assert re.match(rf"Error: worker tcp://\S+ \(.+\) cannot read {movie} ", said), said
    assert go_on(said, len(journal(out))) == (0, "")
    assert contents(out) == whole


# ---- TLS ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Dask's configuration of encrypted connections, with certificates made for this test."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes certificates, is not installed")
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=smlmlp-dask", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    roles = ("scheduler", "worker", "client")
    tls = "distributed__comm__tls__"
    return {
        f"{tls}ca_file": str(certificate),
        **{f"{tls}{role}__key": str(key) for role in roles},
        **{f"{tls}{role}__cert": str(certificate) for role in roles},
        "distributed__comm__require_encryption": "true",
    }


def test_encrypted_connections(movie, whole, tmp_path, certificates):
    with (
        scheduler(tmp_path, "--protocol", "tls", config=certificates) as (_, file, address),
        worker(address, "--protocol", "tls", config=certificates),
    ):
        assert address.startswith("tls://")
        out = tmp_path / "refused.zarr"
        for refused in (
            start("run", movie, "-o", out, "--scheduler", address),
            start("run", movie, "-o", out, "--scheduler-file", file),
            start("run", movie, "-o", out, "--scheduler", address.replace("tls", "tcp")),
        ):
            code, said = finish(refused)
            assert code == 2
            assert re.fullmatch(r"Error: the Dask scheduler t..://127.*\n", said), said
        assert not out.exists()
        out = tmp_path / "out.zarr"
        job = start("run", movie, "-o", out, "--scheduler", address, config=certificates)
        assert finish(job) == (0, "")
    assert contents(out) == whole


# ---- the lazy call, in somebody's own code under a client --------------------------------------


@pytest.fixture(scope="module")
def processes():
    with local(2) as workers, Client(workers, set_as_default=False) as client:
        yield client


@pytest.fixture
def two_processes(processes):
    with processes.as_current():
        yield processes


def sent_graphs(client, monkeypatch):
    """Note how many bytes each graph is that goes to the scheduler."""
    sizes = []
    send = client._send_to_scheduler

    def noted(message):
        if message["op"] == "update-graph":
            sizes.append(sum(map(nbytes, message["expr_ser"].frames)))
        send(message)

    monkeypatch.setattr(client, "_send_to_scheduler", noted)
    return sizes


@pytest.mark.parametrize("kind", ["lazy", "numpy", "zarr"])
def test_the_lazy_call_under_a_client(movie, tmp_path, two_processes, monkeypatch, kind):
    few = zarr.open_array(movie, mode="r")[: 4 * CHUNK]
    channel = zarr.create_array(tmp_path / "m.zarr", data=few, chunks=(CHUNK, 512, 512))
    expected = bkgd_spatial_mean([channel[:]])[0][0].compute(scheduler="threads")
    target = None
    if kind == "numpy":
        target = np.zeros(channel.shape, np.float32)
    elif kind == "zarr":
        target = zarr.create_array(
            tmp_path / "b.zarr", shape=channel.shape, chunks=(7, 512, 512), dtype="f4"
        )
    graphs = sent_graphs(two_processes, monkeypatch)
    [background], _, _ = bkgd_spatial_mean([channel], 7.0, None if target is None else [target])
    assert bool(graphs) is (target is not None)
    result = background.compute() if target is None else np.asarray(target[:])
    assert result.tobytes() == expected.tobytes()
    assert max(graphs) < 30_000


def test_the_graph_of_a_terabyte_is_small(tmp_path, two_processes, monkeypatch):
    shape = (2_000_000, 512, 512)
    movie = zarr.create_array(tmp_path / "m.zarr", shape=shape, chunks=(32, 512, 512), dtype="u2")
    graphs = sent_graphs(two_processes, monkeypatch)
    for channel in (movie, open_channels(tmp_path / "m.zarr")[0]):
        [background], _, _ = bkgd_spatial_mean([channel])
        assert len(pickle.dumps(background.dask)) < 10**6
        assert not background[1_234_567].compute().any()
    assert max(graphs) < 10**6
