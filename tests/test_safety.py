"""Nothing in a source's metadata is executed, unpickled, or followed out of the source."""

import json
import pickle
import socket
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from smlmlp_dask.lazy.channels import open_channels
from smlmlp_dask.messages import one_line, printable, printable_errors
from smlmlp_dask.movies.stack import SourceReadError

from .commands import call
from .memory import needs_proc

MOVIE = (np.arange(5 * 9 * 7) * 37 % 4099).astype(np.uint16).reshape(5, 9, 7)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of sources, with something beside it that nobody asked to read."""
    secret = tmp_path / "secret"
    secret.mkdir()
    zarr.create_array(secret / "array.zarr", data=MOVIE + 1)
    tifffile.imwrite(secret / "other.ome.tif", MOVIE + 1, photometric="minisblack")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    return tmp_path / "folder"


def pixels(*sources):
    (channel,) = open_channels(*sources)
    return channel.compute()


def pixels_or_refusal(name, *, but="\n"):
    """Return the pixels, or None where the file is refused: either is safe."""
    try:
        return pixels(name)
    except (ValueError, SourceReadError) as error:
        message = str(error)
    assert name in message
    assert but not in message
    assert message.isprintable()
    return None


class Bomb:
    """Unpickled, it leaves a file behind."""

    def __reduce__(self):
        return Path.touch, (Path("exploded").absolute(),)


def test_the_bomb_works(folder):
    pickle.loads(pickle.dumps(Bomb()))
    assert (folder / "exploded").exists()


# ---- Zarr: paths ---------------------------------------------------------------------------------


def image(path, **metadata):
    return {"ome": {"multiscales": [{"datasets": [{"path": path}], **metadata}]}}


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    "path",
    [
        "../secret/array.zarr",
        "../../secret/array.zarr",
        "a/../../../secret/array.zarr",
        "./../../secret/array.zarr",
        "..",
        "..\\..\\secret\\array.zarr",
        "{secret}/array.zarr",  # absolute
        "//{secret}/array.zarr",
        "file://{secret}/array.zarr",
        "https://127.0.0.1:9/array.zarr",
        "s3://bucket/array.zarr",
        "~/array.zarr",
        "$HOME/array.zarr",
        "0\0/../../secret/array.zarr",
        "",
        ".",
    ],
)
def test_a_dataset_path_stays_in_its_image(folder, path, zarr_format):
    path = path.format(secret=folder.parent / "secret")
    named = image(path)["ome"] if zarr_format == 2 else image(path)
    zarr.create_group("image.zarr", attributes=named, zarr_format=zarr_format)
    with pytest.raises(ValueError, match="which lies outside|which is no Zarr array") as error:
        open_channels("image.zarr")
    assert "secret" not in str(error.value).replace(repr(path), "").replace(ascii(path), "")


@pytest.mark.parametrize("link", ["0", "deep"])
def test_a_dataset_path_through_a_link_stays_in_its_image(folder, link):
    """Metadata and a link together would lead out of an unpacked archive."""
    zarr.create_group("image.zarr", attributes=image("0" if link == "0" else "deep/array.zarr"))
    target = folder.parent / "secret"
    Path("image.zarr", link).symlink_to(target / "array.zarr" if link == "0" else target)
    with pytest.raises(ValueError, match="which lies outside: pass the array's own path"):
        open_channels("image.zarr")


def test_a_dataset_behind_a_link_within_the_image_is_read(folder):
    group = zarr.create_group("image.zarr", attributes=image("0", axes=["t", "y", "x"]))
    group.create_array("full", data=MOVIE)
    Path("image.zarr/0").symlink_to("full")
    Path("link.zarr").symlink_to("image.zarr")
    np.testing.assert_array_equal(pixels("link.zarr"), MOVIE)


def test_a_loop_of_links_is_refused(folder):
    zarr.create_group("image.zarr", attributes=image("0"))
    Path("image.zarr/0").symlink_to("0")
    with pytest.raises(ValueError, match="names '0'"):
        open_channels("image.zarr")


@pytest.mark.parametrize("separator", ["/../../", "..", "/", "\\", "\0"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_chunk_keys_stay_in_their_array(folder, separator, zarr_format):
    array = zarr.create_array("a.zarr", data=MOVIE, chunks=(2, 9, 7), zarr_format=zarr_format)
    file = Path("a.zarr", "zarr.json" if zarr_format == 3 else ".zarray")
    document = json.loads(file.read_text())
    if zarr_format == 3:
        document["chunk_key_encoding"]["configuration"] = {"separator": separator}
    else:
        document["dimension_separator"] = separator
    file.write_text(json.dumps(document))
    if separator == "/":  # the only one of these that Zarr knows
        (channel,) = open_channels("a.zarr")
        assert channel.shape == array.shape
        return
    with pytest.raises(ValueError, match="damaged Zarr metadata"):
        open_channels("a.zarr")


def test_links_of_the_user_are_followed(folder):
    """A link is no metadata: who makes a folder of links to movies wants those movies."""
    Path("a.zarr").symlink_to(folder.parent / "secret/array.zarr")
    np.testing.assert_array_equal(pixels("a.zarr"), MOVIE + 1)
    Path("frames").mkdir()
    for index, frame in enumerate(MOVIE):
        tifffile.imwrite(folder.parent / f"secret/{index}.tif", frame)
        Path(f"frames/{index}.tif").symlink_to(folder.parent / f"secret/{index}.tif")
    np.testing.assert_array_equal(pixels("frames"), MOVIE)


# ---- Zarr: codecs and dtypes ---------------------------------------------------------------------


def pickled_chunks(**changes):
    """A format 2 array of one chunk that is a pickle."""
    zarr.create_array("a.zarr", data=MOVIE, chunks=MOVIE.shape, zarr_format=2)
    file = Path("a.zarr/.zarray")
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    Path("a.zarr/0.0.0").write_bytes(pickle.dumps(Bomb()))


@pytest.mark.parametrize("dtype", ["<u2", "|O", "|V2", "<U1", [["a", "|O"]]])
@pytest.mark.parametrize(
    "codecs",
    [
        {"filters": [{"id": "pickle"}], "compressor": None},
        {"filters": [{"id": "pickle", "protocol": 5}], "compressor": {"id": "zlib"}},
        {"filters": None, "compressor": {"id": "pickle"}},
        {"filters": [{"id": "vlen-utf8"}, {"id": "pickle"}], "compressor": None},
        {"filters": [{"id": "delta", "dtype": "<u2"}, {"id": "pickle"}], "compressor": None},
        {"filters": [{"id": "delta", "dtype": "<u2"}], "compressor": {"id": "pickle"}},
        {"filters": [{"id": "json2"}, {"id": "msgpack2"}], "compressor": {"id": "pickle"}},
    ],
)
def test_no_chunk_is_unpickled(folder, codecs, dtype):
    pickled_chunks(dtype=dtype, **codecs)
    with pytest.raises((ValueError, TypeError), match=r"a\.zarr") as error:
        pixels("a.zarr")
    assert not isinstance(error.value, SourceReadError)  # refused before a chunk was read
    assert not Path("exploded").exists()


@pytest.mark.parametrize(
    "name",
    ["pickle", "numcodecs.pickle", "os.system", "builtins.eval", "subprocess:run", "../x", "a\nb"],
)
def test_codecs_come_from_the_registry_only(folder, name):
    zarr.create_array("a.zarr", data=MOVIE)
    file = Path("a.zarr/zarr.json")
    document = json.loads(file.read_text())
    document["codecs"].append({"name": name, "configuration": {"command": "touch exploded"}})
    file.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"a\.zarr has damaged Zarr metadata") as error:
        open_channels("a.zarr")
    assert str(error.value).isprintable()
    assert not Path("exploded").exists()


@pytest.mark.parametrize("fill", ["__import__('os').system('touch exploded')", {"py/object": "x"}])
def test_a_fill_value_is_no_code(folder, fill):
    zarr.create_array("a.zarr", shape=MOVIE.shape, dtype="u2")
    file = Path("a.zarr/zarr.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "fill_value": fill}))
    with pytest.raises(ValueError, match=r"a\.zarr has damaged Zarr metadata"):
        open_channels("a.zarr")
    assert not Path("exploded").exists()


def test_a_pickle_is_no_movie(folder):
    """Nor is a file of NumPy's, which may hold objects."""
    Path("a.tif").write_bytes(pickle.dumps(Bomb()))
    Path("a.npy").write_bytes(pickle.dumps(Bomb()))
    np.save("b.npy", np.array([Bomb()]), allow_pickle=True)
    for name in ("a.tif", "a.npy", "b.npy"):
        with pytest.raises((ValueError, TypeError), match=name):
            open_channels(name)
    with pytest.raises(TypeError, match="dtype object"):
        open_channels("b.npy", raw_shape=(1, 1, 1), raw_dtype="O")
    assert not Path("exploded").exists()


# ---- TIFF: other files ---------------------------------------------------------------------------


def ome_xml(name, frames=5, extra=""):
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>{extra}'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:1">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
        f'SizeX="7" SizeY="9" SizeC="1" SizeZ="1" SizeT="{frames}">'
        f'<TiffData FirstT="0" PlaneCount="5"><UUID FileName="{name}">urn:uuid:2</UUID></TiffData>'
        "</Pixels></Image></OME>"
    )


@pytest.fixture
def opened_files(monkeypatch):
    """The names of all files that tifffile opens."""
    names = []
    init = tifffile.FileHandle.__init__

    def noting(self, file, *arguments, **options):
        names.append(Path(str(file)).name)
        init(self, file, *arguments, **options)

    monkeypatch.setattr(tifffile.FileHandle, "__init__", noting)
    return names


def binary_only(name):
    """OME's companion file holds the metadata of a set, and names other files."""
    Path("companion.ome").write_text(ome_xml(name))
    return (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:1">'
        '<BinaryOnly MetadataFile="companion.ome" UUID="urn:uuid:3"/></OME>'
    )


@pytest.mark.parametrize("described", [ome_xml, binary_only])
@pytest.mark.parametrize("name", ["../secret/other.ome.tif", "{secret}/other.ome.tif"])
def test_file_names_in_ome_metadata_are_not_followed(folder, opened_files, name, described):
    name = name.format(secret=folder.parent / "secret")
    tifffile.imwrite("a.ome.tif", MOVIE, metadata=None, description=described(name))
    opened_files.clear()
    result = pixels_or_refusal("a.ome.tif")
    if result is not None:
        np.testing.assert_array_equal(result, MOVIE)
    assert set(opened_files) == {"a.ome.tif"}


def test_index_files_beside_a_tiff_are_not_read(folder, opened_files):
    """Micro-Manager's NDTiff.index and metadata.txt name files, too."""
    name = b"../secret/other.ome.tif"
    axes = b'{"time": 0}'
    entry = b"".join(
        [len(part).to_bytes(4, "little") + part for part in (axes, name)] + [bytes(4 * 8)],
    )
    Path("NDTiff.index").write_bytes(entry)
    Path("metadata.txt").write_text(json.dumps({"Summary": {"Prefix": name.decode()}}))
    summary = {"Summary": {"FileName": name.decode()}, "MicroManagerVersion": "2.0"}
    tags = [(51123, "s", 0, json.dumps(summary), True)]
    tifffile.imwrite("a_MMStack.ome.tif", MOVIE, metadata={"axes": "TYX"}, extratags=tags)
    opened_files.clear()
    np.testing.assert_array_equal(pixels("a_MMStack.ome.tif"), MOVIE)
    np.testing.assert_array_equal(pixels(folder), MOVIE)
    assert set(opened_files) == {"a_MMStack.ome.tif"}


# ---- TIFF: text ----------------------------------------------------------------------------------

CODE = "__import__('pathlib').Path('exploded').touch()"


@pytest.mark.parametrize(
    "description",
    [
        f"ImageJ=1.53\nimages={CODE}\nframes={CODE}\n",
        f"ImageJ=1.53\nimages=5\nLut={CODE}\nmin={CODE}\n",
        f'{{"shape": "{CODE}"}}',
        f'{{"shape": [5, 9, 7], "axes": "{CODE}"}}',
        f"shape=({CODE},)",
        "shape=(5, 9, 7)",
        f"Andor Technology {CODE}",
        f"state.software={CODE}\nstate.acq={CODE}",
        f"- !!python/object/apply:os.system ['touch exploded'] # {CODE}",
        f"<?xml-stylesheet href='{CODE}'?><OME {CODE}/>",
        f"SI.hChannels.channelSave = [{CODE}]\nscanimage.SI = {CODE}",
        f"<MetaData><PlaneInfo>{CODE}</PlaneInfo></MetaData>",
    ],
)
def test_descriptions_are_no_code(folder, description):
    tifffile.imwrite(
        "a.tif", MOVIE, photometric="minisblack", metadata=None, description=description
    )
    result = pixels_or_refusal("a.tif")
    if result is not None:
        np.testing.assert_array_equal(result, MOVIE)
    assert not Path("exploded").exists()


def laughs(count=9):
    lines = ['<!ENTITY a0 "ha">']
    lines += [f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, count + 1)]
    return f"<!DOCTYPE OME [{''.join(lines)}]>", f"&a{count};"


@needs_proc
@pytest.mark.parametrize("place", ["../x.tif", "5"])
def test_xml_entities_do_not_grow(folder, place):
    """A billion laughs: ten levels of entities that each stand for ten of the level below."""
    doctype, entity = laughs()
    xml = ome_xml(entity, extra=doctype) if place != "5" else ome_xml("a", entity, doctype)
    tifffile.imwrite("a.ome.tif", MOVIE, metadata=None, description=xml)
    limited = (
        "import sys\n"
        "from smlmlp_dask.movies.formats.tiff import open\n"
        "from pathlib import Path\n"
        "try:\n"
        "    open(Path('a.ome.tif'))\n"
        "except ValueError:\n"
        "    pass\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from tests.memory import peak_bytes\n"
        "print(peak_bytes())"
    )
    root = Path(__file__).parents[1]
    ran = subprocess.run(
        [sys.executable, "-c", limited, root],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert int(ran.stdout) < 2**30


@pytest.mark.parametrize("system", ["file://{secret}", "{secret}", "http://127.0.0.1:{port}/x"])
def test_external_xml_entities_are_not_fetched(folder, system):
    secret = folder.parent / "secret/password.txt"
    secret.write_text("3")
    with socket.create_server(("127.0.0.1", 0)) as server:
        system = system.format(secret=secret, port=server.getsockname()[1])
        doctype = f'<!DOCTYPE OME [<!ENTITY x SYSTEM "{system}">]>'
        xml = ome_xml("a", "&x;", doctype)
        tifffile.imwrite("a.ome.tif", MOVIE, metadata=None, description=xml)
        result = pixels_or_refusal("a.ome.tif", but="3 frames")
        server.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody has called
            server.accept()
    if result is not None:
        np.testing.assert_array_equal(result, MOVIE)  # its pages were counted instead


def test_a_compressed_bomb_does_not_unfold(folder):
    """A strip of a few bytes that would unpack to far more than the page it claims to be."""
    tifffile.imwrite("a.tif", MOVIE, photometric="minisblack", compression="zlib", metadata=None)
    with tifffile.TiffFile("a.tif") as tif:
        tags = tif.pages[0].tags
        places = [tags[name].valueoffset for name in ("StripOffsets", "StripByteCounts")]
    content, bomb = bytearray(Path("a.tif").read_bytes()), zlib.compress(bytes(2**27))
    for place, value in zip(places, (len(content), len(bomb)), strict=True):
        content[place : place + 4] = value.to_bytes(4, "little")
    Path("a.tif").write_bytes(content + bomb)
    with tifffile.TiffFile("a.tif") as tif:
        assert tif.pages[0].databytecounts == (len(bomb),)
    tracemalloc.start()
    try:
        result = pixels_or_refusal("a.tif")
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()
    if result is not None:
        np.testing.assert_array_equal(result[1:], MOVIE[1:])


# ---- names in messages ---------------------------------------------------------------------------

NASTY = "a\nError: all is well\x1b[2J\x07\u202e\x9b\r.tif"


def test_names_steer_no_terminal(folder):
    Path(NASTY).write_bytes(b"no TIFF")
    with pytest.raises(ValueError, match=r"a\\nError: all is well\\x1b\[2J") as error:
        open_channels(NASTY)
    assert str(error.value).isprintable()
    for arguments in (["run", NASTY, "-o", "out.zarr"], ["info", NASTY], ["verify", NASTY]):
        result = call(*arguments)
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1
        assert result.stderr[:-1].isprintable()


def test_names_in_a_folder_steer_no_terminal(folder):
    """Names that a user did not type: those of unpacked files, and of arrays in a store."""
    Path("frames").mkdir()
    Path("frames", NASTY).write_bytes(b"no TIFF")
    zarr.create_group("store.zarr")
    for name in ("a\nb", "c\x1b[2J"):
        zarr.create_array(Path("store.zarr", name), data=MOVIE)
    for source in ("frames", "frames/*", "store.zarr", "store.zarr/gone"):
        with pytest.raises((ValueError, OSError)) as error:
            open_channels(source)
        assert str(error.value).isprintable()


def test_names_in_metadata_steer_no_terminal(folder):
    zarr.create_group("image.zarr", attributes=image(f"../{NASTY}"))
    with pytest.raises(ValueError, match="which lies outside") as error:
        open_channels("image.zarr")
    assert str(error.value).isprintable()
    zarr.create_group("axes.zarr", attributes=image("0", axes=[NASTY, "y", "x", "x"]))
    zarr.create_array("axes.zarr/0", data=MOVIE)
    with pytest.raises(ValueError, match="not \\(frame, y, x\\)") as error:
        open_channels("axes.zarr")
    assert str(error.value).isprintable()


def test_names_in_errors_while_reading_steer_no_terminal(folder):
    path = Path(NASTY).with_suffix(".raw")
    MOVIE.tofile(path)
    (channel,) = open_channels(path, raw_shape=MOVIE.shape, raw_dtype="u2")
    path.write_bytes(b"")
    with pytest.raises(SourceReadError) as error:
        channel.compute()
    assert str(error.value).isprintable()


def test_what_is_printable():
    assert printable("Zelle-µ 细胞 🔬") == "Zelle-µ 细胞 🔬"
    assert printable("a\n\x1b[0m\x7f\u2028\u202e\udcff") == r"a\n\x1b[0m\x7f\u2028\u202e\udcff"
    assert one_line(ValueError("a\n b\x1b[0m")) == r"a b\x1b[0m"
    with pytest.raises(FileNotFoundError, match=r"^a\\nb$"), printable_errors():
        raise FileNotFoundError("a\nb")
