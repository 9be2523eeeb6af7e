"""Zarr arrays and groups as folders, on disk or in a zip, and their files."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from .zarr_zips import ZipNode

Node: TypeAlias = Path | ZipNode
"""A folder that may be an array or group."""

METADATA = ("zarr.json", ".zarray", ".zgroup")
"""Files that make a folder an array or group."""

# Names of metadata and chunks: c/0/1, c.0.1, 0/1, 0.1, and c or 0 for a single number.
_FILES = re.compile(r"zarr\.json|\.zarray|\.zgroup|\.zattrs|\.zmetadata|c|(c\.)?\d+(\.\d+)*")


def is_node(folder: Node) -> bool:
    """Say whether a folder is a Zarr array or group."""
    return any((folder / name).is_file() for name in METADATA)


def stored_files(store: Path) -> Iterator[Path]:
    """Find the metadata and chunks of all arrays in a store; skip links to nothing."""
    folders = [store]
    while folders:
        folder = folders.pop()
        with os.scandir(folder) as found:
            for entry in found:
                if entry.is_dir():
                    if not (entry.is_symlink() and _leads_back(Path(entry.path), store)):
                        folders.append(Path(entry.path))
                elif _FILES.fullmatch(entry.name) and entry.is_file():
                    yield Path(entry.path)


def _leads_back(link: Path, store: Path) -> bool:
    """Say whether a link leads to a folder above itself."""
    above = [folder for folder in link.parents if folder.is_relative_to(store)]
    return link.resolve() in {folder.resolve() for folder in above}


def is_array(node: Node) -> bool:
    """Say whether a folder is a Zarr array; with damaged metadata, opening it fails later."""
    document = node / "zarr.json"
    if not document.is_file():
        return (node / ".zarray").is_file()
    try:
        return bool(json.loads(document.read_bytes())["node_type"] != "group")
    except (ValueError, TypeError, KeyError, RecursionError):
        return True


def store_of(path: Path) -> Path | None:
    """Return the outermost Zarr group around a path."""
    stores = [parent for parent in path.absolute().parents if is_node(parent)]
    return stores[-1] if stores else None


def arrays_in(folder: Node) -> Iterator[Node]:
    """Find the arrays below a group, even in groups without metadata."""
    for child in _folders(folder):
        if is_array(child):
            yield child
        elif not child.is_symlink():
            yield from arrays_in(child)


def groups_in(folder: Node) -> Iterator[Node]:
    """Find the outermost groups below a folder."""
    for child in _folders(folder):
        if is_node(child):
            if not is_array(child):
                yield child
        elif not child.is_symlink():
            yield from groups_in(child)


def _folders(folder: Node) -> list[Node]:
    return sorted(
        (child for child in folder.iterdir() if child.is_dir()), key=lambda child: child.name
    )
