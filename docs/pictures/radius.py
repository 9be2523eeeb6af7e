"""Draw the picture of a suggested radius, of simulated data: python docs/pictures/radius.py."""

from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from smlmlp_dask import simulate_movie, suggest_radius

with TemporaryDirectory() as folder:
    movie = Path(folder, "movie.npy")
    shown = simulate_movie(600, 160, 160, seed=5, photons=2000, events_per_frame=8)
    np.save(movie, shown.movie.compute())
    figure = suggest_radius(movie).plot()
drawn = BytesIO()
figure.savefig(drawn, dpi=72)
few_colours = Image.open(drawn).convert("RGB").quantize(96)
few_colours.save(Path(__file__).with_name("radius.png"), optimize=True)
