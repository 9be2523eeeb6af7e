"""Draw how a movie goes through blocks into a store: python docs/pictures/blocks.py."""

from pathlib import Path

WIDTH = 720
BLOCKS = 3
FRAMES = 8  # of a block
COLOURS = ("#bfe0f5", "#fbdcb0", "#cfe8c9")  # with dark words on them: legible on any page
INK = "#1c2733"
ARROW = "#7d8790"
COLUMN = 200
GAP = 20
LEFT = (WIDTH - BLOCKS * COLUMN - (BLOCKS - 1) * GAP) / 2
STEPS = ("read whole frames", "filter them", "write whole chunks", "record checksums")


def box(x: float, y: float, width: float, height: float, colour: str, words: str = "") -> str:
    """Return a box with words in its middle."""
    drawn = (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" '
        f'fill="{colour}" stroke="{ARROW}"/>'
    )
    if words:
        middle, line = x + width / 2, y + height / 2
        drawn += f'<text x="{middle:g}" y="{line:g}">{words}</text>'
    return drawn


def arrow(x: float, top: float, bottom: float) -> str:
    """Return an arrow that points downwards."""
    return (
        f'<path d="M{x:g} {top:g}V{bottom - 6:g}" stroke="{ARROW}" stroke-width="2"/>'
        f'<path d="M{x - 5:g} {bottom - 8:g}L{x:g} {bottom:g}L{x + 5:g} {bottom - 8:g}Z" '
        f'fill="{ARROW}"/>'
    )


def picture() -> str:
    """Return the picture as SVG."""
    span = WIDTH - 2 * LEFT
    drawn = [box(LEFT, 10, span, 34, "#e6e9ec", "the movie: each block reads its part")]
    for block, colour in enumerate(COLOURS):
        left = LEFT + block * (COLUMN + GAP)
        middle = left + COLUMN / 2
        step = COLUMN / FRAMES
        drawn += [box(left + i * step, 56, step - 3, 40, colour) for i in range(FRAMES)]
        first = block * FRAMES
        words = f"block {block}: frames {first}-{first + FRAMES - 1}"
        drawn += [arrow(middle, 96, 118), box(left, 118, COLUMN, 34, colour, words)]
        top = 152.0
        for words in STEPS:
            drawn += [arrow(middle, top, top + 22), box(left, top + 22, COLUMN, 34, colour, words)]
            top += 56
        drawn.append(arrow(middle, top, top + 22))
    drawn.append(box(LEFT, top + 22, span, 34, "#e6e9ec", "the store: chunks and their checksums"))
    drawn.append(arrow(WIDTH / 2, top + 56, top + 78))
    words = "every byte is on the disk: finished"
    drawn.append(box(LEFT + span / 4, top + 78, span / 2, 34, "#e6e9ec", words))
    style = (
        "text{font:16px system-ui,sans-serif;text-anchor:middle;dominant-baseline:central;"
        f"fill:{INK}}}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + 122:g}">\n'
        f"<style>{style}</style>\n" + "\n".join(drawn) + "\n</svg>\n"
    )


Path(__file__).with_name("blocks.svg").write_text(picture(), encoding="utf-8")
