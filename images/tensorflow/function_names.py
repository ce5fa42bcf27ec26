"""The same names for the same functions in every process, so that XLA's persistent cache can hit."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import itertools
import sys
from typing import Any, Dict, Iterator

#: TensorFlow's own function that makes the name, in whichever of its modules that version has it
_NAMING_FUNCTION = "_inference_name"

_uses: Dict[str, int] = {}


@contextlib.contextmanager
def stable_function_names(what: str) -> Iterator[None]:
    """Functions traced inside are numbered from a hash of `what` instead of from a counter of the process.

    A traced function is called `__inference_<name>_<number>`; name and number enter the key of XLA's persistent
    cache. The number comes from `ops.uid()`, which every graph and every tensor advances: after a timing loop, or where
    the graph was read from a file and not frozen in the same process, it differs from run to run and the cache would
    not hit. So names, and names alone, get numbers from here; they begin at 10**12, where the process' own counter does
    not come. A second use of the same `what` gets other numbers, since names must be unique.
    """
    ops: Any = importlib.import_module("tensorflow.python.framework.ops")
    original = ops.uid
    use = _uses.get(what, 0)
    _uses[what] = use + 1
    digest = int(hashlib.sha256(f"{what} {use}".encode()).hexdigest()[:8], 16)
    numbers = itertools.count(10**12 + digest * 10**6)

    def uid() -> Any:
        return next(numbers) if sys._getframe(1).f_code.co_name == _NAMING_FUNCTION else original()

    ops.uid = uid
    try:
        yield
    finally:
        ops.uid = original
