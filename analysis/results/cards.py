"""On which card a figure was measured, which tells whether two of them can be held against each other.

Two cards of one kind differ, and an interval over workers knows nothing of it: figures of two cards have a ratio, but no verdict.
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
