"""Errors that a person caused or can mend: one line, exit code 2, no traceback."""

from __future__ import annotations

import difflib
from typing import Dict, Iterable, List, Optional

from common.text import brief, visible

#: characters of a name that is proposed, which is said whole: it is to be copied
_MOST_TO_PROPOSE = 200


class UserError(Exception):
    """What is wrong, what exists, what to do: one line for the terminal."""


class EndedBySignal(SystemExit):
    """Raised by a signal's handler, so that it can be told from a SystemExit that a user's code raises. code: 128 + the signal."""


def unknown(what: str, given: str, existing: Iterable[str]) -> UserError:
    """The error for a name that does not exist: lists the ones that do and the nearest."""
    names = list(existing)
    there = ", ".join(map(brief, names)) or "none"
    return UserError(f"unknown {what} '{brief(given)}'; there is {there}.{meant(given, names)}")


def meant(given: str, existing: Iterable[str]) -> str:
    """ " Did you mean X?" for the nearest name, "" where none is near."""
    names = [name for name in existing if len(name) <= _MOST_TO_PROPOSE]
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    return f" Did you mean {visible(near[0], '')}?" if near else ""


def causes(error: BaseException) -> List[BaseException]:
    """The error and what it was raised from, down to the innermost; each once, as `raise error from error` has no end."""
    found: Dict[int, BaseException] = {}
    one: Optional[BaseException] = error
    while one is not None and id(one) not in found:
        found[id(one)] = one
        one = one.__cause__
    return list(found.values())
