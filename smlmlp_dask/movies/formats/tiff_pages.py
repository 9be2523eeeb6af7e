"""The directories of a TIFF's pages, and whether all pages have the layout of the first."""

import struct
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile, TiffFileError, TiffPage

# Tags that describe the layout of a page's pixels: sizes, bits, compression, fill order, samples,
# rows of a strip, planes, predictor, tiles, sample format.
_LAYOUT_TAGS = frozenset({256, 257, 258, 259, 266, 277, 278, 284, 317, 322, 323, 339})
_STRIP_OFFSETS, _BYTE_COUNTS = 273, 279


def pages_as_they_are(tif: TiffFile, series: Any) -> tuple[list[Any], bool]:
    """Return the pages of a series, and whether all have the layout of the first one.

    Of later pages tifffile reads only the place, and takes everything else from the first. So it
    would read one compressed page among plain ones as pixels. We return pages of another layout
    with their own header.

    Raises
    ------
    TiffFileError
        If a page has another shape or dtype, or fewer bytes than a frame.
    """
    pages, alike = list(series), True
    if len(pages) < 2 or any(page is None or not page.offset for page in pages):
        return pages, alike
    first, keyframe = Directory.read(tif, pages[0].offset).layout, pages[0].keyframe
    for index, page in enumerate(pages):
        if Directory.read(tif, page.offset).layout == first:
            continue
        tif.filehandle.seek(page.offset)
        own = TiffPage(tif, index=index)
        if (own.shape, own.dtype) != (keyframe.shape, keyframe.dtype):
            raise TiffFileError(
                f"its page {index} has shape {own.shape} and dtype {own.dtype}, the first "
                f"{keyframe.shape} and {keyframe.dtype}"
            )
        size = sum(own.databytecounts)
        if own.is_contiguous and size < own.nbytes:
            raise TiffFileError(f"its page {index} has {size} bytes, a frame takes {own.nbytes}")
        pages[index] = own
        alike &= own.hash == keyframe.hash
    return pages, alike


def follow_on(tif: TiffFile, frames: int, frame_bytes: int) -> bool:
    """Say whether all pages have the first one's layout and follow each other without a gap."""
    if len(tif.pages) != frames:
        return True  # one page stands for all frames
    content = np.memmap(tif.filehandle.path, np.uint8, "r")
    first = page = Directory.read(tif, tif.pages.first.offset)
    index = 1
    while index < frames:
        page = Directory.read(tif, page.link)
        here = None if first.place is None else first.place + index * frame_bytes
        if (page.layout, page.place) != (first.layout, here):
            return False
        skipped = page.repeated(content, frames - index - 1, frame_bytes)
        index += 1 + skipped
        if skipped and index < frames:
            page = Directory.read(tif, page.offset + skipped * (page.link - page.offset))
    return True


@dataclass(frozen=True)
class Directory:
    """The directory of a page: the layout and place of its pixels.

    Attributes
    ----------
    offset, link : int
        File offsets of this directory and of the next one.
    layout : bytes
        The entries that describe the layout of the pixels.
    place : int or None
        File offset of the pixels, if they are one run of bytes.
    checked : list of slice
        Bytes of the directory that are equal for two pages of one layout.
    place_at, link_at : int
        Positions of `place` and `link` in the directory.
    number : dtype
        Type of `place` and `link` in the file.
    """

    offset: int
    link: int
    layout: bytes
    place: int | None
    checked: list[slice]
    place_at: int
    link_at: int
    number: np.dtype[Any]

    @classmethod
    def read(cls, tif: TiffFile, offset: int) -> Self:
        """Read the directory at an offset of the file."""
        tiff, file = tif.tiff, tif.filehandle
        file.seek(offset)
        (count,) = struct.unpack(tiff.tagnoformat, file.read(tiff.tagnosize))
        entries = file.read(count * tiff.tagsize)
        (link,) = struct.unpack(tiff.offsetformat, file.read(tiff.offsetsize))
        layout, place, place_at = b"", None, 0
        checked = [slice(0, tiff.tagnosize)]
        for start in range(0, len(entries), tiff.tagsize):
            entry = entries[start : start + tiff.tagsize]
            code, kind, values, value = struct.unpack(tiff.tagheaderformat, entry)
            at = tiff.tagnosize + start
            # Several byte counts are stored elsewhere, and where says nothing about the layout.
            if code in _LAYOUT_TAGS or (code == _BYTE_COUNTS and values == 1):
                layout += entry
                checked.append(slice(at, at + tiff.tagsize))
                continue
            checked.append(slice(at, at + tiff.tagsize - tiff.offsetsize))
            if code == _STRIP_OFFSETS and values == 1:
                form = {3: "H", 4: "I"}.get(kind, "Q")
                (place,) = struct.unpack_from(tiff.byteorder + form, value)
                place_at = at + tiff.tagsize - tiff.offsetsize
        number = np.dtype(f"{tiff.byteorder}u{tiff.offsetsize}")
        link_at = tiff.tagnosize + len(entries)
        return cls(offset, link, layout, place, checked, place_at, link_at, number)

    def repeated(self, content: NDArray[np.uint8], most: int, frame_bytes: int) -> int:
        """Return how many directories like this one follow at equal distances, up to `most`."""
        step, size = self.link - self.offset, self.link_at + self.number.itemsize
        most = min(most, (len(content) - self.offset - size) // step) if step > 0 else 0
        if most < 1:
            return 0
        rows = np.ndarray((most, size), np.uint8, content, self.offset + step, (step, 1))
        own = content[self.offset : self.offset + size]
        good = np.ones(most, bool)
        for part in self.checked:
            good &= (rows[:, part] == own[part]).all(axis=1)
        numbers = np.arange(1, most + 1)

        def column(at: int) -> NDArray[Any]:
            part = np.ascontiguousarray(rows[:, at : at + self.number.itemsize])
            return part.view(self.number)[:, 0]

        if self.place is not None:
            good &= column(self.place_at) == self.place + numbers * frame_bytes
        # Each directory must link to the next one.
        good[1:] &= column(self.link_at)[:-1] == self.link + numbers[:-1] * step
        return most if good.all() else int(np.argmin(good))
