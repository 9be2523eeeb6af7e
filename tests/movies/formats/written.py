"""Movies written in every format that libraries, or the builders of these tests, can write.

Each function of `WRITTEN` takes a folder and channels, arrays (frame, y, x), and writes one file or
set with all of them; it returns the source, and what else `open_channels` needs to know.
"""

import importlib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tifffile
import zarr
from zarr.codecs import BloscCodec

from smlmlp_dask.movies.formats.table import FORMATS

from . import cameras, hamamatsu

HEADERLESS = "headerless"
CHUNK_FRAMES = 32


@dataclass(frozen=True)
class Written:
    """How a movie is written: in which format, by whom, and what fits in.

    `by_hand` formats have no library that writes them: their files follow what is known of files
    that their programs wrote.
    """

    format: str
    write: Callable
    several: bool = False
    dtypes: tuple[str, ...] = ("uint16", "float32")
    by_hand: bool = False
    reads_as: str = ""

    @property
    def is_installed(self):
        """Whether movies of this format can be read here."""
        return self.format == HEADERLESS or next(
            known.is_installed for known in FORMATS if known.name == self.format
        )


def builder(name):
    """Import the module of a format's tests, where its builder is: it needs the format's reader."""
    return importlib.import_module(f"{__package__}.test_{name}")


def chunks_of(movie):
    return (min(CHUNK_FRAMES, max(1, len(movie))), *movie.shape[1:])


def zarr_array(folder, movie, **options):
    array = zarr.create_array(
        folder / "movie.zarr",
        shape=movie.shape,
        dtype=movie.dtype,
        chunks=chunks_of(movie),
        **options,
    )
    array[:] = movie
    return folder / "movie.zarr"


def blosc(folder, movie):
    codec = BloscCodec(cname="zstd", clevel=3, shuffle="shuffle")
    return zarr_array(folder, movie, compressors=codec)


def zarr2(folder, movie):
    return zarr_array(folder, movie, zarr_format=2)


def ome_zarr(folder, *channels):
    axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space"} for name in "yx"]
    scale = [{"type": "scale", "scale": [1.0, 1.0, 0.1, 0.1]}]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    group = zarr.create_group(
        folder / "movie.zarr", attributes={"ome": {"version": "0.5", "multiscales": [image]}}
    )
    first = channels[0]
    array = group.create_array(
        "0",
        shape=(len(first), len(channels), *first.shape[1:]),
        chunks=(chunks_of(first)[0], 1, *first.shape[1:]),
        dtype=first.dtype,
    )
    for number, movie in enumerate(channels):
        array[:, number] = movie
    return folder / "movie.zarr"


def zipped(folder, movie):
    path = zarr_array(folder, movie)
    with zipfile.ZipFile(folder / "movie.zip", "w") as archive:
        for file in sorted(path.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(path))
    return folder / "movie.zip"


def tiff(folder, movie, **options):
    path = folder / "movie.tif"
    tifffile.imwrite(path, movie, photometric="minisblack", **options)
    return path


def pages(folder, movie, **options):
    """Write a page a frame, with texts between them as cameras write."""
    with tifffile.TiffWriter(folder / "movie.tif", bigtiff=True) as writer:
        for number, frame in enumerate(movie):
            text = f"frame {number}"
            writer.write(frame, photometric="minisblack", metadata=None, software=text, **options)
    return folder / "movie.tif"


def zstd_pages(folder, movie):
    return pages(folder, movie, compression="zstd", predictor=True)


def imagej(folder, *channels):
    path, stacked = folder / "movie.tif", np.stack(channels, 1)
    tifffile.imwrite(path, stacked, imagej=True, metadata={"axes": "TCYX"})
    return path


def ome_tiff(folder, *channels):
    path, stacked = folder / "movie.ome.tif", np.stack(channels, 1)
    tifffile.imwrite(path, stacked, photometric="minisblack", metadata={"axes": "TCYX"})
    return path


def tiff_folder(folder, movie):
    for number, frame in enumerate(movie):
        tifffile.imwrite(folder / f"frame_{number:05}.tif", frame, photometric="minisblack")
    return folder


def npy(folder, movie):
    np.save(folder / "movie.npy", movie)
    return folder / "movie.npy"


def picasso(folder, movie):
    changes = {"Data Type": movie.dtype.name}
    changes |= zip(("Frames", "Height", "Width"), movie.shape, strict=True)
    return builder("picasso").write(folder / "movie.raw", movie, **changes)


def dax(folder, movie):
    count, height, width = movie.shape
    movie.astype(">u2").tofile(folder / "movie.dax")
    (folder / "movie.inf").write_text(
        "data type = 16 bit integers (binary, big endian)\n"
        f"frame dimensions = {width} x {height}\nnumber of frames = {count}\n"
    )
    return folder / "movie.dax"


def raw(folder, movie):
    movie.astype(movie.dtype.newbyteorder(">")).tofile(folder / "movie.bin")
    described = {"raw_shape": movie.shape, "raw_dtype": movie.dtype.newbyteorder(">").str}
    return folder / "movie.bin", described


def hdf5(folder, movie, **options):
    return builder("hdf5").write(folder / "movie.h5", movie, **options)


def hdf5_gzip(folder, movie):
    return hdf5(folder, movie, chunks=(1, *movie.shape[1:]), compression=1, shuffle=True)


def ims(folder, *channels):
    stacked = np.stack(channels, 1)[:, :, None]
    tile = [min(256, length) for length in stacked.shape[3:]]
    return builder("ims").write(
        folder / "movie.ims", stacked, image={}, channels=[{}] * len(channels), times={},
        chunk=(1, *tile), compression=2, shuffle=True,
    )  # fmt: skip


def nd2(folder, *channels, **options):
    pixels = np.stack(channels, 3)
    return builder("nd2").write(folder / "movie.nd2", pixels, "T", frames=len(pixels), **options)


def czi(folder, *channels, **options):
    return builder("czi").write(folder / "movie.czi", "TC", np.stack(channels, 1), **options)


def lif(folder, *channels):
    lif = builder("lif")
    return lif.write(folder / "movie.lif", lif.image("movie", "TCYX", np.stack(channels, 1)))


def oif(folder, *channels):
    return builder("oif").write(folder / "movie.oif", "TC", np.stack(channels, 1))


def camera(name, ending):
    return lambda folder, movie: getattr(cameras, name)(folder / f"movie{ending}", movie)


def dcimg(folder, movie):
    return hamamatsu.write_dcimg(folder / "movie.dcimg", movie, row=len(movie[0]) // 2)


U2 = ("uint16",)

WRITTEN = {
    "Zarr": Written("Zarr", blosc),
    "Zarr 2": Written("Zarr", zarr2),
    "OME-Zarr": Written("Zarr", ome_zarr, several=True),
    "Zarr zip": Written("Zarr", zipped),
    "TIFF": Written("TIFF", tiff),
    "BigTIFF pages": Written("TIFF", pages),
    "BigTIFF zstd": Written("TIFF", zstd_pages),
    "ImageJ": Written("TIFF", imagej, several=True),
    "OME-TIFF": Written("TIFF", ome_tiff, several=True),
    "TIFF folder": Written("TIFF", tiff_folder),
    "NumPy": Written("NumPy", npy),
    "Picasso": Written("Picasso", picasso),
    "DAX": Written("DAX", dax, dtypes=U2),
    "headerless": Written(HEADERLESS, raw),
    "HDF5": Written("HDF5", hdf5),
    "HDF5 gzip": Written("HDF5", hdf5_gzip),
    "Imaris": Written("Imaris", ims, several=True),
    "ND2": Written("ND2", nd2, several=True, by_hand=True),
    "ND2 zip": Written("ND2", lambda *given: nd2(*given, packed=True), several=True, by_hand=True),
    "CZI": Written("CZI", czi, several=True, by_hand=True),
    "CZI zstd": Written("CZI", lambda *given: czi(*given, code=5), several=True, by_hand=True),
    "LIF": Written("LIF", lif, several=True, by_hand=True),
    "OIF": Written("OIF", oif, several=True, dtypes=U2, by_hand=True),
    "SIF": Written("SIF", camera("write_sif", ".sif"), by_hand=True, reads_as="float32"),
    "Andor spool": Written("Andor spool", camera("write_spool", ""), dtypes=U2, by_hand=True),
    "SPE 2": Written("SPE", camera("write_spe", ".spe"), by_hand=True),
    "SPE 3": Written("SPE", camera("write_spe3", ".spe"), by_hand=True),
    "CINE": Written("CINE", camera("write_cine", ".cine"), dtypes=U2, by_hand=True),
    "SEQ": Written("SEQ", camera("write_seq", ".seq"), dtypes=U2, by_hand=True),
    "DCIMG": Written("DCIMG", dcimg, dtypes=U2, by_hand=True),
}


def write(name, folder, *channels):
    """Write channels, in one source if they fit into one; return sources and options."""
    written = WRITTEN[name]
    together = written.several and len({channel.shape for channel in channels}) == 1
    sources, options = [], {}
    for number, movies in enumerate([channels] if together else [[c] for c in channels]):
        place = folder / str(number)
        place.mkdir()
        source = written.write(place, *movies)
        if isinstance(source, tuple):
            source, options = source
        sources.append(source)
    return sources, options
