"""Numbers of frames as people read them; without Matplotlib, which is slow to import."""


def frame_name(frame: int, count: int) -> str:
    """Return the number of a frame, and how they are counted: the first is 0."""
    return f"frame {frame:,} of 0\N{EN DASH}{count - 1:,}"
