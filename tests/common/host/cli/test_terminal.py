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


@pytest.mark.parametrize("terminal", [True, False])
def test_a_sentence_is_broken_between_words_on_a_screen_alone(terminal: bool) -> None:
    out = io.StringIO()
    path = "/a/path/" + "longer_than_a_line" * 3
    Terminal(file=out, width=40, force_terminal=terminal, color_system=None).print(
        Text(f"Report of all that was measured in these runs: {path} (49 more tables)"), soft_wrap=True
    )
    lines = out.getvalue().splitlines()
    assert any(path in line for line in lines)
    assert [line.rstrip() for line in lines] == (
        ["Report of all that was measured in these", "runs:", path, "(49 more tables)"]
        if terminal
        else [f"Report of all that was measured in these runs: {path} (49 more tables)"]
    )
