"""The notebooks of docs/notebooks run from top to bottom, and what they show is what comes out."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from common.host.frameworks import environments
from common.host.paths import ROOT
from common.host.runs.archive import unpacked

FOLDER = ROOT / "docs" / "notebooks"
NAMES = sorted(path.name for path in FOLDER.glob("*.ipynb"))


def read(name: str) -> Any:
    return nbformat.read(FOLDER / name, as_version=4)


def run(notebook: Any, **parameters: Any) -> Any:
    """Runs it where a user opens it; parameters replace those of its first code cell, as papermill does it."""
    (place,) = [i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", [])]
    lines = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(lines, metadata={"tags": ["injected-parameters"]}))
    NotebookClient(
        notebook, timeout=250, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    ).execute()
    del notebook.cells[place + 1]
    return notebook


def texts(notebook: Any) -> list[list[str]]:
    """What each code cell shows, as text."""
    return [
        [output["text"] if "text" in output else output["data"]["text/plain"] for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def pictures(notebook: Any) -> int:
    return sum("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_of_one_run_from_top_to_bottom_and_tell_nothing_of_a_machine_but_its_name(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert all("execution" not in cell.metadata for cell in code)
    for shown in texts(notebook):
        for text in shown:
            assert not re.search(r"(^|[\s'\"=])/\w+/", text), "a path of the machine that ran it"
    assert all(output["output_type"] != "error" for cell in code for output in cell.outputs)
    assert pictures(notebook) >= 2


def test_exploring_the_reference_shows_what_is_shown(tmp_path: Path) -> None:
    """And any view that analysis/sql/README.md describes may be asked for, those too that no cell has named."""
    notebook = read("explore-results.ipynb")
    requested = (
        "[sql(f'SELECT count(*) FROM {view}').fetchall()[0][0] for view in ('worker_spread', 'explained', 'samples')]"
    )
    notebook.cells.append(nbformat.v4.new_code_cell(requested))
    again = run(notebook)
    workers, explained, samples = json.loads("".join(texts(again).pop()))
    assert (workers, explained) == (0, 0) and samples > 1000, "one worker a cell, and no traces"
    del again.cells[-1]
    assert texts(again) == texts(read("explore-results.ipynb")), "run it again and commit it"
    assert pictures(again) == 3


def test_exploring_a_run_of_ones_own_which_has_no_power(tmp_path: Path) -> None:
    sealed = min((ROOT / "data/reference/h200").glob("*_gpu0.tar.xz"))
    own = unpacked(sealed, tmp_path / "cache")
    folder = tmp_path / "mine"
    folder.mkdir()
    for path in [path for path in own.rglob("*") if path.is_file() and not path.name.startswith("power")]:
        target = folder / path.relative_to(own)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    again = run(read("explore-results.ipynb"), RUNS=str(folder))
    assert ["no power was read in these runs\n"] in texts(again)


@pytest.mark.framework
def test_benchmarking_one_framework(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not environments.is_ready("onnxrt", "cpu"):
        pytest.skip("no .envs/onnxrt-cpu: ./invoke test makes it")
    model = tmp_path / "tiny.onnx"
    code = "import sys, onnx, tiny_onnx; onnx.save(tiny_onnx.classifier(), sys.argv[1])"
    python = environments.interpreter("onnxrt", "cpu")
    subprocess.run([python, "-c", code, model], cwd=ROOT / "tests/common/export", check=True)
    monkeypatch.setenv("FRAMEWATT_DATA", str(tmp_path / "data"))
    notebook = read("benchmark-one-framework.ipynb")
    notebook.cells.append(nbformat.v4.new_code_cell("sql('SELECT DISTINCT workers FROM worker_spread').fetchall()"))
    done = run(notebook, MODEL=str(model), BATCH_SIZES="1,8", REPLICATES=2, SECONDS=0.3)
    (folder,) = (tmp_path / "data" / "results").iterdir()
    assert len(list(folder.glob("cells/*/cell.csv"))) == 2 * 2 * 2
    shown = ["".join(one) for one in texts(done)]
    assert sum("[8/8]" in text for text in shown) == 1
    assert any(re.search(r"onnxrt +│ notebook │ +8 │ ok", text) for text in shown)
    assert any("Notebook against script" in text and "tiny" in text for text in shown)
    assert shown[-1] == "[(2,)]"
    assert pictures(done) == 2
