"""The frameworks whose images need neither TensorFlow nor PyTorch, one cell each in its container, and other versions of one.

One bench for all: a container costs more than a cell. onnxrt's image has tests of its own; with TensorFlow and PyTorch:
test_every_framework.py.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from docker import DockerClient

from common.host import models
from common.host.frameworks import environments
from common.host.frameworks.versions import Pin
from common.host.paths import DataFolder
from common.host.runners.containers.images import tag_of
from common.model_files import ModelFiles
from tests.engine.conftest import Bench, build, rows

pytestmark = [pytest.mark.framework, pytest.mark.timeout(600, func_only=True)]

NAMES = ("openvino", "jax", "litert")
#: of litert's package, whose wheel is the smallest of all frameworks'
OTHER, NONE_SUCH = "2.2.0", "0.0.1"


@pytest.fixture(scope="module")
def small_images(client: DockerClient) -> None:
    for name in NAMES:
        built = build(client, name)
        print(f"{built.tag}: {built.size_bytes / 1e6:,.0f} MB in {built.seconds:.0f} s")


@pytest.fixture
def run_bench(exported_model: ModelFiles, tmp_path: Path) -> Bench:
    """With the model in the form that LiteRT reads, too."""
    if not environments.is_ready("tensorflow", "cpu"):
        pytest.skip("no .envs/tensorflow-cpu to convert the model: ./invoke test makes it")
    model = models.ensure_model(
        exported_model.name, exported_model.root.parent, lambda image: environments.interpreter(image, "cpu"),
        lambda *step: None, models.ExportOptions(weights=exported_model.weights), wanted_forms=["tflite"],
    )  # fmt: skip
    folder = DataFolder(tmp_path / "data")
    shutil.copytree(model.root, folder.models / model.root.name)
    return Bench(folder, Path(model.name))


def test_each_measures_in_its_container_and_so_does_another_version(
    small_images: None, run_bench: Bench, client: DockerClient
) -> None:
    versions = ",".join(f"litert@{version}" for version in ("locked", OTHER, NONE_SUCH))
    outcome = run_bench(framework=",".join(NAMES), version=versions, batch_sizes="2", cell_timeout=120.0)
    found = {(row["variant"], row["version"]): row for row in rows(outcome.run.folder).values()}
    assert sorted(found) == sorted([*((name, "") for name in NAMES), ("litert", OTHER), ("litert", NONE_SUCH)])
    failed = found.pop(("litert", NONE_SUCH))
    assert failed["status"] == "unsupported"
    assert f"there is no release {NONE_SUCH} of ai-edge-litert for Python 3." in failed["message"]
    for (name, version), row in found.items():
        assert (row["status"], row["message"]) == ("ok", ""), row
        assert float(row["parity_rel_l2"]) <= float(row["parity_tolerance"])
        assert float(row["parity_top1"]) == 1.0
        tag = tag_of(name, "cpu", pin=Pin(name, "ai-edge-litert", version) if version else None)
        assert row["image_digest"] == client.images.get(tag).id
    assert found["litert", OTHER]["framework_version"] == OTHER
    assert found["litert", ""]["framework_version"] != OTHER
    assert "1 image to make" in run_bench.output.getvalue() or "2 images to make" in run_bench.output.getvalue()
    assert outcome.run.finished
