"""OIF, in files made by hand: FluoView's settings, and a TIFF for each frame."""

from itertools import product
from math import prod

import numpy as np
import pytest
from tifffile import imwrite

from smlmlp_dask import open_channels
from smlmlp_dask.movies.opening import open_recording, source_roots
from smlmlp_dask.movies.stack import SourceReadError

from .contract import assert_reads_all

oiffile = pytest.importorskip("oiffile", "2026.10.15", reason="the reader of OIF needs Python 3.12")

CODES = "XYCZTALP"


def write(path, axes, pixels, *, lacking=(), prefixes=("s",), order=None):
    """Write frames (y, x) over the axes; their names have the axes in another order."""
    sizes = dict(zip(axes + "YX", pixels.shape, strict=True))
    lines = ["[ProfileSaveInfo]", 'Name="movie"', 'Version="1"']
    lines += ["[Axis Parameter Common]", f'AxisOrder="XY{axes[::-1]}"']
    for number, code in enumerate(CODES):
        lines += [f"[Axis {number} Parameters Common]", f'AxisCode="{code}"']
        lines += [f"MaxSize={sizes.get(code, 0)}"]
    lines += ["[Reference Image Parameter]", "HeightConvertValue=0.25", "WidthConvertValue=0.125"]
    lines += ['HeightUnit="um"', 'WidthUnit="um"', "ValidBitCounts=12"]
    lines += ["[GUI Channel 1 Parameters]", 'CH Name="CH1"', 'DyeName="dye"']
    lines += ["[GUI Channel 2 Parameters]", 'CH Name="CH2"', 'DyeName=""']
    path.write_bytes("\r\n".join(lines).encode("utf-16"))
    folder = path.with_name(path.name + ".files")
    folder.mkdir()
    for prefix, at in product(prefixes, product(*(range(sizes[axis]) for axis in axes))):
        if at not in lacking:
            numbers = dict(zip(axes, at, strict=True))
            name = "".join(f"{axis}{numbers[axis] + 1:03d}" for axis in sorted(axes))
            imwrite(folder / f"{prefix}_{name}.tif", pixels[at])
    imwrite(folder / "s_C001-R.tif", pixels[(0,) * len(axes)])  # a reference image
    return path


def numbers(*shape, dtype="u2"):
    return np.arange(prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize(
    ("axes", "shape"),
    [("TZC", (3, 2, 2)), ("TC", (3, 2)), ("CT", (2, 3)), ("ZC", (2, 1)), ("T", (3,)), ("C", (2,))],
)
def test_every_channel_and_slice_is_what_the_library_reads(tmp_path, axes, shape, dtype):
    path = write(tmp_path / "a.oif", axes, numbers(*shape, 4, 5, dtype=dtype))
    read = oiffile.imread(path).reshape(*shape, 4, 5)
    assert_reads_all(path, "OIF", read, f"{axes}YX")
    assert source_roots(path) == [path, tmp_path / "a.oif.files"]


def test_how_it_was_recorded(tmp_path):
    path = write(tmp_path / "a.oif", "TC", numbers(3, 2, 4, 5))
    first, second = open_recording(path).positions[0].channels
    assert first.to_attributes() == {"channel": "dye", "pixel_size_um": (0.25, 0.125)}
    assert second.channel == "CH2"


def test_frames_that_are_not_there_are_not_zeros(tmp_path):
    pixels = numbers(3, 2, 4, 5) + 1
    path = write(tmp_path / "a.oif", "TC", pixels, lacking=[(2, 0)])
    assert not oiffile.imread(path).all()  # the library's zeros
    with pytest.raises(ValueError, match="cut short: it should hold 3 frames, 2 are there"):
        open_channels(path)
    for channel, stack in enumerate(open_channels(path, frames=slice(0, 2))):
        np.testing.assert_array_equal(
            stack.compute(scheduler="threads", num_workers=8), pixels[:2, channel]
        )


@pytest.mark.parametrize(
    ("axes", "shape", "more", "said"),
    [
        ("TL", (3, 2), {}, "has the axes T, L, Y, X: save frames over T, Z, C as TIFF"),
        ("T", (3,), {"prefixes": "ab"}, "has 2 series of frames"),
        ("T", (3,), {"lacking": [(0,), (1,), (2,)]}, "has 0 series of frames"),
    ],
)
def test_what_is_refused(tmp_path, axes, shape, more, said):
    path = write(tmp_path / "a.oif", axes, numbers(*shape, 4, 5), **more)
    with pytest.raises(ValueError, match=f"^{path} {said}"):
        open_channels(path)


def test_more_frames_than_the_axes_say(tmp_path):
    path = write(tmp_path / "a.oif", "T", numbers(3, 4, 5))
    imwrite(tmp_path / "a.oif.files" / "s_T004.tif", numbers(4, 5))
    with pytest.raises(ValueError, match="has 4 frames, other ones than its axes say"):
        open_channels(path)


@pytest.mark.parametrize("name", ["a.oif", "a.oib"])
def test_what_is_no_oif(tmp_path, name):
    (tmp_path / name).write_bytes(b"no OIF")
    with pytest.raises(ValueError, match=f"^{tmp_path / name} cannot be read as OIF: "):
        open_channels(tmp_path / name)


def test_an_oif_without_its_folder(tmp_path):
    path = write(tmp_path / "a.oif", "T", numbers(3, 4, 5))
    (tmp_path / "a.oif.files").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="storage path not found.*an OIF with its folder"):
        open_channels(path)


def test_a_frame_that_is_cut_short(tmp_path):
    path = write(tmp_path / "a.oif", "T", numbers(3, 40, 50))
    (stack,) = open_channels(path)
    frame = tmp_path / "a.oif.files" / "s_T002.tif"
    frame.write_bytes(frame.read_bytes()[:-1])
    with pytest.raises(SourceReadError, match="frames 0-2 cannot be read: .*s_T002.tif is cut"):
        stack.compute(scheduler="threads")
