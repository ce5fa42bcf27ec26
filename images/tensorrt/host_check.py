"""What the environment says for this image, checked by the host before a run. Pure: no TensorRT, no GPU."""

from __future__ import annotations

import re
from typing import Mapping, Optional

from common.harness.adapter import Unsupported
from images.tensorrt.profile import Options


def fault(environment: Mapping[str, str]) -> Optional[str]:
    """What is wrong with a value, naming its variable; None where nothing is. Which tactic sources exist only TensorRT knows."""
    try:
        # the batch sizes are set by the host itself
        options = Options.read({**environment, "FRAMEWATT_BATCH_SIZES": ""})
    except Unsupported as error:
        return str(error)
    for name in options.tactic_sources:
        if not re.fullmatch("[A-Z][A-Z0-9_]*", name):
            return f"FRAMEWATT_TRT_TACTIC_SOURCES has '{name}'; it takes names of trt.TacticSource, such as JIT_CONVOLUTIONS"
    return None
