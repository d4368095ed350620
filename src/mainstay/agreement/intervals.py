"""How sure a share is that was counted: intervals for k of n.

Clopper and Pearson (Biometrika 1934): never narrower than promised. Wilson (JASA 1927): closer, and may be off a little
either way. Quantiles of the beta distribution come from bisecting the regularised incomplete beta function, which is
evaluated as a continued fraction (Abramowitz and Stegun 26.5.8) by Lentz's method.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

_TINY = 1e-300
_CLOSE = 1e-15


def wilson(k: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The two-sided interval for the share behind k of n; (0, 1) when nothing was counted."""
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, weight = k / n, z * z / n
    middle = (share + weight / 2) / (1 + weight)
    reach = z * math.sqrt(share * (1 - share) / n + weight / (4 * n)) / (1 + weight)
    return max(0.0, middle - reach), min(1.0, middle + reach)


@lru_cache(maxsize=20_000)
def clopper_pearson_upper(k: int, n: int, confidence: float = 0.95) -> float:
    """The share is at most this, with ``confidence`` (one-sided). 0 of 149 gives 2 %."""
    if k >= n:
        return 1.0
    if k == 0:
        return 1.0 - math.pow(1.0 - confidence, 1.0 / n)
    return beta_quantile(confidence, k + 1, n - k)


@lru_cache(maxsize=20_000)
def clopper_pearson_lower(k: int, n: int, confidence: float = 0.95) -> float:
    """The share is at least this, with ``confidence`` (one-sided)."""
    return 1.0 - clopper_pearson_upper(n - k, n, confidence)


def clopper_pearson(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The two-sided interval for the share behind k of n; (0, 1) when nothing was counted."""
    if n == 0:
        return 0.0, 1.0
    each = 0.5 + confidence / 2
    return clopper_pearson_lower(k, n, each), clopper_pearson_upper(k, n, each)


def beta_quantile(p: float, a: float, b: float) -> float:
    """The x below which a beta distribution of shape (a, b) has the share ``p``."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if incomplete_beta(a, b, middle) < p:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b)."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly its mirror image converges quickly
        return 1.0 - incomplete_beta(b, a, 1.0 - x)
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(scale) / (a * _fraction(a, b, x))


def _fraction(a: float, b: float, x: float) -> float:
    """1 + d1/(1 + d2/(1 + ...)) of the incomplete beta function."""
    value, numerator, denominator = 1.0, 1.0, 0.0
    for i in range(1, 10_000):
        m, odd = divmod(i, 2)
        if odd:
            d = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            d = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        denominator = 1.0 + d * denominator
        denominator = 1.0 / (denominator if abs(denominator) > _TINY else _TINY)
        numerator = 1.0 + d / numerator
        numerator = numerator if abs(numerator) > _TINY else _TINY
        value *= numerator * denominator
        if abs(numerator * denominator - 1.0) < _CLOSE:
            break
    return value
