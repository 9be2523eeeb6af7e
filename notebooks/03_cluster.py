# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: -all
#     notebook_metadata_filter: kernelspec,jupytext
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The same job on a cluster
#
# One computer too slow? The job is thousands of independent blocks, so more computers do more of
# them at a time. You choose the workers *around* the call, not in it: `run_spatial_mean` uses the
# active Dask client, or the threads of this computer without one.
#
# All workers must see movie and result under the same paths. On a cluster, use the shared file
# system, not a temporary folder as here.

# %%
import tempfile
from pathlib import Path

import dask.array as da
import numpy as np
import zarr
from dask.distributed import Client, LocalCluster, performance_report

from smlmlp_dask import open_backgrounds, plan_spatial_mean, run_spatial_mean, simulate_movie

folder = tempfile.TemporaryDirectory(prefix="smlmlp-dask-")
movie_path = Path(folder.name, "movie.zarr")
movie = simulate_movie(frames=600, height=256, width=256, chunks=20).movie
stored = zarr.create_array(movie_path, shape=movie.shape, chunks=movie.chunksize, dtype=movie.dtype)
da.store(movie, stored, lock=False)

# %% [markdown]
# ## Without a cluster
#
# The result from the threads of this computer is the one to compare with.

# %%
alone = run_spatial_mean(movie_path, Path(folder.name, "alone.zarr"), 7.0)
alone

# %% [markdown]
# ## A cluster on this computer
#
# Two workers, each a process: good to try things out and to watch a job. The client's dashboard
# shows tasks, memory and transfers while the job runs. The link works in your browser until the
# client is closed.

# %%
cluster = LocalCluster(
    n_workers=2,
    threads_per_worker=1,
    memory_limit="2GB",
    host="127.0.0.1",
    dashboard_address="127.0.0.1:0",
)
client = Client(cluster)
print(client.dashboard_link)
client

# %% [markdown]
# The plan asks the client, too: it runs one task for each thread, with blocks small enough to fit
# the workers' memory together.

# %%
plan = plan_spatial_mean(movie_path, 7.0)
print(f"{plan.n_blocks} blocks, {plan.threads} at a time")
print(f"{plan.memory_limit_bytes / 1e9:.0f} GB of memory, all workers together")

# %% [markdown]
# The call is the same as before. `performance_report` saves the dashboard's pages in a file, to find
# out later why a job was slow.

# %%
report_path = Path(folder.name, "report.html")
with performance_report(filename=str(report_path)):
    on_cluster = run_spatial_mean(movie_path, Path(folder.name, "cluster.zarr"), 7.0)
print(f"{report_path.name}: {report_path.stat().st_size / 1e3:.0f} kB")

# %% [markdown]
# Is it the same result? Yes, to the last bit.

# %%
same = da.all(alone.bkgds[0] == on_cluster.bkgds[0]).compute()
print("same bits:", bool(same))
assert same

# %%
client.close()
cluster.close()

# %% [markdown]
# ## Any other client
#
# Any `Client` will do: of an address (`Client("tcp://10.0.0.5:8786")`), of a file that a scheduler
# wrote (`Client(scheduler_file="scheduler.json")`), of SLURM jobs
# ([dask-jobqueue](https://jobqueue.dask.org); on the command line, `run --slurm`), of Kubernetes,
# SSH, or the cloud. The pattern is always
#
# ```python
# with Client(...):
#     run_spatial_mean("/shared/movie.zarr", "/shared/background.zarr", 7.0, resume=True)
# ```
#
# `resume=True` costs nothing the first time; later it resumes a job that the queue has ended. Here
# is the pattern with a client that needs no other computer:

# %%
with Client(
    processes=False, n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0"
) as client:
    again = run_spatial_mean(movie_path, Path(folder.name, "cluster.zarr"), 7.0, resume=True)
print("nothing was left to do:", again.path.name)

# %% [markdown]
# ## Look at it
#
# The result is files. Anyone can open them, without the cluster.

# %%
result = open_backgrounds(Path(folder.name, "cluster.zarr"))
assert np.isfinite(result.noise_corrections).all()
result.plot()

# %% [markdown]
# **See:** the frame in the middle of the movie, its background, and the signal, as in the first
# notebook. You cannot see where the result was computed.

# %%
folder.cleanup()
