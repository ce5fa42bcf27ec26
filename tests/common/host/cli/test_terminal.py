"""What others wrote cannot act on the terminal, whatever rich makes of it."""

from __future__ import annotations

import io

import pytest
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from common.host.cli.progress import CellProgress, Steps
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


def test_names_are_neither_pictures_nor_markup() -> None:
    """`um3.py:two: build` became an emoji of the number 2, on the terminal and in the bars."""
    name = "um3.py:two: build of [red]:cat:[/]"
    out = io.StringIO()
    console = Terminal(file=out, width=200, force_terminal=True, color_system=None)
    table = Table()
    table.add_column(escape(name))
    table.add_row(escape(name))
    console.print(table)
    console.print(escape(name), soft_wrap=True)
    with Steps(console).show(name) as on_step:
        on_step(1, 2, name)
        assert out.getvalue().count(name) >= 3
    progress = CellProgress(console, 1, 0)
    with progress:
        progress.on_event({"event": "phase", "cell_key": "key", "name": name})
    text = out.getvalue()
    assert text.count(name) >= 5
    assert "2️⃣" not in text and "🐱" not in text


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
