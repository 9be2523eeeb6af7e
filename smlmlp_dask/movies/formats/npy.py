"""NumPy's files of one array, `.npy`."""

from pathlib import Path

import numpy as np

from smlmlp_dask.messages import one_line
from smlmlp_dask.movies.arguments import RawLayout, check_dtype
from smlmlp_dask.movies.recording import Recording

from .plain import plain_recording

# Version 3.0 is only written for structured arrays with names that are not Latin.
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def open(path: Path) -> Recording:
    """Read the header of an array (frame, y, x); pickled objects are not touched.

    Raises
    ------
    ValueError
        If the file is damaged, an archive, in Fortran order, or not one movie.
    TypeError
        If it holds no real numbers.
    """
    if path.suffix.lower() == ".npz":
        raise ValueError(
            f"{path} is an archive of arrays: save the movie alone, as in "
            "np.save('movie.npy', np.load('archive.npz')['name'])"
        )
    with path.open("rb") as file:
        try:
            read_header = _HEADERS[np.lib.format.read_magic(file)]
            shape, fortran, dtype = read_header(file)
        except OSError:
            raise
        except Exception as error:  # also those of Python's own parser, which NumPy calls
            raise ValueError(
                f"{path} has no header that NumPy can read: {one_line(error)}; save it again by "
                "np.save"
            ) from error
        header = file.tell()
    check_dtype(str(path), dtype)
    if len(shape) != 3:
        raise ValueError(
            f"{path} has shape {shape}, not (frame, y, x): save each channel or slice as a movie "
            "of its own"
        )
    if 0 in shape[1:]:
        raise ValueError(f"{path} has shape {shape}, without pixels: pass a movie")
    if fortran:
        raise ValueError(
            f"{path} is in Fortran order, in which no frame lies in one piece: save it by "
            "np.save('movie.npy', np.ascontiguousarray(movie))"
        )
    return plain_recording(
        path,
        "NumPy",
        RawLayout(shape, dtype, header),
        by="its header",
        remedy="save one array in a file, by np.save",
    )
