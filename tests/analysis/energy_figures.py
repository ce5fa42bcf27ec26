"""Prints how far the view `energy` is off on boards of known truth, for docs/method.md: `python -m tests.analysis.energy_figures`.

The same boards, seeds and numbers of runs as in test_energy_truth.py, which holds the bounds.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np

from common.host.devices import cpu_model
from tests.analysis import test_energy_truth as truth
from tests.analysis.faulty_boards import KINDS
from tests.analysis.nvml_simulator import Measurement
from tests.analysis.test_faulty_boards import judged


def rows_of(measurements: list[Measurement], seed: int, around_s: float = 0.8) -> list[dict[str, float]]:
    with tempfile.TemporaryDirectory(prefix="framewatt-") as folder:
        return truth._energy(Path(folder), measurements, seed, around_s)


def gross(
    name: str, seed: int, make: Callable[[np.random.Generator], list[Measurement]], around_s: float = 0.8
) -> None:
    measurements = make(np.random.default_rng(seed))
    rows = rows_of(measurements, seed + 1, around_s)
    errors = np.array([row["gross_j"] - m.true_j for row, m in zip(rows, measurements, strict=True)])
    shares = 100 * np.abs(errors) / np.array([m.true_j for m in measurements])
    within = np.mean(np.abs(errors) <= [row["uncertainty_j"] for row in rows])
    middle, most, worst = np.median(shares), np.quantile(shares, 0.95), shares.max()
    print(f"{name}: {len(rows)} runs; error {middle:.2f}, {most:.2f}, {worst:.2f} %; within {within:.1%}", flush=True)


def faults(name: str, make: Callable[[np.random.Generator], Measurement], seed: int) -> None:
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory(prefix="framewatt-") as folder:
        found = judged(Path(folder), [make(rng) for _ in range(100)], seed + 1000)
    gross, net = (np.array([100 * abs(row[at]) for row in found if row[at] is not None]) for at in (0, 1))
    unmarked = [max(abs(row[0]), abs(row[1] or 0)) > 0.02 for row in found if not row[2]]
    reported = f"net {np.median(net):.2f}, {net.max():.1f} %" if len(net) else "net unknown"
    print(
        f"{name}: {len(found)} runs; gross {np.median(gross):.2f}, {gross.max():.1f} %; {reported}; "
        f"marked {len(found) - len(unmarked)}; beyond 2 % without a mark {sum(unmarked)}",
        flush=True,
    )


def main() -> None:
    print(f"{cpu_model()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}, {date.today()}")
    gross("steady", 11, lambda rng: [truth._steady(rng, counter_from_sensor=i % 2 == 1) for i in range(400)])
    gross("steady without a counter", 31, lambda rng: [truth._steady(rng, counter=False) for _ in range(150)])
    gross(
        "half of the power comes and goes",
        15,
        lambda rng: [truth._steady(rng, ripple=0.5, counter_from_sensor=i % 2 == 1) for i in range(300)],
    )
    gross("a step within the window", 21, lambda rng: [truth._step(rng) for _ in range(150)])
    for counter in (True, False):
        name = "bursts" if counter else "bursts without a counter"
        gross(name, 41 + counter, lambda rng, c=counter: [truth._burst(rng, counter=c) for _ in range(1000)], 0.5)
    gross("constant", 51, lambda rng: [truth._constant(rng, 5.0) for _ in range(50)])

    for number, (name, make) in enumerate(KINDS.items()):
        faults(name, make, number)

    rng = np.random.default_rng(91)
    measurements, load_w, _ = zip(*(truth._warming(rng) for _ in range(300)), strict=True)
    rows = rows_of(list(measurements), 92)
    true_j = 5 * np.array(load_w)
    for name, idle in (
        ("line through both", "idle_w"),
        ("before alone", "idle_before_w"),
        ("after alone", "idle_after_w"),
    ):
        net = np.array([row["gross_j"] - 5 * row[idle] for row in rows])
        shares = 100 * np.abs(net / true_j - 1)
        print(
            f"net of idle, {name}: {len(rows)} runs; error {np.median(shares):.2f}, {np.quantile(shares, 0.95):.2f}, "
            f"{shares.max():.2f} %; on average {100 * np.mean(net / true_j - 1):+.2f} %",
            flush=True,
        )


if __name__ == "__main__":
    main()
