"""How long one inference of a row takes, also where its source timed whole passes only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: percentile -> column of `comparison` in ms
PERCENTILES = {50: "median_ms", 90: "p90_ms", 95: "p95_ms", 99: "p99_ms"}


def response_ms(row: Mapping[str, Any], percentile: int = 50) -> tuple[float | None, str]:
    """(ms of one inference, what it is).

    Where no inference was timed, one at a time was running, and the median is asked for: the mean time of a batch in a
    pass. None where neither is known.
    """
    value = row[PERCENTILES[percentile]]
    if value is not None:
        return float(value), "median" if percentile == 50 else f"p{percentile}"
    if percentile == 50 and row["scenario"] == "single-stream" and not row["samples"] and row["seconds_per_image"]:
        return float(row["seconds_per_image"]) * row["batch_size"] * 1e3, "mean over a pass"
    return None, "unknown"
