"""On which card a figure was measured, which tells whether two of them can be held against each other.

Two cards of one kind differ, and an interval over workers knows nothing of it: figures of two cards have a ratio, but no verdict.
`recommend` does not call figures that lie FAR_APART undecided: that would name every slow framework.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from analysis.database.connection import Row


class Card(NamedTuple):
    """kind: the product. name: its UUID, and of a CPU, which has none, how many cores its host shows (both is_known); where a source
    has neither, its number: `gpu0`, `cpu`."""

    kind: str = ""
    name: str = ""
    is_known: bool = False
    is_cpu: bool = False

    @property
    def device(self) -> str:
        return "CPU" if self.is_cpu else "GPU"


UNKNOWN = Card()
#: Figures of two cards of one kind that lie further apart than this factor, ends of their intervals taken, are told apart all the
#: same: more than twice what another H200, host and day changed of any of twelve configurations (1.11; docs/results.md).
FAR_APART = 1.25


def card_of(row: Row) -> Card:
    number = str(row.get("device") or "")
    is_cpu, cores = number == "cpu", row.get("logical_cores")
    name = (f"{cores} cores" if cores else "") if is_cpu else str(row.get("device_uuid") or "")
    return Card(str(row.get("device_name") or number), name or number, bool(name), is_cpu)


def two_cards(one: Card, other: Card) -> bool:
    """Whether these are two of one kind, or may be (`perhaps_one`): no verdict is taken from either.

    Where neither has a UUID, those of one number pass for one card. So do CPUs of one model on hosts that show as many cores: two
    such hosts are not told apart, as the id of a boot, which run.json has, differs between runs of one host too.
    """
    return one.kind == other.kind and one != other


def perhaps_one(one: Card, other: Card) -> bool:
    """Of `two_cards`, whether it is not known that they are two: of one or both no UUID (of a CPU: no number of cores) is known."""
    return two_cards(one, other) and not (one.is_known and other.is_known)


def of_two_cards(one: Card, other: Card) -> str:
    """Of figures of `two_cards`, in a sentence that says that nothing is decided between them."""
    return f"{'perhaps ' if perhaps_one(one, other) else ''}measured on two {one.device}s of this kind"


def count_of(cards: Collection[Card]) -> str:
    """How many these are, of one kind: `2`, or `1 to 2` where some are not known and may be among the others."""
    known = sum(card.is_known for card in cards)
    return f"{known} to {len(cards)}" if 0 < known < len(cards) else str(len(cards))


def cards_of(rows: Iterable[Row]) -> dict[str, set[Card]]:
    """Kind -> the cards of it."""
    found: dict[str, set[Card]] = {}
    for row in rows:
        found.setdefault(card_of(row).kind, set()).add(card_of(row))
    return found
