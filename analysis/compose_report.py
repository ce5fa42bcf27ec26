"""Last service of a sweep under compose: ends the run, prints its tables and draws its report."""

from __future__ import annotations

from analysis.analyze import analyze
from common.host.cli.console import default_console
from common.host.compose.finish import finish, give_back
from common.host.compose.rendezvous import Rendezvous, service
from common.host.paths import DataFolder


def report(flavour: str, rendezvous: Rendezvous) -> int:
    """Exit code of the analysis. Raises UserError where the plan made no run."""
    data = DataFolder.default()
    try:
        run = finish(rendezvous, data)
        return analyze([run.folder], data.report / run.name, default_console()).exit_code
    finally:
        give_back(data)


if __name__ == "__main__":
    service(report)
