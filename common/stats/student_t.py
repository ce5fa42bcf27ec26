"""Student's t for any degrees of freedom: the two functions that intervals ask for, by SciPy's incomplete beta function.

SciPy is imported when one of them is called: every command imports this module, and few of them need it.
"""

from __future__ import annotations

import math
from functools import lru_cache


def two_sided_p(t: float, freedom: float) -> float:
    """P(|T| > |t|) for Student's T with freedom > 0 degrees of freedom; not a number for a t that is none."""
    from scipy.special import stdtr

    return 2 * float(stdtr(freedom, -abs(t)))


@lru_cache(maxsize=4096)
def two_sided_quantile(confidence: float, freedom: float) -> float:
    """t such that P(|T| <= t) = confidence. Raises ValueError for a confidence outside 0 to 1."""
    if not 0 < confidence < 1:
        raise ValueError("confidence lies between 0 and 1")
    from scipy.special import stdtrit

    # the lower tail: close to a confidence of 1 its probability is exact where that of the upper end is rounded to 1
    found = -float(stdtrit(freedom, (1 - confidence) / 2))
    return found if math.isfinite(found) else math.inf
