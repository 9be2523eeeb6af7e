"""What steps are, in words: for those who show backgrounds and do not filter."""

from collections.abc import Sequence
from typing import Any


def mean_of(chain: Sequence[Any]) -> Any:
    """Return the last local mean among the steps of a channel, or None."""
    means = [step for step in chain if step.to_attributes()["step"] == "mean"]
    return means[-1] if means else None


def mean_alone(chain: Sequence[Any]) -> Any:
    """Return the local mean if it is the only step, or None."""
    return mean_of(chain) if len(chain) == 1 else None


def in_words(chain: Sequence[Any]) -> str:
    """Return the steps in words; of the local mean alone, its radii."""
    text = listed([step.to_attributes() for step in chain])
    return text.removeprefix("mean ") if mean_alone(chain) else text


def listed(chain: Sequence[dict[str, Any]]) -> str:
    """Return the steps, as attributes have them, in words."""
    return ", then ".join(map(_in_words, chain))


def _in_words(step: dict[str, Any]) -> str:
    if step["step"] == "median":
        return f"median of {2 * step['window_fr'] + 1} frames"
    return f"{step['step']} {'{:g}, {:g}'.format(*step['radii_pix'])} px"
