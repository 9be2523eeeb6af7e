"""The table in docs/movies.md is true: positions, channels and settings are read as it says."""

import numpy as np
import pytest
import tifffile
import zarr

from smlmlp_dask.movies.formats.table import FORMATS
from smlmlp_dask.movies.opening import open_recording
from tests.ome_zarr import write_image

from . import cameras, hamamatsu
from .test_table import ROWS
from .written import builder, camera, write

MOVIE = np.arange(4 * 2 * 3 * 9 * 8, dtype=np.uint16).reshape(4, 2, 3, 9, 8)  # frame, c, z, y, x
FRAMES = MOVIE[:, 0, 0]
WORDS = {
    "name": "channel",
    "colour": "colour",
    "pixel": "pixel_size_um",
    "interval": "frame_interval_s",
    "exposure": "exposure_s",
    "gain": "gain",
    "baseline": "baseline",
}
"""Words of the table, and what they stand for in an `Acquisition`."""


def ome_zarr(path):
    zarr.create_group(
        path / "a.zarr", attributes={"ome": {"bioformats2raw.layout": 3, "version": "0.5"}}
    )
    omero = {"channels": [{"label": "Cy3", "color": "00FF00"}, {"label": "Cy5", "color": "FF0000"}]}
    units = {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}
    for number in range(2):
        write_image(
            path / f"a.zarr/{number}", MOVIE, "tczyx", scale=[0.05, 1.0, 1.0, 0.1, 0.1],
            units=units, chunks=MOVIE.shape, omero=omero,
        )  # fmt: skip
    return path / "a.zarr"


def ome_tiff(path):
    about = {"axes": "TCZYX", "TimeIncrement": 0.05, "TimeIncrementUnit": "s"}
    about |= {f"PhysicalSize{axis}": 0.1 for axis in "XY"}
    about |= {f"PhysicalSize{axis}Unit": "µm" for axis in "XY"}
    about["Channel"] = {"Name": ["Cy3", "Cy5"], "Color": [0x00FF00FF, 0x7F0000FF]}
    count = MOVIE[..., 0, 0].size
    about["Plane"] = {"ExposureTime": [0.02] * count, "ExposureTimeUnit": ["s"] * count}
    with tifffile.TiffWriter(path / "a.ome.tif", ome=True) as writer:
        for _ in range(2):
            writer.write(MOVIE, photometric="minisblack", metadata=about)
    return path / "a.ome.tif"


def nd2(path):
    nd2 = builder("nd2")
    return nd2.write(path / "a.nd2", nd2.images(12, 2), "TPZ")


def czi(path):
    czi = builder("czi")
    pixels = czi.numbers(2, 4, 2, 2, 4, 5)
    times = [60.0, 60.03, 60.07, 70.0]
    return czi.write(path / "a.czi", "STCZ", pixels, times=times, metadata=czi.CHANNELS)


def lif(path):
    lif = builder("lif")
    images = [lif.image(name, "TCZYX", MOVIE) for name in "ab"]
    return lif.write(path / "a.lif", *images)


def oif(path):
    return builder("oif").write(path / "a.oif", "TCZ", MOVIE)


def ims(path):
    return builder("ims").write(path / "a.ims", np.tile(MOVIE, (3, 1, 1, 1, 1))[:11])


def hdf5(path):
    hdf5 = builder("hdf5")
    path = hdf5.write(path / "a.h5", MOVIE, axes="tczyx")
    with hdf5.h5py.File(path, "a") as file:
        file["data"].attrs["element_size_um"] = [1, 0.1, 0.1]
    return path


def spe(path):
    return cameras.write_spe3(path / "a.spe", FRAMES, FRAMES)


def dcimg(path):
    return hamamatsu.write_dcimg(path / "a.dcimg", np.tile(FRAMES, (4, 1, 1)))


def picasso(path):
    info = {"Pixelsize": 130, "Camera.Integration Time": 50, "Baseline": 100}
    info |= {"Sensitivity": 0.5, "Gain": 2}
    t, y, x = FRAMES.shape
    return builder("picasso").write(path / "a.raw", FRAMES, Frames=t, Height=y, Width=x, **info)


def plain(name):
    return lambda path: write(name, path, FRAMES)[0][0]


RICH = {
    "Zarr": ome_zarr,
    "TIFF": ome_tiff,
    "ND2": nd2,
    "CZI": czi,
    "LIF": lif,
    "OIF": oif,
    "Imaris": ims,
    "HDF5": hdf5,
    "SIF": lambda path: camera("write_sif", ".sif")(path, FRAMES),
    "Andor spool": lambda path: cameras.write_spool(path / "spool", FRAMES),
    "SPE": spe,
    "CINE": lambda path: camera("write_cine", ".cine")(path, FRAMES),
    "SEQ": lambda path: camera("write_seq", ".seq")(path, FRAMES),
    "DCIMG": dcimg,
    "Picasso": picasso,
    "DAX": plain("DAX"),
    "NumPy": plain("NumPy"),
}
"""Writers of a file of each format with all that it can tell."""


@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
def test_the_readme_says_what_is_read(tmp_path, known):
    if not known.is_installed:
        pytest.skip(f"the reader of {known.name} is not installed")
    [row] = [row for row in ROWS if known.name in row[0].split(" (")[0].split(", ")]
    positions = open_recording(RICH[known.name](tmp_path)).positions
    channels = positions[0].channels
    axes = {"P": len(positions), "C": len(channels), "Z": positions[0].depth}
    assert row[3].split() == [axis for axis, length in axes.items() if length > 1]
    told = {name for channel in channels for name in channel.to_attributes()}
    assert [WORDS[word] for word in filter(None, row[4].split(", "))] == [
        name for name in WORDS.values() if name in told
    ]
    assert told <= {*WORDS.values()}
