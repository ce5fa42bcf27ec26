"""From what a user typed to values that mean something: each bad value is one line that names it and what exists."""

from __future__ import annotations

import re
from collections.abc import Iterable

from common.errors import UserError, unknown
from common.text import shortened, visible


def split_list(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def choose(what: str, text: str, existing: Iterable[str]) -> list[str]:
    """A comma list of names that must exist, each once, in the order given."""
    names = list(existing)
    chosen: list[str] = []
    for word in split_list(text):
        if word not in names:
            raise unknown(what, word, names)
        if word not in chosen:
            chosen.append(word)
    if not chosen:
        raise UserError(f"no {what} given; there is {', '.join(names)}")
    return chosen


def batch_sizes(text: str) -> list[int]:
    """A comma list of positive whole numbers, each once."""
    sizes: list[int] = []
    for word in split_list(text):
        size = _integer("batch size", word, "; write for example --batch-sizes 8,16,32")
        if size < 1:
            raise UserError(f"batch size {size} is not possible; the smallest is 1")
        if size > 65536:
            raise UserError(f"batch size {size} is more than framewatt handles (65536)")
        if size not in sizes:
            sizes.append(size)
    if not sizes:
        raise UserError("no batch size given; write for example --batch-sizes 8,16,32")
    return sizes


def positive(what: str, value: float | str, allow_zero: bool = False) -> float:
    """A number above zero (or from zero). Raises UserError naming the option."""
    number = _number(what, value)
    if not (number > 0 or (allow_zero and number == 0)) or number == float("inf"):
        raise UserError(f"{what} must be {'zero or more' if allow_zero else 'more than zero'}, not {value}")
    return number


def whole(what: str, value: int | str, smallest: int = 1) -> int:
    """A whole number from `smallest`. Raises UserError naming the option."""
    number = _integer(what, value)
    if number < smallest:
        raise UserError(f"{what} must be at least {smallest}, not {number}")
    return number


#: what rates count by themselves: one of them is a sample
SAMPLES = ("image", "sequence", "sample")
#: longest name of an item, and most items in a sample: far more than any model has, and figures stay exact
_LONGEST_ITEM, _MOST_ITEMS = 30, 10**9


def items(item: str, per_sample: int) -> tuple[str, int]:
    """What rates count and how many of them are in a sample; "" and 1 where neither was given.

    per_sample: -1 where it was not given. A number counts something that has to be named, and a name that is none of SAMPLES
    is no sample, so that its number has to be said, even if it is 1. Raises UserError.
    """
    count = 1 if per_sample == -1 else whole("--items-per-sample", per_sample)
    if count > _MOST_ITEMS:
        raise UserError(f"--items-per-sample {count} is more than framewatt handles ({_MOST_ITEMS:,})")
    if item and (len(item) > _LONGEST_ITEM or not re.fullmatch(r"[^\W_](?:[\w -]*\w)?", item)):
        raise UserError(
            f"--item '{shortened(visible(item, keep=''), 60)}' is no name of an item: letters, digits, spaces, - and _, at most "
            f"{_LONGEST_ITEM} of them, such as token"
        )
    if count > 1 and not item:
        raise UserError(f"--items-per-sample {count} needs a name of what is counted, such as --item token")
    if item and per_sample == -1 and item not in SAMPLES:
        raise UserError(f"--item {item} needs the number of them in a sample, such as --items-per-sample 128 (or 1)")
    return item, count


def optional_number(what: str, text: str) -> float | None:
    """A number above zero, or None where the option was not given. Raises UserError naming the option."""
    return positive(what, text) if text else None


def optional_whole(what: str, text: str, smallest: int) -> int | None:
    """A whole number from `smallest`, or None where the option was not given. Raises UserError naming the option."""
    return whole(what, text, smallest) if text else None


def like(default: object, what: str, text: str) -> object:
    """What a variable says for an option, in the type of the option's default. Raises UserError naming the variable.

    Bounds are those of the option: whoever takes it looks at them.
    """
    if isinstance(default, bool):
        known = {"0": False, "1": True, "no": False, "yes": True}
        if text.lower() not in known:
            raise UserError(f"{what} '{text}' is not 0 or 1")
        return known[text.lower()]
    if isinstance(default, int):
        return _integer(what, text)
    return _number(what, text) if isinstance(default, float) else text


def _integer(what: str, value: int | str, hint: str = "") -> int:
    try:
        return int(value)
    except ValueError:
        raise UserError(f"{what} '{value}' is not a whole number{hint}") from None


def _number(what: str, value: float | str) -> float:
    try:
        return float(value)
    except ValueError:
        raise UserError(f"{what} '{value}' is not a number") from None
