"""`python -m common.harness.compose_step VARIANT`: a service of compose.yaml.

Waits for its turn, runs the jobs that the plan made for this variant one after another, and prints a line for each cell.
It reads `/data/board` and writes `/data/run` alone; the sweep's last service takes from there what holds, as `invoke bench`
does. Exit code: the worst of its supervisors'; 0 where the plan has nothing for this variant.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

from common.harness import cell_folder, kill_watch, memory
from common.harness.cell_folder import CannotWrite
from common.harness.job_end import LOST_NOTHING, JobEnd, write_lost
from common.job import Job
from common.locks import APPEARS_WITHIN_SECONDS, alive, wait_for_turn
from common.model_files import ModelFiles
from common.typed_json import parse_object

#: what the last service is told of jobs that could not go on, in the folder that this one writes
ERRORS = "errors.json"
#: and of when memory ended, which may end this process, too
KILLS = "oom_killed_ns"
#: when memory ends, the kernel's choice is the worker before its supervisor, and both before this process, which can tell
_OOM_SCORE = "300"


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m common.harness.compose_step")
    parser.add_argument("variant")
    parser.add_argument("--board", type=Path, default=Path("/data/board"), help="what the sweep's own services say")
    parser.add_argument("--folder", type=Path, default=Path("/data/run"), help="what this service writes")
    options = parser.parse_args(argv)
    # Sleeping in flock(2) as process 1's child: a signal must end it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    with alive(options.folder):
        jobs = sorted((options.board / "jobs").glob(f"{options.variant}_*.json"))
        if not wait_for_turn(options.board / "turns" / options.variant, APPEARS_WITHIN_SECONDS):
            print("the sweep ended before the turn of this service", flush=True)
            return 1
        if not jobs:
            print(f"{options.variant} is not part of this run", flush=True)
            return 0
        kill_watch.watch(options.folder / KILLS)
        ends = {path.stem: run_job(path) for path in jobs}
        errors = {name: end.error for name, end in ends.items() if end.error}
        (options.folder / ERRORS).write_text(json.dumps(errors))
        return max(end.exit_code for end in ends.values())


def _leave(number: int, frame: object) -> None:
    sys.exit(128 + number)


class End(NamedTuple):
    """How a supervisor ended. exit_code: 128 + number after a signal. error: why it could not go on, in its words."""

    exit_code: int
    error: str


def run_job(path: Path) -> End:
    """Runs supervisors until the job has all its cells or cannot go on; each that is killed costs the cell that ran."""
    try:
        job = Job.read(path)
        model = ModelFiles.read(Path(job.model_dir))
    except (OSError, ValueError, KeyError, TypeError):
        return _end_of(*_supervise(path))  # the supervisor says it better
    end = End(0, "")
    for _ in job.cells:
        kills = memory.OomKills()
        code, error = _supervise(path)
        end = _end_of(code, error)
        if error or code in LOST_NOTHING or end.exit_code in LOST_NOTHING:
            break
        try:
            lost = write_lost(Path(job.run_dir), job, model, JobEnd(code, kills.struck(), what="supervisor"))
        except CannotWrite as problem:
            return End(2, str(problem))
        for cell, status, message in lost:
            print(f"{cell.key}: {status} ({message})", flush=True)
        if all(cell.key in job.done or cell_folder.exists(Path(job.run_dir), cell.key) for cell in job.cells):
            break
    return end


def _end_of(code: int, error: str) -> End:
    return End(code if code >= 0 else 128 - code, error)


def _supervise(job: Path) -> Tuple[int, str]:
    """Runs one supervisor to its end; its exit code, minus the number of a signal that ended it, and why it gave up."""
    process = subprocess.Popen(
        [sys.executable, "-m", "common.harness", str(job)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    with suppress(OSError):
        Path(f"/proc/{process.pid}/oom_score_adj").write_text(_OOM_SCORE)

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
        return process.wait(), error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def describe(line: str) -> str:
    """An event of the supervisor for people, "" for one that only a program wants; any other line as it is."""
    event = parse_object(line)
    kind = event.get("event")
    if kind is None:
        return line.rstrip()
    if kind == "cell_start":
        return f"{event['cell_key']} ..."
    if kind == "cell_finish":
        message = f" ({event['message']})" if event.get("message") else ""
        return f"{event['cell_key']}: {event['status']}{message}"
    return f"error: {event['message']}" if kind == "error" else ""


if __name__ == "__main__":
    sys.exit(main())
