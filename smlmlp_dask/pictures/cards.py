"""The images and curves of a channel as pictures of their own, for a page that arranges them."""

from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

from .curves import draw_kernels, draw_level
from .frames import Picture
from .overview import row_of
from .panels import Panel, Places, draw_panels
from .samples import ChannelSample

_PANEL_INCHES, _STRIP_INCHES = 4.0, 8.0
_CURVES_INCHES = (6.0, 2.8)
_DPI = 144


@dataclass(frozen=True)
class Card:
    """A picture.

    Attributes
    ----------
    words : str
        What it shows.
    png : bytes
        The picture.
    inches : float
        Width at which its letters have their size.
    """

    words: str
    png: bytes
    inches: float


def cards_of(sample: ChannelSample) -> list[Card]:
    """Draw what `draw_samples` draws of a channel, picture by picture."""
    row = row_of(sample)
    inches = _STRIP_INCHES if row.places.stacked else _PANEL_INCHES
    cards = []
    for panel in row.panels:
        if panel.pixels is not None:
            alone = replace(panel, unit=panel.unit or row.unit, pixel_um=row.pixel_um)
            cards.append(_image(alone, inches))
    width, height = _CURVES_INCHES
    figure = Picture.of_height(height, width)
    draw_level(figure.subplots(), sample)
    cards.append(_card(f"{sample.level_of} over time", figure))
    if sample.kernels is not None:
        figure = Picture.of_height(height, width)
        kernel_axes, residual_axes = figure.subplots(1, 2)
        draw_kernels(kernel_axes, residual_axes, sample.kernels)
        cards.append(_card("kernels", figure))
    return cards


def _image(panel: Panel, inches: float) -> Card:
    places = Places.of([panel], inches)
    figure = Picture.of_height(places.height_inches, inches)
    place: Any = figure.subfigures(1, 1)
    draw_panels(place, [panel], places)
    return _card(panel.title, figure)


def _card(words: str, figure: Picture) -> Card:
    png = BytesIO()
    figure.savefig(png, format="png", dpi=_DPI)
    return Card(words, png.getvalue(), float(figure.get_size_inches()[0]))
