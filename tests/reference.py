"""What the package computes, written slowly and obviously, in float64 loops."""

import math

import numpy as np

#: Largest |background - reference| as a share of the largest |input| under the kernel.
#: A pass sums up to n products of float32 rounded weights (each off by 2**-24 of itself) and
#: stores float32 (2**-24 again); two passes give about 4 * 2**-24 = 2.4e-7. SPEC's limits leave
#: room for another order of summation, whose error grows slowly with the number of taps.
TOLERANCE = 1e-6
TOLERANCE_LARGE = 4e-6
LARGE_RADIUS = 20


def tolerance(*radii):
    """Return the tolerance of the larger radius."""
    return TOLERANCE if max(radii) <= LARGE_RADIUS else TOLERANCE_LARGE


def kernel(sigma):
    """Integrate a normal density over each pixel; zero beyond 2.5758 sigma; sum to 1."""
    length = math.ceil(6 * sigma)
    if length % 2 == 0:
        length += 1
    half = (length - 1) // 2
    weights = []
    for c in range(-half, half + 1):
        upper = math.erf((c + 0.5) / math.sqrt(2) / sigma)
        lower = math.erf((c - 0.5) / math.sqrt(2) / sigma)
        weights.append(0.0 if abs(c) > 2.5758293035489004 * sigma else (upper - lower) / 2)
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def correlate_line(line, weights):
    """Correlate one line; beyond its ends the nearest pixel repeats."""
    half = len(weights) // 2
    last = len(line) - 1
    return [
        math.fsum(
            weight * line[min(max(i + tap - half, 0), last)]
            for tap, weight in enumerate(weights)
            if weight != 0
        )
        for i in range(len(line))
    ]


def background(stack, sigma_y, sigma_x):
    """Correlate each frame along y, then along x; float32 after each pass."""
    kernel_y, kernel_x = kernel(sigma_y), kernel(sigma_x)
    out = np.empty(stack.shape, np.float32)
    for t, frame in enumerate(np.asarray(stack, np.float32).astype(float)):
        columns = [correlate_line(list(column), kernel_y) for column in frame.T]
        rows = np.array(columns, np.float32).T.astype(float)
        out[t] = [correlate_line(list(row), kernel_x) for row in rows]
    return out


def median(stack, window_fr):
    """Sort each pixel's frames t - w ... t + w; of an even number take the mean of the middle."""
    stack = np.asarray(stack, np.float32)
    out = np.empty(stack.shape, np.float32)
    for t, y, x in np.ndindex(stack.shape):
        window = sorted(stack[max(0, t - window_fr) : t + window_fr + 1, y, x].tolist())
        if any(math.isnan(value) for value in window):
            out[t, y, x] = math.nan
            continue
        half, is_odd = divmod(len(window), 2)
        middle = np.float32(window[half])
        # the sum of two float32 is one, infinite beyond its range
        out[t, y, x] = middle if is_odd else (np.float32(window[half - 1]) + middle) / 2
    return out


def under_disk(take, frame, radius_y, radius_x):
    """Take the least, or the most, of the pixels within an ellipse around each pixel."""
    out = np.empty(frame.shape, np.float32)
    for y, x in np.ndindex(frame.shape):
        out[y, x] = take(
            frame[other]
            for other in np.ndindex(frame.shape)
            if ((other[0] - y) / (2 * radius_y)) ** 2 + ((other[1] - x) / (2 * radius_x)) ** 2
            <= 1 / 4
        )
    return out


def opening(stack, radius_y, radius_x):
    """Take the least under the disk, then the most of that."""
    out = np.empty(stack.shape, np.float32)
    for t, frame in enumerate(np.asarray(stack, np.float32)):
        out[t] = under_disk(max, under_disk(min, frame, radius_y, radius_x), radius_y, radius_x)
    return out
