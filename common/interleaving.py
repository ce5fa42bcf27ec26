"""Two programs that take turns at measuring: what `invoke verify` says to either of them, and how they answer.

The host starts both sides, each in a process of its own, and then asks now one, now the other for a *block*: as many
inferences as fit into so many seconds. Whoever is not asked sleeps in a read. So both meet the same machine in the same
minutes, and neither can inherit a setting, a buffer or a library of the other.

    host -> side, standard input    {"seconds": 1.0}                 one line a block; the end of the stream ends the side
    side -> host, standard output   {"facts": {...}}                 once, when everything is compiled and warm
                                    {"durations_ns": [812345, ...],
                                     "cpu_ns": 254000000}            for each block; null where the side does not tell
                                    {"refusal": "..."}               instead of either: this cannot be measured here

Runs on Python 3.9 with the standard library alone.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any, Callable, Dict, List, Optional, Protocol, TextIO


class Refusal(Exception):
    """This cannot be measured here; the text says why."""


class Side(Protocol):
    """facts: what the host should know before the first block, as JSON can hold it."""

    facts: Dict[str, Any]

    def block(self, seconds: float) -> List[int]:
        """Durations in ns of consecutive inferences, together about so many seconds, at least one inference."""


def serve(make: Callable[[], Side], commands: Optional[TextIO] = None, answers: Optional[TextIO] = None) -> None:
    """Answers the host until it closes the commands: standard input and output, unless two other streams are given.

    What libraries print goes to standard error then.
    """
    if answers is None:
        answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
    _converse(make, sys.stdin if commands is None else commands, answers)


def _converse(make: Callable[[], Side], commands: TextIO, answers: TextIO) -> None:
    def send(**fields: Any) -> None:
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    try:
        side = make()
        send(facts=side.facts)
        for line in commands:
            durations = side.block(float(json.loads(line)["seconds"]))
            send(durations_ns=durations, cpu_ns=getattr(side, "cpu_ns", None))
    except BrokenPipeError:
        return  # the host is gone
    except Refusal as refusal:
        send(refusal=" ".join(str(refusal).split()))
    except BaseException as error:
        traceback.print_exc()
        send(refusal=" ".join(f"{type(error).__name__}: {error}".split()))
