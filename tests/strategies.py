"""Hypothesis strategies: stacks, radii and chunkings."""

from itertools import pairwise

import dask.array as da
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

REAL_DTYPES = ["u1", "<u2", ">u2", "i2", ">i4", "u4", "i8", "f2", "<f4", ">f4", "f8"]


def examples(count, **options):
    """Return settings for so many examples where tests are thorough, and a quarter elsewhere."""
    share = settings.default.max_examples / settings.get_profile("thorough").max_examples
    return settings(max_examples=round(count * share), **options)


radii = st.one_of(
    st.sampled_from([0.01, 0.5, 1.0, 2.0, 3.5, 7.0, 12.0, 40.0]),
    st.floats(0.05, 30, allow_nan=False),
)
radius_pairs = st.tuples(radii, radii)


@st.composite
def runs(draw, length):
    """Cut an axis into runs of any lengths."""
    if length == 0:
        return (0,)
    cuts = draw(st.sets(st.integers(1, length), max_size=5))
    edges = [0, *sorted(cuts - {length}), length]
    return tuple(b - a for a, b in pairwise(edges))


@st.composite
def stacks(draw, dtypes=REAL_DTYPES, max_frames=4, max_side=24):
    """Camera-like counts of any real dtype."""
    shape = (
        draw(st.integers(0, max_frames)),
        draw(st.integers(1, max_side)),
        draw(st.integers(1, max_side)),
    )
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.integers(0, 120, shape).astype(dtype)


@st.composite
def chunked(draw, stack):
    """Put a stack into irregular chunks."""
    return da.from_array(stack, chunks=tuple(draw(runs(n)) for n in stack.shape))
