"""Writers of the formats of cameras, made by hand after files that their programs wrote.

No library writes these formats. Each `write_*` takes a path and pixels (frame, y, x).
"""

import struct

import numpy as np


def put(header, offset, form, *values):
    struct.pack_into("<" + form, header, offset, *values)


SPE_KINDS = {"float32": 0, "int32": 1, "int16": 2, "uint16": 3, "uint32": 8}
SPE_PIXELS = {
    "uint16": "MonochromeUnsigned16",
    "uint32": "MonochromeUnsigned32",
    "float32": "MonochromeFloating32",
}


def write_spe(path, movie, *, frames=None, regions=0, exposure_s=0.0):
    """SPE version 2, as WinSpec writes it."""
    header = bytearray(4100)
    put(header, 10, "f", exposure_s)
    put(header, 42, "H", movie.shape[2])
    put(header, 656, "H", movie.shape[1])
    put(header, 108, "h", SPE_KINDS[movie.dtype.name])
    put(header, 1446, "i", len(movie) if frames is None else frames)
    put(header, 1510, "h", regions)
    path.write_bytes(bytes(header) + movie.astype(movie.dtype.newbyteorder("<")).tobytes())
    return path


LIGHTFIELD = """<SpeFormat version="3.0" xmlns="http://www.princetoninstruments.com/spe/2009">
<DataFormat><DataBlock type="Frame" count="{count}" pixelFormat="{pixels}" size="{size}"
stride="{stride}">{regions}</DataBlock></DataFormat>
<DataHistories><DataHistory><Origin><Experiment
xmlns="http://www.princetoninstruments.com/experiment/2009"><Devices><Cameras><Camera>
<ShutterTiming><ExposureTime type="Double">25</ExposureTime></ShutterTiming>
<Acquisition><FrameRate type="Double">20</FrameRate></Acquisition>
<HardwareIO><Trigger><Response>{trigger}</Response></Trigger></HardwareIO>
<Experiment><OnlineProcessing><FrameCombination><FramesCombined>{combined}</FramesCombined>
</FrameCombination></OnlineProcessing></Experiment>
</Camera></Cameras></Devices></Experiment></Origin></DataHistory></DataHistories></SpeFormat>"""


def write_spe3(path, *movies, stamps=0, trigger="NoResponse", combined=1, blocks=1):
    """SPE version 3, as LightField writes it: each movie is a region, `stamps` bytes a frame."""
    header = bytearray(4100)
    if len(movies) == 1:
        put(header, 42, "H", movies[0].shape[2])
        put(header, 656, "H", movies[0].shape[1])
    put(header, 108, "h", SPE_KINDS[movies[0].dtype.name])
    put(header, 1446, "i", len(movies[0]))
    put(header, 1992, "f", 3.0)
    body = b"".join(
        b"".join(movie[frame].tobytes() for movie in movies) + b"\xa5" * stamps
        for frame in range(len(movies[0]))
    )
    regions = "".join(
        f'<DataBlock type="Region" count="{blocks}" width="{movie.shape[2]}" '
        f'height="{movie.shape[1]}" size="{movie[0].nbytes}" stride="{movie[0].nbytes}" />'
        for movie in movies
    )
    size = sum(movie[0].nbytes for movie in movies)
    put(header, 678, "Q", len(header) + len(body))
    text = LIGHTFIELD.format(
        count=len(movies[0]),
        pixels=SPE_PIXELS[movies[0].dtype.name],
        size=size,
        stride=size + stamps,
        regions=regions,
        trigger=trigger,
        combined=combined,
    )
    path.write_bytes(bytes(header) + body + text.encode())
    return path


def write_seq(path, movie, *, version=5, frames=None, pixels=100, origin=0, compression=0):
    """SEQ, as StreamPix writes it: a time after each frame, 50 ms later each, then unused bytes."""
    start = 8192 if version >= 5 else 1024
    header = bytearray(start)
    put(header, 0, "I", 0xFEED)
    header[4:24] = "Norpix seq".encode("utf-16-le")
    put(header, 28, "i", version)
    bits, stride = 8 * movie.itemsize, movie[0].nbytes + 100
    frames = len(movie) if frames is None else frames
    put(header, 548, "4I", movie.shape[2], movie.shape[1], bits, bits)
    put(header, 564, "5I", movie[0].nbytes, pixels, frames, origin, stride)
    put(header, 620, "I", compression)
    body = bytearray()
    for number, frame in enumerate(movie):
        milliseconds = 970 + 50 * number
        stamp = struct.pack("<IHH", 10**9 + milliseconds // 1000, milliseconds % 1000, 0)
        body += (frame.tobytes() + stamp).ljust(stride, b"\xa5")
    path.write_bytes(bytes(header) + body)
    return path


def write_cine(path, movie, *, top_down=False, annotations=(8,), gap=0, compression=0, packing=0):
    """CINE, as Phantom cameras write it: rows from the bottom, 2 ms apart, exposed for 1/1024 s."""
    count, height, width = movie.shape
    settings = bytearray(200)
    put(settings, 140, "2sH", b"ST", len(settings))
    times = [(10**9 << 32) + round(0.002 * 2**32) * number for number in range(count)]
    tags = struct.pack("<IHH", 8 + 8 * count, 1002, 1) + struct.pack(f"<{count}Q", *times)
    exposures = struct.pack(f"<{count}I", *[2**22] * count)
    tags += struct.pack("<IHH", 8 + 4 * count, 1003, 0) + exposures
    places_at = 84 + len(settings) + len(tags)
    header = struct.pack(
        "<2sHHHiIiIIIIQ", b"CI", 44, compression, 1, 0, count, 0, count, 44, 84, places_at, 0
    )
    header += struct.pack(
        "<IiiHHIIiiII", 40, width, -height if top_down else height, 1, 8 * movie.itemsize, packing,
        movie[0].nbytes, 0, 0, 0, 0,
    )  # fmt: skip
    at, places, body = places_at + 8 * count, [], bytearray()
    for number, frame in enumerate(movie):
        length = annotations[number % len(annotations)]
        places.append(at + len(body))
        body += struct.pack("<I", length).ljust(length - 4, b"\xa5")
        body += struct.pack("<I", frame.nbytes)
        body += (frame if top_down else frame[::-1]).tobytes() + b"\xa5" * gap
    path.write_bytes(header + settings + tags + struct.pack(f"<{count}Q", *places) + body)
    return path


def sif_header(movie, *, version=65564, tracks=1, frames=None, pixels="Counts", cycle=0.0625):
    """The text before the pixels, with the numbers that are read at their places."""
    count, height, width = movie.shape
    count = count if frames is None else frames
    size = width * height
    text = f"""Andor Technology Multi-Channel File
65538 1
{version} 0 0 1 1701175930 -999 \0 \0 \0 \1 \0 0 0.01 0.02 0.02 3 \0 {cycle} 1e-07 0 1 56 0 0 \
1e-08 0 0 4 0 256 0 4 0 0 0 0 0 0 0 0 4 3e-07 0 5
DU897_BV\x20
 512 512 9
movie.sif\x20
65538 4
\0\0\0\0
65538 \1 \2 \3 \0 0 0
65540 0 0 500 0 0 1200 1200
0 10
0 0 0 0 0  0 0 0 0 0 0 10
0 SR303i
0 10
0 10
0 0\x20
65536 1 500 200
17 Spectrograph_None
65539 \1 \0 \1 \0 \1 \0
0 1 0 0
0 1 0 0
0 1 0 0
422
16
16
12
Pixel number{len(pixels)}
{pixels}12
Pixel number65541 1 512 512 1 {count} {tracks} {count * size} {size}
"""
    text += f"65538 1 {height} {width} 1 1 1 0\n" * tracks
    text += "".join(f"         {62500 * number}\n" for number in range(count)) + "0\n"
    return text.encode()


def write_sif(path, movie, **options):
    """SIF, as Andor Solis writes it."""
    frames = movie.astype("<f4").tobytes()
    path.write_bytes(sif_header(movie, **options) + frames + b"0\n0\n0\n0\n")
    return path


def write_spool(
    folder, movie, *, in_file=4, padding=0, footer=40, encoding=None, frames=None, width=None
):
    """A spool folder, as Andor Solis writes it: rows and frames may end in unused bytes."""
    folder.mkdir()
    padded = np.pad(movie, ((0, 0), (0, 0), (0, padding)), constant_values=7)
    image = [frame.tobytes() + b"\xa5" * footer for frame in padded]
    for number, first in enumerate(range(0, len(movie), in_file)):
        name = f"{number:010d}"[::-1] + "spool.dat"
        (folder / name).write_bytes(b"".join(image[first : first + in_file]))
    (folder / "Spooled files.sifx").write_bytes(sif_header(movie, frames=frames))
    (folder / "acquisitionmetadata.ini").write_text(
        f"[data]\nAOIHeight = {movie.shape[1]}\nAOIWidth = {width or movie.shape[2]}\n"
        f"AOIStride = {padded[0, 0].nbytes}\n"
        f"PixelEncoding = {encoding or f'Mono{8 * movie.itemsize}'}\n"
        f"ImageSizeBytes = {len(image[0])}\n\n\n[multiimage]\nImagesPerFile = {in_file}\n",
        encoding="utf-8-sig",
    )
    return folder
