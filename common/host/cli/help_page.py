"""`invoke --help TASK` and `invoke --list`, by subject instead of by alphabet."""

from __future__ import annotations

import inspect
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from invoke.parser.argument import Argument
from invoke.tasks import Task

#: the tasks in the order in which people meet them
TASKS = {
    "Measure": ("demo", "bench", "sweep", "peak", "explain", "plan", "fleet up-check", "fleet sweep"),
    "Understand": ("analyze", "report", "recommend", "recipe", "compare", "history", "sql", "import"),
    "Prepare and look after": (
        "doctor", "frameworks", "build", "export", "new", "keep", "clean", "verify", "selfbench", "test", "compose", "lock",
    ),
}  # fmt: skip
#: what stands for the value of an option, where NUMBER or TEXT would say too little
VALUES = {
    "framework": "NAMES", "batch-sizes": "SIZES", "precision": "NAMES", "tuning": "NAMES", "input": "NAMES", "io": "NAMES",
    "frontend": "NAMES", "network": "NAME", "only": "TESTS", "command": "COMMAND",
    "model": "MODEL", "plan": "FILE", "again": "MARKS", "missing": "RUNS", "metric": "METRIC", "version": "VERSIONS",
    "shape": "SIZES", "inputs": "FILE", "input-range": "LOW,HIGH", "mean": "NUMBERS", "std": "NUMBERS", "item": "NAME",
    "image": "FILE", "device": "cpu|gpu", "gpu": "GPU", "runner": "local|docker", "python": "FILE", "scenario": "NAMES",
    "streams": "NUMBERS", "rate": "RATES", "gpu-driver": "nvidia|cdi", "cpus": "LIST", "memory": "SIZE", "shm": "SIZE",
    "tmp": "SIZE", "cool-to": "CELSIUS", "cell-timeout": "SECONDS", "longest-try": "SECONDS", "run": "RUN",
    "where": "CONDITIONS", "pivot": "COLUMN", "sort": "COLUMNS", "tables": "METRICS", "baseline": "NAME", "out": "FOLDER",
    "cell-a": "CONDITIONS", "cell-b": "CONDITIONS", "trace": "FILE", "address": "HOST:PORT", "accelerators": "NAMES",
    "checkout": "FOLDER", "query": "SQL", "path": "PATH", "gpu-ordinal": "NUMBER", "gpu-name": "NAME", "base": "IMAGE",
    "package": "NAME", "title": "NAME", "module": "NAME", "batch-size": "NUMBER", "percentile": "50|90|95|99",
    "objective": "NAME", "weights": "NAME", "format": "NAME", "per-accelerator": "NUMBER", "max-latency-ms": "MS",
    "max-p99-ms": "MS", "batch-window-ms": "MS", "max-power-w": "WATTS", "min-throughput": "RATE",
    "min-precision": "NAME", "price-per-kwh": "PRICE",
    "peak-tflops": "TFLOPS", "gflop-per-image": "GFLOP", "copy-gb-s": "GBPS",
}  # fmt: skip
#: what stands for the bare words of a task, where these are not all of one kind
WORDS = {"recipe": "CELL [RUN ...]"}
_EXAMPLES = "Examples:"
_WIDEST = 110


def task_page(name: str, task: Task[Any], arguments: Iterable[Argument]) -> str:
    """What `invoke --help NAME` prints: usage, what the task does, its options by subject, examples."""
    width = min(shutil.get_terminal_size((100, 24)).columns, _WIDEST)
    description, _, examples = (inspect.getdoc(task.body) or "").partition(f"\n\n{_EXAMPLES}\n")
    arguments = list(dict.fromkeys(arguments))
    words = [f" [{_value(one)} ...]" if one.kind is list else f" {_value(one)}" for one in arguments if _is_word(one)]
    if name in WORDS:
        words = [f" {WORDS[name]}"]
    lines = [f"Usage: invoke {name}{''.join(words)} [options]", ""]
    for paragraph in description.split("\n\n"):
        lines += [*textwrap.wrap(" ".join(paragraph.split()), width), ""]
    for heading, members in _by_subject(arguments, getattr(task.body, "option_groups", {})):
        lines += [heading, *_columns([(_flag(one, name), one.help or "") for one in members], width), ""]
    if examples:
        lines += ["Examples", *(f"  {line.strip()}" for line in examples.splitlines() if line.strip()), ""]
    return "\n".join(lines)


def task_list(helps: Mapping[str, str]) -> str:
    """What `invoke --list` prints. helps: task -> its sentence."""
    width = min(shutil.get_terminal_size((100, 24)).columns, _WIDEST)
    listed = {name for names in TASKS.values() for name in names}
    subjects = {**TASKS, "Others": tuple(sorted(set(helps) - listed))}
    longest = max(map(len, helps), default=0)
    lines = ["Usage: invoke TASK [options]; invoke --help TASK lists the options of a task", ""]
    for heading, names in subjects.items():
        pairs = [(name, helps[name]) for name in names if name in helps]
        if pairs:
            lines += [heading, *_columns(pairs, width, longest), ""]
    return "\n".join(lines)


def _by_subject(arguments: Sequence[Argument], groups: Mapping[str, str]) -> list[tuple[str, list[Argument]]]:
    """(heading, options): what is the task's own first, then the groups in the order of their first option, --debug last."""
    found: dict[str, list[Argument]] = {"Options": []}
    for group in groups.values():
        found.setdefault(group, [])
    for one in arguments:
        found.setdefault("Other" if one.name == "debug" else groups.get(_name(one), "Options"), []).append(one)
    others = found.pop("Other", [])
    subjects = [(heading, members) for heading, members in found.items() if members]
    if not others:
        return subjects
    return [*subjects, ("Other", others)] if len(subjects) != 1 else [(subjects[0][0], [*subjects[0][1], *others])]


def _name(argument: Argument) -> str:
    """As typed, with dashes; `argument.name` is the parameter's."""
    return str(argument.names[0])


def _is_word(argument: Argument) -> bool:
    """Whether it is typed as a bare word. What takes several words is an iterable to invoke, see program.with_named_words."""
    return bool(argument.positional) or (argument.kind is list and _name(argument) == "run")


def _flag(argument: Argument, task: str) -> str:
    if _is_word(argument):
        return WORDS.get(task, _value(argument))
    return f"--{_name(argument)}" + (f" {_value(argument)}" if argument.takes_value else "")


def _value(argument: Argument) -> str:
    name = _name(argument)
    if (argument.help or "").startswith("file "):
        return "FILE"
    if name in VALUES:
        return VALUES[name]
    if name.endswith("seconds"):
        return "SECONDS"
    return "NUMBER" if argument.kind in (int, float) else name.upper() if _is_word(argument) else "TEXT"


def _columns(pairs: Sequence[tuple[str, str]], width: int, longest: int = 0) -> list[str]:
    """Names at the left, their texts beside them."""
    left = min(max(longest, *(len(name) for name, _ in pairs)), 26)
    lines: list[str] = []
    for name, text in pairs:
        chunks = textwrap.wrap(text, max(20, width - left - 4), break_long_words=False, break_on_hyphens=False) or [""]
        if len(name) > left:
            lines.append(f"  {name}")
            name = ""
        lines.append(f"  {name:<{left}}  {chunks[0]}".rstrip())
        lines += [f"  {'':<{left}}  {chunk}" for chunk in chunks[1:]]
    return lines
