"""How far fresh workers of one cell lie apart, estimated from all cells of the same framework and device together.

Three workers alone tell little of their own spread: two degrees of freedom make Student's factor 4.3. But all cells of a
framework on a device are run by the same code on the same machine, so their spreads are samples of one distribution. Each
cell's variance is therefore moderated (empirical Bayes: Smyth, Statistical Applications in Genetics and Molecular Biology 3,
2004, sections 3 to 6): it is drawn towards the common one, with as many further degrees of freedom as the cells agree.

    s2 of a cell, d = workers - 1        common s0, worth d0            moderated (d0 s0 + d s2) / (d0 + d), d0 + d

d0 comes from the scatter of the cells' log variances beyond what d explains. Half a standard error is added to that scatter
first: few cells that agree by chance would otherwise count as proof that all do, and a noisy cell among quiet ones would be
called clear too often. No more degrees of freedom are claimed than all cells have between them. Spreads are of logarithms,
that is, relative.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

#: standard errors by which the cells' disagreement is taken to be larger than seen
CAUTION = 0.5
#: fewer spreads than this say nothing of how alike spreads are
MIN_SPREADS = 3
#: Degrees of freedom that others must have for the interval of a single worker: what three workers of its own, the default, would
#: give. With fewer Student's factor, 4.3 at two, leaps to 12.7 at one and to 99 at a half: cells that disagree so much tell
#: nothing of the next one.
LEAST_FREEDOM = 2.0
#: variance that equal figures have: no clock tells a millionth
SMALLEST = 1e-12


@dataclass(frozen=True)
class Spread:
    """Variance between the logarithms of workers' figures, and its degrees of freedom."""

    variance: float
    freedom: float


@dataclass(frozen=True)
class Pool:
    """What the cells of a framework and device tell together.

    common: s0 squared with d0 degrees of freedom, which are 0 where the cells are too few to tell whether they agree.
    residual: degrees of freedom of all cells together. largest: of the spreads, which stands in where d0 is 0.
    """

    common: Spread
    residual: float
    largest: Spread

    def moderated(self, own: Spread) -> Spread:
        """The spread to use for a cell that has `own`, which of a single worker has 0 degrees of freedom.

        It has 0 again where the other cells have fewer than LEAST_FREEDOM to lend: then nothing is known of how the next worker
        would do.
        """
        found = self._moderated(own)
        return own if own.freedom == 0 and found.freedom < LEAST_FREEDOM else found

    def _moderated(self, own: Spread) -> Spread:
        prior = self.common
        if prior.freedom == 0:
            return own if own.freedom > 0 else self.largest
        if math.isinf(prior.freedom):
            return Spread(prior.variance, self.residual)
        freedom = prior.freedom + own.freedom
        variance = (prior.freedom * prior.variance + own.freedom * own.variance) / freedom
        return Spread(variance, min(freedom, self.residual))

    def most_freedom(self, *own: float) -> float:
        """Degrees of freedom that cells with so many of their own have together: the common ones count once."""
        return math.inf if self.common.freedom == 0 else min(self.common.freedom + sum(own), self.residual)


def spread_of(figures: Sequence[float]) -> Spread:
    """Between positive figures, one a worker, in any unit; of a single one nothing is known."""
    if len(figures) < 2:
        return Spread(0.0, 0)
    return Spread(max(float(np.var(np.log(figures), ddof=1)), SMALLEST), len(figures) - 1)


def pool(spreads: Sequence[Spread]) -> Pool | None:
    """None where no cell has two workers."""
    known = [one for one in spreads if one.freedom > 0]
    if not known:
        return None
    variances, freedoms = (np.array([getattr(one, name) for one in known]) for name in ("variance", "freedom"))
    variances = np.maximum(variances, SMALLEST)
    residual = float(freedoms.sum())
    largest = max(known, key=lambda one: one.variance)
    if len(known) < MIN_SPREADS:
        return Pool(Spread(0.0, 0), residual, largest)
    from scipy.special import digamma, polygamma  # see student_t

    logs = np.log(variances) - digamma(freedoms / 2) + np.log(freedoms / 2)
    explained = polygamma(1, freedoms / 2)
    count = len(known)
    # Variance of a sample variance: of the logarithms of chi-square, whose fourth cumulant is the tetragamma's derivative.
    error = math.sqrt(
        (2 * float(explained.mean()) ** 2 * count / (count - 1) + float(polygamma(3, freedoms / 2).mean())) / count
    )
    beyond = float(logs.var(ddof=1)) - float(explained.mean()) + CAUTION * error
    if beyond <= 0:
        return Pool(Spread(float(variances @ freedoms) / residual, math.inf), residual, largest)
    prior = 2 * _inverse_trigamma(beyond)
    # Half way between what the logarithms say of the common variance and the plain mean of the variances: few cells leave the
    # former so uncertain that intervals of nominal 95 % held 92 %, and the latter lets one noisy cell speak for all.
    typical = math.exp(float(logs.mean()) + float(digamma(prior / 2)) - math.log(prior / 2))
    common = math.sqrt(typical * float(variances @ freedoms) / residual)
    return Pool(Spread(common, prior), residual, largest)


def pools_of(figures: Iterable[tuple[Hashable, Sequence[float]]]) -> dict[Hashable, Pool]:
    """Group -> what its cells tell together, from (group, one figure a worker) of each cell; only groups that tell something.

    Cells of one worker, and such with figures that are not positive, say nothing.
    """
    spreads: dict[Hashable, list[Spread]] = {}
    for group, members in figures:
        if len(members) > 1 and min(members) > 0:
            spreads.setdefault(group, []).append(spread_of(members))
    return {group: found for group, members in spreads.items() if (found := pool(members)) is not None}


def _inverse_trigamma(value: float) -> float:
    """x with trigamma(x) = value > 0, by Newton's method on its inverse, which is nearly straight (Smyth 2004, appendix)."""
    from scipy.special import polygamma

    x = 0.5 + 1 / value
    for _ in range(50):
        found = float(polygamma(1, x))
        step = found * (1 - found / value) / float(polygamma(2, x))
        x += step
        if -step / x < 1e-10:
            break
    return x
