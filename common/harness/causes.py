"""Why a framework cannot run, in words, where its exception does not say it: an import that fails may print the reason."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import List, NoReturn, Optional, Sequence

from common.harness.rows import last_telling_line, one_line

#: phases in which what fails is the framework, its version or the model, before anything is measured
MAKING_READY = ("import", "convert", "load", "compile", "first")
#: of its own log a worker looks at no more
_LOG_BYTES = 65536
#: what a library prints where its import fails for a reason that the exception does not have
_CANNOT = re.compile(
    r"cannot be (run|loaded|imported)|undefined symbol|was compiled (using|for|against)|incompatible with"
)
#: of such a paragraph
_MOST_LINES = 3


def reported_before(log: Sequence[str], message: str) -> str:
    """What a log says of why a framework cannot run here, up to the end of its paragraph; "" where the message says it too."""
    lines = [line.strip() for line in log]
    for place, line in enumerate(lines):
        if _CANNOT.search(line):
            end = next(
                (n for n in range(place + 1, len(lines)) if not lines[n] or lines[n].startswith("Traceback")),
                len(lines),
            )
            words = one_line(" ".join(lines[place : min(end, place + _MOST_LINES)]))
            return "" if line in message else words
    return ""


class OwnLog:
    """What this process writes to its standard error from now on, where that is a file."""

    def __init__(self) -> None:
        self._begin = self._size()

    @staticmethod
    def _size() -> int:
        try:
            facts = os.fstat(2)
        except OSError:
            return -1
        return facts.st_size if stat.S_ISREG(facts.st_mode) else -1

    def lines(self) -> List[str]:
        """The last of it, at most _LOG_BYTES."""
        if self._begin < 0:
            return []
        try:
            with Path("/proc/self/fd/2").open("rb") as file:
                file.seek(max(self._begin, self._size() - _LOG_BYTES))
                return file.read(_LOG_BYTES).decode(errors="replace").splitlines()
        except (OSError, MemoryError):
            return []


def in_words(message: str, error: BaseException, lines: Sequence[str], phase: str, version: Optional[str]) -> str:
    """The message of a failure, with what its exception leaves out, and the version that was asked for.

    error: the crash, or an Unsupported that was raised from one. lines: what was printed since the cell began, before the
    traceback. phase: in which it failed.
    """
    if phase not in MAKING_READY:
        return message
    more = reported_before(lines, message)
    silent = next((one for one in (error, error.__cause__) if one is not None and not str(one)), None)
    if not more and silent is not None:
        more = str(silent.__cause__ or silent.__context__ or "") or last_telling_line(lines)
    words = f"{message} ({more})" if more and more not in message else message
    return one_line(words if version is None else f"version {version} fails in phase {phase}: {words}")


def raise_as(known: Exception, error: BaseException) -> NoReturn:
    """Raises what an exception is known as, from it; the exception itself is not its own cause."""
    if known is error:
        raise error
    raise known from error
