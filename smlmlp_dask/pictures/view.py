"""Raw, background and signal side by side in a browser, by neuroglancer."""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.installing import install_command
from smlmlp_dask.messages import one_line
from smlmlp_dask.movies.stack import Stack

from .content import KINDS, Result
from .layers import Layer, viewed_layers

_WINDOW_PIX = (1200, 640)  # room for panels in a usual browser's window

_AXES = ("t", "y", "x")

_UNITS = {"second": ("s", 1.0), "micrometer": ("m", 1e-6), None: ("", 1.0)}
"""Neuroglancer's base unit of each unit, and how many of them it is."""

_SHADER = """#uicontrol invlerp {unit}
#uicontrol vec3 colour color(default="#{colour}")
void main() {{ emitRGB(colour * {unit}()); }}
"""


@dataclass(frozen=True)
class Served:
    """An array as neuroglancer takes it: it asks for boxes, and we read them.

    Pixel types that browsers do not draw are served as float32.

    Attributes
    ----------
    stack : Stack
        The pixels.
    tell : callable
        Shows a line to the viewer's user: a frame that cannot be read would just stay empty.
    """

    stack: Stack
    tell: Callable[[str], None]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows and columns."""
        return self.stack.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Integers up to 32 bits, or float32."""
        dtype = self.stack.dtype
        drawn = dtype.kind in "iu" and dtype.itemsize <= 4
        return dtype if drawn else np.dtype(np.float32)

    def __getitem__(self, box: tuple[slice, slice, slice]) -> NDArray[Any]:
        """Return a box."""
        try:
            pixels = self.stack.part(box).read()
        except OSError as error:
            self.tell(one_line(error))
            raise
        with np.errstate(over="ignore"):
            return pixels.astype(self.dtype, copy=False)


def view_result(result: Result, *, port: int | None = None) -> tuple[Any, list[str]]:
    """Serve a result to browsers on this machine; see `SpatialMeanResult.view` for errors.

    Without a `port` of 127.0.0.1 it is any that is free, or the one that a viewer of this process
    has already. Returns a `neuroglancer.Viewer` (``neuroglancer.stop()`` ends all viewers), and a
    line for each channel whose raw frames are missing.
    """
    try:
        import neuroglancer
    except ImportError:
        raise RuntimeError(
            "neuroglancer is not installed (it shows stores in a browser): "
            f"{install_command('view')}, or draw one frame with plot"
        ) from None
    layers, missing = viewed_layers(result)
    if port is not None:
        _check_free(port)
        neuroglancer.set_server_bind_address("127.0.0.1", bind_port=port)
    viewer = neuroglancer.Viewer()

    def tell(line: str) -> None:
        with viewer.config_state.txn() as config:
            config.status_messages[line] = line

    first = layers[0]
    frames = first.stack.shape[0]
    height, width = (max(layer.stack.shape[axis] for layer in layers) for axis in (1, 2))
    with viewer.txn() as state:
        state.title = result.path.name
        state.dimensions = _space(neuroglancer, first, "xyt")  # the last is the one scrolled
        state.position = [width / 2, height / 2, frames // 2 + 0.5]
        state.cross_section_scale = _pixels_per_screen_pixel(layers, height, width)
        state.show_axis_lines = state.show_default_annotations = False
        for layer in layers:
            state.layers[layer.name] = _image(neuroglancer, layer, tell)
        state.layout = _side_by_side(neuroglancer, layers)
    for line in missing:
        tell(line)
    return viewer, missing


def _check_free(port: int) -> None:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        raise OSError(
            f"cannot serve on port {port} of 127.0.0.1 ({error.strerror}): pass another --port"
        ) from error


def _pixels_per_screen_pixel(layers: Sequence[Layer], height: int, width: int) -> float:
    """Return the zoom at which whole frames fit into their panels."""
    rows = len({layer.channel for layer in layers})
    columns = len({layer.kind for layer in layers})
    return max(width * columns / _WINDOW_PIX[0], height * rows / _WINDOW_PIX[1])


def _space(neuroglancer: Any, layer: Layer, axes: str) -> Any:
    """Return a coordinate space of these axes with a layer's scale."""
    places = [_AXES.index(axis) for axis in axes]
    units = [_UNITS[layer.units[place]] for place in places]
    return neuroglancer.CoordinateSpace(
        names=list(axes),
        units=[unit for unit, _ in units],
        scales=[layer.scale[p] * size for p, (_, size) in zip(places, units, strict=True)],
    )


def _image(neuroglancer: Any, layer: Layer, tell: Callable[[str], None]) -> Any:
    # Downsampled, a viewer would show means over frames where one frame is expected.
    served = Served(layer.stack, tell)
    volume = neuroglancer.LocalVolume(
        served,
        dimensions=_space(neuroglancer, layer, "tyx"),
        volume_type="image",
        downsampling="2d",
        max_downsampling=1,
    )
    shown, window = _control(layer.limits, served.dtype)
    return neuroglancer.ImageLayer(
        source=volume,
        shader=_SHADER.format(colour=layer.colour or "ffffff", unit=layer.unit),
        shader_controls={layer.unit: {"range": shown, "window": window}},
    )


def _control(limits: tuple[float, float], dtype: np.dtype[Any]) -> tuple[list[float], list[float]]:
    """Return what is shown from black to white, and the ends of its slider.

    For integers neuroglancer takes only whole numbers that the dtype holds. For others it falls
    back to all of the dtype, and a movie of some hundred counts is black.
    """
    low, high = limits
    margin = high - low
    shown, window = (low, high), (low - margin / 2, high + margin)
    if dtype.kind == "f":
        return [*shown], [*window]
    held = np.iinfo(dtype)
    whole: list[list[float]] = [
        [max(int(held.min), floor(first)), min(int(held.max), ceil(last))]
        for first, last in (shown, window)
    ]
    return whole[0], whole[1]


def _side_by_side(neuroglancer: Any, layers: Sequence[Layer]) -> Any:
    """Return a row of panels for each channel."""
    rows = [
        neuroglancer.row_layout(
            [
                neuroglancer.LayerGroupViewer(layers=[layer.name], layout="xy")
                for kind in KINDS
                for layer in layers
                if (layer.channel, layer.kind) == (channel, kind)
            ]
        )
        for channel in dict.fromkeys(layer.channel for layer in layers)
    ]
    return neuroglancer.column_layout(rows)
