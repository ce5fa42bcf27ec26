"""JSON that others wrote against the types that a dataclass declares: a wrong type is an error, never a wrong number later."""

from __future__ import annotations

import json
import sys
import typing
from pathlib import Path
from typing import Any, Dict, Mapping, Type, Union

_LARGEST = sys.float_info.max


def parse_object(line: Union[str, bytes]) -> Dict[str, Any]:
    """The JSON object on a line; {} for anything else that a library may print."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def last_object(printed: Union[str, bytes]) -> Dict[str, Any]:
    """The JSON object on the last line of what a program printed, {} where none stands there: libraries print before it."""
    lines = printed.strip().splitlines()
    return parse_object(lines[-1]) if lines else {}


def check(kind: Type[Any], values: Any) -> Dict[str, Any]:
    """The values, when each fits the annotation of the dataclass field of its name; a dict of its own.

    Fields may be missing (the dataclass has its defaults, or complains). Raises TypeError with name, value and type.
    """
    if not isinstance(values, dict):
        raise TypeError(f"{kind.__name__} is {type(values).__name__}, not an object")
    hints = typing.get_type_hints(kind)
    for name, value in values.items():
        if name not in hints:
            raise TypeError(f"{kind.__name__} has no field {name!r}")
        if not _fits(value, hints[name]):
            raise TypeError(f"{name} is {_short(value)}, not {_named(hints[name])}")
    return dict(values)


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is Union:
        return any(_fits(value, one) for one in typing.get_args(hint))
    if origin in (list, tuple):
        # A tuple is a list in JSON, and one of any length here.
        return isinstance(value, (list, tuple)) and all(_fits(one, typing.get_args(hint)[0]) for one in value)
    if origin is dict:
        keys, inner = typing.get_args(hint)
        return isinstance(value, dict) and all(_fits(key, keys) and _fits(one, inner) for key, one in value.items())
    if hint is float:
        # a whole number of hundreds of digits is no float
        return isinstance(value, (int, float)) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    if hint is str:
        return isinstance(value, str) and "\0" not in value
    if hint is Path:
        return isinstance(value, Path)
    if hint is type(None):
        return value is None
    # A dataclass within: what it holds is checked where it is made.
    return isinstance(value, (dict, hint))


def _named(hint: Any) -> str:
    names: Mapping[Any, str] = {float: "a finite number", int: "a whole number", str: "text", type(None): "null"}
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Union:
        return " or ".join(_named(one) for one in arguments)
    if origin in (list, tuple):
        return f"a list of {_named(arguments[0])}"
    if origin is dict:
        return f"an object of {_named(arguments[1])}"
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
