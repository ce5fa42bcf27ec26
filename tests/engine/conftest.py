"""Tests on a real Docker engine: images of the CPU flavour, built once a session under a prefix of their own."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import functools
import hashlib
import io
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from docker.errors import ImageNotFound
from rich.console import Console

from common.host.bench.command import bench
from common.host.bench.execution import Outcome
from common.host.paths import ROOT, DataFolder
from common.host.plan.options import Options
from common.host.runners.containers import engine, images
from common.host.runners.containers.leftovers import listed_images

BASE = "local/framewatt-base:latest"
#: of images, containers and volumes of these tests; other checkouts may test on the same engine
FAMILY = "framewatt-test-"
CHECKOUT = f"{FAMILY}{hashlib.sha256(str(ROOT).encode()).hexdigest()[:6]}"
#: each of pytest's processes has its own; their images are of the same layers
PREFIX = "-".join(filter(None, (CHECKOUT, os.environ.get("PYTEST_XDIST_WORKER", ""))))


@functools.cache
def missing() -> str:
    """Why engine tests cannot run here, "" where they can."""
    if not engine.answers():
        return "no Docker engine answers: .ci/engine starts one on Debian"
    if subprocess.run(["docker", "image", "inspect", BASE], capture_output=True).returncode:
        return f"no image {BASE}: .ci/base-image makes it"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.engine)


@pytest.fixture(scope="session", autouse=True)
def engine_images() -> Iterator[None]:
    """Images of onnxrt, the sidecar and analyze; they stay for the next run of this checkout, those of checkouts before it go."""
    if missing():
        pytest.skip(missing())
    # older checkouts look for a lock of the prefix, not of the checkout
    with pytest.MonkeyPatch.context() as patch, lock_of(CHECKOUT, fcntl.LOCK_SH), lock_of(PREFIX, fcntl.LOCK_SH):
        patch.setenv("FRAMEWATT_IMAGES", PREFIX)
        client = engine.connect()
        for name in ("onnxrt", "sidecar", "analyze"):
            build(client, name)
        yield
        remove_left(client)  # not before: what they installed is this checkout's too
        assert containers(client) == [], "a test left containers behind"


@contextlib.contextmanager
def lock_of(name: str, how: int) -> Iterator[bool]:
    """Holds a lock, as flock(2) has it; False where somebody else's stands in the way, or the file is another user's."""
    with contextlib.ExitStack() as stack:
        try:
            lock = stack.enter_context((Path(tempfile.gettempdir()) / f"{name}.lock").open("w"))
            fcntl.flock(lock, how)
        except (BlockingIOError, PermissionError):
            yield False
        else:
            yield True


def remove_left(client: DockerClient) -> None:
    """Removes the images of tests of other checkouts, which may be gone for long; not of those that run now."""
    tags = [tag for image in listed_images(client) for tag in image.tags if tag.startswith(FAMILY)]
    for checkout in {tag[: len(CHECKOUT)] for tag in tags} - {CHECKOUT}:
        with lock_of(checkout, fcntl.LOCK_EX | fcntl.LOCK_NB) as free:
            for tag in tags if free else []:
                if tag.startswith(checkout):
                    with contextlib.suppress(ImageNotFound):  # the other process of these tests was first
                        client.images.remove(tag)


def build(client: DockerClient, name: str, notebook: bool = False) -> images.Built:
    """The image's CPU flavour. The host's network lets a build reach a package index or wheels on this machine's loopback.

    One after another: what one of pytest's processes has built comes from the engine's cache for the next.
    """
    with lock_of(f"{CHECKOUT}-build", fcntl.LOCK_EX):
        return images.build(client, name, "cpu", base=BASE, network="host", notebook=notebook)


@pytest.fixture(scope="session")
def client(engine_images: None) -> DockerClient:
    return engine.connect()


def containers(client: DockerClient) -> list[str]:
    """Names of the tests' own containers, running or not."""
    found = client.containers.list(all=True, filters={"label": engine.LABEL}, ignore_removed=True)
    return sorted(str(c.name) for c in found if is_own(c))


def is_own(container: Any) -> bool:
    """Whether it is of an image of this process's tests: another process's run beside them, with jobs of the same names."""
    return f"{PREFIX}/" in str(container.attrs["Config"]["Image"])


@pytest.fixture(autouse=True)
def nothing_left(client: DockerClient) -> Iterator[None]:
    yield
    assert containers(client) == []
    assert client.volumes.list(filters={"label": engine.LABEL}) == []


@pytest.fixture(scope="session")
def tiny_onnx(client: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a few operations, as a user's file; written by the container, which has the onnx package."""
    folder = tmp_path_factory.mktemp("onnx")
    folder.chmod(0o777)
    script = ROOT / "tests" / "common" / "export" / "tiny_onnx.py"
    client.containers.run(
        images.tag_of("onnxrt", "cpu"),
        ["-c", "import sys; sys.path.insert(0, '/tests'); import onnx, tiny_onnx; "
               "onnx.save(tiny_onnx.classifier(), '/out/tiny.onnx')"],
        entrypoint=["python3"], remove=True, network_mode="none",
        volumes={str(script.parent): {"bind": "/tests", "mode": "ro"}, str(folder): {"bind": "/out", "mode": "rw"}},
    )  # fmt: skip
    assert script.is_file()
    return folder / "tiny.onnx"


class Bench:
    """`invoke bench` in this process, in a data folder of its own."""

    def __init__(self, data: DataFolder, model: Path) -> None:
        self.data = data
        self.model = model
        self.output = io.StringIO()

    def options(self, **values: Any) -> Options:
        given: dict[str, Any] = {
            "framework": "onnxrt", "device": "cpu", "runner": "docker", "model": str(self.model), "quick": True,
            "batch_sizes": "1,2", "weights": "seeded", "min_seconds": 0.3, "max_seconds": 0.6, "warmup_seconds": 0.2,
            "idle_seconds": 0.05,
        }  # fmt: skip
        return Options(**given | values)

    def __call__(self, **values: Any) -> Outcome:
        return bench(self.options(**values), Console(file=self.output, width=200), self.data)

    def command(self, **values: Any) -> list[str]:
        """The same as a command line."""
        options = self.options(**values)
        words = [str(ROOT / "invoke"), "bench"]
        for name in Options.__dataclass_fields__:
            value = getattr(options, name)
            if value != getattr(Options(), name):
                option = "--" + name.replace("_", "-")
                words += [option] if value is True else [option, str(value)]
        return words

    def environment(self) -> dict[str, str]:
        return {**os.environ, "FRAMEWATT_DATA": str(self.data.root)}


@pytest.fixture(scope="session")
def exported_tiny(tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as its container exports it, once for all tests: a container takes longer to start than to measure."""
    run_once = Bench(DataFolder(tmp_path_factory.mktemp("exported") / "data"), tiny_onnx)
    run_once(batch_sizes="1")
    (folder,) = run_once.data.models.glob("tiny-*")
    return folder


@pytest.fixture
def fresh_bench(tmp_path: Path, tiny_onnx: Path) -> Bench:
    """Its data folder does not exist yet: the first sweep exports the model."""
    return Bench(DataFolder(tmp_path / "data"), tiny_onnx)


@pytest.fixture
def run_bench(fresh_bench: Bench, exported_tiny: Path) -> Bench:
    """Its data folder has the exported model and nothing else."""
    shutil.copytree(exported_tiny, fresh_bench.data.models / exported_tiny.name)
    return fresh_bench


def rows(run: Path) -> dict[str, dict[str, str]]:
    """Cell key -> the row of its cell.csv."""
    found = {}
    for path in run.glob("cells/*/cell.csv"):
        with path.open(newline="") as file:
            (row,) = csv.DictReader(file)
        found[path.parent.name] = row
    return found


def by_batch(run: Path) -> dict[int, dict[str, str]]:
    return {int(row["batch_size"]): row for row in rows(run).values()}


def running(client: DockerClient, words: str) -> Any:
    """The running container of the tests whose name holds these words, or None."""
    for container in client.containers.list(filters={"label": engine.LABEL}, ignore_removed=True):
        if words in str(container.name) and is_own(container):
            return container
    return None


def measuring(run_results: Path) -> bool:
    """Whether a cell is being measured: started and not finished. Cells that are refused beforehand finish without a start."""
    for path in run_results.glob("*/attempts.csv"):
        latest = {row["cell_key"]: row["event"] for row in csv.DictReader(path.read_text().splitlines())}
        if "start" in latest.values():
            return True
    return False


@pytest.fixture
def in_background() -> Iterator[Callable[[Callable[[], Any]], threading.Thread]]:
    """Runs a function beside the test; what it raises fails the test."""
    raised: list[BaseException] = []
    threads: list[threading.Thread] = []

    def start(function: Callable[[], Any]) -> threading.Thread:
        def body() -> None:
            try:
                function()
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=body, daemon=True)
        threads.append(thread)
        thread.start()
        return thread

    yield start
    for thread in threads:
        thread.join(60)
    assert raised == []


@pytest.fixture
def registered_model(run_bench: Bench) -> DataFolder:
    """A data folder whose `MobileNetV3L` is the tiny model: the sweep of compose takes names of the registry only."""
    (folder,) = run_bench.data.models.glob("tiny-*")
    named = run_bench.data.models / "MobileNetV3L-000000000000"
    shutil.move(folder, named)
    description = json.loads((named / "model.json").read_text())
    description |= {"name": "MobileNetV3L", "weights": "seeded"}
    (named / "model.json").write_text(json.dumps(description))
    return run_bench.data
