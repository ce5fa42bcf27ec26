"""The terminal as every task prints to it: names, messages and versions that others wrote cannot act on it."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.segment import Segment
from rich.text import Text

from common.host import signals
from common.text import visible

_WORD = re.compile(r"\s*\S+")
#: What a user copies out of a line: a command, an option with its value, a path or an address, a file's name.
_COPIED = re.compile(
    r"""\b(?:invoke|python3?|docker|pip|uv|sudo|ray|git|ssh|nvidia-[a-z-]+)\ ["'./\w-]
    | (?<![\w-])--[a-z]
    | (?<!\w)/[^\s/]  # absolute, or from ~ or ..
    | \w/(?!(?:s|image|inference|sample|sequence|token|item|byte)\b)[\w.]  # relative, not the slash of images/s
    | \.(?:csv|gz|html|json|log|md|npz|onnx|png|py|svg|toml|txt|yaml|yml|zip)\b
    """,
    re.VERBOSE,
)


def _broken_between_words(text: Text, width: int) -> Text:
    """With line breaks in place of white space; a word longer than the width keeps a line of its own. rich cuts such a word.

    A line that holds what a user copies is left whole: both commands and paths have spaces, and where one of them ends nothing
    tells. The terminal folds such a line, and copies it as one.
    """
    lines: list[Text] = []
    for line in text.split("\n", allow_blank=True):
        if _COPIED.search(line.plain):
            lines.append(line)
            continue
        breaks: list[int] = []
        used = 0
        for word in _WORD.finditer(line.plain):
            length = cell_len(word.group())
            if used and used + length > width:
                breaks.append(word.start())
                length = cell_len(word.group().lstrip())
                used = 0
            used += length
        first, *others = line.divide(breaks)
        lines += [first, *(one[len(one) - len(one.plain.lstrip()) :] for one in others)]
    return Text("\n").join(lines)


class Terminal(Console):
    """rich's console, on which control characters and escape sequences of a text are spelled out.

    rich's own colours and cursor movements are no text: they are added after this.

    A sentence (`soft_wrap=True`) is broken between words on a screen, unless it names a path or a command, which is to be copied;
    in a file or pipe it stays one line.

    Once the screen is gone nothing is printed any more, and no error is raised: the work goes on, or is ended by a signal.
    """

    def __init__(self, **how: Any) -> None:
        super().__init__(emoji=False, **how)  # else an input named :cat: is printed as a picture of one

    def print(self, *objects: Any, soft_wrap: bool | None = None, **how: Any) -> None:
        if soft_wrap and self.is_terminal:
            texts = [
                one if isinstance(one, Text) else self.render_str(str(one), highlight=how.get("highlight"))
                for one in objects
            ]
            objects = tuple(_broken_between_words(one, self.width) for one in texts)
        super().print(*objects, soft_wrap=soft_wrap, **how)

    def _write_buffer(self) -> None:
        try:
            super()._write_buffer()
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            signals.let_go_of_lost_terminals()
            del self._buffer[:]

    def render(self, renderable: Any, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            shown = segment.text if segment.control else visible(segment.text)
            yield segment if shown == segment.text else Segment(shown, segment.style)
