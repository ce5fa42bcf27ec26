"""The notebook front end in containers: an image of its own beside the default one, which knows nothing of Jupyter."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest
from docker import DockerClient

from common.errors import UserError
from common.host.frameworks.registry import load_images
from common.host.paths import IMAGES, ROOT, DataFolder
from common.host.runners.containers import images
from tests.engine.conftest import Bench, build, measuring, rows, running
from tests.engine.test_bench import Background
from tests.engine.test_compose import PROJECT, environment
from tests.waiting import wait_for

KILL_KERNEL = r"""
import glob, os
for path in glob.glob("/proc/[0-9]*/cmdline"):
    if b"-m\0ipykernel_launcher" in open(path, "rb").read():
        os.kill(int(path.split("/")[2]), 9)
"""


@pytest.fixture(scope="module")
def notebook_image(client: DockerClient) -> Iterator[images.Built]:
    built = build(client, "onnxrt", notebook=True)
    yield built
    client.images.remove(built.tag)


def test_without_the_image_one_line_says_which_command_builds_it(run_bench: Bench) -> None:
    with pytest.raises(UserError) as caught:
        run_bench(frontend="notebook")
    assert str(caught.value) == (
        f"image {images.tag_of('onnxrt', 'cpu', notebook=True)} is not built: "
        "invoke build --framework onnxrt --cpu --notebook; or use --runner local"
    )
    assert not list(run_bench.data.results.glob("*"))


def test_the_default_image_has_nothing_of_jupyter_and_shares_its_layers(
    client: DockerClient, notebook_image: images.Built
) -> None:
    default = client.images.get(images.tag_of("onnxrt", "cpu"))
    code = "import importlib.util as u, sys; print([n for n in ('ipykernel', 'zmq', 'IPython') if u.find_spec(n)])"
    found = [
        client.containers.run(image, ["-c", code], entrypoint=["python3"], remove=True, network_mode="none")
        for image in (default.tags[0], notebook_image.tag)
    ]
    assert found == [b"[]\n", b"['ipykernel', 'zmq', 'IPython']\n"]
    layers, others = default.attrs["RootFS"]["Layers"], client.images.get(notebook_image.tag).attrs["RootFS"]["Layers"]
    # all but what comes after it: the user
    assert layers[:4] == others[:4]


def test_both_front_ends_run_in_the_same_image(
    run_bench: Bench, client: DockerClient, notebook_image: images.Built
) -> None:
    outcome = run_bench(frontend="script,notebook")
    assert not outcome.errors
    cells = rows(outcome.run.folder)
    assert sorted((row["frontend"], row["batch_size"], row["status"]) for row in cells.values()) == [
        ("notebook", "1", "ok"), ("notebook", "2", "ok"), ("script", "1", "ok"), ("script", "2", "ok"),
    ]  # fmt: skip
    assert {row["image_digest"] for row in cells.values()} == {notebook_image.digest}
    assert outcome.run.description["images"]["onnxrt"]["tag"] == notebook_image.tag
    assert {"ipykernel" in json.loads(row["versions"]) for row in cells.values() if row["frontend"] == "notebook"} == {
        True
    }


def test_a_kernel_that_dies_in_its_container_costs_one_cell(
    run_bench: Bench, client: DockerClient, notebook_image: images.Built, in_background: Background
) -> None:
    def kill() -> None:
        wait_for(lambda: measuring(run_bench.data.results))
        container = running(client, "onnxrt_fp32_notebook")
        wait_for(lambda: "ipykernel" in str(container.top()["Processes"]))
        assert container.exec_run(["python3", "-c", KILL_KERNEL])[0] == 0

    in_background(kill)
    outcome = run_bench(frontend="notebook", batch_sizes="1,2,3", min_seconds=1.5, max_seconds=2.0)
    found = sorted((row["status"], row["message"]) for row in rows(outcome.run.folder).values())
    assert [status for status, _ in found] == ["crashed", "ok", "ok"]
    assert found[0][1].startswith("the worker was ended by SIGKILL ")
    assert outcome.run.finished


def test_compose_runs_both_front_ends(
    client: DockerClient, notebook_image: images.Built, registered_model: DataFolder
) -> None:
    made = []
    for name in (image.name for image in load_images(IMAGES) if image.name != "onnxrt"):
        repository, _, tag = images.tag_of(name, "cpu", notebook=True).rpartition(":")
        client.images.get(notebook_image.tag).tag(repository, tag)
        made.append(f"{repository}:{tag}")
    data = registered_model.root
    variables = environment(data, FRAMEWATT_FRONTEND="script,notebook", FRAMEWATT_FRAMEWORKS="onnxrt")
    command = ["docker", "compose", "-p", PROJECT, "--profile", "cpu"]
    try:
        done = subprocess.run([*command, "up"], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=250)
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        subprocess.run([*command, "down", "-t", "1"], cwd=ROOT, env=variables, check=True, capture_output=True)
        for name in made:
            client.images.remove(name)
    (run,) = (data / "results").iterdir()
    cells = rows(run)
    assert sorted((row["frontend"], row["status"]) for row in cells.values()) == [
        ("notebook", "ok"), ("notebook", "ok"), ("script", "ok"), ("script", "ok"),
    ]  # fmt: skip
    assert json.loads((run / "run.json").read_text())["images"]["onnxrt"]["tag"].endswith("onnxrt:cpu-notebook")
