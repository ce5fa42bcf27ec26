"""What `invoke compare` found, for a terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis import style
from analysis.database.connection import Row
from analysis.results import tables
from analysis.results.cards import card_of, perhaps_one, two_cards
from analysis.results.metrics import ENERGY_MARKS, item_of, shown, worded
from common.host.whole_files import whole, write_text
from common.stats.comparison import Comparison, RunComparison, Verdict
from common.text import markdown as markdown_text
from common.text import spreadsheet

COLUMNS = (
    "a_run", "b_run", "a_cell_keys", "b_cell_keys", "variant", "precision", "tuning", "version", "batch_size", "io",
    "a_device", "b_device", "a_median_ms", "b_median_ms", "ratio",
    "ratio_low", "ratio_high", "confidence", "verdict", "p_value", "a_workers", "b_workers", "a_samples", "b_samples", "marks",
    "note",
)  # fmt: skip


#: what `write` writes: Markdown, CSV
FILES = ("compare.md", "compare.csv")
#: verdicts that say how far apart two durations are
APART = (Verdict.FASTER, Verdict.SLOWER)


@dataclass(frozen=True)
class Compared:
    """Two sides and what became of them.

    a, b: identity -> row of the view `comparison`. names: of the two runs. pairs: the sides are different configurations,
    so that both are named. per_image: times are of one image. meanings: mark -> (sign, meaning). conditions: by which the
    cells of each side were chosen, where they were.
    """

    found: RunComparison
    a: Mapping[Any, Row]
    b: Mapping[Any, Row]
    names: Sequence[str]
    meanings: Mapping[str, tuple[str, str]]
    pairs: bool = False
    per_image: bool = False
    conditions: Sequence[str] = ("", "")

    @property
    def sides(self) -> tuple[str, ...]:
        """The runs with what was chosen of each."""
        pairs = zip(self.names, self.conditions, strict=True)
        return tuple(f"{name}, {condition}" if condition else name for name, condition in pairs)

    def marks(self, key: Any) -> list[str]:
        """Of both sides, without those of energy: durations are compared."""
        return sorted({mark for side in (self.a, self.b) for mark in side[key]["marks"] or ()} - ENERGY_MARKS)

    def verdict(self, key: Any) -> str:
        """With the signs of the marks of both sides."""
        signs = "".join(sorted(self.meanings[mark][0] for mark in self.marks(key) if mark in self.meanings))
        return f"{self.found.cells[key].verdict.value} {signs}".strip()

    @property
    def unit(self) -> str:
        """Of the medians. `images` counts items, of which a sample may hold several."""
        return worded("ms an image", item_of([*self.a.values(), *self.b.values()])) if self.per_image else "ms"

    @property
    def several_devices(self) -> bool:
        """Whether a side has several: cells of one configuration are then told apart by theirs."""
        return any(len({row["device"] for row in side.values()}) > 1 for side in (self.a, self.b))

    def name(self, row: Row) -> str:
        """A cell of either side in words."""
        return f"{full_name(row)} {row['device']}" if self.several_devices else full_name(row)

    def _device(self, key: Any) -> str:
        """Of both sides; where they differ, `gpu0, gpu1`."""
        return ", ".join(dict.fromkeys(str(side[key]["device"]) for side in (self.a, self.b)))

    @property
    def headings(self) -> tuple[str, ...]:
        device = ("device",) if self.several_devices else ()
        what = ("A", "B") if self.pairs else ("framework", "precision", "batch", "io", *device)
        return (*what, f"A, {self.unit}", f"B, {self.unit}", "B / A of durations", "verdict on B")

    def texts(self, key: Any) -> tuple[str, ...]:
        """What the row of a cell says, under the headings."""
        row = self.a[key]
        device = (self._device(key),) if self.several_devices else ()
        what = (
            (self.name(row), self.name(self.b[key]))
            if self.pairs
            else (style.look(row["variant"]).title, style.kind(row), str(row["batch_size"]), row["io"], *device)
        )
        medians = (_median(side[key], images(side[key]) if self.per_image else 1) for side in (self.a, self.b))
        return (*what, *medians, self.found.cells[key].ratio_text, self.verdict(key))

    @property
    def counts(self) -> dict[Verdict, int]:
        """Cells by verdict, only of those that occur."""
        verdicts = [one.verdict for one in self.found.cells.values()]
        return {verdict: verdicts.count(verdict) for verdict in Verdict if verdict in verdicts}

    def sentence(self, broken: int = 0) -> str:
        """The answer. broken: cells that ran in A and do not run in B."""
        cells = self.found.cells
        lost = f"{broken} that ran in A {'does' if broken == 1 else 'do'} not run in B" if broken else ""
        if not cells and broken:
            one = broken == 1
            return f"B cannot be judged: {broken} {'cell' if one else 'cells'} that ran in A {'does' if one else 'do'} not run in B."
        if not cells:
            return "B cannot be judged: no cell ran on both sides."
        where = {verdict: "" if len(cells) == 1 else f" in {count}" for verdict, count in self.counts.items()}
        text = "B is " if len(cells) == 1 else f"Of the {len(cells)} cells that A and B share, B is "
        text += ", ".join(f"{'the ' if v is Verdict.SAME else ''}{v}{count}" for v, count in where.items())
        known = [(one.interval.estimate, key) for key, one in cells.items() if one.interval and one.verdict in APART]
        if known:
            ratio, key = max(known, key=lambda pair: abs(math.log(pair[0])))
            most = "" if len(cells) == 1 else f", most in {self.name(self.b[key])}"
            text += f"{most}: {shown(ratio)} times the duration"
        return f"{text}{f'; {lost}' if lost else ''}."

    @property
    def other_cards(self) -> list[str]:
        """That the sides of cells are, or may be, of two cards of one kind, in a sentence each; [] where none are."""
        pairs = [(card_of(self.a[key]), card_of(self.b[key])) for key in self.found.cells]
        lines = []
        for known in (True, False):
            apart = [pair for pair in pairs if two_cards(*pair) and perhaps_one(*pair) is not known]
            if not apart:
                continue
            which = "A and B" if len(apart) == len(pairs) else f"A and B of {len(apart)} of the {len(pairs)} cells"
            where = (
                "on different cards of one kind" if known else "on one card or on two of one kind, which is not known"
            )
            sides = (
                ", ".join(sorted({card.name[:12] if card.is_known else "unknown" for card in side}))
                for side in zip(*apart, strict=True)
            )
            kinds = ", ".join(sorted({card.kind for card, _ in apart}))
            lines.append(
                f"{which} were measured {where} ({kinds}: {' and '.join(sides)}): a difference may be that of the cards, which no "
                "interval over workers knows"
            )
        return lines

    def footers(self) -> list[str]:
        if not self.found.cells:
            return [self.found.correction]
        lines = [", ".join(f"{count} {verdict}" for verdict, count in self.counts.items())]
        lines += dict.fromkeys(note for one in self.found.cells.values() for note in one.notes)
        used = {mark for key in self.found.cells for mark in self.marks(key)}
        lines += [f"{sign}  {meaning}" for mark, (sign, meaning) in self.meanings.items() if mark in used]
        return [*lines, *self.other_cards, self.found.correction]

    def values(self, key: Any) -> dict[str, Any]:
        """Every figure of a cell in full, by COLUMNS; None is unknown."""
        one: Comparison = self.found.cells[key]
        a, b, interval = self.a[key], self.b[key], one.interval
        cards = card_of(a), card_of(b)
        why = "perhaps different cards of one kind" if perhaps_one(*cards) else "different cards of one kind"
        notes = [*one.notes, *([why] if two_cards(*cards) else [])]
        return {
            "a_run": self.names[0], "b_run": self.names[1],
            "a_cell_keys": " ".join(a["cell_keys"]), "b_cell_keys": " ".join(b["cell_keys"]),
            **{name: a[name] for name in ("variant", "precision", "tuning", "version", "batch_size", "io")},
            "a_device": a["device"], "b_device": b["device"],
            "a_median_ms": a["median_ms"], "b_median_ms": b["median_ms"],
            "ratio": interval.estimate if interval else None, "ratio_low": interval.low if interval else None,
            "ratio_high": interval.high if interval else None, "confidence": interval.confidence if interval else None,
            "verdict": one.verdict.value, "p_value": None if math.isnan(one.p_value) else one.p_value,
            "a_workers": one.replicates_a, "b_workers": one.replicates_b,
            "a_samples": one.samples_a, "b_samples": one.samples_b,
            "marks": " ".join(self.marks(key)) or None, "note": "; ".join(notes) or None,
        }  # fmt: skip


def show(compared: Compared, console: Console) -> None:
    console.print(Text("A: {}\nB: {}".format(*compared.sides)), highlight=False)
    devices = [sorted({str(row["device_name"]) for row in side.values()}) for side in (compared.a, compared.b)]
    if devices[0] != devices[1]:
        console.print(Text(f"The devices differ: {', '.join(devices[0])} and {', '.join(devices[1])}.", style="yellow"))
    grid = Table(box=None, show_edge=False, pad_edge=False, header_style="bold")
    for place, heading in enumerate(compared.headings):
        grid.add_column(heading, justify="right" if -4 <= place - len(compared.headings) <= -2 else "left")
    for key, one in compared.found.cells.items():
        *words, verdict = compared.texts(key)
        grid.add_row(*map(Text, words), Text(verdict, style=style.VERDICTS[one.verdict]))
    if compared.found.cells:
        console.print(grid)
    counts, *others = compared.footers()
    console.print(Text(counts))
    for line in others:
        console.print(Text(line, style="dim"), soft_wrap=True)


def markdown(compared: Compared) -> str:
    """One table with its footers."""
    headings = compared.headings
    sides = [markdown_text(side) for side in compared.sides]
    lines = [f"# {sides[0]} (A) and {sides[1]} (B)", ""]
    if not compared.found.cells:
        return "\n".join([*lines, *map(markdown_text, compared.footers()), ""])
    lines += ["| " + " | ".join(headings) + " |", "|" + "---|" * (len(headings) - 4) + "---:|" * 3 + "---|"]
    lines += ["| " + " | ".join(map(markdown_text, compared.texts(key))) + " |" for key in compared.found.cells]
    return "\n".join([*lines, "", *(f"{markdown_text(line)}  " for line in compared.footers()), ""])


def write(compared: Compared, folder: Path) -> list[Path]:
    """compare.md and compare.csv, one row per cell with every figure in full. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in FILES]
    write_text(paths[0], markdown(compared))
    with whole(paths[1]) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {name: spreadsheet(value) for name, value in compared.values(key).items()} for key in compared.found.cells
        )
    return paths


def full_name(row: Row) -> str:
    """A cell in words, apart from what most have in common."""
    words = [style.look(row["variant"]).title, style.kind(row), f"batch {row['batch_size']}", row["io"]]
    words += [f"{row['input']} input"] if row["input"] != "float32" else []
    words += [row["scenario"]] if row["scenario"] != "single-stream" else []
    words += [tables.describe("streams", row["streams"])] if row["scenario"] == "multi-stream" else []
    words += [tables.describe("target_rate_per_s", row["target_rate_per_s"])] if row["target_rate_per_s"] else []
    words += [row["frontend"]] if row["frontend"] != "script" else []
    return " ".join(str(word) for word in words)


def images(row: Row) -> int:
    """Images, or other items, that a duration stands for: the server scenario's is of a query, a published one of an image."""
    samples = 1 if row["scenario"] == "server" or not row["samples"] else int(row["batch_size"])
    return samples * int(row.get("items_per_sample", 1))


def _median(row: Row, count: int) -> str:
    return "–" if row["median_ms"] is None else shown(row["median_ms"] / count)
