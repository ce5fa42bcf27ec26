"""A sweep that was cut short is continued by the same command: what is done is read off the run folders themselves.

Each run.json of a sweep holds `fleet`: sweep (its id), request (digest of what was asked for), seed, accelerator, target,
host, and so on. There is no other record of a sweep: cells that exist are done, whatever happened to who collected them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from common.errors import UserError
from common.host.fleet.head.collect import repair
from common.host.fleet.head.targets import Target
from common.host.plan.model_terms import ModelTerms
from common.host.plan.options import Options
from common.host.plan.subset import work_key
from common.host.runs.run import DESCRIPTION, Run, read_run


def request_digest(
    options: Options,
    code: str,
    targets: Sequence[Target],
    inputs: Mapping[str, tuple[str, bytes]],
    environment: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Equal for equal requests: options but the seed, the code's digest, targets, content of files given, variables of frameworks."""
    values: dict[str, Any] = asdict(options)
    del values["seed"]
    values |= {"code": code, "targets": sorted(target.name for target in targets)}
    values |= {f"variable {name}": value for name, value in environment.items()}
    values |= {f"content of {name}": hashlib.sha256(content).hexdigest() for name, (_, content) in inputs.items()}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Earlier:
    """What an earlier call of the same sweep left. done: target name -> work keys of its cells; runs: its run folders."""

    sweep: str
    seed: int
    model_hash: str
    done: Mapping[str, frozenset[str]] = field(default_factory=dict)
    runs: tuple[Path, ...] = ()
    #: of the model that it measured
    terms: ModelTerms | None = None


def find_earlier(results: Path, request: str) -> Earlier | None:
    """The newest sweep of the same request, None where there is none; its runs are made fit to be read, empty ones removed."""
    sweeps: dict[str, list[Run]] = {}
    for path in sorted(results.glob(f"*/{DESCRIPTION}")):
        try:
            run = read_run(path.parent)
        except UserError:
            continue
        fleet = run.description.get("fleet")
        if isinstance(fleet, dict) and fleet.get("request") == request:
            sweeps.setdefault(str(fleet.get("sweep")), []).append(run)
    if not sweeps:
        return None
    newest = max(sweeps)
    done: dict[str, frozenset[str]] = {}
    for run in sweeps[newest]:
        repair(run.folder)
        if not run.existing_cells():
            shutil.rmtree(run.folder, ignore_errors=True)
        target = str(run.description["fleet"].get("target"))
        done[target] = done.get(target, frozenset()) | {work_key(key) for key in run.existing_cells()}
    first = sweeps[newest][0].description
    model = first.get("model")
    return Earlier(
        newest,
        int(first["fleet"].get("seed", 0)),
        str(model.get("hash", "")) if isinstance(model, dict) else "",
        done,
        tuple(run.folder for run in sweeps[newest] if run.folder.exists()),
        ModelTerms.of_description(model),
    )
