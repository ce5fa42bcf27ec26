"""`python -m common.host.fleet.worker.agent run|check ATTEMPT`: what a host does for a sweep, in its own checkout.

Reads one line of JSON, the *spec*, from its standard input, which then stays open: when it closes, whoever asked is gone,
and the agent ends as after Ctrl-C. Prints events, one JSON object a line: those of the supervisors (common/job.EVENTS) and

    facts     facts (facts.py), for `check`
    run       folder, scratch (to be removed by the reader), plan (work keys in order), device, model_hash, model_terms
    done      interrupted, errors, refused: one line where it could not even begin, else ""

A spec holds: attempt, device (cpu or gpu), gpus (as Ray numbers them), raylet (its process id), code (digest of the
sender's checkout), options (those of `invoke bench`), environment (the sender's variables of frameworks' adapters), and for
`run` also run, cells, command, facts, model_hash, seed (see subset.Subset). The run itself is that of `invoke bench`: its
runner, its sidecar, its locks.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from common.errors import UserError
from common.host.bench.execution import run_all
from common.host.bench.opening import opened
from common.host.cli.terminal import Terminal
from common.host.devices import Device, list_gpus, the_cpu
from common.host.fleet.worker.code_digest import code_digest
from common.host.fleet.worker.priority import lost_priority, undo_ray
from common.host.fleet.worker.scratch import scratch_folder
from common.host.fleet.worker.variables import replace_own
from common.host.paths import DataFolder
from common.host.plan.jobs import planned_keys
from common.host.plan.model_terms import ModelTerms
from common.host.plan.options import Options
from common.host.plan.subset import Subset, work_key
from common.host.runs.run import locked
from common.typed_json import parse_object

#: a device that another run is just leaving is waited for so long, in s
LOCK_SECONDS = 60.0
#: when nobody listens any more, the agent has so long to end its workers, in s
ORPHAN_SECONDS = 60.0

_speaking = threading.Lock()


def emit(event: Mapping[str, Any]) -> None:
    """One event, from any thread. Nobody may be listening any more: then the closed input has ended this already."""
    with _speaking, suppress(OSError, ValueError):
        print(json.dumps(event), flush=True)


def assigned_device(kind: str, ray_gpus: list[str]) -> Device:
    """The device of this task. kind: cpu, or gpu: then the one GPU that Ray assigned.

    Ray numbers GPUs as NVML does unless it was started with CUDA_VISIBLE_DEVICES, whose entries it then hands out, indexes
    or UUIDs. Raises UserError: no such GPU, a part of one, or another product than Ray takes it for.
    """
    if kind == "cpu":
        return the_cpu()
    if len(ray_gpus) != 1:
        raise UserError(f"Ray assigned {len(ray_gpus)} GPUs to this task, not one")
    (name,) = ray_gpus
    if name.startswith("MIG-"):
        raise UserError(f"Ray hands out parts of a GPU here ({name}); framewatt measures whole GPUs: leave MIG mode")
    gpus = list_gpus()
    found = [gpu for gpu in gpus if name in (str(gpu.index), gpu.uuid)]
    if not found:
        existing = ", ".join(f"{gpu.index} ({gpu.product})" for gpu in gpus)
        raise UserError(f"Ray assigned GPU {name}, NVML shows {existing}: start Ray anew on this host")
    if found[0].product != gpus[0].product:
        # Ray asks NVML for the first GPU's name and takes it for all.
        raise UserError(
            f"GPU {name} is a {found[0].product}, but Ray takes every GPU of this host for a {gpus[0].product}, "
            "its first; a host with different GPUs cannot be part of a fleet"
        )
    return found[0]


def wait_until_free(device: Device, data: DataFolder) -> None:
    """Waits for a run that is just ending on the device. Raises UserError naming the holder when it stays."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            with locked(data.locks / f"{device.uuid or device.name}.lock", f"{device.name} ({device.product})"):
                return
        except UserError:
            if time.monotonic() > deadline:
                raise
            print(f"waiting for {device.name}", file=sys.stderr, flush=True)
            time.sleep(1)


def options_of(spec: Mapping[str, Any], device: Device) -> Options:
    return Options(**{**spec["options"], "device": device.kind, "gpu": device.uuid, "seed": int(spec["seed"])})


def run(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The cells of the spec on the assigned device; returns what `done` says. Raises UserError, KeyboardInterrupt."""
    if spec["code"] != code_digest():
        raise UserError("its checkout has other code than the sweep was started with")
    device = assigned_device(spec["device"], spec["gpus"])
    options = options_of(spec, device)
    data = DataFolder.default()
    wait_until_free(device, data)
    subset = Subset(spec["run"], frozenset(spec["cells"]), spec["command"], spec["facts"], spec["model_hash"])
    console = Terminal(file=sys.stderr, width=200)
    with scratch_folder(data, spec["run"]) as scratch:
        to_be_read = False
        try:
            data = DataFolder(data.root, runs_in=scratch)
            with opened(options, console, data, search=f"fleet {spec['run']}", subset=subset) as (
                context,
                runner,
                plan,
            ):
                lost = lost_priority(spec["raylet"])
                if runner.name == "local" and lost:
                    raise UserError(
                        f"Ray runs its tasks {lost} steps nicer here than it runs itself, and workers inherit that: "
                        "start Ray with RAY_worker_niceness=0"
                    )
                emit({
                    "event": "run",
                    "folder": str(context.run.folder),
                    "scratch": str(scratch),
                    "plan": [work_key(key) for key in planned_keys(plan)],
                    "device": device.describe() | {"kind": device.kind},
                    "model_hash": context.model.hash,
                    "model_terms": asdict(ModelTerms.of(context.model)),
                })  # fmt: skip
                to_be_read = True
                outcome = run_all(context, runner, plan, console, emit)
            return {"interrupted": outcome.interrupted, "errors": outcome.errors, "refused": ""}
        finally:
            if _abandoned.is_set() or not to_be_read:
                shutil.rmtree(scratch, ignore_errors=True)


_abandoned = threading.Event()


def _mind_the_input() -> None:
    """Ends this process once its input is closed."""
    with suppress(OSError, ValueError):
        while sys.stdin.readline():
            pass
    _abandoned.set()
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(ORPHAN_SECONDS)
    os._exit(130)


def main() -> int:
    task = sys.argv[1]
    spec = parse_object(sys.stdin.readline())
    done: dict[str, Any] = {"interrupted": False, "errors": [], "refused": ""}
    try:
        if not spec:
            raise UserError("the agent reads what to do as a line of JSON; on_host.py writes it")
        undo_ray(spec["raylet"])
        own = replace_own(os.environ, spec.get("environment", {}))
        threading.Thread(target=_mind_the_input, daemon=True).start()
        if task == "check":
            from common.host.fleet.worker.facts import collect

            emit({"event": "facts", "facts": asdict(replace(collect(spec), own_variables=own))})
        else:
            done = run(spec)
    except UserError as error:
        done["refused"] = str(error)
    except KeyboardInterrupt:
        done["interrupted"] = True
    emit({"event": "done", **done})
    return 2 if done["refused"] else 130 if done["interrupted"] else 0


if __name__ == "__main__":
    sys.exit(main())
