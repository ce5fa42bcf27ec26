"""Environment variables of adapters, as the host checks them before a run."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from common.errors import UserError
from common.host.bench import opening
from common.host.compose.prepare import prepare
from common.host.compose.rendezvous import Rendezvous
from common.host.devices import Device
from common.host.frameworks.registry import Image, load_images
from common.host.paths import IMAGES, ROOT, DataFolder
from common.host.plan.options import Options

#: the harness's own: it sets them for every worker (common/harness/environment.py)
OF_HARNESS = {"FRAMEWATT_CACHE_DIR", "FRAMEWATT_BATCH_SIZES"}
BAD = [
    ("tensorrt", "FRAMEWATT_TRT_PROFILES", "1-32@64"),
    ("tensorrt", "FRAMEWATT_TRT_TACTIC_SOURCES", "cublas"),
    ("tensorrt", "FRAMEWATT_TRT_BUILDER_LEVEL", "6"),
    ("tensorrt", "FRAMEWATT_TRT_WORKSPACE_MIB", "1G"),
    ("onnxrt", "FRAMEWATT_ONNXRT_TRIAL_SECONDS", "soon"),
    ("onnxrt", "FRAMEWATT_ONNXRT_TRIAL_SECONDS", "-1"),
    ("onnxrt", "FRAMEWATT_ONNXRT_TRIAL_SECONDS", "nan"),
]


@pytest.mark.parametrize(("image", "variable", "value"), BAD)
def test_a_value_without_a_meaning_is_told_with_its_variable(image: str, variable: str, value: str) -> None:
    (one,) = [found for found in load_images(IMAGES) if found.name == image]
    assert one.fault_of({}) is None
    fault = one.fault_of({variable: value})
    assert fault is not None and fault.startswith(variable) and value in fault


def test_values_with_a_meaning_are_taken() -> None:
    good = {
        "FRAMEWATT_TRT_PROFILES": "1-32@32,512@512", "FRAMEWATT_TRT_TACTIC_SOURCES": "JIT_CONVOLUTIONS,CUBLAS_LT",
        "FRAMEWATT_TRT_BUILDER_LEVEL": "5", "FRAMEWATT_TRT_WORKSPACE_MIB": "1024", "FRAMEWATT_ONNXRT_TRIAL_SECONDS": "0",
        "FRAMEWATT_BATCH_SIZES": "the host's own",
    }  # fmt: skip
    assert [image.name for image in load_images(IMAGES) if image.fault_of(good) is not None] == []


@pytest.mark.parametrize("image", load_images(IMAGES), ids=lambda image: image.name)
def test_what_an_adapter_reads_is_declared_checked_and_documented(image: Image) -> None:
    """What is not declared would be read by processes of this machine alone, and not in containers."""
    texts = [path.read_text() for path in (IMAGES / image.name).rglob("*.py")]
    read = {name for text in texts for name in re.findall(r"FRAMEWATT_[A-Z0-9_]+", text)} - OF_HARNESS
    (declared,) = {variant.variables for variant in image.variants}
    assert set(declared) == read
    assert not declared or (image.folder / "host_check.py").is_file(), "else nobody refuses a wrong value"
    documented = re.findall(r"^\| `(FRAMEWATT_\w+)` \|", (ROOT / "docs" / "gpu-host.md").read_text(), re.MULTILINE)
    assert set(declared) <= set(documented)


@pytest.mark.parametrize(("image", "variable", "value"), BAD)
@pytest.mark.parametrize("runner", ["local", "docker"])
def test_a_wrong_value_is_refused_before_anything_starts_whatever_would_run_it(
    image: str, variable: str, value: str, runner: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(variable, value)
    monkeypatch.setattr(opening, "choose_devices", lambda *_: [Device("gpu0", "gpu", "a GPU", "GPU-1")])
    monkeypatch.setattr(opening, "make_runner", lambda *_: pytest.fail("it was begun"))
    options, out = Options(framework=image, runner=runner), Console(file=io.StringIO())
    with pytest.raises(UserError, match=variable), opening.opened(options, out, DataFolder(tmp_path)):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("image", "variable", "value"), BAD)
def test_compose_refuses_a_wrong_value_in_its_first_service(
    image: str, variable: str, value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FRAMEWATT_DATA", str(tmp_path))
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=variable):
        prepare("gpu", Rendezvous(tmp_path / "compose" / "gpu"))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("FRAMEWATT_FRAMEWORKS", "torch")  # whose images do not read it
    prepare("gpu", Rendezvous(tmp_path / "compose" / "gpu"))


@pytest.mark.parametrize("words", [["bench"], ["bench", "--dry-run"], ["explain"], ["verify"]])
def test_every_command_that_measures_refuses_it_in_one_line(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "common.host.cli.program", *words, "--framework", "onnxrt", "--device", "cpu"],
        env={**os.environ, "FRAMEWATT_ONNXRT_TRIAL_SECONDS": "soon"}, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "error: FRAMEWATT_ONNXRT_TRIAL_SECONDS is 'soon'; it takes a number of seconds from 0\n"
