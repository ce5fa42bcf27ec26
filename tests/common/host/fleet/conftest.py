"""A real Ray cluster on this machine, its hosts with checkouts and data folders of their own, and sweeps as people type them."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from common.host.fleet.transport.loopback import on_loopback
from tests.common.host.faults.conftest import DOCKERFILE, ROOT, TOY, descendants, make_model
from tests.fake_nvml import build

#: short windows and no waiting: what is measured here is nobody's figure
SETTINGS = {
    "min_seconds": 0.05, "max_seconds": 0.2, "min_samples": 16, "min_images": 1, "precision_of_median": 0.5,
    "warmup_max_seconds": 0.05, "idle_seconds": 0.02, "cell_timeout_s": 280.0,
}  # fmt: skip
OPTIONS = {
    "framework": "sleeper", "model": "MobileNetV3S", "weights": "seeded", "batch_sizes": "1,2,3,4,5", "device": "cpu", "threads": 1,
    "replicates": 1, "python": sys.executable,
}  # fmt: skip
#: the same as typed, as far as it can be typed
TYPED = (
    "--model", "MobileNetV3S", "--weights", "seeded", "--min-seconds", "0.05", "--max-seconds", "0.2", "--images", "1",
    "--warmup-seconds", "0.05", "--idle-seconds", "0.02", "--threads", "1", "--device", "cpu", "--replicates", "1",
    "--python", sys.executable,
)  # fmt: skip
#: a lost host is noticed within a second or two, as a real one is within fifteen
SYSTEM = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
STORE = 80 * 2**20


#: added to the toy: while the file that TOY_GATE names exists, each worker does one cell and waits before the next
GATE = """
measured = 0


def gate(self, cell, supports=Toy.supports):
    global measured
    while measured and os.path.exists(os.environ.get("TOY_GATE", "")):
        time.sleep(0.01)
    measured += 1
    return supports(self, cell)


Toy.supports = gate
"""


def make_checkout(folder: Path) -> Path:
    """framewatt with nothing but the toy framework under images/."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("common", "analysis"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "tasks.py", folder / "tasks.py")
    (folder / "images" / "toy").mkdir(parents=True)
    (folder / "images" / "toy" / "Dockerfile").write_text(DOCKERFILE)
    (folder / "images" / "toy" / "adapter.py").write_text(TOY.read_text() + GATE)
    return folder


@dataclass
class Host:
    """One node of the cluster: its processes belong to this test."""

    name: str
    checkout: Path
    data: Path
    node: Any = None

    @property
    def raylet(self) -> int:
        return int(self.node.all_processes["raylet"][0].process.pid)

    def kill(self) -> None:
        """As a power failure: everything of it at once, the agent and its workers too."""
        ours = [one.process.pid for processes in self.node.all_processes.values() for one in processes]
        for pid in [*ours, *descendants(self.raylet)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@dataclass
class Fleet:
    """The cluster, and the machine from which sweeps are started."""

    root: Path
    cluster: Any
    driver: Path
    hosts: dict[str, Host] = field(default_factory=dict)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    @property
    def gate(self) -> Path:
        return self.root / "gate"

    def add(self, name: str, accelerator: str, gpus: int = 1, **environment: str) -> Host:
        checkout, data = make_checkout(self.root / name / "framewatt"), self.root / name / "data"
        make_model(data / "models" / "MobileNetV3S-0123456789ab")
        variables = {
            "FRAMEWATT_CHECKOUT": str(checkout), "FRAMEWATT_DATA": str(data), "RAY_worker_niceness": "0",
            "TOY_GATE": str(self.gate),
        }  # fmt: skip
        host = Host(name, checkout, data)
        host.node = self.cluster.add_node(
            wait=False, node_name=name, num_cpus=1, num_gpus=gpus, object_store_memory=STORE, include_dashboard=False,
            resources={f"accelerator_type:{accelerator}": 1}, env_vars={**variables, **environment},
        )  # fmt: skip
        self.hosts[name] = host
        return host

    def remove(self, name: str) -> None:
        host = self.hosts.pop(name)
        self.cluster.remove_node(host.node, allow_graceful=False)

    def data(self, name: str) -> Path:
        folder = self.root / "drivers" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def start(
        self, data: Path, accelerators: str = "", per_accelerator: str = "1", **options: Any
    ) -> subprocess.Popen[str]:
        """A sweep as a process; it prints no table."""
        given = {
            "options": {**OPTIONS, **options, "settings": {**SETTINGS, **options.get("settings", {})}},
            "wanted": {"accelerators": accelerators, "per_accelerator": per_accelerator},
        }
        script = Path(__file__).with_name("fleet_sweep.py")
        return self._start(data, str(script), self.address, json.dumps(given))

    def run(self, data: Path, *words: str, task: str = "sweep", **variables: str) -> tuple[int, str]:
        """`invoke fleet sweep` as it is typed, with these variables of the environment."""
        command = ("-m", "common.host.cli.program", "fleet", task, "--address", self.address, *words)
        process = self._start(data, *command, **variables)
        output, _ = process.communicate(timeout=150)
        return process.returncode, output

    def _start(self, data: Path, *command: str, **variables: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "FRAMEWATT_DATA": str(data), "PYTHONPATH": str(self.driver), **variables}
        process = subprocess.Popen(
            [sys.executable, *command], cwd=self.driver, env=environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.started.append(process)
        return process


def cells(data: Path) -> list[Path]:
    return sorted(path.parent for path in (data / "results").glob("*/cells/*/cell.csv"))


def runs_of(data: Path) -> list[dict[str, Any]]:
    """run.json of every run, with `folder` and `keys`: the cells that are there."""
    found = []
    for path in sorted((data / "results").glob("*/run.json")):
        keys = sorted(cell.parent.name for cell in path.parent.glob("cells/*/cell.csv"))
        found.append(json.loads(path.read_text()) | {"folder": path.parent, "keys": keys})
    return found


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A host's checkout; not to be changed."""
    return make_checkout(tmp_path_factory.mktemp("host") / "framewatt")


def two_gpus(folder: Path) -> dict[str, str]:
    """Variables that make a host see two GPUs."""
    if build.compiler() is None:
        return {}
    folder.mkdir()
    library = build.build(folder)
    return {**build.library_path(library), "FAKE_NVML_GPUS": "2", "FAKE_NVML_NAME": "Tesla V100-SXM2-16GB"}


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two hosts with an A2 each, by their word, and one with two V100, by NVML's stand-in where there is a compiler for it."""
    # Before Ray is imported. Its ports are open to all of this machine's network: a token keeps others out.
    os.environ |= {**on_loopback(), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    pytest.importorskip("ray", reason="Ray is not installed: pip install --require-hashes -r requirements-fleet.lock")
    from ray.cluster_utils import Cluster

    root = tmp_path_factory.mktemp("fleet")
    head = {
        "num_cpus": 0, "num_gpus": 0, "node_name": "head", "object_store_memory": STORE, "include_dashboard": False,
        "_system_config": SYSTEM,
    }  # fmt: skip
    cluster = Cluster(initialize_head=True, head_node_args=head)
    fleet = Fleet(root, cluster, make_checkout(root / "driver" / "framewatt"))
    try:
        fleet.add("a2-east", "A2")
        fleet.add("a2-west", "A2")
        fleet.add("v100-north", "V100", gpus=2, **two_gpus(root / "nvml"))
        yield fleet
    finally:
        for process in fleet.started:
            if process.poll() is None:
                process.kill()
                process.communicate()
        cluster.shutdown()


@pytest.fixture
def closed_gate(fleet: Fleet) -> Iterator[Path]:
    """While this file exists every worker waits after its first cell: things happen in the middle, however slow the machine."""
    fleet.gate.touch()
    yield fleet.gate
    fleet.gate.unlink(missing_ok=True)


@pytest.fixture
def data(fleet: Fleet, request: pytest.FixtureRequest) -> Path:
    """The driver's data folder, one for each test."""
    return fleet.data(request.node.name)
