"""How tightly containers are held: seen from inside the running container and from the kernel, not from the arguments."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docker import DockerClient

from tests.engine.conftest import Bench, measuring, running
from tests.waiting import wait_for

Background = Callable[[Callable[[], Any]], threading.Thread]


def inside(container: Any, command: str) -> tuple[int, str]:
    code, output = container.exec_run(["sh", "-c", command])
    return code, output.decode().strip()


def status(container: Any, pid: str) -> dict[str, str]:
    _, text = inside(container, f"cat /proc/{pid}/status")
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def cgroup(pid: int, controller: str, v1: str, v2: str) -> str:
    """A limit of the control group of a process of this machine."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        number, controllers, group = line.split(":", 2)
        if controller in controllers.split(","):
            return (Path("/sys/fs/cgroup") / controller / group.lstrip("/") / v1).read_text().strip()
        if number == "0" and (Path("/sys/fs/cgroup") / group.lstrip("/") / v2).exists():
            return (Path("/sys/fs/cgroup") / group.lstrip("/") / v2).read_text().strip()
    raise AssertionError(f"no {controller} limit")


def test_the_running_worker_is_held(run_bench: Bench, client: DockerClient, in_background: Background) -> None:
    seen: dict[str, Any] = {}

    def look() -> None:
        wait_for(lambda: measuring(run_bench.data.results))
        container = running(client, "onnxrt_fp32")
        pids = inside(container, "grep -l common.harness /proc/[0-9]*/cmdline")[1].splitlines()
        # Process 1, the supervisor and the worker.
        found = [status(container, "1"), *(status(container, path.split("/")[2]) for path in pids)]
        seen["status"] = [process for process in found if "Uid" in process]  # the shell that looked is gone
        seen["etc"] = inside(container, "touch /etc/framewatt")
        seen["code"] = inside(container, "touch /opt/framewatt/common/x")
        seen["models"] = inside(container, "touch /data/models/x")
        seen["tmp"] = inside(container, "touch /tmp/x")
        seen["net"] = inside(container, "ls /sys/class/net")[1].split()
        seen["root"] = inside(container, "grep ' / ' /proc/1/mounts")[1].split()[3].split(",")
        container.reload()
        pid = container.attrs["State"]["Pid"]
        seen["pids"] = cgroup(pid, "pids", "pids.max", "pids.max")
        seen["memory"] = cgroup(pid, "memory", "memory.limit_in_bytes", "memory.max")
        seen["cpus"] = Path(f"/proc/{pid}/status").read_text().split("Cpus_allowed_list:")[1].split()[0]

    in_background(look)
    run_bench(batch_sizes="1", min_seconds=4.0, max_seconds=5.0, pids=300, memory="600m", cpus="0")
    assert len(seen["status"]) >= 3
    for process in seen["status"]:
        assert "0" not in process["Uid"].split()
        assert "0" not in process["Gid"].split()
        for capabilities in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"):
            assert int(process[capabilities], 16) == 0, capabilities
        assert process["NoNewPrivs"] == "1"
        assert process["Seccomp"] == "2"
    for name in ("etc", "code", "models"):
        code, words = seen[name]
        assert code != 0 and "Read-only file system" in words, name
    assert seen["tmp"][0] == 0
    assert seen["net"] == ["lo"]
    assert "ro" in seen["root"]
    assert seen["pids"] == "300"
    assert seen["memory"] == str(600 * 2**20)
    assert seen["cpus"] == "0"
