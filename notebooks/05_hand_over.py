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
# # What to hand over
#
# A localization program does two things: it *finds* spots, and it *fits* each one to learn where
# the molecule is and how bright. Which pixels should it get: the raw frames, the signal of a local
# mean, or the signal of a median over frames and then a local mean? The answer differs for finding
# and for fitting.
#
# The movie is simulated, so we know the truth and can count. Finder and fit are a few lines each, so
# that you see everything they do; the same comparison with Picasso is in
# `tests/test_picasso_client.py`.

# %%
import tempfile
from pathlib import Path

import dask
import matplotlib.pyplot as plt
import numpy as np
import tifffile
from scipy.ndimage import correlate, maximum_filter
from scipy.spatial import KDTree
from scipy.special import erf

from smlmlp_dask import (
    SpatialMean,
    TemporalMedian,
    bkgd_combination,
    bkgd_spatial_mean,
    export_movie,
    open_channels,
    run_background,
    simulate_movie,
)

# The camera, and the microscope: what a calibration gives
OFFSET = 100.0  # counts of a dark pixel
GAIN = 2.2  # counts per photo-electron
QUANTUM_EFFICIENCY = 0.8  # photo-electrons per photon
SPOT_SIGMA = 1.3  # pixels
PIXEL_UM = 0.1

PEDESTAL = 200  # counts added to a signal, so that uint16 holds what is below 0
FRAMES, SIZE = 200, 128

# %% [markdown]
# ## A movie with light that does not blink
#
# Molecules blink over a glow that is uneven and bleaches slowly. Twelve more emitters never go off:
# beads, or molecules that forgot to blink. They are about as bright as the molecules. Light adds up,
# and so does its shot noise.

# %%
simulated = simulate_movie(
    FRAMES, SIZE, SIZE, photons=800, events_per_frame=3, background_photons=100,
    bleaching_frames=150, psf_sigma_pix=SPOT_SIGMA, quantum_efficiency=QUANTUM_EFFICIENCY,
    gain=GAIN, offset=OFFSET, seed=5,
)  # fmt: skip
truth = simulated.molecules.table(0, FRAMES)

rng = np.random.default_rng(5)
immobile = rng.uniform(8, SIZE - 9, (12, 2))  # y, x
brightness = rng.uniform(500, 1500, 12)  # photons a frame


def shares(centres, pixels):
    """Return the part of a spot's light that falls on each pixel along one axis."""
    edges = np.append(pixels - 0.5, pixels[-1:] + 0.5, axis=0) - centres
    return np.diff(erf(edges / (np.sqrt(2) * SPOT_SIGMA)), axis=0) / 2


along_y, along_x = (shares(immobile[:, axis], np.arange(SIZE)[:, None]) for axis in (0, 1))
light = QUANTUM_EFFICIENCY * np.einsum("yn,xn,n->yx", along_y, along_x, brightness)
movie = simulated.movie.compute() + np.rint(GAIN * rng.poisson(light, (FRAMES, SIZE, SIZE)))
movie = movie.astype(np.uint16)

folder = tempfile.TemporaryDirectory(prefix="smlmlp-dask-")
movie_path = Path(folder.name, "movie.tif")
tifffile.imwrite(movie_path, movie, photometric="minisblack")
print(f"{len(truth) / FRAMES:.0f} molecules a frame, {len(immobile)} emitters that never go off")

# %% [markdown]
# ## Two signals
#
# Both jobs store raw − background as uint16 on a pedestal of 200 counts. The pedestal keeps what
# falls below 0: it is half of the noise.

# %%
outputs = {"outputs": ["background", "signal"], "pedestal": PEDESTAL, "pixel_size_um": PIXEL_UM}
of_mean = run_background(movie_path, Path(folder.name, "mean.zarr"), SpatialMean(7.0), **outputs)
of_chain = run_background(
    movie_path, Path(folder.name, "chain.zarr"), [TemporalMedian(25), SpatialMean(7.0)], **outputs
)

# Counts over the camera's offset, or over the pedestal
RAW, MEAN, CHAIN = "raw", "signal (mean)", "signal (median, mean)"
inputs = {
    RAW: movie.astype(np.float32) - OFFSET,
    MEAN: of_mean.frames("signal")[:].astype(np.float32) - PEDESTAL,
    CHAIN: of_chain.frames("signal")[:].astype(np.float32) - PEDESTAL,
}

# %%
FRAME = 100
there = truth[truth["frame"] == FRAME]
figure, axes = plt.subplots(1, 3, figsize=(13, 4.4), sharex=True, sharey=True, layout="constrained")
for ax, (name, frames) in zip(axes, inputs.items(), strict=True):
    low, high = np.percentile(inputs[RAW if name == RAW else MEAN][FRAME], [1, 99.8])
    shown = ax.imshow(frames[FRAME], cmap="gray", vmin=low, vmax=high)
    if name != MEAN:  # both signals have the scale of the last
        label = "counts over the offset" if name == RAW else "counts over the pedestal"
        figure.colorbar(shown, ax=ax, shrink=0.8, extend="both", label=label)
    ax.plot(there["x"], there["y"], "o", mfc="none", mec="#56B4E9", ms=11, label="molecule")
    ax.plot(immobile[:, 1], immobile[:, 0], "s", mfc="none", mec="#E69F00", ms=11,
            label="never goes off")  # fmt: skip
    ax.set(title=name, xticks=[], yticks=[], xlim=(-0.5, SIZE - 0.5), ylim=(SIZE - 0.5, -0.5))
    ax.plot([8, 8 + 2 / PIXEL_UM], [SIZE - 8] * 2, "w", lw=3, solid_capstyle="butt")
    ax.annotate("2 µm", (8 + 1 / PIXEL_UM, SIZE - 10), color="w", ha="center", va="bottom")
axes[0].legend(loc="upper left", bbox_to_anchor=(0, -0.02), ncols=2, frameon=False)
plt.show()

# %% [markdown]
# **See:** left, spots on a glow. In the middle the glow is gone, but what never goes off (orange
# squares) looks like a molecule (blue circles). Right, the median over 51 frames took it for
# background: only molecules are left, and some more noise where the emitters are.
#
# ## The files
#
# `export_movie` writes a signal as one file for the next program, with a description beside it that
# says how high the pedestal is. `what="raw"` writes the frames that the signal came from. Programs
# written in Python can do without files: `frames("signal")` reads frame by frame.

# %%
signal_path = export_movie(of_chain, Path(folder.name, "signal.raw"))
raw_path = export_movie(of_chain, Path(folder.name, "raw.raw"), what="raw")
print(signal_path.with_suffix(".yaml").read_text())

for path, expected in ((signal_path, of_chain.frames("signal")[:]), (raw_path, movie)):
    assert np.array_equal(np.memmap(path, "<u2", "r", shape=expected.shape), expected)
    assert np.array_equal(open_channels(path)[0].compute(), expected)

# %% [markdown]
# ## Two finders
#
# A spot is a pixel that is the largest in the 7 × 7 around it, and stands out. There are two ways to
# say how far it stands out:
#
# - **by its level**: the counts of the pixel. The simplest threshold of all.
# - **by its slopes**: how much the pixels around it rise towards it, summed. Picasso does this and
#   calls it the *net gradient*. An even glow has no slope, and a slope that goes on through a spot
#   cancels out. Wavelets and differences of Gaussians, as in ThunderSTORM, are akin to it.

# %%
along = np.arange(-3, 4)
distance = np.hypot(along[:, None], along)
distance[3, 3] = 1  # the centre has no direction
inward = -along / distance  # along x; its transpose is along y


def level(frames):
    """Return the counts."""
    return frames


def net_gradient(frames):
    """Return how much the 7 x 7 pixels around each one rise towards it."""
    rise_y, rise_x = (correlate(frames, shape) for shape in
                      (np.float32([[[-1], [0], [1]]]), np.float32([[[-1, 0, 1]]])))  # fmt: skip
    return correlate(rise_y, inward.T[None]) + correlate(rise_x, inward[None])


def peaks(frames, measure):
    """Return (frame, y, x) of all peaks, and how far each stands out."""
    is_peak = frames == maximum_filter(frames, (1, 7, 7))
    is_peak[:, :4] = is_peak[:, -4:] = is_peak[:, :, :4] = is_peak[:, :, -4:] = False
    return np.argwhere(is_peak), measure(frames)[is_peak]


molecules = np.stack([truth["frame"], truth["y"], truth["x"]], axis=1)
within = np.all((molecules[:, 1:] > 4) & (molecules[:, 1:] < SIZE - 5), axis=1)
APART = np.array([1000, 1, 1])  # so that spots of other frames are never near


def score(spots):
    """Return recall and precision: the share of molecules found, and of spots that are molecules.

    A spot and a molecule belong together within a pixel along both axes, in the same frame.
    """
    if not len(spots):
        return 0.0, 1.0
    near = {"p": np.inf, "distance_upper_bound": 1.0}
    found = KDTree(spots * APART).query(molecules[within] * APART, **near)[0]
    true = KDTree(molecules * APART).query(spots * APART, **near)[0]
    return np.isfinite(found).mean(), np.isfinite(true).mean()


# %% [markdown]
# A threshold is a matter of taste: a low one finds more molecules, a high one fewer that are none.
# So we try many and draw them as a curve. The upper right corner is perfect.

# %%
FINDERS = {"by level": (level, np.geomspace(15, 400, 25)),
           "by slopes": (net_gradient, np.geomspace(150, 3000, 25))}  # fmt: skip
STYLES = {RAW: ("#000000", ":"), MEAN: ("#E69F00", "--"), CHAIN: ("#0072B2", "-")}


def try_thresholds(frames, finder):
    """Return recall and precision for all thresholds, the number of the best, and its spots.

    The best is that of the largest F1 score, the harmonic mean of recall and precision.
    """
    measure, thresholds = FINDERS[finder]
    spots, heights = peaks(frames, measure)
    curve = np.array([score(spots[heights > threshold]) for threshold in thresholds])
    best = int(np.argmax(curve.prod(axis=1) / np.maximum(curve.sum(axis=1), 1e-9)))
    return curve, best, spots[heights > thresholds[best]]


figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), sharey=True, layout="constrained")
print("                                 recall  precision  threshold (counts)")
for ax, finder in zip(axes, FINDERS, strict=True):
    for name, frames in inputs.items():
        curve, best, found = try_thresholds(frames, finder)
        recall, precision = curve[best]
        threshold = FINDERS[finder][1][best]
        print(f"{finder:10} {name:22}{recall:6.0%} {precision:9.0%} {threshold:12.0f}")
        color, line = STYLES[name]
        ax.plot(*100 * curve.T, line, c=color, lw=2, label=name)
        ax.plot(100 * recall, 100 * precision, "o", c=color)
    ax.set(title=f"found {finder}", xlabel="recall: molecules found (%)", xlim=(0, 100))
    ax.grid(alpha=0.3)
axes[0].set(ylabel="precision: spots that are molecules (%)", ylim=(0, 100))
axes[0].legend(loc="lower left", frameon=False)
plt.show()

# %% [markdown]
# **See:** the dots are the best balance of both, and the table's rows. By level, the raw frames are
# hopeless: the middle of the glow is brighter than molecules at its edge. Either signal mends that.
# By slopes, the signal of the mean is no better than the raw frames: slopes hardly see a smooth glow.
# What spoils both are the emitters that never go off, which only the median knows. (No curve reaches
# the right end: there are molecules too dim to see, or too near to others.)
#
# The same movie without these emitters:

# %%
without = simulated.movie.astype("float32")
(mean,), _, _ = bkgd_spatial_mean([without], 7.0)
(chain,), _, _ = bkgd_combination([without], median_window_fr=25, channels_mean_radii_pix=7.0)
lazy = {RAW: without - OFFSET, MEAN: without - mean, CHAIN: without - chain}
print("                                 recall  precision")
for finder in FINDERS:
    for name, frames in zip(lazy, dask.compute(*lazy.values()), strict=True):
        curve, best, _ = try_thresholds(frames, finder)
        print(f"{finder:10} {name:22}{curve[best, 0]:6.0%} {curve[best, 1]:9.0%}")

# %% [markdown]
# **See:** the median has nothing to do here, and costs a few molecules: those that stay on for many
# frames, or share their place with others. By slopes, any of the three inputs will do. By level, the
# local mean is enough.
#
# ## Fit on the raw frames
#
# Now the molecules found on the right-hand signal are fitted: a Gaussian spot of known width on an
# even floor, with four numbers to learn (y, x, photo-electrons, floor). Least squares weighs all
# pixels alike. Maximum likelihood (MLE) weighs each by its noise, and takes this noise from its
# level: so many photo-electrons, so much variance. That is true of raw frames. In a signal, the floor
# is gone and its noise is still there.
#
# Each fit also states its own precision, from the noise that it believes in.

# %%
HALF = 3
pixel = np.arange(-HALF, HALF + 1.0)


def shares_and_slopes(centres):
    """Return the share of the light in each pixel along one axis, and its derivative."""
    edges = np.arange(-HALF - 0.5, HALF + 1) - centres[:, None]
    bell = np.exp(-(edges**2) / (2 * SPOT_SIGMA**2)) / (np.sqrt(2 * np.pi) * SPOT_SIGMA)
    return shares(centres, pixel[:, None]).T, -np.diff(bell, axis=1)


def fit(boxes, likelihood):
    """Return y, x, photo-electrons and floor of each box, and the standard error of x it states."""
    if likelihood:
        boxes = np.maximum(boxes, 0)  # there are no negative photons: fitters clip them
    floor = np.maximum(np.median(boxes, axis=(1, 2)), 0.1)
    electrons = np.maximum((boxes - floor[:, None, None]).sum(axis=(1, 2)), 10)
    values = np.stack([np.zeros_like(floor), np.zeros_like(floor), electrons, floor], axis=1)
    for _ in range(40):
        (in_y, slope_y), (in_x, slope_x) = (shares_and_slopes(values[:, i]) for i in (0, 1))
        light = values[:, 2, None, None]
        model = light * in_y[:, :, None] * in_x[:, None] + values[:, 3, None, None]
        variance = np.maximum(model, 0.05)  # of so many photo-electrons
        slopes = np.stack(
            [
                light * slope_y[:, :, None] * in_x[:, None],
                light * in_y[:, :, None] * slope_x[:, None],
                in_y[:, :, None] * in_x[:, None],
                np.ones_like(model),
            ],
            axis=1,
        )
        weights = 1 / variance if likelihood else np.ones_like(model)
        bend = np.einsum("niyx,njyx,nyx->nij", slopes, slopes, weights)
        pull = np.einsum("niyx,nyx->ni", slopes, weights * (boxes - model))
        step = np.linalg.solve(bend, pull[..., None])[..., 0]
        step[:, :2] = np.clip(step[:, :2], -0.3, 0.3)
        values += step
        values[:, :2] = np.clip(values[:, :2], -2, 2)
        values[:, 2] = np.maximum(values[:, 2], 1)
    noise = np.einsum("niyx,njyx,nyx->nij", slopes, slopes, weights**2 * variance)
    inverse = np.linalg.inv(bend)
    return values, np.sqrt((inverse @ noise @ inverse)[:, 1, 1])


# %% [markdown]
# All fits get the same spots: those found by slopes on the signal of median and mean, where just one
# molecule is near, and no emitter that never goes off.
#
# The last of the four inputs is the signal again, told that it lies higher: to all its pixels we add
# the *mean* of the background, one number. It has the noise that belongs to such a level, and no
# unevenness. In a program, that is the pedestal of the file minus this number, given as *baseline*.

# %%
spots = found  # by slopes, on the signal of median and mean
tree = KDTree(molecules * APART)
alone = np.array([len(near) == 1 for near in tree.query_ball_point(spots * APART, 7)])
gap, which = tree.query(spots * APART, p=np.inf)
spots, which = spots[alone & (gap <= 1)], which[alone & (gap <= 1)]
still = KDTree(immobile).query(spots[:, 1:])[0] > 8
spots, which = spots[still], which[still]


def boxes_of(frames):
    """Cut 7 x 7 pixels around each spot, in photo-electrons."""
    frame, y, x = (spots[:, i, None, None] for i in range(3))
    around = np.arange(-HALF, HALF + 1)
    return frames[frame, y + around[:, None], x + around] / GAIN


true_electrons = QUANTUM_EFFICIENCY * truth["photons"][which]
KEPT = "signal, level kept"
level_kept = of_chain.bkgds[0].mean().compute() - OFFSET
print(f"the mean of the background is {level_kept:.0f} counts over the camera's offset\n")
fitted = {**inputs, KEPT: inputs[CHAIN] + level_kept}
parts = {}
print(f"{len(spots)} spots                         electrons   68 % of errors of x are under")
print("                                  over truth   true (px)   stated (px)   true / stated")
for method, likelihood in (("MLE", True), ("least squares", False)):
    for name, frames in fitted.items():
        values, stated = fit(boxes_of(frames), likelihood)
        error = spots[:, 2] + values[:, 1] - truth["x"][which]
        bias = np.median(values[:, 2] / true_electrons) - 1
        parts[method, name] = error / stated
        true, typical = np.percentile(np.abs(error), 68.3), np.median(stated)
        ratio = np.percentile(np.abs(error / stated), 68.3)
        print(f"{method:14} {name:24}{bias:+5.0%} {true:11.3f} {typical:13.3f} {ratio:13.1f}")

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 3.8), sharey=True, layout="constrained")
bins = np.linspace(-6, 6, 49)
bell = np.linspace(-6, 6, 200)
for ax, method in zip(axes, ("MLE", "least squares"), strict=True):
    for name, (color, line) in {
        RAW: STYLES[RAW],
        CHAIN: STYLES[CHAIN],
        KEPT: ("#009E73", "-."),
    }.items():
        ax.hist(np.clip(parts[method, name], -6, 6), bins, density=True, histtype="step", color=color,
                ls=line, lw=2, label=name)  # fmt: skip
    ax.fill_between(
        bell, np.exp(-(bell**2) / 2) / np.sqrt(2 * np.pi), color="0.85", label="as stated"
    )
    ax.set(title=method, xlabel="error of x, in parts of the stated error", xlim=(-6, 6))
axes[0].set_ylabel("probability density")
axes[0].legend(frameon=False, fontsize="small", loc="upper left")
plt.show()

# %% [markdown]
# **See:** the grey bell is what the errors should look like.
#
# - **MLE on a signal is wrong**, silently: it loses three electrons in ten, and states errors of
#   0.07 px that really are 0.16 or more.
# - **MLE on raw frames** gets the electrons right. Its places suffer where the glow slopes: the
#   fitted floor is even, so the slope pulls at the spot (the dotted line lies left of the middle).
# - **Least squares on a signal** finds good places, as the slope is gone. The errors it states are as
#   wrong as those of MLE.
# - **A signal with its level kept** gives the best places, and true errors, with either fit.
#   It lacks some electrons: a local mean takes in some of the spot's own light, less of it at a
#   larger radius.
#
# ## So
#
# | to do this | hand over |
# |---|---|
# | find, where nothing stands still | for slopes, wavelets and the like: raw or the mean's signal; for a threshold on the level: the mean's signal |
# | find, among beads or molecules that never go off | the signal of median and mean |
# | fit, to count photons | raw frames, at the spots found on the signal |
# | fit, to place molecules over an uneven glow | the signal, with a baseline of the pedestal minus the mean background |
#
# And never fit a bare signal by maximum likelihood. In Picasso, with the two files from above and a
# background whose mean is 147 counts over the camera's offset of 100:
#
# ```python
# from picasso import io, localize
#
# signal, _ = io.load_movie("signal.raw")
# raw, _ = io.load_movie("raw.raw")
# found, _ = localize.identify(signal, 700, 7)
# camera = {"Baseline": 100, "Sensitivity": 1 / 2.2, "Gain": 1, "Pixelsize": 100}
# fits, _ = localize.fit(raw, camera_info=camera, identifications=found, box=7, fitting_method="gaussmle")
# camera["Baseline"] = 200 - 147  # the pedestal minus the mean background
# fits, _ = localize.fit(signal, camera_info=camera, identifications=found, box=7, fitting_method="gaussmle")
# ```
#
# What this movie does not show: molecules that stay on for half of the median's window, 25 frames,
# are background to it. Beads far brighter than molecules leave their shot noise behind.

# %%
folder.cleanup()
