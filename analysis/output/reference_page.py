"""The README.md of a folder of reference runs: machine, software, tables, runs, and by name what of their plan is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from analysis import style
from analysis.database.connection import Database, Row
from analysis.database.open_runs import open_runs
from analysis.output import reference_runs, reference_table
from analysis.output.reference_runs import Folder
from common.host.frameworks.generated_pages import between_marks
from common.host.whole_files import write_text
from common.text import markdown
from common.typed_json import parse_object

_TEMPLATE = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), undefined=jinja2.StrictUndefined,
    trim_blocks=True, lstrip_blocks=True,
).get_template("reference.md.j2")  # fmt: skip
MOST_COMMANDS = 4
#: of `versions` of a cell, beside the framework's own: what makes a figure another one
_LIBRARIES = ("cuda_runtime", "cudnn", "tensorrt", "keras", "jax")


def render(folder: Folder, cache: Path) -> str:
    """What stands between the marks of the folder's README."""
    with open_runs(folder.runs, cache / "analysis") as database:
        documents = [database.documents[name] for name in sorted(database.runs)]
        rows = database.query("SELECT * FROM comparison ORDER BY ALL")
        devices = sorted({str(row["device_name"] or row["device"]) for row in rows})
        return _TEMPLATE.render(
            title=f"Reference runs on {' and '.join(map(markdown, devices))}",
            folder=folder.name,
            facts=_facts(database, documents),
            tables=reference_table.of_database(database) or "No such cell was measured.",
            runs=[_run(name, [row for row in rows if row["run"] == name]) for name in sorted(database.runs)],
            failed=_failed(rows),
            plans=[
                {"name": name, "sentence": found.sentence(), "lines": [markdown(line) for line in found.lines()]}
                for name, found in reference_runs.of_plans(folder, cache).items()
            ],
        ).strip("\n")  # fmt: skip


def updated(folder: Folder, cache: Path) -> str:
    """The README's whole text; what people wrote around the marks stays. Raises UserError when the marks are gone."""
    page = folder.path / reference_runs.README
    before = page.read_text() if page.is_file() else f"{reference_runs.BEGIN}\n{reference_runs.END}\n"
    return between_marks(str(page), before, reference_runs.BEGIN, reference_runs.END, render(folder, cache))


def write(folder: Folder, cache: Path) -> Path:
    page = folder.path / reference_runs.README
    write_text(page, updated(folder, cache))
    return page


def _facts(database: Database, documents: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    dates = sorted({str(one.get("created_utc", ""))[:10] for one in documents} - {""})
    models = database.query("SELECT DISTINCT model, model_hash, weights FROM results ORDER BY ALL")
    return [
        ("Machine", "; ".join(_distinct(_machine(one) for one in documents))),
        ("GPUs", ", ".join(_distinct(_gpus(documents)))),
        ("Date", f"{' to '.join(dict.fromkeys((dates[0], dates[-1])))} (UTC)" if dates else "unknown"),
        ("Software", "; ".join(_software(database))),
        ("Models", "; ".join(f"{row['model']} {row['model_hash']}, {row['weights']} weights" for row in models)),
        ("Windows", "; ".join(_distinct(_windows(one) for one in documents))),
        ("How", _commands(documents)),
    ]  # fmt: skip


def _gpus(documents: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f"{gpu.get('name')} {gpu.get('uuid')}" for one in documents for gpu in one.get("devices") or []]


def _commands(documents: Sequence[Mapping[str, Any]]) -> str:
    commands = list(dict.fromkeys(str(one.get("command", "unknown")).replace("`", "'") for one in documents))
    more = (
        f"; {len(commands) - MOST_COMMANDS} more stand in each run's run.json" if len(commands) > MOST_COMMANDS else ""
    )
    return "; ".join(f"`{command}`" for command in commands[:MOST_COMMANDS]) + more


def _distinct(texts: Iterable[str]) -> list[str]:
    """Each text once, in order of first use, safe in Markdown."""
    return [markdown(text) for text in dict.fromkeys(texts)]


def _machine(document: Mapping[str, Any]) -> str:
    host = document.get("host") or {}
    gpus = document.get("devices") or [{}]
    gpu = gpus[0]
    cores = host.get("usable_cores") or host.get("logical_cores")
    memory = host.get("memory_bytes")
    words = [
        f"{len(gpus)} x {gpu.get('name', 'unknown')}" if len(gpus) > 1 else str(gpu.get("name", "unknown")),
        f"driver {gpu.get('driver', 'unknown')} (CUDA {gpu.get('cuda', 'unknown')})",
        *([f"power limit {gpu['power_limit_mw'] / 1e3:g} W"] if gpu.get("power_limit_mw") else []),
        *([f"ECC {'on' if gpu['ecc'] else 'off'}"] if gpu.get("ecc") is not None else []),
        *([f"PCIe {gpu['pcie_generation']} x{gpu['pcie_width']}"] if gpu.get("pcie_generation") and gpu.get("pcie_width") else []),
        f"{cores} cores of {host.get('cpu_model', 'unknown')}",
        *([f"{memory / 2**30:.0f} GiB"] if memory else []),
        *(["in a virtual machine"] if host.get("hypervisor") else []),
        str(host.get("os", "unknown system")),
    ]  # fmt: skip
    return ", ".join(words)


def _software(database: Database) -> list[str]:
    """`PyTorch 2.11.0 (Python 3.12.3; cudnn 91900)` of each framework, each combination once."""
    found: dict[tuple[str, str], list[str]] = {}
    rows = database.query(
        "SELECT DISTINCT variant, framework_version, versions, python_version, runner FROM cells "
        "WHERE framework_version IS NOT NULL ORDER BY ALL"
    )
    for row in rows:
        known = parse_object(row["versions"] or "") or {}
        libraries = [f"{name} {known[name]}" for name in _LIBRARIES if known.get(name)]
        more = [
            f"Python {row['python_version']}",
            *libraries,
            "processes" if row["runner"] == "local" else f"{row['runner']}",
        ]
        titles = found.setdefault((row["framework_version"], "; ".join(more)), [])
        title = style.look(row["variant"]).title
        if title not in titles:
            titles.append(title)
    return [
        f"{markdown(', '.join(titles))} {markdown(f'{version} ({more})')}" for (version, more), titles in found.items()
    ]


def _windows(document: Mapping[str, Any]) -> str:
    settings = document.get("settings") or {}
    shown = [
        f"{settings.get(name, 'unknown')} s"
        for name in ("min_seconds", "max_seconds", "warmup_max_seconds", "idle_seconds")
    ]
    return "{} to {}, warm-up of at most {}, idle phases of {}".format(*shown)


def _run(name: str, rows: Sequence[Row]) -> list[str]:
    """A line of the table of runs."""
    words = [_listed(rows, column) for column in ("model", "variant", "precision", "tuning", "io")]
    words += [_listed(rows, "input")] if any(row["input"] != "float32" for row in rows) else []
    words += [_listed(rows, "scenario")] if any(row["scenario"] != "single-stream" for row in rows) else []
    words += [f"batch {_listed(rows, 'batch_size')}"]
    ok = sum(row["status"] == "ok" for row in rows)
    workers = sorted({row["replicates"] for row in rows if row["status"] == "ok"})
    date = str(rows[0]["created_utc"])[:10] if rows else "–"
    what = markdown("; ".join(words)) if rows else "no cell"
    return [name, what, f"{ok} of {len(rows)}", " or ".join(map(str, workers)) or "–", date]


def _listed(rows: Sequence[Row], column: str) -> str:
    return ", ".join(str(value) for value in sorted({row[column] for row in rows}))


def _failed(rows: Sequence[Row]) -> list[str]:
    """What has no figure, by status and reason: frameworks with how many cells of each."""
    reasons: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["status"] != "ok":
            reasons.setdefault(
                (row["status"], str(row["message"] or "no reason given").split("\n")[0][:160]), []
            ).append(row)
    lines = []
    for (status, message), members in sorted(reasons.items()):
        names = Counter(f"{row['model']} {style.full_title(row)} {row['precision']}" for row in members)
        listed = ", ".join(f"{name} ({count})" for name, count in names.items())
        lines.append(
            f"{markdown(status)}, {len(members)} {'cell' if len(members) == 1 else 'cells'}: {markdown(listed)}: {markdown(message)}"
        )
    return lines
