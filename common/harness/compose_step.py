"""`python -m common.harness.compose_step VARIANT --folder DIR [--after VARIANT]`: a service of compose.yaml.

Waits for its turn, runs the jobs that the plan made for this variant one after another, and prints a line for each cell.
Exit code: the worst of its supervisors'; 0 where the plan has nothing for this variant.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

from common.harness.idle import spell_without_context
from common.job import Job
from common.locks import device_lock, turn

#: the sidecar shall have its first reading on disk before anything is measured
POWER_WITHIN_SECONDS = 20.0


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m common.harness.compose_step")
    parser.add_argument("variant")
    parser.add_argument("--folder", type=Path, required=True, help="where plan, turns and services meet")
    parser.add_argument("--after", default="", help="the variant whose turn comes before")
    options = parser.parse_args(argv)
    # Sleeping in flock(2) as process 1's child: a signal must end it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    jobs = sorted((options.folder / "run" / "jobs").glob(f"{options.variant}_*.json"))
    with turn(options.folder / "turns", options.variant, options.after):
        if not jobs:
            print(f"{options.variant} is not part of this run", flush=True)
            return 0
        first = Job.read(jobs[0])
        lock = Path(first.run_dir).parents[1] / "locks" / f"{first.device_uuid or first.cells[0].device}.lock"
        with device_lock(lock, f"docker compose, service of {options.variant}"):
            if (options.folder / "power-expected").exists():
                _wait_for_power(Path(first.run_dir) / "power.csv")
                _idle_without_context(options.folder / "idle.json", first.settings.idle_seconds)
            ends = [run(job) for job in jobs]
            words = [end.error for end in ends if end.error]
            # For the last service, which writes the rows of cells that have none.
            (options.folder / "turns" / options.variant).write_text(words[-1] if words else "")
            return max(end.exit_code for end in ends)


def _leave(number: int, frame: object) -> None:
    sys.exit(128 + number)


def _wait_for_power(path: Path) -> None:
    deadline = time.monotonic() + POWER_WITHIN_SECONDS
    while time.monotonic() < deadline:
        if path.exists() and path.read_bytes()[:65536].count(b"\n") > 1:
            return
        time.sleep(0.2)
    print("no power readings: they stay empty", flush=True)


def _idle_without_context(path: Path, seconds: float) -> None:
    """Once a sweep, before its first worker: the last service puts what the file says into run.json."""
    if seconds > 0 and not path.exists():
        path.write_text(json.dumps(spell_without_context(seconds)))


class End(NamedTuple):
    """How a supervisor ended. exit_code: 128 + number after a signal. error: why it could not go on, in its words."""

    exit_code: int
    error: str


def run(job: Path) -> End:
    """Runs one supervisor to its end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "common.harness", str(job)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )

    def forward(number: int, frame: object) -> None:
        process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        error = ""
        assert process.stdout is not None
        for line in process.stdout:
            words = describe(line.decode(errors="replace"))
            if words:
                print(words, flush=True)
            if words.startswith("error: "):
                error = words[len("error: ") :]
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return End(code if code >= 0 else 128 - code, error)


def describe(line: str) -> str:
    """An event of the supervisor for people, "" for one that only a program wants; any other line as it is."""
    try:
        event: Dict[str, Any] = json.loads(line)
        kind = event["event"]
    except (ValueError, TypeError, KeyError):
        return line.rstrip()
    if kind == "cell_start":
        return f"{event['cell_key']} ..."
    if kind == "cell_finish":
        message = f" ({event['message']})" if event.get("message") else ""
        return f"{event['cell_key']}: {event['status']}{message}"
    return f"error: {event['message']}" if kind == "error" else ""


if __name__ == "__main__":
    sys.exit(main())
