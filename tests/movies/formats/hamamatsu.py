"""Writers of DCIMG, made by hand after what is known of it.

No library writes this format. Each `write_*` takes a path and pixels (frame, y, x).
"""

import struct

import numpy as np

from .cameras import put

OVERWRITTEN = np.array([0, 65535, 0, 65535], np.uint16)


def dcimg_header(version, frames, length, size):
    header = bytearray(length)
    header[:5] = b"DCIMG"
    put(header, 8, "I", version)
    put(header, 32, "3I", 1, frames, length)
    put(header, 48, "Q", size)
    put(header, 64, "Q", size)
    return bytes(header)


def write_dcimg(path, movie, *, row=None, told=True, stride=None, counters=None):
    """DCIMG of version 0x1000000: four pixels of a row are kept behind their frame."""
    count, height, width = movie.shape
    length, data, trailer = 112, 1024, 16 if row is None else 32
    frame_bytes = movie[0].nbytes
    session = bytearray(data)
    size = length + data + count * (frame_bytes + trailer)
    put(session, 0, "Q", size - length)
    put(session, 60, "2I", count, movie.itemsize)
    put(session, 72, "4I", width, height, movie.itemsize * width, frame_bytes)
    put(session, 96, "Q", data)
    put(session, 116, "I", frame_bytes + trailer if stride is None else stride)
    put(session, 124, "I", trailer)
    put(session, 240, "IIQ", 1, 248, 512 - 160)  # a table of blocks, from 160 on: the camera
    put(session, 512 + 200, "4H", 0, width, 940, height)
    if row is not None and told:
        put(session, 256, "IIQ", 4, 56, 768 - 160)  # and the pixels that were written over
        put(session, 768 + 12, "2I", 8, row * 2 * width)
    body = bytearray()
    for number, frame in enumerate(movie):
        stored, stamp = frame.copy(), bytearray(trailer)
        put(stamp, 0, "3I", (counters or range(count))[number], 1000 + number // 4,
            250_000 * (number % 4))  # fmt: skip
        if row is not None:
            stamp[12:20] = stored[row, :4].tobytes()
            stored[row, :4] = OVERWRITTEN
        body += stored.tobytes() + bytes(stamp)
    path.write_bytes(dcimg_header(0x1000000, count, length, size) + bytes(session) + body)
    return path


def write_dcimg7(path, movie, *, row=None, padding=0):
    """DCIMG of version 7: four pixels of each frame are kept at the end of the file."""
    count, height, width = movie.shape
    length, data, line = 120, 256, 2 * (width + padding)
    session = bytearray(data)
    put(session, 32, "2I", count, 2)
    put(session, 44, "4I", width, line, height, height * line)
    put(session, 68, "I", data)
    put(session, 72, "Q", data + count * height * line)
    body, kept = bytearray(), bytearray()
    for frame in movie:
        stored = np.pad(frame, ((0, 0), (0, padding)))
        if row is not None:
            kept += stored[row, :4].tobytes()
            stored[row, :4] = OVERWRITTEN
        body += stored.tobytes()
    second, tables = 128, 256
    stamps = tables + 4 * count
    pixels = stamps + 8 * count
    footer = bytearray(tables)
    put(footer, 0, "I", 7)
    put(footer, 8, "Q", second)
    put(footer, 40, "I", pixels + len(kept))
    for at, offset in ((48, tables), (64, stamps), (88, pixels)):
        put(footer, second + at, "Q", offset)
    if row is not None:
        put(footer, second + 100, "IQ", row * line, 8)
    footer += struct.pack(f"<{count}I", *range(count))
    for number in range(count):
        footer += struct.pack("<2I", 1000 + number // 4, 250_000 * (number % 4))
    size = length + len(session) + len(body) + len(footer) + len(kept)
    put(session, 0, "Q", size - length)
    path.write_bytes(dcimg_header(7, count, length, size) + session + body + footer + kept)
    return path
