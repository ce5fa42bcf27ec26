"""`invoke selfbench --fleet`: what a sweep over many GPUs costs the machine that collects it, with no-op cells.

Printed for 10, 100 and 1,000 GPUs of 200 cells each: the decisions alone (schedule.py, nothing else); then the whole way of
a cell from a host's message through Ray's streams, the transport, the loop, hashes and synced files to the run folder; the
memory of the processes that a head has for it; and the time to the merged table. See docs/fleet.md for what this shows
and what it cannot show on one machine.
"""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from analysis.selfbench import reading
from common.errors import UserError
from common.host.devices import cpu_model
from common.host.fleet.head.loop import Order
from common.host.fleet.head.schedule import Schedule
from common.host.fleet.head.sweep import run_sweep
from common.host.fleet.head.targets import Target, Work
from common.host.fleet.transport.cluster import Node
from common.host.fleet.transport.connection import Changed, Transport, need_ray
from common.host.fleet.transport.loopback import on_loopback
from common.host.fleet.transport.simulated_host import work_keys
from common.host.paths import DataFolder
from common.host.plan.options import Options

SIZES = (10, 100, 1000)
CELLS = 200
ACCELERATOR = "SIMULATED"
STORE_BYTES = 200 * 2**20


@dataclass
class Figures:
    """Of one size. Seconds of wall time and of CPU time; peak resident sets in MiB."""

    gpus: int
    cells: int
    decisions_s: float = 0.0
    sweep_s: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)
    memory_mib: dict[str, float] = field(default_factory=dict)
    table_s: float = 0.0
    table_mib: float = 0.0
    rows: int = 0


def decisions(gpus: int, cells: int, lost: int = 0) -> float:
    """Seconds that all decisions of a sweep take: every cell finished, `lost` hosts lost when half of theirs are done."""
    keys = work_keys(cells)
    nodes = [Node(f"n{i}", f"host{i}", gpus=1, accelerators=(ACCELERATOR,)) for i in range(gpus)]
    begin = time.perf_counter()
    schedule = Schedule({Target(ACCELERATOR, number): keys for number in range(1, gpus + 1)})
    schedule.update_nodes(nodes)
    free = list(nodes)
    running: dict[str, tuple[str, Iterator[str]]] = {}
    while not schedule.done:
        schedule.withdraw()
        for one in schedule.next():
            running[one.attempt] = (free.pop().id if free else nodes[-1].id, iter(one.cells))
            schedule.started(one.attempt, running[one.attempt][0])
        # As many news as the loop takes at once.
        for attempt, (node, left) in list(running.items()):
            for _, key in zip(range(5), left, strict=False):
                schedule.finished(attempt, key)
            if lost and schedule.left_of(attempt) <= cells // 2:
                lost -= 1
                schedule.ended(attempt, "the host was lost")
                del running[attempt]
            elif not schedule.left_of(attempt):
                schedule.ended(attempt)
                del running[attempt]
                free.append(next(one for one in nodes if one.id == node))
    return time.perf_counter() - begin


@contextmanager
def cluster(gpus: int) -> Iterator[Any]:
    """A head that declares so many GPUs; ended afterwards."""
    os.environ.update(on_loopback())
    from ray.cluster_utils import Cluster

    head = {
        "num_cpus": 2, "num_gpus": gpus, "resources": {f"accelerator_type:{ACCELERATOR}": 1}, "include_dashboard": False,
        "object_store_memory": STORE_BYTES,
    }  # fmt: skip
    found = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield found
    finally:
        found.shutdown()


def measure(gpus: int, cells: int, folder: Path) -> Figures:
    """One size, in an empty folder. Raises UserError where something went wrong: then there are no figures."""
    figures = Figures(gpus, gpus * cells, decisions_s=decisions(gpus, cells, lost=gpus // 100))
    keys = tuple(work_keys(cells))
    work = Work({Target(ACCELERATOR, number): keys for number in range(1, gpus + 1)})
    data = DataFolder(folder)
    data.results.mkdir(parents=True)
    order = Order("selfbench", "selfbench", 1, Options(), "gpu", "none", command="invoke selfbench --fleet")
    with (
        cluster(gpus) as head,
        Transport(head.address, data, ("-m", "common.host.fleet.transport.simulated_ray")) as transport,
        _Watch({"link": transport.pid, **_processes(head)}) as watch,
    ):
        nodes = _nodes(transport)
        used = resource.getrusage(resource.RUSAGE_SELF)
        begin = time.perf_counter()
        result = run_sweep(
            order, work, None, transport, nodes, {}, Console(file=io.StringIO(), quiet=True), data.results
        )
        figures.sweep_s = time.perf_counter() - begin
        after = resource.getrusage(resource.RUSAGE_SELF)
        watch.look()
        figures.cpu_s = {"sweep": after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime, **watch.cpu_s}
        figures.memory_mib = {"sweep": after.ru_maxrss / 1024, **watch.peak_mib}
    if result.missing or result.errors or result.statuses != {"ok": figures.cells}:
        raise UserError(f"the simulated sweep lost cells: {result.statuses}, {result.errors}")
    table = reading.measure(data.results)
    figures.table_s, figures.table_mib, figures.rows = table.seconds, table.peak_mib, table.rows
    return figures


def _nodes(transport: Transport) -> tuple[Node, ...]:
    while True:
        for news in transport.poll(1.0):
            if isinstance(news, Changed):
                return news.nodes


def _processes(head: Any) -> dict[str, int]:
    processes = head.head_node.all_processes
    return {"GCS": processes["gcs_server"][0].process.pid, "raylet": processes["raylet"][0].process.pid}


class _Watch:
    """CPU time and largest resident set of other processes, read off /proc every second."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self._begin = {name: _cpu_s(pid) for name, pid in pids.items()}
        self.cpu_s: dict[str, float] = {}
        self.peak_mib: dict[str, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def look(self) -> None:
        for name, pid in self._pids.items():
            self.cpu_s[name] = _cpu_s(pid) - self._begin[name]
            self.peak_mib[name] = max(self.peak_mib.get(name, 0.0), _peak_mib(pid))

    def _run(self) -> None:
        while not self._ended.wait(1.0):
            self.look()

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


def fleet_selfbench(console: Console, sizes: tuple[int, ...] = SIZES, cells: int = CELLS) -> None:
    """Prints the figures of each size as soon as they are known. Each size has a process of its own: memory is never given back."""
    need_ray()
    load = os.getloadavg()[0]
    console.print(escape(f"{cpu_model()}, {os.cpu_count()} cores, load {load:.2f}, {date.today()}"), highlight=False)
    for gpus in sizes:
        command = [sys.executable, "-m", "analysis.selfbench.fleet", str(gpus), str(cells)]
        done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"{gpus} GPUs: {(done.stderr.strip().splitlines() or ['no words'])[-1]}")
        console.print(escape(done.stdout.rstrip()), highlight=False, soft_wrap=True)


def describe(figures: Figures) -> str:
    per_cell = 1e3 / figures.cells
    total = sum(figures.cpu_s.values())
    parts = ", ".join(f"{name} {seconds * per_cell:.2f}" for name, seconds in figures.cpu_s.items())
    memory = ", ".join(f"{name} {mib:,.0f}" for name, mib in figures.memory_mib.items())
    return (
        f"{figures.gpus:,} GPUs, {figures.cells:,} cells:\n"
        f"  decisions alone: {figures.decisions_s * per_cell * 1e3:.1f} us a cell\n"
        f"  from message to synced files: {figures.sweep_s:.1f} s, {figures.sweep_s * per_cell:.2f} ms a cell; "
        f"CPU time {total * per_cell:.2f} ms a cell ({parts})\n"
        f"  peak memory of the head, MiB: {memory}; together {sum(figures.memory_mib.values()):,.0f}\n"
        f"  merged table of {figures.rows:,} rows: {figures.table_s:.1f} s, {figures.table_mib:,.0f} MiB"
    )


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="framewatt-selfbench-") as folder:
        print(describe(measure(int(sys.argv[1]), int(sys.argv[2]), Path(folder) / "data")), flush=True)


if __name__ == "__main__":
    main()
