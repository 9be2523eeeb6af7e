"""The directories of a TIFF's pages, and whether all pages have the layout of the first."""

import struct
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from tifffile import TiffFile, TiffFileError, TiffPage, TiffPageSeries

# Tags that describe the layout of a page's pixels: sizes, bits, compression, fill order, samples,
# rows of a strip, planes, predictor, tiles, sample format.
_LAYOUT_TAGS = frozenset({256, 257, 258, 259, 266, 277, 278, 284, 317, 322, 323, 339})
_STRIP_OFFSETS, _BYTE_COUNTS = 273, 279


def pages_as_they_are(tif: TiffFile, series: TiffPageSeries) -> tuple[list[Any], bool]:
    """Return the pages of a series, and whether all have the layout of the first one.

    Of later pages tifffile reads only the place, and takes everything else from the first. So it
    would read one compressed page among plain ones as pixels. We return pages of another layout
    with their own header.

    Raises
    ------
    TiffFileError
        If a page has another shape or dtype, or fewer bytes than a frame.
    """
    pages: list[Any] = list(series)
    alike = True
    if len(pages) < 2 or any(page is None or not page.offset for page in pages):
        return pages, alike
    keyframe = pages[0].keyframe
    first = Directory.read(tif, pages[0].offset)
    for index, page in enumerate(pages):
        here = Directory.read(tif, page.offset)
        if here.layout == first.layout and (keyframe.compression > 1 or here.size == first.size):
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
    """Say whether all pages have the first one's layout and follow each other without a gap.

    Where their directories lie at unequal distances, it says no: then each has to be read.
    """
    if frames < 3 or len(tif.pages) != frames:
        return False
    tiff, size = tif.tiff, tif.filehandle.size
    first = Directory.read(tif, tif.pages.first.offset)
    second = Directory.read(tif, first.link)
    tags, step = len(second.entries), second.link - second.offset
    number = f"{tiff.byteorder}u{tiff.offsetsize}"
    form = np.dtype(
        [
            ("tags", f"V{tiff.tagnosize}"),
            ("entries", np.uint8, (tags, tiff.tagsize)),
            ("link", number),
        ]
    )
    if (
        first.place is None
        or (first.layout, first.size) != (second.layout, second.size)
        or step < form.itemsize
        or second.offset + (frames - 2) * step + form.itemsize > size
    ):
        return False
    content = np.memmap(tif.filehandle.path, np.uint8, "r")
    rows = np.ndarray(frames - 1, form, content, second.offset, (step,))
    entries, own = rows["entries"], rows["entries"][0]
    codes = [code for code, *_ in second.entries]
    places = np.ascontiguousarray(entries[:, codes.index(_STRIP_OFFSETS), -tiff.offsetsize :])
    numbers = np.arange(1, frames)
    return bool(
        (rows["tags"] == rows["tags"][0]).all()
        and (entries[..., : -tiff.offsetsize] == own[:, : -tiff.offsetsize]).all()
        and all(
            (entries[:, at] == own[at]).all()
            for at, code in enumerate(codes)
            if code in _LAYOUT_TAGS or code == _BYTE_COUNTS
        )
        and (places.view(number)[:, 0] == first.place + numbers * frame_bytes).all()
        and (rows["link"][:-1] == second.offset + numbers[:-1] * step).all()
    )


@dataclass(frozen=True)
class Directory:
    """The directory of a page.

    Attributes
    ----------
    offset, link : int
        File offsets of this directory and of the next one.
    entries : list of (int, int, int, bytes)
        Code, type, number and value of its tags.
    """

    offset: int
    link: int
    entries: list[tuple[int, int, int, bytes]]
    byteorder: str

    @classmethod
    def read(cls, tif: TiffFile, offset: int) -> Self:
        """Read the directory at an offset of the file."""
        tiff, file = tif.tiff, tif.filehandle
        file.seek(offset)
        (count,) = struct.unpack(tiff.tagnoformat, file.read(tiff.tagnosize))
        entries = file.read(count * tiff.tagsize)
        (link,) = struct.unpack(tiff.offsetformat, file.read(tiff.offsetsize))
        form = f"{tiff.byteorder}HH{'Q8s' if tiff.is_bigtiff else 'I4s'}"
        found = list(struct.iter_unpack(form, entries))
        return cls(offset, link, found, tiff.byteorder)

    @property
    def layout(self) -> list[tuple[int, int, int, bytes]]:
        """The entries that describe the layout of the pixels."""
        return [entry for entry in self.entries if entry[0] in _LAYOUT_TAGS]

    @property
    def place(self) -> int | None:
        """File offset of the pixels, if they are one run of bytes."""
        return self._number(_STRIP_OFFSETS)

    @property
    def size(self) -> int | None:
        """Bytes of the pixels, if they are one run."""
        return self._number(_BYTE_COUNTS)

    def _number(self, tag: int) -> int | None:
        for code, kind, count, value in self.entries:
            if code == tag and count == 1:
                form = {3: "H", 4: "I"}.get(kind, "Q")
                return int(struct.unpack_from(self.byteorder + form, value)[0])
        return None
