"""What the environment says for this image, checked by the host before a run, too. Pure: no ONNX Runtime, no GPU."""

from __future__ import annotations

import math
from typing import Mapping, Optional

#: no further choice of a trial is begun after so long; the variable sets another bound, 0 takes the first that works
TRIAL, TRIAL_SECONDS = "FRAMEWATT_ONNXRT_TRIAL_SECONDS", 60.0


def trial_seconds(environment: Mapping[str, str]) -> float:
    """Seconds that the trial of a shape may take. Raises ValueError for what is no number from 0."""
    text = environment.get(TRIAL, "").strip()
    try:
        seconds = float(text or TRIAL_SECONDS)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{TRIAL} is '{text}'; it takes a number of seconds from 0")
    return seconds


def fault(environment: Mapping[str, str]) -> Optional[str]:
    """What is wrong with a value, naming its variable; None where nothing is."""
    try:
        trial_seconds(environment)
    except ValueError as error:
        return str(error)
    return None
