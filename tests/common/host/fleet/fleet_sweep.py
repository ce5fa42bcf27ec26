"""`invoke fleet sweep` without the table: `fleet_sweep.py ADDRESS JSON`, ending as the task does. JSON: options, wanted."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

from common.host.cli.command_line import for_people
from common.host.fleet.head.outcome import finish
from common.host.fleet.head.sweep import sweep
from common.host.fleet.head.targets import Wanted
from common.host.paths import DataFolder
from common.host.plan.options import Options


@for_people
def main(address: str, given: dict[str, Any]) -> None:
    console = Console(width=200)
    result = sweep(address, Options(**given["options"]), Wanted(**given["wanted"]), console, DataFolder.default())
    sys.exit(finish(result, console))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
