"""The command line as people type it: several names after a task, one line and exit code 2 for a typo."""

from __future__ import annotations

import subprocess
import sys

import pytest

from common.host.cli.program import with_joined_names
from common.host.paths import ROOT


def invoke(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "common.host.cli.program", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bensh"], "unknown task 'bensh'; there is"),
        (["bench", "--framwork", "x"], "unknown option '--framwork'; there is"),
        (["bench", "--replicates", "many"], "--replicates 'many' is not a whole number"),
        (["bench", "--min-seconds", "soon"], "--min-seconds 'soon' is not a number"),
        (["bench", "--framework"], "--framework"),
        (["analyze", "no-such-run", "nor-this"], "unknown run 'no-such-run'"),
        (["bench"], "which framework?"),
        (["fleet"], "fleet what? there is fleet sweep, fleet up-check"),
        (["fleet", "swep"], "fleet what? there is fleet sweep, fleet up-check"),
        (["fleet", "sweep", "--adress", "x"], "unknown option '--adress'; there is"),
    ],
)
def test_a_typo_is_one_line_with_exit_code_2(words: list[str], said: str) -> None:
    done = invoke(*words)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_nearest_name_is_offered() -> None:
    assert "Did you mean bench?" in invoke("bensh").stderr
    assert "Did you mean --framework?" in invoke("bench", "--framwork", "x").stderr


def test_a_task_of_two_words() -> None:
    assert "  fleet up-check" in invoke("--list").stdout
    for words in (["--help", "fleet", "up-check"], ["fleet", "up-check", "--help"]):
        done = invoke(*words)
        assert done.returncode == 0, done.stderr
        assert "[--core-opts] fleet up-check [--options]" in done.stdout
        assert "--address=STRING" in done.stdout


def test_only_words_that_are_a_tasks_name_are_joined() -> None:
    names = {"fleet sweep", "sql", "sweep"}
    assert with_joined_names(["fleet", "sweep", "--address", "x"], names) == ["fleet sweep", "--address", "x"]
    assert with_joined_names(["sql", "sweep", "fleet"], names) == ["sql", "sweep", "fleet"]


def test_a_traceback_only_when_asked_for() -> None:
    assert "Traceback" not in invoke("bench", "--framework", "nope").stderr
    assert "Traceback" in invoke("bench", "--framework", "nope", "--debug").stderr


def test_every_task_and_option_has_a_help_text() -> None:
    from invoke.collection import Collection
    from invoke.loader import FilesystemLoader

    module, _ = FilesystemLoader(start=str(ROOT)).load("tasks")
    for name, task in Collection.from_module(module).tasks.items():
        assert task.body.__doc__, name
        missing = [arg.name for arg in task.get_arguments() if not arg.help]
        assert not missing, f"{name}: no help for {missing}"


def test_help_says_default_and_effect_of_each_option() -> None:
    text = invoke("--help", "bench").stdout
    assert "--batch-sizes=STRING" in text
    assert text.count("default:") > 25
