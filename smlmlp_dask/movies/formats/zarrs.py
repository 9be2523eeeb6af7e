"""Movies in Zarr: arrays, OME-Zarr images and collections of them, as folders or in a zip."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, cast
from xml.etree import ElementTree

import zarr

from smlmlp_dask.movies.acquisition import UNKNOWN, Acquisition
from smlmlp_dask.movies.axes import AXES, in_order, plain
from smlmlp_dask.movies.recording import Position, Recording
from smlmlp_dask.movies.stack import Movie

from .ome_zarr import Image, attributes_of, image_around, images_of, lies_inside
from .reading import reading_as
from .zarr_movie import ZarrMovie, empty_chunks, open_array, parsing
from .zarr_nodes import METADATA, Node, arrays_in, groups_in, is_array, is_node
from .zarr_zips import SUFFIXES, ZipNode, ZippedStore

OURS = "smlmlp_dask"
"""Attribute of the root of our own stores."""

BACKGROUNDS = "noise_corrections"
"""Its key that only stores of backgrounds have, not those of frames as they were."""


def recognises(path: Path) -> bool:
    """Say whether a folder is a Zarr array or group, or a file ends as a zip does."""
    if path.is_dir():
        return is_node(path)
    return path.name.lower().endswith(SUFFIXES)


def open(path: Path, inside: str = "") -> Recording:
    """Read the metadata of arrays and images."""
    top = path if path.is_dir() else ZipNode(ZippedStore(path), PurePosixPath())
    root = top if isinstance(top, Path) else _root_in_zip(top, inside)
    node = root / inside.strip("/")
    if not is_node(node):
        raise FileNotFoundError(f"{node} is no array or group of {root}: {arrays_hint(root)}")
    store, notes = _store_of_ours(node)
    if is_array(node):
        image = image_around(node)
        positions = [_position(node, image.names if image else None, image)]
    else:
        positions = _positions(node)
    if isinstance(store, Path):
        positions = [_all_there(position, store) for position in positions]
    elif store is None:
        notes += empty_chunks([cast("ZarrMovie", one.movie(0, 0)) for one in positions])
    return Recording(path=str(node), format="Zarr", positions=tuple(positions), notes=notes)


def _root_in_zip(top: ZipNode, inside: str) -> ZipNode:
    """Return the Zarr root in a zip: often a folder was zipped, rather than what is in it."""
    with reading_as(top, "a zip", "copy it again"):
        roots = _outermost(top)
    if not roots:
        raise ValueError(
            f"{top} is a zip without a Zarr array or group: unpack it, and pass the movie in it"
        )
    if inside and is_node(top / inside.strip("/")):
        return top
    if len(roots) > 1:
        names = [str(root.place) for root in roots]
        more = ", ..." if len(names) > 8 else ""
        raise ValueError(
            f"{top} holds {len(names)} Zarr stores ({', '.join(names[:8])}{more}): choose one, "
            f"as in {roots[0]}"
        )
    return roots[0]


def _outermost(top: ZipNode) -> list[ZipNode]:
    """Return the arrays and groups of a zip that lie in no other."""
    keys = (key.rpartition("/") for key in top.store.entries)
    nodes = {PurePosixPath(folder) for folder, _, name in keys if name in METADATA}
    return [top / place for place in sorted(nodes) if nodes.isdisjoint(place.parents)]


def arrays_hint(store: Node) -> str:
    """Return the part of an error message that lists the arrays of a store."""
    if is_array(store):
        return f"pass {store}, which is one array"
    shapes = {found: open_array(found).shape for found in arrays_in(store)}
    if not shapes:
        return f"{store} has no arrays; pass another path"
    listed = [f"{_within(found, store)} {shape}" for found, shape in shapes.items()]
    more = f" and {len(listed) - 10} more" if len(listed) > 10 else ""
    return f"pass one array, such as {next(iter(shapes))}; it has {', '.join(listed[:10])}{more}"


def _within(node: Any, group: Any) -> str:
    return str(node.relative_to(group).as_posix())


def _store_of_ours(node: Node) -> tuple[Node | None, tuple[str, ...]]:
    """Return the store of ours around a node, and what to know of it; refuse an unfinished one."""
    for group in (node, *node.parents):
        if not is_node(group) or is_array(group):
            continue
        try:
            own = attributes_of(group).get(OURS)
        except Exception:  # what is damaged here is said where it matters
            continue
        if not isinstance(own, dict) or "finished" not in own:
            continue
        if own["finished"] is not True:
            raise ValueError(
                f"{group} is an unfinished store: finish it by the command that wrote it, with "
                "--resume"
            )
        # Who names an array knows what it is.
        if BACKGROUNDS in own and not is_array(node):
            return group, (f"it holds {_held(group, node, own)}, not the frames of a camera",)
        return group, ()
    return None, ()


def _held(store: Node, node: Node, own: Mapping[str, Any]) -> str:
    """Return what a group of a store of ours holds: the output whose folder it is, or is in."""
    outputs = own.get("outputs") or ["background"]
    folder = _within(node, store).partition("/")[0]
    if node == store:
        folder = outputs[0]  # the root lists the images of the first
    return f"{folder if folder in outputs else 'background'}s"  # backgrounds have no folder


def _all_there(position: Position, store: Path) -> Position:
    """Take missing chunks for errors: a finished store has them all."""

    def movie(channel: int, z: int) -> Movie:
        return replace(cast("ZarrMovie", position.movie(channel, z)), store=str(store))

    return replace(position, movie=movie)


# What a group holds


def _positions(group: Node) -> list[Position]:
    images = images_of(group)
    with parsing(group):
        attributes = attributes_of(group)
        own = attributes.get(OURS)
        listed: list[tuple[str, str]] = []  # name and path
        if images:
            pass
        elif "plate" in attributes:
            wells = [well["path"] for well in attributes["plate"]["wells"]]
            fields = [(well, path) for well in wells for path in _fields(_member(group, well))]
            listed = [(f"{well}/{path}", f"{well}/{path}") for well, path in fields]
        elif "bioformats2raw.layout" in attributes:
            listed = _series(group)
        elif "well" in attributes:
            listed = [(path, path) for path in _fields(group)]
    if images and isinstance(own, dict):
        return [_channels_of_ours(group, images, own)]
    if images:
        several = len(images) > 1
        return [_in_image(group, image, image.dataset if several else "") for image in images]
    if listed:
        return [_member_image(group, name, path) for name, path in listed]
    return _unlisted(group)


def _channels_of_ours(root: Node, images: Sequence[Image], own: Mapping[str, Any]) -> Position:
    """Return the channels that a store of ours lists in its root, each in a group of its own."""
    channels = []
    # Frames as they were also keep what OME cannot say: exposure, gain and baseline.
    noted = [] if BACKGROUNDS in own else own.get("acquisitions", [])
    for number, image in enumerate(images):
        position = _in_image(root, image)
        # The channel's own group says more of it.
        [acquired] = (image_around(root / image.dataset) or image).acquisitions(1)
        label = acquired.channel or image.name or None
        if noted:
            with parsing(root):
                acquired = Acquisition.from_attributes(noted[number])
        channels.append((position, replace(acquired, channel=label)))
    return Position(
        movie=lambda channel, z: channels[channel][0].movie(0, z),
        channels=tuple(acquired for _, acquired in channels),
    )


def _fields(well: Node) -> list[str]:
    return [image["path"] for image in attributes_of(well)["well"]["images"]]


def _series(root: Node) -> list[tuple[str, str]]:
    """Return names and paths of the images that Bio-Formats wrote, in their order."""
    ome = root / "OME"
    paths = attributes_of(ome).get("series") if is_node(ome) else None
    if not paths:  # then they are numbered
        paths = []
        while is_node(root / str(len(paths))):
            paths.append(str(len(paths)))
    names = _names_in_xml(ome / "METADATA.ome.xml")
    if len(names) != len(paths):  # nothing tells which is which
        names = [""] * len(paths)
    return list(zip(names, paths, strict=True))


def _names_in_xml(document: Node) -> list[str]:
    try:
        xml = ElementTree.fromstring(document.read_bytes())
    except (OSError, KeyError, ElementTree.ParseError, ValueError):
        return []
    return [image.get("Name", "") for image in xml if image.tag.endswith("}Image")]


def _member(group: Node, path: str) -> Node:
    if not lies_inside(group, path):
        raise ValueError(f"it lists {path!r}, which lies outside")
    member = group / path
    if not is_node(member):
        raise ValueError(f"it lists {path!r}, which is not there")
    return member


def _member_image(group: Node, name: str, path: str) -> Position:
    with parsing(group):
        member = _member(group, path)
    images = images_of(member)
    if not images:
        raise ValueError(f"{group} lists {path!r} as an image, which it is not: pass one array")
    return _in_image(member, images[0], name or images[0].name or path)


def _unlisted(group: Node) -> list[Position]:
    """Return the images below a group; or its one array, which needs no description."""
    images = list(_images_below(group))
    within = [f"{_within(found, group)}/" for found, _ in images]
    arrays = {
        found: open_array(found)
        for found in arrays_in(group)
        if not _within(found, group).startswith(tuple(within))
    }
    movies = [found for found, array in arrays.items() if _is_movie(array)]
    if images and not movies:
        return [_in_image(found, image, _within(found, group)) for found, image in images]
    if images or len(movies) != 1:
        beside = f" beside {len(images)} OME-Zarr images" if images else ""
        raise ValueError(
            f"{group} is a Zarr group with {len(movies)} arrays of shape (frame, y, x){beside}, "
            f"not one: {arrays_hint(group)}"
        )
    image = image_around(movies[0])
    return [_position(movies[0], image.names if image else None, image)]


def _images_below(group: Node) -> Iterator[tuple[Node, Image]]:
    for child in groups_in(group):
        images = images_of(child)
        yield from ((child, image) for image in images)
        if not images:
            yield from _images_below(child)


def _is_movie(array: zarr.Array[Any]) -> bool:
    return array.ndim == 3 or (array.ndim > 3 and set(_dimension_names(array) or "?") <= AXES)


# An image or array, and its axes


def _in_image(group: Node, image: Image, name: str = "") -> Position:
    dataset = image.dataset
    if not lies_inside(group, dataset):
        raise ValueError(
            f"{group} names {dataset!r} as its full-resolution array, which lies outside: pass "
            "the array's own path if you trust it"
        )
    if not is_array(group / dataset):
        raise ValueError(
            f"{group} names {dataset!r} as its full-resolution array, which is no Zarr array: "
            f"{arrays_hint(group)}"
        )
    return _position(group / dataset, image.names, image, name or image.name)


def _position(
    node: Node, names: Sequence[str] | None, image: Image | None, name: str = ""
) -> Position:
    array = open_array(node)
    layout = _layout(node, array.shape, names or _dimension_names(array))
    count = 1 if layout.channel is None else array.shape[layout.channel]
    acquired = image.acquisitions(count) if image else (UNKNOWN,) * count
    if not layout.is_timed:
        acquired = tuple(replace(known, frame_interval_s=None) for known in acquired)

    def movie(channel: int, z: int) -> ZarrMovie:
        at = [0] * array.ndim
        for axis, place in ((layout.channel, channel), (layout.slice, z)):
            if axis is not None:
                at[axis] = place
        return ZarrMovie(path=str(node), array=array, axes=layout.axes, at=tuple(at))

    depth = 1 if layout.slice is None else array.shape[layout.slice]
    return Position(name=name, movie=movie, channels=acquired, depth=depth)


def _dimension_names(array: zarr.Array[Any]) -> list[str] | None:
    # Zarr format 2 has no dimension names; xarray keeps them in an attribute.
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if not isinstance(names, Sequence) or isinstance(names, str) or not any(names):
        return None
    called = plain(map(str, names))
    if array.ndim != 3:
        return called
    return in_order(called)


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Which axes of an array are which."""

    axes: tuple[int, int, int]  # frame, y, x
    channel: int | None = None
    slice: int | None = None
    is_timed: bool = True  # whether frames follow in time


def _layout(node: Node, shape: tuple[int, ...], names: Sequence[str] | None) -> _Layout:
    ndim = len(shape)
    if names is None:
        names = ("t", "y", "x") if ndim == 3 else ("unnamed",)
    called = "".join(names) if all(len(name) == 1 for name in names) else ", ".join(names)
    names = plain(names)
    leading = range(ndim - 2)
    long = [axis for axis in leading if shape[axis] != 1]
    known = set(names) <= AXES
    if (
        names[-2:] != ["y", "x"]
        or len(names) != ndim
        or len(set(names)) < len(names)
        or not leading
        or (len(long) > 1 and not known)
    ):
        remedy = "save it with its axes in that order"
        if ndim > 3:
            remedy = (
                "name its axes, of t, c, z, y, x, in its dimension_names, with y and x last, or "
                "save each channel or slice as a movie of its own"
            )
        raise ValueError(f"{node} has shape {shape} (axes {called}), not (frame, y, x): {remedy}")
    if not known:
        return _Layout(axes=((long or [ndim - 3])[0], ndim - 2, ndim - 1))
    at = {name: axis for axis, name in enumerate(names)}
    # Programs call the axis of a movie z, too; without t and z, c is all there is.
    frame = next(name for name in "tzc" if name in at)
    if frame == "t" and "z" in at and shape[at["t"]] == 1:
        frame = "z"
    channel, depth = (at[name] if name in at and frame != name else None for name in "cz")
    if 0 in (shape[axis] for axis in (channel, depth) if axis is not None):
        raise ValueError(f"{node} has shape {shape}, without pixels: pass a movie")
    return _Layout(
        axes=(at[frame], ndim - 2, ndim - 1),
        channel=channel,
        slice=depth,
        is_timed=frame == "t",
    )
