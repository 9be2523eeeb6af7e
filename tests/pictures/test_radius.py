"""The picture of a suggested radius: its curves and what three radii leave of a frame."""

import numpy as np
import pytest
from matplotlib.text import Text

from smlmlp_dask import simulate_movie, suggest_radius
from smlmlp_dask.pipeline.background_error import local_mean


@pytest.fixture(scope="module")
def suggestion(tmp_path_factory):
    path = tmp_path_factory.mktemp("movie") / "movie.npy"
    movie = simulate_movie(7, 160, 288, seed=3, photons=3000, events_per_frame=8).movie.compute()
    movie[:, :, 144:] = 100  # a channel without spots
    np.save(path, movie)
    return suggest_radius(path, bboxes=[[(0, 0, 144, 160), (144, 0, 288, 160)]])


@pytest.fixture(scope="module")
def figure(suggestion):
    return suggestion.plot()


def words(place):
    texts = dict.fromkeys(place.findobj(Text))
    return " ".join(" ".join(text.get_text().split()) for text in texts if text.get_text())


def test_it_says_radius_reason_and_notes(figure, suggestion):
    for place, channel in zip(figure.subfigs, suggestion.channels, strict=True):
        above = words(place.subfigs[0])
        assert above.startswith(f"Channel {channel.channel}: radius {channel.radius_pix:g} px")
        assert channel.reason in above
        assert channel.notes[0].startswith("Only 7 frames: ")
        assert channel.notes[0] in above


def test_the_curves_are_the_table(figure, suggestion):
    for place, channel in zip(figure.subfigs, suggestion.channels, strict=True):
        errors, shares = place.subfigs[1].axes
        drawn = {line.get_label(): line for line in errors.lines}
        total = drawn["both together"]
        np.testing.assert_array_equal(total.get_xdata(), [r.radius_pix for r in channel.table])
        np.testing.assert_array_equal(total.get_ydata(), [r.error_counts for r in channel.table])
        assert set(drawn["suggested"].get_xdata()) == {channel.radius_pix}
        assert ("no spots found" in words(shares)) == (channel.spot_sigma_pix is None)
    spots = [channel.spot_sigma_pix is not None for channel in suggestion.channels]
    assert spots == [True, False]


def test_three_radii_of_one_frame(figure, suggestion):
    channel = suggestion.channels[0]
    panels = figure.subfigs[0].subfigs[2].axes[:3]
    for panel, factor, what in zip(
        panels, (1 / 3, 1, 3), ("small", "suggested", "large"), strict=True
    ):
        radius = channel.radius_pix * factor
        background = local_mean(channel.frame[np.newaxis], radius)[0]
        (image,) = panel.images
        left, right, bottom, top = (int(edge + 0.5) for edge in image.get_extent())
        expected = (channel.frame - background)[top:bottom, left:right]
        assert expected.shape == (128, 128)
        np.testing.assert_array_equal(image.get_array(), expected)
        assert what in panel.get_title()
        assert f" {float(f'{radius:.2g}'):g} px" in panel.get_title()
        assert image.get_clim() == panels[0].images[0].get_clim()
