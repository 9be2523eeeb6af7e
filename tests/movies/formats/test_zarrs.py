"""Images in Zarr: their channels and slices, and what OME-Zarr says of them.

Arrays and images of one movie are tested with the opening of sources.
"""

import json
import pickle

import numpy as np
import pytest
import zarr

from smlmlp_dask import open_channels
from smlmlp_dask.movies.acquisition import UNKNOWN, Acquisition
from smlmlp_dask.movies.stack import SourceReadError
from tests.ome_zarr import PIXELS, SIZES, along, stacks_of, write_image

# Channels and slices

IMAGES = [
    # axes, lengths, z=, the channels as an index of PIXELS, and why
    ("tcyx", {}, None, np.s_[:, :, 0], "channels inside of frames"),
    ("ctyx", {}, None, np.s_[:, :, 0], "a channel after the other"),
    ("tczyx", {"z": 1}, None, np.s_[:, :, 0], "five axes, as most programs write"),
    ("tczyx", {}, 2, np.s_[:, :, 2], "one of several slices"),
    ("tczyx", {"c": 1}, 3, np.s_[:, :1, 3], "slices of one channel"),
    ("tzyx", {}, 1, np.s_[:, :1, 1], "slices without channels"),
    ("zctyx", {}, 3, np.s_[:, :, 3], "the slowest axis is z"),
    ("cztyx", {}, 0, np.s_[:, :, 0], "frames vary fastest"),
    ("tcyx", {"t": 1}, None, np.s_[:1, :, 0], "one frame in three channels, no movie of three"),
]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(("axes", "lengths", "z", "taken", "why"), IMAGES)
def test_channels_of_an_image(tmp_path, version, axes, lengths, z, taken, why):
    path = write_image(tmp_path / "a.zarr", along(axes, **lengths), axes, version=version)
    expected = np.moveaxis(PIXELS[taken], 1, 0)
    for source in (path, path / "0"):
        stacks = stacks_of(source, z=z)
        assert len(stacks) == len(expected), why
        for stack, pixels in zip(stacks, expected, strict=True):
            np.testing.assert_array_equal(stack.read(), pixels, err_msg=why)


@pytest.mark.parametrize("axes", ["czyx", "tczyx"])
def test_frames_may_be_called_z_where_time_has_no_length(tmp_path, axes):
    path = write_image(tmp_path / "a.zarr", along(axes, t=1), axes)
    for channel, stack in enumerate(stacks_of(path)):
        np.testing.assert_array_equal(stack.read(), PIXELS[0, channel])


NAMED = [
    (["t", "c", "y", "x"], "tcyx"),
    (["T", "Z", "Y", "X"], "tzyx"),
    (["channel", "time", "row", "column"], "ctyx"),
]


@pytest.mark.parametrize(("names", "axes"), NAMED)
@pytest.mark.parametrize("where", ["array", "group", "xarray"])
def test_arrays_with_named_axes(tmp_path, names, axes, where):
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=2 if where == "xarray" else 3)
    if where == "xarray":
        group.create_array("movie", data=along(axes)).attrs["_ARRAY_DIMENSIONS"] = names
    else:
        group.create_array("movie", data=along(axes), dimension_names=names)
    group.create_array("time", data=np.arange(5))
    source = tmp_path / "a.zarr" if where == "group" else tmp_path / "a.zarr" / "movie"
    z = 2 if "z" in axes else None
    stacks = stacks_of(source, z=z)
    assert len(stacks) == (3 if "c" in axes else 1)
    for channel, stack in enumerate(stacks):
        np.testing.assert_array_equal(stack.read(), PIXELS[:, channel, z or 0])
        assert stack.acquisition == UNKNOWN


REFUSED = [
    (
        ["t", "y", "x", "c"],
        r"axes tyxc\), not .*: name its axes, of t, c, z, y, x, .* x last",
    ),
    (["t", "wavelength", "y", "x"], r"axes t, wavelength, y, x\), not"),
    (["t", "t", "y", "x"], r"axes ttyx\), not"),
    (None, r"axes unnamed\), not .*: name its axes"),
]


@pytest.mark.parametrize(("names", "match"), REFUSED)
def test_axes_that_cannot_be_told_apart(tmp_path, names, match):
    data = np.zeros((5, 3, 9, 7), "u2")
    zarr.create_array(tmp_path / "a.zarr", data=data, dimension_names=names)
    with pytest.raises(ValueError, match=match):
        open_channels(tmp_path / "a.zarr")


@pytest.mark.parametrize(("axis", "frames"), [("c", 1), ("c", 5), ("z", 5)])
def test_an_image_without_channels_or_slices(tmp_path, axis, frames):
    shape = [0 if name == axis else SIZES[name] for name in "tczyx"]
    shape[0] = frames
    write_image(tmp_path / "a.zarr", np.zeros(shape, "u2"), "tczyx", chunks=(1, 1, 1, 9, 7))
    with pytest.raises(ValueError, match="without pixels: pass a movie"):
        open_channels(tmp_path / "a.zarr")


@pytest.mark.parametrize("chunks", [(2, 2, 3, 4, 7), (5, 3, 4, 9, 7), (1, 8, 1, 9, 7)])
@pytest.mark.parametrize("shards", [False, True])
def test_a_chunk_of_several_channels_is_decoded_with_all(tmp_path, chunks, shards):
    options = {"shards": tuple(2 * chunk for chunk in chunks)} if shards else {}
    array = zarr.create_array(
        tmp_path / "a.zarr", data=PIXELS, chunks=chunks, dimension_names="tczyx", **options
    )
    for channel, stack in enumerate(stacks_of(tmp_path / "a.zarr", z=3)):
        np.testing.assert_array_equal(stack.read(), PIXELS[:, channel, 3])
        assert stack.movie.unit == (chunks[0], *chunks[3:])
        held = stack.decoding
        assert held.unit == stack.movie.unit
        assert held.unit_bytes >= 2 * PIXELS.itemsize * np.prod(array.chunks)
        assert held.together * held.unit_bytes <= max(held.unit_bytes, 2**26)


def test_frames_boxes_and_flips_of_a_channel(tmp_path):
    path = write_image(tmp_path / "a.zarr", along("tcyx"), "tcyx", chunks=(2, 2, 4, 3))
    [channel] = open_channels(
        path,
        channels=[2],
        frames=slice(None, None, -2),
        bboxes=[[(1, 2, 6, 8)]],
        flips=[(True, True)],
    )
    expected = PIXELS[::-2, 2, 0, 2:8, 1:6][:, ::-1, ::-1]
    np.testing.assert_array_equal(channel.compute(scheduler="threads", num_workers=8), expected)


def test_a_corrupt_chunk_of_a_channel_is_named(tmp_path):
    path = write_image(tmp_path / "a.zarr", along("tcyx"), "tcyx", chunks=(1, 2, 9, 7))
    (path / "0" / "c" / "4" / "1" / "0" / "0").write_bytes(b"corrupt")
    first, _, third = stacks_of(path)
    np.testing.assert_array_equal(first.read(), PIXELS[:, 0, 0])
    with pytest.raises(SourceReadError, match=r"a\.zarr/0: chunk c/4/1/0/0 \(frame 4\)"):
        third.read()


def test_a_missing_chunk_of_a_channel_is_its_fill_value(tmp_path):
    path = write_image(tmp_path / "a.zarr", along("tcyx"), "tcyx")
    (path / "0" / "c" / "4" / "1" / "0" / "0").unlink()
    with pytest.warns(UserWarning, match="1 of 15 chunks of .* have no file, and are read as 0"):
        _, second, third = (stack.read() for stack in stacks_of(path))
    assert not second[4].any()
    np.testing.assert_array_equal(second[:4], PIXELS[:4, 1, 0])
    np.testing.assert_array_equal(third, PIXELS[:, 2, 0])


def test_a_task_is_small(tmp_path):
    stack = stacks_of(write_image(tmp_path / "a.zarr", along("tczyx"), "tczyx"), z=0)[1]
    assert len(pickle.dumps(stack)) < 10_000
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(stack)).read(), PIXELS[:, 1, 0])


# What is said of the pixels

S = {"t": "second"}
UM = {"y": "micrometer", "x": "micrometer"}
NM = {"y": "nanometer", "x": "nanometer"}
MIXED = {"t": "minute", "y": "angstrom", "x": "millimeter"}
SAID = [
    # scale of t, c, y, x, units, scale of the multiscale, what is said, and why
    ([0.05, 1, 0.1, 0.2], S | UM, None, (0.1, 0.2), 0.05, "as most programs write"),
    ([50, 1, 107, 108], {"t": "millisecond"} | NM, None, (0.107, 0.108), 0.05, "small units"),
    ([1, 1, 2, 2], MIXED, None, (2e-4, 2000.0), 60.0, "mixed units"),
    ([1, 1, 0.1, 0.1], {"y": "µm", "x": "um"}, None, (0.1, 0.1), None, "symbols; no unit of time"),
    ([2, 1, 2, 3], S | NM, [0.5, 1, 50, 100], (0.1, 0.3), 1.0, "both scales count"),
    ([1, 1, 0.1, 0.1], {}, None, (0.1, 0.1), None, "micrometres where no unit is said"),
    ([1, 1, 1, 1], {}, None, None, None, "1 without a unit says nothing"),
    ([1, 1, 1, 1], S | UM, None, None, None, "nor if all are 1: programs write it with units, too"),
    ([0.05, 1, 1, 1], S | UM, None, (1.0, 1.0), 0.05, "1 with a unit, beside what is known"),
    ([1, 1, 0.1, 0.1], {"y": "furlong", "x": "furlong"}, None, None, None, "an unknown unit"),
    ([0, 1, 0.1, -0.1], S | UM, None, None, None, "no such pixel"),
    ([1, 1, 0.1], UM, None, None, None, "a scale of other axes"),
]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(("scale", "units", "whole", "pixel", "interval", "why"), SAID)
def test_pixel_size_and_interval(tmp_path, version, scale, units, whole, pixel, interval, why):
    steps = [{"type": "scale", "scale": whole}] if whole else []
    path = write_image(
        tmp_path / "a.zarr",
        along("tcyx"),
        "tcyx",
        version=version,
        scale=scale,
        units=units,
        own={"coordinateTransformations": steps},
    )
    for stack in stacks_of(path):
        if pixel is None:
            assert stack.acquisition.pixel_size_um is None, why
        else:
            assert stack.acquisition.pixel_size_um == pytest.approx(pixel), why
        assert stack.acquisition.frame_interval_s == interval, why
    assert stacks_of(path / "0")[0].acquisition == stacks_of(path)[0].acquisition


def test_coordinate_systems_of_ome_zarr_0_6(tmp_path):
    path = write_image(tmp_path / "a.zarr", along("ctyx"), "ctyx", units=S | NM)
    document = json.loads((path / "zarr.json").read_text())
    multiscale = document["attributes"]["ome"]["multiscales"][0]
    axes = multiscale.pop("axes")
    multiscale["coordinateSystems"] = [
        {"name": "world", "axes": axes[::-1]},
        {"name": "intrinsic", "axes": axes},
    ]
    steps = [
        {"type": "scale", "scale": [1, 2, 100, 110]},
        {"type": "translation", "translation": [0, 0, 5, 5]},
    ]
    placed = {"type": "sequence", "transformations": steps, "output": {"name": "intrinsic"}}
    multiscale["datasets"][0]["coordinateTransformations"] = [placed]
    elsewhere = {"type": "scale", "scale": [9, 9, 9, 9], "output": {"name": "world"}}
    multiscale["coordinateTransformations"] = [elsewhere]
    (path / "zarr.json").write_text(json.dumps(document))
    for channel, stack in enumerate(stacks_of(path)):
        np.testing.assert_array_equal(stack.read(), PIXELS[:, channel, 0])
        assert stack.acquisition.pixel_size_um == pytest.approx((0.1, 0.11))
        assert stack.acquisition.frame_interval_s == 2


def test_frames_called_z_have_no_interval(tmp_path):
    path = write_image(
        tmp_path / "a.zarr",
        along("tzyx", t=1),
        "tzyx",
        scale=[0.5, 0.3, 0.1, 0.1],
        units={"t": "second", "z": "micrometer"},
    )
    [stack] = stacks_of(path)
    assert stack.acquisition == Acquisition(pixel_size_um=(0.1, 0.1))


LABELS = [{"label": "red", "color": "FF0000"}, {"label": " ", "color": "#00ff00"}, {"color": 255}]
CHANNELS = [
    ({"channels": LABELS}, [("red", "FF0000"), (None, "00FF00"), (None, None)]),
    ({"channels": LABELS[:2]}, [(None, None)] * 3),  # nothing tells which is which
    ({"channels": None}, [(None, None)] * 3),
    ({"channels": [1, 2, 3]}, [(None, None)] * 3),
    ("damaged", [(None, None)] * 3),
]


@pytest.mark.parametrize(("omero", "expected"), CHANNELS)
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_names_and_colours_of_channels(tmp_path, version, omero, expected):
    path = write_image(tmp_path / "a.zarr", along("tcyx"), "tcyx", version=version, omero=omero)
    for source in (path, path / "0"):
        found = [stack.acquisition for stack in stacks_of(source)]
        assert [(known.channel, known.colour) for known in found] == expected


def test_a_channel_is_chosen_by_its_label(tmp_path):
    path = write_image(tmp_path / "a.zarr", along("tcyx"), "tcyx", omero={"channels": LABELS})
    [stack] = stacks_of(path, channels=["red"])
    np.testing.assert_array_equal(stack.read(), PIXELS[:, 0, 0])
