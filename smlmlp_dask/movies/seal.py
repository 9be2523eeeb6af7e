"""What tells a store that was opened from a later one that took its place."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import google_crc32c

from .stack import SourceReadError


@dataclass(frozen=True)
class Seal:
    """A file that is written when a store is begun, and says what the store holds.

    Attributes
    ----------
    file : str
        Its path.
    seen : tuple of int
        Its size and time when the store was opened: mostly, they need not be followed by a read.
    checksum : int
        Of its bytes.
    """

    file: str
    seen: tuple[int, int]
    checksum: int

    @classmethod
    def of(cls, file: Path) -> Self | None:
        """Return the seal of a store; None without such a file, as stores of old versions are."""
        try:
            return cls(str(file), _seen(file), _checksum(file))
        except OSError:
            return None

    @property
    def broken(self) -> bool:
        """Whether the file holds something else now; one that is gone tells nothing."""
        file = Path(self.file)
        try:
            return _seen(file) != self.seen and _checksum(file) != self.checksum
        except OSError:
            return False


def check_seal(seal: Seal | None, store: object) -> None:
    """Raise `SourceReadError` if another store has taken the place of the one that was opened."""
    if seal is not None and seal.broken:
        raise SourceReadError(
            f"{store} has been replaced by another store since it was opened: open it again, by "
            "open_backgrounds, and write the next one to another destination to compare the two"
        )


def _seen(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def _checksum(file: Path) -> int:
    return int(google_crc32c.value(file.read_bytes()))
