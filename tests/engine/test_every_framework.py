"""All frameworks of the CPU in their own images, on the model that users measure: `./invoke test --engine-all`.

The other tests on an engine build onnxrt's image alone; these take some minutes and 3 GB more.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from common.host.frameworks.registry import Variant, load_images
from common.host.paths import IMAGES, ROOT, DataFolder
from common.host.runners.containers.images import tag_of
from common.model_files import ModelFiles
from tests.engine.conftest import PREFIX, Bench, build, rows, running
from tests.engine.test_compose import swept
from tests.waiting import wait_for

pytestmark = [pytest.mark.every_image, pytest.mark.framework, pytest.mark.timeout(900, func_only=True)]

#: what can be measured on a CPU; torchcompile needs a compiler, which these images do not have
VARIANTS: dict[str, Variant] = {
    v.name: v for image in load_images(IMAGES) for v in image.variants if v.precisions_cpu and v.name != "torchcompile"
}
SIZES = (1, 8)


@contextmanager
def reachable_wheels() -> Iterator[None]:
    """A folder of wheels on this machine that PIP_FIND_LINKS names, as a build can reach it: served on the loopback."""
    folder = os.environ.get("PIP_FIND_LINKS", "")
    if not Path(folder).is_dir() or not folder:
        yield
        return

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PIP_FIND_LINKS", f"http://127.0.0.1:{server.server_address[1]}/")
            yield
        server.shutdown()


@pytest.fixture(scope="module")
def all_images(client: DockerClient) -> None:
    with reachable_wheels():
        # onnxrt's is there already; built anew with other wheels it would differ from what other tests made of it
        for name in dict.fromkeys(variant.image for variant in VARIANTS.values() if variant.image != "onnxrt"):
            built = build(client, name)
            print(f"{built.tag}: {built.size_bytes / 1e6:,.0f} MB in {built.seconds:.0f} s")


@pytest.fixture
def data(exported_model: ModelFiles, tmp_path: Path) -> DataFolder:
    """A data folder with the exported model; a copy, because a sweep gives everything there to another user."""
    folder = DataFolder(tmp_path / "data")
    shutil.copytree(exported_model.root, folder.models / exported_model.root.name)
    return folder


def check_row(row: dict[str, str], client: DockerClient) -> None:
    assert (row["status"], row["message"]) == ("ok", ""), row
    assert float(row["parity_rel_l2"]) <= float(row["parity_tolerance"])
    assert float(row["parity_top1"]) == 1.0
    assert row["runner"] == "docker"


def test_bench_measures_every_framework(all_images: None, data: DataFolder, client: DockerClient) -> None:
    run_bench = Bench(data, Path("MobileNetV3L"))
    outcome = run_bench(framework=",".join(VARIANTS), batch_sizes=",".join(map(str, SIZES)), cell_timeout=300.0)
    cells = rows(outcome.run.folder)
    assert sorted((row["variant"], int(row["batch_size"])) for row in cells.values()) == sorted(
        (name, size) for name in VARIANTS for size in SIZES
    )
    for row in cells.values():
        check_row(row, client)
        image = client.images.get(tag_of(VARIANTS[row["variant"]].image, "cpu"))
        assert row["image_digest"] == image.id
    assert outcome.run.finished, run_bench.output.getvalue()


def test_compose_measures_every_framework_and_goes_on_after_one_that_dies(
    all_images: None, data: DataFolder, client: DockerClient
) -> None:
    environment = {
        **os.environ, "FRAMEWATT_DATA": str(data.root), "FRAMEWATT_QUICK": "1", "FRAMEWATT_WEIGHTS": "seeded",
        "FRAMEWATT_BATCH_SIZES": ",".join(map(str, SIZES)), "FRAMEWATT_CELL_TIMEOUT": "300",
    }  # fmt: skip
    compose = ["docker", "compose", "-p", PREFIX, "--profile", "cpu"]
    try:
        with subprocess.Popen(
            [*compose, "up"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            try:
                wait_for(lambda: torch_began(data), 300)
                running(client, f"{PREFIX}-torch-cpu").kill()
                log, _ = process.communicate(timeout=600)
            except BaseException:
                process.kill()
                raise
        assert process.returncode == 0, log
        found = client.containers.list(all=True, filters={"label": f"com.docker.compose.project={PREFIX}"})
        states = {c.labels["com.docker.compose.service"]: c.attrs["State"] for c in found}
        assert not any(state["Running"] for state in states.values())
        # exit code 3: the sidecar found nothing to read, as on most virtual machines
        sidecar = states.pop("sidecar-cpu")
        assert sidecar["ExitCode"] == (0 if list(data.results.glob("*/power.csv")) else 3), log
        assert {name for name, state in states.items() if state["ExitCode"]} == {"torch-cpu"}, log
    finally:
        subprocess.run([*compose, "down", "-t", "1"], cwd=ROOT, env=environment, check=True, capture_output=True)
    (run,) = data.results.iterdir()
    cells = rows(run)
    assert sorted(cells) == sorted(json.loads((run / "run.json").read_text())["plan"])
    assert {row["variant"] for row in cells.values()} == swept("cpu")
    assert len(cells) == len(swept("cpu")) * len(SIZES)
    for row in cells.values():
        if row["variant"] == "torch":
            assert row["status"] in ("crashed", "ok")
            assert row["status"] == "ok" or row["message"].startswith("its container ended")
        else:
            check_row(row, client)
    assert any(row["status"] == "crashed" for row in cells.values())
    table = log[log.index("throughput (images/s), more is better") :]
    for name in swept("cpu") - {"torch"}:
        assert re.search(rf"\b{re.escape(name)} fp32 .*\d", table), (name, table)
    assert (data.report / run.name / "report.html").is_file()


def torch_began(data: DataFolder) -> bool:
    """Whether a cell of torch has been started: its container waits for its turn before."""
    journals = [path.read_text() for path in data.results.glob("*/attempts.csv")]
    return any(re.search(r",start,\w+_torch_", journal) for journal in journals)
