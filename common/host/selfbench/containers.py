"""What containers and the sidecar cost: `invoke selfbench --docker`.

It needs an engine, the onnxrt and sidecar images of the CPU flavour, and the environment of onnxrt for local runs.

*Container against local process.* A round starts the same prepared cell twice, in a worker's container and as a local
process, both alive all the time; they take turns in short blocks, in the order AB BA AB ... (common/interleaving.py), so
that both meet the same machine in the same seconds. Each pair of blocks gives one ratio of median latencies. Rounds are
fresh containers and processes: the interval over rounds holds what differs from one process to the next.

*Sidecar on against off.* One local process runs blocks while one sidecar is switched by SIGSTOP and SIGCONT, off on, on
off ...; each pair gives one ratio of throughputs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from common.errors import UserError
from common.harness.environment import worker_environment
from common.host import models
from common.host.children import dying_with_parent
from common.host.devices import the_cpu
from common.host.frameworks import environments
from common.host.frameworks.registry import Image, Variant, load_images, variables_set
from common.host.paths import IMAGES, ROOT, DataFolder
from common.host.runners.containers import engine
from common.host.runners.containers.images import tag_of
from common.host.runners.containers.leftovers import listed_images, remove_container
from common.host.runners.containers.limits import Limits
from common.host.runners.containers.ownership import container_user, lent
from common.host.runners.containers.runner import DockerRunner
from common.host.runners.jobs import INSIDE_RUN, inside_container
from common.host.temporary import temporary_folder
from common.host.verify.command import Case, SideEnded, SideProcess, side_environment
from common.model_files import ModelFiles
from common.stats.intervals import Interval
from common.stats.pairs import alternate, interval_of, latency_ratios, throughput_ratios
from common.typed_json import parse_object

VARIANT = "onnxrt"
BATCH_SIZE = 1
ROUNDS = 12
PAIRS_OF_A_ROUND = 12
BLOCK_S = 0.25
SIDECAR_PAIRS = 160


class Bench:
    """One cell of the onnxrt image, ready to be started in a container or as a process."""

    def __init__(self, console: Console, data: DataFolder, threads: int | None) -> None:
        by_name: dict[str, Image] = {image.name: image for image in load_images(IMAGES)}
        image = by_name["onnxrt"]
        variant: Variant = next(v for v in image.variants if v.name == VARIANT)
        if not environments.is_ready(image.name, "cpu"):
            console.print("Setting up onnxrt for local runs", highlight=False)
        interpreter = environments.ensure(image.name, "cpu")
        self.runner = DockerRunner(by_name, Limits())
        self.runner.prepare([variant], "cpu", lambda *step: None)
        self.data = data
        self.model: ModelFiles = self.runner.ensure_model(
            "MobileNetV3L", data, models.ExportOptions(), lambda *step: None
        )
        self.case = Case(
            variant, image, "tuned", "fp32", BATCH_SIZE, "host", interpreter, self.model, the_cpu(),
            data.framework_cache(image.name), threads, str(BATCH_SIZE),
        )  # fmt: skip

    @contextmanager
    def local(self, folder: Path) -> Iterator[SideProcess]:
        """The cell in a process, compiled and warm."""
        job = self.case.job(folder)
        job.write(folder / "job.json")
        command = [str(self.case.interpreter), "-m", "common.harness.interleaved_side", str(folder / "job.json")]
        side = SideProcess("the local process", command, side_environment(job), folder / "local.log")
        try:
            side.facts()
            yield side
        finally:
            side.close()

    @contextmanager
    def container(self, folder: Path, name: str) -> Iterator[SideProcess]:
        """The cell in a worker's container, compiled and warm."""
        local = self.case.job(folder)
        places = replace(inside_container(local.image, self.model.root.name), power_dir=None)
        job = replace(local, **vars(places), runner="docker")
        job.write(folder / "job.json")
        # What a supervisor gives its worker, as far as the sides could differ by it.
        environment = {key: value for key, value in worker_environment(local).items() if key.endswith("_NUM_THREADS")}
        environment |= variables_set([self.case.variant], os.environ)
        client = engine.connect()
        with lent(container_user(client.info()), folder, self.runner.cache(self.data, local.image)):
            made = self.runner.conversation(
                local.image, name, ["-m", "common.harness.interleaved_side", f"{INSIDE_RUN}/job.json"], folder, self.data,
                self.model, environment,
            )  # fmt: skip
            try:
                command = ["docker", "start", "--attach", "--interactive", name]
                side = SideProcess("the container", command, dict(os.environ), folder / "container.log")
                try:
                    side.facts()
                    yield side
                finally:
                    side.close()
            finally:
                remove_container(made)


def container_rounds(bench: Bench, folder: Path, rounds: int, on_round: Callable[[int], None]) -> list[list[float]]:
    """Ratios of median latency, container over local process, of each round."""
    found = []
    for number in range(rounds):
        places = [folder / f"{number}-{kind}" for kind in ("container", "local")]
        for place in places:
            place.mkdir()
        name = f"framewatt-selfbench-{uuid.uuid4().hex[:8]}-{number}"
        with bench.container(places[0], name) as container, bench.local(places[1]) as local:
            for side in (container, local):  # both warm on the machine as it is with both of them
                side.block(BLOCK_S)
            pairs = alternate(lambda: container.block(BLOCK_S), lambda: local.block(BLOCK_S), PAIRS_OF_A_ROUND)
        found.append(latency_ratios(pairs))
        on_round(number + 1)
    return found


def _powercap(folder: Path) -> Path:
    """Counters as the kernel shows RAPL's, so that the sidecar has something to read on any machine."""
    for place, name in (("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "dram")):
        domain = folder / place
        domain.mkdir(parents=True)
        for file, text in (("name", name), ("energy_uj", "1000000"), ("max_energy_range_uj", "262143328850")):
            (domain / file).write_text(f"{text}\n")
    return folder


@contextmanager
def switched_sidecar(folder: Path, gpu: str = "none") -> Iterator[Callable[[bool], None]]:
    """A sidecar at its default rates beside us; the function switches it on and off. gpu: UUID of the one that it reads."""
    command = [sys.executable, "-m", "common.sidecar", "--out", str(folder / "power.csv"), "--gpus", gpu]
    command += ["--powercap", str(_powercap(folder / "powercap")), "--parent-pid", str(os.getpid())]
    with subprocess.Popen(
        dying_with_parent(command), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as sidecar:
        assert sidecar.stdout is not None
        try:
            first = sidecar.stdout.readline()
            if parse_object(first).get("event") != "ready":
                raise UserError(f"the sidecar does not start: {first.decode().strip() or 'it said nothing'}")
            yield lambda on: os.kill(sidecar.pid, signal.SIGCONT if on else signal.SIGSTOP)
        finally:
            with suppress(ProcessLookupError):
                os.kill(sidecar.pid, signal.SIGCONT)
            sidecar.terminate()


def sidecar_ratios(bench: Bench, folder: Path, count: int) -> list[float]:
    """Ratios of throughput, sidecar on over off, of each pair."""
    with bench.local(folder) as side, switched_sidecar(folder) as switch:

        def block(on: bool) -> list[int]:
            switch(on)
            return side.block(BLOCK_S)

        block(True)
        return throughput_ratios(alternate(lambda: block(True), lambda: block(False), count))


def measure(console: Console, rounds: int = ROUNDS, sidecar_pairs: int = SIDECAR_PAIRS) -> None:
    """Prints the ratios with their intervals, and the sizes of the images that are there. Raises UserError."""
    client = engine.connect()
    console.print(
        escape(f"{the_cpu().product}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f} before"), highlight=False
    )
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("ratio", "median", "95 % interval", "pairs", "target"):
        table.add_column(title)
    with temporary_folder("docker") as folder:
        folder.chmod(0o755)  # the container's user looks into it
        data = DataFolder(folder / "data")
        data.root.mkdir()
        models = DataFolder.default().models
        models.mkdir(parents=True, exist_ok=True)
        data.models.symlink_to(models)

        def on_round(number: int) -> None:
            console.print(f"round {number} of {rounds}", highlight=False)

        try:
            one_thread = Bench(console, data, 1)
            containers = interval_of(container_rounds(one_thread, folder, rounds, on_round))
            _add(table, "median latency, container / local process, 1 thread", containers,
                 f"{rounds} x {PAIRS_OF_A_ROUND}", "1.00 +- 0.02")  # fmt: skip
            for threads in (1, None):
                place = folder / f"sidecar-{threads}"
                place.mkdir()
                ratios = interval_of([sidecar_ratios(Bench(console, data, threads), place, sidecar_pairs)])
                words = "1 thread" if threads else "all cores"
                _add(table, f"throughput, sidecar on / off, {words}", ratios, str(sidecar_pairs), "1.000 +- 0.005")
        except SideEnded as error:
            raise UserError(str(error)) from error
    console.print(table)
    console.print(f"load {os.getloadavg()[0]:.2f} after, this benchmark included", highlight=False)
    prefix = tag_of("", "").partition("/")[0]
    sizes = {tag: image.size for image in listed_images(client, name=f"{prefix}/*") for tag in image.tags}
    for tag, size in sorted(sizes.items()):
        console.print(escape(f"{tag}: {size / 1e6:,.0f} MB"), highlight=False)


def _add(table: Table, title: str, found: Interval, pairs: str, target: str) -> None:
    table.add_row(title, f"{found.estimate:.4f}", f"{found.low:.4f} to {found.high:.4f}", pairs, target)
