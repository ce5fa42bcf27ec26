"""What can be measured: read from the `LABEL framewatt.*` lines of images/*/Dockerfile, so that a new folder is all it takes.

No adapter is imported here, at most an image's host_check.py. docs/add-a-framework.md lists the labels.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import UserError, unknown
from common.model_files import MAIN_FORMS
from common.schema import PRECISIONS, TUNINGS

PREFIX = "framewatt."
#: a variable that may be declared: framewatt's own alone, so that no label lets a key or a path of the caller into a container
_VARIABLE = re.compile("FRAMEWATT_[A-Z0-9_]+")


@dataclass(frozen=True)
class Variant:
    """A framework variant: one way to run a model, found in one image."""

    name: str
    image: str
    title: str
    color: str | None
    precisions_cpu: tuple[str, ...]
    precisions_gpu: tuple[str, ...]
    min_compute_capability: float | None
    max_compute_capability: float | None
    note: str
    #: matplotlib's letter of the marker in plots
    marker: str | None = None
    #: precision -> further form of the model (common/export/forms.py) that it reads; "" for all others
    forms: Mapping[str, str] = field(default_factory=dict)
    #: form of the model that it reads where `forms` names none (common/model_files.py, MAIN_FORMS); "" for one that decides itself
    reads: str = ""
    #: levels of tuning that its adapter has
    tunings: tuple[str, ...] = ("tuned",)
    #: (precision, level of tuning) -> why it has the one and the other, but not both together
    without: Mapping[tuple[str, str], str] = field(default_factory=dict)
    #: names of the framework's package, of which each flavour's requirements file asks for one
    packages: tuple[str, ...] = ()
    #: names of the package whose version its workers give as the framework's: `packages`, unless the image says another
    reports: tuple[str, ...] = ()
    #: environment variables that its adapter reads: they reach it in every placement, and nothing else of the caller's does
    variables: tuple[str, ...] = ()

    def precisions(self, kind: str) -> tuple[str, ...]:
        """Precisions on a kind of device, "cpu" or "gpu"; empty where it does not run at all."""
        return self.precisions_cpu if kind == "cpu" else self.precisions_gpu

    def form(self, precision: str) -> str:
        """The form of the model without which it runs nothing in this precision, "" where that cannot be said."""
        return self.forms.get(precision, self.forms.get("", self.reads))

    def refusal(self, kind: str, compute_capability: str | None = None) -> str | None:
        """None, or why this variant cannot run on such a device: one clause for people."""
        if not self.precisions(kind):
            return f"{self.title} does not run on a {kind.upper()} here"
        if kind == "gpu" and compute_capability:
            here = float(compute_capability)
            if self.min_compute_capability is not None and here < self.min_compute_capability:
                return f"its default base image needs compute capability {self.min_compute_capability} or newer, this GPU has {here}"
            if self.max_compute_capability is not None and here > self.max_compute_capability:
                return f"its default base image ends at compute capability {self.max_compute_capability}, this GPU has {here}"
        return None


@dataclass(frozen=True)
class Image:
    """A folder under images/ that brings at least one variant."""

    name: str
    folder: Path
    order: int
    imports: str
    variants: tuple[Variant, ...]
    #: default of ARG BASE_IMAGE
    base_image: str

    @property
    def adapter(self) -> Path:
        return self.folder / "adapter.py"

    def fault_of(self, environment: Mapping[str, str]) -> str | None:
        """What is wrong with the environment variables of this image, as far as its host_check.py can tell; None for nothing."""
        file = self.folder / "host_check.py"
        if not file.is_file():
            return None
        spec = importlib.util.spec_from_file_location(f"host_check_of_{self.name.replace('-', '_')}", file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        fault: str | None = module.fault(environment)
        return fault


def read_labels(dockerfile: Path) -> dict[str, str]:
    """All `LABEL key=value` pairs of a Dockerfile; quotes, continuation lines and `${NAME}` of an ARG with a default resolved.

    Raises UserError when malformed.
    """
    text = re.sub(
        r"\\\n",
        " ",
        "\n".join(line for line in dockerfile.read_text().splitlines() if not line.lstrip().startswith("#")),
    )
    labels: dict[str, str] = {}
    for line in text.splitlines():
        if not line.upper().startswith("LABEL "):
            continue
        try:
            for word in shlex.split(line[6:]):
                key, separator, value = word.partition("=")
                if not separator:
                    raise ValueError(f"'{word}' has no '='")
                labels[key] = re.sub(
                    r"\$\{(\w+)\}", lambda found: default_argument(dockerfile, found[1]) or found[0], value
                )
        except ValueError as error:
            raise UserError(f"{dockerfile}: a LABEL line cannot be read: {error}") from error
    return labels


def default_argument(dockerfile: Path, name: str) -> str:
    """Default of an `ARG name=value` line, "" without one."""
    found = re.search(rf"^ARG\s+{re.escape(name)}=(.+)", dockerfile.read_text(), re.MULTILINE)
    return next(iter(shlex.split(found.group(1))), "") if found else ""


def _number(text: str | None) -> float | None:
    return float(text) if text else None


def _declared(dockerfile: Path, labels: Mapping[str, str]) -> tuple[str, ...]:
    """Environment variables that an image's adapters read."""
    variables = tuple(labels.get(PREFIX + "variables", "").split())
    for variable in variables:
        if not _VARIABLE.fullmatch(variable):
            raise UserError(
                f"{dockerfile}: '{variable}' cannot be declared as a variable; it takes names like FRAMEWATT_NAME"
            )
    return variables


def _without(
    name: str, dockerfile: Path, labels: Mapping[str, str], precisions: Sequence[str], tunings: Sequence[str]
) -> dict[tuple[str, str], str]:
    """(precision, level) that a variant has not, though it has both -> why."""
    prefix = f"{PREFIX}variant.{name}.without."
    without: dict[tuple[str, str], str] = {}
    for key in labels:
        if not key.startswith(prefix):
            continue
        precision, _, level = key[len(prefix) :].partition(".")
        without[precision, level] = labels[key]
        if precision not in precisions or level not in tunings:
            raise UserError(
                f"{dockerfile}: variant {name} is without '{precision}.{level}', which is no PRECISION.LEVEL of its labels"
            )
    return without


def _variants(image: str, dockerfile: Path, labels: dict[str, str]) -> Iterable[Variant]:
    names: list[str] = []
    imports = labels.get(PREFIX + "imports", "")
    for key in labels:
        found = re.fullmatch(rf"{re.escape(PREFIX)}variant\.([a-z0-9][a-z0-9-]*)\..+", key)
        if found and found.group(1) not in names:
            names.append(found.group(1))
    variables = _declared(dockerfile, labels)
    for name in names:

        def label(key: str, name: str = name) -> str:
            return labels.get(f"{PREFIX}variant.{name}.{key}", "")

        precisions = {kind: tuple(label(f"precisions.{kind}").split()) for kind in ("cpu", "gpu")}
        for precision in (*precisions["cpu"], *precisions["gpu"]):
            if precision not in PRECISIONS:
                raise UserError(
                    f"{dockerfile}: variant {name} names the precision '{precision}'; there is {', '.join(PRECISIONS)}"
                )
        tunings = tuple(label("tuning").split()) or ("tuned",)
        for level in tunings:
            if level not in TUNINGS:
                raise UserError(
                    f"{dockerfile}: variant {name} names the level of tuning '{level}'; there is {', '.join(TUNINGS)}"
                )
        without = _without(name, dockerfile, labels, (*precisions["cpu"], *precisions["gpu"]), tunings)
        reads = label("reads")
        if reads not in ("", *MAIN_FORMS):
            raise UserError(f"{dockerfile}: variant {name} reads '{reads}'; there is {', '.join(MAIN_FORMS)}")
        prefix = f"{PREFIX}variant.{name}.form"
        forms = {key[len(prefix) :].lstrip("."): value for key, value in labels.items() if key.startswith(prefix)}
        packages = (label("package") or labels.get(PREFIX + "package") or imports.replace("_", "-")).split()
        yield Variant(
            name=name,
            image=image,
            title=label("title") or name,
            color=label("color") or None,
            marker=label("marker") or None,
            precisions_cpu=precisions["cpu"],
            precisions_gpu=precisions["gpu"],
            min_compute_capability=_number(label("min-compute-capability")),
            max_compute_capability=_number(label("max-compute-capability")),
            note=label("note"),
            forms=forms,
            reads=reads,
            tunings=tunings,
            without=without,
            packages=tuple(packages),
            reports=tuple(label("reports").split() or packages),
            variables=variables,
        )


def load_images(folder: Path) -> list[Image]:
    """Images with at least one variant, in sweep order. Raises UserError when two folders claim the same variant."""
    images = []
    for dockerfile in sorted(folder.glob("[!_.]*/Dockerfile")):
        labels = read_labels(dockerfile)
        name = dockerfile.parent.name
        variants = tuple(_variants(name, dockerfile, labels))
        if variants:
            images.append(
                Image(
                    name=name,
                    folder=dockerfile.parent,
                    order=int(labels.get(PREFIX + "order", "1000")),
                    imports=labels.get(PREFIX + "imports", ""),
                    variants=variants,
                    base_image=default_argument(dockerfile, "BASE_IMAGE"),
                )
            )
    owners: dict[str, str] = {}
    for image in images:
        for variant in image.variants:
            if variant.name in owners:
                raise UserError(
                    f"both images/{owners[variant.name]} and images/{image.name} bring the variant {variant.name}"
                )
            owners[variant.name] = image.name
    return sorted(images, key=lambda image: (image.order, image.name))


def forms_of(variants: Iterable[Variant], precisions: Iterable[str]) -> list[str]:
    """Further forms of the model that these variants read in these precisions, each once."""
    chosen = list(precisions)
    found = [
        variant.forms.get(precision, variant.forms.get("", ""))
        for variant in variants
        for precision in chosen
        if precision in (*variant.precisions_cpu, *variant.precisions_gpu)
    ]
    return [name for name in dict.fromkeys(found) if name]


def all_variants(images: Iterable[Image]) -> dict[str, Variant]:
    return {variant.name: variant for image in images for variant in image.variants}


def variables_set(variants: Iterable[Variant], environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that these variants read and that are set, by name; one that says nothing is as one that is not there."""
    declared = {name for variant in variants for name in variant.variables}
    return {name: environment[name] for name in sorted(declared) if environment.get(name, "").strip()}


def check_variables(images: Iterable[Image], variants: Iterable[Variant], environment: Mapping[str, str]) -> None:
    """Raises UserError for a value without a meaning to an image of these variants."""
    needed = {variant.image for variant in variants}
    for image in images:
        if image.name in needed and (fault := image.fault_of(environment)) is not None:
            raise UserError(fault)


def choose_variants(images: list[Image], names: Iterable[str]) -> list[Variant]:
    """The named variants, in the order given and each once. Raises UserError for an unknown one."""
    known = all_variants(images)
    chosen = []
    for name in names:
        if name not in known:
            raise unknown("framework", name, known)
        if known[name] not in chosen:
            chosen.append(known[name])
    return chosen
