"""Front ends: what a worker runs in. A script, as a program would be run, or a cell of a Jupyter kernel."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Mapping, Optional

from common.schema import FRONTENDS

#: front end -> module that the supervisor starts as its worker; arguments: job.json, name, and three descriptors
MODULES: Mapping[str, str] = {
    "script": "common.harness.worker",
    "notebook": "common.harness.frontends.notebook",
}
REQUIREMENTS = Path(__file__).with_name("requirements-notebook.txt")


def refusal(frontend: str) -> Optional[str]:
    """Why this interpreter cannot run that front end, in one line; None where it can."""
    if frontend not in MODULES:
        return f"there is no front end {frontend}; there is {', '.join(FRONTENDS)}"
    if frontend == "notebook" and importlib.util.find_spec("ipykernel") is None:
        return (
            f"the front end notebook needs ipykernel, which {sys.executable} lacks: python -m pip install -r "
            f"common/harness/frontends/{REQUIREMENTS.name}; an image has it after invoke build --notebook"
        )
    return None
