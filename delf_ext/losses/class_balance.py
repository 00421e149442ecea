"""Compute weights and margins of classes from the number of their training images."""

from __future__ import annotations

import math
from collections.abc import Sequence


def log_weights(images_per_class: Sequence[int]) -> list[float]:
    """Return the weight of each class: 1 / log(1 + n), scaled to a mean of 1 over the classes.

    Source: the code of Ha et al., arXiv:2010.05350, which weighs landmarks so.

    Args:
        images_per_class: n of each class, at least 1.

    Returns:
        C weights.

    >>> [round(weight, 3) for weight in log_weights([1, 3])]
    [1.333, 0.667]
    """
    weights = [1 / math.log1p(count) for count in images_per_class]
    mean = sum(weights) / len(weights)
    return [weight / mean for weight in weights]


def adaptive_margins(
    images_per_class: Sequence[int], power: float, smallest: float, largest: float
) -> list[float]:
    """Return the margin of each class: a n^(-power) + b; a rare class has a large margin.

    a and b are such that the rarest class has the largest margin, and the most frequent one the
    smallest. If all classes have as many images, all have the largest.

    Source: Ha et al., arXiv:2010.05350, section 3.3; there power 1/4, margins .05 to .5.

    Args:
        images_per_class: n of each class, at least 1.
        power: 0 gives all classes the largest margin.
        smallest: margin of the class with the most images.
        largest: margin of the class with the fewest images.

    Returns:
        C margins.

    >>> [round(margin, 3) for margin in adaptive_margins([1, 16, 81], 0.25, 0.0, 0.4)]
    [0.4, 0.1, 0.0]
    """
    powers = [count**-power for count in images_per_class]
    least = min(powers)
    span = max(powers) - least
    if span == 0:
        return [largest] * len(powers)
    return [smallest + (value - least) / span * (largest - smallest) for value in powers]
