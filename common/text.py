"""Text that others wrote, made fit to be shown or stored: a character that acts instead of standing there is spelled out.

Terminals obey control characters and escape sequences, and bidirectional overrides show another text than the one that is
there. `visible` is applied once, at each output; `storable` where a text is written to a CSV file.
Runs on Python 3.9 with the standard library alone.
"""

from __future__ import annotations

import re
import shlex
from typing import Iterable

# Controls (C0, DEL, C1), format characters (soft hyphen, zero-width, bidirectional, tags), separators of lines and
# paragraphs, halves of surrogate pairs: Unicode's categories Cc, Cf, Zl, Zp, Cs.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def _spelled(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8, as Python carries it
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def visible(text: str, keep: str = "\n") -> str:
    """The text with every such character as `\\x1b`, `\\u202e`, ... keep: those that are left as they are."""
    if not _UNSEEN.search(text):
        return text
    return _UNSEEN.sub(lambda match: match[0] if match[0] in keep else _spelled(match), text)


def storable(text: str) -> str:
    """The text without what no UTF-8 file and no database takes: zero bytes and bytes of names that are not UTF-8."""
    return _UNSTORABLE.sub(_spelled, text) if _UNSTORABLE.search(text) else text


def shortened(text: str, most: int) -> str:
    """At most so many characters, the last of them `...` where some were left out."""
    return text if len(text) <= most else text[: most - 3] + "..."


def counted(number: float, one: str, many: str = "") -> str:
    """The number with its noun: `1 cell`, `1,200 cells`. many: of several, default `one` with an s."""
    return f"{number:,.0f} {one if round(number) == 1 else many or one + 's'}"


def brief(name: str, most: int = 60) -> str:
    """A name that others gave, for a message: on one line and not endless, whatever it holds."""
    return shortened(visible(name, ""), most)


def shell_word(text: str) -> str:
    """The text as one word of a command to copy, on one line and all of it visible; bash and zsh read it back as it is.

    Characters that act are written byte by byte, as in $'a\\x1bb': a code point would depend on the locale of the shell.
    """
    if not _UNSEEN.search(text):
        return shlex.quote(text)
    return "$'" + "".join(map(_in_shell, text)) + "'"


def _in_shell(one: str) -> str:
    if one in "'\\":
        return "\\" + one
    if one == "\n":
        return "\\n"
    if not _UNSEEN.match(one):
        return one
    # half of a surrogate pair is a byte of a file name that is not UTF-8, or stood alone in a text that others wrote
    errors = "surrogateescape" if "\udc80" <= one <= "\udcff" else "surrogatepass"
    return "".join(f"\\x{byte:02x}" for byte in one.encode("utf-8", errors))


def shell_line(words: Iterable[str]) -> str:
    """A command to copy of these words."""
    return " ".join(map(shell_word, words))


def first_line(error: BaseException) -> str:
    """The first line of an error's words, the name of its class where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


# --- Markdown and spreadsheets --------------------------------------------------------------------------------------

_MARKDOWN = {
    "\\": "\\\\", "*": "\\*", "|": "\\|", "~": "\\~", "`": "&#96;", "[": "&#91;", "]": "&#93;", "<": "&lt;", ">": "&gt;",
    "&": "&amp;", "$": "&#36;",
}  # fmt: skip
_SPECIAL = re.compile(r"[\\*|~`\[\]<>&$]")
_ADDRESS = re.compile(r"(?i)(://|\bwww\.)")
_EDGE_UNDERSCORE = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_BLOCK = re.compile(r"^(#|\+ |- |--|==|\d+[.)] )")


def markdown(text: object) -> str:
    """One line that Markdown shows as it is: no link, image, HTML, emphasis, formula, or cell of a table comes of it."""
    line = visible(str(text).replace("\n", " ").replace("\r", " "), keep="")
    line = _SPECIAL.sub(lambda match: _MARKDOWN[match[0]], line)
    line = _EDGE_UNDERSCORE.sub("\\\\_", line)
    # addresses become links by themselves
    line = _ADDRESS.sub(lambda match: match[0].replace(":", "&#58;").replace(".", "&#46;"), line)
    return _BLOCK.sub(
        lambda match: "\\" + match[0] if not match[0][0].isdigit() else match[0][:-2] + "\\" + match[0][-2:], line
    )


def spreadsheet(value: object) -> object:
    """A value for a CSV file: text that a spreadsheet would take for a formula gets an apostrophe in front of it."""
    if not isinstance(value, str):
        return value
    text = visible(value)
    if text[:1] in _FORMULA and not _is_number(text):
        return "'" + text
    # what was a tab or a carriage return is spelled out now
    return "'" + text if value[:1] in _FORMULA and not _is_number(value) else text


_FORMULA = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
