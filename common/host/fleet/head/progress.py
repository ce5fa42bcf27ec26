"""A sweep over many hosts, live: one line for each host on a terminal, one line for each finished cell elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from common.host.cli.progress import STATUS_STYLE, short_name

#: hosts on the screen at once; those with the newest news
MOST_HOSTS = 20


@dataclass
class _Row:
    """One attempt. fraction: of the cell that runs now."""

    host: str
    target: str
    total: int
    done: int = 0
    now: str = "waiting for a GPU"
    fraction: float = 0.0
    changed: float = field(default_factory=time.monotonic)


class FleetProgress:
    """Called by the one thread of the sweep; the screen is drawn by rich's."""

    def __init__(self, console: Console, total: int, done: int) -> None:
        self._console = console
        self.total, self.done = total, done
        self._began = time.monotonic()
        self._already = done
        self._rows: dict[str, _Row] = {}
        self.statuses: dict[str, int] = {}
        self._live = Live(get_renderable=self._render, console=console, transient=True, refresh_per_second=4)

    def __enter__(self) -> FleetProgress:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    # -- news ----------------------------------------------------------------------------------------------------------

    def waits(self, attempt: str, target: str, cells: int) -> None:
        self._rows[attempt] = _Row("", target, cells)

    def owes(self, attempt: str, cells: int) -> None:
        """So many cells are left for it to measure: more than one that it was asked for may have turned out to be the same."""
        row = self._rows.get(attempt)
        if row is not None:
            row.total = row.done + cells

    def starts(self, attempt: str, host: str) -> None:
        row = self._rows.get(attempt)
        if row is not None:
            row.host, row.now, row.changed = host, "starting", time.monotonic()

    def state(self, attempt: str, message: Mapping[str, object]) -> None:
        row = self._rows.get(attempt)
        if row is not None:
            key = str(message.get("cell_key", ""))
            row.now = f"{short_name(key)}: {message['now']}" if key else str(message["now"])
            row.fraction = min(1.0, float(str(message.get("fraction") or 0.0)))
            row.changed = time.monotonic()

    def cell(self, attempt: str, cell_key: str, status: str, message: str, images_per_s: float | None) -> None:
        self.done += 1
        self.statuses[status] = self.statuses.get(status, 0) + 1
        row = self._rows.get(attempt)
        if row is not None:
            row.done, row.fraction, row.now, row.changed = row.done + 1, 0.0, "", time.monotonic()
        if self._console.quiet:
            return
        where = f"{row.host} {row.target}" if row is not None else attempt
        text = f"[{self.done}/{self.total}] {where}: {short_name(cell_key)}: {status}"
        if status == "ok" and images_per_s:
            text += f", {images_per_s:,.0f} images/s"
        if message:
            text += f" ({message})"
        self.show(text, STATUS_STYLE.get(status, ""))

    def ends(self, attempt: str) -> None:
        self._rows.pop(attempt, None)

    def show(self, text: str, style: str = "yellow") -> None:
        self._console.print(escape(text), style=style, highlight=False, soft_wrap=True)

    # -- the screen ----------------------------------------------------------------------------------------------------

    def _render(self) -> RenderableType:
        rows = sorted(self._rows.copy().values(), key=lambda row: (not row.host, -row.changed))
        shown = sorted(rows[:MOST_HOSTS], key=lambda row: (row.host, row.target))
        table = Table(box=None, header_style="bold", pad_edge=False, expand=True)
        table.add_column("host", no_wrap=True)
        table.add_column("GPU", no_wrap=True)
        table.add_column("cells", justify="right", no_wrap=True)
        table.add_column("", width=16)
        table.add_column("now", no_wrap=True, overflow="ellipsis", ratio=1)
        for row in shown:
            bar = ProgressBar(total=max(1, row.total), completed=row.done + row.fraction, width=16)
            table.add_row(escape(row.host), escape(row.target), f"{row.done}/{row.total}", bar, escape(row.now))
        hidden = len(rows) - len(shown)
        return Group(table, Text(self._summary() + (f"; and {hidden} more" if hidden else ""), style="bold"))

    def _summary(self) -> str:
        gained = self.done - self._already
        elapsed = time.monotonic() - self._began
        left = f", {_time((self.total - self.done) * elapsed / gained)} left" if gained else ""
        hosts = len({row.host for row in self._rows.copy().values() if row.host})
        return f"{self.done}/{self.total} cells, {hosts} hosts, {_time(elapsed)}{left}"


def _time(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
