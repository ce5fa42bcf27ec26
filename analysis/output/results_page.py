"""docs/results.md, its generated part: what the reference runs say, in sentences and grids; and the cells behind each figure.

`invoke recipe --docs` writes both. A number in brackets is that of a cell in docs/results-cells.md: run, cell key, date and GPU.
"""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

from analysis import style
from analysis.comparisons.findings import (
    BYTES,
    OFFLINE,
    REWRITING,
    TUNING,
    Energy,
    Findings,
    Step,
    first_of,
    in_order,
    is_transformer,
    ranking,
)
from analysis.comparisons.ratios import Place, Said, count_of, place_of
from analysis.database.connection import Row
from analysis.results.metrics import shown
from common.schema import IO_MODES, PRECISIONS
from common.stats.comparison import ERROR_RATE, MARGIN, Verdict
from common.text import markdown

CELLS_PAGE = "results-cells.md"
#: places of one list in a sentence; the grid below it has them all
MOST_NAMED = 6
#: between neighbours of a ranking
_BETWEEN = {Verdict.FASTER: ">", Verdict.SAME: "=", Verdict.UNCLEAR: "~", Verdict.SLOWER: "~"}
#: step -> (title, meaning) of its section
_MARGIN = f"{100 * MARGIN:g} %"
_RULE = f"""## What the reference runs say

How to read the sections of each device:

- A ratio is one of throughputs. It has its 95 % interval over workers where these tell one: several of a side, or other cells of
  the same framework and kind of GPU that have several and agree enough; else it stands alone and has no verdict.
- FASTER or SLOWER: the ratio differs from 1 for sure, and is itself more than {_MARGIN} from it. The chance of any false FASTER or
  SLOWER among a device's comparisons, for rows that are equal, is at most {100 * ERROR_RATE:g} % (Holm's method). SAME: surely
  within {_MARGIN} of 1. UNCLEAR: anything else.
- A verdict asks for more than the interval printed beside it: that is at 95 %, the one that decides is wider (up to 99.9 %), as
  many comparisons are judged together. So a ratio can be UNCLEAR though its whole printed interval is above {1 + MARGIN:g}.
- †: the two sides were measured on two GPUs of this kind. An interval over workers says nothing of how cards differ, so there is
  none, and no verdict; a section below says how far cards lay apart in cells that several measured. ‡: on one GPU in two runs;
  an interval lacks what differs from run to run. (Where frameworks are compared without an interval ‡ is left out: each has a run
  of its own.)
- A step, such as that from stock to tuned, pairs cells of one GPU and one version of the framework: first such as have several
  workers, then such as are of one run.
- Numbers in brackets are cells of [{CELLS_PAGE}]({CELLS_PAGE}), with their marks; letters behind a figure are
  [the signs of these]({CELLS_PAGE}#marks).
"""
_STEP_WORDS = (
    (TUNING, ("What tuning is worth", "Tuned over stock: what the framework's public interface offers over its first tutorial.")),
    (REWRITING, ("What rewriting is worth", "Rewritten over tuned: the model changed, or kernels replaced, from outside.")),
    (BYTES, ("What bytes in are worth", "uint8 input over float32: a quarter of the bytes to copy.")),
    (OFFLINE, ("What a device kept busy is worth", "Offline over single-stream: one batch is copied while another is computed. Only "
        "cells that compute by the same algorithms; [scenarios.md](scenarios.md) has more.")),
)  # fmt: skip
_IO = {"host": "copies included (io=host)", "device": "device-resident (io=device)"}
#: input -> what a heading says of it
_INPUTS = {"float32": "", "uint8": ", uint8 input"}
_TEMPLATE = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), undefined=jinja2.StrictUndefined,
    trim_blocks=True, lstrip_blocks=True,
).get_template("results.md.j2")  # fmt: skip


@dataclass
class Cells:
    """The rows that a page uses, numbered as it first names them."""

    rows: dict[Place, Row] = field(default_factory=dict)
    _numbers: dict[Place, int] = field(default_factory=dict)

    def number(self, *rows: Row) -> str:
        """`[12]`, or `[12, 3]`."""
        for row in rows:
            self.rows.setdefault(place_of(row), row)
            self._numbers.setdefault(place_of(row), len(self.rows))
        return f"[{', '.join(str(self._numbers[place_of(row)]) for row in rows)}]"


@dataclass(frozen=True)
class Grid:
    title: str
    heading: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: bool = False


@dataclass(frozen=True)
class Section:
    title: str
    meaning: str
    sentences: Sequence[str]
    grids: Sequence[Grid] = ()
    #: sentences on what is in no pair, folded where there are pairs to read first
    unpaired: Sequence[str] = ()


@dataclass(frozen=True)
class Device:
    title: str
    about: Sequence[str]
    sections: Sequence[Section]


@dataclass(frozen=True)
class Given:
    """What a page needs of a device beside its rows. drivers, folders: in words, folders with links. versions: of the frameworks, in
    words. others: rows of configurations that another run measured too. missing: what of their plans the runs lack, in sentences."""

    name: str
    drivers: Sequence[str]
    folders: Sequence[str]
    versions: Sequence[str]
    others: int
    missing: Sequence[str]


def render(devices: Sequence[tuple[Given, Findings]], cells: Cells, unused: Sequence[str] = ()) -> str:
    """Markdown; the rows that it uses are then in `cells`. unused: on folders of runs that no row is taken from."""
    shown = [_device(given, found, cells) for given, found in devices]
    return _TEMPLATE.render(rule=_RULE, unused=unused, devices=shown).strip("\n")


def _device(given: Given, found: Findings, cells: Cells) -> Device:
    sections = [
        _fastest(found, cells),
        *(_step(found, cells, step, *words) for step, words in _STEP_WORDS),
        _transformers(found, cells),
        _energy(found, cells),
        *_cards(found, cells),
        _lacking(found, given),
    ]
    return Device(given.name, _about(given, found), sections)


def _about(given: Given, found: Findings) -> Sequence[str]:
    dates = sorted({str(row["created_utc"])[:10] for row in found.rows})
    workers = Counter(row["replicates"] for row in found.ok)
    held = ", ".join(f"{count} of {number} worker{'s' * (number > 1)}" for number, count in sorted(workers.items()))
    lines = [
        f"Runs of {' and '.join(given.folders)}, {_span(dates)}; driver {' and '.join(given.drivers) or 'unknown'}.",
        f"Versions: {', '.join(given.versions) or 'unknown'}.",
        f"{len(found.ok):,} cells have figures that count ({held or 'none'}).",
        *found.left_out,
    ]
    if given.others:
        lines.append(
            f"{given.others} rows are of configurations that another run measured too. Of each configuration one row counts: of those "
            "that are ok and not known to be wrong the ones of several workers, else those of one, and of these the newest. The "
            "others count only where they make a pair of one run or one GPU."
        )
    return [*lines, _comparisons(found)]


def _comparisons(found: Findings) -> str:
    once = {frozenset(pair): one for pair, one in found.said.items()}
    known = sum(one.known for one in once.values())
    other = sum(one.other_gpu for one in once.values())
    count = f"{len(once)} comparison{'s' * (len(once) != 1)}"
    between = f" ({other} are between two GPUs, †)" if other else ""
    if not known:
        return f"None of the {count} has an interval, so that there is no verdict: ratios alone{between}."
    verdicts = ", ".join(f"{number} {word.value}" for word, number in count_of(found.said).items())
    rest = f"; {len(once) - known} are ratios alone{between}" if known < len(once) else ""
    return f"Of {count} {known} have an interval: {verdicts}{rest}."


def _span(dates: Sequence[str]) -> str:
    if not dates:
        return "undated"
    return dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"


def _title(row: Row) -> str:
    return style.look(row["variant"]).title


def _name(row: Row) -> str:
    """`PyTorch fp16 stock`; tuned is said too."""
    return f"{_title(row)} {row['precision']} {row['tuning']}"


def _plain(row: Row) -> str:
    """As `_name`, where the level is what is compared."""
    return f"{_title(row)} {row['precision']}"


def _throughput(found: Findings, row: Row) -> str:
    interval = found.throughputs.interval(row)
    ends = f" [{shown(interval.low)}, {shown(interval.high)}]" if interval else ""
    return f"{shown(row['images_per_s'])}{found.signs_of(row)}{ends} {row['item'] or 'image'}s/s"


def _sign(said: Said, of_step: bool = False) -> str:
    return " †" if said.other_gpu else " ‡" if said.other_run and (of_step or said.known) else ""


def _verdict(said: Said, before: str = " ", of_step: bool = False) -> str:
    """` FASTER †`; of a ratio without an interval its sign alone, as there is no verdict."""
    return f"{f'{before}{said.verdict.value}' if said.known else ''}{_sign(said, of_step)}"


# --- fastest ----------------------------------------------------------------------------------------------------------


def _fastest(found: Findings, cells: Cells) -> Section:
    sentences, grids = [], []
    for model in in_order(found.ordinary(), "model"):
        for io in in_order(found.ordinary(model=model), "io"):
            rows = found.ordinary(model=model, io=io)
            if io == "host" or not found.ordinary(model=model, io="host"):
                sentences += [_fastest_sentence(found, cells, f"{model}, batch {size}", [r for r in rows if r["batch_size"] == size])
                              for size in in_order(rows, "batch_size")]  # fmt: skip
            grids.append(_fastest_grid(found, cells, rows, f"{model}, {_IO.get(io, io)}", io != "host"))
    if not sentences:
        sentences = ["No cell of one inference at a time has a figure."]
    meaning = (
        "The fastest row with copies included, of any framework, precision and level that these runs have, with float32 input and one "
        "inference at a time (bytes in and offline have sections of their own); in the tables at each level and precision, against "
        "the next framework."
    )
    return Section("Which framework is fastest", meaning, sentences, grids)


def _fastest_sentence(found: Findings, cells: Cells, where: str, rows: Sequence[Row]) -> str:
    first = first_of(rows)
    if first is None:
        return f"{where}: not measured."
    text = f"{where}: {_name(first.row)}, {_throughput(found, first.row)}"
    if first.second is None:
        left = ", ".join(_wrong_beside(found, rows))
        other = f"no other framework has a figure that counts{f' (left out, k: {left})' if left else ''}"
        return f"{text} {cells.number(first.row)}; {other}."
    said = found.of(first.row, first.second)
    words = f"{text}, {said.text} times {_name(first.second)}{_verdict(said, ': ')}"
    return f"{words} {cells.number(first.row, first.second)}."


def _fastest_grid(found: Findings, cells: Cells, rows: Sequence[Row], title: str, folded: bool) -> Grid:
    sizes = in_order(rows, "batch_size")
    lines = []
    for tuning in in_order(rows, "tuning"):
        for precision in in_order(rows, "precision"):
            own = [row for row in rows if (row["tuning"], row["precision"]) == (tuning, precision)]
            if own:
                entries = [
                    _fastest_entry(found, cells, [row for row in own if row["batch_size"] == size]) for size in sizes
                ]
                lines.append([f"{tuning} {precision}", *entries])
    return Grid(title, ["", *(f"batch {size}" for size in sizes)], lines, folded)


def _fastest_entry(found: Findings, cells: Cells, rows: Sequence[Row]) -> str:
    first = first_of(rows)
    if first is None:
        return "not measured"
    title = _title(first.row)
    if first.second is None:
        left = _wrong_beside(found, rows)
        return f"{title} alone {cells.number(first.row)}{f', {len(left)} left out (k)' if left else ''}"
    said = found.of(first.row, first.second)
    return f"{title} {said.text} × {_title(first.second)}{_verdict(said)} {cells.number(first.row, first.second)}"


def _wrong_beside(found: Findings, rows: Sequence[Row]) -> list[str]:
    """Frameworks that were measured where these rows were, at the same levels and precisions, but wrongly."""
    columns = ("model", "io", "batch_size", "scenario", "input", "tuning", "precision")
    places = {tuple(row[name] for name in columns) for row in rows}
    return sorted({_title(row) for row in found.wrong if tuple(row[name] for name in columns) in places})


# --- steps ------------------------------------------------------------------------------------------------------------


def _step(found: Findings, cells: Cells, step: Step, title: str, meaning: str) -> Section:
    sentences, grids, unpaired = [], [], []
    for model in in_order(found.rows, "model"):
        for io, fed in itertools.product(IO_MODES, _INPUTS if step.column != "input" else ("",)):
            given = {"model": model, "io": io, **({"input": fed} if fed else {})}
            pairs = found.pairs_of(step, **given)
            where = f"{model}, {_IO[io]}{_INPUTS.get(fed, '')}"
            if pairs:
                sentences += _step_sentences(found, cells, pairs, where, step)
                grids.append(_step_grid(found, cells, pairs, where, io != "host"))
            if lacking := found.unpaired(step, **given):
                unpaired.append(_unpaired(lacking, where, step, bool(pairs)))
    if not grids:
        return Section(title, meaning, [f"No cell has a pair of {step.lower} and {step.upper}.", *unpaired])
    return Section(title, meaning, sentences, grids, unpaired)


def _step_sentences(
    found: Findings, cells: Cells, pairs: Sequence[tuple[Row, Row]], where: str, step: Step
) -> list[str]:
    said = [(found.of(*pair), pair) for pair in pairs]
    counts = Counter(one.verdict for one, _ in said if one.known)
    shares = [f"{word.value} in {counts[word]}" for word in Verdict if counts[word]]
    alone = sum(not one.known for one, _ in said)
    shares += [f"without a verdict in {alone}"] if alone else []
    known = [one for one in said if one[0].verdict is Verdict.FASTER] or said
    most, pair = max(known, key=lambda one: one[0].times)
    end = "" if most.verdict is Verdict.FASTER else f", {most.verdict.value}" if most.known else ""
    lines = [
        f"{where}: {step.upper} is {', '.join(shares)} of {len(pairs)} {'pair' if len(pairs) == 1 else 'pairs'}; most in "
        f"{_plain(pair[0])} at batch {pair[0]['batch_size']}, {most.text} times{end}{_sign(most, of_step=True)} {cells.number(*pair)}."
    ]
    for word, words in ((Verdict.SLOWER, "Lost"), (Verdict.SAME, "Gained nothing")):
        own = sorted((one for one in said if one[0].verdict is word), key=lambda one: one[0].times)
        if own:
            listed = [
                f"{_plain(pair[0])} batch {pair[0]['batch_size']} {one.text}{_sign(one, of_step=True)} {cells.number(*pair)}"
                for one, pair in own[:MOST_NAMED]
            ]
            more = f" and {len(own) - MOST_NAMED} more below" if len(own) > MOST_NAMED else ""
            lines.append(f"{words} ({word.value}), {where}: {'; '.join(listed)}{more}.")
    return lines


def _step_grid(found: Findings, cells: Cells, pairs: Sequence[tuple[Row, Row]], title: str, folded: bool) -> Grid:
    uppers = [upper for upper, _ in pairs]
    sizes = in_order(uppers, "batch_size")
    entries: dict[tuple[str, str], dict[int, str]] = {}
    for upper, lower in sorted(pairs, key=lambda pair: (pair[0]["variant"], PRECISIONS.index(pair[0]["precision"]))):
        said = found.of(upper, lower)
        text = f"{said.text}{_verdict(said, of_step=True)} {cells.number(upper, lower)}"
        entries.setdefault((_title(upper), upper["precision"]), {})[upper["batch_size"]] = text
    rows = [[*name, *(row.get(size, "–") for size in sizes)] for name, row in entries.items()]
    return Grid(title, ["framework", "precision", *(f"batch {size}" for size in sizes)], rows, folded)


def _unpaired(lacking: Sequence[tuple[Row, str]], where: str, step: Step, some: bool) -> str:
    """What has one side alone: `No pair, ...: torch fp16 batch 1, 8 (stock not measured); ...`."""
    groups: dict[tuple[str, str], list[int]] = {}
    for row, why in sorted(lacking, key=lambda one: (_title(one[0]), PRECISIONS.index(one[0]["precision"]))):
        groups.setdefault((f"{_title(row)} {row['precision']}", why), []).append(row["batch_size"])
    merged: dict[tuple[str, str], list[str]] = {}
    for (name, why), sizes in groups.items():
        merged.setdefault((why, ", ".join(map(str, sorted(set(sizes))))), []).append(name)
    listed = [f"{', '.join(names)} batch {sizes} ({why})" for (why, sizes), names in merged.items()]
    return f"{'Without a' if some else 'No'} pair of {step.lower} and {step.upper}, {where}: {'; '.join(listed)}."


# --- transformers -----------------------------------------------------------------------------------------------------


def _transformers(found: Findings, cells: Cells) -> Section:
    rows = found.ordinary(io="host", tuning="tuned")
    models = in_order(rows, "model")
    attention = [model for model in models if is_transformer(model)]
    others = [model for model in models if model not in attention]
    title, meaning = "What a transformer changes", (
        "Frameworks by speed, tuned, copies included; > is FASTER, = is SAME and ~ is UNCLEAR of the one before against the next."
    )  # fmt: skip
    if not attention or not others:
        lacks = "a transformer" if not attention else "a convolutional model"
        return Section(title, meaning, [f"Not measured: no cell of {lacks}, tuned and with copies, has a figure."])
    lines: list[list[str]] = []
    places: dict[str, list[str]] = {"changed": [], "same": [], "open": []}
    for precision in in_order(rows, "precision"):
        for size in in_order(rows, "batch_size"):
            at = [row for row in rows if (row["precision"], row["batch_size"]) == (precision, size)]
            own = {model: ranking([row for row in at if row["model"] == model]) for model in models}
            if not any(own[model] for model in attention) or not any(own[model] for model in others):
                continue
            lines.append([precision, str(size), *(_ranked(found, cells, own[m]) for m in (*others, *attention))])
            for one, two in itertools.product(others, attention):
                kind, more = _change(found, own[one], own[two])
                places.setdefault(kind, []).append(f"{precision} batch {size}, {one} and {two}{more}")
    if not lines:
        sentences = ["Nothing to compare: a transformer and a convolutional model share no precision and batch size."]
        return Section(title, meaning, sentences)
    words = {
        "changed": "Another framework is fastest, surely for both models, in {}: {}.",
        "same": "The same framework is surely fastest for both models in {}: {}.",
        "open": "Undecided in {}, as the fastest is not surely so for one of the two: {}.",
        "alone": "Nothing to tell in {}, as one of the two models has fewer than two frameworks there: {}.",
    }
    sentences = [
        words[kind].format(len(found_in), "; ".join(found_in)) for kind, found_in in places.items() if found_in
    ]
    return Section(title, meaning, sentences, [Grid("Ranking", ["precision", "batch", *others, *attention], lines)])


def _ranked(found: Findings, cells: Cells, rows: Sequence[Row]) -> str:
    if not rows:
        return "not measured"
    words = [_title(rows[0])]
    for before, after in itertools.pairwise(rows):
        words += [_BETWEEN[found.of(before, after).verdict], _title(after)]
    return f"{' '.join(words)} {cells.number(*rows)}"


def _change(found: Findings, one: Sequence[Row], two: Sequence[Row]) -> tuple[str, str]:
    """What becomes of the first place from one ranking to another: its kind, and the frameworks, ready to stand behind a name."""
    if len(one) < 2 or len(two) < 2:
        return "alone", ""
    if any(found.of(rows[0], rows[1]).verdict is not Verdict.FASTER for rows in (one, two)):
        return "open", ""
    if one[0]["variant"] == two[0]["variant"]:
        return "same", f" ({_title(one[0])})"
    return "changed", f" ({_title(one[0])}, {_title(two[0])})"


# --- energy -----------------------------------------------------------------------------------------------------------


def _energy(found: Findings, cells: Cells) -> Section:
    places = _energies(found)
    title, meaning = "Where joules disagree with speed", (
        "Of all frameworks and levels at one precision, copies included: the row of the fewest joules an item against the fastest. "
        "They disagree for sure where their energies' 95 % intervals over workers, or the meter's errors where these are wider, do "
        "not overlap and the thrifty row is SLOWER; one row is both for sure where no other's energy overlaps with its own and it is "
        "FASTER than the next."
    )  # fmt: skip
    if not places:
        return Section(
            title, meaning, ["Not measured: no two rows of one model, precision and batch size have an energy."]
        )
    same = sum(energy.agree for energy in places.values())
    figures = f"By the figures alone one row is both in {same} of {len(places)} places"
    thrifty, several = found.thriftier_batches()
    more = [_batches(cells, thrifty, several)] if several else []
    if not any(energy.decidable for energy in places.values()):
        alone = (
            "One worker each"
            if all(row["replicates"] == 1 for row in found.ordinary(io="host"))
            else "Too few workers on one GPU"
        )
        head = f"{alone}: no place has intervals over workers on one GPU for all energies to compare, so nothing is decided."
        return Section(title, meaning, [f"{head} {figures}."])
    said = {place: _energy_entry(found, cells, energy) for place, energy in places.items()}
    counts = Counter(kind for _, kind in said.values())
    head = (
        f"Surely another row in {counts['differ']} of {len(places)} places, surely the same in {counts['agree']}, undecided in "
        f"{counts['unclear']}. {figures}."
    )
    differ = [f"{', '.join(map(str, place))}: {text}." for place, (text, kind) in said.items() if kind == "differ"]
    return Section(title, meaning, [head, *differ, *more], [_energy_grid(said)])


def _energies(found: Findings) -> dict[tuple[str, str, int], Energy]:
    """(model, precision, batch size) -> the energies there, with copies, in the order that people know."""
    rows = found.ordinary(io="host")
    groups: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["model"], row["precision"], row["batch_size"]), []).append(row)
    orders = [in_order(rows, name) for name in ("model", "precision", "batch_size")]
    known = {place: found.energy_of(groups[place]) for place in itertools.product(*orders) if place in groups}
    return {place: energy for place, energy in known.items() if energy is not None}


def _energy_grid(said: Mapping[tuple[str, str, int], tuple[str, str]]) -> Grid:
    sizes = sorted({size for _, _, size in said})
    lines = [
        [model, precision, *(said.get((model, precision, size), ("–", ""))[0] for size in sizes)]
        for model, precision in dict.fromkeys((model, precision) for model, precision, _ in said)
    ]
    heading = ["model", "precision", *(f"batch {size}" for size in sizes)]
    return Grid("The most economical row against the fastest", heading, lines, folded=True)


def _energy_entry(found: Findings, cells: Cells, energy: Energy) -> tuple[str, str]:
    """(what a place says, agree, differ or unclear)."""
    fast, least = energy.fastest, energy.thriftiest
    said = found.of(*energy.pair) if energy.certain else None
    if energy.agree:
        sure = said is not None and said.verdict is Verdict.FASTER
        return f"{_name(fast)}{'' if sure else ', undecided'} {cells.number(fast)}", "agree" if sure else "unclear"
    saved = 1 - least["joules_per_image"] / fast["joules_per_image"]
    text = (
        f"{_name(least)} takes {shown(1e3 * least['joules_per_image'])} mJ, {100 * saved:.1f} % less than {_name(fast)}"
    )
    if said is not None and said.verdict is Verdict.SLOWER:
        return f"{text}, at {said.text} times its speed{_verdict(said)} {cells.number(least, fast)}", "differ"
    return f"{text}, undecided {cells.number(least, fast)}", "unclear"


def _batches(cells: Cells, thrifty: Sequence[tuple[Row, Row]], several: int) -> str:
    if not thrifty:
        return f"Of {several} rows with several batch sizes none is surely more economical at a smaller batch than at its fastest."
    best = sorted(thrifty, key=lambda pair: pair[1]["joules_per_image"] / pair[0]["joules_per_image"])[:MOST_NAMED]
    listed = [
        f"{least['model']} {_name(least)} at {least['batch_size']}, "
        f"{100 * (1 - least['joules_per_image'] / fast['joules_per_image']):.1f} % less than at {fast['batch_size']} "
        f"{cells.number(least, fast)}"
        for fast, least in best
    ]
    more = f" and {len(thrifty) - len(best)} more" if len(thrifty) > len(best) else ""
    head = f"{len(thrifty)} of {several} rows take surely fewer joules at a smaller batch than at their fastest"
    return f"{head}: {'; '.join(listed)}{more}."


# --- how far cards lay apart ------------------------------------------------------------------------------------------


def _cards(found: Findings, cells: Cells) -> list[Section]:
    """What another card and another day changed; nothing where no configuration was measured on two cards."""
    places = sorted(found.on_several_cards(), key=_order_of_place)
    if not places:
        return []
    ratios = [rows[-1]["images_per_s"] / rows[0]["images_per_s"] for rows in places]
    most, rows = max(zip(ratios, places, strict=True), key=lambda one: one[0])
    names = ", ".join(dict.fromkeys(_title(rows[0]) for rows in places))
    on = "2" if max(map(len, places)) == 2 else f"2 to {max(map(len, places))}"
    some = f"{len(places)} configuration{'s' * (len(places) > 1)} of {names}, measured by several workers on {on} GPUs each"
    sentence = (
        f"Of {some}, the fastest GPU reached {min(ratios):.3f} to {most:.3f} times the throughput of the slowest (median "
        f"{statistics.median(ratios):.3f}); most in {_name(rows[0])}, {_where(rows[0])} {cells.number(rows[-1], rows[0])}. A ratio "
        "with † that is not clearly above these may be the cards', the hosts' or the days' own."
    )
    entries = [
        [_name(rows[0]), _where(rows[0]), str(len(rows)), f"{shown(rows[0]['images_per_s'])} to {shown(rows[-1]['images_per_s'])}",
         f"{ratio:.3f} {cells.number(rows[-1], rows[0])}"]
        for ratio, rows in zip(ratios, places, strict=True)
    ]  # fmt: skip
    meaning = (
        "Hosts, days, lengths of windows and framewatt's own state differ with the card, so this is what all of them change together. "
        "It is an observation of these configurations, not an interval: they scatter too differently to tell what the next one does."
    )
    heading = ["framework", "cell", "GPUs", "items/s, slowest to fastest", "ratio"]
    return [
        Section(
            "How far cards of this kind lay apart",
            meaning,
            [sentence],
            [Grid("Each configuration", heading, entries, True)],
        )
    ]


def _where(row: Row) -> str:
    return f"{row['model']} at batch {row['batch_size']}, io={row['io']}{_INPUTS[row['input']]}"


def _order_of_place(rows: Sequence[Row]) -> tuple[Any, ...]:
    row = rows[0]
    return row["model"], row["io"] != "host", row["batch_size"], _title(row), row["precision"], row["tuning"]


# --- what is not there ------------------------------------------------------------------------------------------------


def _lacking(found: Findings, given: Given) -> Section:
    failed: dict[str, list[Row]] = {}
    for row in found.rows:
        if row["status"] != "ok":
            failed.setdefault(row["status"], []).append(row)
    sentences = list(given.missing)
    for status, rows in sorted(failed.items()):
        names = Counter(f"{_title(row)} {style.kind(row)}" for row in rows)
        count = "1 cell is" if len(rows) == 1 else f"{len(rows)} cells are"
        sentences.append(f"{count} {status}: {', '.join(f'{name} ({count})' for name, count in names.items())}.")
    return Section("What is missing", "Cells that failed, and those of a plan that no run has.", sentences)


# --- cells ------------------------------------------------------------------------------------------------------------

_CELLS_HEAD = """# Cells behind the results

Generated by `invoke recipe --docs` with [results.md](results.md), which cites these numbers. A run is a file
`RUN.tar.xz` in [data/reference](../data/reference), and each key a folder in it; behind the first worker's key stand the others'
numbers.
[Below](#marks) stands what the marks mean.

| | run | cell | workers | throughput per s | mJ per item | marks | GPU | date |
|---:|---|---|---:|---:|---:|---|---|---|
"""


def cells_page(
    cells: Cells, found: Mapping[str, Findings], folders: Mapping[str, str], marks: Mapping[str, tuple[str, str]]
) -> str:
    """Markdown. found: device -> its findings, for intervals. folders: run -> folder of data/reference that it lies in. marks: mark ->
    its sign, and what it means."""
    lines = []
    for number, row in enumerate(cells.rows.values(), 1):
        interval = found[row["device_name"]].throughputs.interval(row)
        ends = f" [{shown(interval.low)}, {shown(interval.high)}]" if interval else ""
        joules = shown(1e3 * row["joules_per_image"]) if row["joules_per_image"] is not None else "–"
        words = [
            number, f"{folders[row['run']]}/{row['run']}", _without_worker(row["cell_keys"]), row["replicates"],
            f"{shown(row['images_per_s'])}{ends}", joules, ", ".join(row["marks"] or ()) or "none",
            f"{row['device_name']} {str(row['device_uuid'] or '')[:12]}", str(row["created_utc"])[:10],
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(markdown, words)) + " |")
    used = {mark for row in cells.rows.values() for mark in row["marks"] or ()}
    legend = [
        f"- {sign} `{mark}`: {markdown(meaning)}"
        for mark, (sign, meaning) in sorted(marks.items(), key=lambda one: one[1])
        if mark in used
    ]
    return _CELLS_HEAD + "\n".join([*lines, "", "## Marks", "", *legend]) + "\n"


def _without_worker(keys: Iterable[str]) -> str:
    """The key that the workers share, with their numbers: `..._gpu0_r0, r1, r2`."""
    first, *others = sorted(keys)
    return ", ".join([first, *(key.rpartition("_")[2] for key in others)])
