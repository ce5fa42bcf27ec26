"""`invoke fleet sweep` without the table: `fleet_sweep.py ADDRESS JSON`, ending as the task does. JSON: options, wanted."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

from common.host.bench_options import Options
from common.host.command_line import for_people
from common.host.fleet.outcome import finish
from common.host.fleet.seats import Wanted
from common.host.fleet.sweep import sweep
from common.host.paths import DataFolder


@for_people
def main(address: str, given: dict[str, Any]) -> None:
    console = Console(width=200)
    result = sweep(address, Options(**given["options"]), Wanted(**given["wanted"]), console, DataFolder.default())
    sys.exit(finish(result, console))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
