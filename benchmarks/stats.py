"""Order statistics, and an interval for a median of ratios. No assumption about distributions."""

import math
import random
import statistics
from collections.abc import Sequence
from typing import Final

RESAMPLES: Final = 10_000


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of all are not above (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median_interval(values: Sequence[float], *, confidence: float = 0.95, seed: int = 1) -> tuple[float, float, float]:
    """Return the median and its bootstrap interval; the seed makes it repeatable."""
    draw = random.Random(seed)  # noqa: S311 - statistics
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(RESAMPLES))
    tail = (1 - confidence) / 2
    return statistics.median(values), percentile(medians, tail), percentile(medians, 1 - tail)
