"""Pages that are made of reference runs, from runs whose figures are known."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from analysis.comparisons.findings import Findings
from analysis.comparisons.ratios import Said, place_of
from analysis.database.connection import Row
from analysis.database.open_runs import open_runs
from analysis.output import reference_docs, reference_page, reference_recipes, reference_runs
from common.host.runs.archive import seal
from tests.analysis.comparisons.test_findings import measured, metered
from tests.analysis.conftest import RunBuilder


def run_in(folder: Path, name: str, model: str = "MobileNetV3L", **changes: Any) -> RunBuilder:
    run = RunBuilder(folder / name, device="gpu0", device_name="NVIDIA H200", uuid="GPU-1")
    gpu = {"device": "gpu0", "uuid": "GPU-1", "name": "NVIDIA H200", "driver": "580.1", "cuda": "13.0", "processes": []}
    return run.run_json(devices=[gpu], **changes)


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """One run a level: torch is twice as fast tuned, Keras loses, onnxrt gains nothing; of the transformer onnxrt is ahead."""
    folder = tmp_path / "reference" / "h200-new"
    plan = {"plan_file": {"name": "reference", "round": 1, "sweep": 1}}
    took = {"torch": (4.0, 2.0), "onnxrt": (3.0, 3.0), "keras": (5.0, 6.0)}
    for level, name in enumerate(("stock", "tuned")):
        run = run_in(folder, f"2026010{level + 1}-000000_gpu0", **plan)
        for variant, times in took.items():
            for size in (1, 32):
                measured(run, variant, times[level], size, model="MobileNetV3L", tuning=name)
        if name == "tuned":
            measured(run, "torch", 1.5, 32, model="MobileNetV3L", input="uint8")
            measured(run, "torch", 5.0, 32, model="ViT-B16")
            measured(run, "onnxrt", 4.0, 32, model="ViT-B16")
            run.cell("jax", 32, (), model="MobileNetV3L", status="oom", message="out of memory")
        seal(run.folder)
    return folder.parent


def test_the_results_say_what_was_gained_lost_and_not_measured(reference: Path, tmp_path: Path) -> None:
    results, _, worth = reference_docs.parts(tmp_path / "cache", reference)
    for pattern in (
        r"MobileNetV3L, batch 32: PyTorch fp32 tuned, 16,\d+ \[.*\] images/s, 1\.50\d \[.*\] times ONNX Runtime .*: FASTER( ‡)? \[",
        r"tuned is FASTER in 2, SLOWER in 2, SAME in 2 of 6 pairs; most in PyTorch fp32 at batch \d+, 2\.00\d \[.*\] times ‡ \[",
        r"Lost \(SLOWER\), MobileNetV3L, .*: Keras fp32 batch \d+ 0\.83\d \[",
        r"Gained nothing \(SAME\), MobileNetV3L, .*: ONNX Runtime fp32 batch \d+ (1\.00|0\.99)\d \[",
        r"uint8 is FASTER in 1 of 1 pair; most in PyTorch fp32 at batch 32, 1\.33\d \[",
        r"Without a pair of float32 and uint8, Mobile.*PyTorch fp32 batch 1 \(uint8 not measured\)",
        r"Another framework is fastest, .* in 1: fp32 batch 32, MobileNetV3L and ViT-B16 \(PyTorch, ONNX Runtime\)",
        r"No cell has a pair of tuned and rewritten\.\n- No pair of tuned and rewritten, MobileNetV3L, .*PyTorch",
        r"No cell has a pair of single-stream and offline",
        r"Not measured: no two rows of one model, precision and batch size have an energy",
        r"1 cell is oom: Keras on JAX fp32",
        r"Plan `reference`: Of the plan's 2,448 cells, 3 workers each, \d+ are whole, 1 with some.*; 2,4\d\d are missing",
        r"driver 580\.1",
        r"level that these runs have, with float32 input and one inference at a time \(bytes in and offline have sections",
    ):
        assert re.search(pattern, results), pattern
    assert re.search(r"\| MobileNetV3L \| PyTorch fp32 \| \d+.* to \d+.*: \*\*2\.00\*\* \[\d", worth)


def test_the_cells_of_a_plan_are_counted_in_runs_that_were_started_without_it(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page said that these belong to no plan, and the README beside them of which one they are cells."""
    assert all((reference_runs.REFERENCE / name).is_dir() for name in reference_runs.PLANS)
    run = run_in(reference / "h200-by-hand", "20260105-000000_gpu0")
    measured(run, "tf", 1.0, 32, model="MobileNetV3L")
    seal(run.folder)
    results, _, _ = reference_docs.parts(tmp_path / "cache", reference)
    assert "The runs of h200-by-hand belong to no plan" in results
    monkeypatch.setattr(reference_runs, "PLANS", {"h200-by-hand": "reference"})
    results, _, _ = reference_docs.parts(tmp_path / "cache", reference)
    assert "belong to no plan" not in results
    assert re.search(
        r"Of the plan's 2,448 cells, 3 workers each, 1 are whole; 2,447 are missing.*h200-by-hand", results
    )


def test_tactics_are_named_where_not_all_were_allowed(reference: Path, tmp_path: Path) -> None:
    run = run_in(reference / "h200-tactics", "20260105-000000_gpu0")
    for size, tactics in ((1, "TensorRT's default"), (8, "EDGE_MASK_CONVOLUTIONS")):
        settings = json.dumps({"tactic_sources": tactics})
        measured(run, "tensorrt", 1.0, size, model="MobileNetV3L", framework_version="8.6.0", settings=settings)
    seal(run.folder)
    (line,) = re.findall(r"Versions: .*", reference_docs.parts(tmp_path / "cache", reference)[0])
    assert "TensorRT 8.6.0 (its own tactics)" in line
    assert "TensorRT 8.6.0 (tactics of EDGE_MASK_CONVOLUTIONS alone)" in line.replace("\\", "")


def test_every_cell_that_is_cited_is_in_the_list(reference: Path, tmp_path: Path) -> None:
    results, cells, _ = reference_docs.parts(tmp_path / "cache", reference)
    cited = {
        int(number)
        for found in re.findall(r"\[([\d, ]+)\](?!\()", _without_intervals(results))
        for number in found.split(",")
    }
    listed = [int(line.split("|")[1]) for line in cells.splitlines() if re.match(r"\| \d", line)]
    assert listed == list(range(1, len(listed) + 1))
    assert cited == set(listed)
    assert "h200-new/20260102-000000\\_gpu0" in cells or "h200-new/20260102-000000_gpu0" in cells
    assert "MobileNetV3L_torch_fp32_b0032_host_single-stream_script_gpu0_r0, r1, r2" in cells


def _without_intervals(text: str) -> str:
    """An interval stands behind the figure that it is of."""
    return re.sub(r"(?<=\d) \[[^\]]*\](?= (?:times|images/s|×|FASTER|SLOWER|SAME|UNCLEAR|\[))", "", text)


def test_the_page_of_the_folder_names_machine_runs_failures_and_what_is_missing(
    reference: Path, tmp_path: Path
) -> None:
    (folder,) = reference_runs.folders(tmp_path / "cache", reference)
    assert folder.generated
    page = reference_page.write(folder, tmp_path / "cache")
    text = page.read_text()
    for words in (
        "# Reference runs on NVIDIA H200", "driver 580.1 (CUDA 13.0)", "2026-01-02", "oom, 1 cell:",
        "out of memory", "Plan `reference`. Of the plan's 2,448 cells", "MobileNetV3L rewritten: onnxrt, torch;",
        "| torch | fp32 | tuned |",
    ):  # fmt: skip
        assert words in text, words
    assert reference_runs.is_generated(folder.path)
    page.write_text(f"# Ours\n\n{text}")
    assert reference_page.updated(folder, tmp_path / "cache") == page.read_text(), "what people wrote stays"
    page.write_text("# Ours\n")
    assert not reference_runs.is_generated(folder.path)


def other_run(folder: Path, name: str, uuid: str = "GPU-8", device_name: str = "NVIDIA H200") -> RunBuilder:
    return RunBuilder(folder / name, device="gpu0", device_name=device_name, uuid=uuid).run_json()


def test_an_older_folder_counts_for_what_no_other_folder_has_measured(reference: Path, tmp_path: Path) -> None:
    same = other_run(reference / "old", "20270101-000000_gpu0")
    measured(same, "tf", 1.0, 32, model="MobileNetV3L")
    measured(same, "torch", 9.0, 32, model="MobileNetV3L")  # newer, but the other folder has it
    measured(same, "jax", 9.0, 32, model="MobileNetV3L")  # failed in the other folder: that is what it says
    measured(same, "onnxrt", 9.0, 32, model="MobileNetV3L", tuning="rewritten")
    other = other_run(reference / "old", "20250102-000000_gpu0", "GPU-9", "NVIDIA A2")
    measured(other, "tf", 9.0, 32, model="MobileNetV3L")
    seal(other.folder)  # the other run lies there as a folder, and is read as well
    (reference / "old" / "README.md").write_text("# By hand\n")
    cache = tmp_path / "cache"
    with reference_runs.opened(reference_runs.folders(cache, reference), cache) as (_, devices):
        names = {device.name: [one.name for one in device.folders] for device in devices}
        (h200,) = (device for device in devices if device.name == "NVIDIA H200")
        older = {(row["variant"], row["tuning"]) for row in h200.rows if h200.home[row["run"]].name == "old"}
        (jax,) = (row for row in h200.rows if row["variant"] == "jax")
    assert names == {"NVIDIA H200": ["h200-new", "old"], "NVIDIA A2": ["old"]}
    assert older == {("tf", "tuned"), ("onnxrt", "rewritten")}
    assert jax["status"] == "oom" and len(h200.others) == 2
    results, _, worth = reference_docs.parts(cache, reference)
    assert re.search(r"MobileNetV3L, batch 32: TensorFlow fp32 tuned, 32,\d+ .* times PyTorch fp32 tuned † \[", results)
    assert re.search(r"\| tuned fp32 \| .* \| TensorFlow 2\.00\d × PyTorch † \[", results), (
        "two GPUs: no verdict, no interval"
    )
    assert re.search(r"ONNX Runtime fp32 batch 32 \(tuned on another GPU\)", results)
    alone = re.search(r"have an interval: .*; (\d+) are ratios alone \((\d+) are between two GPUs, †\)", results)
    assert alone is not None and alone[1] == alone[2], (
        "what has no interval is what is of two GPUs: all else has three workers"
    )
    assert "rewritten |" not in worth.splitlines()[2], "a step across two GPUs is none"
    assert re.search(r"\| Keras .*: \*\*0\.83\*\* \[[\d., ]+\] ‡ \|", worth)
    assert "‡: of two runs" in worth and "old/README.md" not in worth
    assert results.count("The runs of old belong to no plan, so that nothing of them can be called missing.") == 1, (
        "it has runs of two devices"
    )


def test_folders_that_no_page_uses_are_named_with_the_reason(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference_runs, "NOT_USED", {"both": "two at once"})
    measured(other_run(reference / "both", "20270101-000000_gpu0", "GPU-1"), "torch", 1.0, 32, model="MobileNetV3L")
    cache = tmp_path / "cache"
    assert [folder.name for folder in reference_runs.folders(cache, reference)] == ["h200-new"]
    results, cells, _ = reference_docs.parts(cache, reference)
    assert "- Not used: [both](../data/reference/both/README.md) (two at once)." in results
    assert "20270101" not in cells


def test_one_worker_a_side_says_once_that_there_is_no_verdict(tmp_path: Path) -> None:
    run = other_run(tmp_path / "reference" / "old", "20270101-000000_gpu0")
    for tuning, ms in (("stock", 4.0), ("tuned", 2.0)):
        measured(run, "torch", ms, 32, workers=1, model="MobileNetV3L", tuning=tuning)
    run.cell("tf", 32, [10**6] * 60, model="MobileNetV3L", settings="{}", framework_version="1.0")
    results, _, worth = reference_docs.parts(tmp_path / "cache", tmp_path / "reference")
    below = results.partition("## NVIDIA H200")[2]
    assert "None of the 1 comparison has an interval, so that there is no verdict: ratios alone." in below
    assert "UNCLEAR" not in below.replace("~ is UNCLEAR", "")
    assert "tuned is without a verdict in 1 of 1 pair; most in PyTorch fp32 at batch 32, 2.00" in below
    assert "no other framework has a figure that counts (left out, k: TensorFlow)" in below
    assert re.search(r"\| tuned fp32 \| PyTorch alone \[\d+\], 1 left out \(k\) \|", below)
    assert "Left out: 1 cell of TensorFlow: input copied once" in below
    (line,) = (line for line in worth.splitlines() if "PyTorch" in line)
    assert "**" not in line and "one worker at a level: without an interval" in worth
    assert line.count("|") == 4, "columns of batch sizes that nobody measured are left out"


def test_only_pairs_that_a_page_prints_are_judged(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each further pair would make the intervals of all verdicts wider (Holm's method)."""
    printed, judged = set(), set()
    find = Findings.of

    def of(self: Findings, b: Row, a: Row) -> Said:
        printed.add(frozenset((place_of(b), place_of(a))))
        judged.update(map(frozenset, self.said))
        return find(self, b, a)

    monkeypatch.setattr(Findings, "of", of)
    results, _, _ = reference_docs.parts(tmp_path / "cache", reference)
    assert printed == judged and len(judged) > 10
    assert f"Of {len(judged)} comparisons {len(judged)} have an interval: " in results


def test_where_joules_disagree_with_speed_is_said_with_both_conditions(tmp_path: Path) -> None:
    """At batch 8 torch is the slower and the more economical one; at batch 32 onnxrt is both. torch takes least at batch 8."""

    def build(name: str, **fields: Any) -> RunBuilder:
        return other_run(tmp_path / "reference" / "old", "20270101-000000_gpu0", "GPU-1")

    cells = [("onnxrt", 8, 0.4, 400.0), ("torch", 8, 0.6, 200.0), ("onnxrt", 32, 1.0, 200.0), ("torch", 32, 2.0, 500.0)]
    metered(build, cells)
    results, _, _ = reference_docs.parts(tmp_path / "cache", tmp_path / "reference")
    section = results.partition("### Where joules disagree")[2].partition("### What is missing")[0]
    head, differs, batches = (line for line in section.splitlines() if line.startswith("- "))
    assert "Surely another row in 1 of 2 places, surely the same in 1, undecided in 0." in head
    assert "one row is both in 1 of 2 places" in head
    assert re.match(
        r"- ResNet50, fp32, 8: PyTorch fp32 tuned takes 15,0\d\d mJ, 25.0 % less than ONNX Runtime fp32 tuned, "
        r"at 0\.66\d \[.*\] times its speed SLOWER \[",
        differs,
    )
    assert re.match(
        r"- 1 of 2 rows take surely fewer joules .*: ResNet50 PyTorch fp32 tuned at 8, 5\d\.\d % less than at 32 \[",
        batches,
    )
    assert "| ResNet50 | fp32 | PyTorch fp32 tuned takes" in section


def test_where_no_energies_can_be_held_against_each_other_that_is_a_plain_sentence(tmp_path: Path) -> None:
    def build(name: str, **fields: Any) -> RunBuilder:
        return other_run(tmp_path / "reference" / "old", "20270101-000000_gpu0", "GPU-1")

    metered(build, [("onnxrt", 8, 0.4, 400.0), ("torch", 8, 0.6, 200.0)], workers=1)
    results, _, _ = reference_docs.parts(tmp_path / "cache", tmp_path / "reference")
    sentence = (
        "- One worker each: no place has intervals over workers on one GPU for all energies to compare, so nothing is decided. By the "
        "figures alone one row is both in 0 of 1 places."
    )
    assert sentence in results.splitlines()


def test_the_table_of_worth_is_of_the_device_with_most_intervals(tmp_path: Path) -> None:
    """The first has more pairs, the second has several workers."""
    names = {"NVIDIA A2": ("GPU-1", 1, (8, 16, 32)), "NVIDIA H200": ("GPU-2", 3, (8, 32))}
    for number, (name, (uuid, workers, sizes)) in enumerate(names.items()):
        run = other_run(tmp_path / "reference" / "old", f"2027010{number + 1}-000000_gpu0", uuid, name)
        for size in sizes:
            measured(run, "torch", 4.0, size, workers, tuning="stock")
            measured(run, "torch", 2.0, size, workers)
    _, _, worth = reference_docs.parts(tmp_path / "cache", tmp_path / "reference")
    assert "is worth on NVIDIA H200" in worth and "NVIDIA A2" not in worth


def test_the_table_of_worth_folds_the_slower_frameworks_and_says_where_tuning_loses(tmp_path: Path) -> None:
    run = other_run(tmp_path / "reference" / "old", "20270101-000000_gpu0", "GPU-1")
    tuned = {"tensorrt": 1.0, "torchcompile": 2.0, "torch": 3.0, "onnxrt": 4.0, "keras": 5.0, "tf": 6.0}
    for variant, ms in tuned.items():
        measured(run, variant, ms + (0.5 if variant != "keras" else -0.5), 32, 3, model="MobileNetV3L", tuning="stock")
        measured(run, variant, ms, 32, 3, model="MobileNetV3L")
    _, _, worth = reference_docs.parts(tmp_path / "cache", tmp_path / "reference")
    shown, folded = worth.split("<details><summary>The other frameworks (3 rows)</summary>\n")
    assert [line.split(" | ")[1] for line in shown.splitlines() if line.startswith("| MobileNetV3L")] == [
        "TensorRT fp32", "torch.compile fp32", "PyTorch fp32",
    ]  # fmt: skip
    assert re.findall(r"^\| MobileNetV3L \| ([\w ]+) fp32", folded, re.MULTILINE) == [
        "ONNX Runtime",
        "Keras",
        "TensorFlow",
    ]
    assert folded.endswith("\n\n</details>") and folded.startswith("\n| model | framework |")
    assert "A ratio below 1: the level was slower" in shown, "Keras"


def test_the_table_of_worth_has_the_ratios_of_the_page_of_results_which_are_those_of_the_figures(
    tmp_path: Path,
) -> None:
    """Once it had another estimator: `176.0 to 1,514: 8.80`, where the page, rightly, had 8.60."""
    run = other_run(tmp_path / "reference" / "old", "20270101-000000_gpu0", "GPU-1")
    for tuning, ms in (("stock", 4.0), ("tuned", 2.0)):
        for worker in range(3):
            # so unlike that the quotient of means over workers is another than that of geometric means
            factor = 1 + worker * worker * (tuning == "stock")
            slower = [int(ms * 10**6 * factor) + i % 7 * 100 for i in range(60)]
            run.cell("torch", 1, slower, model="MobileNetV3L", tuning=tuning, replicate=worker)
    results, _, worth = reference_docs.parts(tmp_path / "cache", tmp_path / "reference")
    (line,) = (line for line in worth.splitlines() if "PyTorch" in line)
    figures = re.search(r"([\d.,]+)[ a-z]* to ([\d.,]+)[ a-z]*: ([\d.]+) \[([\d.]+), ([\d.]+)\]", line)
    assert figures is not None
    lower, upper, ratio, low, high = (float(one.replace(",", "")) for one in figures.groups())
    assert ratio == pytest.approx(upper / lower, abs=0.006) and ratio == pytest.approx(3.53, abs=0.02)
    step = results[results.index("### What tuning is worth") :]
    told = re.search(r"\| PyTorch \|[^|]*\| ([\d.]+) \[([\d.]+), ([\d.]+)\] UNCLEAR", step)
    assert told is not None
    assert (ratio, low, high) == pytest.approx([float(one) for one in told.groups()], abs=0.006)
    with open_runs([run.folder]) as database:
        (seen,) = database.query("FROM worth")
    assert seen["worth"] == pytest.approx(upper / lower, abs=0.006), "and the footers of tables"


def test_the_table_of_worth_has_in_bold_what_is_sure_and_tells_of_how_many_workers_a_figure_is(tmp_path: Path) -> None:
    """A ratio that the page of results calls UNCLEAR was bold, and figures of two workers passed for three."""
    run = other_run(tmp_path / "reference" / "old", "20270101-000000_gpu0", "GPU-1")
    for variant, stock, workers in (("torch", 4.0, 3), ("keras", 2.002, 3), ("tf", 4.0, 2), ("onnxrt", 1.0, 3)):
        measured(run, variant, stock, 1, workers, model="MobileNetV3L", tuning="stock")
        measured(run, variant, 2.0, 1, 3, model="MobileNetV3L")
    results, _, worth = reference_docs.parts(tmp_path / "cache", tmp_path / "reference")
    found = dict(re.findall(r"^\| MobileNetV3L \| ([\w ]+) fp32 \| (.*?) \|", worth, re.MULTILINE))
    assert re.fullmatch(r"250\.\d to 500\.\d: \*\*2\.00\*\* \[.*\]", found["PyTorch"])
    assert re.fullmatch(r"499\.\d to 500\.\d: 1\.00 \[.*\]", found["Keras"]), "SAME"
    assert re.fullmatch(r"250\.\d 2w to 500\.\d: \*\*2\.00\*\* \[.*\]", found["TensorFlow"])
    assert re.fullmatch(r"(999\.\d|1,00\d) to 500\.\d: \*\*0\.50\*\* \[.*\]", found["ONNX Runtime"])
    for name, verdict in (("PyTorch", "FASTER"), ("Keras", "SAME"), ("ONNX Runtime", "SLOWER")):
        assert re.search(rf"\| {name} \| fp32 \| [\d.]+ \[[^|]*\] {verdict} ", results), name
    assert "(with its 95 % interval over workers; bold: FASTER or SLOWER in docs/results.md)" in worth
    assert "; 2w: of 2 workers, not 3. " in worth and "3w" not in worth
    assert "Both sides of a ratio are of one run, so that a figure may be another than in docs/results.md" in worth


MODEL = {
    "name": "MobileNetV3L", "hash": "0123456789ab", "onnx": "model.onnx", "keras": None, "saved_model": None,
    "reference": "reference.npz", "input_shape": [224, 224, 3], "layout": "NHWC", "onnx_input": "a", "onnx_output": "b",
    "output_kind": "raw", "classes": 9, "weights": "seeded", "weights_note": "",
}  # fmt: skip


def test_where_recipes_and_the_table_of_worth_choose_another_run_both_say_by_which_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two pages once had two figures of one cell, and neither said why."""
    settings, folder = '{"model": "as exported"}', tmp_path / "reference" / "h200-new"
    for name, levels, workers in (
        ("20260101-000000_gpu0", ("stock", "tuned"), 1),
        ("20260102-000000_gpu0", ("tuned",), 3),
    ):
        run = run_in(folder, name)
        run.run_json(model=MODEL, devices=json.loads((run.folder / "run.json").read_text())["devices"])
        for tuning in levels:
            ms = {"stock": 64.0, "tuned": 32.0}[tuning] / workers
            measured(run, "onnxrt", ms, 32, workers, model="MobileNetV3L", tuning=tuning, settings=settings)
        seal(run.folder)
    _, _, worth = reference_docs.parts(tmp_path / "cache", folder.parent)
    found = reference_runs.folders(tmp_path / "cache", folder.parent)
    monkeypatch.setattr(reference_runs, "folders", lambda cache: found)
    pages = reference_recipes.pages(tmp_path / "cache")
    (line,) = (line for line in pages[Path("README.md")].splitlines() if "| tuned |" in line)
    assert re.search(r"\| 500\.\d 1w to 1,00\d 1w: \*\*2\.00\*\* ", worth), "of one run"
    assert re.search(r"\| (2,99\d|3,0\d\d) \| 3 \|.*\| 20260102-000000_gpu0 \|", line), "of several workers"
    head = " ".join(pages[Path("README.md")].split())
    assert "Of a cell that several runs measured, the figure is that of the newest run with several workers" in head
    assert "takes the row that makes the better pair" in head


def test_conditions_that_no_run_tells_stand_beside_the_folder(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference_runs, "CONDITIONS", {"h200-new": "in a heat wave", "elsewhere": "at night"})
    _, _, worth = reference_docs.parts(tmp_path / "cache", reference)
    assert "[h200-new](data/reference/h200-new/README.md) (in a heat wave)" in worth and "at night" not in worth
