"""The terminal as every task prints to it: names, messages and versions that others wrote cannot act on it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions
from rich.segment import Segment

from common.text import visible


class Terminal(Console):
    """rich's console, on which control characters and escape sequences of a text are spelled out.

    rich's own colours and cursor movements are no text: they are added after this.
    """

    def render(self, renderable: Any, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            shown = segment.text if segment.control else visible(segment.text)
            yield segment if shown == segment.text else Segment(shown, segment.style)
