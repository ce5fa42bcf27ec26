"""On which card a figure was measured, which tells whether two of them can be held against each other.

Two cards of one kind differ, and an interval over workers knows nothing of it: figures of two cards have a ratio, but no verdict.
`recommend` does not call figures that lie FAR_APART undecided: that would name every slow framework.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from analysis.database.connection import Row


class Card(NamedTuple):
    """kind: the product. name: its UUID; where a source has none, and of a CPU, its number: `gpu0`, `cpu`."""

    kind: str = ""
    name: str = ""


UNKNOWN = Card()
#: of two figures, in a sentence that says that nothing is decided between them
OF_TWO_CARDS = "measured on two GPUs of this kind"
#: Figures of two cards of one kind that lie further apart than this factor, ends of their intervals taken, are told apart all the
#: same: more than twice what another H200, host and day changed of any of twelve configurations (1.11; docs/results.md).
FAR_APART = 1.25


def card_of(row: Row) -> Card:
    number = str(row.get("device") or "")
    return Card(str(row.get("device_name") or number), str(row.get("device_uuid") or number))


def two_cards(one: Card, other: Card) -> bool:
    """Whether these are two of one kind. Where neither has a UUID, those of one number pass for one card."""
    return one.kind == other.kind and one != other


def cards_of(rows: Iterable[Row]) -> dict[str, set[Card]]:
    """Kind -> the cards of it."""
    found: dict[str, set[Card]] = {}
    for row in rows:
        found.setdefault(card_of(row).kind, set()).add(card_of(row))
    return found
