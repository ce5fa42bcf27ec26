"""The host learns frameworks from Dockerfile labels alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import UserError
from common.host.frameworks.registry import (
    choose_variants,
    default_argument,
    load_images,
    read_labels,
    variables_set,
)
from common.host.paths import IMAGES

DOCKERFILE = """\
# LABEL framewatt.variant.ghost.title="a comment is no label"
ARG BASE_IMAGE=example/base:1.0
FROM ${BASE_IMAGE}
LABEL framewatt.order="7" \\
      framewatt.imports="fast"
LABEL framewatt.variant.fast.title="Fast one" framewatt.variant.fast.precisions.cpu="fp32"
LABEL framewatt.variant.fast.precisions.gpu="fp32 fp16"
LABEL framewatt.variant.fast.min-compute-capability="7.5"
LABEL framewatt.variant.fast-lite.title="Lite" framewatt.variant.fast-lite.precisions.gpu="fp16"
"""


def folder(root: Path, name: str, text: str) -> Path:
    (root / name).mkdir(parents=True)
    (root / name / "Dockerfile").write_text(text)
    return root


def test_a_folder_is_all_it_takes(tmp_path: Path) -> None:
    (image,) = load_images(folder(tmp_path, "fast", DOCKERFILE))
    assert (image.name, image.order, image.imports, image.base_image) == ("fast", 7, "fast", "example/base:1.0")
    fast, lite = image.variants
    assert (fast.name, fast.title, fast.precisions("cpu"), fast.precisions("gpu")) == (
        "fast",
        "Fast one",
        ("fp32",),
        ("fp32", "fp16"),
    )
    assert lite.name == "fast-lite"
    assert lite.precisions("cpu") == ()


def test_refusals_say_why(tmp_path: Path) -> None:
    (image,) = load_images(folder(tmp_path, "fast", DOCKERFILE))
    fast, lite = image.variants
    assert fast.refusal("gpu", "9.0") is None
    assert "7.5 or newer, this GPU has 6.1" in str(fast.refusal("gpu", "6.1"))
    assert "does not run on a CPU" in str(lite.refusal("cpu"))


def test_folders_without_variants_and_hidden_ones_are_no_frameworks(tmp_path: Path) -> None:
    folder(tmp_path, "sidecar", "FROM scratch\n")
    folder(tmp_path, "_template", DOCKERFILE)
    assert load_images(tmp_path) == []


def test_two_images_cannot_bring_the_same_variant(tmp_path: Path) -> None:
    folder(tmp_path, "one", DOCKERFILE)
    folder(tmp_path, "two", DOCKERFILE)
    with pytest.raises(UserError, match=r"both images/one and images/two bring the variant fast"):
        load_images(tmp_path)


def test_a_wrong_precision_and_a_malformed_label_are_named(tmp_path: Path) -> None:
    folder(tmp_path / "a", "x", 'LABEL framewatt.variant.x.precisions.cpu="fp31"\n')
    with pytest.raises(UserError, match="names the precision 'fp31'"):
        load_images(tmp_path / "a")
    (tmp_path / "Dockerfile").write_text('LABEL framewatt.order="1\n')
    with pytest.raises(UserError, match="LABEL line cannot be read"):
        read_labels(tmp_path / "Dockerfile")


def test_declared_variables_are_those_of_all_variants_and_nothing_else_is_taken(tmp_path: Path) -> None:
    label = 'LABEL framewatt.variables="FRAMEWATT_FAST_LEVEL \\\n  FRAMEWATT_FAST_BLANK"\n'
    (image,) = load_images(folder(tmp_path, "fast", DOCKERFILE + label))
    assert {variant.variables for variant in image.variants} == {("FRAMEWATT_FAST_LEVEL", "FRAMEWATT_FAST_BLANK")}
    caller = {"FRAMEWATT_FAST_LEVEL": "3", "FRAMEWATT_FAST_BLANK": " ", "FRAMEWATT_DATA": "/data", "HOME": "/home/user"}
    assert variables_set(image.variants, caller) == {"FRAMEWATT_FAST_LEVEL": "3"}
    assert variables_set([], caller) == {}


@pytest.mark.parametrize(
    "name", ["LD_PRELOAD", "AWS_SECRET_ACCESS_KEY", "FRAMEWATT_", "*", "framewatt_level", "FRAMEWATT_A=1"]
)
def test_only_variables_of_framewatts_own_can_be_declared(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot be declared as a variable"):
        load_images(folder(tmp_path, "fast", f'{DOCKERFILE}LABEL framewatt.variables="{name}"\n'))


def test_a_precision_that_one_level_has_not_is_told_with_its_reason(tmp_path: Path) -> None:
    labels = 'LABEL framewatt.variant.fast.tuning="stock tuned"\nLABEL framewatt.variant.fast.without.{}="it\'s so"\n'
    (image,) = load_images(folder(tmp_path, "fast", DOCKERFILE + labels.format("fp16.stock")))
    assert [variant.without for variant in image.variants] == [{("fp16", "stock"): "it's so"}, {}]
    for number, wrong in enumerate(("fp16", "fp16.rewritten", "int8.stock", "stock.fp16")):
        place = folder(tmp_path / str(number), "fast", DOCKERFILE + labels.format(wrong))
        with pytest.raises(
            UserError, match=rf"fast is without '{wrong}\.?', which is no PRECISION\.LEVEL of its labels"
        ):
            load_images(place)


def test_a_label_may_name_an_argument_of_the_build(tmp_path: Path) -> None:
    place = folder(tmp_path, "fast", DOCKERFILE) / "fast" / "Dockerfile"
    place.write_text(place.read_text() + 'ARG WHY="it\'s so; long"\nARG BARE\nLABEL a="${WHY}" b="${BARE} ${NONE}"\n')
    assert default_argument(place, "WHY") == "it's so; long"
    labels = read_labels(place)
    assert (labels["a"], labels["b"]) == ("it's so; long", "${BARE} ${NONE}")


def test_the_form_that_a_variant_reads(tmp_path: Path) -> None:
    text = DOCKERFILE + 'LABEL framewatt.variant.fast.reads="onnx"\nLABEL framewatt.variant.fast.form.fp16="tflite"\n'
    (image,) = load_images(folder(tmp_path / "good", "fast", text))
    fast, lite = image.variants
    assert (fast.form("fp32"), fast.form("fp16"), lite.form("fp16")) == ("onnx", "tflite", "")
    with pytest.raises(UserError, match="variant fast reads 'pickle'; there is onnx, keras, saved_model"):
        load_images(folder(tmp_path / "bad", "fast", text.replace('"onnx"', '"pickle"')))


def test_unknown_framework_names_the_nearest(tmp_path: Path) -> None:
    images = load_images(folder(tmp_path, "fast", DOCKERFILE))
    with pytest.raises(UserError, match=r"unknown framework 'fats'; there is fast, fast-lite. Did you mean fast\?"):
        choose_variants(images, ["fats"])


def test_every_folder_of_this_project_reads() -> None:
    for dockerfile in IMAGES.glob("*/Dockerfile"):
        assert default_argument(dockerfile, "BASE_IMAGE"), f"{dockerfile.parent.name} has no default base image"
    variants = {variant.name for image in load_images(IMAGES) for variant in image.variants}
    assert {"tf", "tfxla", "keras", "kerasxla", "onnxrt", "torch", "tensorrt"} <= variants
