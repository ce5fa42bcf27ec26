"""The words of a library's error, in one line that a user can read."""

from __future__ import annotations

import re

from common.text import first_line, shortened

#: where in ONNX Runtime's C++ an error was raised: a file with a line, then the signature of the function
_PLACE = re.compile(r"(?<![\w./-])/?[\w.-]+(?:/[\w.-]+)*\.(?:h|hpp|cc|cpp):\d+ ")
#: of a line, characters that are looked through, and that are left: a user's names in it may be of any length
_MOST_READ, _MOST = 2000, 400


def words_of(error: BaseException) -> str:
    """The first line of an error, without the place in a library's C++ source that it names."""
    line = shortened(first_line(error), _MOST_READ)
    found = _PLACE.search(line)
    if found is not None:
        before, after = line[: found.start()], line[found.end() :]
        line = f"{before.rstrip()} {_without_signature(after)}"
    return shortened(line, _MOST)


def _without_signature(text: str) -> str:
    """What follows `type name(parameters)`, its brackets balanced, or a bare name of a function; operator() has two pairs."""
    opening = re.match(r"[^(]*?[\w>~](\()", text)
    if opening is None or "::" not in opening.group():
        return text.partition(" ")[2] or text
    depth = 0
    for place in range(opening.start(1), len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0 and text[place + 1 : place + 2] != "(":
            return re.sub(r"^ ?(const )?", "", text[place + 1 :]) or text
    return text
