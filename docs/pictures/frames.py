"""Draw the first picture of README and site, of simulated data: python docs/pictures/frames.py."""

from pathlib import Path

from smlmlp_dask import bkgd_spatial_mean, simulate_movie
from smlmlp_dask.pictures.frames import plot_channels

FRAME = 20

movie = simulate_movie(FRAME + 1, 72, 96, seed=7, events_per_frame=10).movie
(background,), _, info = bkgd_spatial_mean([movie], 7.0)
figure = plot_channels(
    [movie[FRAME].compute()],
    [background[FRAME].compute()],
    titles=["Simulated molecules"],
    radii_pix=info["channels_mean_radii_pix"],
    frame=FRAME,
)
figure.savefig(Path(__file__).with_name("frames.png"), dpi=72, pil_kwargs={"optimize": True})
