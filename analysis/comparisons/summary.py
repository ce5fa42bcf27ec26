"""The answer in sentences: what is fastest, what costs least, how sure that is; every word comes from the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis import style
from analysis.comparisons.answer_words import PHRASES
from analysis.results.cards import OF_TWO_CARDS, two_cards
from analysis.results.metrics import rounded, shown, worded
from analysis.results.sample_intervals import Intervals
from analysis.results.tables import Entry, Table, describe
from common.job import WORKERS

#: What a group's summary names, with the words for "best".
SUMMARIES = (
    ("throughput", "Most images per second"),
    ("latency", "Shortest latency"),
    ("joules_per_image", "Least energy per image"),
)
#: An end farther away than this many times the figure says only that nothing bounds it.
WIDE = 20.0
#: Why the order of two figures is open although their intervals may be apart.
ONE_WORKER = f"UNCLEAR, {PHRASES['one worker']} (--replicates {WORKERS} would)"
#: Why it is open whatever their intervals are, and what would tell.
TWO_CARDS = f"UNCLEAR, {OF_TWO_CARDS} (one run on one GPU would tell)"
#: Rows with figures known to be wrong that a sentence names.
MOST_LEFT_OUT = 4
#: Metrics whose interval is shown as a half width.
PLUS_MINUS = ("joules_per_image", "power")


@dataclass(frozen=True)
class Answer:
    """Sentences of one group. summary: (title, sentence) over all batch sizes. sentences: the fastest at each batch size."""

    subtitle: str
    summary: tuple[tuple[str, str], ...] = ()
    sentences: tuple[str, ...] = ()


def answers(tables: Sequence[Table], intervals: Intervals) -> list[Answer]:
    """One Answer per group that has figures, in the order of the tables."""
    groups: dict[str, list[Table]] = {}
    for table in tables:
        groups.setdefault(table.subtitle, []).append(table)
    found = []
    for subtitle, members in groups.items():
        by_name = {table.metric.name: table for table in members}
        summary = []
        for name, title in SUMMARIES:
            if name in by_name and (text := _best_of_all(by_name[name], intervals)):
                summary.append((worded(title), text))
        sentences: list[str] = []
        fastest = by_name.get("throughput")
        if fastest is not None and fastest.column_name == "batch_size":
            sentences = [text for column in fastest.columns if (text := _answer(fastest, column, intervals))]
        if summary or sentences:
            found.append(Answer(subtitle, tuple(summary), tuple(sentences)))
    return found


def conclusion(table: Table, intervals: Intervals, here: bool = False) -> str | None:
    """The answer of a throughput table in one sentence; None where nothing has a figure.

    One framework fastest at every batch size: by how much, against the row that comes second most often. Else who is
    fastest where. What casts doubt on that stands behind it. here: whether it is about the machine that the reader is at.
    """
    ranked = {column: _ranked(table, [(row, column) for row in table.rows]) for column in table.columns}
    if not any(ranked.values()):
        return None
    place = "On this machine " if here else ""
    contested = {column: places for column, places in ranked.items() if len(places) > 1}
    if not contested:
        (row, column), best = max(
            (places[0] for places in ranked.values() if places), key=lambda one: one[1].value or 0.0
        )
        return (
            f"{place}{name_of(table, row)} reaches {best.text} {table.metric.unit} at "
            f"{describe(table.column_name, column)}{_doubts(table, ranked, intervals)}."
        )
    return f"{place}{_fastest(table, contested)}{_doubts(table, contested, intervals)}."


_Ranked = Mapping[Any, Sequence[tuple[tuple[Any, Any], Entry]]]


def _doubts(table: Table, ranked: _Ranked, intervals: Intervals) -> str:
    """ "; measured under other load (l)", and the like; "" where nothing is doubtful."""
    firsts = {column: [entry for _, entry in places[:2]] for column, places in ranked.items()}
    loaded = any("l" in entry.signs for own in firsts.values() for entry in own)
    doubts = ["measured while other load was on the machine (l)"] if loaded else []
    apart = [column for column, own in firsts.items() if len(own) > 1 and two_cards(own[0].card, own[1].card)]
    if apart:
        doubts.append(
            f"UNCLEAR at {_columns(table, apart)}, where the first two were {OF_TWO_CARDS} (one run on one GPU would tell)"
        )
    near = {column: own for column, own in firsts.items() if column not in apart}
    if any(of_one_worker(table, entry, intervals) for own in near.values() for entry in own):
        doubts.append(f"one worker per cell gives no verdict (--replicates {WORKERS} does)")
    else:
        unclear = [
            column for column, own in near.items() if len(own) > 1 and clear(table, own[0], own[1], intervals) is False
        ]
        doubts += [f"UNCLEAR at {_columns(table, unclear)}, where intervals overlap"] if unclear else []
    wrong = [row for row in table.rows if any(table.entry(row, column).wrong for column in table.columns)]
    if wrong:
        names = ", ".join(short_name(table, row) for row in wrong[:MOST_LEFT_OUT])
        more = f" and {len(wrong) - MOST_LEFT_OUT} more" if len(wrong) > MOST_LEFT_OUT else ""
        doubts.append(f"figures of {names}{more} are known to be wrong (k) and left out")
    return "".join(f"; {doubt}" for doubt in doubts)


def _fastest(table: Table, ranked: _Ranked) -> str:
    leaders = {column: places[0][0][0] for column, places in ranked.items()}
    if len(set(leaders.values())) > 1:
        words = [
            f"{short_name(table, row)} at {_columns(table, [column for column in leaders if leaders[column] == row])}"
            for row in dict.fromkeys(leaders.values())
        ]
        return f"the fastest is {', '.join(words[:-1])} and {words[-1]}"
    (leader,) = set(leaders.values())
    seconds = [places[1][0][0] for places in ranked.values()]
    second = max(dict.fromkeys(seconds), key=seconds.count)
    pairs = [
        (table.entry(leader, column).value, other.value)
        for column in ranked
        if not (other := table.entry(second, column)).wrong and not other.older
    ]
    ratios = [one / other for one, other in pairs if one and other]
    low, high = (rounded(ratio, 3 if ratio < 1.2 else 2) for ratio in (min(ratios), max(ratios)))
    factor = low if low == high else f"{low} to {high}"
    return f"{short_name(table, leader)} is fastest: {factor} times {short_name(table, second)}, the next"


def short_name(table: Table, row: Sequence[Any]) -> str:
    """`name_of` without what all rows have in common, such as the one precision that was measured."""
    names = list(table.row_names)
    same = [
        name for place, name in enumerate(names) if name != "variant" and len({one[place] for one in table.rows}) == 1
    ]
    kept = [place for place, name in enumerate(names) if name not in same]
    return _spoken([names[place] for place in kept], [row[place] for place in kept])


def _columns(table: Table, columns: Sequence[Any]) -> str:
    """ "batch 1, 8 and 32"."""
    *most, last = [str(column) for column in columns]
    first = describe(table.column_name, columns[0])
    return f"{', '.join([first, *most[1:]])} and {last}" if most else first


def _best_of_all(table: Table, intervals: Intervals) -> str | None:
    """The best place of a whole table, and what is clearly no different from it."""
    places = _ranked(table, [(row, column) for row in table.rows for column in table.columns])
    if not places:
        return None
    (row, column), best = places[0]
    text = f"{_at(table, row, column)}: {figure(table, best, intervals)}"
    if len(places) > 1 and two_cards(best.card, places[1][1].card):
        return f"{text}. {TWO_CARDS}: the next, {_at(table, *places[1][0])}."
    if of_one_worker(table, best, intervals) and len(places) > 1:
        return f"{text}. {ONE_WORKER}."
    rivals = [place for place, entry in places[1:] if clear(table, best, entry, intervals) is False]
    if rivals:
        others = "; ".join(_at(table, *rival) for rival in rivals[:2])
        more = f" and {len(rivals) - 2} more" if len(rivals) > 2 else ""
        text += f". UNCLEAR: the intervals of {others}{more} overlap it"
    return text + "."


def _at(table: Table, row: Sequence[Any], column: Any) -> str:
    return f"{name_of(table, row)} at {describe(table.column_name, column)}"


def _ranked(table: Table, places: Sequence[tuple[Any, Any]]) -> list[tuple[tuple[Any, Any], Entry]]:
    """(row, column) and entry of the places that have a figure which counts and is not known to be wrong, the best first."""
    known = [((row, column), entry) for row, column in places if (entry := table.entry(row, column)).value is not None]
    known = [place for place in known if not place[1].wrong and not place[1].older]
    return sorted(known, key=lambda place: -table.metric.better * (place[1].value or 0.0))


def _answer(table: Table, column: Any, intervals: Intervals) -> str | None:
    """The fastest of one batch size, its interval, and the runner-up."""
    places = _ranked(table, [(row, column) for row in table.rows])
    if not places:
        return None
    ((row, _), first), *others = places
    text = f"Batch {column}: {name_of(table, row)}, {figure(table, first, intervals)}"
    if others:
        (other, _), second = others[0]
        share = 100 * ((first.value or 0.0) / (second.value or 1.0) - 1)
        verdict = ""
        if two_cards(first.card, second.card):
            verdict = f"; {TWO_CARDS}"
        elif clear(table, first, second, intervals) is False:
            alone = any(of_one_worker(table, entry, intervals) for entry in (first, second))
            verdict = f"; {ONE_WORKER if alone else 'UNCLEAR, their intervals overlap'}"
        between = uncertainty(table, second, intervals)
        text += f", {share:.1f} % above {name_of(table, other)} ({second.text}{between}){verdict}"
    return text + "."


def name_of(table: Table, row: Sequence[Any]) -> str:
    """A row of a table in words: "ONNX Runtime fp32"."""
    return _spoken(table.row_names, row)


def _spoken(row_names: Sequence[str], row: Sequence[Any]) -> str:
    names = dict(zip(row_names, row, strict=True))
    words = [style.look(value).title if name == "variant" else describe(name, value) for name, value in names.items()]
    return " ".join(word for word in words if word)


def figure(table: Table, entry: Entry, intervals: Intervals) -> str:
    """ "823.4 images/s [820.1, 826.9]"."""
    return f"{entry.text} {table.metric.unit}{uncertainty(table, entry, intervals)}"


def ends(table: Table, entry: Entry, intervals: Intervals) -> tuple[float, float] | None:
    """The 95 % interval of a place in the table's unit; None where it has none."""
    found = intervals.get((entry.keys, entry.run, table.metric.name))
    return None if found is None else (found.low * table.metric.scale, found.high * table.metric.scale)


def uncertainty(table: Table, entry: Entry, intervals: Intervals) -> str:
    """ " [820.1, 826.9]", for energies " +-1.2" (the larger of the spread and of the meter's error); "" where unknown."""
    found = ends(table, entry, intervals)
    if found is None:
        return ""
    if table.metric.name in PLUS_MINUS:
        return f" \u00b1{shown_half((found[1] - found[0]) / 2)}"
    low, high = (shown(end) if abs(end) <= WIDE * abs(entry.value or end) else "open" for end in found)
    return f" [{low}, {high}]"


def shown_half(half: float) -> str:
    """Two significant digits: nobody knows an uncertainty better."""
    return shown(half) if half >= 100 or half == 0 else f"{half:.2g}"


def of_one_worker(table: Table, entry: Entry, intervals: Intervals) -> bool:
    """Whether the interval of a place is of one worker alone, so that nothing follows for the next one."""
    found = intervals.get((entry.keys, entry.run, table.metric.name))
    return found is not None and not found.over_workers


def clear(table: Table, first: Entry, second: Entry, intervals: Intervals) -> bool | None:
    """Whether the intervals of two places are over workers and apart, and neither figure known to be wrong; None where one
    has no interval."""
    if first.wrong or second.wrong:
        return False
    one, other = ends(table, first, intervals), ends(table, second, intervals)
    if one is None or other is None:
        return None
    if any(of_one_worker(table, entry, intervals) for entry in (first, second)):
        return False
    return one[0] > other[1] or other[0] > one[1]
