"""What a person sees while it runs: bars with time left on a terminal, one line per finished cell elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

#: sign of the mark of a cell beside which something else was running (runs/early_marks.py)
LOAD = "l"
STATUS_STYLE = {
    "ok": "green",
    "unsupported": "yellow",
    "oom": "yellow",
    "timeout": "red",
    "crashed": "red",
    "parity_failed": "red",
}


class Steps:
    """Setting up: environments, export. One bar for each `title`, steps as they are known."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(bar_width=20),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console, transient=True,
        )  # fmt: skip
        self._printed: set[str] = set()

    @contextmanager
    def show(self, title: str) -> Iterator[Any]:
        """Yields on_step(done, total, what)."""
        task = self._progress.add_task(title, total=None)

        def on_step(done: int, total: int | None, what: str) -> None:
            text = f"{title}: {what}"
            width = max(20, self._console.width - 46)
            self._progress.update(task, completed=done, total=total, description=text[:width])
            headline = (
                text.split(": downloading")[0]
                .split(": collecting")[0]
                .split(": installing")[0]
                .split(": processing")[0]
            )
            # each once: two environments that are made side by side take turns
            if not self._console.is_terminal and headline not in self._printed:
                self._console.print(escape(headline), highlight=False)
                self._printed.add(headline)

        with self._progress:
            yield on_step
        self._progress.remove_task(task)


class CellProgress:
    """The cells of a run: how many are done, what runs now in which phase, how long it may take."""

    def __init__(self, console: Console, total: int, done: int, item: str = "image", per_sample: int = 1) -> None:
        """item: what rates count, per_sample of them in a sample."""
        self._console = console
        self._item, self._per_sample = item, per_sample
        self._lock = threading.Lock()
        self._done = done
        self._total = total
        self._fractions: dict[str, float] = {}
        self._rate: dict[str, float] = {}
        self._cooled: set[str] = set()
        self.statuses: dict[str, int] = {}
        self.errors: list[str] = []
        self._progress = Progress(
            SpinnerColumn(), TextColumn("cells"), MofNCompleteColumn(), BarColumn(bar_width=None), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(elapsed_when_finished=False), TextColumn("{task.fields[now]}", markup=False),
            console=console, transient=True, expand=True,
        )  # fmt: skip
        self._task = self._progress.add_task("cells", total=total, completed=done, now="")

    def __enter__(self) -> CellProgress:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def expect_one_more(self) -> None:
        """For whoever finds out on the way how many cells there are."""
        with self._lock:
            self._total += 1
            self._progress.update(self._task, total=self._total)

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Takes an event of any supervisor; safe from several threads."""
        kind = event["event"]
        key = str(event.get("cell_key", ""))
        with self._lock:
            if kind == "cell_start":
                self._fractions[key] = 0.0
                self._now(key, "starting")
            elif kind == "cooling":
                self._cooling(key, event)
            elif kind == "phase":
                self._now(key, str(event["name"]))
            elif kind == "progress":
                self._fractions[key] = min(1.0, float(event["fraction"]))
                if event.get("images_per_s"):
                    self._rate[key] = float(event["images_per_s"])
                self._progress.update(self._task, completed=self._done + sum(self._fractions.values()))
            elif kind == "cell_finish":
                self._fractions.pop(key, None)
                self._done += 1
                self._progress.update(self._task, completed=self._done)
                self._finished(key, str(event["status"]), str(event.get("message") or ""), event.get("marks") or {})
            elif kind == "refused":
                self.warn(str(event["message"]))
            elif kind == "error":
                self.errors.append(str(event.get("message")))

    def _now(self, key: str, phase: str) -> None:
        width = max(12, self._console.width - 52)
        self._progress.update(self._task, now=f"{short_name(key)}: {phase}"[:width])

    def _cooling(self, key: str, event: Mapping[str, Any]) -> None:
        degrees, target = event["temperature_c"], event["target_c"]
        if not event["done"]:
            self._now(key, f"cooling, {degrees} C")
            return
        if key in self._cooled:
            return  # a supervisor says it once
        self._cooled.add(key)
        if degrees is None:
            self.warn(f"{short_name(key)} did not wait for the GPU to cool: no fresh temperature from the sidecar")
        elif degrees > target:
            waited = f"after {event['seconds']:.0f} s"
            self.warn(f"{short_name(key)} begins at {degrees} C {waited}, not at {target:g} C as asked")

    def warn(self, text: str) -> None:
        """A sentence that is not the end of anything."""
        text = text[:1].upper() + text[1:]
        self._console.print(escape(text), style="yellow", highlight=False, soft_wrap=True)

    def _finished(self, key: str, status: str, message: str, marks: Mapping[str, str]) -> None:
        """marks: sign -> why, of those that the cell's row tells."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        rate = self._rate.pop(key, None)
        text = f"[{self._done}/{self._total}] {short_name(key)}: {status}"
        if status == "ok" and rate:
            text += f", {rate * self._per_sample:,.0f} {self._item}s/s"
        if message:
            text += f" ({message})"
        if marks:
            text += f", {', '.join(f'{sign} ({why})' for sign, why in marks.items())}"
        style = "yellow" if status == "ok" and LOAD in marks else STATUS_STYLE.get(status, "")
        self._console.print(escape(text), style=style, highlight=False, soft_wrap=True)


def short_name(cell_key: str) -> str:
    """`MobileNetV3L_onnxrt_fp32_b0008_host_single-stream_script_cpu_r0` -> `onnxrt fp32 batch 8 host`."""
    parts = cell_key.split("_")
    # The model's name may itself contain '_': count from the end.
    if len(parts) < 9:
        return cell_key
    variant, precision, batch, io, scenario, frontend, device, replicate = parts[-8:]
    words = [variant, precision, f"batch {int(batch[1:])}", io]
    if frontend != "script":
        words.append(frontend)
    if scenario != "single-stream":
        words.append(scenario)
    if device != "cpu":
        words.append(device)
    if replicate != "r0":
        words.append(replicate)
    return " ".join(words)
