"""compose.yaml from the image folders' labels. `invoke compose` writes it, a test fails when it is not up to date."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from common.errors import UserError
from common.host.compose.rendezvous import OPTIONS
from common.host.frameworks.registry import Image, Variant, all_variants, default_argument, forms_of, load_images
from common.host.paths import IMAGES, ROOT
from common.host.plan.request import STUDY_BATCH_SIZES
from common.host.runners.containers import bases
from common.host.runners.containers.images import SUPPORT
from common.schema import PRECISIONS

TEMPLATES = Path(__file__).parent / "templates"
FILE = ROOT / "compose.yaml"
ENV = ROOT / ".env"
#: line of .env before which the base images of frameworks stand
_AFTER_BASES = "FRAMEWATT_BASE_SIDECAR="
#: and the one before which the variables of frameworks' adapters stand
_AFTER_VARIABLES = "# Limits of a container"
#: the published study's frameworks in its order; those of other image folders follow, in the order of their labels
STUDY = ("tensorrt", "onnxrt", "torch", "keras", "kerasxla", "tf", "tfxla")
#: what .env says where it says nothing
DEFAULTS: Mapping[str, str] = {
    "FRAMEWATT_FRAMEWORKS": "",
    "FRAMEWATT_BATCH_SIZES": STUDY_BATCH_SIZES,
    "FRAMEWATT_PRECISION": "fp32",
    "FRAMEWATT_IO": "host",
    "FRAMEWATT_MODEL": "MobileNetV3L",
    "FRAMEWATT_WEIGHTS": "auto",
    "FRAMEWATT_QUICK": "0",
    "FRAMEWATT_REPLICATES": "1",
    "FRAMEWATT_THREADS": "",
    "FRAMEWATT_MIN_SECONDS": "",
    "FRAMEWATT_MAX_SECONDS": "",
    "FRAMEWATT_WARMUP_SECONDS": "",
    "FRAMEWATT_IDLE_SECONDS": "",
    "FRAMEWATT_CELL_TIMEOUT": "",
    "FRAMEWATT_FRONTEND": "",
    "FRAMEWATT_TUNING": "",
    "FRAMEWATT_INPUT": "",
}
#: of the data folder, what the sweep's own services see
HOST_FOLDERS = ("results", "models", "framework-cache", "locks", "report", "compose")


@dataclass(frozen=True)
class Service:
    """A framework variant as a service."""

    variant: Variant
    profile: str
    #: whether compose builds the image here: once for each image, or it would do so several times at once
    builds: bool


@dataclass(frozen=True)
class Flavour:
    """All services of one kind of device."""

    name: str
    suffix: str
    title: str
    study: tuple[Service, ...]
    more: tuple[Service, ...]
    #: further forms of the model that they read
    forms: tuple[str, ...]

    def build(self, image: str) -> str:
        """The `build` section of an image, on one line."""
        variable = f"FRAMEWATT_BASE_{image.upper().replace('-', '_')}"
        if self.name == "cpu":
            base, requirements = f"${{FRAMEWATT_BASE_CPU:-{bases.pinned(bases.CPU_BASE)}}}", "requirements-cpu.txt"
        else:
            default = bases.pinned(default_argument(IMAGES / image / "Dockerfile", "BASE_IMAGE"))
            base, requirements = (
                f"${{{variable}:-{default}}}",
                f"${{{variable.replace('BASE', 'REQUIREMENTS')}:-requirements.txt}}",
            )
        arguments = {
            "BASE_IMAGE": base,
            "REQUIREMENTS": requirements,
            "PIP_EXTRA_INDEX_URL": "${PIP_EXTRA_INDEX_URL:-}",
            "PIP_FIND_LINKS": "${PIP_FIND_LINKS:-}",
        }
        if image not in SUPPORT:
            arguments["NOTEBOOK"] = "${FRAMEWATT_FRONTEND:+1}"
        inside = ", ".join(f'{name}: "{value}"' for name, value in arguments.items())
        return (
            f'{{context: ., dockerfile: images/{image}/Dockerfile, labels: {{framewatt: "1"}}, '
            f'network: "${{FRAMEWATT_BUILD_NETWORK:-default}}", args: {{{inside}}}}}'
        )


def always_measured(kind: str, images: list[Image]) -> set[str]:
    """The variants of `docker compose up` on this kind of device, without those of a profile that may not be switched on."""
    return {service.variant.name for service in _flavour(kind, "", "", images).study}


def _flavour(kind: str, suffix: str, title: str, images: list[Image]) -> Flavour:
    variants = {name: v for name, v in all_variants(images).items() if v.precisions(kind)}
    of_study = {variants[name].image for name in STUDY if name in variants}
    first = [name for name in STUDY if name in variants]
    # Other ways to run one of the study's frameworks are left to a profile; a framework of its own always takes part.
    first += [name for name, variant in variants.items() if name not in first and variant.image not in of_study]
    more = [name for name in variants if name not in first]
    built = {"tensorflow", "sidecar", "analyze"}  # by export, sidecar, prepare
    services: list[Service] = []
    for name in [*first, *more]:
        variant = variants[name]
        profile = kind if name in first else ("more" if kind == "gpu" else f"more-{kind}")
        services.append(Service(variant, profile, variant.image not in built))
        built.add(variant.image)
    return Flavour(
        kind,
        suffix,
        title,
        tuple(services[: len(first)]),
        tuple(services[len(first) :]),
        tuple(forms_of(variants.values(), PRECISIONS)),
    )


def updated_env(text: str, images: list[Image]) -> str:
    """The text of .env with a line for the base image of every framework that runs on a GPU, and for every variable of an adapter.

    What is there stays. Raises UserError when a line that these come before is gone.
    """
    on_gpu = [image for image in images if any(variant.precisions("gpu") for variant in image.variants)]
    names = [f"FRAMEWATT_BASE_{image.name.upper().replace('-', '_')}" for image in on_gpu]
    text = _with_lines(text, names, _AFTER_BASES, "base images stand")
    return _with_lines(text, variables_of(images), _AFTER_VARIABLES, "the variables of frameworks stand")


def variables_of(images: list[Image]) -> list[str]:
    """Variables that the images' adapters read, each once."""
    return list(dict.fromkeys(name for image in images for variant in image.variants for name in variant.variables))


def _with_lines(text: str, names: list[str], before: str, what: str) -> str:
    """With an empty setting of each name that has none, above the line that begins with `before` and the blank ones over it."""
    lines = text.splitlines(keepends=True)
    missing = [name for name in names if not any(line.startswith(f"{name}=") for line in lines)]
    at = next((i for i, line in enumerate(lines) if line.startswith(before)), None)
    if at is None:
        raise UserError(f".env has lost its line '{before}', before which {what}; put it back")
    while at and not lines[at - 1].strip():
        at -= 1
    return "".join([*lines[:at], *(f"{name}=\n" for name in missing), *lines[at:]])


def render(images_folder: Path = IMAGES) -> str:
    """The text of compose.yaml."""
    images = load_images(images_folder)
    # Not HTML: nothing to escape.
    environment = Environment(loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True)
    flavours = [
        _flavour("gpu", "", "On one GPU (FRAMEWATT_GPU).", images),
        _flavour("cpu", "-cpu", "On the CPU.", images),
    ]
    text = environment.get_template("compose.yaml.j2").render(
        flavours=flavours,
        option_variables=list(OPTIONS),
        defaults=DEFAULTS,
        framework_variables=variables_of(images),
        host_folders=HOST_FOLDERS,
        bases={name: bases.pinned(default_argument(IMAGES / name / "Dockerfile", "BASE_IMAGE")) for name in SUPPORT},
    )
    return text.rstrip() + "\n"
