"""The command line as people type it: several names after a task, one line and exit code 2 for a typo."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from invoke.collection import Collection

from common.host.cli.help_page import TASKS
from common.host.cli.program import with_joined_names
from common.host.paths import ROOT
from common.host.plan.options import GROUPS, Options

#: options that help texts name and that are not framewatt's
OF_OTHER_TOOLS = {"exportTimes", "head"}


@cache
def all_tasks() -> dict[str, Any]:
    """Of a module of their own: whoever makes arguments of tasks takes the help texts out of them."""
    spec = importlib.util.spec_from_file_location("tasks_with_help", ROOT / "tasks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return dict(Collection.from_module(module).tasks)


@cache
def arguments_of(name: str) -> list[Any]:
    """Once: making them takes the help texts out of the task."""
    return list(all_tasks()[name].get_arguments())


def task_names() -> list[str]:
    return list(all_tasks())


def invoke(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "common.host.cli.program", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bensh"], "unknown task 'bensh'; there is"),
        (["bench", "--framwork", "x"], "unknown option '--framwork'; there is"),
        (["bench", "--replicates", "many"], "--replicates 'many' is not a whole number"),
        (["bench", "--min-seconds", "soon"], "--min-seconds 'soon' is not a number"),
        (["bench", "--items-per-sample", "-1", "--dry-run"], "--items-per-sample must not be negative, and -1 is"),
        (["bench", "--idle-seconds=-1", "--dry-run"], "--idle-seconds must not be negative, and -1.0 is"),
        (["bench", "--framework"], "--framework"),
        (["analyze", "no-such-run", "nor-this"], "there is no run or path 'no-such-run'; runs in "),
        (["analyze", "no-such.tar.xz"], "no-such.tar.xz does not exist; a run is a folder"),
        (["bench", "onnxrt"], "invoke bench takes no word 'onnxrt'; its options begin with --"),
        (
            ["bench", "--plan", "demo", "--missing", "one", "two", "three"],
            "tells them. --missing takes several as a comma list: --missing one,two",
        ),
        (["bench", "--framework=torch", "onnxrt"], "takes several as a comma list: --framework torch,onnxrt"),
        (["bench", "--quick", "onnxrt"], "invoke --help bench tells them\n"),
        (["bench", "--model", "BERT-Tiny", "onnxrt"], "invoke --help bench tells them\n"),
        (["bench", "--framework", "onnxrt", "--batch-sizes", ""], "--batch-sizes is empty: give a value, or leave it"),
        (["bench", "--framework", "", "--tuning="], "--framework, --tuning are empty: give a value, or leave"),
        (["bench", "--plan", "demo", "--threads", "0"], "--threads must be at least 1, not 0"),
        (["bench", "--framework", "onnxrt", "--min-seconds", "0"], "--min-seconds must be more than zero, not 0"),
        (["verify", "--device", "cpu", "--threads", "0"], "--threads must be at least 1, not 0"),
        (["selfbench", "--order", "--threads", "0"], "--threads must be at least 1, not 0"),
        (["selfbench", "--order", "--batch-sizes", ""], "--batch-sizes is empty: give a value, or leave it out"),
        (["selfbench", "--order", "--framework", ""], "--framework is empty: give a value, or leave it out"),
        (["sql"], "invoke sql needs its query; invoke --help sql has examples"),
        (["new"], "invoke new needs its framework; invoke --help new has examples"),
        (["help"], "invoke --list shows the tasks, invoke --help TASK the options of one"),
        (["--plan", "demo"], "--plan comes after a task's name, such as invoke bench --plan"),
        (["--help", "bensh"], "unknown task 'bensh'; there is"),
        (["--list", "bensh"], "unknown task 'bensh'; there is"),
        (["peak", "--framework", "onnxrt", "--device", "cpu"], "which bound? give --max-p99-ms"),
        (["compare", "data/reference/h100", "data/reference/h200"], "hold 30 runs, and compare takes two"),
        (
            ["compare", "data/reference/h100", "data/reference/h200"],
            "invoke report --compare data/reference/h100 data/",
        ),
        (["explain", "data/reference/h200"], "name one of them, or two; invoke report data/reference/h200 shows"),
        (
            ["explain", "data/reference/h200", "--trace", "/no/such/t.json"],
            "cannot write /no/such/t.json: there is no folder",
        ),
        (["explain", "data/reference/h200", "--trace", "tests"], "/tests: it is a folder, and has to be a file"),
        (["bench"], "which framework?"),
        (["sql", ""], "the query is empty"),
        (["sql", "tests"], "tests is a run or a path, not a query"),
        (["sql", "no/such/path"], "no/such/path is a run or a path, not a query"),
        (["analyze", "no/such/path"], "no/such/path does not exist"),
        (["analyze", "tests/docs"], "tests/docs is a folder without a run.json"),
        (["analyze", "README.md"], "README.md is a file, but none that ends in .tar.xz"),
        (["fleet"], "fleet what? there is fleet sweep, fleet up-check"),
        (["fleet", "swep"], "fleet what? there is fleet sweep, fleet up-check"),
        (["fleet", "sweep", "--plan", "demo"], "invoke fleet sweep has no --plan; bench"),
        (["fleet", "sweep", "--adress", "x"], "unknown option '--adress'; there is"),
    ],
)
def test_a_typo_is_one_line_with_exit_code_2(words: list[str], message: str) -> None:
    done = invoke(*words)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_what_is_typed_for_one_of_two_tasks_is_not_looked_for_in_the_other() -> None:
    done = invoke("export", "--list", "--shape", "x=1", "plan", "--framework", "onnxrt")
    assert done.returncode == 0, done.stderr
    assert 'framework = ["onnxrt"]' in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [([], "./invoke --list, in this folder, shows the tasks"), (["-S", "-c", "import tasks"], "run ./invoke in this folder")],
    ids=["python tasks.py", "an invoke of another Python"],
)  # fmt: skip
def test_tasks_without_this_checkouts_environment_are_one_line(
    tmp_path: Path, options: list[str], message: str
) -> None:
    (tmp_path / "invoke").mkdir()
    for name in ("__init__", "context", "tasks"):  # of an invoke that is installed where nothing else is
        (tmp_path / "invoke" / f"{name}.py").write_text("Context = task = None\n")
    command = [sys.executable, *(options or ["tasks.py"])]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_what_is_a_file_is_called_one_and_words_of_two_kinds_have_their_names() -> None:
    page = invoke("--help", "recipe").stdout
    assert page.startswith("Usage: invoke recipe CELL [RUN ...] [options]")
    assert "--out FILE " in page
    assert "--out FOLDER " in invoke("--help", "compare").stdout


def test_the_nearest_name_is_offered() -> None:
    assert "Did you mean bench?" in invoke("bensh").stderr
    assert "Did you mean --framework?" in invoke("bench", "--framwork", "x").stderr


def test_a_task_of_two_words() -> None:
    assert "  fleet up-check" in invoke("--list").stdout
    for words in (["--help", "fleet", "up-check"], ["fleet", "up-check", "--help"]):
        done = invoke(*words)
        assert done.returncode == 0, done.stderr
        assert "Usage: invoke fleet up-check [options]" in done.stdout
        assert "--address HOST:PORT" in done.stdout


@pytest.mark.parametrize("task", ["import", "sql", "new", "report", "bench"])
def test_help_may_follow_a_task_that_needs_words(task: str) -> None:
    done = invoke(task, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: invoke {task} ")


def test_only_words_that_are_a_tasks_name_are_joined() -> None:
    names = {"fleet sweep", "sql", "sweep"}
    assert with_joined_names(["fleet", "sweep", "--address", "x"], names) == ["fleet sweep", "--address", "x"]
    assert with_joined_names(["sql", "sweep", "fleet"], names) == ["sql", "sweep", "fleet"]


def test_a_traceback_only_when_asked_for() -> None:
    assert "Traceback" not in invoke("bench", "--framework", "nope").stderr
    assert "Traceback" in invoke("bench", "--framework", "nope", "--debug").stderr


def test_every_task_and_option_has_a_help_text() -> None:
    for name, task in all_tasks().items():
        assert task.body.__doc__, name
        missing = [arg.name for arg in arguments_of(name) if not arg.help]
        assert not missing, f"{name}: no help for {missing}"


def test_help_says_default_and_effect_of_each_option() -> None:
    text = invoke("--help", "bench").stdout
    assert "--batch-sizes SIZES" in text
    assert text.count("default:") > 25


@pytest.mark.parametrize("name", sorted(task_names()))
def test_a_help_page_fits_80_columns_and_names_the_kind_of_each_value(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    page, _, _ = invoke("--help", *name.split()).stdout.partition("\nExamples\n")  # these are for copying
    assert [line for line in page.splitlines() if len(line) > 80] == []
    assert not re.search(r"^  --\S+ TEXT\b", page, re.MULTILINE)


def test_the_options_of_bench_stand_by_subject_each_once_and_with_examples() -> None:
    text = invoke("--help", "bench").stdout
    lines = text.splitlines()
    places = [lines.index(heading) for heading in (*GROUPS, "Other", "Examples")]
    assert places == sorted(places)
    for option in fields(Options):
        if "help" in option.metadata:
            flag = f"--{option.name.replace('_', '-')}"
            (own,) = [
                number for number, line in enumerate(lines) if line.startswith(f"  {flag}") and line.split()[0] == flag
            ]
            heading = max(place for place in places if place < own)
            assert lines[heading] == option.metadata["group"], flag
    assert "invoke bench --framework onnxrt,torch --gpu 0" in text[text.index("\nExamples") :]


def test_the_list_of_tasks_stands_by_subject_and_leaves_none_out() -> None:
    shown = invoke("--list").stdout
    assert invoke("--help").stdout == shown
    names = [name for members in TASKS.values() for name in members]
    assert sorted(names) == sorted(task_names())
    assert all(f"\n  {name} " in shown for name in names)
    assert "\nOthers\n" not in shown


@pytest.mark.parametrize("name", sorted(task_names()))
def test_every_help_text_says_what_happens_without_the_option_and_names_no_option_that_there_is_not(name: str) -> None:
    task = all_tasks()[name]
    flags = {str(argument.names[0]) for argument in arguments_of(name)}
    known = {str(argument.names[0]) for other in all_tasks() for argument in arguments_of(other)} | OF_OTHER_TOOLS
    for argument in arguments_of(name):
        if not argument.positional:
            assert re.search(r"\b(no )?default\b", argument.help or "") or argument.kind is list, argument.names[0]
        for named in re.findall(r"--([A-Za-z][A-Za-z0-9-]*)", argument.help or ""):
            assert named in known, f"{argument.names[0]}: --{named}"
    first = (task.body.__doc__ or "").partition("\n")[0]
    assert first.endswith((".", "?")) and len(first) < 110
    for example in re.findall(r"invoke (.+)", (task.body.__doc__ or "").partition("Examples:")[2]):
        assert example.startswith(name), example
        for named in re.findall(r"--([a-z][a-z0-9-]*)", example):
            assert named in flags, example


def test_sweep_says_which_options_of_bench_it_does_not_take() -> None:
    lacking = {one.name for one in arguments_of("bench")} - {one.name for one in arguments_of("sweep")}
    named = re.findall(r"--([a-z-]+)", (all_tasks()["sweep"].__doc__ or "").split("Examples:")[0])
    assert lacking == {name.replace("-", "_") for name in named}
