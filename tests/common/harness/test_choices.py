"""What is chosen among several algorithms for a shape, and that the choice is remembered."""

from __future__ import annotations

import gc
import json
import re
import weakref
from pathlib import Path

import pytest

from common.harness import choices
from common.harness.adapter import DeviceOutOfMemory
from common.harness.choices import Algorithm, AlgorithmCache, fastest


class Fake:
    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self._log = name, log
        log.append(f"build {name}")

    def run(self) -> None:
        self._log.append(f"run {self.name}")

    def close(self) -> None:
        self._log.append(f"close {self.name}")


def algorithms(log: list[str], *names: str) -> list[Algorithm]:
    return [Algorithm(name, lambda name=name: Fake(name, log)) for name in names]  # type: ignore[misc]


def taking(**seconds: float):
    def measure(run):
        run()
        return seconds[run.__self__.name]

    return measure


def test_the_fastest_stays_and_all_others_are_closed() -> None:
    log: list[str] = []
    chosen = fastest(algorithms(log, "a", "b", "c"), seconds_per_run=taking(a=2, b=1, c=3))
    assert chosen.name == "b"
    assert [line for line in log if line.startswith("close")] == ["close a", "close c"]
    settings = chosen.settings()
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ, by this worker", settings.pop("trial_of"))
    assert settings == {"chosen": "b", "trial": "a: 2000.000 ms; b: 1000.000 ms; c: 3000.000 ms"}


@pytest.mark.parametrize(("run_s", "runs"), [(0.001, 300), (0.05, 6), (0.1, 5), (0.25, 5), (0.75, 3), (7.0, 1)])
def test_what_takes_seconds_is_not_run_five_times(monkeypatch: pytest.MonkeyPatch, run_s: float, runs: int) -> None:
    log: list[str] = []
    monkeypatch.setattr(choices.time, "perf_counter", lambda: len(log) * run_s)
    assert choices.median_seconds(lambda: log.append("run")) == pytest.approx(run_s)
    assert len(log) == pytest.approx(runs, abs=1 if runs > 100 else 0)


def test_one_algorithm_alone_is_not_timed() -> None:
    log: list[str] = []
    chosen = fastest(algorithms(log, "a"))
    assert (chosen.name, chosen.settings(), log) == ("a", {}, ["build a"])


def test_what_won_is_built_alone_the_next_time(tmp_path: Path) -> None:
    memory, log = AlgorithmCache(tmp_path / "deep" / "choices.json"), []  # type: ignore[var-annotated]
    first = fastest(algorithms(log, "a", "b"), memory, "key", taking(a=2, b=1))
    log.clear()
    again = fastest(algorithms(log, "a", "b"), memory, "key", taking(a=1, b=2))
    assert (again.name, again.tried, log) == ("b", first.tried, ["build b"])
    assert fastest(algorithms(log, "a", "b"), memory, "another key", taking(a=1, b=2)).name == "a"


def test_a_trial_of_an_earlier_worker_is_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times of a trial under load once stood beside a measurement of another day as if they were of it."""
    memory = AlgorithmCache(tmp_path / "choices.json")
    monkeypatch.setattr(choices, "now_utc", lambda: "2026-11-28T10:11:12Z")
    first = fastest(algorithms([], "a", "b"), memory, "key", taking(a=2, b=1))
    assert first.settings()["trial_of"] == "2026-11-28T10:11:12Z, by this worker"
    monkeypatch.setattr(choices, "now_utc", lambda: "2026-11-29T00:00:00Z")
    again = fastest(algorithms([], "a", "b"), memory, "key", taking(a=2, b=1))
    assert again.settings()["trial_of"] == "2026-11-28T10:11:12Z, by an earlier worker"
    assert again.settings()["trial"] == first.settings()["trial"]


@pytest.mark.parametrize("more", [{}, {"utc": 3}])
def test_of_a_trial_from_before_its_time_was_kept_it_is_unknown(tmp_path: Path, more: dict[str, int]) -> None:
    path = tmp_path / "choices.json"
    path.write_text(json.dumps({"key": {"chosen": "b", "tried": {"a": "2.000 ms", "b": "1.000 ms"}, **more}}))
    again = fastest(algorithms([], "a", "b"), AlgorithmCache(path), "key", taking(a=1, b=2))
    assert (again.name, again.settings()["trial_of"]) == ("b", "at an unknown time, by an earlier worker")


def test_what_won_and_no_longer_works_is_tried_anew(tmp_path: Path) -> None:
    memory = AlgorithmCache(tmp_path / "choices.json")
    memory.put("key", "broken", {"broken": "1 ms"})

    def fails() -> None:
        raise RuntimeError("no such kernel\nand more")

    chosen = fastest([Algorithm("broken", fails), *algorithms([], "a")], memory, "key", taking(a=1))
    assert chosen.name == "a"
    assert chosen.tried["broken"] == "no such kernel"


def test_where_nothing_works_the_last_failure_is_raised() -> None:
    def fails() -> None:
        raise DeviceOutOfMemory("full")

    with pytest.raises(DeviceOutOfMemory, match="full"):
        fastest([Algorithm("a", fails), Algorithm("b", fails)])


def test_a_choice_made_without_room_for_the_others_is_not_remembered(tmp_path: Path) -> None:
    def full() -> None:
        raise DeviceOutOfMemory("full")

    memory = AlgorithmCache(tmp_path / "choices.json")
    assert fastest([Algorithm("big", full), *algorithms([], "a")], memory, "key", taking(a=1)).name == "a"
    assert memory.get("key") is None


@pytest.mark.parametrize(
    "text", ["", "[]", "{", json.dumps({"key": {"chosen": 3, "tried": {}}}), json.dumps({"key": 1})]
)
def test_a_file_that_is_no_memory_is_as_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "choices.json"
    path.write_text(text)
    assert AlgorithmCache(path).get("key") is None
    assert fastest(algorithms([], "a", "b"), AlgorithmCache(path), "key", taking(a=2, b=1)).name == "b"
    assert AlgorithmCache(path).get("key") is not None


class Held:
    """What a way holds while it is built, such as buffers on a device."""


def test_what_a_failed_way_held_is_free_before_the_next_is_built() -> None:
    held: list[weakref.ref[Held]] = []

    def fails() -> Fake:
        buffers = Held()
        held.append(weakref.ref(buffers))
        try:
            raise ValueError("no such engine")
        except ValueError as error:
            raise RuntimeError("not built") from error

    def follows() -> Fake:
        gc.collect()
        assert held[0]() is None
        return Fake("b", [])

    chosen = fastest([Algorithm("a", fails), Algorithm("b", follows)], seconds_per_run=taking(b=1))
    assert chosen.name == "b"
    assert chosen.tried["a"] == "not built"


def test_what_won_for_want_of_memory_is_not_remembered(tmp_path: Path) -> None:
    """A framework's own class of error, and not of the last way."""

    class OutOfMemoryError(RuntimeError):
        pass

    def too_big() -> Fake:
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB")

    def fails() -> Fake:
        raise RuntimeError("cannot be captured")

    cache = AlgorithmCache(tmp_path / "choices.json")
    ways = [Algorithm("a", too_big), Algorithm("b", lambda: Fake("b", [])), Algorithm("c", fails)]
    assert fastest(ways, cache, "key", seconds_per_run=taking(b=1)).name == "b"
    assert cache.get("key") is None
