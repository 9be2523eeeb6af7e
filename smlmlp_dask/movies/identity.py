"""Fingerprints of sources: they show whether a source has changed, without reading its pixels."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def source_identity(path: Path) -> dict[str, Any]:
    """Return a fingerprint that shows whether a source has changed; pixels are not read.

    Parameters
    ----------
    path : pathlib.Path
        A file; a folder of TIFFs; or a Zarr store with all its arrays. In folders, only files
        that we read count: notes, hidden files and links to nothing may come and go.

    Returns
    -------
    dict
        ``path``, ``files``, ``bytes``, ``newest`` (modification time, ns) and ``digest`` (of all
        names, sizes and times).
    """
    entries = sorted(_entries(path))
    digest = hashlib.blake2b(json.dumps(entries).encode(), digest_size=16).hexdigest()
    return {
        "path": str(path),
        "files": len(entries),
        "bytes": sum(size for _, size, _ in entries),
        "newest": max((time for *_, time in entries), default=0),
        "digest": digest,
    }


def _entries(path: Path) -> Iterator[tuple[str, int, int]]:
    from .formats.zarr_nodes import is_node, stored_files

    if path.is_file():
        names: Iterable[tuple[str, Path]] = [(path.name, path)]
    elif is_node(path):
        names = ((os.path.relpath(file, path), file) for file in stored_files(path))
    else:
        from .formats.tiff import tiff_names  # imports tifffile, which other movies do not need

        names = ((name, path / name) for name in tiff_names(path, list(path.iterdir())))
    for name, file in names:
        status = file.stat()
        yield name, status.st_size, status.st_mtime_ns
