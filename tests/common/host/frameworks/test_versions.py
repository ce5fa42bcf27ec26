"""What --version means, and which package it stands for in every image of the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import UserError
from common.host.frameworks import environments
from common.host.frameworks.registry import all_variants, load_images
from common.host.frameworks.versions import Pin, cache_name, cost_in_words, names_in, parse_versions, pin_of, pins_of
from common.host.paths import IMAGES
from common.host.runners.containers.images import tag_of

VARIANTS = all_variants(load_images(IMAGES))
TORCH, COMPILE, ONNXRT = VARIANTS["torch"], VARIANTS["torchcompile"], VARIANTS["onnxrt"]


def test_a_bare_version_is_of_the_framework_that_is_measured() -> None:
    assert parse_versions("1.30.0, 1.31.1,locked,1.30.0", [ONNXRT]) == {"onnxrt": ("1.30.0", "1.31.1", "")}
    assert parse_versions("2.11", [TORCH, COMPILE]) == {"torch": ("2.11",), "torchcompile": ("2.11",)}
    assert parse_versions("", [TORCH]) == {}


def test_a_named_version_is_of_a_variant_or_of_all_of_a_package() -> None:
    chosen = [TORCH, COMPILE, ONNXRT]
    assert parse_versions("torchcompile@2.11,onnxruntime@1.30.0", chosen) == {
        "torchcompile": ("2.11",), "onnxrt": ("1.30.0",),
    }  # fmt: skip
    assert parse_versions("torch@2.11,torch@2.13", chosen) == dict.fromkeys(("torch", "torchcompile"), ("2.11", "2.13"))
    assert names_in("torch@2.11,1.0,torch@2.13,onnxrt@1") == ["torch", "onnxrt"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1.30.0", "version 1.30.0 of which framework\\? write torch@1.30.0"),
        ("trch@2.11", "unknown framework 'trch'; there is torch, onnxrt. Did you mean torch\\?"),
        ("torch@new", "'new' is no version"),
        ("torch@", "'' is no version"),
        ("torch@2_0", "'2_0' is no version"),
        ("torch@2.0/../x", "is no version"),
        ("torch@2.0 --index-url=x", "is no version"),
    ],
)
def test_what_is_no_version(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_versions(text, [TORCH, ONNXRT])


def test_an_interpreter_of_ones_own_has_one_version() -> None:
    with pytest.raises(UserError, match="leave one of them out"):
        parse_versions("1.30.0", [ONNXRT], python="python3")


@pytest.mark.parametrize("flavour", ["cpu", "gpu"])
def test_the_package_is_the_one_that_the_flavour_installs(flavour: str) -> None:
    found = {}
    for name, variant in VARIANTS.items():
        if variant.precisions(flavour):
            try:
                pin = pin_of(variant, "9.9", flavour)
            except UserError as error:
                assert "comes with the base image" in str(error)
                continue
            assert pin is not None
            found[name] = pin.package
    gpu = {
        "tensorrt-rtx": "tensorrt-rtx-cu12", "onnxrt": "onnxruntime-gpu", "onnxrt-trt": "onnxruntime-gpu", "torch": "torch",
        "torchcompile": "torch", "keras-torch": "keras", "jax": "jax",
    }  # fmt: skip
    cpu = {
        "onnxrt": "onnxruntime", "torch": "torch", "torchcompile": "torch", "keras-torch": "keras", "tf": "tensorflow-cpu",
        "tfxla": "tensorflow-cpu", "keras": "keras", "kerasxla": "keras", "jax": "jax", "openvino": "openvino",
        "litert": "ai-edge-litert",
    }  # fmt: skip
    assert (cpu if flavour == "cpu" else gpu).items() <= found.items()


def test_a_pin_has_places_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path)
    monkeypatch.setattr(environments, "SHARED", tmp_path)
    pin = pin_of(ONNXRT, "1.30.0+x", "cpu")
    assert pin == Pin("onnxrt", "onnxruntime", "1.30.0+x")
    assert pins_of(
        [ONNXRT, VARIANTS["onnxrt-trt"]], {"onnxrt": ("1.30.0+x", ""), "onnxrt-trt": ("1.30.0+x",)}, "cpu"
    ) == [pin]
    folder = environments.folder_of("onnxrt", "cpu", pin)
    assert folder == tmp_path / "onnxrt-cpu@onnxruntime-1.30.0_x"
    assert environments.folder_of("onnxrt", "cpu").name == "onnxrt-cpu"
    folder.mkdir()
    (tmp_path / "onnxrt-cpu").mkdir()
    assert environments.of_versions() == [folder]
    assert tag_of("onnxrt", "cpu", pin=pin).endswith("/onnxrt:cpu-onnxruntime-1.30.0_x")
    assert cache_name("onnxrt", pin) != cache_name("onnxrt", None) == "onnxrt"


def test_their_use_of_the_disk_is_said_before_they_are_made(tmp_path: Path) -> None:
    pins = [Pin("onnxrt", "onnxruntime", "1.30.0"), Pin("onnxrt", "onnxruntime", "1.31.1")]
    message = cost_in_words("environment", pins, [300_000_000, 300_000_000], tmp_path / "not" / "there")
    assert message.startswith("2 environments to make: onnxruntime==1.30.0, onnxruntime==1.31.1; about 600 MB")
    assert "GB are free" in message
    assert "invoke clean --versions removes them" in message
    assert "of unknown size" in cost_in_words("image", pins[:1], [0])
    assert cost_in_words("image", [], []) == ""


def test_an_environment_of_a_version_that_cannot_be_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path)
    monkeypatch.setattr(environments, "SHARED", tmp_path)
    commands: list[list[str]] = []

    def run(command: list[str], on_line: object, what: str) -> None:
        commands.append(command)
        if command[-1].endswith(".txt"):
            raise UserError(f"{what} could not be installed: ERROR: no such thing")
        Path(command[-1]).mkdir()

    monkeypatch.setattr(environments, "_run", run)
    with pytest.raises(
        UserError, match=r"onnxruntime==9\.9 in images/onnxrt/requirements-cpu\.txt could not be installed"
    ):
        environments.ensure("onnxrt", "cpu", pin=Pin("onnxrt", "onnxruntime", "9.9"))
    assert "--pin=onnxruntime==9.9" in commands[-1]
    assert environments.of_versions() == []
