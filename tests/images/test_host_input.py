"""io=host: every inference takes its input from the host's memory anew and brings its output back, whatever the framework.

TensorFlow once answered tf.identity from a copy that it had kept, so that the first inference alone copied the input; no
comparison of outputs saw it, since the input of a window is the same in each inference. So here it changes between two of them,
in place, where neither prepare() nor the framework is told.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.host.frameworks.registry import Image, Variant, load_images
from common.host.paths import IMAGES, ROOT
from tests.images.workshop import QUICKLY_COMPILED

DRIVER = Path(__file__).with_name("host_input_driver.py")
CASES = [
    (image, variant, level) for image in load_images(IMAGES) for variant in image.variants for level in variant.tunings
]
#: outputs of one input by two runs of the same network, and the least that those of two inputs are apart
SAME, APART = 1e-3, 1e-2
#: modules that an interpreter needs beside those that the image's label names
BESIDE = {"torch": ("onnx", "onnx2torch"), "tensorrt": ("pycuda",), "jax": ("keras",)}

#: an adapter of one line of arithmetic, which takes its input to its "device" in each inference, or in the first alone
FAKE = """
import numpy as np


def create(variant):
    return Fake(variant == "copies-once")


class Fake:
    def __init__(self, once):
        self._once = once

    def supports(self, cell):
        return None

    def load(self, model, precision, device, cache_dir, threads):
        self._names = [tensor.name for tensor in (*model.inputs, *model.outputs)]

    def prepare(self, inputs, io):
        self._host, self._device = inputs[self._names[0]].copy(), None

    def run(self):
        if self._device is None or not self._once:
            self._device = {"on it": bytes(self._host)}
        values = np.frombuffer(self._device["on it"], self._host.dtype).reshape(len(self._host), -1)
        self._output = values.mean(axis=1, keepdims=True)

    enqueue = run

    def synchronize(self):
        pass

    def run_timed(self):
        return None

    def output(self):
        return {self._names[1]: self._output}

    def settings(self):
        return {}

    def close(self):
        pass
"""

pytestmark = pytest.mark.timeout(600)


def test_an_adapter_that_casts_bytes_on_the_host_is_found() -> None:
    right = {"refusal": None, "places": 1, "before": 0.0, "after_is_new": 0.0, "after_is_old": 0.5}
    check_bytes(right, SAME)
    check_bytes({"refusal": "the file takes float32"}, SAME)
    for wrong in ({"places": 0}, {"after_is_new": 0.5, "after_is_old": 0.0}, {"before": 0.5}):
        with pytest.raises(AssertionError):
            check_bytes({**right, **wrong}, SAME)


@pytest.mark.framework
@pytest.mark.parametrize("variant", ["copies-each-time", "copies-once"])
def test_an_adapter_that_copies_once_is_found(tmp_path: Path, small_keras: Path, variant: str) -> None:
    adapter = tmp_path / "adapter.py"
    adapter.write_text(FAKE)
    facts = ask(
        Path(sys.executable), tmp_path, adapter, variant=variant, level="tuned", precision="fp32", device="cpu", model=small_keras,
    )  # fmt: skip
    if variant == "copies-each-time":
        check(facts, SAME)
    else:
        with pytest.raises(AssertionError, match="an input was taken from an earlier inference"):
            check(facts, SAME)


def named(cases: list[tuple[Image, Variant, str]]) -> list[str]:
    return [f"{variant.name}-{level}" for _, variant, level in cases]


def ask(python: Path, folder: Path, adapter: Path, **request: Any) -> dict[str, Any]:
    paths = [folder / f"{name}.json" for name in ("request", "answer")]
    request.update(repository=str(ROOT), answer=str(paths[1]), adapter=str(adapter), cache_dir=str(folder / "cache"))
    request["bytes_too"] = request["level"] == "tuned"
    (folder / "cache").mkdir(exist_ok=True)
    paths[0].write_text(json.dumps(request, default=str))
    done = subprocess.run(
        [python, DRIVER, paths[0]], capture_output=True, text=True, cwd=ROOT, timeout=580, check=False,
        env={**os.environ, "HOME": str(folder), "FRAMEWATT_CACHE_DIR": str(folder / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(paths[1].read_text())
    return answer


def check(facts: dict[str, Any], same: float) -> None:
    assert [(cell["scenario"], cell["way"]) for cell in facts["cells"]] == [
        (scenario, way) for scenario in ("single-stream", "offline") for way in ("run", "run_timed", "enqueue")
    ]
    for cell in facts["cells"]:
        assert cell["inputs_apart"] > APART > same, "the inputs must be told apart"
        assert cell["before"] < same, cell
        assert cell["places"] >= 1 and cell["places_back"] >= 1, "the adapter holds no input in host memory"
        assert cell["after_is_new"] < same < cell["after_is_old"], (
            f"an input was taken from an earlier inference: {cell}"
        )
        assert cell["restored"] < same, cell
    check_bytes(facts.get("as_bytes", {"refusal": "of no interest"}), same)


def check_bytes(cell: dict[str, Any], same: float) -> None:
    """Images of bytes lie in host memory as bytes, and that is what the inference takes: nobody cast them on the way there."""
    if cell["refusal"] is None:
        assert cell["before"] < same, cell
        assert cell["places"] >= 1, "the adapter was given bytes and holds none in host memory"
        assert cell["after_is_new"] < same < cell["after_is_old"], f"bytes were taken from an earlier inference: {cell}"


#: torch.compile takes a minute to compile stock, and runs it on the CPU as it does the level tuned
ON_CPU = [
    case
    for case in CASES
    if case[1].precisions_cpu
    and (case[1].name, case[2]) not in (("torchcompile", "stock"), ("torchcompile", "rewritten"))
]


@pytest.mark.framework
@pytest.mark.parametrize(("image", "variant", "level"), ON_CPU, ids=named(ON_CPU))
def test_an_input_written_in_place_is_that_of_the_next_inference(
    tmp_path: Path,
    small_keras: Path,
    torch_compiled: Callable[[Path], Path],
    monkeypatch: pytest.MonkeyPatch,
    image: Image,
    variant: Variant,
    level: str,
) -> None:
    python = ROOT / f".envs/{image.name}-cpu/bin/python"
    if not python.exists():
        pytest.skip(f"no .envs/{image.name}-cpu: ./invoke test makes it")
    torch_compiled(tmp_path / "cache")
    for name, value in QUICKLY_COMPILED.get(image.name, {}).items():
        monkeypatch.setenv(name, value)
    facts = ask(
        python,
        tmp_path,
        image.adapter,
        variant=variant.name,
        level=level,
        precision="fp32",
        device="cpu",
        model=small_keras,
    )
    assert facts["refusal"] is None
    check(facts, SAME)


ON_GPU = [case for case in CASES if case[1].precisions_gpu]


@pytest.mark.gpu
@pytest.mark.framework
@pytest.mark.parametrize(("image", "variant", "level"), ON_GPU, ids=named(ON_GPU))
def test_gpu_copies_the_input_in_each_inference(
    gpu_python: Callable[..., Path], tmp_path: Path, small_keras: Path, image: Image, variant: Variant, level: str
) -> None:
    python = gpu_python(image.name, image.imports, *BESIDE.get(image.name, ()))
    facts = ask(
        python,
        tmp_path,
        image.adapter,
        variant=variant.name,
        level=level,
        precision="fp32",
        device="cuda:0",
        model=small_keras,
    )
    if facts["refusal"]:
        pytest.skip(facts["refusal"])
    check(facts, SAME)
