"""How pixels are stored: the codec of their chunks, and the mantissa bits kept of backgrounds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias, get_args

import numpy as np
from numcodecs import BitRound, Blosc
from zarr.codecs import BloscCodec, Crc32cCodec

Codec: TypeAlias = Literal["fast", "small", "none"]

MANTISSA_BITS = 23
"""Mantissa bits of float32."""

ROUNDED_PIXELS = 2**18
"""Pixels rounded at a time."""

_BLOSC: dict[Codec, tuple[Literal["lz4", "zstd"], int, int]] = {
    "fast": ("lz4", 5, 2**18),
    "small": ("zstd", 2, 2**20),
}
"""Compressor, level and bytes of Blosc's internal blocks for each codec based on Blosc.

Add a name rather than change what one stands for: stores record only the name, and a resumed store
must get the bytes of an undisturbed run.

Measured on float32 backgrounds of camera counts: LZ4 writes as fast with byte shuffle as with bit
shuffle, packs tighter, and reads twice as fast. Zstandard packs 9 % tighter and writes at half the
speed. Its level 3 with Blosc's default small blocks packs no tighter and halves the speed again.
"""

RAW = "raw"
"""The output of a job that keeps frames as they are."""

SHUFFLES_BITS: frozenset[Codec] = frozenset({"fast"})
"""The codecs that shuffle bits where raw frames or SNRs are stored; else, bytes are shuffled.

Measured on uint16 camera movies in chunks of 8 MiB, one thread: a real TIRF movie, a real and a
simulated DNA-PAINT one, and ours (`simulate_movie`). LZ4 with bit shuffle packs 2.6, 1.9, 1.9 and
2.2 to 1, and writes 0.7 to 4 GB/s; with byte shuffle 1.8, 1.9, 1.3 and 1.9. Zstandard, level 2,
with byte shuffle packs 3.3, 2.2, 2.1 and 2.2 to 1 at 0.1 to 1.4 GB/s; with bit shuffle or levels up
to 7 it packs 12 % less to 4 % more. Chunks of 1 to 16 MiB pack alike. SNRs of a simulated movie,
float32, take half the time with LZ4 and bit shuffle, and a tenth less space. Signals on a pedestal,
uint16, take a third of the time with byte shuffle, and a tenth more space.
"""


@dataclass(frozen=True)
class Storage:
    """How backgrounds are stored.

    Attributes
    ----------
    codec : {"fast", "small", "none"}
        How chunks are compressed.
    keep_bits : int or None
        Mantissa bits kept; None keeps all 23.
    raw : bool
        Encode as raw frames are, instead of as backgrounds.
    """

    codec: Codec
    keep_bits: int | None
    raw: bool = False

    @classmethod
    def checked(cls, codec: Any, keep_bits: Any = None, *, raw: bool = False) -> Self:
        """Return the storage, or raise `ValueError` for a wrong codec or number of bits."""
        if codec not in get_args(Codec):
            raise ValueError(f"codec is {codec!r}: pass one of {', '.join(get_args(Codec))}")
        if keep_bits is not None and (
            not isinstance(keep_bits, int | np.integer)
            or isinstance(keep_bits, bool)
            or not 1 <= keep_bits <= MANTISSA_BITS
        ):
            raise ValueError(
                f"keep_bits is {keep_bits!r}: pass 1 to {MANTISSA_BITS} mantissa bits, or None "
                "to keep the backgrounds as they are"
            )
        return cls(codec, None if keep_bits is None else int(keep_bits), raw)

    @classmethod
    def recorded(cls, attributes: Mapping[str, Any]) -> Self:
        """Return how the pixels of a store with these attributes are encoded."""
        return cls.checked(attributes["codec"], attributes["keep_bits"], raw=holds_raw(attributes))

    @property
    def relative_error(self) -> float:
        """Largest relative error of rounding: half a step of the last bit kept."""
        if self.keep_bits in (None, MANTISSA_BITS):
            return 0.0
        return float(2.0 ** -(self.keep_bits + 1))

    def compressors(self, itemsize: int = 4) -> list[BloscCodec | Crc32cCodec]:
        """Return the Zarr codecs of the chunks; the last appends a checksum of their bytes."""
        if self.codec not in _BLOSC:
            return [Crc32cCodec()]
        name, level, block_bytes = _BLOSC[self.codec]
        blosc = BloscCodec(
            cname=name,
            clevel=level,
            shuffle="bitshuffle" if self._shuffles_bits else "shuffle",
            blocksize=block_bytes,
            typesize=itemsize,
        )
        return [blosc, Crc32cCodec()]

    def encoded(self, pixels: np.ndarray[Any, Any]) -> bytes:
        """Return a chunk (little-endian, C-contiguous) encoded, without the checksum."""
        if self.codec not in _BLOSC:
            return pixels.tobytes()
        name, level, block_bytes = _BLOSC[self.codec]
        shuffle = Blosc.BITSHUFFLE if self._shuffles_bits else Blosc.SHUFFLE
        encoded: bytes = Blosc(name, level, shuffle, block_bytes).encode(pixels)
        return encoded

    @property
    def _shuffles_bits(self) -> bool:
        return self.raw and self.codec in SHUFFLES_BITS

    def rounded(self, background: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the background, its mantissa rounded in place to nearest, ties to even."""
        if self.keep_bits in (None, MANTISSA_BITS):
            return background
        codec = BitRound(keepbits=self.keep_bits)
        # Some pixels at a time: the codec makes several copies.
        with np.nditer(
            background,
            ("external_loop", "buffered", "zerosize_ok"),
            ("readwrite",),
            buffersize=ROUNDED_PIXELS,
        ) as parts:
            for part in parts:
                pixels: Any = part
                rounded = codec.decode(codec.encode(pixels))
                rounded[np.isnan(pixels)] = np.nan  # rounding a NaN's mantissa could overflow it
                pixels[...] = rounded
        return background


def holds_raw(attributes: Mapping[str, Any]) -> bool:
    """Say whether a store with these attributes holds raw frames, not backgrounds."""
    return attributes.get("outputs") == [RAW]
