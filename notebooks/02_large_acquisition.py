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
# # A movie larger than memory
#
# A night of acquisition gives more frames than fit in memory, and the job takes long enough for
# something to go wrong: a full disk, a restart at 3 a.m., an impatient Ctrl-C. This notebook takes a
# movie larger than its memory limit, kills the job in the middle, resumes it, and checks the result.

# %%
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr

from smlmlp_dask import (
    open_backgrounds,
    open_channels,
    plan_spatial_mean,
    run_spatial_mean,
    simulate_movie,
    verify_backgrounds,
)

MEMORY_LIMIT = "450MB"

# %% [markdown]
# ## The movie
#
# 4000 frames of 256 × 256 pixels, 16 bit. Only the size matters here, so we simulate 500 frames and
# repeat them eight times. They go to a temporary folder as a Zarr array, in chunks of 50 frames.

# %%
folder = tempfile.TemporaryDirectory(prefix="smlmlp-dask-")
movie_path = Path(folder.name, "movie.zarr")
background_path = Path(folder.name, "background.zarr")

some = simulate_movie(frames=500, height=256, width=256, bleaching_frames=500).movie.compute()
stored = zarr.create_array(
    movie_path, shape=(4000, 256, 256), chunks=(50, 256, 256), dtype=some.dtype
)
for first in range(0, 4000, 500):
    stored[first : first + 500] = some
print(f"{open_channels(movie_path)[0].nbytes / 1e6:.0f} MB of pixels; allowed: {MEMORY_LIMIT}")

# %% [markdown]
# ## Plan
#
# The plan says what will happen, and refuses a memory limit that the job cannot keep. The limit
# covers everything together: Python, its libraries, and the blocks being processed.

# %%
plan = plan_spatial_mean(movie_path, 7.0, memory_limit=MEMORY_LIMIT)
channel = plan.channels[0]
print(f"{plan.n_blocks} blocks of {channel.block[0]} frames, {plan.threads} at a time")
print(f"{plan.projected_bytes / 1e6:.0f} MB of {plan.memory_limit_bytes / 1e6:.0f} MB")
print(f"every pixel is read {channel.read_amplification:.2f} times")

# %%
try:
    plan_spatial_mean(movie_path, 7.0, memory_limit="200MB")
except ValueError as error:
    print(error)

# %% [markdown]
# ## Run, and pull the plug
#
# In a notebook you would call `run_spatial_mean` and interrupt it with the stop button. To make it
# harder, we run the job as a separate program, and kill it without warning once eight blocks or
# more are written.

# %%
command = [sys.executable, "-m", "smlmlp_dask", "run", str(movie_path), "-o", str(background_path)]
job = subprocess.Popen([*command, "--radius", "7", "--memory-limit", MEMORY_LIMIT])
chunks = background_path / "channel_0" / "0" / "c"
while job.poll() is None and len(list(chunks.glob("*"))) < 8:
    time.sleep(0.002)
job.kill()
print("killed" if job.wait() else "finished before it could be killed")

# %% [markdown]
# The store is not a result yet, and cannot be mistaken for one:

# %%
try:
    open_backgrounds(background_path)
except ValueError as error:
    print(error)

# %%
shown = subprocess.run(
    [sys.executable, "-m", "smlmlp_dask", "info", str(background_path)],
    capture_output=True,
    text=True,
)
print(shown.stdout.splitlines()[0])

# %% [markdown]
# ## Resume
#
# The same call with `resume=True` keeps the finished blocks and computes the others. If the movie
# or a setting has changed in between, it raises an error.

# %%
start = time.perf_counter()
result = run_spatial_mean(
    movie_path, background_path, 7.0, memory_limit=MEMORY_LIMIT, resume=True, progress=False
)
print(f"the rest took {time.perf_counter() - start:.1f} s")
result

# %% [markdown]
# ## Verify
#
# The job recorded a checksum of every chunk. `verify_backgrounds` compares these checksums with the
# files, computes some blocks again from the movie, and compares every bit.

# %%
report = verify_backgrounds(background_path, sample=5)
print(f"{report.chunks} chunks checked, {report.recomputed} blocks computed again")
print("problems:", report.problems or "none")
assert not report.problems

# %% [markdown]
# Does it find anything? We flip one bit of one chunk:

# %%
chunk = chunks / "3" / "0" / "0"
good = chunk.read_bytes()
chunk.write_bytes(good[:1000] + bytes([good[1000] ^ 1]) + good[1001:])
problems = verify_backgrounds(background_path).problems
print(problems)
assert problems
chunk.write_bytes(good)
assert not verify_backgrounds(background_path).problems

# %% [markdown]
# ## Use it
#
# The result is as large as the movie, but it need not fit in memory: Dask reads it block by block.

# %%
over_time = result.bkgds[0][::50].mean(axis=(1, 2)).compute()
print(f"mean background: {over_time.min():.0f} to {over_time.max():.0f} counts")
assert np.isfinite(over_time).all()
result.plot()

# %% [markdown]
# **See:** lower right, the level of the background over time is a sawtooth, with one tooth for each
# of the eight repeats as it bleaches. The picture read 64 frames for that line, as it would for a
# movie of a terabyte.

# %%
folder.cleanup()
