"""compose.yaml is what the labels say, and .env documents every variable that it reads."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from common.errors import UserError
from common.host.compose import generator, version
from common.host.compose.rendezvous import OPTIONS, gpu_name, options_from
from common.host.frameworks.registry import load_images
from common.host.paths import IMAGES, ROOT
from common.host.plan.request import settings_of


def settings() -> dict[str, str]:
    lines = [line for line in (ROOT / ".env").read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_compose_yaml_is_up_to_date() -> None:
    assert generator.FILE.read_text() == generator.render(), "run: invoke compose"


def test_every_variable_is_in_env_with_the_default_of_compose_yaml() -> None:
    used = dict(re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", generator.render()))
    documented = settings()
    # Of the shell, and requirements files, which only one image has a choice of.
    others = {"COLUMNS"} | {name for name in used if name.startswith("FRAMEWATT_REQUIREMENTS_")}
    assert set(used) - set(documented) <= others
    assert set(documented) - set(used) == {"COMPOSE_PROFILES"}
    for name, value in documented.items():
        if value and name in used:
            assert value == used[name], name


def test_env_gets_a_line_for_each_new_framework_of_a_gpu_and_keeps_what_is_there() -> None:
    images = load_images(IMAGES)
    text = generator.ENV.read_text()
    assert generator.updated_env(text, images) == text, "run: invoke compose"
    chosen = text.replace("FRAMEWATT_BASE_TORCH=", "FRAMEWATT_BASE_TORCH=mine").replace("FRAMEWATT_BASE_JAX=\n", "")
    again = generator.updated_env(chosen, images)
    assert again.count("FRAMEWATT_BASE_JAX=\n") == 1
    assert "FRAMEWATT_BASE_TORCH=mine\n" in again
    assert "FRAMEWATT_BASE_OPENVINO" not in again, "it has no GPU flavour"
    with pytest.raises(UserError, match="put it back"):
        generator.updated_env("FRAMEWATT_TMP=4g\n", images)


def test_env_and_compose_yaml_have_the_variables_of_frameworks(tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(IMAGES, images, ignore=shutil.ignore_patterns("__pycache__"))
    dockerfile = images / "torch" / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text() + 'LABEL framewatt.variables="FRAMEWATT_TORCH_LEVEL"\n')
    assert generator.render(images).count("FRAMEWATT_TORCH_LEVEL: ${FRAMEWATT_TORCH_LEVEL:-}\n") == 1, "for the plan"
    before = generator.ENV.read_text().replace("FRAMEWATT_TRT_PROFILES=", "FRAMEWATT_TRT_PROFILES=each")
    after = generator.updated_env(before, load_images(images))
    assert after.replace("FRAMEWATT_TORCH_LEVEL=\n", "") == before
    assert re.search(
        r"^FRAMEWATT_ONNXRT_TRIAL_SECONDS=\nFRAMEWATT_TORCH_LEVEL=\n\n# Limits of a container", after, re.MULTILINE
    )
    with pytest.raises(
        UserError,
        match=r"its line '# Limits of a container', before which the variables of frameworks stand",
    ):
        generator.updated_env(before.replace("# Limits of a container.", "#"), load_images(images))


def test_forms_that_a_framework_reads_are_asked_of_the_export() -> None:
    commands = re.findall(r"exec python3 -m common.export (.*)", generator.render())
    assert [re.findall(r"--form (\S+)", command) for command in commands] == [[], ["tflite", "tflite-int8-dynamic"]]


def test_the_study_comes_first_and_a_new_folder_takes_part(tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(IMAGES, images, ignore=shutil.ignore_patterns("__pycache__"))
    folder = images / "toy"
    shutil.copytree(images / "_template", folder)
    dockerfile = folder / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text().replace("template", "toy"))
    text = generator.render(images)
    names = re.findall(r"command: \[([a-z0-9-]+)\]", text[: text.index("# On the CPU.")])
    assert names[:7] == list(generator.STUDY)
    (study, _), (more, _) = (
        re.findall(rf"{name}: (.*)", text) for name in ("FRAMEWATT_SERVICES", "FRAMEWATT_OPTIONAL")
    )
    assert [*study.split(), *more.split()] == names
    assert re.search(r"\n  toy-cpu:\n(?:.*\n){0,3} +profiles: \[cpu\]", text)
    assert re.search(r"\n  torchcompile:\n(?:.*\n){0,3} +profiles: \[more\]", text)


def test_images_with_ipykernel_are_built_and_taken_as_soon_as_a_front_end_is_named() -> None:
    text = generator.render()
    frameworks = {image.name for image in load_images(IMAGES)}
    tags = re.findall(r"image: \$\{FRAMEWATT_IMAGES:-framewatt\}/([a-z-]+):([^\s]+)", text)
    assert {name for name, _ in tags} >= frameworks
    for name, tag in tags:
        assert tag.endswith("${FRAMEWATT_FRONTEND:+-notebook}") == (name in frameworks), name
    for name, arguments in re.findall(r"dockerfile: images/([a-z-]+)/Dockerfile, .*args: \{(.*?)\}\}", text):
        assert ('NOTEBOOK: "${FRAMEWATT_FRONTEND:+1}"' in arguments) == (name in frameworks), name
    assert options_from({"FRAMEWATT_FRONTEND": "script,notebook"}).frontend == "script,notebook"


def test_options_come_from_the_variables() -> None:
    options = options_from(
        {"FRAMEWATT_QUICK": "1", "FRAMEWATT_BATCH_SIZES": "1,2", "FRAMEWATT_REPLICATES": "3", "X": "y"}
    )
    assert (options.quick, options.batch_sizes, options.replicates, options.precision) == (True, "1,2", 3, "fp32")
    lengths = {"MIN_SECONDS": 0.3, "MAX_SECONDS": 0.6, "WARMUP_SECONDS": 0.2, "IDLE_SECONDS": 0.0}
    settings = settings_of(options_from({f"FRAMEWATT_{name}": str(value) for name, value in lengths.items()}), "cpu")
    assert (settings.min_seconds, settings.max_seconds) == (0.3, 0.6)
    assert (settings.warmup_max_seconds, settings.idle_seconds) == (0.2, 0.0)
    assert options_from(dict.fromkeys(OPTIONS, "")) == options_from({})
    wrong = {"FRAMEWATT_QUICK": "perhaps", "FRAMEWATT_REPLICATES": "many", "FRAMEWATT_MIN_SECONDS": "long"}
    for name, value in wrong.items():
        with pytest.raises(UserError, match=f"{name} in .env '{value}' is not"):
            options_from({name: value})


def test_a_gpu_keeps_the_name_that_the_host_gives_it() -> None:
    assert gpu_name("2", "gpu0") == "gpu2"
    assert gpu_name("nvidia.com/gpu=3", "gpu0") == "gpu3"
    assert gpu_name("GPU-1f3c", "gpu0") == "gpu0"


@pytest.mark.parametrize(
    ("text", "found"), [("2.26.1-4", (2, 26)), ("v2.3.3", (2, 3)), ("1.29.2", (1, 29)), ("", None)]
)
def test_versions(text: str, found: tuple[int, int] | None) -> None:
    assert version.parse(text) == found


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("echo", "2.3.3"), "compose 2.3 is too old for compose.yaml"),
        (("false",), "no compose plugin"),
        (("framewatt-no-such-program",), "cannot be run"),
    ],
)
def test_an_old_compose_is_said(command: tuple[str, ...], words: str) -> None:
    with pytest.raises(UserError, match=words) as raised:
        version.check(command)
    assert "install Docker's compose plugin" in str(raised.value)
    version.check(("echo", "v2.26.1"))


def test_a_service_sees_its_own_folder_and_cache_and_reads_the_rest() -> None:
    """No service mounts all of the data folder; only the sweep's own ones see runs, and no two write the same folder."""
    text = generator.render()
    places = r"\$\{FRAMEWATT_DATA:-\./data\}(\S*)"
    host_side = re.findall(places, text[: text.index("\nservices:")])
    assert [place.split(":")[0] for place in host_side] == [f"/{folder}" for folder in generator.HOST_FOLDERS]
    services = re.findall(r"\n  ([a-z0-9-]+):\n((?:    .*\n)+)", text[text.index("\nservices:") :])
    frameworks = {variant.image for image in load_images(IMAGES) for variant in image.variants}
    written: dict[str, str] = {}
    seen = 0
    for name, lines in services:
        volumes = re.findall(places, lines)
        assert "/:" not in lines and ":/data\n" not in lines and all(volume.startswith("/") for volume in volumes), name
        if "*host-side" in lines:
            assert volumes == [], name
            continue
        folders = [volume[1:] for volume in volumes]
        (image,) = re.findall(r"image: \S+/([a-z-]+):", lines)
        assert not any(place in folder for folder in folders for place in ("results", "locks", "report")), name
        flavour = "cpu" if name.endswith("-cpu") else "gpu"
        allowed = {
            f"compose/{flavour}/board:/data/board:ro",
            "models:/data/models:ro",
            f"compose/{flavour}/sidecar:/data/power:ro",
        }
        rest = set(folders) - allowed
        if name.startswith("export"):
            assert rest == {f"compose/{flavour}/models:/data/models"}
        elif image == "sidecar":
            # it looks there, and no more, when a window begins or ends
            jobs = f"compose/{flavour}/services:/data/services:ro"
            assert rest == {f"compose/{flavour}/sidecar:/data/run", jobs}
            rest.remove(jobs)
        else:
            seen += 1
            assert image in frameworks
            variant = name.removesuffix("-cpu")
            cache = f"framework-cache/${{FRAMEWATT_IMAGES:-framewatt}}/{image}:/data/cache"
            assert rest == {f"compose/{flavour}/services/{variant}:/data/run", cache}, name
            rest.remove(cache)
        for folder in rest:
            assert written.setdefault(folder, name) == name or name.startswith("export")
    assert seen >= 14


def test_what_a_profile_adds_is_not_always_measured() -> None:
    """Its cells are asked for only if its services come: the plan refuses none of them beforehand."""
    found = generator.always_measured("cpu", load_images(IMAGES))
    assert {"onnxrt", "jax", "litert"} <= found
    assert not {"torchcompile", "keras-torch"} & found
