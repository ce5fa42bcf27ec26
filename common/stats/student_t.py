"""Student's t for any degrees of freedom, which neither numpy nor the standard library has."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)
#: beyond this the normal distribution is right to four digits at the levels used here
_NORMAL_FROM = 2000.0


def two_sided_p(t: float, freedom: float) -> float:
    """P(|T| > |t|) for Student's T with freedom > 0 degrees of freedom.

    With t = sqrt(freedom) tan(a) the density becomes cos(a) ** (freedom - 1), which is smooth on a finite interval:
    Gauss-Legendre integrates it to the precision of floats.
    """
    if math.isnan(t):
        return math.nan
    t = abs(t)
    if freedom >= _NORMAL_FROM:
        return 2 * NormalDist().cdf(-t)
    angle = math.atan(t / math.sqrt(freedom))
    # The tail from the angle to pi/2, and its complement seen from there: sin near 0 keeps small tails exact.
    tail = math.pi / 2 - angle
    inside = _integral_of_sine_power(tail, freedom - 1)
    half = 0.5 * math.sqrt(math.pi) * math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2))
    return min(1.0, inside / half)


@lru_cache(maxsize=4096)
def two_sided_quantile(confidence: float, freedom: float) -> float:
    """t such that P(|T| <= t) = confidence."""
    if not 0 < confidence < 1:
        raise ValueError("confidence lies between 0 and 1")
    low, high = 0.0, 1.0
    while two_sided_p(high, freedom) > 1 - confidence:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        if two_sided_p(middle, freedom) > 1 - confidence:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _integral_of_sine_power(upper: float, power: float) -> float:
    """Integral of sin(a) ** power for a from 0 to upper, upper <= pi/2, power > -1.

    a = upper * x ** k with k = 2 / (power + 1) where the power is below 1 takes the singularity or kink at 0 away.
    """
    stretch = max(1.0, 2 / (power + 1))
    x = (_NODES + 1) / 2
    angle = upper * x**stretch
    # sin(a) ** power in logarithms, so that a high power of a small sine does not underflow early
    values = np.exp(power * np.log(np.sin(angle)) + np.log(upper * stretch) + (stretch - 1) * np.log(x))
    return float(_WEIGHTS @ values) / 2
