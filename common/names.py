"""What may be a name: of a model, a framework variant, a precision, a device - whatever becomes part of a key or a path.

One rule for every entry (command line, job files, imported results, CSVs of others): a name that holds a separator of
paths, a control character, or that begins like an option or a formula, never gets further than here.
Runs on Python 3.9 with the standard library alone.
"""

from __future__ import annotations

import hashlib
import unicodedata
from typing import Optional

#: Characters of one name; of a cell's key, which joins nine of them and is a folder's name, bytes of UTF-8.
MOST_CHARACTERS = 100
MOST_KEY_BYTES = 240
#: of a name that is made of a file's: a cell's key holds it beside all others, and the name of a folder beside a hash
MOST_MADE_BYTES = 80
#: Beside letters, digits and marks of any script.
_INNER = frozenset(" _.+-,:=@()[]#%~")

MOST_BATCH_SIZE = 2**24
MOST_STREAMS = 2**16
MOST_REPLICATES = 2**20
MOST_RATE_PER_S = 1e9


def fault(text: str, most: int = MOST_CHARACTERS) -> Optional[str]:
    """None for a name, else what is wrong with it, to follow "... is"."""
    if not text:
        return "empty"
    if len(text) > most:
        return f"longer than {most} characters"
    if not (text[0].isalnum() or text[0] == "_"):
        return "no name: it begins with neither a letter nor a digit"
    for character in text:
        if not (character.isalnum() or character in _INNER or unicodedata.category(character).startswith("M")):
            return f"no name: it holds {character!a}"
    return "no name: it ends with a space" if text[-1] == " " else None


def key_fault(key: str) -> Optional[str]:
    """As `fault`, of a cell's key."""
    if len(key.encode("utf-8", "replace")) > MOST_KEY_BYTES:
        return f"longer than {MOST_KEY_BYTES} bytes"
    return fault(key, MOST_KEY_BYTES)


def from_text(text: str) -> str:
    """A name made of any text, such as a file's: what no name may hold becomes '-'."""
    kept = "".join(one if one.isalnum() or one in _INNER else "-" for one in text)
    return kept.lstrip(" .+-,:=@()[]#%~")[:MOST_CHARACTERS].rstrip(" -") or "unnamed"


def with_digest(name: str) -> str:
    """The name itself where it has at most MOST_MADE_BYTES, else its beginning and a digest of it: no two become one."""
    content = name.encode("utf-8", "surrogateescape")
    if len(content) <= MOST_MADE_BYTES:
        return name
    digest = hashlib.sha256(content).hexdigest()[:8]
    kept = content[: MOST_MADE_BYTES - len(digest) - 1].decode("utf-8", "ignore")
    return f"{kept.rstrip(' -.')}-{digest}"
