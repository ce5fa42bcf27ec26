"""The same names for the same functions in every process, so that XLA's persistent cache can hit."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import itertools
from typing import Any, Dict, Iterator

_uses: Dict[str, int] = {}


@contextlib.contextmanager
def stable_function_names(what: str) -> Iterator[None]:
    """Functions traced inside are numbered from a hash of `what` instead of from a counter of the process.

    A traced function is called `__inference_<name>_<number>`; name and number enter the key of XLA's persistent
    cache. The number comes from `ops.uid()`, which every eager tensor advances, so after a timing loop it differs
    from run to run and the cache would never hit again. Numbers from here begin at 10**12, where the process'
    own counter does not come; a second use of the same `what` gets other numbers, since names must be unique.
    """
    ops: Any = importlib.import_module("tensorflow.python.framework.ops")
    original = ops.uid
    use = _uses.get(what, 0)
    _uses[what] = use + 1
    digest = int(hashlib.sha256(f"{what} {use}".encode()).hexdigest()[:8], 16)
    numbers = itertools.count(10**12 + digest * 10**6)
    ops.uid = lambda: next(numbers)
    try:
        yield
    finally:
        ops.uid = original
