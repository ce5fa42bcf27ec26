"""What the tests of the images that read ONNX share: a driver run by the framework's own interpreter, and what must hold."""

import json
import os
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DRIVER = Path(__file__).with_name("onnx_driver.py")


class Workshop:
    """Runs the driver, one process a call, with caches of its own."""

    def __init__(self, image, interpreter, folder, maker=None):
        """maker: an interpreter that has onnx, where the framework's own has not."""
        self.maker = maker or interpreter
        self.image = image
        self.adapter = REPOSITORY / "images" / image / "adapter.py"
        self.interpreter, self.folder = interpreter, folder

    def ask(self, **request):
        paths = [self.folder / f"{name}.json" for name in ("request", "answer")]
        paths[1].unlink(missing_ok=True)
        request.update(repository=str(REPOSITORY), answer=str(paths[1]), adapter=str(self.adapter))
        request.setdefault("cache_dir", str(self.folder / "cache"))
        paths[0].write_text(json.dumps(request))
        done = subprocess.run(
            [str(self.maker if request["action"] == "make" else self.interpreter), str(DRIVER), str(paths[0])],
            capture_output=True, text=True, cwd=REPOSITORY, timeout=280, check=False,
            env={**os.environ, "HOME": str(self.folder)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout == "", "an adapter must not print: the harness's events go there"
        return json.loads(paths[1].read_text())

    def make(self, opset):
        root = self.folder / f"Small{opset}"
        if not root.exists():
            # a network that gives every picture the same answer would pass any comparison
            assert self.ask(action="make", model=str(root), opset=opset)["spread"] > 0.05
        return root

    def exercise(
        self, variant, model, device="cpu", precision="fp32", ios=("host", "device"), batches=(1, 8, 12), **more
    ):
        return self.ask(
            action="exercise", variant=variant, model=str(model), device=device, precision=precision, ios=ios,
            batches=batches, **more,
        )  # fmt: skip


def cpu_workshop(image, folder):
    """The workshop of an image's CPU environment; skips by name where it has not been made."""
    interpreter, maker = (REPOSITORY / ".envs" / f"{name}-cpu" / "bin" / "python" for name in (image, "onnxrt"))
    for python in (interpreter, maker):
        if not python.exists():
            pytest.skip(f"no {python.relative_to(REPOSITORY)}: ./invoke test makes it")
    return Workshop(image, interpreter, folder, maker)


def check(facts, tolerance):
    assert facts["refusal"] is None, facts["refusal"]
    assert "unsupported" not in facts, facts["unsupported"]
    assert facts["cells"]
    for cell in facts["cells"]:
        assert cell["rel_l2"] < tolerance, cell
        assert cell["rel_l2_second"] < tolerance, cell
        assert cell["rel_l2_offline"] < tolerance, cell
        assert cell["top1"] == 1.0, cell
        assert cell["changed"] > 0.01, "the second prepare() left the first input in place"
        assert cell["kept_its_build"], "the second prepare() of a shape built it again"
        assert cell["dtype"] == "float32"
        assert cell["shape"] == [cell["batch_size"], cell["shape"][1]]
