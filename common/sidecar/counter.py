"""Energy counters that wrap or start again, made to rise."""

from __future__ import annotations

from typing import Optional


class Unwrapper:
    """Adds up the turns of a counter that wraps at `span` (in the counter's own unit).

    A fall is a wrap where the span is certain (RAPL names it: max_energy_range_uj), else only where the counter fell
    from the last to the first hundredth of the span. Any other fall is a restart (a reloaded driver): the reading is
    given as it is, `restarts` counts it, and the file then shows a counter that fell, which analysis must not use.
    """

    def __init__(self, span: float, certain: bool) -> None:
        self._span = span
        self._certain = certain
        self._last: Optional[float] = None
        self._wraps = 0.0
        self.restarts = 0

    def __call__(self, reading: float) -> float:
        """The reading plus the wraps so far; there must be a reading at least once per wrap."""
        if self._last is not None and reading < self._last:
            if self._certain or (self._last >= 0.99 * self._span and reading <= 0.01 * self._span):
                self._wraps += self._span
            else:
                self._wraps = 0.0
                self.restarts += 1
        self._last = reading
        return self._wraps + reading
