"""Text that others wrote, as it is shown and stored."""

from __future__ import annotations

import os
import subprocess
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from common import schema
from common.text import brief, counted, first_line, markdown, shell_line, spreadsheet, storable, visible

ANY = st.text(st.characters(exclude_categories=[]), max_size=40)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07\x1b[2J", "\\x1b]0;title\\x07\\x1b[2J"),
        ("a\x9b31mb", "a\\x9b31mb"),
        ("a\rb\bc", "a\\x0db\\x08c"),
        ("invoice\u202efdp.exe", "invoice\\u202efdp.exe"),
        ("a\u2066b\u200bc\ufeff", "a\\u2066b\\u200bc\\ufeff"),
        ("\U000e0041", "\\U000e0041"),
        ("caf\udce9", "caf\\xe9"),
        ("two\nlines", "two\nlines"),
        ("模型 é μs 95 % – ±", "模型 é μs 95 % – ±"),
    ],
)
def test_what_acts_is_spelled_out(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(ANY)
def test_nothing_that_is_shown_acts(text: str) -> None:
    shown = visible(text)
    assert {unicodedata.category(one) for one in shown if one != "\n"}.isdisjoint({"Cc", "Cf", "Zl", "Zp", "Cs"})
    assert visible(shown) == shown


#: what can be a word of a command line: bytes of file names that are no UTF-8 too, but no zero
_WORDS = st.lists(st.binary(max_size=20).map(lambda raw: os.fsdecode(raw.replace(b"\0", b""))) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20
) | st.text("a'\"\\\n\r\t $`!*,=\x1b\x7f\u2028é模", max_size=20), min_size=1)  # fmt: skip


@given(_WORDS)
@settings(max_examples=60)
def test_a_shell_reads_a_line_to_copy_back_and_nothing_of_it_acts(words: list[str]) -> None:
    line = shell_line(words)
    assert visible(line, keep="") == line
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True)
    assert [os.fsdecode(one) for one in done.stdout.split(b"\0")[:-1]] == words


@given(ANY)
@example("a\ud800")
@example("\udbff\udc00\udcff")
def test_any_text_is_a_word_to_copy(text: str) -> None:
    """Also half a surrogate pair, which no command line holds, but JSON that others wrote."""
    line = shell_line([text])
    assert visible(line, keep="") == line
    line.encode()


@given(ANY)
def test_what_is_stored_is_utf8_without_zeros(text: str) -> None:
    assert "\0" not in storable(text)
    storable(text).encode()


@given(ANY)
def test_any_message_can_be_written_to_a_csv(text: str) -> None:
    row = schema.to_csv("attempts.csv", [{"event": "finish", "cell_key": "k", "message": text}])
    assert b"\0" not in row.encode()


@pytest.mark.parametrize(
    ("text", "line"), [("\n one\n two", "one"), ("one\r\ntwo", "one"), ("", "ValueError"), (" \n ", "ValueError")]
)
def test_an_error_has_a_first_line(text: str, line: str) -> None:
    assert first_line(ValueError(text)) == line


def test_a_message_without_end_is_cut() -> None:
    (*_, message) = schema.format_row("attempts.csv", {"message": "x" * 10**6})
    assert len(message) == schema.MOST_TEXT


@pytest.mark.parametrize(
    "text",
    ["[x](javascript:alert(1))", "![x](http://127.0.0.1/y)", "<img src=x onerror=1>", "a | b", "**m**", "_m_", "`code`",
     "# head", "- item", "1. item", "---", "$x$", "http://127.0.0.1", "www.example.org", "&lt;b&gt;", "~~x~~", "a\n\n# head"],
)  # fmt: skip
def test_markdown_shows_it_as_it_is(text: str) -> None:
    shown = markdown(text)
    assert "\n" not in shown and "](" not in shown and "<" not in shown and "://" not in shown and "www." not in shown
    assert not shown.startswith(("#", "- ", "--", "1. "))
    for sign in "*~`$|":
        assert all(shown[place - 1] == "\\" for place, one in enumerate(shown) if one == sign)


def test_markdown_leaves_plain_text_alone() -> None:
    for text in ("ONNX Runtime fp32", "1.5 (1.4 to 1.6)", "-1.2", "m_onnxrt_fp32_b0008", "95 %", "2.21.0+cpu"):
        assert markdown(text) == text


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A1", "+1+1", "-2+3", "@SUM(1)", "\t=1", "\r=1", "\n=1", "＝1+1"])
def test_no_formula_in_a_spreadsheet(text: str) -> None:
    assert str(spreadsheet(text)).startswith("'")


@pytest.mark.parametrize("value", [1, -2.5, None, "-5", "+1e3", "text", "a=b", ""])
def test_numbers_stay_numbers(value: object) -> None:
    assert spreadsheet(value) == value


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 cells"), (1, "1 cell"), (2, "2 cells"), (1200, "1,200 cells"), (0.9, "1 cell")]
)
def test_one_is_no_plural(number: float, words: str) -> None:
    assert counted(number, "cell") == words
    assert counted(number, "cell is", "cells are") == words.replace("cells", "cells are").replace("1 cell", "1 cell is")


@given(ANY)
def test_a_name_in_a_message_is_one_short_line(text: str) -> None:
    assert len(brief(text * 100)) <= 60
    assert visible(brief(text), "") == brief(text)
