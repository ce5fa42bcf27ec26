"""A decision in sentences. The page of `invoke report` fills the same phrases in, as its limits move."""

from __future__ import annotations

import math
from collections.abc import Sequence

from analysis.comparisons.decision import Candidate, Change, Decision, Limit, Quantity, overlap
from analysis.comparisons.question import POWER, PRECISION, Question, quantities_of
from analysis.results import pareto
from analysis.results.bench_commands import choices, in_one_run
from analysis.results.cards import OF_TWO_CARDS, two_cards
from common.job import WORKERS

#: The words of an answer. Both this module and the page of `invoke report` fill them in.
PHRASES = {
    "asked": "{title} {sign} {bound}{unit}",
    "under": " with {asked}",
    "best": "Best: {name}: the {best} {title}{under}, {among}.",
    "only": "the only cell",
    "only that meets": "the only cell that meets it",
    "among": "of {count} cells",
    "among that meet": "of {count} cells that meet it",
    "figure": "{title} {figure}",
    "no runner-up": "Runner-up: no other framework or precision meets it.",
    "runner-up": "Runner-up: {name}: {figure}, {share} % {direction}{elsewhere}.",
    "on another card": ", measured on another GPU of this kind",
    "in another run": ", measured in another run",
    "unclear": "UNCLEAR against {names}{more}: {reasons}; {advice}",
    "more workers": "--replicates {workers} or more would tell.",
    "one card": "more workers alone would not tell, one run{where} would{command}",
    "one run": "one run{where} would tell{command}",
    "on one GPU": " on one GPU",
    "overlap": "intervals overlap",
    "unknown": "intervals are unknown",
    "one worker": "one worker tells nothing of the next one",
    "other card": "not measured on the same GPU, and no interval knows how far GPUs of one kind differ",
    "other run": "not measured in the same run, and no interval knows how far runs differ",
    "uncertain": "UNCLEAR whether it keeps {option} {bound}: its interval reaches beyond.",
    "loosened": "What would change it: {option} {bound}{unit} lets in {name}, {figure}.",
    "tightened": "{beyond} {option} {bound}{unit}, {then}.",
    "then": "{name} would be best",
    "then nobody": "no cell would be left",
    "nobody": "No cell{under}.",
    "nothing known": "No cell has a known {title}.",
    "limit unknown": "{Title} is unknown for {count} of {all} cells; they are left out.",
    "objective unknown": "{Title} is unknown for {count} of {all} cells.",
    "nearest": "Nearest miss: {name}: {missed}.",
    "missed": "{title} {figure}, {factor} times {side} {option} {bound}",
    "too coarse": "{title} {figure}, under {option} {bound}",
}
#: Rivals and cells of the Pareto front that are named.
MOST_NAMES = 3
MOST_ON_FRONT = 12
#: Workers beside those that did not tell two cells apart.
MORE = 2


def sentences(
    decision: Decision,
    candidates: Sequence[Candidate],
    objective: Quantity,
    limits: Sequence[Limit],
    question: Question,
) -> list[str]:
    """The answer in words, one line each."""
    phrases = PHRASES
    asked = " and ".join(
        phrases["asked"].format(
            title=limit.quantity.title,
            sign=_sign(limit),
            bound=limit.quantity.bound(limit.bound),
            unit=limit.quantity.behind,
        )
        for limit in limits
    )
    under = phrases["under"].format(asked=asked) if asked else ""
    winner = decision.winner
    if winner is None:
        return _nobody(decision, candidates, objective, limits, under)
    best, among = "highest" if objective.better > 0 else "lowest", _among(decision.meets_limits, bool(limits))
    lines = [phrases["best"].format(name=winner.name, best=best, title=objective.title, under=under, among=among)]
    quantities = {one.name: one for one in (*quantities_of(candidates, question), objective)}
    figures = [
        phrases["figure"].format(title=one.title, figure=winner.figures[name].text(one.unit))
        for name, one in quantities.items()
        if name in winner.figures
    ]
    lines.append("  " + ", ".join(figures))
    lines.append(_runner_up(winner, decision.runner_up, objective))
    near = [one for one in decision.rivals if not elsewhere(winner, one)]
    far = [one for one in decision.rivals if elsewhere(winner, one)]
    lines += [_unclear(winner, near, objective)] if near else []
    lines += [_unclear(winner, far, objective, candidates)] if far else []
    lines += [
        phrases["uncertain"].format(option=limit.option, bound=limit.quantity.bound(limit.bound))
        for limit in limits
        if not limit.certain(winner)
    ]
    lines += _unknown(candidates, limits)
    lines += [text for change in decision.changes if (text := _change(change, winner, objective))]
    lines.append(on_front(candidates, question))
    return [line for line in lines if line]


def _runner_up(winner: Candidate, other: Candidate | None, objective: Quantity) -> str:
    if other is None:
        return PHRASES["no runner-up"]
    return PHRASES["runner-up"].format(
        name=other.name, figure=other.figures[objective.name].text(objective.unit),
        share=f"{abs(_share(winner, other, objective)):.1f}", direction="less" if objective.better > 0 else "more",
        elsewhere=PHRASES[where] if (where := elsewhere(winner, other)) else "",
    )  # fmt: skip


def elsewhere(one: Candidate, other: Candidate) -> str:
    """Which of PHRASES says that two cells are not of one card and run; "" where they are."""
    if two_cards(one.card, other.card):
        return "on another card"
    return "in another run" if one.row.get("run") != other.row.get("run") else ""


def in_brief(decision: Decision, objective: Quantity) -> str:
    """` (UNCLEAR against NAME and 2 more: measured on two GPUs of this kind)`, by the nearest rival; "" where the winner is clear."""
    winner = decision.winner
    if winner is None or not decision.rivals:
        return ""
    nearest, *others = decision.rivals
    more = f" and {len(others)} more" if others else ""
    best, other = (one.figures[objective.name] for one in (winner, nearest))
    if two_cards(winner.card, nearest.card):
        why = OF_TWO_CARDS
    elif not (best.over_workers and other.over_workers):
        why = PHRASES["one worker"]
    else:
        why = PHRASES["overlap" if overlap(best, other) else "unknown"]
    return f" (UNCLEAR against {nearest.name}{more}: {why})"


def _unclear(
    winner: Candidate, rivals: Sequence[Candidate], objective: Quantity, among: Sequence[Candidate] | None = None
) -> str:
    """Why the winner is not beyond doubt, and what would tell: more workers, or where the rivals are of other cards or runs (among:
    all candidates then) one run of both."""
    best, *others = (one.figures[objective.name] for one in (winner, *rivals))
    reasons = [PHRASES["overlap"]] if any(overlap(best, other) for other in others) else []
    reasons += [PHRASES["unknown"]] if any(None in (figure.low, figure.high) for figure in (best, *others)) else []
    reasons += [PHRASES["one worker"]] if not all(figure.over_workers for figure in (best, *others)) else []
    more = f" and {len(rivals) - MOST_NAMES} more" if len(rivals) > MOST_NAMES else ""
    names = ", ".join(one.name for one in rivals[:MOST_NAMES])
    workers = more_workers(max(one.workers for one in (winner, *rivals)))
    advice = PHRASES["more workers"].format(workers=workers)
    if among is not None:
        cards = any(two_cards(winner.card, one.card) for one in rivals)
        reasons.append(PHRASES["other card" if cards else "other run"])
        first, second = (next(n for n, one in enumerate(among) if one is own) for own in (winner, rivals[0]))
        command = in_one_run(choices([one.row for one in among]), first, second, workers)
        advice = PHRASES["one card" if cards else "one run"].format(
            where="" if winner.row.get("device") == "cpu" else PHRASES["on one GPU"],
            command=f": {command}" if command else ".",
        )
    return PHRASES["unclear"].format(names=names, more=more, reasons="; ".join(reasons), advice=advice)


def more_workers(most: int) -> int:
    """How many would tell, where so many did not."""
    return WORKERS if most < WORKERS else most + MORE


def _among(count: int, limited: bool) -> str:
    if count == 1:
        return PHRASES["only that meets" if limited else "only"]
    return PHRASES["among that meet" if limited else "among"].format(count=count)


def _sign(limit: Limit) -> str:
    return "at most" if limit.quantity.better < 0 else "at least"


def _share(winner: Candidate, other: Candidate, objective: Quantity) -> float:
    value = winner.figures[objective.name].value
    return 100 * (other.figures[objective.name].value / value - 1) if value else 0.0


def _change(change: Change, winner: Candidate, objective: Quantity) -> str:
    quantity, option = change.limit.quantity, change.limit.option
    bound = quantity.reached(change.bound)
    if change.loosened:
        if change.winner is None:
            return ""
        figure = change.winner.figures[objective.name].text(objective.unit)
        return PHRASES["loosened"].format(
            option=option, bound=bound, unit=quantity.behind, name=change.winner.name, figure=figure
        )
    then = PHRASES["then"].format(name=change.winner.name) if change.winner else PHRASES["then nobody"]
    beyond = "Below" if quantity.better < 0 else "Above"
    return PHRASES["tightened"].format(beyond=beyond, option=option, bound=bound, unit=quantity.behind, then=then)


def _nobody(
    decision: Decision, candidates: Sequence[Candidate], objective: Quantity, limits: Sequence[Limit], under: str
) -> list[str]:
    phrases, count = PHRASES, len(candidates)
    lines = [
        phrases["nobody"].format(under=under) if limits else phrases["nothing known"].format(title=objective.title)
    ]
    lines += _unknown(candidates, limits)
    lacking = sum(objective.name not in one.figures for one in candidates)
    if lacking and limits:
        lines.append(phrases["objective unknown"].format(count=lacking, all=count, Title=_capital(objective.title)))
    near = decision.nearest
    if near is not None:
        missed = " and ".join(_missed(limit, near) for limit in limits if not limit.met(near))
        lines.append(phrases["nearest"].format(name=near.name, missed=missed))
    return lines


def _unknown(candidates: Sequence[Candidate], limits: Sequence[Limit]) -> list[str]:
    """Of each limit, how many cells it leaves out because nothing is known of them: they may meet it all the same."""
    lines = []
    for limit in limits:
        count = sum(limit.quantity.name not in one.figures for one in candidates)
        if count:
            lines.append(
                PHRASES["limit unknown"].format(count=count, all=len(candidates), Title=_capital(limit.quantity.title))
            )
    return lines


def _capital(title: str) -> str:
    return title[:1].upper() + title[1:]


def _missed(limit: Limit, near: Candidate) -> str:
    quantity = limit.quantity
    words = {"title": quantity.title, "option": limit.option, "bound": quantity.bound(limit.bound)}
    if quantity is PRECISION:
        return PHRASES["too coarse"].format(**words, figure=near.precision)
    return PHRASES["missed"].format(
        **words, figure=near.figures[quantity.name].text(quantity.unit), factor=f"{limit.excess(near):.2f}",
        side="over" if quantity.better < 0 else "under",
    )  # fmt: skip


def front(candidates: Sequence[Candidate], question: Question) -> tuple[list[Quantity], list[Candidate]]:
    """The cells that no other beats in all of throughput, latency and energy per image, as far as these are known."""
    quantities = [
        one
        for one in quantities_of(candidates, question)
        if one is not POWER and any(one.name in candidate.figures for candidate in candidates)
    ]
    points = [[c.figures[q.name].value if q.name in c.figures else math.nan for q in quantities] for c in candidates]
    best = pareto.front(points, [q.better for q in quantities])
    return quantities, [one for one, on in zip(candidates, best, strict=True) if on]


def on_front(candidates: Sequence[Candidate], question: Question) -> str:
    """The names of `front`; "" where fewer than two of its figures are known."""
    quantities, best = front(candidates, question)
    if len(quantities) < 2:
        return ""
    names = "; ".join(one.name for one in sorted(best, key=lambda one: (one.batch_size, one.name))[:MOST_ON_FRONT])
    more = f" and {len(best) - MOST_ON_FRONT} more" if len(best) > MOST_ON_FRONT else ""
    return f"On the Pareto front of {', '.join(q.title for q in quantities)}: {names}{more}."
