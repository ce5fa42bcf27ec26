"""What Ray runs on a host: starts the agent of that host's own checkout, and carries its files and events away.

Ray gets this module and shipper.py by value (ray_process.py): a host's Python path needs nothing of framewatt, and all that
measures is the checkout there. Standard library alone. Everything it yields is a dict with a `kind`:

    host      who answers: node (Ray's id), hostname, checkout, python, niceness, gpus (as Ray numbers them)
    facts     the answer of a check (facts.py)
    clock     wall_s: this host's wall clock when it was sent
    state     now: what it does, for people; cell_key, phase, fraction where a cell runs
    files     pieces of files (shipper.py)
    run       the run folder exists: files, plan (work keys in order), device, model_hash, model_terms
    cell      a cell is whole: cell_key, status, message, images_per_s, files, whole ({path: [bytes, sha256]})
    end       the agent has ended: interrupted, errors, refused (one line, or "")
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.host.fleet.worker.shipper import Message, Shipper
from common.typed_json import parse_object

#: what a host does is reported at most this often, in s
STATE_SECONDS = 2.0
#: a cell is carried away this long after it ended, in s, so that the sidecar's readings of its idle phase are on disk
SETTLE_SECONDS = 0.5
#: an agent that was told to stop may take this long, in s
STOP_SECONDS = 60.0
AGENT = "common.host.fleet.worker.agent"
#: variables that Ray sets in its workers and that would reach the benchmark: one thread, one GPU by an index
SET_BY_RAY = (
    "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES",
    "PYTHONBREAKPOINT", "SPT_NOENV",
)  # fmt: skip


def on_host(task: str, spec: Message, inputs: dict[str, tuple[str, bytes]] | None = None) -> Iterator[Message]:
    """task: check, run or stop. spec: see agent.py. inputs: option -> (file name, content), files of the sender's machine."""
    if task == "stop":
        yield {"kind": "stopped", "agents": stop_agents(spec["attempts"])}
        return
    checkout = find_checkout(spec.get("checkout", ""))
    python = interpreter(checkout)
    yield {
        "kind": "host",
        "node": ray_node(),
        "hostname": socket.gethostname(),
        "checkout": str(checkout) if checkout else "",
        "python": python,
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "gpus": ray_gpus(),
    }
    if checkout is None:
        where = " or ".join(map(str, places(spec.get("checkout", ""))))
        yield _end(refused=f"no checkout of framewatt at {where}: give --checkout PATH, or start Ray there with "
                           "FRAMEWATT_CHECKOUT=PATH")  # fmt: skip
        return
    with _files(inputs or {}) as paths:
        spec = {**spec, "gpus": ray_gpus(), "raylet": os.getppid()}
        spec["options"] = {**spec["options"], **paths}
        yield from _watch(_start(task, spec, checkout, python))
    if task == "check":
        # The process is warm now, so that what lies between sending and receiving is the network alone.
        for _ in range(3):
            yield {"kind": "clock", "wall_s": time.time()}
            time.sleep(0.05)


# -- where things are --------------------------------------------------------------------------------------------------


def places(given: str) -> list[Path]:
    """Where a checkout is looked for: as given, else as the host's Ray was told, else around the .venv that runs Ray."""
    if given:
        return [Path(given)]
    checkout = os.environ.get("FRAMEWATT_CHECKOUT", "")
    return [*([Path(checkout)] if checkout else []), Path(sys.prefix).parent]


def find_checkout(given: str) -> Path | None:
    return next((place for place in places(given) if (place / "common" / "host" / "paths.py").is_file()), None)


def interpreter(checkout: Path | None) -> str:
    """The checkout's own .venv, else the Python that runs Ray."""
    own = checkout / ".venv" / "bin" / "python" if checkout else None
    return str(own) if own is not None and own.exists() else sys.executable


def ray_gpus() -> list[str]:
    """The GPUs that Ray assigned to this task: indexes, or UUIDs where Ray was started with those."""
    ray = _ray()
    return [str(gpu) for gpu in ray.get_gpu_ids()] if ray else []


def ray_node() -> str:
    """Id of the host that this task runs on, "" outside of Ray."""
    ray = _ray()
    return str(ray.get_runtime_context().get_node_id()) if ray else ""


def _ray() -> Any:
    """The module, in one of Ray's workers; None elsewhere, where to ask it anything would start a cluster."""
    ray = sys.modules.get("ray")
    return ray if ray is not None and ray.is_initialized() else None


def environment(checkout: Path, raylet: int) -> dict[str, str]:
    """The host's environment as Ray was started with it: what Ray changes for its own workers is changed back."""
    try:
        text = Path(f"/proc/{raylet}/environ").read_text(errors="replace")
        before = dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)
    except OSError:
        before = {}
    found = {name: value for name, value in os.environ.items() if name not in SET_BY_RAY}
    found |= {name: before[name] for name in SET_BY_RAY if name in before}
    found["PYTHONPATH"] = os.pathsep.join(filter(None, [str(checkout), found.get("PYTHONPATH", "")]))
    return found


# -- the agent ---------------------------------------------------------------------------------------------------------


def _start(task: str, spec: Message, checkout: Path, python: str) -> subprocess.Popen[str]:
    # The attempt stands on the command line so that stop_agents finds it.
    process = subprocess.Popen(
        [python, "-m", AGENT, task, str(spec["attempt"])],
        cwd=checkout,
        env=environment(checkout, os.getppid()),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(spec) + "\n")
        process.stdin.flush()
    return process  # its stdin stays open: when this process is killed it closes, and the agent ends


def _watch(agent: subprocess.Popen[str]) -> Iterator[Message]:
    """Messages until the agent has ended; ends it when this generator is closed."""
    lines: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    for name in ("stdout", "stderr"):
        threading.Thread(target=_read, args=(getattr(agent, name), name, lines), daemon=True).start()
    watch = _Watch()
    open_ends = 2
    gone_since: float | None = None
    try:
        while open_ends:
            try:
                # Never for long without a look at Python: Ray's cancel is an exception in this thread.
                name, line = lines.get(timeout=watch.patience())
            except queue.Empty:
                name, line = "", ""
            if name == "end":
                open_ends -= 1
            elif name == "stderr":
                watch.handle_line(line)
            elif name == "stdout":
                yield from watch.event(line)
            yield from watch.due()
            if agent.poll() is not None and not name:
                # Somebody that it started may outlive it and hold its output open.
                gone_since = gone_since or time.monotonic()
                if time.monotonic() - gone_since > 5.0:
                    break
        yield from watch.rest(agent.wait())
    finally:
        _stop(agent)
        watch.clean()


def _read(stream: Any, name: str, lines: queue.SimpleQueue[tuple[str, str]]) -> None:
    with contextlib.suppress(ValueError, OSError):
        for line in stream:
            lines.put((name, line.rstrip("\n")))
    lines.put(("end", ""))


class _Watch:
    """What is known of an agent from its lines."""

    def __init__(self) -> None:
        self._shipper: Shipper | None = None
        self._scratch = ""
        self._state: Message | None = None
        self._phase = ""
        self._reported = 0.0
        self._rate: dict[str, float] = {}
        self._waiting: deque[tuple[float, Message]] = deque()
        self._end: Message | None = None
        self._last_words: deque[str] = deque(maxlen=5)

    def patience(self) -> float:
        if self._waiting:
            return max(0.0, min(0.5, self._waiting[0][0] - time.monotonic()))
        return 0.5

    def handle_line(self, line: str) -> None:
        """A line of its standard error: what it is setting up, and the reason when it dies."""
        if line.strip():
            self._last_words.append(line.strip())
            if self._shipper is None:
                self._state = {"kind": "state", "now": line.strip()}

    def event(self, line: str) -> Iterator[Message]:
        event = parse_object(line)
        kind = event.get("event")
        key = str(event.get("cell_key", ""))
        if kind == "facts":
            yield {"kind": "facts", "facts": event["facts"]}
        elif kind == "run":
            self._scratch = event["scratch"]
            self._shipper = Shipper(Path(event["folder"]))
            yield {"kind": "run", "plan": event["plan"], "device": event["device"], "model_hash": event["model_hash"],
                   "model_terms": event["model_terms"],
                   "files": self._shipper.described()}  # fmt: skip
        elif kind in ("cell_start", "phase", "progress", "cooling"):
            if event.get("images_per_s"):
                self._rate[key] = float(event["images_per_s"])
            self._phase = {"cell_start": "starting", "cooling": "cooling"}.get(kind) or event.get("name") or self._phase
            self._state = {"kind": "state", "now": self._phase, "cell_key": key}
            self._state["fraction"] = float(event.get("fraction") or 0.0)
        elif kind == "cell_finish":
            self._state = None
            finished = {"kind": "cell", "cell_key": key, "status": event["status"]}
            finished |= {"message": event.get("message") or "", "images_per_s": self._rate.pop(key, None)}
            self._waiting.append((time.monotonic() + SETTLE_SECONDS, finished))
        elif kind == "done":
            self._end = _end(interrupted=event["interrupted"], errors=event["errors"], refused=event["refused"])

    def due(self) -> Iterator[Message]:
        """Cells whose time has come, and what it does now."""
        while self._waiting and self._waiting[0][0] <= time.monotonic():
            yield from self._ship(self._waiting.popleft()[1])
        if self._state is not None and time.monotonic() - self._reported >= STATE_SECONDS:
            self._reported = time.monotonic()
            state, self._state = self._state, None
            yield state

    def rest(self, code: int) -> Iterator[Message]:
        """Everything that is still here, then how it ended."""
        while self._waiting:
            yield from self._ship(self._waiting.popleft()[1])
        if self._shipper is not None:
            yield from self._shipper.everything_else()
        if self._end is None:
            words = self._last_words[-1] if self._last_words else "it said nothing"
            self._end = _end(refused=f"its agent ended with exit code {code}: {words}")
        yield self._end

    def _ship(self, finished: Message) -> Iterator[Message]:
        if self._shipper is not None:
            yield from self._shipper.cell(finished)

    def clean(self) -> None:
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)


def _end(interrupted: bool = False, errors: list[str] | None = None, refused: str = "") -> Message:
    return {"kind": "end", "interrupted": interrupted, "errors": errors or [], "refused": refused}


def _stop(agent: subprocess.Popen[str]) -> None:
    """Ends it as Ctrl-C would; it takes its workers and containers along."""
    if agent.poll() is None:
        agent.send_signal(signal.SIGINT)
        try:
            agent.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            agent.kill()
            agent.wait()


def stop_agents(attempts: list[str]) -> int:
    """Interrupts the agents of these attempts on this host; returns how many there were."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if AGENT in words and any(attempt in words for attempt in attempts):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(int(path.parent.name), signal.SIGINT)
                found += 1
    return found


@contextlib.contextmanager
def _files(inputs: dict[str, tuple[str, bytes]]) -> Iterator[dict[str, str]]:
    """Option -> path here of a file that the sender's machine has."""
    if not inputs:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="framewatt-fleet-") as folder:
        paths = {}
        for option, (name, content) in inputs.items():
            place = Path(folder) / option / Path(name).name
            place.parent.mkdir()
            place.write_bytes(content)
            paths[option] = str(place)
        yield paths
