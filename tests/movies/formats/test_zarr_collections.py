"""Collections of OME-Zarr images are positions; stores of ours are said to hold backgrounds."""

import json
import shutil

import numpy as np
import pytest
import zarr

from smlmlp_dask import open_channels, run_spatial_mean
from smlmlp_dask.movies.acquisition import Acquisition
from smlmlp_dask.movies.formats import zarrs
from smlmlp_dask.movies.opening import open_recording
from smlmlp_dask.movies.stack import SourceReadError
from tests.ome_zarr import along, stacks_of, write_image

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
    zipped = shutil.make_archive(str(backgrounds.path), "zip", backgrounds.path)
    with pytest.warns(UserWarning, match=r"out\.zarr\.zip: it holds backgrounds"):
        assert len(open_channels(zipped)) == 2
    # who names an array knows what it is
    assert len(open_channels(backgrounds.path / "channel_1" / "0")) == 1


def test_channels_of_ours_have_what_their_own_groups_say(backgrounds):
    document = backgrounds.path / "channel_1" / "zarr.json"
    group = json.loads(document.read_text())
    ome = group["attributes"]["ome"]
    ome["omero"] = {"channels": [{"label": "far red", "color": "FF0000"}]}
    [dataset] = ome["multiscales"][0]["datasets"]
    dataset["coordinateTransformations"] = [{"type": "scale", "scale": [1, 0.1, 0.1]}]
    document.write_text(json.dumps(group))
    [position] = open_recording(backgrounds.path).positions
    assert position.channels == (
        Acquisition(channel="channel_0", colour="FFFFFF"),
        Acquisition(channel="far red", colour="FF0000", pixel_size_um=(0.1, 0.1)),
    )


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
