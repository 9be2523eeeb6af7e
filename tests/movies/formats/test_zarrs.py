"""OME-Zarr images and collections of them: channels, slices, positions, and what is said of them.

Arrays and images of one movie are tested with the opening of sources.
"""

import json
import pickle
import shutil

import numpy as np
import pytest
import zarr

from smlmlp_dask import open_channels, run_spatial_mean
from smlmlp_dask.movies.acquisition import UNKNOWN, Acquisition
from smlmlp_dask.movies.formats import zarrs
from smlmlp_dask.movies.opening import open_recording, open_stacks
from smlmlp_dask.movies.selection import Selection
from smlmlp_dask.movies.stack import SourceReadError

SIZES = {"t": 5, "c": 3, "z": 4, "y": 9, "x": 7}
PIXELS = (np.arange(5 * 3 * 4 * 9 * 7) * 37 % 4099).astype(np.uint16).reshape(5, 3, 4, 9, 7)


def along(axes, **lengths):
    """Some of the pixels, with their axes in this order; one place of those left out."""
    taken = tuple(slice(lengths.get(axis, SIZES[axis])) if axis in axes else 0 for axis in "tczyx")
    order = [sorted(axes, key="tczyx".index).index(axis) for axis in axes]
    return np.transpose(PIXELS[taken], order)


def write_image(
    path, pixels, axes, *, version="0.5", scale=None, units=(), own=None, chunks=None, **attributes
):
    described = [{"name": axis, "type": "space" if axis in "zyx" else axis} for axis in axes]
    for axis, unit in dict(units).items():
        described[axes.index(axis)]["unit"] = unit
    scales = [{"type": "scale", "scale": scale or [1.0] * len(axes)}]
    multiscale = {
        "axes": described,
        "datasets": [{"path": "0", "coordinateTransformations": scales}],
        **(own or {}),
    }
    image = {"multiscales": [multiscale], "version": version, **attributes}
    group = zarr.create_group(
        path,
        attributes={"ome": image} if version == "0.5" else image,
        zarr_format=3 if version == "0.5" else 2,
    )
    group.create_array("0", data=pixels, chunks=chunks or (*[1] * (pixels.ndim - 2), 9, 7))
    return path


def stacks_of(path, **selection):
    return open_stacks(path, selection=Selection.checked(**selection))


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


@pytest.mark.parametrize("axis", ["c", "z"])
def test_an_image_without_channels_or_slices(tmp_path, axis):
    shape = [0 if name == axis else SIZES[name] for name in "tczyx"]
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


# Collections of images

XML = """<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">
<Image ID="Image:0" Name="first"/><Image ID="Image:1" Name="second"/></OME>"""


def write_images(path, paths, version="0.5", **attributes):
    zarr.create_group(
        path,
        attributes={"ome": attributes} if version == "0.5" else attributes,
        zarr_format=3 if version == "0.5" else 2,
    )
    for number, place in enumerate(paths):
        movie = along("tyx") + np.uint16(number)
        write_image(path / place, movie, "tyx", version=version, own={"name": f"image {number}"})
    return path


def write_bioformats2raw(path, paths=("0", "1"), *, version="0.4", series=("1", "0"), xml=XML):
    write_images(path, paths, version, **{"bioformats2raw.layout": 3})
    if series is not None:
        own = {"series": list(series)}
        zarr.create_group(
            path / "OME",
            attributes={"ome": own} if version == "0.5" else own,
            zarr_format=3 if version == "0.5" else 2,
        )
    if xml is not None:
        (path / "OME").mkdir(exist_ok=True)
        (path / "OME" / "METADATA.ome.xml").write_text(xml)
    return path


def write_plate(path, version="0.5"):
    wells = [{"path": "A/1", "rowIndex": 0}, {"path": "B/2", "rowIndex": 1}]
    write_images(path, ["A/1/0", "A/1/1", "B/2/0"], version, plate={"wells": wells})
    for well, fields in (("A/1", "01"), ("B/2", "0")):
        own = {"well": {"images": [{"path": field} for field in fields]}}
        zarr.create_group(
            path / well,
            attributes={"ome": own} if version == "0.5" else own,
            zarr_format=3 if version == "0.5" else 2,
        )
    return path


BY_XML, BY_GROUPS = [("first", 1), ("second", 0)], [("image 1", 1), ("image 0", 0)]
FIELDS = [("A/1/0", 0), ("A/1/1", 1), ("B/2/0", 2)]
COLLECTIONS = {
    # how it is written, then names of its positions and the number added to their pixels
    "series": (write_bioformats2raw, BY_XML),
    "series of 0.5": (lambda p: write_bioformats2raw(p, version="0.5"), BY_XML),
    "numbered": (
        lambda p: write_bioformats2raw(p, series=None),
        [("first", 0), ("second", 1)],
    ),
    "no XML": (lambda p: write_bioformats2raw(p, xml=None), BY_GROUPS),
    "damaged XML": (lambda p: write_bioformats2raw(p, xml="<OME"), BY_GROUPS),
    "XML of others": (
        lambda p: write_bioformats2raw(p, ["0", "1", "2"], series=["0", "1", "2"]),
        [("image 0", 0), ("image 1", 1), ("image 2", 2)],
    ),
    "plate": (write_plate, FIELDS),
    "plate of 0.4": (lambda p: write_plate(p, "0.4"), FIELDS),
    "well": (lambda p: write_plate(p) / "A/1", [("0", 0), ("1", 1)]),
    "group": (lambda p: write_images(p, ["b", "a/deep"]), [("a/deep", 1), ("b", 0)]),
}


@pytest.mark.parametrize("case", COLLECTIONS)
def test_positions_of_a_collection(tmp_path, case):
    build, expected = COLLECTIONS[case]
    path = build(tmp_path / "a.zarr")
    assert [position.name for position in open_recording(path).positions] == [
        name for name, _ in expected
    ]
    with pytest.raises(ValueError, match=rf"holds {len(expected)} positions \(0: {expected[0][0]}"):
        open_channels(path)
    for position, added in expected:
        [stack] = stacks_of(path, position=position)
        np.testing.assert_array_equal(stack.read(), along("tyx") + added)


def test_a_collection_of_one_needs_no_choice(tmp_path):
    path = write_bioformats2raw(tmp_path / "a.zarr", ["0"], series=["0"])
    [stack] = stacks_of(path)
    np.testing.assert_array_equal(stack.read(), along("tyx"))


def test_several_images_of_one_group(tmp_path):
    path = write_image(tmp_path / "a.zarr", along("tyx"), "tyx")
    document = json.loads((path / "zarr.json").read_text())
    first = document["attributes"]["ome"]["multiscales"][0]
    other = {**first, "datasets": [{**first["datasets"][0], "path": "other"}]}
    # the same array twice is one image: multiscales may differ in how they were made smaller
    document["attributes"]["ome"]["multiscales"] = [first, other, {**first, "name": "again"}]
    (path / "zarr.json").write_text(json.dumps(document))
    zarr.create_array(path / "other", data=along("tyx") + np.uint16(1))
    assert [position.name for position in open_recording(path).positions] == ["0", "other"]
    np.testing.assert_array_equal(stacks_of(path, position="other")[0].read(), along("tyx") + 1)


def without(build, *names):
    def write(path):
        build(path)
        for name in names:
            shutil.rmtree(path / name)
        return path

    return write


DAMAGED = {
    "image of a series": (without(write_bioformats2raw, "0"), "lists '0', which is not there"),
    "series outside": (
        lambda p: write_bioformats2raw(p, series=["../b"]),
        r"lists '\.\./b', which lies outside",
    ),
    "series of numbers": (lambda p: write_bioformats2raw(p, series=[0]), "lists 0, which lies out"),
    "no image in a series": (
        lambda p: write_bioformats2raw(p, series=["OME"]),
        "lists 'OME' as an image, which it is not",
    ),
    "nothing in a series": (
        lambda p: write_bioformats2raw(p, [], series=None, xml=None),
        "has no arrays",
    ),
    "field": (without(write_plate, "A/1/1"), "lists 'A/1/1', which is not there"),
    "well": (without(write_plate, "B"), "lists 'B/2', which is not there"),
    "plate": (lambda p: write_images(p, [], plate={"wells": [1]}), "damaged Zarr metadata"),
    "plate of nothing": (lambda p: write_images(p, [], plate={}), "damaged Zarr metadata: 'wells'"),
    "multiscales": (lambda p: write_images(p, [], multiscales=[1]), "damaged Zarr metadata"),
    "array beside images": (
        lambda p: zarr.create_array(write_images(p, "ab") / "c", data=along("tyx")) and p,
        "with 1 arrays of shape .* beside 2 OME-Zarr images",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_collections_are_refused_in_one_line(tmp_path, case):
    build, match = DAMAGED[case]
    path = build(tmp_path / "a.zarr")
    with pytest.raises(ValueError, match=match) as error:
        open_channels(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


# Stores of ours


@pytest.fixture
def backgrounds(tmp_path):
    for name in "ab":
        zarr.create_array(tmp_path / name, data=along("tyx"), chunks=(1, 9, 7))
    return run_spatial_mean([tmp_path / "a", tmp_path / "b"], tmp_path / "out.zarr")


def test_backgrounds_as_a_source_are_said_to_be_backgrounds(backgrounds):
    with pytest.warns(UserWarning, match=r"out\.zarr: it holds backgrounds, not the frames of a"):
        channels = open_channels(backgrounds.path)
    stored = [zarr.open_array(backgrounds.path / f"channel_{i}" / "0") for i in range(2)]
    for channel, expected in zip(channels, stored, strict=True):
        np.testing.assert_array_equal(channel.compute(), expected)
    [position] = open_recording(backgrounds.path).positions
    assert [known.channel for known in position.channels] == ["channel_0", "channel_1"]
    with pytest.warns(UserWarning, match="it holds backgrounds"):
        assert len(open_channels(backgrounds.path / "channel_1")) == 1
    # who names an array knows what it is
    assert len(open_channels(backgrounds.path / "channel_1" / "0")) == 1


def test_a_missing_chunk_of_backgrounds_is_no_frame_of_nan(backgrounds):
    array = backgrounds.path / "channel_1" / "0"
    next(file for file in (array / "c").rglob("*") if file.is_file()).unlink()
    [stack] = stacks_of(array)
    with pytest.raises(SourceReadError, match=r"is missing: repair it by .* verify --repair"):
        stack.read()


@pytest.mark.parametrize("inside", ["", "channel_0", "channel_0/0"])
def test_an_unfinished_store_is_no_source(backgrounds, inside):
    document = backgrounds.path / "zarr.json"
    document.write_text(document.read_text().replace('"finished": true', '"finished": false'))
    with pytest.raises(ValueError, match=r"out\.zarr is an unfinished store: .* --resume"):
        open_channels(backgrounds.path / inside)


def test_a_node_that_is_not_there(tmp_path):
    path = write_images(tmp_path / "a.zarr", "ab")
    with pytest.raises(FileNotFoundError, match=r"a\.zarr/c is no array or group of .*a\.zarr:"):
        zarrs.open(path, "c")
