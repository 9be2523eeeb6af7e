"""Small sets of TIFF files, written by hand as the programs that make them do.

Every plane has a number, and its pixels tell it: what is read can be told from what is meant.
"""

import json
import struct
from itertools import product

import numpy as np
import tifffile

HEIGHT, WIDTH = 6, 5


def plane(number):
    """Return a plane like no other."""
    return (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * 7 + 300 * number).astype(np.uint16)


def planes(numbers):
    """Return a stack of planes."""
    return np.stack([plane(number) for number in numbers])


def write(path, numbers, **options):
    """Write planes to a plain TIFF, as a movie."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"metadata": {"axes": "TYX"}, "photometric": "minisblack", **options}
    tifffile.imwrite(path, planes(numbers), **options)
    return path


def write_page(path, number, pixels=None, **options):
    """Write one plane to a TIFF of one page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, plane(number) if pixels is None else pixels, **options)
    return path


def write_pages(folder, names, numbers=None):
    """Write one file of one page for each name."""
    for number, name in zip(numbers or range(len(names)), names, strict=True):
        write_page(folder / name, number)
    return folder


def number_of(t, c=0, z=0, p=0):
    """Return the number of a plane by its place."""
    return t + 20 * c + 50 * z + 100 * p


# OME-TIFF


def write_ome(
    folder,
    name,
    *,
    t=4,
    c=1,
    z=1,
    p=1,
    split="t",
    order="XYZCT",
    metadata="all",
    uuids=True,
    channel="C",
    change=lambda xml: xml,
):
    """Write an OME-TIFF of one file for each step of an axis, as Bio-Formats does.

    Parameters
    ----------
    name : str
        Names of the files; ``{}`` stands for the number.
    split : str
        Axis of one step per file; empty for one file.
    order : str
        DimensionOrder, in which pages follow one another.
    metadata : str
        Which files hold the OME-XML: "all", "first" (others name it) or "companion".
    channel : str
        Name of the first channel; others have a number after it.
    change : callable
        Changes the XML before it is written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {"T": t, "C": c, "Z": z}
    axes = order[:1:-1]  # the last one is the slowest
    files, images = {}, []
    for position in range(p):
        data = []
        for place in product(*(range(sizes[axis]) for axis in axes)):
            at = dict(zip(axes, place, strict=True))
            step = {"t": at["T"], "c": at["C"], "z": at["Z"], "p": position}.get(split, 0)
            pages = files.setdefault(name.format(step), [])
            first = " ".join(f'First{axis}="{n}"' for axis, n in at.items())
            inner = f'<UUID FileName="{name.format(step)}">urn:uuid:{name.format(step)}</UUID>'
            inner = inner if uuids else ""
            data.append(f'<TiffData {first} IFD="{len(pages)}" PlaneCount="1">{inner}</TiffData>')
            pages.append(number_of(at["T"], at["C"], at["Z"], position))
        channels = "".join(
            f'<Channel ID="Channel:0:{n}" Name="{channel}{n or ""}"/>' for n in range(c)
        )
        images.append(
            f'<Image ID="Image:{position}" Name="Pos{position}"><Pixels ID="Pixels:{position}" '
            f'DimensionOrder="{order}" Type="uint16" SizeX="{WIDTH}" SizeY="{HEIGHT}" '
            f'SizeC="{c}" SizeZ="{z}" SizeT="{t}">{channels}{"".join(data)}</Pixels></Image>'
        )
    space = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
    first = next(iter(files))
    holder = "set.companion.ome" if metadata == "companion" else first
    for file, numbers in files.items():
        uuid = f'UUID="urn:uuid:{file}"' if uuids else ""
        xml = f"<OME {space} {uuid}>{''.join(images)}</OME>"
        if metadata != "all" and file != holder:
            xml = (
                f'<OME {space} {uuid}><BinaryOnly MetadataFile="{holder}" '
                f'UUID="urn:uuid:{holder}"/></OME>'
            )
        write(folder / file, numbers, metadata=None, description=change(xml))
    if metadata == "companion":
        (folder / holder).write_text(f"<OME {space}>{''.join(images)}</OME>", encoding="utf-8")
    return folder / first


# Micro-Manager. The bytes are laid out as its own files are; no such file was at hand.


def add_page(content, link, number, text):
    """Append a page with its metadata; return where its pixels and the link to the next lie."""
    pixels = plane(number).tobytes()
    entries = [
        (256, 4, 1, WIDTH), (257, 4, 1, HEIGHT), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, 1, None), (277, 3, 1, 1), (278, 4, 1, HEIGHT), (279, 4, 1, len(pixels)),
        (51123, 2, len(text), None),
    ]  # fmt: skip
    struct.pack_into("<I", content, link, len(content))
    link = len(content) + 2 + 12 * len(entries)
    data = link + 4
    where = {273: data, 51123: data + len(pixels)}
    content += struct.pack("<H", len(entries))
    for code, kind, count, value in entries:
        content += struct.pack("<HHII", code, kind, count, where.get(code, value))
    content += bytes(4) + pixels + text + bytes(len(text) % 2)
    return data, link


def write_mmstack(path, places, *, summary=None, index=True, start="10:00"):
    """Write a file of a Micro-Manager stack.

    Parameters
    ----------
    places : sequence of (t, c, z, p)
        Of its pages, in their order.
    summary : dict
        Sizes: Frames, Channels, Slices, Positions.
    index : bool
        Whether recording ended: else there is no index of images, as after a crash.
    """
    said = {"Frames": 4, "Channels": 1, "Slices": 1, "Positions": 1, **(summary or {})}
    said |= {"Width": WIDTH, "Height": HEIGHT, "PixelType": "GRAY16", "StartTime": start}
    said["ChNames"] = [f"C{n}" for n in range(said["Channels"])]
    head = json.dumps(said).encode()
    content = bytearray(40) + head + bytes(len(head) % 2)
    rows, link = [], 4
    for t, c, z, p in places:
        tag = {"FrameIndex": t, "ChannelIndex": c, "SliceIndex": z, "PositionIndex": p}
        tag = {**tag, "Frame": t, "Channel": f"C{c}", "Exposure-ms": 20}
        rows.append((c, z, t, p, len(content)))
        _, link = add_page(content, link, number_of(t, c, z, p), json.dumps(tag).encode() + b"\0")
    struct.pack_into("<4s", content, 0, b"II*\0")
    struct.pack_into("<II", content, 32, 2355492, len(head))
    if index:
        struct.pack_into("<II", content, 8, 54773648, len(content))
        content += struct.pack("<II", 3453623, len(rows))
        for row in rows:
            content += struct.pack("<5I", *row)
        struct.pack_into("<II", content, 24, 99384722, len(content))
        content += struct.pack("<II", 84720485, 2) + b"{}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def grid(t=range(4), c=1, z=1, p=(0,)):
    """Return places in the order in which Micro-Manager records."""
    return [(a, b, d, e) for e in p for a in t for d in range(z) for b in range(c)]


# NDTiff


def write_ndtiff(folder, places, *, major=3, kind=1, keep=None):
    """Write a folder of NDTiff: files of three images each, and an index of all.

    Parameters
    ----------
    places : sequence of dict
        Axes of each image, as the index has them; its number is ``number_of`` of those.
    keep : int
        Bytes of the index that are kept; all by default.
    """
    folder.mkdir(parents=True, exist_ok=True)
    index = b""
    channels = list(dict.fromkeys(place.get("channel", 0) for place in places))
    for first in range(0, len(places), 3):
        at = first // 3
        name = f"run_NDTiffStack{f'_{at}' if at else ''}.tif"
        head = json.dumps({"PixelSize_um": 0.1}).encode()
        if major == 3:
            content = b"II*\0" + struct.pack("<IIIIII", 0, 483729, 3, 3, 2355492, len(head)) + head
        else:
            content = b"II*\0" + struct.pack("<IIIII", 0, 483729, 2, 2355492, len(head)) + head
        content = bytearray(content + bytes(len(content) % 2))
        link = 4
        for place in places[first : first + 3]:
            c = channels.index(place.get("channel", 0))
            number = number_of(place.get("time", 0), c, place.get("z", 0), place.get("position", 0))
            data, link = add_page(content, link, number, b"{}\0\0")
            axes, file = json.dumps(place).encode(), name.encode()
            index += struct.pack("<I", len(axes)) + axes + struct.pack("<I", len(file)) + file
            index += struct.pack(
                "<IiiiiIii", data, WIDTH, HEIGHT, kind, 0, data + plane(0).nbytes, 4, 0
            )
        (folder / name).write_bytes(content)
    (folder / "NDTiff.index").write_bytes(index[:keep])
    return folder


# Damage


def cut(path, keep):
    """Keep the first part of a file: a fraction, or all but so many bytes."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep) if keep > 0 else keep])
    return path


def edited(path, old, new):
    """Replace some bytes of a file."""
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    return path
