"""A characteristic of the statistics as the selfbench tells it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One characteristic: the share of runs in which something held, and where it ought to lie.

    detail: what else happened, for people. A figure without a target (0 to 1) is shown for information.
    """

    name: str
    share: float
    low: float
    high: float
    runs: int
    detail: str = ""

    @property
    def met(self) -> bool:
        return self.low <= self.share <= self.high
