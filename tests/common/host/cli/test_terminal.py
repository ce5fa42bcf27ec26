"""What others wrote cannot act on the terminal, whatever rich makes of it."""

from __future__ import annotations

import io

import pytest
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from common.host.cli.terminal import Terminal

HOSTILE = "\x1b]0;PWNED\x07\x1b[2J\x9b31m\r\u202eX"


@pytest.mark.parametrize("terminal", [True, False])
def test_control_characters_are_spelled_out(terminal: bool) -> None:
    out = io.StringIO()
    console = Terminal(file=out, width=200, force_terminal=terminal, color_system="truecolor" if terminal else None)
    table = Table(title=Text(HOSTILE, no_wrap=True))
    table.add_column(Text(HOSTILE))
    table.add_row(Text(HOSTILE, style="red"))
    console.print(table)
    console.print(escape(HOSTILE), style="bold", soft_wrap=True)
    console.print(Text(f"two\nlines {HOSTILE}"), soft_wrap=True)
    text = out.getvalue()
    assert not any(one in text for one in ("\x1b]0", "\x1b[2J", "\x07", "\x9b", "\r", "\u202e"))
    assert text.count("\\x1b]0;PWNED") >= 4  # a title is folded
    assert ("\x1b[" in text) is terminal  # rich's own colours remain


def printed(text: str, terminal: bool = True) -> list[str]:
    out = io.StringIO()
    Terminal(file=out, width=40, force_terminal=terminal, color_system=None).print(escape(text), soft_wrap=True)
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_sentence_is_broken_between_words_on_a_screen_alone(terminal: bool) -> None:
    word = "longer_than_a_line" * 3
    text = f"onnxrt does 1,234 images/s, which is the most of all {word} (49 more cells)"
    assert printed(text, terminal) == (
        ["onnxrt does 1,234 images/s, which is the", "most of all", word, "(49 more cells)"] if terminal else [text]
    )


@pytest.mark.parametrize(
    "copied",
    [
        "When the machine is quiet: invoke build --framework onnxrt --cpu --notebook",
        "3 cells ran beside other load (l): ./invoke bench --plan 'my plan.toml' --again marked",
        "$ python -m pytest tests/common -q -n 0 and more words",
        "This host has several engines, so choose one with --gpu-driver cdi or nvidia",
        "Report: /home/a user/my runs of november/report.html (49 more tables)",
        "error: it is not in '/home/a user/my runs of november'",
        "Table: my runs of november 2026/tables of all/latency",
        "Recipe: my recipe of november for the board.py",
        "removed ~/my runs of november and of december",
        "open https://example.org/a/page and read all that stands there",
    ],
)
def test_what_is_copied_stays_in_one_piece_and_only_its_own_line(copied: str) -> None:
    assert len(copied) > 40
    sentence = "The other lines of the same text are broken between words"
    assert printed(f"{sentence}\n{copied}\n{sentence}") == [
        "The other lines of the same text are",
        "broken between words",
        copied,
        "The other lines of the same text are",
        "broken between words",
    ]
