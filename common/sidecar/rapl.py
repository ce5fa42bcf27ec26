"""Energy of CPU packages and DRAM from the kernel's powercap tree (RAPL)."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from common.sidecar.counter import Unwrapper

POWERCAP = "/sys/class/powercap"


class Domain:
    """One RAPL counter. Reads through one open file: sysfs gives a fresh value at each pread from 0."""

    def __init__(self, name: str, folder: Path) -> None:
        """Raises OSError where the counter cannot be read, ValueError where it is no number."""
        self.name = name
        self._unwrap = Unwrapper(float(int((folder / "max_energy_range_uj").read_text())), certain=True)
        self._file = os.open(str(folder / "energy_uj"), os.O_RDONLY)
        try:
            self._microjoules()
        except (OSError, ValueError):
            os.close(self._file)
            raise

    def close(self) -> None:
        os.close(self._file)

    def _microjoules(self) -> int:
        return int(os.pread(self._file, 32, 0))

    def read(self) -> Dict[str, Any]:
        """One row of power.csv. Raises OSError or ValueError."""
        energy = self._unwrap(self._microjoules())
        return {"t_ns": time.monotonic_ns(), "domain": self.name, "energy_mj": energy / 1000}


class Rapl:
    """All readable package and DRAM domains. `unavailable` says why there are none, else it is None.

    Only `intel-rapl:*` counts (AMD uses the same name): `intel-rapl-mmio:*` shows the same packages a second time.
    """

    def __init__(self, root: Path, log: Callable[[str], None]) -> None:
        self._log = log
        self.domains: List[Domain] = []
        self.unavailable: Optional[str] = None
        refused = []
        for folder in sorted(root.glob("intel-rapl:*")):
            try:
                name = _domain_name(folder)
                if name is not None:
                    self.domains.append(Domain(name, folder))
            except PermissionError:  # noqa: PERF203 (each domain may fail alone)
                refused.append(folder.name)
            except (OSError, ValueError) as error:
                log(f"RAPL {folder.name} cannot be read: {error}")
        if refused:
            log(f"RAPL {', '.join(refused)}: energy_uj may be read by root only")
        if not self.domains:
            self.unavailable = "energy_uj may be read by root only" if refused else f"no RAPL domain in {root}"

    def close(self) -> None:
        """Closes the counters; nothing can be read any more."""
        for domain in self.domains:
            domain.close()
        self.domains = []

    def read(self) -> List[Dict[str, Any]]:
        """A row of each domain. A domain that fails is named once and left out from then on."""
        rows = []
        for domain in list(self.domains):
            try:
                rows.append(domain.read())
            except (OSError, ValueError) as error:  # noqa: PERF203 (each domain may fail alone)
                self._log(f"RAPL {domain.name} is gone: {error}")
                self.domains.remove(domain)
        return rows


def _domain_name(folder: Path) -> Optional[str]:
    """package-0, dram-0, ...; None for cores, graphics and platform, which overlap with them or are none of ours."""
    name = (folder / "name").read_text().strip()
    if name.startswith("package"):
        return name
    if name == "dram":
        package = (folder.parent / folder.name.rpartition(":")[0] / "name").read_text().strip()
        return "dram" + package[len("package") :] if package.startswith("package") else None
    return None
