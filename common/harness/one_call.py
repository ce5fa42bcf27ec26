"""Many calls as one, put together before anything is timed: how an adapter without bindings feeds arrays by name.

Names are looked up, and arrays paired with their places, once for a shape. What is left for each inference is one call, which
for a single array is the framework's own with its arguments bound.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Dict, Sequence, Tuple


def one_call(function: Callable[..., Any], arguments: Sequence[Tuple[Any, ...]]) -> Callable[[], Any]:
    """A call without arguments that calls function(*one) for every entry of `arguments`, in order.

    It returns what the function returned, in a list unless there is exactly one entry.
    Method: for several the calls are written out and compiled, as dataclasses does with __init__; a loop over pairs takes
    more than twice the time.
    """
    if len(arguments) == 1:
        return partial(function, *arguments[0])
    held = {f"a{entry}_{place}": one for entry, given in enumerate(arguments) for place, one in enumerate(given)}
    calls = [
        f"f({', '.join(f'a{entry}_{place}' for place in range(len(given)))})" for entry, given in enumerate(arguments)
    ]
    made: Dict[str, Any] = {}
    exec(f"def bound(f, {', '.join(held)}):\n    return lambda: [{', '.join(calls)}]", made)
    call: Callable[[], Any] = made["bound"](function, **held)
    return call
