"""Are these hosts fit for one sweep, and alike enough for their figures to be compared? Takes facts, returns lines.

States as in `invoke doctor`: `fail`, the host would not run or its cells would not be comparable; `note`, worth knowing.
What must be equal: the code that measures, versions of environments or images, the model. What may differ, and stands in
every run.json: GPUs, drivers, CPUs, kernels. Wall clocks may differ too: nothing is ever joined on them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from common.host.fleet.worker.facts import Facts
from common.text import shortened

#: below this a run and an image's caches hardly fit
LEAST_DISK_BYTES = 2**30
#: hosts whose wall clocks differ by more are reported
CLOCK_SECONDS = 1.0
#: packages that install others and never run in a benchmark
INSTALLERS = frozenset({"pip", "setuptools", "wheel"})


@dataclass(frozen=True)
class Finding:
    """One line: which host, and what. odd: it is fit, but unlike the others."""

    host: str
    state: Literal["fail", "note"]
    text: str
    odd: bool = False

    def __str__(self) -> str:
        return f"{self.host}: {self.text}"


@dataclass(frozen=True)
class Here:
    """The machine that asks: its checkout is what hosts are compared with."""

    code: str
    revision: str
    model_hash: str = ""


def choose_runner(given: str, python: str, hosts: Mapping[str, Facts]) -> tuple[str, list[Finding]]:
    """The runner for all hosts, as `invoke bench` would choose it for each; fails where they would choose differently."""
    if given or python:
        return given or "local", []
    without = [name for name, facts in hosts.items() if facts.engine_why]
    if not without:
        return "docker", []
    if len(without) == len(hosts):
        return "local", []
    return "docker", [
        Finding(name, "fail", f"no Docker engine answers, on others one does ({hosts[name].engine_why}); --runner local "
                "measures everywhere without", odd=True)
        for name in without
    ]  # fmt: skip


def judge(
    hosts: Mapping[str, Facts],
    here: Here,
    *,
    device: str,
    runner: str,
    clocks: Mapping[str, float] | None = None,
) -> list[Finding]:
    """All findings. hosts: those that may take cells, by name. clocks: how far a host's wall clock is ahead, in s."""
    found: list[Finding] = []
    answering = {name: facts for name, facts in hosts.items() if not facts.why}
    found += [Finding(name, "fail", facts.why) for name, facts in hosts.items() if facts.why]
    for name, facts in answering.items():
        found += [Finding(name, "fail", text) for text in _unfit(facts, device, runner)]
        found += [Finding(name, "note", text) for text in _notes(facts, runner)]
    found += _unlike(answering, here, runner)
    for name, ahead in (clocks or {}).items():
        if abs(ahead) > CLOCK_SECONDS:
            found.append(
                Finding(name, "note", f"its clock is {abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'} this "
                        "machine's: times shown to people are off, no figure is (wall time is never used to join)")
            )  # fmt: skip
    return found


def _unfit(facts: Facts, device: str, runner: str) -> Iterable[str]:
    if device == "gpu":
        if not facts.gpus:
            yield f"no NVIDIA GPU can be used there ({facts.gpus_why or 'the driver shows none'})"
        for gpu in facts.gpus:
            if gpu.get("mig_mode"):
                yield f"{gpu['device']} ({gpu['name']}) is in MIG mode; framewatt measures whole GPUs"
        products = sorted({str(gpu["name"]) for gpu in facts.gpus})
        if len(products) > 1:
            yield f"its GPUs differ ({', '.join(products)}), and Ray names one type a host"
    if runner == "docker":
        if facts.engine_why:
            yield f"{facts.engine_why}"
        else:
            if device == "gpu" and facts.gpu_driver_why:
                yield facts.gpu_driver_why
            for name, image in facts.images.items():
                if "why" in image:
                    yield image["why"]
                elif not image["current"]:
                    yield f"image {name} holds older code than the checkout there: invoke build --framework {name}"
    else:
        for environment in facts.environments.values():
            if "why" in environment and not environment.get("will_be_made"):
                yield environment["why"]
        if facts.lost_priority:
            yield (
                f"Ray runs its tasks {facts.lost_priority} steps nicer than itself there, and workers inherit that: "
                "start Ray with RAY_worker_niceness=0"
            )
    if facts.disk_free_bytes < LEAST_DISK_BYTES:
        yield f"{facts.data} has {facts.disk_free_bytes / 2**20:,.0f} MiB left, a run needs 1,024"


def _notes(facts: Facts, runner: str) -> Iterable[str]:
    if runner == "local":
        for environment in facts.environments.values():
            if environment.get("will_be_made"):
                yield f"{environment['why']}: the first run makes it"
    for name, value in facts.own_variables.items():
        yield f"its own {name}={shortened(value, 80)} does not count: the variables of this machine are measured with everywhere"
    if not facts.model_hash:
        yield f"the model is {facts.model_why or 'not exported yet'}: the first run makes it"


# -- alike? ------------------------------------------------------------------------------------------------------------


def _unlike(hosts: Mapping[str, Facts], here: Here, runner: str) -> list[Finding]:
    found = [
        Finding(
            name,
            "fail",
            f"other code than on this machine ({_named(facts.revision, facts.code)} in {facts.checkout}; "
            f"here {_named(here.revision, here.code)})",
            odd=True,
        )
        for name, facts in hosts.items()
        if facts.code != here.code
    ]
    models = {name: facts.model_hash for name, facts in hosts.items() if facts.model_hash}
    usual = here.model_hash or _usual(models)
    found += [
        Finding(
            name, "fail", f"another model ({model}; {_elsewhere(models, usual, here.model_hash)} {usual})", odd=True
        )
        for name, model in models.items()
        if model != usual
    ]
    return found + (_unlike_images(hosts) if runner == "docker" else _unlike_environments(hosts))


def _named(revision: str, code: str) -> str:
    return f"{revision[:7]}{'+changes' if revision.endswith('+changes') else ''} {code}" if revision else code


def _elsewhere(models: Mapping[str, str], usual: str, here: str) -> str:
    return "here" if here else f"on {next(name for name, model in models.items() if model == usual)}"


def _usual(values: Mapping[str, str]) -> str:
    """What most have; of equally many, what comes first."""
    return Counter(values.values()).most_common(1)[0][0] if values else ""


def _unlike_images(hosts: Mapping[str, Facts]) -> list[Finding]:
    found = []
    for name in sorted({name for facts in hosts.values() for name in facts.images}):
        there = {host: facts.images[name] for host, facts in hosts.items() if "id" in facts.images.get(name, {})}
        # Images that are built on each host have ids of their own; the same recipe on the same base is the same image.
        recipes = {host: f"{image['source']} on {image['base']} {image['base_id']}" for host, image in there.items()}
        ids = {host: image["id"] for host, image in there.items()}
        usual_recipe, usual_id = _usual(recipes), _usual(ids)
        for host in there:
            if ids[host] == usual_id:
                continue
            if recipes[host] != usual_recipe:
                text = f"another image {name} ({_short(ids[host])}, on {there[host]['base']}; others have {_short(usual_id)})"
                found.append(Finding(host, "fail", text, odd=True))
            else:
                text = f"image {name} was built apart ({_short(ids[host])}) from the same recipe and base"
                found.append(Finding(host, "note", text))
    return found


def _short(identity: str) -> str:
    return identity.removeprefix("sha256:")[:12]


def _unlike_environments(hosts: Mapping[str, Facts]) -> list[Finding]:
    found = []
    for name in sorted({name for facts in hosts.values() for name in facts.environments}):
        there = {host: facts.environments.get(name, {}) for host, facts in hosts.items()}
        versions = {
            host: {"Python": environment["python"], **environment["packages"]}
            for host, environment in there.items()
            if "packages" in environment
        }
        found += [
            Finding(host, "fail", f"another environment of {name}: {text}", odd=True)
            for host, text in _differences(versions).items()
        ]
    return found


def _differences(versions: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Host -> in which packages it differs from what most have. versions: host -> package -> version."""
    packages = sorted({package for have in versions.values() for package in have} - INSTALLERS)
    usual = {name: _usual({host: have.get(name, "none") for host, have in versions.items()}) for name in packages}
    found: dict[str, str] = {}
    for host, have in versions.items():
        differs = [
            f"{name} {have.get(name, 'none')}, others have {version}"
            for name, version in usual.items()
            if have.get(name, "none") != version
        ]
        if differs:
            more = f" and {len(differs) - 3} more" if len(differs) > 3 else ""
            found[host] = "; ".join(differs[:3]) + more
    return found
