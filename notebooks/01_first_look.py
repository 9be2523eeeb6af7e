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
# # A first look
#
# Single molecules blink on top of a glow: light from out of focus, from the medium, from the cell.
# To find them, we first estimate that glow, the *background*. Here it is a local mean around each
# pixel of each frame, with weights that fall off as a Gaussian.
#
# You choose one number, the **radius** of the mean: wide compared with a molecule's spot, narrow
# compared with the unevenness of the glow. This notebook opens a movie, looks at single frames,
# checks one of them by hand, and lets you choose a radius by eye.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import tifffile
from dask import compute
from dask.callbacks import Callback
from scipy.ndimage import correlate1d

from smlmlp_dask import (
    bkgd_spatial_mean,
    gaussian_kernel,
    open_channels,
    plan_spatial_mean,
    run_spatial_mean,
    simulate_movie,
)
from smlmlp_dask.pictures.frames import plot_channels

# %% [markdown]
# ## A movie
#
# Yours is a file from a camera. So that this notebook runs anywhere, it simulates one: 1000 frames
# of blinking molecules over a known background. Everything goes into a temporary folder.

# %%
folder = tempfile.TemporaryDirectory(prefix="smlmlp-dask-")
movie_path = Path(folder.name, "movie.tif")

simulated = simulate_movie(frames=1000, height=256, width=256)
tifffile.imwrite(movie_path, simulated.movie.compute(), photometric="minisblack")
print(f"{movie_path.name}: {movie_path.stat().st_size / 1e6:.0f} MB")

# %% [markdown]
# ## Open it
#
# `open_channels` reads only headers, no pixels. From a TIFF, a folder of TIFFs, a Zarr or a
# headerless file it makes the same thing: one *lazy stack* (frame, y, x) per channel, cut into
# blocks of whole frames. The drawing shows the blocks.

# %%
channels = open_channels(movie_path)
channels[0]

# %% [markdown]
# The background is a stack of the same shape. This call computes only the kernels, a few numbers.

# %%
bkgds, noise_corrections, info = bkgd_spatial_mean(channels, 7.0)
bkgds[0]

# %% [markdown]
# ## What would the whole job cost?
#
# We know the number of blocks, and the most memory that they take, before anything runs.

# %%
plan = plan_spatial_mean(movie_path, 7.0)
print(f"blocks to compute  {plan.n_blocks}, {plan.threads} at a time")
print(f"memory at most     {plan.projected_bytes / 1e6:.0f} MB, Python and libraries included")
print(f"result             {plan.output_bytes / 1e6:.0f} MB before compression")

# %% [markdown]
# ## Look at one frame
#
# Asking for frame 500 reads and filters only the block that holds it. To be sure, we count the
# tasks that Dask ran.

# %%
ran = []
with Callback(posttask=lambda key, *_: ran.append(key)):
    raw, background = compute(channels[0][500], bkgds[0][500])
print(f"{len(ran)} tasks ran, for 1 of {bkgds[0].npartitions} blocks")

plot_channels([raw], [background], radii_pix=info["channels_mean_radii_pix"], frame=500)

# %% [markdown]
# **See:** left, sharp spots on an uneven glow; middle, the glow alone, in the same colours; right,
# the signal: spots on a level floor, where 0 is white. Faint dots in the middle picture are light of
# the molecules that the local mean takes in.
#
# ## Check it by hand
#
# The formula is short: correlate with a one-dimensional kernel along y, then along x; beyond the
# edges the nearest pixel repeats. The kernel's sigma is half the radius. SciPy does the same in
# three lines.

# %%
kernel = gaussian_kernel(7.0 / 2)
by_hand = raw.astype("float32")
for axis in (0, 1):
    by_hand = correlate1d(by_hand, kernel, axis, mode="nearest")

largest = abs(by_hand - background).max()
print(f"largest difference: {largest:.1e} counts, in a frame of up to {raw.max()} counts")
assert largest < 1e-6 * raw.max()

# %% [markdown]
# ## Choose a radius by looking
#
# The same part of the same frame with five radii. Each is a separate lazy stack; nothing is stored.

# %%
radii = [2, 4, 7, 14, 80]
by_radius = compute(*[bkgd_spatial_mean(channels, radius)[0][0][500] for radius in radii])

rows, columns = slice(60, 220), slice(90, 250)
extent = (columns.start - 0.5, columns.stop - 0.5, rows.stop - 0.5, rows.start - 0.5)
low, high = np.percentile(raw[rows, columns], [0.5, 99.5])
figure, axes = plt.subplots(
    2, len(radii), figsize=(13, 5.4), sharex=True, sharey=True, layout="constrained"
)
for (above, below), radius, estimate in zip(axes.T, radii, by_radius, strict=True):
    bkgd = estimate[rows, columns]
    shown = above.imshow(bkgd, vmin=low, vmax=high, extent=extent)
    signal = below.imshow(
        raw[rows, columns] - bkgd, cmap="PuOr_r", vmin=-120, vmax=120, extent=extent
    )
    above.set_title(f"radius {radius} px")
    below.set_xlabel("x (px)")
axes[0, 0].set_ylabel("y (px)")
axes[1, 0].set_ylabel("y (px)")
figure.colorbar(shown, ax=axes[0], label="background (counts)")
figure.colorbar(signal, ax=axes[1], label="signal (counts)")
plt.show()

# %% [markdown]
# **See:** with a radius of 2 px the molecules are in the background (above) and faint in the signal
# (below). As the radius grows, they move from the background to the signal. At 80 px the background
# is so smooth that it no longer follows the glow: a bright hill stays in the signal as an orange
# cloud. Between the two lies a broad range of good radii.
#
# In a simulated movie we know the truth, so we can measure what the eye sees: how far is each
# estimate from the true background?

# %%
truth = simulated.background[500].compute()
errors = [np.sqrt(np.mean((estimate - truth) ** 2)) for estimate in by_radius]

figure, axes = plt.subplots(figsize=(6, 3.2))
axes.plot(radii, errors, "o-")
axes.set(xscale="log", xlabel="radius (px)", ylabel="error of the background (counts, RMS)")
axes.set_xticks(radii, [str(radius) for radius in radii])
axes.minorticks_off()
axes.set_ylim(bottom=0)
plt.show()
print("smallest error of these at a radius of", radii[int(np.argmin(errors))], "px")

# %% [markdown]
# **See:** a valley. On its left, the background contains light of the molecules (and noise). On its
# right, the mean smooths the glow's own unevenness away. The best radius depends on *your* spots and
# *your* background, so the radius is an argument.
#
# ## Keep it
#
# `run_spatial_mean` does the whole job from file to file. A notebook shows its result as a table
# with a small picture.

# %%
result = run_spatial_mean(movie_path, Path(folder.name, "background.zarr"), 7.0)
result

# %%
result.plot()

# %% [markdown]
# **See:** above, the frame in the middle of the movie as before; below, the kernel, its residual
# (the effect of subtracting the mean on a single bright pixel), and the level of the background over
# time, which falls slowly as it bleaches. Red lines appear if the camera was saturated or the radius
# is too small for the spots: try `run_spatial_mean(..., 2.0)`.
#
# The last cell is a slider. Moving it reads one frame at a time; it needs a running notebook.

# %%
result.browse()

# %%
folder.cleanup()
