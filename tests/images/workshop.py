"""What the tests of the images that read ONNX share: a driver run by the framework's own interpreter, and what must hold."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from common.host.frameworks import environments

REPOSITORY = Path(__file__).resolve().parents[2]
DRIVER = Path(__file__).with_name("onnx_driver.py")
#: image -> what its compiler shall do without on the CPU, where outputs are compared with others' and no time counts: half of
#: JAX's compilation is optimization. test_other_forms.py and test_scenarios.py have it as users have it.
QUICKLY_COMPILED = {"jax": {"XLA_FLAGS": "--xla_backend_optimization_level=0"}}


def folder_of_all_processes(tmp_path_factory: pytest.TempPathFactory, name: str) -> Path:
    """A folder that all of pytest's processes of this run have in common."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    folder.mkdir(exist_ok=True)
    return folder


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Whoever makes something in such a folder holds its lock; the others wait, and find it made."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def python_of(image: str) -> Path:
    """The interpreter of its environment, with keras-hub where that has a use for it."""
    if not environments.is_ready(image, "cpu"):
        pytest.skip(f"no .envs/{image}-cpu: ./invoke test makes it")
    try:
        return environments.ensure_extra(image, "cpu", environments.KERAS_HUB)
    except UserError as error:
        pytest.skip(f"keras-hub cannot be installed: {error}")


class Once:
    """once(key, make): what `make` returned, or raised, when it was called first for that key; it is not called again."""

    def __init__(self) -> None:
        self._made: dict[Hashable, Any] = {}
        self._failures: dict[Hashable, BaseException] = {}

    def __call__(self, key: Hashable, make: Callable[[], Any]) -> Any:
        if key in self._failures:
            raise AssertionError(f"as before: {self._failures[key]}")
        if key not in self._made:
            try:
                self._made[key] = make()
            except (Exception, pytest.fail.Exception) as error:
                self._failures[key] = error
                raise
        return self._made[key]


class Workshop:
    """Runs the driver, one process a call, with caches of its own. A framework's import takes longest: see `ask_all`."""

    def __init__(self, image, interpreter, folder, maker=None, models=None):
        """maker: an interpreter that has onnx, where the framework's own has not. models: folder of those made already."""
        self.maker = maker or interpreter
        self.models = models or folder
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
            capture_output=True, text=True, cwd=REPOSITORY, timeout=500, check=False,
            env={**os.environ, "HOME": str(self.folder)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout == "", "an adapter must not print: the harness's events go there"
        return json.loads(paths[1].read_text())

    def make(self, opset):
        root = self.models / f"Small{opset}"
        with one_at_a_time(self.models):
            if not (root / "model.json").exists():  # written last
                # a network that gives every picture the same answer would pass any comparison
                assert self.ask(action="make", model=str(root), opset=opset)["spread"] > 0.05
        return root

    def ask_all(self, requests):
        """The answers to several requests, by name, from one process."""
        answers = self.ask(action="several", requests=list(requests.values()))
        return dict(zip(requests, answers, strict=True))

    def exercise(self, variant, model, **more):
        return self.ask(**exercise(variant, model, **more))


def exercise(variant, model, device="cpu", precision="fp32", ios=("host", "device"), batches=(1, 8, 12), **more):
    """The request that puts a variant through the contract."""
    return {
        "action": "exercise", "variant": variant, "model": str(model), "device": device, "precision": precision,
        "ios": ios, "batches": batches, **more,
    }  # fmt: skip


def cpu_workshop(image, folder, models=None):
    """The workshop of an image's CPU environment; skips by name where it has not been made."""
    interpreter, maker = (REPOSITORY / ".envs" / f"{name}-cpu" / "bin" / "python" for name in (image, "onnxrt"))
    for python in (interpreter, maker):
        if not python.exists():
            pytest.skip(f"no {python.relative_to(REPOSITORY)}: ./invoke test makes it")
    return Workshop(image, interpreter, folder, maker, models)


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
