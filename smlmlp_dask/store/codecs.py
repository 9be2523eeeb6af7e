"""How backgrounds are kept: the codec of their chunks, and how many bits of them."""

from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias, get_args

import numpy as np
from numcodecs import BitRound, Blosc
from zarr.codecs import BloscCodec, Crc32cCodec

Codec: TypeAlias = Literal["fast", "small", "none"]

MANTISSA_BITS = 23
"""Of float32."""

ROUNDED_PIXELS = 2**18
"""Pixels that are rounded at a time."""

_BLOSC: dict[Codec, tuple[Literal["lz4", "zstd"], int, int]] = {
    "fast": ("lz4", 5, 2**18),
    "small": ("zstd", 2, 2**20),
}
"""Compressor, level and bytes of Blosc's own blocks for each codec that is one of Blosc's.

Measured on float32 backgrounds of camera counts: LZ4 with byte shuffle is as fast to write as with
bit shuffle, smaller, and twice as fast to read. Zstandard packs 9 % tighter and takes twice as long
to write; level 3 in Blosc's own small blocks is no smaller, and takes twice as long again.
"""


@dataclass(frozen=True)
class Storage:
    """How backgrounds are kept.

    Attributes
    ----------
    codec : {"fast", "small", "none"}
        How chunks are compressed.
    keep_bits : int or None
        Mantissa bits that are kept; None keeps all 23.
    """

    codec: Codec
    keep_bits: int | None

    @classmethod
    def checked(cls, codec: Any, keep_bits: Any) -> Self:
        """Return the storage, if there is such a codec and so many bits."""
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
        return cls(codec, None if keep_bits is None else int(keep_bits))

    @property
    def relative_error(self) -> float:
        """Largest relative error of rounding: half a step of the last bit that is kept."""
        if self.keep_bits in (None, MANTISSA_BITS):
            return 0.0
        return float(2.0 ** -(self.keep_bits + 1))

    @property
    def compressors(self) -> list[BloscCodec | Crc32cCodec]:
        """The Zarr codecs of the chunks; the last one appends a checksum of their bytes."""
        chosen = _BLOSC.get(self.codec)
        if chosen is None:
            return [Crc32cCodec()]
        name, level, block_bytes = chosen
        blosc = BloscCodec(
            cname=name, clevel=level, shuffle="shuffle", blocksize=block_bytes, typesize=4
        )
        return [blosc, Crc32cCodec()]

    def encoded(self, pixels: np.ndarray[Any, Any]) -> bytes:
        """Return a chunk (float32, little-endian, C-contiguous) as `compressors` encode it.

        Without the checksum at its end.
        """
        chosen = _BLOSC.get(self.codec)
        if chosen is None:
            return pixels.tobytes()
        name, level, block_bytes = chosen
        encoded: bytes = Blosc(name, level, Blosc.SHUFFLE, block_bytes).encode(pixels)
        return encoded

    def rounded(self, background: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the background, its mantissa rounded in place to nearest, ties to even."""
        if self.keep_bits in (None, MANTISSA_BITS):
            return background
        codec = BitRound(keepbits=self.keep_bits)
        # some pixels at a time: the codec makes several copies
        with np.nditer(
            background,
            ("external_loop", "buffered", "zerosize_ok"),
            ("readwrite",),
            buffersize=ROUNDED_PIXELS,
        ) as parts:
            for part in parts:
                pixels: Any = part
                rounded = codec.decode(codec.encode(pixels))
                rounded[np.isnan(pixels)] = np.nan  # its mantissa is no number, and could overflow
                pixels[...] = rounded
        return background
